"""A gateway is away for long, its home without power or its line cut, and comes back (P4, P19, N07).

Hours are played in seconds: deadlines and the time of the warning are shortened. (Days in virtual time are the
simulation's.) What could still be done in time is done on its return, in the order in which it was asked;
what could not is said to have expired, and the third party was warned while it lasted.
"""

import time

from doorward.simulate.faults.load import Trader
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import Scene, scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.local_utility import EMBEDDED

WARN_AFTER_S = 2
SHORT_S = 6.0
LONG_S = 300.0
ASKED = 8


def away(stage: Stage, report: Report) -> None:
    """The gateway is switched off; with a broker its line is cut instead, every second time."""
    with scene(stage.rng, stage.engines, homes=1, settings={"warn_after_s": WARN_AFTER_S}) as running:
        trader = running.traders[0]
        for number in range(stage.times(full=6, quick=1)):
            cut = stage.engines != EMBEDDED and number % 2 == 1
            name = "broker" if cut else running.gateways[0]
            running.kill(name)
            report.did["line cut" if cut else "gateway switched off"] += 1
            asked = _ask(trader, (SHORT_S, LONG_S))
            running.wait(SHORT_S + 6.0, SHORT_S + 10.0)
            running.start(name)
            running.until(lambda asked=asked: all(trader.client.get(id).is_final for id in asked), "all end")  # type: ignore[misc]
            _judge(running, trader, asked, report)
        report.verdict = running.verdict()


def _ask(trader: Trader, deadlines_s: tuple[float, float]) -> list[str]:
    """Ask with deadlines that pass before the gateway is back, and others; return the ids."""
    asked = []
    for number in range(ASKED):
        trader.deadline_s = deadlines_s[number % 2]
        told = trader.ask()
        assert told is not None
        asked.append(told.id)
        time.sleep(0.05)
    return asked


def _judge(running: Scene, trader: Trader, asked: list[str], report: Report) -> None:
    """Short ones expired, long ones are done, in order; each of both was warned about."""
    states = [trader.client.get(id).state for id in asked]
    report.require(
        all(state in ("EXPIRED", "UNCONFIRMED") for state in states[::2]),
        f"what could not be is said: {states}",
    )
    report.require(set(states[1::2]) == {"DONE"}, f"what could be done on its return is done: {states}")
    warned = [id for id in asked if "warned" in [step.step for step in trader.client.journey(id).steps]]
    report.require(len(warned) == len(asked), f"{len(warned)} of {len(asked)} were warned about in time")
    powers = {told.id: told.power for told in trader.told}
    acted = [at_us for id in asked for at_us in running.acts(powers[id])]
    report.require(acted == sorted(acted), "a device is told in the order in which it was asked")
    report.did["requests while it was away"] += len(asked)
