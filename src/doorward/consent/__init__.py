"""The consent authority: a small process apart from the CCS, with a key, a register and an outbox of its own.

Read ``desk.py`` first: what it is asked, and on what evidence it says yes. ``rules.py`` decides (pure),
``register.py`` remembers, ``outbox.py`` reaches the customer past the CCS, ``door.py`` is how it is reached.
"""
