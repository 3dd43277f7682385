"""A small street on real protocols: simulated devices on loopback, and adapters that speak to them."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from doorward.kit.clock import SlewingClock
from doorward.simulate.equipment import Configuration, DeviceConfiguration, Neighbourhood
from doorward.spg.ports import DeviceNotice
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.vocabulary import DeviceClass

PATIENCE_S = 5.0


def real_clock() -> SlewingClock:
    return SlewingClock(time.time, time.monotonic)


class Street:
    """Builds neighbourhoods in a folder and reads the devices' own files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Neighbourhood] = []

    def device(self, kind: DeviceClass, **how: object) -> DeviceConfiguration:
        name = str(how.pop("name", kind.value))
        return DeviceConfiguration(
            **{  # type: ignore[arg-type]
                "name": name,
                "device_class": kind,
                "protocol": "modbus",
                "actuation_file": str(self.folder / f"{name}.jsonl"),
                "serial": f"SN-{name}"[:16],
                **how,
            }
        )

    async def start(self, *devices: DeviceConfiguration, **how: object) -> Neighbourhood:
        world = Neighbourhood(Configuration(devices=list(devices), **how), real_clock())  # type: ignore[arg-type]
        await world.start()
        self.running.append(world)
        return world

    def acts(self, name: str) -> list[dict[str, object]]:
        """What the device itself wrote down."""
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


class Heard:
    """Notices, as the gateway would get them."""

    def __init__(self) -> None:
        self.notices: list[DeviceNotice] = []
        self.stumbles = 0

    async def __call__(self, notice: DeviceNotice) -> None:
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("the store is busy")
        self.notices.append(notice)

    def kinds(self, device: str) -> list[str]:
        return [notice.kind for notice in self.notices if notice.device == device]


async def eventually(true: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something is so; fail when it is not within the patience."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


def provisioned(world: Neighbourhood, device: DeviceConfiguration) -> ProvisionedDevice:
    kind = device.device_class
    return ProvisionedDevice(
        id=device.name,
        service_point="sp-1",
        device_class=kind,
        protocol=device.protocol.rstrip(".01236") if device.protocol.startswith("ocpp") else "modbus",
        model=f"sim-{kind.value.replace('_', '-')}",
        address=world.addresses[device.name],
        serial=device.serial,
    )
