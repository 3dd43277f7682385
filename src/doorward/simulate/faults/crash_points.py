"""Death at every single system call of one round trip that writes or sends, at CCS and gateway (P1, P17).

A trip is traced once, to count its calls; then for every k a fresh trip, in which the process is killed on
entering its k-th call. What was done by the calls before stays, that call is not made. Background work makes
calls too, so a few more or fewer come before a given step: all of them are tried.
"""

import subprocess
from pathlib import Path

from doorward.simulate.faults.judge import FINAL
from doorward.simulate.faults.load import Trader
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.faults.tools import strace, traced

CALLS = "pwrite64,fdatasync,fsync,ftruncate,write,writev,sendto,sendmsg"
TRIP_WAIT_S_MAX = 20.0
QUICK_POINTS = 3
MARGIN = 4
"""Points beyond those that were counted."""


def crash_points(stage: Stage, report: Report) -> None:
    """Enumerate the points of both."""
    strace()
    with scene(stage.rng, stage.engines, homes=1) as running:
        trader = running.traders[0]
        for name in ("ccs", running.gateways[0]):
            count = _count(running, trader, name)
            words = "CCS" if name == "ccs" else "gateway"
            report.figures[f"calls in a trip, {words}"] = count
            points = list(range(1, count + MARGIN + 1))
            if stage.quick:
                points = sorted(stage.rng.sample(points, QUICK_POINTS))
            for point in points:
                died = _die_at(running, trader, name, point)
                report.did[f"{words} killed at a call" if died else f"{words}: trip over before"] += 1
        report.verdict = running.verdict()


def _count(running: Scene, trader: Trader, name: str) -> int:
    log = _log(running, name)
    with traced(running.utility.processes[name].child.pid, CALLS, log=log) as tracer:
        _trip(running, trader)
    return tracer.calls()


def _die_at(running: Scene, trader: Trader, name: str, point: int) -> bool:
    """One trip, killed at its k-th call; whether it came to that."""
    process = running.utility.processes[name]
    died = False
    try:
        with traced(
            process.child.pid, CALLS, f"{CALLS}:signal=SIGKILL:when={point}", log=_log(running, name)
        ):
            trader.ask()
            running.until(
                lambda: process.child.poll() is not None or _ended(running, trader),
                "the process is killed, or the trip ends",
                TRIP_WAIT_S_MAX,
            )
    finally:
        try:
            process.child.wait(0.5)
            died = True
        except subprocess.TimeoutExpired:
            died = False
    if died:
        running.start(name)
    running.until(lambda: _ended(running, trader), "the request ends")
    return died


def _trip(running: Scene, trader: Trader) -> None:
    trader.ask()
    running.until(lambda: _ended(running, trader), "the request ends")


def _ended(running: Scene, trader: Trader) -> bool:
    """Whether the newest request has its final state; one that was never accepted has ended too."""
    told = trader.told[-1]
    return not told.id or trader.client.get(told.id).state in FINAL


def _log(running: Scene, name: str) -> Path:
    return running.utility.directory / f"{name}.strace"
