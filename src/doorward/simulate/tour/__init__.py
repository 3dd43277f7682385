"""The tour: scenarios 1 and 2 from outside, on a fresh utility, and what is refused. Read run.py first.

A step counts only if it was *read* somewhere: in the CCS's journal, in the gateway's own log, in the file of
what the device really did, or in what reached the third party. ``evidence`` reads, the scenarios only ask.
"""
