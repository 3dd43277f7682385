"""A sample energy manager: a third party that keeps homes below a power it agreed with its customers.

It does what the use case's third party does: finds out what is running (S1.01b), decides, sends a control
to one device, and says what came of it. It speaks to the CCS by its SDK only.

``python -m doorward.simulate.energy_manager --ccs URL --client-id ID --secret-file F [--command-key F] [--ca F]``
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from doorward.client import AsyncClient, DoorwardError

PAUSE_S_DEFAULT = 15.0
HOLD = timedelta(minutes=10)
LEAST_W = 1400.0
"""What a charger is left with: 6 A at 230 V, below which a car does not charge at all."""

Say = Callable[[str, dict[str, Any]], None]


class EnergyManager:
    """Watches the homes that it has permission for, one after the other."""

    def __init__(self, client: AsyncClient, target_w: float, pause_s: float, say: Say) -> None:
        self._client = client
        self._target_w = target_w
        self._pause_s = pause_s
        self._say = say

    async def run(self) -> None:
        """Look after homes until cancelled; trouble with one home is said and never ends the round."""
        while True:
            homes = await self._homes()
            for service_point in homes:
                try:
                    await self._look_after(service_point)
                except DoorwardError as error:
                    self._say("trouble", {"service_point": service_point, "why": str(error)})
                await asyncio.sleep(self._pause_s)
            if not homes:
                await asyncio.sleep(self._pause_s)

    async def _homes(self) -> list[str]:
        try:
            return sorted({device.service_point for device in await self._client.devices()})
        except DoorwardError as error:
            self._say("trouble", {"why": str(error)})
            return []

    async def _look_after(self, service_point: str) -> None:
        """S2.01: what is running, and how much does each draw? S2.02: decide. S2.03: act."""
        answer = await self._client.read_home(service_point)
        readings = readings_of(answer.result or {})
        total_w = sum(watts for _, watts in readings)
        self._say("read", {"service_point": service_point, "watts": round(total_w), "request": answer.id})
        if total_w > self._target_w:
            await self._turn_down(service_point, readings, total_w - self._target_w)

    async def _turn_down(self, service_point: str, readings: list[tuple[str, float]], over_w: float) -> None:
        """Limit the device that draws most, among those that may be limited."""
        may_limit = {
            device.id: device
            for device in await self._client.devices()
            if device.service_point == service_point and "limit" in device.operations
        }
        drawing = [(watts, device) for device, watts in readings if device in may_limit and watts > LEAST_W]
        if not drawing:
            return
        watts, device = max(drawing)
        bound = may_limit[device].bounds.get("watts_min") or 0.0
        target_w = round(max(LEAST_W, bound, watts - over_w))
        answer = await self._client.limit(device, watts=target_w, until=HOLD, cause="grid")
        self._say(
            "limited",
            {
                "device": device,
                "from_w": round(watts),
                "to_w": target_w,
                "state": answer.state,
                "request": answer.id,
            },
        )


def readings_of(result: dict[str, Any]) -> list[tuple[str, float]]:
    """Return (device, W) of the devices of a home that answered."""
    found = []
    for entry in result.get("readings", []):
        if isinstance(entry.get("power_w"), (int, float)):
            found.append((str(entry.get("device", "")), float(entry["power_w"])))
    return found


def say_as_json(what: str, about: dict[str, Any]) -> None:
    """Print one line of what the energy manager does."""
    sys.stdout.write(json.dumps({"what": what, **about}) + "\n")
    sys.stdout.flush()


async def main(arguments: argparse.Namespace, secret: str) -> None:
    """Run until cancelled."""
    key = json.loads(arguments.command_key.read_text()) if arguments.command_key else None
    async with AsyncClient(
        arguments.ccs,
        client_id=arguments.client_id,
        client_secret=secret,
        ca=arguments.ca,
        command_key=key,
    ) as client:
        await EnergyManager(client, arguments.target_w, arguments.pause_s, say_as_json).run()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m doorward.simulate.energy_manager", description=__doc__)
    parser.add_argument("--ccs", required=True, help="URL of the CCS")
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--secret-file", required=True, help="file with the client secret")
    parser.add_argument(
        "--command-key", type=Path, default=None, help="file with the key (JWK) that signs its controls"
    )
    parser.add_argument("--ca", default=None, help="PEM of the authority that signed the CCS's certificate")
    parser.add_argument("--target-w", type=float, default=4000.0, help="power to keep a home below, W")
    parser.add_argument("--pause-s", type=float, default=PAUSE_S_DEFAULT, help="pause between homes, s")
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        given = parse()
        asyncio.run(main(given, Path(given.secret_file).read_text().strip()))
