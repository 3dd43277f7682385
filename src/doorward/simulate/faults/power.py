"""The power goes, and with it whatever was written and not synced: under the CCS, and under a gateway (P1).

The file system is ``lossy_fs.py``. That it does lose is shown each time, by a database that does not sync.
"""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from doorward.simulate.faults.report import Report, ToolMissing
from doorward.simulate.faults.scene import scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.faults.tools import python_with_fuse
from doorward.simulate.local_utility import LocalUtility

MOUNT_WAIT_S_MAX = 20.0
LOOK_S = 0.05
ROWS = 50


class LossyDisk:
    """A lossy disk mounted at ``mount``, until :meth:`close`."""

    def __init__(self, store: Path, mount: Path) -> None:
        self._python = python_with_fuse()
        self._store, self._mount = store, mount
        self._served: subprocess.Popen[bytes] | None = None
        for place in (store, mount):
            place.mkdir(parents=True, exist_ok=True)

    def mount(self, seed: int | None = None) -> None:
        """Put it there. With a ``seed``, a random half of what is not synced survives the next cut."""
        script = Path(__file__).with_name("lossy_fs.py")
        command = [self._python, str(script), str(self._store), str(self._mount)]
        self._served = subprocess.Popen(command + ([] if seed is None else [str(seed)]))
        until_s = time.monotonic() + MOUNT_WAIT_S_MAX
        while not os.path.ismount(self._mount):
            if self._served.poll() is not None or time.monotonic() > until_s:
                raise ToolMissing("a file system in user space cannot be mounted here")
            time.sleep(LOOK_S)

    def cut(self) -> None:
        """The power goes: what is not synced is lost, and nothing is mounted any more."""
        if self._served is not None:
            self._served.send_signal(signal.SIGUSR1)
            with suppress(OSError):  # Python sees a signal when it is called: ask for something
                (self._mount / f"poke-{time.monotonic_ns()}").exists()
            self._served.wait(MOUNT_WAIT_S_MAX)
            self._served = None
            subprocess.run(["fusermount", "-u", "-z", str(self._mount)], check=False)


def power_cuts(stage: Stage, report: Report) -> None:
    """Cut the power of the CCS, then of a gateway, in mid load, again and again."""
    with ExitStack() as stack:
        disks: dict[str, LossyDisk] = {}

        def lossy(utility: LocalUtility) -> None:
            gateway = utility.plan.homes[0].gateway
            for name, place in (("ccs", "ccs"), (gateway, f"gateways/{gateway}")):
                disk = LossyDisk(utility.directory / f"{name}.store", utility.directory / place)
                stack.callback(disk.cut)
                disk.mount(stage.rng.getrandbits(30))
                disks[name] = disk

        with scene(stage.rng, stage.engines, homes=1, prepare=lossy) as running:
            _show_that_it_loses(running.utility.directory / "shown", report)
            running.begin()
            for number in range(stage.times(full=40, quick=2)):
                running.wait(0.5, 2.0)
                name = ("ccs", running.gateways[0])[number % 2]
                running.kill(name)
                disks[name].cut()
                disks[name].mount(None if number % 4 == 0 else stage.rng.getrandbits(30))
                report.did[f"power of the {'CCS' if name == 'ccs' else 'gateway'} cut"] += 1
                running.start(name)
            running.wait(1.0, 2.0)
            running.end()
            report.verdict = running.verdict()


def _show_that_it_loses(place: Path, report: Report) -> None:
    """Rows that were committed without syncing are gone after a cut; synced ones are there."""
    kept = {}
    for synchronous in ("OFF", "FULL"):
        disk = LossyDisk(place / f"{synchronous}.store", place / synchronous)
        disk.mount()
        with _committed(place / synchronous / "rows.sqlite", synchronous):
            disk.cut()
        kept[synchronous] = _rows(place / f"{synchronous}.store" / "rows.sqlite")
    report.figures |= {f"rows of {ROWS} after a cut, {mode}": count for mode, count in kept.items()}
    report.require(kept["OFF"] < ROWS, "the file system loses what was not synced")
    report.require(kept["FULL"] == ROWS, "the file system keeps what was synced")


@contextmanager
def _committed(file: Path, synchronous: str) -> Iterator[None]:
    """Commit rows one by one, and do not close the database: closing syncs."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE row (number INTEGER)")
    for number in range(ROWS):
        connection.execute("INSERT INTO row VALUES (?)", (number,))
    yield
    connection.close()


def _rows(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        try:
            (count,) = connection.execute("SELECT count(*) FROM row").fetchone()
        except sqlite3.DatabaseError:
            return 0
    return int(count)
