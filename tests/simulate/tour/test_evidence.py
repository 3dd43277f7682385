"""A step of the tour counts only when it was written down, in order, by everybody who should have."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from doorward.client import Journey, Request
from doorward.client.records import Step as Told
from doorward.simulate.tour.evidence import AT_GATEWAY, WAY, Chapter, Trace, all_of, seen
from doorward.wire.steps import Step
from doorward.wire.times import from_rfc3339

BEGIN = datetime(2026, 1, 31, 18, tzinfo=UTC)
ASKED_US = from_rfc3339(BEGIN.isoformat())


def at(step: Step) -> datetime:
    return BEGIN + timedelta(milliseconds=10 * (1 + WAY.index(step)))


def trace(**other: dict[str, Any]) -> Trace:
    """A complete trace, but for what ``other`` says of a step in the journal (``None``: it is missing)."""
    told = []
    for step in WAY:
        change = other.get(step, {})
        if change is not None:
            fields: dict[str, Any] = {"at": at(step), "step": step, "actor": "x", "outcome": "ok", **change}
            told.append(Told(**fields))
    log = [{"step": step.value, "at": at(step).isoformat(), "outcome": "ok"} for step in AT_GATEWAY]
    request = Request(id="r", state="DONE", operation="read")
    journey = Journey(request="r", state="DONE", steps=told)
    return Trace(request, journey, log, {}, ASKED_US, ASKED_US + 1_000_000)


@pytest.mark.parametrize("step", WAY)
def test_a_step_that_all_have_written_down_is_seen(step: Step) -> None:
    found = trace().step("S1", step)
    assert (found.ok, found.why) == (True, "")
    assert found.seen_in == ("gateway log" if step in AT_GATEWAY else "CCS journal")


@pytest.mark.parametrize("step", WAY)
def test_a_step_that_is_not_in_the_journal_is_not_seen(step: Step) -> None:
    missing: dict[str, Any] = {step: None}
    assert trace(**missing).step("S1", step).why == f"not in the CCS's journal: {step}"


@pytest.mark.parametrize("step", WAY)
def test_a_step_that_was_refused_is_not_seen(step: Step) -> None:
    assert not trace(**{step: {"outcome": "refused"}}).step("S1", step).ok


@pytest.mark.parametrize("step", AT_GATEWAY)
def test_a_gateways_step_must_be_in_its_own_log_with_the_same_time(step: Step) -> None:
    whole = trace()
    whole.log[AT_GATEWAY.index(step)]["at"] = BEGIN.isoformat()
    assert "another time" in whole.step("S1", step).why
    del whole.log[AT_GATEWAY.index(step)]
    assert whole.step("S1", step).why == f"not in the gateway's log: {step}"


def test_a_writers_times_never_go_back() -> None:
    turned = trace(**{Step.AUTHORISED: {"at": at(Step.RECEIVED) - timedelta(milliseconds=1)}})
    assert "was before" in turned.step("S1", Step.AUTHORISED).why


def test_a_step_long_before_the_question_is_not_a_step_of_this_request() -> None:
    old = trace(**{Step.RECEIVED: {"at": BEGIN - timedelta(hours=1)}})
    assert "between the question and the answer" in old.step("S1", Step.RECEIVED).why


def test_several_looks_are_one_step_that_fails_with_the_first_that_fails() -> None:
    good, bad = seen("a", "", "CCS journal", 1, ""), seen("b", "", "CCS journal", 1, "missing")
    assert all_of("S2", [good, good]).ok
    assert (all_of("S2", [good, bad]).id, all_of("S2", [good, bad]).why) == ("S2", "missing")


def test_a_chapter_without_steps_did_not_work() -> None:
    assert not Chapter.of(1, []).ok
    assert not Chapter.of(1, [seen("a", "", "CCS journal", 1, ""), seen("b", "", "CCS journal", 0, "x")]).ok
