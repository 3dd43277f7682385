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
    CCS_CLOCK = "ccs-clock"
    GATEWAY_CLOCK = "gateway-clock"
    DEVICES = "devices"
    RESIDENTS = "residents"
    ACCESS = "access"
    ENDPOINTS = "endpoints"
    ANSWERS = "answers"
    HINTS = "hints"
    CANCELS = "cancels"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The outline of one world."""

    seed: int
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


SPANS_S = (20.0, 60.0, 60.0, 240.0, 240.0, 1200.0, 5400.0)


def draw(seed: int, rng: random.Random) -> Plan:
    """Draw the outline of a seed's world."""
    share = rng.choice((0.0, 0.1, 0.25, 0.25, 0.5))
    return Plan(
        seed=seed,
        shuffled=rng.random() < 0.9,
        faults=frozenset(fault for fault in Fault if rng.random() < share),
        span_s=rng.choice(SPANS_S),
        asks=rng.choice((1, 2, 3, 4, 5, 6, 8, 10)),
        busy=rng.random() < 0.5,
    )


def weather(plan: Plan, rng: random.Random) -> Weather:
    """Draw how the network behaves in this world."""
    return Weather(
        loss=rng.choice((0.05, 0.2, 0.5)) if plan.has(Fault.LOSS) else 0.0,
        copies=rng.choice((0.1, 0.5)) if plan.has(Fault.COPIES) else 0.0,
        stragglers=rng.choice((0.1, 0.3)) if plan.has(Fault.DELAY) else 0.0,
        straggle_s=rng.choice((1.0, 10.0, 60.0)),
        delay_s=rng.choice((0.005, 0.05, 0.5)),
    )


DEATH_AMONG_COMMITS = 40
"""A process that is to die does so at one of its first so many commits."""


def mortality(plan: Plan, rng: random.Random, crash: Fault) -> Mortality:
    """Draw what befalls one process (of one boot) at its commits."""
    drawn = Mortality(rng=rng)
    if plan.has(crash) and rng.random() < 0.7:
        among = rng.choice((6, 15, DEATH_AMONG_COMMITS))
        drawn.deaths = {rng.randint(1, among): rng.choice(("before", "after"))}
    if plan.has(Fault.COMMITS):
        drawn.failure_share = rng.choice((0.02, 0.1))
    if plan.has(Fault.SLOW_DISK):
        drawn.slow_share = 0.1
        drawn.slow_s = rng.choice((0.5, 3.0))
    return drawn
