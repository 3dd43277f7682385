"""The bench itself: it runs real processes, says what it measured, and finds nothing lost or done twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doorward.simulate.bench.ledger import Acts, Line, compare
from doorward.simulate.bench.plan import Plan
from doorward.simulate.services import ServiceUnavailable, find_mosquitto, find_postgresql

ROOT = Path(__file__).parent.parent.parent
BENCH_WAIT_S_MAX = 300


def bench(*options: str) -> dict[str, Any]:
    """Run ``doorward bench`` and return its report."""
    done = subprocess.run(
        [sys.executable, "-m", "doorward.cli", "bench", "--quick", "--json", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=BENCH_WAIT_S_MAX,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin:/usr/sbin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def installed(engines: str) -> bool:
    try:
        if "postgresql" in engines:
            find_postgresql()
        if "mqtt" in engines:
            find_mosquitto()
    except ServiceUnavailable:
        return False
    return True


@pytest.mark.parametrize("engines", ["sqlite,websocket", "postgresql,mqtt"])
def test_the_bench_runs_and_finds_nothing_lost_and_nothing_done_twice(engines: str) -> None:
    if not installed(engines):
        pytest.skip(f"{engines} is not installed")
    options = ["--workers", "2"] if engines == "postgresql,mqtt" else ["--hand-over", "wait,webhook,stream"]
    report = bench("--engines", engines, *options)
    assert (report["lost"], report["duplicated"], report["ledgers"]["refused"]) == (0, 0, 0)
    assert report["ledgers"]["done"] == report["ledgers"]["asked"] > 0
    assert f"{report['engines']['store']},{report['engines']['link']}" == engines
    for phase in report["phases"]:
        assert phase["round_trips"] == phase["requests"] > 0
        assert phase["cpu_us_per_round_trip"]["ccs"] > 0
        assert phase["latency_ms"]["p50"] <= phase["latency_ms"]["p95"] <= phase["latency_ms"]["p99"]
    assert (
        {phase["phase"] for phase in report["floor"]} == set(report["ratio_to_floor"]) == {"singles", "lists"}
    )


def test_light_gateways_lose_their_links_and_come_back_over_a_history_and_nothing_is_lost() -> None:
    report = bench("--light", "--storm", "--history", "1000", "--hand-over", "wait")
    assert (report["lost"], report["duplicated"], report["ledgers"]["refused"]) == (0, 0, 0)
    assert (report["light_gateways"], report["history_rows"]) == (True, 1000)
    (storm,) = [phase for phase in report["phases"] if phase["phase"] == "storm"]
    assert storm["reconnected_s"] > 0
    assert storm["round_trips"] == storm["requests"] > 0


def line(id: str, state: str = "DONE", operation: str = "limit") -> Line:
    return Line(device="EV-1", operation=operation, id=id, state=state)


@pytest.mark.parametrize(
    ("lines", "acts", "lost", "duplicated"),
    [
        ([line("a")], Acts(controls=["a"], reads={"EV-1": 1}), 0, 0),
        ([line("a", state="")], Acts(controls=["a"], reads={"EV-1": 1}), 1, 0),
        ([line("a")], Acts(controls=[], reads={"EV-1": 1}), 1, 0),
        ([line("a")], Acts(controls=["a", "a"], reads={"EV-1": 1}), 0, 1),
        ([line("a")], Acts(controls=["a", "b"], reads={"EV-1": 1}), 0, 1),
        ([line("a"), line("a")], Acts(controls=["a"], reads={"EV-1": 2}), 0, 1),
        ([line("a", operation="read")], Acts(controls=[], reads={}), 1, 0),
        ([line("a", operation="read")], Acts(controls=[], reads={"EV-1": 2}), 0, 1),
    ],
    ids=[
        "all is well",
        "never answered",
        "said to be done and was not",
        "done twice",
        "done and never asked",
        "two requests under one id",
        "a read that no device saw",
        "read twice",
    ],
)
def test_the_ledgers_tell(lines: list[Line], acts: Acts, lost: int, duplicated: int) -> None:
    verdict = compare(lines, acts)
    assert (verdict.lost, verdict.duplicated) == (lost, duplicated)


def plan(engines: str = "sqlite,websocket", workers: int = 1) -> Plan:
    return Plan.of(
        engines, workers=workers, gateways=1000, rate_per_s=141, seconds=7, hand_overs=["wait"], quick=False
    )


def test_the_shipped_limit_has_room_for_all_that_is_sent() -> None:
    made = plan()
    assert made.points * 24 // 2 >= made.requests_max


@pytest.mark.parametrize(
    ("engines", "workers", "said"),
    [
        ("oracle,carrier-pigeon", 1, "engines"),
        ("sqlite,mqtt", 1, "engines"),
        ("sqlite,websocket", 2, "workers"),
    ],
)
def test_a_plan_that_cannot_be_says_why(engines: str, workers: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(engines, workers)
