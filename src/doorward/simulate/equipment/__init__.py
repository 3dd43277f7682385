"""Simulated equipment: devices in homes, in a process of their own, reached through real protocols only.

Read ``neighbourhood.py`` first: it starts what a configuration describes. ``appliances.py`` is what the
devices do, over ``physics.py``; ``registers.py`` and ``modbus_server.py`` show them by Modbus TCP,
``charger.py`` and ``ocpp_client.py`` by OCPP. ``actuation.py`` is each device's own record of its acts.

    python -m doorward.simulate.equipment --config FILE
"""

from doorward.simulate.equipment.neighbourhood import Configuration, DeviceConfiguration, Neighbourhood

__all__ = ["Configuration", "DeviceConfiguration", "Neighbourhood"]
