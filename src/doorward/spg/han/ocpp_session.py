"""One connected charger, whatever version it speaks: what it has said, and what can be asked of it.

``ocpp_16.py`` and ``ocpp_201.py`` fill in the messages. All waits are bounded; what goes wrong on the
wire is a :class:`~doorward.spg.ports.DeviceFault`.
"""

import asyncio
import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

import msgspec
from ocpp.exceptions import OCPPError
from ocpp.routing import after, on
from websockets.exceptions import ConnectionClosed

from doorward.kit.clock import US, Clock
from doorward.kit.ids import uuid7
from doorward.spg.ports import DeviceFault
from doorward.wire.reasons import Reason

HEARTBEAT_S = 300
VENDOR = "org.doorward"
"""Vendor id of the one message that the standard lacks: what the resident chose at the charger
(DataTransfer, message id ``resident``, data ``{"override": bool, "opt_out": bool}``)."""
UNITS = {"W": 1.0, "kW": 1000.0, "Wh": 1.0, "kWh": 1000.0, "Percent": 1.0, "": 1.0}
DEFAULT_MEASURAND = "Energy.Active.Import.Register"

F = TypeVar("F", bound=Callable[..., object])


def hears(action: str) -> Callable[[F], F]:
    """Mark what answers a message of the charger (the library's ``on``, with types)."""
    return cast("Callable[[F], F]", on(action))


def then(action: str) -> Callable[[F], F]:
    """Mark what happens after such an answer (the library's ``after``, with types)."""
    return cast("Callable[[F], F]", after(action))


class Connection(Protocol):
    """What a session needs of a WebSocket."""

    async def recv(self) -> str | bytes:
        """Return the next message."""
        ...

    async def send(self, message: str) -> None:
        """Send a message."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close."""
        ...


class Said(msgspec.Struct):
    """What a charger has said of itself (connector or EVSE 1)."""

    serial: str = ""
    status: str = ""
    operative: bool = True
    plugged: bool = False
    faulted: bool = False
    fault: str = ""
    override: bool = False
    opt_out: bool = False
    transaction: int | str | None = None
    charging_state: str = ""
    power_w: float = 0.0
    energy_wh: float = 0.0
    begun_wh: float | None = None
    soc_percent: float | None = None
    statuses: int = 0
    meters: int = 0
    boots: int = 0

    @property
    def flags(self) -> frozenset[str]:
        """What a notice begins and ends."""
        flags = {"override": self.override, "opt_out": self.opt_out, "plugged": self.plugged}
        return frozenset(name for name, on in {**flags, "fault": self.faulted}.items() if on)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A charging profile to set, in W. ``daily`` repeats every day from ``start_us`` (midnight)."""

    id: int
    whole_station: bool
    """True: the most that the whole charger may draw; False: the default of its transactions."""
    stack_level: int
    start_us: int
    periods: list[tuple[int, float]]
    daily: bool = False
    until_us: int = 0


class Session(ABC):
    """A connection with one charger; ``said`` is up to date, ``changed`` is called after any message."""

    version: str
    said: Said

    def prepare(
        self,
        connection: Connection,
        clock: Clock,
        rng: random.Random,
        accepts: Callable[[str], bool],
        changed: Callable[[Said], None],
    ) -> None:
        """Set up what both versions share; ``accepts`` judges the serial number of a boot."""
        self.said = Said()
        self.connection = connection
        self.clock = clock
        self.rng = rng
        self._accepts = accepts
        self._changed = changed
        self._news = asyncio.Condition()
        self._unique_id_generator = lambda: uuid7(clock.now_us(), rng)

    # --- what the charger says ----------------------------------------------------------------------

    def now(self) -> str:
        """Return the time as the protocol writes it."""
        return iso(self.clock.now_us())

    def booted(self, serial: str) -> str:
        """Take a boot; return the registration status."""
        self.said.serial, self.said.boots = serial, self.said.boots + 1
        return "Accepted" if self._accepts(serial) else "Rejected"

    def status_is(self, status: str, fault: str) -> None:
        """Take a status. A charger that is unavailable or faulty does not say whether a car is there."""
        said = self.said
        said.status, said.fault, said.statuses = status, fault, said.statuses + 1
        said.faulted = status == "Faulted"
        if status not in ("Unavailable", "Faulted", "Reserved"):
            said.plugged = status != "Available"
        if status != "Faulted":
            said.operative = status != "Unavailable"
        if status in ("Available", "Unavailable"):
            said.transaction = None

    def meter_is(self, meter_value: Iterable[Mapping[str, Any]]) -> None:
        """Take meter values; what is no number is kept as NaN, so that a reading refuses it."""
        sums: dict[str, float] = {}
        for sample in (s for value in meter_value for s in value.get("sampled_value", [])):
            measurand = sample.get("measurand") or DEFAULT_MEASURAND
            if sample.get("phase") and measurand in sums and "-" in str(sample["phase"]):
                continue
            value = _number(sample)
            sums[measurand] = sums.get(measurand, 0.0) + value if sample.get("phase") else value
        said = self.said
        said.power_w = sums.get("Power.Active.Import", said.power_w)
        said.energy_wh = sums.get(DEFAULT_MEASURAND, said.energy_wh)
        said.soc_percent = sums.get("SoC", said.soc_percent)
        said.meters += 1

    def resident_chose(self, vendor_id: str, message_id: str | None, data: object) -> str:
        """Take a DataTransfer; return its status."""
        if vendor_id != VENDOR or message_id != "resident":
            return "UnknownVendorId"
        try:
            choice = json.loads(str(data))
            self.said.override, self.said.opt_out = bool(choice["override"]), bool(choice["opt_out"])
        except (ValueError, KeyError, TypeError):
            return "Rejected"
        return "Accepted"

    async def told(self) -> None:
        """Wake those who wait for news."""
        self._changed(self.said)
        async with self._news:
            self._news.notify_all()

    async def until(self, true: Callable[[Said], bool], wait_s_max: float) -> bool:
        """Wait for something to be said; False when it was not within the time."""
        try:
            async with asyncio.timeout(wait_s_max), self._news:
                await self._news.wait_for(lambda: true(self.said))
        except TimeoutError:
            return False
        return True

    # --- what can be asked of it ----------------------------------------------------------------------

    @abstractmethod
    async def listen(self) -> None:
        """Answer the charger until the connection ends."""

    @abstractmethod
    async def trigger(self, message: str) -> bool:
        """Ask for a message; False when the charger will not send it."""

    @abstractmethod
    async def set_profile(self, profile: Profile) -> str:
        """Set a charging profile; return the charger's word."""

    @abstractmethod
    async def clear_profile(self, whole_station: bool, stack_level: int) -> str:
        """Clear the profile of a purpose and level; return the charger's word."""

    @abstractmethod
    async def composite(self, duration_s: int) -> list[tuple[int, float]]:
        """Return the schedule that the charger says it follows from now on; empty when it says none."""

    @abstractmethod
    async def set_operative(self, operative: bool) -> str:
        """Change availability; return the charger's word."""

    @abstractmethod
    async def start_charging(self) -> str:
        """Ask for a transaction; return the charger's word."""

    @abstractmethod
    async def stop_charging(self, transaction: int | str) -> str:
        """Ask for the end of a transaction; return the charger's word."""

    @abstractmethod
    async def ask(self, payload: object) -> Any:
        """Send a call and return its result; raise ``DeviceFault``."""


async def asked(identity: str, call: Awaitable[Any]) -> Any:
    """Await a call; what goes wrong becomes a ``DeviceFault``."""
    try:
        return await call
    except TimeoutError:
        raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"charger {identity} does not answer") from None
    except (ConnectionClosed, OSError) as error:
        raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"charger {identity}: {error}") from None
    except OCPPError as error:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"charger {identity}: {error}") from None


def iso(at_us: int) -> str:
    """Return RFC 3339 of UTC microseconds, to the millisecond."""
    text = datetime.fromtimestamp(at_us / US, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def profile_fields(profile: Profile) -> dict[str, object]:
    """Return the fields of a profile that both versions name alike."""
    fields: dict[str, object] = {
        "stack_level": profile.stack_level,
        "charging_profile_kind": "Recurring" if profile.daily else "Absolute",
    }
    if profile.daily:
        fields["recurrency_kind"] = "Daily"
    if profile.until_us:
        fields["valid_to"] = iso(profile.until_us)
    return fields


def schedule_fields(profile: Profile) -> dict[str, object]:
    """Return the schedule of a profile, in W (the standard allows one decimal)."""
    fields: dict[str, object] = {
        "start_schedule": iso(profile.start_us),
        "charging_rate_unit": "W",
        "charging_schedule_period": [
            {"start_period": start, "limit": round(watts, 1)} for start, watts in profile.periods
        ],
    }
    if profile.daily:
        fields["duration"] = 86_400
    return fields


def rows_of(schedule: Mapping[str, Any] | None) -> list[tuple[int, float]]:
    """Return a composite schedule's rows in W (amperes are taken as three phases of 230 V)."""
    if not schedule:
        return []
    per_unit = 1.0 if schedule.get("charging_rate_unit") == "W" else 690.0
    periods = schedule.get("charging_schedule_period", [])
    return [(int(p["start_period"]), float(p["limit"]) * per_unit) for p in periods]


def _number(sample: Mapping[str, Any]) -> float:
    measure = sample.get("unit_of_measure") or {}
    unit = str(sample.get("unit") or measure.get("unit") or "")
    try:
        return float(sample["value"]) * UNITS.get(unit, 1.0) * 10.0 ** int(measure.get("multiplier") or 0)
    except (KeyError, ValueError, OverflowError):
        return math.nan
