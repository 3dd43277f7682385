"""Disks that are full or broken, under the CCS and under a gateway: 503 or the truth, and then it goes on (P6)."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from doorward.simulate.faults.load import Prober
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.faults.tools import small_disk, strace, traced
from doorward.simulate.local_utility import LocalUtility

DISK_MB = 24
RECOVERY_S_MAX = 60.0
SYNCS = "fdatasync,fsync"
BREAKS = (
    (SYNCS, f"{SYNCS}:error=EIO:when=1+3", "fsync says EIO"),
    ("pwrite64", "pwrite64:error=EIO:when=1+5", "a write says EIO"),
    ("pwrite64", "pwrite64:error=ENOSPC:when=1+2", "a write says that the disk is full"),
    (SYNCS, f"{SYNCS}:error=ENOSPC:when=1+1", "fsync says that the disk is full"),
)
"""What is traced, what is injected (at every so many calls), and in words."""
HONEST = {202, 200, 503, 429}
"""What may be answered while the disk is broken; 0 stands for no answer."""


def full(stage: Stage, report: Report) -> None:
    """The disk of the CCS, then of a gateway, is full for a while, again and again."""
    with ExitStack() as stack:

        def small_disks(utility: LocalUtility) -> None:
            for place in _places(utility):
                stack.enter_context(small_disk(place, DISK_MB))

        with scene(stage.rng, stage.engines, homes=1, prepare=small_disks) as running:
            ccs, gateway = _places(running.utility)
            with _probed(running, report) as prober:
                for _ in range(stage.times(full=6, quick=1)):
                    with _filled(ccs):
                        report.did["CCS's disk full"] += 1
                        refused = prober.count(503)
                        running.until(lambda n=refused: prober.count(503) > n, "503 while the disk is full")  # type: ignore[misc]
                        prober.go_on(running.rng.uniform(1.0, 3.0))
                    _recovers(running, report)
                    with _filled(gateway):
                        report.did["gateway's disk full"] += 1
                        prober.go_on(running.rng.uniform(1.0, 3.0))
                    _recovers(running, report)


def broken(stage: Stage, report: Report) -> None:
    """System calls of the CCS, then of a gateway, fail as those of a broken disk do."""
    strace()
    with (
        scene(stage.rng, stage.engines, homes=1) as running,
        _probed(running, report) as prober,
    ):
        for calls, inject, words in BREAKS * stage.times(full=2, quick=1):
            for name in ("ccs", *running.gateways):
                log = running.utility.directory / f"{name}.strace"
                pid = running.utility.processes[name].child.pid
                with traced(pid, calls, inject, log=log) as tracer:
                    prober.go_on(running.rng.uniform(2.0, 4.0))
                report.did[f"{'CCS' if name == 'ccs' else 'gateway'}: {words}"] += tracer.injected()
                _recovers(running, report)


def _places(utility: LocalUtility) -> tuple[Path, Path]:
    """Where the CCS and the first gateway keep what they keep."""
    return utility.directory / "ccs", utility.directory / "gateways" / utility.plan.homes[0].gateway


@contextmanager
def _probed(running: Scene, report: Report) -> Iterator[Prober]:
    """Load, and beside it somebody who counts how each single call is answered; at the end, the verdict."""
    prober = running.prober()
    running.begin()
    yield prober
    running.end()
    report.verdict = running.verdict()
    answers = dict(prober.answers)
    report.figures |= {f"answers {status}": count for status, count in sorted(answers.items())}
    lies = {status: count for status, count in answers.items() if status not in HONEST}
    report.require(not lies, f"while a disk is broken the answer is 503 or true, but {lies}")


@contextmanager
def _filled(place: Path) -> Iterator[None]:
    """Fill a disk to the last byte, until the block ends."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as opened:
        try:
            while True:
                opened.write(os.urandom(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


def _recovers(running: Scene, report: Report) -> None:
    """By itself, and soon."""
    running.utility.require_alive()
    took_s = running.works_again()
    report.figures["s to recover, slowest"] = max(
        round(took_s, 1), report.figures.get("s to recover, slowest", 0)
    )
    report.require(took_s < RECOVERY_S_MAX, f"recovery within {RECOVERY_S_MAX:.0f} s")
