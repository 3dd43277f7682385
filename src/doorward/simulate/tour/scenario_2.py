"""Scenario 2: what is running, and then controls: off, limit, programme; Modbus and OCPP; one for the home."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from doorward.client import ask
from doorward.simulate.tour.evidence import FILE, PARTY, Chapter, Seen, Trace, all_of, seen
from doorward.simulate.tour.neighbourhood import CONTROLLED
from doorward.simulate.tour.scenario_1 import had, readings
from doorward.simulate.tour.stage import Stage
from doorward.wire.steps import SCENARIO, Step

Line = dict[str, Any]
HOLD = timedelta(minutes=30)
CHARGER_W = 3000.0
HEAT_PUMP_W = 1200.0
HOME_W = 2500.0
CELSIUS = 17.0
SETTLE_WAIT_S_MAX = 5.0
"""How long a device may take until what it draws is what it was told."""


@dataclass(frozen=True)
class Control:
    """A control, the device, how the device's own file shows it, and the most that it then draws, in W."""

    what: str
    device: str
    ask: ask.Ask
    holds: Callable[[Line], bool]
    watts_max: float


CONTROLS = (
    Control("turned off (Modbus)", "PP-2", ask.turn_off("PP-2", until=HOLD),
            lambda line: line["name"] == "on" and line["effect"][1] is False, 0.0),
    Control("limited (Modbus)", "HP-2", ask.limit("HP-2", watts=HEAT_PUMP_W, until=HOLD),
            lambda line: line["name"] == "limit_w" and line["effect"][1] == HEAT_PUMP_W, HEAT_PUMP_W),
    Control("limited (OCPP 1.6)", "EV-2", ask.limit("EV-2", watts=CHARGER_W, until=HOLD),
            lambda line: limits_charging(line, CHARGER_W), CHARGER_W),
    Control("limited (OCPP 2.0.1)", "EV-3", ask.limit("EV-3", watts=CHARGER_W, until=HOLD),
            lambda line: limits_charging(line, CHARGER_W), CHARGER_W),
    Control("programmed (Modbus)", "TH-2",
            ask.program("TH-2", [{"at": "00:00", "celsius": CELSIUS}], until=HOLD),
            lambda line: line["name"] == "program" and line["effect"][1] == [{"minute": 0, "celsius": CELSIUS}],
            float("inf")),
)  # fmt: skip


def limits_charging(line: Line, watts: float) -> bool:
    """Whether a charger's line shows a charging profile in force that allows no more than ``watts``."""
    return line["name"] == "profiles" and any(
        0 < allowed <= watts for _, _, periods, _ in line["effect"][1] for _, allowed in periods
    )


def scenario_2(stage: Stage) -> Chapter:
    """Play it; every step is read from what was written down, for each of the controls."""
    home = CONTROLLED
    stage.await_chargers()
    first = stage.trace(ask.read_home(home.service_point), home)
    traces = [stage.trace(control.ask, home) for control in CONTROLS]
    powers = [_settled(stage, control) for control in CONTROLS]
    whole = stage.trace(ask.limit(service_point=home.service_point, watts=HOME_W, until=HOLD), home)
    drawn = _settled_home(stage)
    first, whole, *traces = stage.with_log([first, whole, *traces], home.gateway)
    ids = dict.fromkeys(id for _, ids in SCENARIO.values() for id in ids)
    steps = {id: all_of(id, _looks(id, traces)) for id in ids}
    steps["S2.01"] = _running(first)
    steps["S2.02"] = _decided(first, traces)
    steps["S2.08"] = all_of("S2.08", _carried(traces))
    steps["S2.09"] = all_of("S2.09", _obeyed(traces, powers))
    steps["S2.09b"] = _whole(whole, drawn)
    steps["S2.17"] = all_of("S2.17", (had(trace, "S2.17") for trace in traces))
    return Chapter.of(2, [steps[id] for id in sorted(steps)])


def _looks(id: str, traces: list[Trace]) -> Iterable[Seen]:
    """A row may stand for several steps of the way: authenticates *and* authorises."""
    steps = [step for step, (_, ids) in SCENARIO.items() if id in ids]
    return (trace.step(id, step) for trace in traces for step in steps)


def _running(first: Trace) -> Seen:
    """S2.01: scenario 1 told what is running."""
    running = [each["device"] for each in readings(first) if each["power_w"] > 0]
    why = had(first, "S2.01").why or ("" if running else "nothing is running")
    return seen("S2.01", f"running: {', '.join(running)}", PARTY, first.had_us, why)


def _decided(first: Trace, traces: list[Trace]) -> Seen:
    """S2.02: each control is for one device of those that we were told of, and came after that."""
    told = {each["device"] for each in readings(first)}
    late = [trace.asked_us >= first.had_us for trace in traces]
    asked = {trace.request.device for trace in traces}
    why = (
        ""
        if asked <= told and all(late)
        else f"controls of {sorted(map(str, asked - told))} without a reading"
    )
    return seen("S2.02", f"decided on {', '.join(sorted(map(str, asked)))}", PARTY, traces[0].asked_us, why)


def _carried(traces: list[Trace]) -> Iterable[Seen]:
    """S2.08: the home network carried it: the device wrote that it came."""
    for control, trace in zip(CONTROLS, traces, strict=True):
        line = trace.written(control.device, lambda _: True)
        why = "" if line else f"{control.device} wrote nothing"
        yield seen("S2.08", "the command reached each device", FILE, line["at_us"] if line else 0, why)


def _obeyed(traces: list[Trace], powers: list[float]) -> Iterable[Seen]:
    """S2.09: the device wrote that it did what was asked, and draws no more than that."""
    for control, trace, power_w in zip(CONTROLS, traces, powers, strict=True):
        line = trace.written(control.device, control.holds)
        why = "" if line else f"{control.device} was not {control.what}: {trace.file.get(control.device)}"
        if line and power_w > control.watts_max:
            why = f"{control.device} draws {power_w:.0f} W"
        what = ", ".join(f"{each.device} {each.what}" for each in CONTROLS)
        yield seen("S2.09", what, FILE, line["at_us"] if line else 0, why)


def _whole(whole: Trace, drawn: float) -> Seen:
    """S2.09b: one limit for the service point is met across its devices; several wrote that they obeyed."""
    obeyed = [device for device, lines in whole.file.items() if any(not line["repeat"] for line in lines)]
    lines = [line for device in obeyed for line in whole.file[device]]
    done = whole.step("S2.09b", Step.ANSWER_RECORDED)
    why = done.why or ("" if obeyed else "no device did anything")
    if not why and drawn > HOME_W:
        why = f"the home draws {drawn:.0f} W"
    what = f"at most {HOME_W:.0f} W for the home: {drawn:.0f} W; changed: {', '.join(obeyed)}"
    return seen("S2.09b", what, FILE, max((line["at_us"] for line in lines), default=0), why)


def _settled(stage: Stage, control: Control) -> float:
    """Return what a device draws, once it is no more than it may, or when the time is up."""
    return _until_at_most(stage, lambda: _power_w(stage, control.device), control.watts_max)


def _settled_home(stage: Stage) -> float:
    devices = [each.id for each in CONTROLLED.equipment]
    return _until_at_most(stage, lambda: sum(_power_w(stage, device) for device in devices), HOME_W)


def _until_at_most(stage: Stage, power: Callable[[], float], watts_max: float) -> float:
    def look() -> float | None:
        power_w = power()
        return power_w if power_w <= watts_max else None

    found = stage.until(look, SETTLE_WAIT_S_MAX)
    return power() if found is None else found


def _power_w(stage: Stage, device: str) -> float:
    return float(stage.utility.device_state(device)["power_w"])
