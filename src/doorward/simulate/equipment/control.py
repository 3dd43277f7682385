"""People at the devices, over HTTP on loopback: for the demo and for tests from outside.

``GET /devices`` lists them; ``POST /devices/{name}/{action}`` does one of
:data:`~doorward.simulate.equipment.appliances.ACTIONS` (a charger also knows ``plug`` and ``unplug``).
"""

from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from doorward.simulate.equipment.appliances import Appliance

BODY_BYTES_MAX = 1024


class Meddled(Protocol):
    """What the control meddles with."""

    devices: dict[str, Appliance]
    addresses: dict[str, str]


class Control:
    """The HTTP server; loopback only, no authentication, so never part of anything but a simulation."""

    def __init__(self, neighbourhood: Meddled) -> None:
        self._world = neighbourhood
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> str:
        """Listen on loopback (0: a free port) and return the URL."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.add_routes([web.get("/devices", self._list), web.post("/devices/{name}/{action}", self._do)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close; idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({name: self._state(name) for name in self._world.devices})

    async def _do(self, request: web.Request) -> web.Response:
        name, action = request.match_info["name"], request.match_info["action"]
        if name not in self._world.devices:
            return web.json_response({"error": f"there is no device '{name}'"}, status=404)
        try:
            self._world.devices[name].resident(action)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self._state(name))

    def _state(self, name: str) -> Mapping[str, object]:
        device = self._world.devices[name]
        return {
            "class": device.device_class.value,
            "address": self._world.addresses.get(name, ""),
            "power_w": device.power_w,
            "energy_wh": device.energy_wh,
            "moods": sorted(device.moods),
        }
