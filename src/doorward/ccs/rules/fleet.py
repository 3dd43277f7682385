"""How much load third parties may move (X04): a city must not swing.

Every control that may raise or lower load is weighed, in W of the devices' ratings, against caps of its third
party, its area and the fleet: what moves in any minute, and what is held at once. Raising and lowering are
counted apart. What a party moves up and down on the same devices within a span is *opposing*, and has a cap of
its own. Letting go is never weighed; single controls are let go at once, so that no more of them are held at
once than may move in a minute: what is beyond that is a campaign, which begins and ends at random.

The books keep a log per key. ``moved`` has what moves in each slot of :data:`SLOT_US`; a minute touches at
most :data:`SLOTS_A_MINUTE` of them, and no such run may exceed the cap. A control with a random start counts
as what it moves on average, evenly over its span. ``held`` has what is held until the end of a slot of
:data:`HELD_SLOT_US`. Slots are rounded so that a cap is never exceeded (docs/fleet-safety.md).
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from doorward.wire.vocabulary import DeviceClass, Operation

US = 1_000_000
SLOT_US = 10 * US
SLOTS_A_MINUTE = 7
HELD_SLOT_US = 300 * US
KW = 1_000

RAISE = "raise"
LOWER = "lower"
OPPOSE = "oppose"
SINGLE = "single"

RATED_W: MappingProxyType[DeviceClass, int] = MappingProxyType(
    {
        DeviceClass.THERMOSTAT: 3_500,
        DeviceClass.HEAT_PUMP: 3_500,
        DeviceClass.POOL_PUMP: 1_500,
        DeviceClass.WATER_HEATER: 4_500,
        DeviceClass.EV_CHARGER: 7_400,
        DeviceClass.RELAY: 2_000,
        DeviceClass.METER: 0,
    }
)
"""What a device counts as whose rating is not known."""


class Caps(msgspec.Struct, frozen=True):
    """At most so many W moved in any minute, and held at once; for raising and for lowering."""

    per_minute_w: int
    at_once_w: int


class FleetTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the utility has set. ``areas`` and ``parties`` have caps of their own, by id."""

    fleet: Caps = Caps(15_000 * KW, 150_000 * KW)
    area: Caps = Caps(5_000 * KW, 50_000 * KW)
    party: Caps = Caps(3_000 * KW, 30_000 * KW)
    areas: dict[str, Caps] = {}
    parties: dict[str, Caps] = {}
    opposing_w: int = 1_000 * KW
    """What one party may move up and down on the same devices within ``opposing_us``."""
    opposing_us: int = 600 * US
    campaign_w: int = 300 * KW
    """A party that moves more in a minute runs a campaign, whether it says so or not."""
    spread_s: int = 600
    """Within so many seconds after its time each control of a campaign begins, and every curtailment ends."""
    quarantine_us: int = 1_800 * US
    """How long what is over a cap waits for two operators, unless it has a deadline of its own."""
    quarantine_items_max: int = 10_000


class Move(msgspec.Struct, frozen=True):
    """By how many W a control may raise load, and lower it, at most."""

    raise_w: int
    lower_w: int

    @property
    def is_nothing(self) -> bool:
        """Whether it moves no load."""
        return not self.raise_w and not self.lower_w

    def of(self, direction: str) -> int:
        """What it moves in a direction."""
        return self.raise_w if direction == RAISE else self.lower_w


NOTHING = Move(0, 0)


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """The last control of a party on a device (or a service point as a whole: ``subject`` is its id).

    It is held until ``until_us`` unless it was ``let_go``.
    """

    party: str
    subject: str
    request: str
    area: str
    raise_w: int
    lower_w: int
    at_us: int
    until_us: int
    let_go: bool = False
    single: bool = False
    """It is let go at once, not at random."""

    @property
    def move(self) -> Move:
        """What it moved."""
        return Move(self.raise_w, self.lower_w)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A control on the scales: who moves what, where, from when until when (µs)."""

    request: str
    party: str
    area: str
    subject: str
    move: Move
    begin_us: int
    until_us: int
    campaign: bool = False
    room_s: int | None = None
    """How late it may begin at most, where it has a deadline of its own."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A request over a cap, until two operators agree or its deadline passes. ``first_by`` agreed already."""

    request: str
    party: str
    subject: str
    area: str
    campaign: str
    raise_w: int
    lower_w: int
    since_us: int
    why: str
    first_by: str = ""
    first_us: int = 0


class FleetLog(msgspec.Struct, kw_only=True):
    """What is moved and held under one key: slot → W."""

    key: str
    moved: dict[int, int] = msgspec.field(default_factory=dict)
    held: dict[int, int] = msgspec.field(default_factory=dict)


class Weighed(msgspec.Struct, frozen=True):
    """What came of it: over which cap it is (``""``: none), and the span of its random start."""

    over: str
    spread_s: int


def rated_w(rated: float, device_class: DeviceClass) -> int:
    """Return what a device counts as, in W."""
    return int(rated) or RATED_W[device_class]


def move_of(operation: Operation, body: Mapping[str, object], rated: int) -> Move:
    """Return by how much a control may move a device (or a group) of that rating, whatever it does now."""
    match operation:
        case Operation.READ | Operation.RELEASE:
            return NOTHING
        case Operation.TURN_ON | Operation.LOAD_UP:
            return Move(rated, 0)
        case Operation.TURN_OFF | Operation.SHED:
            return Move(0, rated)
        case Operation.LIMIT:
            watts = body.get("watts")
            limit = min(rated, max(0, int(watts))) if isinstance(watts, int | float) else rated
            return Move(limit, rated - limit)
    return Move(rated, rated)


def keys_of(party: str, area: str) -> list[str]:
    """Return the keys of all logs that a control of this party in this area may be written to."""
    scopes = [_party(party), _FLEET, *([_area(area)] if area else [])]
    each = [f"{scope}|{kind}" for scope in scopes for kind in (RAISE, LOWER, SINGLE)]
    return [*each, _opposing(party)]


_FLEET = "fleet"


def _party(party: str) -> str:
    return f"party|{party}"


def _area(area: str) -> str:
    return f"area|{area}"


def _opposing(party: str) -> str:
    return f"{_party(party)}|{OPPOSE}"


class Scales:
    """Weighs controls one after the other against locked logs, which it changes in place."""

    def __init__(self, logs: Mapping[str, FleetLog], terms: FleetTerms, now_us: int) -> None:
        self._logs = logs
        self._terms = terms
        self._now_us = now_us
        for log in logs.values():
            forget(log, now_us, terms)

    def weigh(self, load: Load, before: Hold | None) -> Weighed:
        """Charge a control, or say over which cap it is and change nothing.

        ``before`` is the same party's last control on the same subject: this one takes its place.
        """
        if before is not None:
            self._hold(before, -1)
        is_many = load.campaign or self._is_campaign(load)
        spread_s = self.span_s(load) if is_many else 0
        opposing_w = self._opposing_w(load, before)
        over = self._over(load, spread_s, opposing_w)
        if is_many and not spread_s and self._terms.spread_s:
            over = over or "what single controls may move, and leaves no time for a random start"
        if over:
            if before is not None:
                self._hold(before, 1)
            return Weighed(over, spread_s)
        self.charge(load, spread_s, opposing_w)
        return Weighed("", spread_s)

    def charge(self, load: Load, spread_s: int, opposing_w: int = 0) -> None:
        """Charge a control whatever the caps say (two operators let it through)."""
        self._move(load, spread_s, 1)
        self._hold(self.hold(load, spread_s), 1)
        if opposing_w:
            _add(self._logs[_opposing(load.party)].moved, {self._now_us // SLOT_US: opposing_w})

    def uncharge(self, load: Load, spread_s: int, before: Hold | None) -> None:
        """Take a charge back: it did not go on record, and what was before it still is."""
        self._move(load, spread_s, -1)
        self._hold(self.hold(load, spread_s), -1)
        if before is not None:
            self._hold(before, 1)

    def hold(self, load: Load, spread_s: int) -> Hold:
        """Return what a control holds, to the end of its random end; one without a random start is single."""
        return Hold(
            party=load.party,
            subject=load.subject,
            request=load.request,
            area=load.area,
            raise_w=load.move.raise_w,
            lower_w=load.move.lower_w,
            at_us=self._now_us,
            until_us=load.until_us + self._terms.spread_s * US,
            single=not spread_s,
        )

    # deciding

    def span_s(self, load: Load) -> int:
        """Return the span of a random start: it leaves at least half of a short control, and keeps a deadline."""
        lasts_s = (load.until_us - load.begin_us) // US
        spread_s = min(self._terms.spread_s, lasts_s // 2)
        return max(0, spread_s if load.room_s is None else min(spread_s, load.room_s))

    def _is_campaign(self, load: Load) -> bool:
        """Whether the party moves so much in the minute of this control that it cannot be single ones."""
        slots = {load.begin_us // SLOT_US: load.move.raise_w + load.move.lower_w}
        moved: dict[int, int] = {}
        for direction in (RAISE, LOWER):
            _add(moved, self._logs[f"{_party(load.party)}|{direction}"].moved)
        return not fits(moved, slots, SLOTS_A_MINUTE, self._terms.campaign_w) or self._is_one_too_many(load)

    def _is_one_too_many(self, load: Load) -> bool:
        """Whether so many single controls would be held that letting all go at once moves too much."""
        w = max(load.move.raise_w, load.move.lower_w)
        return any(
            sum(self._logs[f"{scope}|{SINGLE}"].held.values()) + w > caps.per_minute_w
            for _, scope, caps in self._scoped(load)
        )

    def _scoped(self, load: Load) -> list[tuple[str, str, Caps]]:
        """The caps that hold for a control: (name, scope, caps)."""
        terms = self._terms
        scoped = [
            (f"the cap of {load.party}", _party(load.party), terms.parties.get(load.party, terms.party)),
            ("the cap of the fleet", _FLEET, terms.fleet),
        ]
        if load.area:
            caps = terms.areas.get(load.area, terms.area)
            scoped.insert(1, (f"the cap of area {load.area}", _area(load.area), caps))
        return scoped

    def _opposing_w(self, load: Load, before: Hold | None) -> int:
        """What moves on this device against what the party did to it lately; an end moves it back, too."""
        if before is None:
            return 0
        end_us = before.until_us - self._terms.spread_s * US
        ended = before.let_go or end_us <= self._now_us
        last_us = end_us if ended and not before.let_go else before.at_us
        if last_us <= self._now_us - self._terms.opposing_us:
            return 0
        up = load.move.raise_w if before.lower_w or ended else 0
        down = load.move.lower_w if before.raise_w or ended else 0
        return max(up, down)

    def _over(self, load: Load, spread_s: int, opposing_w: int) -> str:
        terms = self._terms
        for name, scope, caps in self._scoped(load):
            for direction in (RAISE, LOWER):
                w = load.move.of(direction)
                if not w:
                    continue
                log = self._logs[f"{scope}|{direction}"]
                slots = _slots(w, load.begin_us, spread_s)
                if not fits(log.moved, slots, SLOTS_A_MINUTE, caps.per_minute_w):
                    return f"{name}, {direction} {caps.per_minute_w // KW} kW in a minute"
                if sum(log.held.values()) + w > caps.at_once_w:
                    return f"{name}, {direction} {caps.at_once_w // KW} kW at once"
        span = -(-terms.opposing_us // SLOT_US) + 1
        moved = self._logs[_opposing(load.party)].moved
        added = {self._now_us // SLOT_US: opposing_w}
        if opposing_w and not fits(moved, added, span, terms.opposing_w):
            return f"the cap of {load.party} on switching to and fro, {terms.opposing_w // KW} kW"
        return ""

    # writing

    def _move(self, load: Load, spread_s: int, sign: int) -> None:
        for direction in (RAISE, LOWER):
            w = load.move.of(direction)
            if w:
                slots = _slots(w, load.begin_us, spread_s)
                for scope in _scopes(load.party, load.area):
                    _add(self._logs[f"{scope}|{direction}"].moved, slots, sign)

    def _hold(self, hold: Hold, sign: int) -> None:
        _hold(self._logs, hold, sign, self._now_us)


def give_back(logs: Mapping[str, FleetLog], hold: Hold, now_us: int) -> Hold:
    """Take out of locked logs what is held no more; return the hold as one that was let go."""
    _hold(logs, hold, -1, now_us)
    return msgspec.structs.replace(hold, let_go=True, at_us=now_us)


def _hold(logs: Mapping[str, FleetLog], hold: Hold, sign: int, now_us: int) -> None:
    end = -(-hold.until_us // HELD_SLOT_US)
    if hold.let_go or end <= now_us // HELD_SLOT_US:
        return
    single_w = max(hold.raise_w, hold.lower_w) if hold.single else 0
    for kind, w in ((RAISE, hold.raise_w), (LOWER, hold.lower_w), (SINGLE, single_w)):
        if w:
            for scope in _scopes(hold.party, hold.area):
                _add(logs[f"{scope}|{kind}"].held, {end: w}, sign)


def _scopes(party: str, area: str) -> list[str]:
    return [_party(party), _FLEET, *([_area(area)] if area else [])]


def _slots(w: int, begin_us: int, spread_s: int) -> dict[int, int]:
    """What moves in which slot: all at its time, or evenly over the span of a random start."""
    first = begin_us // SLOT_US
    count = max(1, -(-spread_s * US // SLOT_US))
    each, rest = divmod(w, count)
    return {first + at: each + (at < rest) for at in range(count)}


def _add(log: dict[int, int], slots: Mapping[int, int], sign: int = 1) -> None:
    for slot, w in slots.items():
        left = log.get(slot, 0) + sign * w
        if left > 0:
            log[slot] = left
        else:
            log.pop(slot, None)


def fits(log: Mapping[int, int], added: Mapping[int, int], width: int, most_w: int) -> bool:
    """Whether no run of ``width`` slots that touches a slot of ``added`` holds more than ``most_w`` with it."""
    if sum(log.values()) + sum(added.values()) <= most_w:
        return True
    slots = range(min(added) - width + 1, max(added) + width)
    at = [log.get(slot, 0) + added.get(slot, 0) for slot in slots]
    run = sum(at[:width])
    if run > most_w:
        return False
    for left, right in zip(at, at[width:], strict=False):
        run += right - left
        if run > most_w:
            return False
    return True


def forget(log: FleetLog, now_us: int, terms: FleetTerms) -> None:
    """Drop what no cap can see any more."""
    oldest = (now_us - terms.opposing_us - 2 * SLOT_US) // SLOT_US
    minute = now_us // SLOT_US - SLOTS_A_MINUTE
    _drop(log.moved, oldest if log.key.endswith(OPPOSE) else minute)
    _drop(log.held, now_us // HELD_SLOT_US)


def _drop(log: dict[int, int], until: int) -> None:
    for slot in [slot for slot in log if slot <= until]:
        del log[slot]
