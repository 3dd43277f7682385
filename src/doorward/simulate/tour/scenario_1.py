"""Scenario 1: a third party asks a device; then a whole home, now and in the past."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from doorward.client import ask
from doorward.simulate.tour.evidence import DEVICE, PARTY, Chapter, Seen, Trace, seen, us_of
from doorward.simulate.tour.neighbourhood import MONITORED
from doorward.simulate.tour.stage import SAMPLE_S, Stage
from doorward.wire.steps import SCENARIO, Step
from doorward.wire.times import from_rfc3339

DEVICE_ID = "TH-1"
COUNTER_WH_AWAY_MAX = 100.0
"""The device's counter goes on between our read and the look at the device itself."""
PAST = timedelta(seconds=30)
SAMPLING_US_MAX = 500_000
"""How long sampling a home's devices may take."""
SAMPLES_WAIT_S_MAX = 10.0
TRANSACTIONS = 2
"""A request and its result (N01), whatever the request is about."""


def scenario_1(stage: Stage) -> Chapter:
    """Play it; every step is read from what was written down."""
    home = MONITORED
    left = [_left(stage)]
    now = stage.trace(ask.read_home(home.service_point), home)
    left.append(_left(stage))
    one = stage.trace(ask.read(DEVICE_ID), home)
    itself = stage.utility.device_state(DEVICE_ID)
    left.append(_left(stage))
    past = stage.trace(_past(stage, now.had_us), home)
    left.append(_left(stage))
    spent = [before - after for before, after in pairwise(left)]
    now, one, past = stage.with_log([now, one, past], home.gateway)
    steps = {id: one.step(id, step) for step, (ids, _) in SCENARIO.items() for id in ids}
    steps["S1.01b"] = _home(now, past, spent)
    steps["S1.08"] = _reached(one, itself)
    steps["S1.16"] = had(one, "S1.16")
    return Chapter.of(1, [steps[id] for id in sorted(steps)])


def _left(stage: Stage) -> int:
    """What remains at the service point, with what its devices said by themselves not counted."""
    place = MONITORED.service_point
    told = stage.client.past_events(kind="device.notice").items
    return stage.client.limits(place).windows[0].remaining + sum(each.service_point == place for each in told)


def _past(stage: Stage, served_us: int) -> ask.Ask:
    """Wait until there is a past to ask about: two samples since the home was known to be served."""
    enough_us = served_us + 2 * SAMPLE_S * 1_000_000 + SAMPLING_US_MAX
    stage.until(lambda: stage.clock.now_us() > enough_us or None, SAMPLES_WAIT_S_MAX)
    end = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=stage.clock.now_us())
    return ask.read_home(MONITORED.service_point, from_=end - PAST, to=end)


def _home(now: Trace, past: Trace, spent: list[int]) -> Seen:
    """S1.01b: what is running in the home, and how much did each draw then; two transactions each."""
    steps = [
        trace.step("S1.01b", step) for trace in (now, past) for step in (Step.RECEIVED, Step.PASSED_TO_HAN)
    ]
    wrong = next((step.why for step in steps if not step.ok), "") or _answers(now, past) or _charged(spent)
    return seen("S1.01b", "all permitted devices, now and in the past", PARTY, past.had_us, wrong)


def _answers(now: Trace, past: Trace) -> str:
    devices = {each.id for each in MONITORED.equipment}
    for trace in (now, past):
        told = {reading["device"] for reading in readings(trace)}
        if told != devices:
            return f"{trace.request.state}: told of {sorted(told)}, not of {sorted(devices)}"
    points = readings(past)
    begin_us = past.asked_us - PAST // timedelta(microseconds=1) - 1_000_000
    if not all(begin_us <= from_rfc3339(point["at"]) <= past.asked_us + 1_000_000 for point in points):
        return "a point lies outside the interval"
    drawn = {point["device"] for point in points if point["power_w"] > 0}
    running = {reading["device"] for reading in readings(now) if reading["power_w"] > 0}
    return "" if running & drawn else f"running now {sorted(running)}, but before {sorted(drawn)}"


def _charged(spent: list[int]) -> str:
    """What each request took of the limit, as the third party is told it."""
    return "" if spent == [TRANSACTIONS] * len(spent) else f"the requests took {spent} transactions"


def _reached(one: Trace, itself: dict[str, Any]) -> Seen:
    """S1.08: it was this device that answered: its own counter is the one that we were told."""
    told = (one.request.result or {}).get("energy_wh", -1.0)
    off = abs(float(itself["energy_wh"]) - float(told))
    carried = one.step("S1.08", Step.PASSED_TO_HAN)
    why = carried.why or (
        "" if off <= COUNTER_WH_AWAY_MAX else f"told {told} Wh, it says {itself['energy_wh']}"
    )
    at_us = from_rfc3339(carried.at) if carried.at else 0
    return seen("S1.08", "the device's own counter is what was told", DEVICE, at_us, why)


def had(trace: Trace, id: str) -> Seen:
    """The data reached the third party, and the CCS's journal has the hand-over."""
    told = trace.step(id, Step.HANDING_OVER)
    request = trace.request
    done = request.state == "DONE" and request.answer == "DELIVERED" and bool(request.result)
    why = told.why or ("" if done else f"the answer is {request.state} {request.answer or 'open'}")
    final_us = us_of(request.final) if request.final else 0
    if not why and final_us > trace.had_us:
        why = "it was final only after we had it"
    return seen(id, "fetched with a live token after a thin notice", PARTY, trace.had_us, why)


def readings(trace: Trace) -> list[dict[str, Any]]:
    """Return the readings of a home."""
    found: list[dict[str, Any]] = (trace.request.result or {}).get("readings", [])
    return found
