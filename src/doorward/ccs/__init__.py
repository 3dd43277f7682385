"""The Customer Communication System: the utility's server.

Read :mod:`doorward.ccs.journey` first: the way of a message, steps in the order in which they happen.
"""
