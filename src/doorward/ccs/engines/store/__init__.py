"""All SQL of the CCS, once, over a small executor per database. Read ``books.py`` first.

A file per part of the way: facts, accept, dispatch, back, time, workers, reading, catalogue, access,
registry. The executors are in ``sqlite.py`` and ``postgresql.py`` beside this package; ``opening.py``
there chooses between them.
"""
