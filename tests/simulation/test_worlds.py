"""Worlds of virtual time with the real CCS and gateways in them: clean, the same every time, and sharp.

Each run is a process of its own, as ``doorward simulate`` is: the planted bugs change real code for good.
``DOORWARD_SIMULATION=full`` looks for every planted bug (``make simulation``); otherwise only for those that
are found within a few seeds.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from doorward.simulate.world.bugs import BUGS

SEEDS = 200
FULL = os.environ.get("DOORWARD_SIMULATION") == "full"
QUICK_SEEDS_MAX = 200
WAIT_S_MAX = 1_200


def simulate(*options: str) -> dict[str, Any]:
    """Run the command and return what it says."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "doorward.cli", "simulate", "--json", *options],
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["clean"] == (done.returncode == 0)
    return said


def test_seeds_keep_every_promise_and_have_their_share_of_trouble() -> None:
    said = simulate("--seeds", str(SEEDS), "--jobs", "2")
    assert said["failed"] == []
    assert said["seeds"] == SEEDS
    for trouble in (
        "crash",
        "kill",
        "frame lost",
        "frame repeated",
        "line cut",
        "override",
        "access changed",
    ):
        assert said["counts"].get(trouble, 0) > 0, f"no {trouble} in {SEEDS} seeds"
    assert {place.split("/")[0] for place in said["deaths"]} >= {"ccs", "spg"}


def test_a_seed_is_the_same_world_in_every_process() -> None:
    first, second = (simulate("--seeds", "8", "--from", "7000")["digest"] for _ in range(2))
    assert first == second


def test_a_seed_that_fails_says_how_it_is_replayed_and_the_replay_shows_what_happened() -> None:
    (failed,) = simulate("--seeds", "60", "--bug", "no-device-lock")["failed"]
    command = failed["replay"].split()
    assert command[:2] == ["doorward", "simulate"]
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "doorward.cli", *command[1:]],
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert shown.returncode == 1
    assert "ORACLE" in shown.stdout
    assert failed["breaches"][0]["detail"] in shown.stdout


@pytest.mark.parametrize(
    "name", [name for name, bug in BUGS.items() if FULL or bug.seeds_max <= QUICK_SEEDS_MAX]
)
def test_a_planted_bug_is_found(name: str) -> None:
    said = simulate("--seeds", str(BUGS[name].seeds_max), "--bug", name)
    assert not said["clean"], (
        f"{name} survived {BUGS[name].seeds_max} seeds: the simulation is not sharp enough"
    )


def test_at_least_twelve_bugs_are_planted() -> None:
    assert len(BUGS) >= 12
