"""The door for the utility's other systems: ``app.py`` has its routes, ``stream.py`` its live feed."""
