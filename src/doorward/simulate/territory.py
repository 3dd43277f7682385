"""A whole utility in virtual time: what its CCS sees, and whether deadlines hold (X06).

Real: the limits (``ccs.rules.limits``), who goes first (``ccs.rules.priority``, then the earliest deadline, as
dispatch does), the caps and what counts as a campaign (``ccs.rules.fleet``), the draw of starts at the gateway
(``spg.rules.controls``). A model: arrivals are what they are on average (no bursts but those named), a worker
does one thing after another at a fixed cost, the link and the home take a fixed time.

The limits of a *sample* of service points are played to the message; each stands for the same number of others,
which scales exactly, for no limit looks beyond its service point. The queue is played second by second for all
of them, in cohorts: what came in the same second with the same class and deadline.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from doorward.ccs.rules import limits
from doorward.ccs.rules.facts import LimitLog, Place, Tier
from doorward.ccs.rules.fleet import US, Caps, FleetLog, FleetTerms, Load, Move, Scales, keys_of
from doorward.ccs.rules.limits import Account
from doorward.ccs.rules.priority import UTILITY, third_party_class
from doorward.wire.reasons import Refused
from doorward.wire.vocabulary import Wish

MINUTE_S = 60
DAY_S = 24 * 3600
CHARGE = 2
JITTER_S = 1.0
SKEW_S = 5
"""What the deadline leaves for clocks that differ, as in the CCS."""
HOME_S = 2.0
"""From the CCS to the device and back."""
TIERS = (
    (Tier(name="premium", per_hour=24, per_day=576, response_s=30, top_priority=0), 0.1),
    (Tier(name="standard", per_hour=24, per_day=576, response_s=60, top_priority=1), 0.3),
    (Tier(name="basic", per_hour=24, per_day=576, response_s=60, top_priority=2), 0.6),
)
"""Tiers, and which share of the homes has a company of each."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is played. ``two_share`` of the homes have two third parties; the others one."""

    service_points: int
    hours: int = 24
    seed: int = 1
    sample: int = 1_000
    every_s: int = 300
    two_share: float = 0.2
    aligned_share: float = 0.1
    """Reads that come on the clock (at :00, :05, :10 …) within ``aligned_s``, as timers on servers do."""
    aligned_s: int = 10
    event_s: int = 18 * 3600
    event_share: float = 0.1
    event_before_s: int = 900
    """The event's controls come within this time before it."""
    device_w: int = 1_500
    read_us: int = 500
    """CPU time of the CCS for a round trip."""
    control_us: int = 700


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What the limits say to the reads of a day, of all service points; per minute."""

    asked: list[float]
    admitted: list[float]
    held: list[float]
    """Admitted after a wait of at most the grace."""


class Cohort(msgspec.Struct):
    """Messages of one second, one class and one deadline."""

    klass: int
    due_s: float
    came_s: int
    cost_us: int
    count: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a number of workers fared. Backlog is per minute, in messages."""

    workers: int
    missed: float
    missed_by_tier: dict[str, float]
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    busy_share: float
    first_missed_s: int | None
    backlog: list[float]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What the caps say to the event."""

    controls: int
    mw: float
    admitted_default: float
    """Share that the default caps let through, the rest waits for two operators."""
    admitted_set: float
    """Share, with caps that the utility sets for it."""
    steepest_mw_per_minute: float


# --- what the limits admit ------------------------------------------------------------------------------


def admissions(plan: Plan, rng: random.Random) -> Admission:
    """Play every read of the sampled service points against the real limits."""
    minutes = plan.hours * MINUTE_S
    asked, admitted, held = ([0.0] * minutes for _ in range(3))
    weight = plan.service_points / plan.sample
    for point in range(plan.sample):
        two = point < plan.sample * plan.two_share
        for at_s, went, waited in _reads_of(plan, _tier(point, plan.sample), 2 if two else 1, rng):
            minute = min(minutes - 1, int(at_s) // MINUTE_S)
            asked[minute] += weight
            admitted[minute] += weight * went
            held[minute] += weight * waited
    return Admission(asked=asked, admitted=admitted, held=held)


def _tier(point: int, sample: int) -> Tier:
    rank = (point * 7919 % sample) / sample
    for tier, share in TIERS:
        if rank < share:
            return tier
        rank -= share
    return TIERS[-1][0]


def _reads_of(plan: Plan, tier: Tier, parties: int, rng: random.Random) -> Iterator[tuple[float, bool, bool]]:
    """(when, admitted, held for a moment) of every read at one service point."""
    place = Place(service_point="sp", gateway="gw", partition=0, parties=parties)
    whole = LimitLog(key="sp", times_us=[])
    own = [LimitLog(key=str(party), times_us=[]) for party in range(parties)]
    phases = [rng.random() * plan.every_s for _ in range(parties)]
    asks = sorted(
        (max(0.0, phase + round_ * plan.every_s + rng.uniform(-JITTER_S, JITTER_S)), party)
        for party, phase in enumerate(phases)
        for round_ in range(plan.hours * 3600 // plan.every_s)
    )
    windows = limits.service_point_windows(24, 576)
    share = limits.party_windows(tier, place, 24, 576)
    for at_s, party in asks:
        now_us = int(at_s * US)
        try:
            ticket = limits.admit((Account(whole, windows), Account(own[party], share)), CHARGE, now_us)
        except Refused:
            yield at_s, False, False
        else:
            yield at_s, True, ticket.charge_us > now_us + limits.TICK_US


# --- what comes in, second by second ---------------------------------------------------------------------


class Arrivals:
    """All messages of the territory, in cohorts. ``share`` is what the limits admit, per minute."""

    def __init__(self, plan: Plan, share: Sequence[float]) -> None:
        self.plan = plan
        self._share = share
        self._reads = plan.service_points * (1 + plan.two_share) / plan.every_s
        """Reads a second, before limits."""

    def at(self, second: int) -> Iterator[Cohort]:
        """Yield what comes in this second."""
        plan = self.plan
        reads = self._reads * (1 - plan.aligned_share)
        if second % plan.every_s < plan.aligned_s:
            reads += self._reads * plan.aligned_share * plan.every_s / plan.aligned_s
        reads *= self._share[min(len(self._share) - 1, second // MINUTE_S)]
        for tier, share in TIERS:
            yield self._cohort(second, third_party_class(tier, Wish.NORMAL), tier.response_s, reads * share)
        if plan.event_s - plan.event_before_s <= second < plan.event_s:
            controls = plan.service_points * plan.event_share / plan.event_before_s
            standard = TIERS[1][0]
            klass = third_party_class(standard, Wish.HIGH)
            yield self._cohort(second, klass, standard.response_s, controls, plan.control_us)
        if 3600 <= second % DAY_S < 3 * 3600:  # the utility reads each meter once a day, at night
            yield self._cohort(second, UTILITY, 60, plan.service_points / 7200)

    def _cohort(self, second: int, klass: int, response_s: int, count: float, cost_us: int = 0) -> Cohort:
        return Cohort(klass, second + response_s, second, cost_us or self.plan.read_us, count)

    def per_minute(self) -> list[float]:
        """Return how many messages come in each minute."""
        minutes = [0.0] * (self.plan.hours * MINUTE_S)
        for second in range(self.plan.hours * 3600):
            minutes[second // MINUTE_S] += sum(cohort.count for cohort in self.at(second))
        return minutes


# --- the workers -----------------------------------------------------------------------------------------


class Queue:
    """Strict by class, then the earliest deadline: within a class deadlines come in order, so that is a line."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[Cohort]] = {}

    def put(self, cohort: Cohort) -> None:
        """Add a cohort."""
        self._lines.setdefault(cohort.klass, deque()).append(cohort)

    def backlog(self) -> float:
        """Return how many messages wait."""
        return sum(cohort.count for line in self._lines.values() for cohort in line)

    def serve(self, budget_us: float) -> Iterator[tuple[Cohort, float]]:
        """Yield what is done with a budget of CPU time: (cohort, how many of it)."""
        for klass in sorted(self._lines):
            line = self._lines[klass]
            while line and budget_us > 0:
                cohort = line[0]
                done = min(cohort.count, budget_us / cohort.cost_us)
                budget_us -= done * cohort.cost_us
                cohort.count -= done
                if cohort.count <= 1e-6:
                    line.popleft()
                yield cohort, done

    def expire(self, now_s: int) -> Iterator[Cohort]:
        """Yield what has no time left to be answered in; it is taken out."""
        for line in self._lines.values():
            while line and line[0].due_s - SKEW_S - HOME_S < now_s:
                yield line.popleft()


def play(plan: Plan, arrivals: Arrivals, workers: int) -> Outcome:
    """Play the day with so many workers."""
    queue = Queue()
    waits: dict[int, float] = {}
    missed: dict[int, float] = {}
    backlog: list[float] = []
    busy_us = 0.0
    first: int | None = None
    for second in range(plan.hours * 3600):
        for cohort in arrivals.at(second):
            queue.put(cohort)
        for late in queue.expire(second):
            missed[late.klass] = missed.get(late.klass, 0.0) + late.count
            first = second if first is None else first
        for cohort, done in queue.serve(workers * US):
            wait_s = second - cohort.came_s
            waits[wait_s] = waits.get(wait_s, 0.0) + done
            busy_us += done * cohort.cost_us
        if second % MINUTE_S == MINUTE_S - 1:
            backlog.append(queue.backlog())
    names = {third_party_class(tier, wish): tier.name for tier, _ in TIERS for wish in (Wish.NORMAL,)}
    return Outcome(
        workers=workers,
        missed=sum(missed.values()),
        missed_by_tier={names.get(klass, "event" if klass else "utility"): n for klass, n in missed.items()},
        wait_p50_s=_quantile(waits, 0.5),
        wait_p99_s=_quantile(waits, 0.99),
        wait_max_s=max(waits, default=0),
        busy_share=busy_us / (plan.hours * 3600 * workers * US),
        first_missed_s=first,
        backlog=backlog,
    )


def _quantile(waits: dict[int, float], share: float) -> float:
    left = share * sum(waits.values())
    for wait_s in sorted(waits):
        left -= waits[wait_s]
        if left <= 0:
            return wait_s
    return max(waits, default=0)


def fewest_workers(plan: Plan, arrivals: Arrivals, most: int = 256) -> int | None:
    """Return the fewest workers with which no deadline is missed, ``None`` if ``most`` are not enough."""
    low, high = 1, most
    if play(plan, arrivals, most).missed:
        return None
    while low < high:
        middle = (low + high) // 2
        if play(plan, arrivals, middle).missed:
            low = middle + 1
        else:
            high = middle
    return low


# --- the event and the caps ------------------------------------------------------------------------------

LOADS = 2_000
"""Controls that the event is weighed in; each stands for the same number of homes, in W."""


def weigh_event(plan: Plan) -> Event:
    """Weigh the event on the real scales: with the default caps, and with caps set for it."""
    controls = int(plan.service_points * plan.event_share)
    whole_w = controls * plan.device_w
    wide = Caps(per_minute_w=whole_w // 8, at_once_w=whole_w * 21 // 20)
    own = FleetTerms(fleet=wide, parties={"event": wide})
    return Event(
        controls=controls,
        mw=whole_w / 1e6,
        admitted_default=_weighed(plan, FleetTerms(), whole_w),
        admitted_set=_weighed(plan, own, whole_w),
        steepest_mw_per_minute=whole_w / 1e6 * MINUTE_S / own.spread_s,
    )


def _weighed(plan: Plan, terms: FleetTerms, whole_w: int) -> float:
    logs = {key: FleetLog(key=key) for key in keys_of("event", "")}
    scales = Scales(logs, terms, (plan.event_s - plan.event_before_s) * US)
    went = 0
    for number in range(LOADS):
        load = Load(
            request=str(number),
            party="event",
            area="",
            subject=str(number),
            move=Move(0, whole_w // LOADS),
            begin_us=plan.event_s * US,
            until_us=(plan.event_s + 7200) * US,
            campaign=True,
        )
        went += not scales.weigh(load, None).over
    return went / LOADS
