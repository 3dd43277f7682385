"""What a simulated charger tells and hears in either OCPP version; the versions fill in the messages."""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from ocpp.routing import after, on

from doorward.kit.clock import US, Clock
from doorward.kit.ids import uuid7
from doorward.simulate.equipment.charger import EvCharger
from doorward.simulate.equipment.charging_profiles import Profile

ANSWER_S_MAX = 5.0
METER_INTERVAL_S = 60.0
VENDOR = "org.doorward"
"""Vendor id of the one message that the standard lacks: what the resident chose (DataTransfer)."""

F = TypeVar("F", bound=Callable[..., object])


def hears(action: str) -> Callable[[F], F]:
    """Mark what answers a call of the central system (the library's ``on``, with types)."""
    return cast("Callable[[F], F]", on(action))


def then(action: str) -> Callable[[F], F]:
    """Mark what happens after such an answer (the library's ``after``, with types)."""
    return cast("Callable[[F], F]", after(action))


def iso(at_us: int) -> str:
    """Return RFC 3339 of UTC microseconds."""
    return datetime.fromtimestamp(at_us / US, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def micros(text: str) -> int:
    """Return UTC microseconds of RFC 3339."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * US)


class Telling(ABC):
    """What both versions share: the charger, the time, and telling what has changed."""

    version: str

    charger: EvCharger
    clock: Clock

    def prepare(self, charger: EvCharger, clock: Clock, rng: random.Random) -> None:
        """Take over a charger for one connection."""
        self.charger = charger
        self.clock = clock
        self._rng = rng
        self._changed = asyncio.Event()
        # A charger does not begin its transaction anew because the link broke.
        self._told: dict[str, object] = {"transaction": charger.told_transaction}
        if charger.told_transaction is not None:
            self._told["charging"] = charger.charging_state()
        charger.changed = self._changed.set
        self._unique_id_generator = lambda: uuid7(clock.now_us(), rng)

    def now(self) -> str:
        """Return the time as the protocol writes it."""
        return iso(self.clock.now_us())

    @property
    def silent(self) -> bool:
        """Whether the charger hangs: it neither hears nor speaks."""
        return "hang" in self.charger.moods

    async def tell_for_ever(self) -> None:
        """Introduce the charger, then tell every change, and the meter now and then."""
        await self.boot()
        while True:
            self._changed.clear()
            if not self.silent:
                await self.tell_changes()
            try:
                await asyncio.wait_for(self._changed.wait(), METER_INTERVAL_S)
            except TimeoutError:
                await self.tell_meter()

    async def tell_changes(self) -> None:
        """Tell what is not as it was told last."""
        await self._if_new(
            "resident", sorted(self.charger.moods & {"override", "opt_out"}), self.tell_resident
        )
        await self._if_new("transaction", self.charger.transaction, self.tell_transaction)
        await self._if_new("status", self.status(), self.tell_status)
        await self._if_new("charging", self.charger.charging_state(), self.tell_charging)

    async def _if_new(self, name: str, value: object, tell: Callable[[], Awaitable[None]]) -> None:
        if name not in self._told and not value:
            self._told[name] = value
        if self._told.get(name, ...) != value:
            await tell()
            self._told[name] = value

    def resident_choice(self) -> str:
        """Return what the resident chose, as JSON."""
        moods = self.charger.moods
        return json.dumps({name: name in moods for name in ("override", "opt_out")})

    @abstractmethod
    async def listen(self) -> None:
        """Answer calls until the connection ends."""

    @abstractmethod
    async def boot(self) -> None:
        """Introduce the charger."""

    @abstractmethod
    async def tell_meter(self) -> None:
        """Send meter values."""

    @abstractmethod
    async def tell_status(self) -> None:
        """Send the status."""

    @abstractmethod
    async def tell_charging(self) -> None:
        """Send the charging state, where it is a message of its own."""

    @abstractmethod
    async def tell_transaction(self) -> None:
        """Send that a transaction ended, began, or both."""

    @abstractmethod
    async def tell_resident(self) -> None:
        """Send what the resident chose."""

    @abstractmethod
    def status(self) -> object:
        """Return what a status message depends on."""


async def do_triggered(point: Telling, requested: str) -> None:
    """Send the message that was asked for."""
    if requested == "StatusNotification":
        await point.tell_status()
    elif requested == "MeterValues":
        await point.tell_meter()
    elif requested == "BootNotification":
        await point.boot()


def profile_of(raw: dict[str, Any], id: int, schedule: dict[str, Any], now_us: int) -> Profile:
    """Return a profile of either version (amperes are taken as three phases of 230 V)."""
    start = schedule.get("start_schedule")
    per_unit = 1.0 if schedule["charging_rate_unit"] == "W" else 230.0 * 3

    def moment(name: str) -> int | None:
        return micros(raw[name]) if raw.get(name) else None

    return Profile(
        id=id,
        purpose=raw["charging_profile_purpose"],
        stack=raw["stack_level"],
        recurring=raw["charging_profile_kind"] == "Recurring",
        start_us=micros(start) if start else now_us,
        periods=tuple(
            (int(p["start_period"]), float(p["limit"]) * per_unit)
            for p in schedule["charging_schedule_period"]
        ),
        duration_s=schedule.get("duration"),
        valid_from_us=moment("valid_from"),
        valid_to_us=moment("valid_to"),
    )


def periods_of(rows: list[tuple[int, float]]) -> list[dict[str, float]]:
    """Return a schedule's rows as the protocol writes them."""
    return [{"start_period": start, "limit": round(limit, 1)} for start, limit in rows]


def nonsense_of(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return samples whose values can not be."""
    huge = type(samples[0]["value"])(9e12)
    return [{**sample, "value": huge} for sample in samples]
