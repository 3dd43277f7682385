"""A message's journey as people read it: one record, four readings (X01). Pure.

The record is the journal's. What each role sees of it is decided here and nowhere else: a customer five
stops, a developer the utility's side whole and the home's as durations, a representative every step with
what is personal masked, an operator or auditor all of it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from doorward.ccs.rules.facts import JournalRow, Request, StepRecord
from doorward.ccs.rules.people import Role
from doorward.wire.reasons import SENTENCES, Reason
from doorward.wire.steps import SCENARIO, Outcome, Step
from doorward.wire.vocabulary import Operation

State = Literal[
    "done", "running", "waiting", "refused", "failed", "timed out", "skipped", "not reached", "kept back"
]


class Station(StrEnum):
    """Where a step happens."""

    COMPANY = "Company"
    UTILITY = "Utility"
    GATEWAY = "Gateway"
    NETWORK = "Home network"
    DEVICE = "Device"


class Plain(msgspec.Struct, frozen=True):
    """One of the seventeen steps: where, the journal's word for it, its name for readings and for controls."""

    station: Station
    step: Step
    name: str
    control: str = ""
    back: bool = False


STEPS: tuple[Plain, ...] = (
    Plain(Station.COMPANY, Step.RECEIVED, "The company asked"),
    Plain(Station.UTILITY, Step.AUTHENTICATED, "Checked who is asking"),
    Plain(Station.UTILITY, Step.AUTHORISED, "Checked the customer's permission"),
    Plain(Station.UTILITY, Step.RECORDED, "Put the request on record"),
    Plain(Station.UTILITY, Step.DESTINATION_AUTHENTICATED, "Checked which gateway it goes to"),
    Plain(Station.UTILITY, Step.PASSED_TO_GATEWAY, "Sent it to the gateway"),
    Plain(Station.GATEWAY, Step.GATEWAY_RECEIVED, "The gateway has it, and checked again"),
    Plain(Station.GATEWAY, Step.PASSED_TO_HAN, "Passed it to the home network"),
    Plain(Station.NETWORK, Step.PASSED_TO_HAN, "Carried it to the device"),
    Plain(Station.DEVICE, Step.DEVICE_ANSWERED, "The device answered", "The device did it, and said so"),
    Plain(Station.GATEWAY, Step.ANSWER_RECEIVED, "The gateway has the answer", back=True),
    Plain(Station.GATEWAY, Step.PASSED_TO_CCS, "Passed it up to the utility", back=True),
    Plain(Station.UTILITY, Step.ANSWER_RECORDED, "Put the answer on record", back=True),
    Plain(Station.UTILITY, Step.TARGET_AUTHENTICATED, "Checked who is to have it", back=True),
    Plain(Station.UTILITY, Step.TARGET_AUTHORISED, "Checked the permission again", back=True),
    Plain(Station.COMPANY, Step.HANDING_OVER, "The company has the answer", back=True),
    Plain(Station.UTILITY, Step.HANDED_OVER, "Put the hand-over on record", back=True),
)
"""S1.01–S1.17 and S2.03–S2.18, in plain words."""

INSIDE = range(6, 12)
"""Places of the steps between the utility's door and its door again: the home's side."""
CHECKS: dict[Step, tuple[Step, ...]] = {
    Step.AUTHENTICATED: (Step.AUTHENTICATED,),
    Step.AUTHORISED: (Step.VALIDATED, Step.AUTHORISED, Step.ADMITTED),
    Step.GATEWAY_RECEIVED: (Step.GATEWAY_CHECKED,),
    Step.TARGET_AUTHENTICATED: (Step.TARGET_AUTHENTICATED,),
    Step.TARGET_AUTHORISED: (Step.TARGET_AUTHORISED,),
}
"""Step → the checks in the journal that belong to it."""
CHECK_WORDS: dict[Step, str] = {
    Step.AUTHENTICATED: "the company proved who it is",
    Step.VALIDATED: "the message follows its format",
    Step.AUTHORISED: "the customer's permission covers it",
    Step.ADMITTED: "the limits leave room for it",
    Step.GATEWAY_CHECKED: "the gateway's own copy of the permission covers it",
    Step.TARGET_AUTHENTICATED: "whoever is to have the answer proved who it is",
    Step.TARGET_AUTHORISED: "the permission still stands, at that moment",
}
REFUSED_AT: dict[Step, Step] = {Step.VALIDATED: Step.AUTHORISED, Step.ADMITTED: Step.AUTHORISED}
"""Checks without a step of their own → the step that they end."""
BAD: dict[Outcome, State] = {Outcome.REFUSED: "refused", Outcome.FAILED: "failed", Outcome.WAITING: "waiting"}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a step, and whether it passed."""

    words: str
    passed: bool
    detail: str = ""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it went. ``took_us`` is since the step before; 0 times mean not (yet)."""

    number: int
    name: str
    station: Station
    back: bool
    state: State
    at_us: int = 0
    took_us: int = 0
    reason: Reason | None = None
    detail: str = ""
    checks: list[Check] = []
    scenario: list[str] = []
    tries: int = 1


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why it did not go well, who can mend it, and what to do."""

    why: str
    who: str
    what: str
    detail: str = ""
    """What exactly was wrong, in technical words."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A journey as one role reads it."""

    stops: list[Stop]
    state: State
    began_us: int
    ended_us: int
    answered_us: int = 0
    """When the company got the answer."""
    inside_us: int = 0
    """For developers: how long the home's side took, where its steps are not shown."""
    trouble: Trouble | None = None
    over: bool = False
    beside: list[str] = []
    """What happened beside the straight way, in sentences."""

    @property
    def total_us(self) -> int:
        """From the first step to the last."""
        return max(0, self.ended_us - self.began_us)


FIXES: dict[Reason, tuple[str, str]] = {
    Reason.DEVICE_UNAVAILABLE: (
        "The customer",
        "See whether the device is switched on and near the gateway.",
    ),
    Reason.DEVICE_REFUSED: (
        "The customer",
        "Look at the device: it may be locked, or in a mode that forbids it.",
    ),
    Reason.DEVICE_FAULT: (
        "The customer",
        "The device reports a fault: look at it, or call whoever services it.",
    ),
    Reason.CUSTOMER_OVERRIDE: ("Nobody", "Somebody at home chose otherwise, and that stands."),
    Reason.GATEWAY_UNREACHABLE: (
        "The utility",
        "The gateway is not connected. It is tried again by itself when it is back.",
    ),
    Reason.POWER_OUTAGE: ("The utility", "Wait until power is back."),
    Reason.ACCESS_DISABLED: ("The customer", "Access was withdrawn. Only the customer can allow it again."),
    Reason.ACCESS_ENDED: ("The customer", "The permission has run out. The customer can give it again."),
    Reason.ACCESS_PAUSED: (
        "The customer",
        "The customer paused access; it goes on by itself after the pause.",
    ),
    Reason.OPERATION_NOT_PERMITTED: ("The company", "Ask only for what the customer allowed on this device."),
    Reason.OUTSIDE_CUSTOMER_LIMITS: ("The company", "Stay within the customer's limits for this device."),
    Reason.LIMIT_EXCEEDED: ("The company", "Wait until the window has room again, or ask for fewer."),
    Reason.SERVICE_OFF: ("The utility", "Service at the address is off; contracts ended with it."),
    Reason.CUSTOMER_PROTECTED: (
        "Nobody",
        "The utility protects this customer from being switched from outside. Reading goes on.",
    ),
    Reason.DEADLINE_PASSED: ("The utility", "It was not done in time. A representative can test the way."),
    Reason.NO_PROOF: ("The utility", "Nobody knows whether it happened. Read the device to see."),
    Reason.CANCELLED: ("Nobody", "It was cancelled as asked."),
    Reason.DEVICE_UNKNOWN: ("The company", "Ask for devices that the customer allowed."),
    Reason.UTILITY_HOLD: ("The utility", "Third parties are held for now; try later."),
}
"""Reason → who can mend it, and what to do."""
ELSE = ("The utility", "Call with the reference; a representative can look at every step.")


def read_journey(rows: Sequence[JournalRow], request: Request | None, role: Role, now_us: int) -> Reading:
    """Return a journey as a role reads it. ``request`` is ``None`` for an attempt that never became one."""
    steps = [step for row in rows for step in row.steps]
    control = request is not None and request.operation is not Operation.READ
    stops = _stops(steps, request, control)
    began_us = min((step.at_us for step in steps), default=now_us)
    over = _is_over(request)
    last_us = max((step.at_us for step in steps), default=now_us)
    whole = Reading(
        stops=stops,
        state=_overall(stops, request),
        began_us=began_us,
        ended_us=last_us if over else now_us,
        answered_us=stops[15].at_us,
        trouble=_trouble(steps, request),
        over=over,
        beside=_beside(steps),
    )
    return _as_read_by(whole, role)


def _is_over(request: Request | None) -> bool:
    if request is None:
        return True
    return bool(request.final_us) and request.answer != ""


def _stops(steps: Sequence[StepRecord], request: Request | None, control: bool) -> list[Stop]:
    found = _by_step(steps)
    reached = max(
        (at for at, plain in enumerate(STEPS) if plain.step in found and _counts(plain, found)), default=-1
    )
    broken = _broken(steps, request)
    withheld = request is not None and request.answer == "WITHHELD"
    stops: list[Stop] = []
    before_us = 0
    for at, plain in enumerate(STEPS):
        step = found.get(plain.step) if _counts(plain, found) else None
        state = _state(at, step, reached, broken, request, withheld, plain)
        at_us = step[-1].at_us if step and state not in ("not reached", "waiting") else 0
        stops.append(
            Stop(
                number=at + 1,
                name=plain.control if control and plain.control else plain.name,
                station=plain.station,
                back=plain.back,
                state=state,
                at_us=at_us,
                took_us=max(0, at_us - before_us) if at_us and before_us else 0,
                reason=_reason(state, step, request),
                detail=step[-1].detail if step else request.detail if request and state == "failed" else "",
                checks=_checks(plain, found),
                scenario=list(SCENARIO[plain.step][1 if control else 0]) if plain.step in SCENARIO else [],
                tries=len(step) if step else 1,
            )
        )
        before_us = at_us or before_us
    return stops


def _reason(state: State, step: list[StepRecord] | None, request: Request | None) -> Reason | None:
    if step and state != "done":
        return step[-1].reason
    return request.reason if request is not None and state == "failed" else None


def _counts(plain: Plain, found: dict[Step, list[StepRecord]]) -> bool:
    """The home network carried it only once the device has answered: the journal has one word for both."""
    if plain.station is Station.NETWORK:
        return Step.DEVICE_ANSWERED in found
    return True


def _by_step(steps: Sequence[StepRecord]) -> dict[Step, list[StepRecord]]:
    found: dict[Step, list[StepRecord]] = {}
    for step in steps:
        bad = step.outcome in (Outcome.REFUSED, Outcome.FAILED)
        name = REFUSED_AT.get(step.step, step.step) if bad else step.step
        if name is Step.GATEWAY_CHECKED and bad:
            name = Step.GATEWAY_RECEIVED
        found.setdefault(name, []).append(step)
        if name is not step.step:
            found.setdefault(step.step, []).append(step)
    return found


def _broken(steps: Sequence[StepRecord], request: Request | None) -> bool:
    """Whether the straight way has ended before its end."""
    if request is None:
        return True
    return bool(request.final_us) and request.state not in ("DONE", "FAILED")


def _state(
    at: int,
    step: list[StepRecord] | None,
    reached: int,
    broken: bool,
    request: Request | None,
    withheld: bool,
    plain: Plain,
) -> State:
    at_home = _broke_at_home(request)
    if step:
        if plain.step is Step.ANSWER_RECORDED:
            return "done"  # that it did not work is on record too
        return BAD.get(step[-1].outcome, "done")
    if at_home and plain.station in (Station.NETWORK, Station.DEVICE):
        return "failed" if plain.station is Station.DEVICE else "done"
    if at_home and plain.step is Step.ANSWER_RECEIVED:
        return "not reached"
    if withheld and plain.step in (Step.TARGET_AUTHORISED,):
        return "kept back"
    if at < reached:
        return "skipped"
    if withheld:
        return "not reached"
    if request is not None and request.state in ("EXPIRED", "UNCONFIRMED") and at == reached + 1:
        return "timed out"
    if broken and not plain.back:
        return "not reached"
    if broken:
        return (
            "not reached" if at < 13 else ("waiting" if not (request and request.answer) else "not reached")
        )
    if request is not None and request.answer == "UNDELIVERED":
        return "timed out" if at == reached + 1 else "not reached"
    return "running" if at == reached + 1 else "waiting"


def _broke_at_home(request: Request | None) -> bool:
    """Whether the gateway passed it on and the device did not do it."""
    return request is not None and request.state == "FAILED" and bool(request.to_han_us)


def _checks(plain: Plain, found: dict[Step, list[StepRecord]]) -> list[Check]:
    return [
        Check(words=CHECK_WORDS[name], passed=step.outcome is Outcome.OK, detail=step.detail)
        for name in CHECKS.get(plain.step, ())
        for step in found.get(name, ())[-1:]
    ]


def _overall(stops: Sequence[Stop], request: Request | None) -> State:
    if request is None:
        return "refused"
    if request.answer == "WITHHELD":
        return "kept back"
    ends: dict[str, State] = {
        "DONE": "done",
        "FAILED": "failed",
        "REFUSED": "refused",
        "EXPIRED": "timed out",
        "UNCONFIRMED": "timed out",
        "CANCELLED": "skipped",
    }
    return ends.get(request.state, "running")


def _trouble(steps: Sequence[StepRecord], request: Request | None) -> Trouble | None:
    reason = request.reason if request is not None else None
    detail = request.detail if request is not None else ""
    if request is not None and request.answer == "WITHHELD":
        reason, detail = Reason.ACCESS_DISABLED, ""
    if reason is None:
        bad = [step for step in steps if step.outcome in (Outcome.REFUSED, Outcome.FAILED) and step.reason]
        if not bad or (
            request is not None and request.state in ("DONE", "SENT", "AT_GATEWAY", "QUEUED", "ACCEPTED")
        ):
            return None
        reason, detail = bad[-1].reason, bad[-1].detail
    if reason is None:
        return None
    who, what = FIXES.get(reason, ELSE)
    said = SENTENCES[reason]
    return Trouble(why=said, who=who, what=what, detail="" if detail == said else detail)


BESIDE: dict[Step, str] = {
    Step.RELEASED: "The device went back to the customer's own setting",
    Step.CANCEL_ASKED: "It was asked to be cancelled",
    Step.WARNED: "The company was warned that it was late",
    Step.RECHARGED: "It had waited long, and was counted anew",
    Step.SETTLED: "Proof of what happened came later",
    Step.WITHHELD: "The answer was kept back",
    Step.EXPIRED: "Its deadline passed",
    Step.UNDELIVERED: "Nobody took the answer for three days",
}


def _beside(steps: Sequence[StepRecord]) -> list[str]:
    return [
        f"{BESIDE[step.step]}{': ' + step.detail if step.detail else ''}"
        for step in steps
        if step.step in BESIDE
    ]


# ---- who sees what ----------------------------------------------------------------------------------------


def _as_read_by(whole: Reading, role: Role) -> Reading:
    if role is Role.CUSTOMER:
        plain = whole.trouble and msgspec.structs.replace(whole.trouble, detail="")
        return msgspec.structs.replace(whole, stops=_five(whole.stops), trouble=plain)
    if role is Role.DEVELOPER:
        kept = [stop for stop in whole.stops if stop.number - 1 not in INSIDE]
        inside = [stop.at_us for stop in whole.stops if stop.number - 1 in INSIDE and stop.at_us]
        sent = whole.stops[INSIDE.start - 1].at_us
        took_us = max(inside, default=0) - sent if inside and sent else 0
        return msgspec.structs.replace(whole, stops=kept, inside_us=max(0, took_us))
    if role is Role.REPRESENTATIVE:
        return msgspec.structs.replace(whole, stops=[_masked(stop) for stop in whole.stops])
    return whole


def _masked(stop: Stop) -> Stop:
    """A representative reads what went wrong, and not what devices said."""
    if stop.state in ("refused", "failed"):
        return stop
    checks = [msgspec.structs.replace(check, detail="") for check in stop.checks]
    return msgspec.structs.replace(stop, detail="", checks=checks)


FIVE: tuple[tuple[Station, str, tuple[int, ...], tuple[int, ...]], ...] = (
    (Station.COMPANY, "The company asked", (0,), ()),
    (Station.UTILITY, "The utility checked your permission", (1, 2, 3, 4, 5), (12, 13, 14)),
    (Station.GATEWAY, "Your gateway checked it again, and passed it on", (6, 7), (10, 11)),
    (Station.NETWORK, "It went through your home network", (8,), ()),
    (Station.DEVICE, "Your device answered", (9,), ()),
)
"""A customer's stops: station, what happens there, the steps on the way out, and those on the way back."""
WORST: tuple[State, ...] = ("refused", "failed", "timed out", "kept back")


def _five(stops: Sequence[Stop]) -> list[Stop]:
    shown = []
    for number, (station, name, out, back) in enumerate(FIVE, start=1):
        going, all_parts = [stops[at] for at in out], [stops[at] for at in (*out, *back)]
        broken = next((part for word in WORST for part in all_parts if part.state == word), None)
        ends = [part.state for part in going if part.state != "skipped"]
        shown.append(
            Stop(
                number=number,
                name=name,
                station=station,
                back=False,
                state=broken.state if broken else (ends[-1] if ends else "skipped"),
                at_us=max((part.at_us for part in going), default=0),
                took_us=sum(part.took_us for part in all_parts),
                reason=broken.reason if broken else None,
                checks=[
                    msgspec.structs.replace(check, detail="") for part in all_parts for check in part.checks
                ],
            )
        )
    return shown
