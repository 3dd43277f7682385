"""The short form of ``make faults``: processes die and are replaced in mid load, and four ledgers are compared."""

import pytest

from doorward.simulate.faults.suite import Engines, play
from doorward.simulate.local_utility import EMBEDDED, PRODUCTION
from tests.services import embedded_only

SEED = 11


def play_soundly(name: str, pair: Engines) -> None:
    report = play(name, pair, seed=SEED, quick=True)
    if report.missing:
        pytest.skip(f"NOT PLAYED: {report.missing}")
    assert report.sound, "\n".join(report.lines())
    assert report.did.total() > 0
    assert report.verdict is not None
    assert report.verdict.states.get("DONE", 0) > 0


@pytest.mark.parametrize("pair", [EMBEDDED] if embedded_only() else [EMBEDDED, PRODUCTION], ids="+".join)
def test_whoever_is_killed_nothing_is_lost_and_nothing_done_twice(pair: Engines) -> None:
    play_soundly("kills", pair)


@pytest.mark.parametrize("name", ["crash-points", "disk-full"])
def test_death_in_the_midst_of_a_trip_and_a_full_disk_lose_nothing(name: str) -> None:
    play_soundly(name, EMBEDDED)


@pytest.mark.req("N02")
@pytest.mark.skipif(embedded_only(), reason="needs PostgreSQL and Mosquitto; DOORWARD_TEST_ENGINES=embedded")
def test_workers_are_replaced_under_load_and_nobody_is_refused() -> None:
    play_soundly("rolling-restart", PRODUCTION)
