"""Doorward: third parties reach equipment in homes through the utility, with the customer's permission.

Start reading at :mod:`doorward.ccs.journey`, the way of a message, and ``docs/ARCHITECTURE.md``.
"""

__version__ = "0.1.0"
