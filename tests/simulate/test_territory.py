"""A utility's day on the real limits, small enough for a test."""

import random

import pytest

from doorward.simulate.curves import Series, chart
from doorward.simulate.territory import (
    Arrivals,
    Plan,
    admissions,
    fewest_workers,
    play,
    weigh_event,
)

PLAN = Plan(service_points=1_000_000, hours=1, sample=20, event_s=1800)


def test_one_company_a_home_may_read_every_five_minutes_all_day_and_two_share_it() -> None:
    alone = admissions(Plan(service_points=10, hours=24, sample=10, two_share=0.0), random.Random(1))
    assert sum(alone.admitted) == sum(alone.asked) == 10 * 288
    both = admissions(Plan(service_points=10, hours=24, sample=10, two_share=1.0), random.Random(1))
    assert sum(both.admitted) / sum(both.asked) == pytest.approx(0.5, abs=0.05)


def test_every_message_that_comes_is_played() -> None:
    arrivals = Arrivals(PLAN, [1.0] * 60)
    reads = 1_000_000 * 1.2 * 12
    assert sum(arrivals.per_minute()) == pytest.approx(reads + 100_000, rel=1e-6)


@pytest.mark.req("X06")
def test_enough_workers_keep_every_deadline_and_one_less_does_not() -> None:
    arrivals = Arrivals(PLAN, [1.0] * 60)
    enough = fewest_workers(PLAN, arrivals)
    assert enough is not None
    assert play(PLAN, arrivals, enough).missed == 0
    fewer = play(PLAN, arrivals, enough - 1)
    assert fewer.missed > 0
    assert set(fewer.missed_by_tier) == {"basic"}, "the least urgent go first"


def test_so_many_that_no_number_of_workers_is_enough_is_said() -> None:
    arrivals = Arrivals(PLAN, [1.0] * 60)
    assert fewest_workers(PLAN, arrivals, most=1) is None


def test_an_event_needs_caps_of_its_own() -> None:
    event = weigh_event(Plan(service_points=5_000_000))
    assert event.admitted_default < 0.1
    assert event.admitted_set == 1.0


def test_a_curve_keeps_its_spikes_and_loads_nothing() -> None:
    drawn = chart("a < b", "MW", 1, [Series("one", [0.0] * 5_000 + [9.0] + [0.0] * 5_000)])
    assert "a &lt; b" in drawn
    assert " 56.0" in drawn, "the top of the frame"
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
