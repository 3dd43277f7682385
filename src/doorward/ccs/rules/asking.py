"""What a third party may write in a request, and whether it did: from bytes to a :class:`Draft`."""

import re
from types import MappingProxyType

import msgspec

from doorward.ccs.rules.facts import RAW_EMPTY
from doorward.wire.codec import NOT_JSON
from doorward.wire.permission import CONTROL_US_DEFAULT
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import Cause, Operation, Scope, Wish

US = 1_000_000
AHEAD_US_MAX = 25 * 3600 * US
"""How far ahead a control may start."""
LASTS_US_MAX = 7 * 24 * 3600 * US
"""How long a control may last (a programme runs for days)."""
DEADLINE_US_MAX = 24 * 3600 * US
TEXT_CHARS_MAX = 64
SIGNATURE_CHARS_MAX = 8 * 1024
BODY_BYTES_MAX = 16 * 1024
_NAMES = ("service_point", "device", "campaign", "key", "format", "start", "until", "deadline", "signature")
_CHARS_MAX = MappingProxyType({"format": 180, "signature": SIGNATURE_CHARS_MAX})

_WIDE = MappingProxyType(
    {
        Scope.HOME: frozenset({Operation.READ}),
        Scope.SERVICE_POINT: frozenset({Operation.LIMIT}),
    }
)
"""What may be asked of more than one device at once (S1.01b, S2.09b)."""

_POINTER = re.compile(r" - at `\$?(.*)`$")


class AskBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request as a third party writes it."""

    operation: Operation
    service_point: str = ""
    device: str = ""
    scope: Scope = Scope.DEVICE
    format: str = ""
    body: msgspec.Raw = RAW_EMPTY
    start: str = ""
    until: str = ""
    cause: Cause = Cause.GRID
    campaign: str = ""
    priority: Wish = Wish.NORMAL
    deadline: str = ""
    key: str = ""
    signature: str = ""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a door received it: raw bytes, the presented token, where it came from."""

    id: str
    token: str
    raw: bytes
    received_us: int
    key: str = ""
    source: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed request. Times in µs; ``start_us`` and ``until_us`` are 0 for a read."""

    ask: AskBody
    body: dict[str, object]
    key: str
    body_hash: str
    start_us: int
    until_us: int
    deadline_us: int


_bodies = msgspec.json.Decoder(AskBody)
_object = msgspec.json.Decoder(dict[str, object])


def read_ask(raw: bytes) -> AskBody:
    """Decode a request; raise ``body-malformed`` with the field that is wrong."""
    try:
        ask = _bodies.decode(raw)
    except NOT_JSON as error:
        raise malformed(error) from None
    for name in _NAMES:
        check_name(getattr(ask, name), name)
    return ask


def check_name(text: str, name: str) -> None:
    """Raise ``body-malformed`` unless ``text`` can be an id: short, and nothing that cannot be printed."""
    if len(text) > _CHARS_MAX.get(name, TEXT_CHARS_MAX):
        most = _CHARS_MAX.get(name, TEXT_CHARS_MAX)
        raise Refused(Reason.BODY_MALFORMED, f"at most {most} characters", field=f"/{name}")
    if not text.isprintable():
        raise Refused(Reason.BODY_MALFORMED, "holds a character that cannot be printed", field=f"/{name}")


def malformed(error: Exception) -> Refused:
    """Turn msgspec's words into ours: the sentence, and the place as a JSON pointer."""
    if not isinstance(error, msgspec.DecodeError):
        return Refused(Reason.BODY_MALFORMED, "the text is no UTF-8")
    text = str(error)
    place = _POINTER.search(text)
    field = ""
    if place:
        field = "/" + place.group(1).strip(".").replace(".", "/").replace("[", "/").replace("]", "")
        field = field.replace("//", "/").rstrip("/")
        text = text[: place.start()]
    unknown = re.search(r"unknown field `(.*)`", text)
    if unknown:
        field = f"{field}/{unknown.group(1)}"
    missing = re.search(r"missing required field `(.*)`", text)
    if missing:
        field = f"{field}/{missing.group(1)}"
    return Refused(Reason.BODY_MALFORMED, text, field=field)


def draft(ask: AskBody, key: str, body_hash: str, now_us: int) -> Draft:
    """Check all that can be checked without knowing the device (F08).

    Raises ``body-malformed`` or ``deadline-passed`` with the field.
    """
    _aim(ask)
    check_name(key, "key")
    start_us, until_us = _span(ask, now_us)
    deadline_us = _time(ask.deadline, "/deadline") if ask.deadline else 0
    if deadline_us and deadline_us <= now_us:
        raise Refused(Reason.DEADLINE_PASSED, "the deadline is in the past", field="/deadline")
    if deadline_us > max(now_us, start_us) + DEADLINE_US_MAX:
        raise Refused(Reason.BODY_MALFORMED, "the deadline is more than a day away", field="/deadline")
    if start_us and deadline_us and deadline_us <= start_us:
        raise Refused(Reason.BODY_MALFORMED, "the deadline is before the start", field="/deadline")
    try:
        body = _object.decode(bounded(ask.body))
    except NOT_JSON:
        raise Refused(Reason.BODY_MALFORMED, "must be an object", field="/body") from None
    return Draft(
        ask=ask,
        body=body,
        key=key,
        body_hash=body_hash,
        start_us=start_us,
        until_us=until_us,
        deadline_us=deadline_us,
    )


def bounded(body: msgspec.Raw) -> msgspec.Raw:
    """Return the body of a request, or raise ``body-too-large``."""
    size = len(memoryview(body))
    if size > BODY_BYTES_MAX:
        raise Refused(Reason.BODY_TOO_LARGE, f"the body has {size} bytes of {BODY_BYTES_MAX}", field="/body")
    return body


def _aim(ask: AskBody) -> None:
    if ask.scope is Scope.DEVICE:
        if not ask.device:
            raise Refused(Reason.BODY_MALFORMED, "name the device, or a wider scope", field="/device")
        return
    if ask.device:
        raise Refused(Reason.BODY_MALFORMED, f"scope {ask.scope} names no device", field="/device")
    if not ask.service_point:
        raise Refused(Reason.BODY_MALFORMED, "name the service point", field="/service_point")
    allowed = _WIDE[ask.scope]
    if ask.operation not in allowed:
        raise Refused(
            Reason.BODY_MALFORMED,
            f"scope {ask.scope} knows {', '.join(sorted(allowed))} only",
            field="/operation",
        )


def _span(ask: AskBody, now_us: int) -> tuple[int, int]:
    if not ask.operation.is_control or ask.operation is Operation.RELEASE:
        for name, value in (("start", ask.start), ("until", ask.until)):
            if value:
                raise Refused(Reason.BODY_MALFORMED, f"{ask.operation} takes no {name}", field=f"/{name}")
        return 0, 0
    start_us = _time(ask.start, "/start") if ask.start else 0
    if start_us > now_us + AHEAD_US_MAX:
        raise Refused(Reason.BODY_MALFORMED, "the start is more than a day ahead", field="/start")
    begin_us = max(start_us, now_us)
    until_us = _time(ask.until, "/until") if ask.until else begin_us + CONTROL_US_DEFAULT
    if until_us <= begin_us:
        raise Refused(Reason.BODY_MALFORMED, "the end must be after the start and now", field="/until")
    if until_us > begin_us + LASTS_US_MAX:
        raise Refused(Reason.BODY_MALFORMED, "a control may last 7 days at most", field="/until")
    # What is signed names the start as it was written, also when it has just passed.
    return (start_us if start_us > now_us or ask.signature else 0), until_us


def _time(text: str, field: str) -> int:
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise Refused(Reason.BODY_MALFORMED, f"not an RFC 3339 time: {error}", field=field) from None
