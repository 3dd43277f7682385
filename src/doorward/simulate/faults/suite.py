"""The faults by name, and playing them one after the other."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from doorward.simulate.faults import (
    away,
    backup,
    clocks,
    crash_points,
    disk,
    kills,
    power,
    rotation,
    storm,
    workers,
)
from doorward.simulate.faults.report import Report, ToolMissing
from doorward.simulate.faults.stage import Stage
from doorward.simulate.local_utility import EMBEDDED, ENGINES, PRODUCTION
from doorward.simulate.services import ServiceUnavailable

POSTGRESQL = ("postgresql", "websocket")

Engines = tuple[str, str]


@dataclass(frozen=True)
class Fault:
    """A fault, and on which pairs of engines it is played."""

    play: Callable[[Stage, Report], None]
    engines: Sequence[Engines]


FAULTS: dict[str, Fault] = {
    "kills": Fault(kills.kills, ENGINES),
    "broker-wiped": Fault(kills.broker_wiped, (PRODUCTION,)),
    "database-restarted": Fault(kills.database_restarted, (POSTGRESQL, PRODUCTION)),
    "rolling-restart": Fault(workers.rolling_restart, (PRODUCTION,)),
    "crash-points": Fault(crash_points.crash_points, (EMBEDDED,)),
    "power-cuts": Fault(power.power_cuts, (EMBEDDED,)),
    "reconnect-storm": Fault(storm.storm, (EMBEDDED,)),
    "gateway-away": Fault(away.away, (EMBEDDED, PRODUCTION)),
    "backup-restored": Fault(backup.restored, (EMBEDDED,)),
    "clocks": Fault(clocks.clocks, (EMBEDDED,)),
    "disk-full": Fault(disk.full, (EMBEDDED,)),
    "disk-broken": Fault(disk.broken, (EMBEDDED,)),
    "key-rotation": Fault(rotation.key_rotation, (PRODUCTION,)),
    "frozen-worker": Fault(workers.frozen, (PRODUCTION,)),
}
"""In the order in which they are played."""


def play(name: str, engines: Engines, *, seed: int, quick: bool) -> Report:
    """Play one fault; whatever goes wrong stands in the report."""
    report = Report(name, "+".join(engines))
    began_s = time.monotonic()
    try:
        stage = Stage(rng=random.Random(f"{seed} {name} {engines}"), engines=engines, quick=quick)
        FAULTS[name].play(stage, report)
    except (ToolMissing, ServiceUnavailable) as missing:
        report.missing = str(missing)
    except Exception as error:
        report.wrong.append(f"{type(error).__name__}: {error}")
    report.seconds = time.monotonic() - began_s
    return report


def play_all(names: Iterable[str], *, engines: Sequence[Engines], seed: int, quick: bool) -> Iterator[Report]:
    """Play faults on all their pairs of engines that are among ``engines``, one after the other."""
    for name in names:
        for pair in FAULTS[name].engines:
            if pair in engines:
                yield play(name, pair, seed=seed, quick=quick)


def embedded_only(name: str) -> bool:
    """Whether a fault needs neither PostgreSQL nor a broker."""
    return EMBEDDED in FAULTS[name].engines
