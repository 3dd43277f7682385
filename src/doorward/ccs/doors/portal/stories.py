"""What happened in a home as lines that people read: when, who did what to which device, and what came of it."""

from typing import Any

import msgspec

from doorward.ccs.doors.portal.words import OUTCOMES, time_of, why
from doorward.ccs.homes import Happening, Home
from doorward.ccs.rules.facts import Request
from doorward.ccs.rules.homes import AccessChange, HomeNote
from doorward.ccs.rules.wording import degrees, span, watts
from doorward.wire.vocabulary import Operation, Scope

CHANGE_WORDS = {
    "granted": "{who} allowed {service}",
    "changed": "{who} changed what {service} may do",
    "paused": "{who} paused {service}",
    "resumed": "{who} let {service} go on",
    "withdrawn": "{who} stopped {service}",
    "ended": "The contract with {service} ended",
}
FILE_WORDS = CHANGE_WORDS | {
    "granted": "Your permission for {service} was put on record",
    "changed": "Your permission for {service} was changed on record",
    "withdrawn": "Your permission for {service} was taken off the record",
}
"""Changes that the utility carried over from its own papers."""
CAUSES = {
    "grid": "to relieve the grid",
    "price": "because of the price",
    "comfort": "for comfort",
    "customer": "as the customer wished",
    "emergency": "in an emergency",
    "test": "as a test",
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``word`` is its state (icon, word, colour), ``more`` a second sentence, ``href`` where it opens."""

    id: str
    at_us: int
    title: str
    word: str = ""
    more: str = ""
    href: str = ""
    icon: str = "dot"
    undo: str = ""
    """The control that may be undone from here."""


def line_of(item: Happening, home: Home, now_us: int, *, fahrenheit: bool, undoable: bool = False) -> Line:
    """Return one happening as a line."""
    if isinstance(item, Request):
        return _request_line(item, home, now_us, fahrenheit, undoable)
    if isinstance(item, AccessChange):
        return _change_line(item, home)
    return _note_line(item, home)


def _request_line(request: Request, home: Home, now_us: int, fahrenheit: bool, undoable: bool) -> Line:
    word, said = OUTCOMES.get(request.state, ("running", request.state))
    happened = request.state in ("DONE", "SENT", "AT_GATEWAY", "ACCEPTED", "QUEUED")
    title = request_words(request, home, fahrenheit=fahrenheit, happened=happened)
    more = ""
    if request.reason is not None and request.state != "DONE":
        more = why(request.reason)
    elif request.answer == "WITHHELD":
        word, more = "kept back", "The answer did not leave: your permission had ended."
    elif request.cause in CAUSES and request.operation.is_control:
        more = f"Asked for {CAUSES[request.cause]}."
    runs = request.operation.is_control and request.state == "DONE" and request.until_us > now_us
    return Line(
        id=request.id,
        at_us=request.received_us,
        title=title,
        word=word if request.state != "DONE" or request.answer == "WITHHELD" else "done",
        more=more or ("" if request.state == "DONE" else said.capitalize() + "."),
        href=f"/portal/journeys/{request.id}",
        icon=_icon(request, home),
        undo=request.id if undoable and runs and not request.cancel_asked else "",
    )


def _icon(request: Request, home: Home) -> str:
    for device in home.devices:
        if device.id == request.device:
            return device.device_class.value
    return "eye"


def request_words(request: Request, home: Home, *, fahrenheit: bool, happened: bool = True) -> str:
    """Return what a service asked for: ``BrightGrid limited Car charger to 2 kW until 7:00 pm``."""
    body = _body(request)
    device = home.names.get(request.device, request.device)
    if request.scope is not Scope.DEVICE:
        device = "the whole home" if request.operation.is_control else "all permitted devices"
    did = _verb(request.operation, device, body, fahrenheit, happened)
    tail = ""
    if request.operation.is_control and request.until_us:
        tail = f" until {time_of(request.until_us, home.point.timezone)}"
    service = home.service(request.party)
    return f"{service} {did}{tail}" if happened else f"{service} wanted to {did}{tail}"


def _body(request: Request) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _verb(operation: Operation, device: str, body: dict[str, Any], fahrenheit: bool, happened: bool) -> str:
    celsius, power = body.get("celsius"), body.get("watts")
    level = body.get("level") or body.get("mode") or body.get("percent")
    warm = degrees(celsius, fahrenheit) if isinstance(celsius, int | float) else ""
    shift = span(abs(celsius), fahrenheit) if isinstance(celsius, int | float) else ""
    amount = watts(power) if isinstance(power, int | float) else ""
    way = "up" if isinstance(celsius, int | float) and celsius > 0 else "down"
    past, plain = {
        Operation.READ: (f"read {device}",) * 2,
        Operation.TURN_ON: (f"turned {device} on", f"turn {device} on"),
        Operation.TURN_OFF: (f"turned {device} off", f"turn {device} off"),
        Operation.LIMIT: (f"limited {device} to {amount}", f"limit {device} to {amount}"),
        Operation.SETPOINT: (f"set {device} to {warm}",) * 2,
        Operation.OFFSET: (f"moved {device} {way} by {shift}", f"move {device} {way} by {shift}"),
        Operation.MODE: (f"set {device} to {level}",) * 2,
        Operation.SHED: (f"let {device} save power", f"let {device} save power"),
        Operation.LOAD_UP: (f"let {device} heat ahead", f"let {device} heat ahead"),
        Operation.DUTY_CYCLE: (f"let {device} run part of the time",) * 2,
        Operation.PROGRAM: (f"changed the schedule of {device}", f"change the schedule of {device}"),
        Operation.RELEASE: (f"let go of {device}",) * 2,
    }[operation]
    return past if happened else plain


def _change_line(change: AccessChange, home: Home) -> Line:
    who = change.by_name or ("The utility" if change.by in ("file", "rule") else "Somebody")
    if change.by_role == "representative":
        who = f"{who}, a representative,"
    words = FILE_WORDS if change.by == "file" else CHANGE_WORDS
    title = words[change.kind].format(who=who, service=home.service(change.party))
    return Line(
        id=change.id,
        at_us=change.at_us,
        title=title,
        word=receipt_word(change),
        more="; ".join(change.words[:3]) + (" …" if len(change.words) > 3 else ""),
        href=f"/portal/homes/{home.id}/receipts/{change.id}",
        icon="person",
    )


def receipt_word(change: AccessChange) -> str:
    """Return whether the gateway has a change: pending, applied or failed."""
    if change.failed:
        return "failed"
    return "applied" if change.applied_us or not change.gateway else "pending"


def _note_line(note: HomeNote, home: Home) -> Line:
    why_said = f"Why: {note.why}" if note.why else ""
    if note.kind == "refused":
        return Line(
            id=note.id,
            at_us=note.at_us,
            title=f"We refused a request of {home.service(note.party)}",
            word="refused",
            more=note.words,
            href=f"/portal/journeys/{note.id}",
            icon="cross",
        )
    return Line(
        id=note.id,
        at_us=note.at_us,
        title=f"{note.words} ({note.by_name})" if note.by_name else note.words,
        more=why_said,
        icon="eye",
    )
