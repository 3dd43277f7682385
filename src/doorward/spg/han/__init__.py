"""Adapters to home protocols, one file a protocol, behind :class:`doorward.spg.ports.HanAdapter`.

``modbus.py`` speaks Modbus TCP; what it knows of a product is a file in ``models/``, read by
``device_model.py`` (the schema and its rules) and carried out by ``recipe.py`` (values to writes and
expectations, pure). ``ocpp.py`` is the central system of EV chargers (``ocpp_session.py``: 1.6-J and 2.0.1).
"""
