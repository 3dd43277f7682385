"""Bringing a utility's data to the state that somebody describes: who, where, and what is permitted.

Read ``plan.py`` first: what is wanted and what is there make a list of changes, in words (pure).
``grants.py`` builds and signs permissions; ``carrying.py`` reads what is there and carries changes out.
"""
