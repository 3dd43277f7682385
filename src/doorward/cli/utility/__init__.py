"""A utility's file: what ``doorward apply`` reads. ``reading.py`` is where it begins."""
