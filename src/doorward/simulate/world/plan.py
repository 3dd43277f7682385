"""What a seed's world will have to bear: drawn before it begins, so that it can be read beforehand.

Each world gets a random subset of the faults ("swarm testing"): what all worlds have, hides what few have.
"""

import random
from enum import StrEnum

import msgspec

from doorward.simulate.world.disk import Mortality
from doorward.simulate.world.network import Weather


class Fault(StrEnum):
    """Kinds of trouble."""

    LOSS = "loss"
    COPIES = "copies"
    DELAY = "delay"
    CUTS = "cuts"
    BROKER = "broker"
    CCS_CRASH = "ccs-crash"
    CCS_DOWN = "ccs-down"
    GATEWAY_CRASH = "gateway-crash"
    COMMITS = "commits"
    SLOW_DISK = "slow-disk"
    PAUSE = "pause"
    PAUSE_WORKERS = "pause-workers"
    CCS_CLOCK = "ccs-clock"
    GATEWAY_CLOCK = "gateway-clock"
    DEVICES = "devices"
    RESIDENTS = "residents"
    ACCESS = "access"
    LEASES = "leases"
    ENDPOINTS = "endpoints"
    ANSWERS = "answers"
    HINTS = "hints"
    CANCELS = "cancels"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The outline of one world."""

    seed: int
    theme: str
    shuffled: bool
    faults: frozenset[Fault]
    span_s: float
    """How long there is trouble and people ask; afterwards everything heals."""
    asks: int
    busy: bool
    """Whether most is asked of one home at nearly one time."""

    def has(self, fault: Fault) -> bool:
        """Whether the world has this kind of trouble."""
        return fault in self.faults


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """What a world is about: the troubles that it surely has, and how people ask."""

    faults: tuple[Fault, ...] = ()
    spans_s: tuple[float, ...] = (20.0, 60.0, 240.0, 1200.0)
    asks: tuple[int, ...] = (2, 4, 6)
    busy: float = 0.8
    more: float = 0.1
    """Share of the other troubles."""


F = Fault
THEMES: dict[str, Theme] = {
    "anything": Theme(spans_s=(20.0, 60.0, 240.0, 1200.0, 5400.0), asks=(1, 3, 6, 10), busy=0.5, more=0.3),
    "calm": Theme(more=0.0),
    "copies": Theme(faults=(F.COPIES, F.DELAY, F.LOSS), spans_s=(20.0, 60.0), asks=(2, 3)),
    "crashes": Theme(faults=(F.GATEWAY_CRASH, F.LOSS), spans_s=(10.0, 20.0, 60.0), asks=(2, 3)),
    "workers": Theme(faults=(F.CCS_CRASH, F.HINTS), spans_s=(10.0, 20.0, 60.0), asks=(3, 5)),
    "takeover": Theme(faults=(F.PAUSE, F.PAUSE_WORKERS), spans_s=(40.0, 80.0), asks=(6, 9)),
    "limits": Theme(faults=(F.CUTS, F.CANCELS, F.ANSWERS), spans_s=(240.0, 5400.0), asks=(9, 12)),
    "access": Theme(faults=(F.ACCESS, F.DELAY, F.ENDPOINTS), spans_s=(20.0, 60.0), asks=(4, 6)),
    "silence": Theme(faults=(F.CUTS, F.CCS_DOWN), spans_s=(20.0, 1200.0), asks=(2, 4)),
    "clocks": Theme(faults=(F.GATEWAY_CLOCK, F.GATEWAY_CRASH, F.CUTS), spans_s=(60.0, 240.0), asks=(3, 5)),
    "devices": Theme(faults=(F.DEVICES, F.RESIDENTS, F.GATEWAY_CRASH), spans_s=(20.0, 60.0), asks=(4, 6)),
    "leases": Theme(faults=(F.LEASES, F.CUTS, F.GATEWAY_CRASH), spans_s=(240.0, 1200.0), asks=(3, 5)),
}
"""A world about one thing finds it sooner than one about everything; the subset of the rest is drawn."""


def draw(seed: int, rng: random.Random) -> Plan:
    """Draw the outline of a seed's world."""
    name = rng.choice(list(THEMES))
    theme = THEMES[name]
    faults = {fault for fault in Fault if rng.random() < theme.more}
    return Plan(
        seed=seed,
        theme=name,
        shuffled=rng.random() < 0.9,
        faults=frozenset(faults.union(theme.faults)),
        span_s=rng.choice(theme.spans_s),
        asks=rng.choice(theme.asks),
        busy=rng.random() < theme.busy,
    )


def weather(plan: Plan, rng: random.Random) -> Weather:
    """Draw how the network behaves in this world."""
    loss = rng.choice((0.05, 0.2, 0.5)) if plan.has(Fault.LOSS) else 0.0
    return Weather(
        loss=loss,
        loss_up=rng.choice((loss, 0.95)) if loss else 0.0,
        copies=rng.choice((0.1, 0.5)) if plan.has(Fault.COPIES) else 0.0,
        stragglers=rng.choice((0.1, 0.3)) if plan.has(Fault.DELAY) else 0.0,
        straggle_s=rng.choice((1.0, 10.0, 60.0)),
        delay_s=rng.choice((0.005, 0.05, 0.5)),
    )


PLACES = {
    Fault.CCS_CRASH: (
        "ccs/journey._accept",
        "ccs/journey._dispatch",
        "ccs/journey._take",
        "ccs/journey._hand_over",
        "ccs/journey.cancel",
        "ccs/pushing._claim_safely",
        "ccs/pushing._push",
        "ccs/upkeep.deadlines",
        "ccs/upkeep.warnings",
        "ccs/upkeep._share",
        "ccs/leasing.renew",
    ),
    Fault.GATEWAY_CRASH: (
        "spg/app.start",
        "spg/journey._take",
        "spg/journey._withdraw",
        "spg/journey._end_requests",
        "spg/telling.tell",
        "spg/judging.judge",
        "spg/monitoring.read",
        "spg/under_way.passed_to_han",
        "spg/letting_go._release",
        "spg/letting_go._drop",
        "spg/letting_go._try_later",
        "spg/recovering.recover",
        "spg/releasing.release",
        "spg/speaking.said",
        *("spg/telling.tell", "spg/judging.judge") * 5,  # around the act itself: half of them
    ),
}
"""Where each of them commits: half of the deaths are at the first commit of one of these places."""
DEATH_AMONG_COMMITS = 40
"""A process that is to die does so at one of its first so many commits."""


def mortality(plan: Plan, rng: random.Random, crash: Fault) -> Mortality:
    """Draw what befalls one process (of one boot) at its commits."""
    drawn = Mortality(rng=rng)
    if plan.has(crash) and rng.random() < 0.7:
        when = rng.choice(("before", "after"))
        if rng.random() < 0.5:
            drawn.place = (rng.choice(PLACES[crash]), when)
        else:
            drawn.deaths = {rng.randint(1, rng.choice((6, 15, DEATH_AMONG_COMMITS))): when}
    if plan.has(Fault.COMMITS):
        drawn.failure_share = rng.choice((0.02, 0.1))
    if plan.has(Fault.SLOW_DISK):
        drawn.slow_share = 0.1
        drawn.slow_s = rng.choice((0.5, 3.0))
    return drawn
