"""Home equipment over Modbus TCP, by device models.

A device's ``address`` is ``host:port/unit``; its ``model`` names a file of ``models/`` or of a directory
that the utility adds. Nothing is believed that was not read back: a command counts as followed when the
points that show it, and the model's further checks, say so within the model's ``settle_s``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from doorward.kit.clock import Clock
from doorward.spg.han.device_model import NOTICE_PAIRS, DeviceModel, Scalar, load_models
from doorward.spg.han.modbus_bus import Bus, spans
from doorward.spg.han.recipe import (
    Interval,
    Plan,
    decode,
    decode_program,
    encode,
    encode_program,
    plan_of,
    state_of,
)
from doorward.spg.han.verdict import not_followed
from doorward.spg.ports import Acted, DeviceFault, DeviceNotice, HanCommand, Reading, Security
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import Operation

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 1.0
CALL_S_MAX = 20.0
"""The longest that one call may take, waiting for the connection included."""
POLL_INTERVAL_S = 5.0
POLL_INTERVAL_S_MIN = 0.05
POLL_BACKOFF_S_MAX = 60.0
"""The longest between two polls of a device that does not answer."""
SETTLE_POLL_S = 0.1
DISCOVER_UNITS_MAX = 16

Notices = Callable[[DeviceNotice], Awaitable[None]]


class Watched(msgspec.Struct):
    """What the poll knows of one device: what was said last, and when to ask again."""

    online: bool = True
    active: frozenset[str] = frozenset()
    due_s: float = 0.0
    pause_s: float = 0.0


class Unit(msgspec.Struct, frozen=True):
    """A device, its model, and where it is reached."""

    device: ProvisionedDevice
    model: DeviceModel
    bus: Bus
    number: int


class ModbusAdapter:
    """:class:`~doorward.spg.ports.HanAdapter` over Modbus TCP.

    ``model_directories`` are searched beside the built-in models (a bad file raises
    :class:`~doorward.spg.han.device_model.ModelError` here). Devices are polled for notices every
    ``poll_interval_s``. Calls end within :data:`CALL_S_MAX`, those to a device that is away within two
    request time-outs.
    """

    protocol = "modbus"
    security = Security(
        authenticates_device=False,
        encrypts=False,
        note=(
            "Plain Modbus TCP proves nothing and hides nothing. Use it on a dedicated segment only, with a "
            "recorded acceptance. Where the model names a serial number register, its text is compared with "
            "the provisioned one at every call: that finds a wrong device, not an impostor."
        ),
    )

    def __init__(
        self,
        clock: Clock,
        *,
        model_directories: tuple[Path, ...] = (),
        poll_interval_s: float = POLL_INTERVAL_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._models = load_models(*model_directories)
        self._poll_interval_s = max(poll_interval_s, POLL_INTERVAL_S_MIN)
        self._request_timeout_s = request_timeout_s
        self._devices: dict[str, ProvisionedDevice] = {}
        self._buses: dict[tuple[str, int], Bus] = {}
        self._watched: dict[str, Watched] = {}
        self._poller: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------

    async def start(self, notices: Notices) -> None:
        """Begin to poll. Connections are made when they are needed."""
        self._poller = asyncio.get_running_loop().create_task(self._poll_for_ever(notices))

    async def stop(self) -> None:
        """Stop polling and close all connections; idempotent."""
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
            self._poller = None
        for bus in self._buses.values():
            bus.close()
        self._buses.clear()

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Replace the list of devices that may be spoken to."""
        self._devices = {device.id: device for device in devices if device.protocol == self.protocol}
        self._watched = {i: self._watched.get(i, Watched()) for i in self._devices}
        places = [_place_or_none(device.address) for device in self._devices.values()]
        for where in set(self._buses) - {place[:2] for place in places if place is not None}:
            self._buses.pop(where).close()

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """Operations that the device's model has a recipe for; empty when there is no such model."""
        model = self._models.get(device.model)
        return model.capabilities if model is not None else frozenset()

    # --- calls ------------------------------------------------------------------------------------

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read the device now."""
        async with self._unit(device) as unit:
            return self._reading(unit, await self._values(unit))

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """Return the points (and the programme) that a control may change, by name."""
        async with self._unit(device) as unit:
            values = await self._values(unit)
            kept: dict[str, object] = {n: values[n] for n in unit.model.snapshot if n != "program"}
            if "program" in unit.model.snapshot:
                kept["program"] = await self._program(unit)
            return kept

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Write what the command comes to and read back whether the device follows it.

        A device that somebody at home has overridden is left alone: not followed, ``customer-override``.
        """
        if command.operation is Operation.READ:
            return Acted(followed=True, reading=await self.read(device))
        async with self._unit(device) as unit:
            values = await self._values(unit)
            reading = self._reading(unit, values)
            if reading.overridden:
                return not_followed(reading, "")
            plan = plan_of(unit.model, command, values)
            await self._carry_out(unit, plan)
            return await self._settle(unit, plan)

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device now holds what ``command`` would set; changes nothing."""
        async with self._unit(device) as unit:
            values = await self._values(unit)
            plan = plan_of(unit.model, command, values)
            return not plan.unmet(values, await self._program_if(unit, plan))

    async def discover(self) -> list[ProvisionedDevice]:
        """Ask the units of the known connections, and return those of a known model that are not listed."""
        listed = {_place_or_none(device.address) for device in self._devices.values()}
        found = []
        for bus in list(self._buses.values()):
            for number in range(1, DISCOVER_UNITS_MAX + 1):
                if (bus.host, bus.port, number) in listed:
                    continue
                device = await self._identify(bus, number)
                if device is not None:
                    found.append(device)
        return found

    # --- one device -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _unit(self, device: ProvisionedDevice) -> AsyncIterator[Unit]:
        """Find the device and bound the call; every way out is a value or a ``DeviceFault``."""
        unit = self._find(device)
        try:
            async with asyncio.timeout(CALL_S_MAX):
                await self._prove(unit)
                yield unit
        except TimeoutError:
            detail = f"{device.address}: no answer in {CALL_S_MAX:g} s"
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, detail) from None

    def _find(self, device: ProvisionedDevice) -> Unit:
        if self._devices.get(device.id) != device:
            raise DeviceFault(Reason.DEVICE_UNLISTED, f"{device.id} at {device.address} is not on the list")
        model = self._models.get(device.model)
        if model is None:
            raise DeviceFault(Reason.DEVICE_REFUSED, f"there is no device model '{device.model}'")
        if model.device_class is not device.device_class:
            detail = f"model {model.name} is a {model.device_class.value}, not a {device.device_class.value}"
            raise DeviceFault(Reason.DEVICE_REFUSED, detail)
        place = _place_or_none(device.address)
        if place is None:
            raise DeviceFault(Reason.DEVICE_REFUSED, f"'{device.address}' is not host:port/unit")
        host, port, number = place
        if (host, port) not in self._buses:
            self._buses[host, port] = Bus(host, port, self._request_timeout_s)
        return Unit(device, model, self._buses[host, port], number)

    async def _prove(self, unit: Unit) -> None:
        """Compare the serial number, when one is provisioned and the model has one."""
        if not unit.device.serial or unit.model.serial is None:
            return
        text = unit.model.serial
        serial = _text(await unit.bus.read(unit.number, text.kind, text.address, text.words))
        if serial != unit.device.serial:
            detail = f"{unit.device.address} is serial '{serial}', listed is '{unit.device.serial}'"
            raise DeviceFault(Reason.DEVICE_UNLISTED, detail)

    async def _values(self, unit: Unit) -> dict[str, Scalar]:
        blocks: dict[tuple[str, int], int | bool] = {}
        for kind, start, count in spans(list(unit.model.points.values())):
            words = await unit.bus.read(unit.number, kind, start, count)
            blocks.update({(kind, start + i): word for i, word in enumerate(words)})
        values: dict[str, Scalar] = {}
        for name, point in unit.model.points.items():
            wide = 2 if point.type in ("int32", "uint32", "float32") else 1
            raw = [blocks[point.kind, point.address + i] for i in range(wide)]
            values[name] = decode(name, point, raw)
        return values

    async def _program(self, unit: Unit) -> list[Interval]:
        table = unit.model.program
        if table is None:
            return []
        words = await unit.bus.read(unit.number, table.source.kind, table.source.address, table.words)
        return decode_program(table, [int(word) for word in words])

    async def _program_if(self, unit: Unit, plan: Plan) -> list[Interval] | None:
        return await self._program(unit) if plan.program is not None else None

    def _reading(self, unit: Unit, values: Mapping[str, Scalar]) -> Reading:
        shown = {name: value for name, value in values.items() if unit.model.points[name].shown}
        power, energy = shown.pop("power_w", None), shown.pop("energy_wh", None)
        if power is None:
            shown["power_measured"] = False
        return Reading(
            device=unit.device.id,
            at_us=self._clock.now_us(),
            state=state_of(unit.model, values),
            power_w=float(power or 0.0),
            energy_wh=float(energy or 0.0),
            values=shown,
            overridden=any(condition.holds(values) for condition in unit.model.overridden),
        )

    async def _carry_out(self, unit: Unit, plan: Plan) -> None:
        # Everything is put into registers first: what does not fit is refused before anything is written.
        writes = []
        for name, value in plan.writes:
            point = unit.model.points[name]
            if point.target is not None:
                writes.append((point.target, encode(name, point, value)))
        for target, words in writes:
            await unit.bus.write(unit.number, target, words)
        table = unit.model.program
        if plan.program is not None and table is not None:
            words = encode_program(table, plan.program)
            await unit.bus.write(unit.number, table.target, words)

    async def _settle(self, unit: Unit, plan: Plan) -> Acted:
        """Read back until the device follows or its time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + unit.model.settle_s
        while True:
            values = await self._values(unit)
            reading = self._reading(unit, values)
            unmet = plan.unmet(values, await self._program_if(unit, plan))
            if reading.overridden or (unmet and loop.time() >= end):
                return not_followed(reading, unmet)
            if not unmet:
                return Acted(followed=True, reading=reading)
            await asyncio.sleep(SETTLE_POLL_S)

    # --- what devices say by themselves -----------------------------------------------------------

    async def _poll_for_ever(self, notices: Notices) -> None:
        loop = asyncio.get_running_loop()
        while True:
            buses: dict[str, list[ProvisionedDevice]] = {}
            for device in self._devices.values():
                if self._watched[device.id].due_s <= loop.time():
                    buses.setdefault(device.address.partition("/")[0], []).append(device)
            # One connection carries one request at a time, so there is one poll per connection.
            await asyncio.gather(*(self._poll_in_turn(group, notices) for group in buses.values()))
            await asyncio.sleep(self._poll_interval_s)

    async def _poll_in_turn(self, devices: list[ProvisionedDevice], notices: Notices) -> None:
        for device in devices:
            watched = self._watched.get(device.id)
            if watched is None:
                continue
            try:
                await self._poll(device, watched, notices)
            except Exception:
                # One device, or the gateway's own trouble with one notice, must not end the poll of all.
                log.exception("polling %s failed", device.id)

    async def _poll(self, device: ProvisionedDevice, watched: Watched, notices: Notices) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._unit(device) as unit:
                values = await self._values(unit)
        except DeviceFault as fault:
            watched.pause_s = min(max(watched.pause_s * 2, self._poll_interval_s), POLL_BACKOFF_S_MAX)
            watched.due_s = loop.time() + watched.pause_s
            await self._say_away(device, watched, fault, notices)
            return
        watched.pause_s = watched.due_s = 0.0
        if not watched.online:
            watched.online = True
            await notices(self._notice(device, "online", {}))
        await self._say_changes(unit, watched, values, notices)

    async def _say_away(
        self, device: ProvisionedDevice, watched: Watched, fault: DeviceFault, notices: Notices
    ) -> None:
        if not watched.online:
            return
        watched.online = False
        data: dict[str, object] = {"reason": fault.reason.value, "detail": fault.detail}
        if fault.reason is Reason.DEVICE_UNLISTED:
            notice = DeviceNotice(
                device=device.address, kind="unlisted", at_us=self._clock.now_us(), data=data
            )
            await notices(notice)
        else:
            await notices(self._notice(device, "offline", data))

    async def _say_changes(
        self, unit: Unit, watched: Watched, values: Mapping[str, Scalar], notices: Notices
    ) -> None:
        rules = unit.model.notices
        active = frozenset(rule.begins for rule in rules if rule.when.holds(values))
        begun, ended = active - watched.active, watched.active - active
        watched.active = active
        shown: dict[str, object] = {rule.when.point: values[rule.when.point] for rule in rules}
        for kind in sorted(begun):
            await notices(self._notice(unit.device, kind, shown))
        for kind in sorted(ended):
            await notices(self._notice(unit.device, NOTICE_PAIRS[kind], shown))

    def _notice(self, device: ProvisionedDevice, kind: str, data: dict[str, object]) -> DeviceNotice:
        return DeviceNotice(device=device.id, kind=kind, at_us=self._clock.now_us(), data=data)

    async def _identify(self, bus: Bus, number: int) -> ProvisionedDevice | None:
        for model in self._models.values():
            mark = model.identity
            if mark is None:
                continue
            try:
                if (await bus.read(number, mark.kind, mark.address, 1, tries=1))[0] != mark.value:
                    continue
                serial = ""
                if (text := model.serial) is not None:
                    serial = _text(await bus.read(number, text.kind, text.address, text.words, tries=1))
            except DeviceFault as fault:
                if fault.reason is Reason.DEVICE_UNAVAILABLE:
                    return None
                continue
            return ProvisionedDevice(
                id="",
                service_point="",
                device_class=model.device_class,
                protocol=self.protocol,
                model=model.name,
                address=f"{bus.host}:{bus.port}/{number}",
                serial=serial,
            )
        return None


def _place_or_none(address: str) -> tuple[str, int, int] | None:
    """Split ``host:port/unit`` (IPv6 hosts in brackets); None when it is not one."""
    where, _, unit = address.rpartition("/")
    host, _, port = where.rpartition(":")
    if not (host and port.isdigit() and unit.isdigit() and 0 < int(port) < 65_536 and int(unit) < 256):
        return None
    return host.strip("[]"), int(port), int(unit)


def _text(words: list[int] | list[bool]) -> str:
    raw = b"".join(int(word).to_bytes(2, "big") for word in words)
    return raw.decode("ascii", errors="replace").strip("\0 ")
