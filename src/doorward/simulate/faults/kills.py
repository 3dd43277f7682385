"""Processes die at random moments in mid load, and come back: CCS, gateways, broker, database (P1–P3, P5)."""

from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.local_utility import PRODUCTION

RECOVERY_S_MAX = 60.0
"""P5: how long after a broker that lost everything the way may be shut."""
WORKERS = 2


def kills(stage: Stage, report: Report) -> None:
    """``kill -9`` of whoever it may be, again and again."""
    with scene(stage.rng, stage.engines, workers=workers(stage)) as running:
        running.begin()
        for _ in range(stage.times(full=40, quick=3)):
            running.wait(0.2, 2.0)
            kill_one(running, report)
        running.wait(1.0, 2.0)
        running.end()
        report.figures["s until all gateways answer"] = round(running.works_again(), 1)
        report.verdict = running.verdict()


def kill_one(running: Scene, report: Report) -> None:
    """Kill somebody, and start it again after a moment."""
    names = ["ccs", *running.gateways, *running.utility.servers]
    if len(running.workers()) > 1:
        names += ["worker", "worker", "master"]
    name = running.rng.choice(names)
    report.did[f"kill -9 {'gateway' if name in running.gateways else name}"] += 1
    if name == "worker":
        return running.kill_worker()
    if name == "master":
        return running.kill_master()
    running.kill(name)
    running.wait(0.0, 0.5)
    return running.start(name)


def broker_wiped(stage: Stage, report: Report) -> None:
    """The broker dies and with it all it knew: sessions, queues, retained presence (P5).

    It keeps nothing on disk, so a SIGKILL is a wipe; its directory is emptied all the same.
    """
    slowest_s = 0.0
    with scene(stage.rng, PRODUCTION, workers=WORKERS) as running:
        running.begin()
        for _ in range(stage.times(full=20, quick=2)):
            running.wait(0.5, 2.0)
            running.wipe_broker()
            report.did["broker killed and wiped"] += 1
            slowest_s = max(slowest_s, running.works_again())
        running.end()
        report.verdict = running.verdict()
    report.figures["s to recover, slowest"] = round(slowest_s, 1)
    report.require(slowest_s < RECOVERY_S_MAX, f"recovery within {RECOVERY_S_MAX:.0f} s")


def database_restarted(stage: Stage, report: Report) -> None:
    """PostgreSQL is restarted under load, in good order, at once, and by a crash; and hangs for a while."""
    with scene(stage.rng, stage.engines, workers=workers(stage)) as running:
        running.begin()
        for _ in range(stage.times(full=8, quick=1)):
            running.wait(0.5, 2.0)
            running.utility.servers["database"].stop()
            running.utility.servers["database"].start()
            report.did["database restarted"] += 1
            running.wait(0.5, 2.0)
            running.pause_database(running.rng.uniform(1.0, 5.0))
            report.did["database stood still"] += 1
        running.end()
        report.figures["s until all gateways answer"] = round(running.works_again(), 1)
        report.verdict = running.verdict()


def workers(stage: Stage) -> int:
    """How many workers the pair of engines can have."""
    return WORKERS if stage.engines == PRODUCTION else 1
