"""Workers of the CCS: replaced one by one under load (N02), told to stop, frozen past their lease (fencing)."""

import os
import signal
import time

from doorward.ccs.upkeep import BEAT_US
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import PATIENT_S, Scene, scene
from doorward.simulate.faults.spy import Spy, let_in
from doorward.simulate.faults.stage import Stage
from doorward.simulate.local_utility import PRODUCTION

WORKERS = 2
HOMES = 4
"""Their gateways fall to both workers."""
LEASE_S = BEAT_US / 1e6
REPLACED_S_MAX = 60.0


def rolling_restart(stage: Stage, report: Report) -> None:
    """All workers are replaced under load, again and again: nobody is refused, nothing is lost (N02).

    By SIGHUP to the master, and by SIGTERM to a worker, which the master starts again.
    """
    with scene(stage.rng, PRODUCTION, workers=WORKERS, homes=HOMES, deadline_s=PATIENT_S) as running:
        running.begin()
        slowest_s = 0.0
        for number in range(stage.times(full=10, quick=1)):
            running.wait(0.5, 1.5)
            began_s = time.monotonic()
            if number % 3 == 2:
                _stop_one(running)
                report.did["worker told to stop"] += 1
            else:
                replace_all(running)
                report.did["all workers replaced"] += 1
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        running.wait(1.0, 2.0)
        running.end()
        report.figures["s to replace all, slowest"] = round(slowest_s, 1)
        report.figures["s an answer took, slowest"] = round(running.slowest_s(), 2)
        report.verdict = running.verdict()
    verdict = report.verdict
    report.require(verdict.unsure == 0, f"{verdict.unsure} requests got no answer in a planned restart")
    others = {state: count for state, count in verdict.states.items() if state != "DONE"}
    report.require(not others, f"in a planned restart every request is carried out, but {others}")


def replace_all(running: Scene) -> None:
    """Tell the master to replace its workers one by one, and return when it has."""
    before = set(running.workers())
    os.kill(running.utility.processes["ccs"].child.pid, signal.SIGHUP)
    running.until(
        lambda: not before & set(running.workers()) and running.all_there(),
        "all workers are replaced",
        REPLACED_S_MAX,
    )


def _stop_one(running: Scene) -> None:
    victim = running.rng.choice(running.workers())
    os.kill(victim, signal.SIGTERM)
    running.until(
        lambda: victim not in running.workers() and running.all_there(), "the worker is started again"
    )


def frozen(stage: Stage, report: Report) -> None:
    """A worker stands still past its lease, then goes on: what it wanted to send is another's by now.

    Seen at the broker: after a newer epoch, no command leaves under an older one.
    """
    with scene(stage.rng, PRODUCTION, workers=WORKERS, homes=HOMES) as running:
        let_in(running.utility.servers["broker"])
        spy = Spy(running.utility.link_url, running.utility.authority)
        spy.start()
        running.works_again()
        try:
            running.begin()
            for _ in range(stage.times(full=6, quick=1)):
                running.wait(1.0, 2.0)
                _freeze(running)
                report.did["worker frozen past its lease"] += 1
            running.wait(1.0, 2.0)
            running.end()
            running.works_again()
            report.verdict = running.verdict()
        finally:
            spy.stop()
        stale = spy.stale()
        report.figures["commands seen at the broker"] = spy.commands()
        report.require(spy.commands() >= report.verdict.states["DONE"], "the spy sees every command")
        report.require(not stale, f"{len(stale)} commands were sent after another owned the partition")


def _freeze(running: Scene) -> None:
    victim = running.rng.choice(running.workers())
    os.kill(victim, signal.SIGSTOP)
    running.wait(LEASE_S + 1.0, LEASE_S + 4.0)
    os.kill(victim, signal.SIGCONT)
