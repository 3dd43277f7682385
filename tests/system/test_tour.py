"""``doorward tour``: both scenarios and the refusals, on each pair of engines, every step seen somewhere."""

import json
import subprocess
import sys
from typing import Any

import pytest

from doorward.simulate.local_utility import EMBEDDED, PRODUCTION
from doorward.wire.times import from_rfc3339
from tests.services import embedded_only

TOUR_WAIT_S_MAX = 240.0
"""The tour is to take a minute; on a machine that does much else it may take longer."""
US = 1_000_000
IN_TIME_US = 60 * US
Steps = dict[str, dict[str, Any]]


class Tour:
    """What the tour printed, by chapter and step, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.said = err
        self.chapters = [json.loads(line) for line in out.splitlines()]

    def steps(self, scenario: int | str) -> Steps:
        (chapter,) = [each for each in self.chapters if each["scenario"] == scenario]
        return {step["id"]: step for step in chapter["steps"]}


@pytest.fixture(
    scope="session",
    params=(EMBEDDED,) if embedded_only() else (EMBEDDED, PRODUCTION),
    ids=lambda pair: "+".join(pair),
)
def tour(request: pytest.FixtureRequest) -> Tour:
    """The tour as anybody runs it; two workers on the production pair."""
    workers = "2" if request.param == PRODUCTION else "1"
    command = ["tour", "--json", "--engines", ",".join(request.param), "--workers", workers]
    with subprocess.Popen(
        [sys.executable, "-m", "doorward.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            out, err = running.communicate(timeout=TOUR_WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            running.terminate()  # it ends what it started
            raise
    return Tour(running.returncode, out, err)


def require_seen(steps: Steps, *ids: str) -> None:
    for id in ids:
        assert id in steps, f"the tour has no step {id}"
        assert steps[id]["ok"], steps[id]
        assert steps[id]["at"], steps[id]
        assert steps[id]["seen_in"] in {"CCS journal", "gateway log", "device file", "device", "third party"}


def proves(*ids: str) -> list[Any]:
    """One test a row, marked with it."""
    return [pytest.param(id, marks=pytest.mark.req(id), id=id) for id in ids]


SCENARIO_1 = (
    *("S1.01", "S1.01b", "S1.02", "S1.03", "S1.04", "S1.04b", "S1.05", "S1.06", "S1.07", "S1.08", "S1.09"),
    *("S1.10", "S1.11", "S1.12", "S1.13", "S1.14", "S1.15", "S1.16", "S1.17"),
)
SCENARIO_2 = (*(f"S2.{number:02d}" for number in range(1, 19)), "S2.09b")


@pytest.mark.parametrize("step", proves(*SCENARIO_1))
def test_a_step_of_monitoring_was_seen(tour: Tour, step: str) -> None:
    require_seen(tour.steps(1), step)


@pytest.mark.parametrize("step", proves(*SCENARIO_2))
def test_a_step_of_control_was_seen(tour: Tour, step: str) -> None:
    require_seen(tour.steps(2), step)


@pytest.mark.req("A01", "A02", "A03", "A04")
def test_every_actor_wrote_down_its_part(tour: Tour) -> None:
    """CCS, gateway, equipment and third party are processes of their own, and each was looked into."""
    looked = {step["seen_in"] for scenario in (1, 2) for step in tour.steps(scenario).values()}
    assert looked == {"CCS journal", "gateway log", "device file", "device", "third party"}


@pytest.mark.req("F01", "F02")
def test_a_question_and_its_answer_are_routed_between_third_party_and_device(tour: Tour) -> None:
    require_seen(tour.steps(1), "S1.05", "S1.07", "S1.08", "S1.09", "S1.10", "S1.11", "S1.16")


@pytest.mark.req("F15", "F16")
def test_a_command_and_its_confirmation_are_routed_between_third_party_and_device(tour: Tour) -> None:
    require_seen(tour.steps(2), "S2.06", "S2.07", "S2.08", "S2.09", "S2.10", "S2.11", "S2.12", "S2.17")


@pytest.mark.req("F09")
def test_what_comes_in_and_what_goes_back_is_logged_with_its_time(tour: Tour) -> None:
    require_seen(tour.steps(1), "S1.04", "S1.15", "S1.17")
    require_seen(tour.steps(2), "S2.05", "S2.16", "S2.18")


@pytest.mark.req("N03")
def test_the_ccs_delivers_within_a_minute_both_ways(tour: Tour) -> None:
    steps = tour.steps(1)
    assert passed_us(steps, "S1.01", "S1.05") < IN_TIME_US
    assert passed_us(steps, "S1.15", "S1.17") < IN_TIME_US


@pytest.mark.req("N04")
def test_the_gateway_delivers_within_a_minute_both_ways_even_when_a_device_hangs(tour: Tour) -> None:
    steps = tour.steps(1)
    assert passed_us(steps, "S1.06", "S1.07") < IN_TIME_US
    assert passed_us(steps, "S1.09", "S1.11") < IN_TIME_US
    require_seen(tour.steps("refusals"), "N04")


@pytest.mark.req("X02")
def test_what_is_on_record_of_the_tour_is_whole_agrees_and_shows_permission(tour: Tour) -> None:
    (chapter,) = [each for each in tour.chapters if each["scenario"] == "record"]
    assert chapter["ok"], chapter["steps"]
    assert len(chapter["steps"]) == 3


def passed_us(steps: Steps, before: str, after: str) -> int:
    require_seen(steps, before, after)
    return from_rfc3339(steps[after]["at"]) - from_rfc3339(steps[before]["at"])


@pytest.mark.req("F06", "F24", "R03")
def test_without_a_permission_a_device_is_as_unknown_as_one_that_does_not_exist(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "F06")


@pytest.mark.req("F24")
def test_who_does_not_prove_who_it_is_is_turned_away_and_on_record(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "F03", "F23")


@pytest.mark.req("F08")
def test_a_malformed_message_is_told_its_place_and_rule(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "F08")


@pytest.mark.req("F04", "F38", "N01")
def test_what_is_over_the_limit_is_refused_and_each_is_warned_about(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "N01", "F04", "F38")


@pytest.mark.req("F20", "F30", "N07", "R04")
def test_without_its_gateway_a_request_ends_once_with_a_reason_and_no_device_is_reached(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "F20", "F30")


@pytest.mark.req("S1.13", "F24", "R03")
def test_an_answer_is_withheld_when_access_was_withdrawn_meanwhile(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "S1.13")


@pytest.mark.req("S2.10")
def test_a_device_that_lies_is_not_done(tour: Tour) -> None:
    require_seen(tour.steps("refusals"), "S2.10")


def test_the_tour_says_so_when_all_of_it_worked(tour: Tour) -> None:
    assert [chapter["scenario"] for chapter in tour.chapters] == [1, 2, "refusals", "record"], tour.said
    assert all(chapter["ok"] for chapter in tour.chapters)
    assert tour.status == 0
