"""Starts simulated equipment by a configuration, lets its time pass, and lets people meddle with it."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from doorward.kit.clock import US, Clock
from doorward.simulate.equipment.actuation import ActuationFile
from doorward.simulate.equipment.appliances import (
    Appliance,
    HeatPump,
    Meter,
    PoolPump,
    Relay,
    Thermostat,
    WaterHeater,
)
from doorward.simulate.equipment.charger import EvCharger
from doorward.simulate.equipment.control import Control
from doorward.simulate.equipment.modbus_server import ModbusServer
from doorward.simulate.equipment.ocpp_client import OcppClient
from doorward.wire.vocabulary import DeviceClass

TICK_S = 0.2
DEVICES_MAX = 10_000
CLASSES: dict[DeviceClass, type[Appliance]] = {
    kind.device_class: kind for kind in (Thermostat, HeatPump, PoolPump, WaterHeater, Relay, Meter, EvCharger)
}


class DeviceConfiguration(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"device_class": "class"}
):
    """One device.

    ``protocol`` modbus: ``host``, ``port`` (0: a free one; devices that name the same ``bus`` share it)
    and ``unit``. OCPP: ``url`` of the central system without the identity, ``identity`` (default: the
    name) and ``password``. ``behind`` of a meter names the devices that it measures. ``parameters`` are
    the class's own (``rated_w``, ``temperature``, ``min_off_s``, ``soc_percent``, …), and the owner's
    settings (``heat_setpoint``, ``mode`` …).
    """

    name: str
    device_class: DeviceClass
    protocol: Literal["modbus", "ocpp1.6", "ocpp2.0.1"]
    actuation_file: str
    host: str = "127.0.0.1"
    port: int = 0
    bus: str = ""
    unit: int = 1
    url: str = ""
    identity: str = ""
    password: str = ""
    serial: str = ""
    seed: int = 0
    behind: list[str] = []
    parameters: dict[str, float | str] = {}


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A neighbourhood: its devices, the speed of its time, and the port of its control (none: no control)."""

    devices: list[DeviceConfiguration]
    speed: float = 1.0
    control_port: int | None = None

    @classmethod
    def load(cls, file: Path) -> "Configuration":
        """Read a JSON file; raise ``ValueError`` naming what is wrong and where."""
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"{file}: {error}") from None


class Neighbourhood:
    """Simulated equipment, running between :meth:`start` and :meth:`stop`.

    After the start, ``addresses`` has each device's ``host:port/unit`` (or OCPP identity) and
    ``control_url`` where people can meddle. Time passes ``speed`` times as fast as on the loop.
    """

    def __init__(self, configuration: Configuration, clock: Clock) -> None:
        self._configuration = configuration
        self._clock = clock
        self._servers: dict[tuple[str, object], ModbusServer] = {}
        self._clients: list[OcppClient] = []
        self._files: list[ActuationFile] = []
        self._ticker: asyncio.Task[None] | None = None
        self._control: Control | None = None
        self.devices: dict[str, Appliance] = {}
        self.addresses: dict[str, str] = {}
        self.control_url = ""

    async def start(self) -> None:
        """Start all devices; raise ``ValueError`` for a configuration that contradicts itself."""
        if len(self._configuration.devices) > DEVICES_MAX:
            raise ValueError(f"more than {DEVICES_MAX} devices")
        try:
            for device in self._configuration.devices:
                self._build(device)
            self._hang_behind_meters()
            self.step(0.0)
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        for client in self._clients:
            client.start()
        self._ticker = asyncio.get_running_loop().create_task(self._tick_for_ever())

    async def stop(self) -> None:
        """Stop everything; idempotent."""
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None
        if self._control is not None:
            await self._control.stop()
        for client in self._clients:
            await client.stop()
        for server in self._servers.values():
            await server.stop()
        for file in self._files:
            file.close()

    def resident(self, name: str, action: str) -> None:
        """Somebody does ``action`` to a device; raise ``KeyError`` or ``ValueError``."""
        self.devices[name].resident(action)

    # --- building -----------------------------------------------------------------------------------

    def _build(self, device: DeviceConfiguration) -> None:
        if device.name in self.devices:
            raise ValueError(f"device '{device.name}' is there twice")
        if (device.device_class is DeviceClass.EV_CHARGER) == (device.protocol == "modbus"):
            raise ValueError(f"device '{device.name}': an ev_charger speaks OCPP, everything else Modbus")
        file = ActuationFile(Path(device.actuation_file), device.name, self._clock.now_us)
        self._files.append(file)
        rng = random.Random(f"{device.seed}/{device.name}")  # seeded: the same file plays the same again
        appliance = CLASSES[device.device_class](device.name, device.serial, file, rng, device.parameters)
        self.devices[device.name] = appliance
        if isinstance(appliance, EvCharger):
            self._add_charger(device, appliance, rng)
        else:
            self._add_unit(device, appliance)

    def _add_unit(self, device: DeviceConfiguration, appliance: Appliance) -> None:
        key = (device.host, device.port or (device.bus or device.name))
        server = self._servers.setdefault(key, ModbusServer(device.host, device.port))
        try:
            server.units.add(device.unit, appliance)
        except ValueError as error:
            raise ValueError(f"device '{device.name}': {error}") from None

    def _add_charger(self, device: DeviceConfiguration, charger: EvCharger, rng: random.Random) -> None:
        identity = device.identity or device.name
        charger.now_us = self._clock.now_us
        client = OcppClient(
            charger,
            url=f"{device.url.rstrip('/')}/{identity}",
            identity=identity,
            version=device.protocol.removeprefix("ocpp"),
            password=device.password,
            clock=self._clock,
            rng=rng,
        )
        self._clients.append(client)
        self.addresses[device.name] = identity

    def _hang_behind_meters(self) -> None:
        for device in self._configuration.devices:
            meter = self.devices[device.name]
            if not isinstance(meter, Meter):
                continue
            unknown = set(device.behind) - set(self.devices)
            if unknown:
                raise ValueError(f"device '{device.name}': behind names unknown {', '.join(sorted(unknown))}")
            meter.behind = _sum_of([self.devices[name] for name in device.behind])

    async def _listen(self) -> None:
        for server in self._servers.values():
            await server.start()
        for device in self._configuration.devices:
            if device.protocol == "modbus":
                server = self._servers[device.host, device.port or (device.bus or device.name)]
                self.addresses[device.name] = f"{server.host}:{server.port}/{device.unit}"
        if self._configuration.control_port is not None:
            self._control = Control(self)
            self.control_url = await self._control.start(self._configuration.control_port)

    # --- time ---------------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        last_s = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = loop.time()
            self.step((now_s - last_s) * self._configuration.speed)
            last_s = now_s

    def step(self, dt_s: float) -> None:
        """Let ``dt_s`` pass for all devices; meters last, so that they see what the others draw."""
        minute = self._clock.now_us() / (60 * US) % (24 * 60)
        for appliance in sorted(self.devices.values(), key=lambda a: isinstance(a, Meter)):
            appliance.step(dt_s, minute)


def _sum_of(appliances: list[Appliance]) -> Callable[[], float]:
    return lambda: sum(appliance.power_w for appliance in appliances)
