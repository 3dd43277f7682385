"""The town of the CCS's own tests, whose record is audited here."""

from tests.ccs.conftest import town

__all__ = ["town"]
