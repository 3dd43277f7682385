"""Simulated devices behind the gateway's HAN port, with a ledger of their own of everything that they did.

A device is a thing apart: what was on its way to it happens although the gateway's process has died.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from doorward.spg.ports import Acted, DeviceFault, DeviceNotice, HanCommand, Reading, Security
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, OperatingState, Operation

Settings = dict[str, object]


class Mood(StrEnum):
    """How a device behaves."""

    WELL = "well"
    SILENT = "silent"
    """Cannot be reached: nothing arrives, and the adapter says so."""
    HANGS = "hangs"
    """Acts, and never answers."""
    DEAF = "deaf"
    """Neither acts nor answers."""
    LATE = "late"
    """Acts long after everybody has given up waiting."""
    LIES = "lies"
    """Says yes and does nothing; reading back shows it."""
    REFUSES = "refuses"
    NONSENSE = "nonsense"
    """Acts, and answers what cannot be."""


LATE_S = 25.0
"""How late a device acts that is late: longer than a call to it lasts."""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the devices' ledger: a command arrived, and whether it took."""

    id: str
    device: str
    operation: Operation
    body: Settings
    at_us: int
    took: bool


@dataclass(slots=True, eq=False)
class Device:
    """One device: what its owner wants, what it holds, and its mood."""

    id: str
    device_class: DeviceClass
    service_point: str
    gateway: str
    full_w: float
    owners: Settings = field(default_factory=lambda: {"on": True, "limit": None, "celsius": 20.0})
    settings: Settings = field(default_factory=dict)
    mood: Mood = Mood.WELL
    overridden: bool = False
    touched_s: float = -1e9
    """When somebody at home took it in hand last, or let it go."""
    missed: bool = False
    """Its gateway may not know of an override, and so give back what its owner has changed since."""

    def __post_init__(self) -> None:
        self.settings = dict(self.owners)

    @property
    def power_w(self) -> float:
        """What it draws now."""
        if not self.settings["on"]:
            return 0.0
        limit = self.settings["limit"]
        return self.full_w if limit is None else min(self.full_w, float(limit))  # type: ignore[arg-type]

    def holds(self, target: Settings) -> bool:
        """Whether it has these settings."""
        return all(self.settings[name] == value for name, value in target.items())


def target_of(command: HanCommand) -> Settings:
    """Return the settings that a command asks for; raise :class:`DeviceFault` for one that no device knows."""
    baseline = command.baseline or {}
    match command.operation:
        case Operation.TURN_OFF:
            return {"on": False}
        case Operation.TURN_ON:
            return {"on": True}
        case Operation.LIMIT:
            return {"limit": command.body["watts"]}
        case Operation.SETPOINT:
            return {"celsius": command.body["celsius"]}
        case Operation.RELEASE:
            return dict(baseline)
    raise DeviceFault(Reason.DEVICE_REFUSED, f"no device here knows {command.operation}")


class Street:
    """All devices of a world, and their ledger."""

    def __init__(
        self,
        devices: list[Device],
        loop: asyncio.AbstractEventLoop,
        now_us: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self.devices = {device.id: device for device in devices}
        self.acts: list[Act] = []
        self.overlaps: list[str] = []
        """Two calls for one device at once, which the port forbids."""
        self.witness: Callable[[Device, HanCommand, bool, bool], None] = lambda *_: None
        """Told of every act in the moment in which it happens: whether it took, and whether it is long after
        everybody has given up waiting."""
        self.moods: Counter[Mood] = Counter()
        self._loop = loop
        self._now_us = now_us
        self._rng = rng
        self._context = Context()

    def later(self, delay_s: float, do: Callable[..., object], *args: object) -> None:
        """Something happens in the home, whatever becomes of the gateway."""
        self._loop.call_later(delay_s, do, *args, context=self._context)

    def carry_out(self, device: Device, command: HanCommand, late: bool) -> None:
        """A command has arrived at the device."""
        took = device.mood is not Mood.LIES and not device.overridden
        self.witness(device, command, took, late)
        self.acts.append(
            Act(
                id=command.id,
                device=device.id,
                operation=command.operation,
                body=dict(command.body),
                at_us=self._now_us(),
                took=took,
            )
        )
        if took:
            device.settings |= target_of(command)

    def latency_s(self) -> float:
        """How long one way to a device takes."""
        return self._rng.random() * 0.2


class Adapter:
    """One gateway process's way to the devices (a :class:`~doorward.spg.ports.HanAdapter`)."""

    protocol = "sim"
    security = Security(authenticates_device=True, encrypts=True, note="simulated")

    def __init__(self, street: Street, now_us: Callable[[], int]) -> None:
        self._street = street
        self._now_us = now_us
        self._under_way: set[str] = set()
        self.notices: Callable[[DeviceNotice], Awaitable[None]] | None = None

    async def start(self, notices: Callable[[DeviceNotice], Awaitable[None]]) -> None:
        """Hear from now on what devices say by themselves."""
        self.notices = notices

    async def stop(self) -> None:
        """Hear no more."""
        self.notices = None

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Whatever is on the list is on the street."""

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """What the class can do."""
        return CLASS_OPERATIONS[device.device_class]

    async def discover(self) -> list[ProvisionedDevice]:
        """Nothing else is there."""
        return []

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read the device now."""
        async with _Call(self, device.id):
            return self._reading(await self._reached(device.id))

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """What a control may change, as it is."""
        async with _Call(self, device.id):
            return dict((await self._reached(device.id)).settings)

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device holds what the command would set."""
        async with _Call(self, device.id):
            return (await self._reached(device.id)).holds(target_of(command))

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Tell the device, and read back."""
        async with _Call(self, device.id):
            thing, street = self._street.devices[device.id], self._street
            mood = thing.mood
            street.moods[mood] += 1
            there_s, back_s = street.latency_s(), street.latency_s()
            if mood is Mood.SILENT:
                await asyncio.sleep(there_s)
                raise DeviceFault(Reason.DEVICE_UNAVAILABLE, "no route to the device")
            if mood is Mood.REFUSES:
                await asyncio.sleep(there_s + back_s)
                raise DeviceFault(Reason.DEVICE_REFUSED, "the device says no")
            if mood is not Mood.DEAF:
                late = mood is Mood.LATE
                street.later(there_s + (LATE_S if late else 0.0), street.carry_out, thing, command, late)
            if mood in (Mood.DEAF, Mood.HANGS, Mood.LATE):
                await asyncio.get_running_loop().create_future()
            await asyncio.sleep(there_s + back_s + 0.001)
            followed = thing.holds(target_of(command))
            return Acted(followed=followed and not thing.overridden, reading=self._reading(thing, mood))

    async def _reached(self, id: str) -> Device:
        thing = self._street.devices[id]
        await asyncio.sleep(self._street.latency_s())
        if thing.mood is Mood.SILENT:
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, "no route to the device")
        if thing.mood in (Mood.DEAF, Mood.HANGS):
            await asyncio.get_running_loop().create_future()
        return thing

    def _reading(self, thing: Device, mood: Mood = Mood.WELL) -> Reading:
        power_w = float("nan") if mood is Mood.NONSENSE else thing.power_w
        on = thing.power_w > 0
        return Reading(
            device=thing.id,
            at_us=self._now_us(),
            state=OperatingState.RUNNING_NORMAL if on else OperatingState.IDLE_NORMAL,
            power_w=power_w,
            energy_wh=5.0,
            values={"on": bool(thing.settings["on"])},
            overridden=thing.overridden,
        )


class _Call:
    """One call for one device at a time: the port's promise, which the street watches."""

    def __init__(self, adapter: Adapter, device: str) -> None:
        self._adapter = adapter
        self._device = device

    async def __aenter__(self) -> None:
        if self._device in self._adapter._under_way:
            self._adapter._street.overlaps.append(self._device)
        self._adapter._under_way.add(self._device)

    async def __aexit__(self, *_: object) -> None:
        self._adapter._under_way.discard(self._device)
