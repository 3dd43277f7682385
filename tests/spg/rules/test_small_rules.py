"""Frames' order, attempts counted, recovery, intervals."""

import pytest

from doorward.spg.rules import history, recovery
from doorward.spg.rules.facts import DAY_US, MINUTE_US, US, Mark, Sample
from doorward.spg.rules.marks import is_new
from doorward.spg.rules.tally import CAUSES_MAX, Cause, Tally
from doorward.wire.reasons import Reason, Refused


@pytest.mark.parametrize(
    ("frame", "new"),
    [
        (Mark(5, 101), True),
        (Mark(6, 0), True),
        (Mark(5, 100), False),
        (Mark(5, 99), False),
        (Mark(5, -923), False),
    ],
)
def test_a_frame_is_new_or_a_duplicate(frame: Mark, new: bool) -> None:
    assert is_new(frame, Mark(5, 100)) is new


@pytest.mark.parametrize("frame", [Mark(5, -924), Mark(4, 10_000)])
def test_a_frame_far_behind_is_a_replay(frame: Mark) -> None:
    with pytest.raises(Refused) as refused:
        is_new(frame, Mark(5, 100))
    assert refused.value.reason is Reason.REPLAYED


def test_attempts_of_one_cause_are_one_report_a_minute_and_every_one_is_counted() -> None:
    tally, reports = Tally(MINUTE_US), []
    for second in range(600):
        reports += tally.take(second * US)
        first = tally.count(Cause("in", Reason.FORGED), second * US)
        reports += [first] if first else []
    reports += tally.take(10_000 * US)
    assert sum(report.count for report in reports) == 600
    assert len(reports) <= 11


def test_the_causes_told_apart_are_bounded() -> None:
    tally = Tally(MINUTE_US)
    reports = [tally.count(Cause("out", Reason.DEVICE_UNLISTED, device=f"d{n}"), 0) for n in range(10_000)]
    assert sum(1 for report in reports if report) <= CAUSES_MAX + 1
    rest = tally.take(MINUTE_US)
    assert sum(report.count for report in rest) + sum(1 for report in reports if report) == 10_000


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [
        (False, True, "DONE"),
        (True, True, "UNCONFIRMED"),
        (False, False, "UNCONFIRMED"),
        (True, False, "UNCONFIRMED"),
        (False, None, "UNCONFIRMED"),
    ],
)
def test_only_a_change_that_the_device_shows_proves_that_it_was_done(
    before: bool, now: bool | None, word: str
) -> None:
    assert recovery.verdict(before, now) == word


def test_one_unproved_device_makes_the_whole_unproved() -> None:
    assert recovery.together(["DONE", "DONE"]) == "DONE"
    assert recovery.together(["DONE", "UNCONFIRMED"]) == "UNCONFIRMED"
    assert recovery.together([]) == "UNCONFIRMED"


def test_a_long_interval_comes_in_wider_steps() -> None:
    step_us = history.step_of(0, 30 * DAY_US, 10, 5 * MINUTE_US)
    samples = [
        Sample(device="d", at_us=at_us, state="RUNNING_NORMAL", power_w=100.0, energy_wh=1.0)
        for at_us in range(0, 30 * DAY_US, 5 * MINUTE_US)
    ]
    points = history.series(samples, 0, step_us)
    assert len(points) * 10 <= history.POINTS_MAX
    assert {point["power_w"] for point in points} == {100.0}


@pytest.mark.parametrize(
    "body",
    [
        {"from": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00Z"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"from": 5, "to": 6},
    ],
)
def test_an_interval_that_is_none_is_refused_with_its_field(body: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        history.interval_of(body)
    assert refused.value.field.startswith("/body/")
