"""Wrong clocks: a gateway minutes off, half a minute off, booted in 1970; steps of an hour while it runs (P23).

Truth is this machine's clock: the devices' own files have it, so that an act after its deadline, or before its
beginning, is seen whatever CCS and gateway believe.
"""

import struct
import time
from pathlib import Path

from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import PATIENT_S, Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.faults.tools import wall_clock
from doorward.simulate.local_utility import Under

BIRTH_OF_TIME = "1970"
BOOTS_S = {"+30 s": 30, "-30 s": -30, "+10 min": 600, "-10 min": -600, "+30 d": 30 * 86_400, BIRTH_OF_TIME: 0}
"""Where the wall clock of a gateway stands when it starts, from the true time; 1970 is counted when played."""
QUICK_BOOTS = ("+30 s", BIRTH_OF_TIME)
STEPS_S = (3600, -3600, 0)
"""Where it is set while the process runs, from the true time."""
EARLY_US_MAX = 1_000_000
"""How early by true time a request may begin that has a beginning: what a corrected clock may be off."""
AHEAD_S = 3.0


def clocks(stage: Stage, report: Report) -> None:
    """All of them, one after the other, under load."""
    with scene(stage.rng, stage.engines, homes=1, deadline_s=PATIENT_S) as running:
        gateway = running.gateways[0]
        library = wall_clock(running.utility.directory)
        for words in QUICK_BOOTS if stage.quick else BOOTS_S:
            offset_s = -int(time.time()) if words == BIRTH_OF_TIME else BOOTS_S[words]
            _start_at(running, gateway, library, offset_s)
            report.did[f"gateway booted at {words}"] += 1
            _go_on(running, report)
        for name in (gateway, "ccs"):
            file = _start_at(running, name, library, 0)
            for offset_s in STEPS_S * stage.times(full=2, quick=1):
                _set(file, offset_s)
                report.did[f"{'CCS' if name == 'ccs' else 'gateway'} stepped to {offset_s:+} s"] += 1
                _go_on(running, report)
        report.verdict = running.verdict()
    others = {state: count for state, count in report.verdict.states.items() if state != "DONE"}
    report.require(not others, f"a wrong clock refuses nothing that is valid, but {others}")
    report.require(not report.verdict.refused, "the third party is refused nothing")


def _start_at(running: Scene, name: str, library: str, offset_s: int) -> Path:
    """Start a process anew with a wall clock that is off; return the file that says by how much."""
    file = running.utility.directory / f"{name}.clock"
    _set(file, offset_s)
    running.kill(name)
    running.utility.under[name] = Under(environment={"LD_PRELOAD": library, "DOORWARD_CLOCK_FILE": str(file)})
    running.start(name)
    running.works_again()
    return file


def _set(file: Path, offset_s: int) -> None:
    """In place: the process has it mapped."""
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(struct.pack("<q", offset_s * 1_000_000))


def _go_on(running: Scene, report: Report) -> None:
    """Load for a while, and one request that begins in a moment."""
    running.begin()
    running.wait(2.0, 3.0)
    running.end()
    trader = running.traders[0]
    told = trader.ask(start_s=AHEAD_S)
    asked_us = time.time_ns() // 1000
    if told is None or not told.id:
        return
    running.until(lambda: trader.client.get(told.id).is_final, "the request that begins later ends")
    (acted_us,) = running.acts(told.power) or (0,)
    early_us = asked_us + int(AHEAD_S * 1e6) - acted_us
    report.require(
        not acted_us or early_us < EARLY_US_MAX, f"nothing begins before its time: {early_us} µs early"
    )
    report.did["requests with a beginning"] += 1
