"""How steeply a protected city can be swung, on a small one."""

import random
from itertools import pairwise

import pytest

from doorward.ccs.rules.fleet import FleetTerms
from doorward.simulate.swing import Case, City, steepest
from doorward.spg.rules.facts import Policy

HOMES, W = 40_000, 1_500


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(City(HOMES, W, FleetTerms(), Policy(), random.Random(1)).cases())


def guarded(cases: list[Case], attacker: str) -> list[Case]:
    return [each for each in cases if each.attacker == attacker and each.protections == "caps and draws"]


def test_without_protections_one_key_moves_the_whole_city_in_a_second(cases: list[Case]) -> None:
    bare = [each for each in cases if each.protections == "none"]
    assert bare
    assert all(each.steps_mw["second"] == HOMES * W / 1e6 for each in bare)


def test_with_one_key_no_minute_moves_more_than_its_cap_and_the_draws_allow(cases: list[Case]) -> None:
    cap_mw = FleetTerms().party.per_minute_w / 1e6
    for each in guarded(cases, "one third party's key"):
        assert each.steps_mw["minute"] <= cap_mw * 1.3, each.attack
        assert each.steps_mw["second"] <= cap_mw, each.attack
        assert each.moved_mw <= FleetTerms().party.at_once_w / 1e6


def test_with_the_whole_ccs_nothing_is_forged_where_signatures_are_asked_for(cases: list[Case]) -> None:
    (forged,) = [each for each in cases if each.protections == "signatures"]
    assert forged.moved_mw == 0


def test_a_step_is_the_greatest_change_within_a_span() -> None:
    curve = [0, 1, 5, 4, 4, -3]
    assert steepest(curve, 1) == max(abs(b - a) for a, b in pairwise(curve)) == 7
    assert steepest(curve, 3) == 8
