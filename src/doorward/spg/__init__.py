"""The Service Point Gateway: the one door between the utility's network and the home.

Read :mod:`doorward.spg.journey` first.
"""
