"""What the customer service system (CSS) says, and what of it is new (I01, I02).

An event is taken once (by its own id) and in order: each names its *subjects*, and of two about the same
subject the later one (``at``, then ``sequence``) stands, in whatever order they arrive.
"""

import re
from typing import Literal

import msgspec

from doorward.wire.grants import Bounds
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import Operation

Kind = Literal[
    "account.changed",
    "customer.flagged",
    "customer.unflagged",
    "occupancy.began",
    "occupancy.ended",
    "service.off",
    "service.on",
    "gateway.exchanged",
    "access.enable",
    "access.modify",
    "access.disable",
    "test.run",
]
Flag = Literal["medical-baseline", "life-support"]
Outcome = Literal["applied", "superseded", "refused"]
State = Literal["waiting", "done", "failed"]

AHEAD_US_MAX = 300_000_000
"""How far ahead of ours the clock of the CSS may be: what is dated far ahead would hide all that follows."""
NAME_CHARS_MAX = 200
DEVICES_MAX = 100
PROTECTED_WORDS: dict[str, str] = {
    "medical-baseline": "medical baseline",
    "life-support": "life support",
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class CssDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be permitted on a device, which is named by its serial number (S3.04) or id."""

    device: str
    operations: list[Operation]
    bounds: Bounds = Bounds()


class CssItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of the CSS, as it is posted. Which fields a kind needs stands in :data:`NEEDS`.

    ``id`` is the CSS's own; ``at`` (RFC 3339) is when it became so; ``sequence`` decides between two of the
    same moment.
    """

    id: str
    kind: Kind
    at: str
    sequence: int = 0
    account: str = ""
    customer: str = ""
    name: str = ""
    contact: str = ""
    service_point: str = ""
    gateway: str = ""
    flag: Flag | None = None
    third_party: str = ""
    devices: list[CssDevice] = []
    until: str = ""
    why: str = ""


class CssEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on record, and what became of it. ``id`` is ours (a UUIDv7), ``key`` the CSS's.

    ``changes`` are the receipts of the access that it changed; ``settled_us`` is when the last of them was
    confirmed or failed at its gateway (at once where there is none).
    """

    id: str
    system: str
    key: str
    body_hash: str
    kind: str
    account: str
    customer: str
    service_point: str
    at_us: int
    sequence: int
    received_us: int
    outcome: Outcome
    detail: str = ""
    changes: list[str] = []
    settled_us: int = 0


class Mark(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """The newest that is known of a subject."""

    at_us: int = 0
    sequence: int = 0


class CustomerFlag(msgspec.Struct, frozen=True, kw_only=True):
    """A customer who must not be switched off from outside."""

    customer: str
    kind: Flag
    since_us: int


NEEDS: dict[str, tuple[str, ...]] = {
    "account.changed": ("account", "customer"),
    "customer.flagged": ("customer", "flag"),
    "customer.unflagged": ("customer", "flag"),
    "occupancy.began": ("account", "service_point"),
    "occupancy.ended": ("account", "service_point"),
    "service.off": ("service_point",),
    "service.on": ("service_point",),
    "gateway.exchanged": ("service_point", "gateway"),
    "access.enable": ("customer", "service_point", "third_party", "devices"),
    "access.modify": ("customer", "service_point", "third_party", "devices"),
    "access.disable": ("service_point", "third_party"),
    "test.run": ("service_point",),
}
"""Kind → the fields that it cannot do without."""


WORDS: dict[str, str] = {
    "account.changed": "The utility's customer records were brought up to date",
    "customer.flagged": "The utility protects this home from outside control ({flag})",
    "customer.unflagged": "The utility no longer protects this home from outside control ({flag})",
    "occupancy.began": "A customer moved in",
    "occupancy.ended": "The customer moved out",
    "service.off": "Service was turned off",
    "service.on": "Service was turned on",
    "gateway.exchanged": "The gateway was exchanged for {gateway}",
    "access.enable": "The utility enabled access for {party}, as asked",
    "access.modify": "The utility changed the access of {party}, as asked",
    "access.disable": "The utility disabled the access of {party}, as asked",
    "test.run": "The utility tested the way to this home",
}
"""Kind → what it says to people."""


def is_id(text: str) -> bool:
    """Whether a text may name an event."""
    return _ID.fullmatch(text) is not None


def check_item(item: CssItem, now_us: int) -> int:
    """Return when an event became so (µs); raise ``body-malformed`` with the field that is wrong."""
    if not is_id(item.id):
        raise _wrong("an id is 1 to 64 letters, digits, '.', '_', ':' or '-'", "/id")
    for field in NEEDS[item.kind]:
        if not getattr(item, field):
            raise _wrong(f"{item.kind} needs {field!r}", f"/{field}")
    for field in ("account", "customer", "service_point", "gateway", "third_party"):
        value = getattr(item, field)
        if value and _ID.fullmatch(value) is None:
            raise _wrong("no id looks like that", f"/{field}")
    for field in ("name", "contact", "why"):
        if len(getattr(item, field)) > NAME_CHARS_MAX or not getattr(item, field).isprintable():
            raise _wrong(f"at most {NAME_CHARS_MAX} printable characters", f"/{field}")
    if not 0 <= item.sequence < 2**53:
        raise _wrong("a sequence is a whole number from 0", "/sequence")
    if len(item.devices) > DEVICES_MAX:
        raise _wrong(f"at most {DEVICES_MAX} devices", "/devices")
    if item.until:
        _time(item.until, "/until")
    at_us = _time(item.at, "/at")
    if at_us > now_us + AHEAD_US_MAX:
        raise _wrong("this is in the future; tell it when it is so", "/at")
    return at_us


def _time(text: str, field: str) -> int:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        raise _wrong("a time is RFC 3339, like 2026-01-31T12:00:00Z", field) from None


def subject_of(item: CssItem) -> str:
    """Return what an event is about: of two events about one subject the later one stands."""
    topic = item.kind.partition(".")[0]
    if topic == "account":
        return f"account {item.account} {item.customer}"
    if topic == "customer":
        return f"flag {item.customer} {item.flag}"
    if topic in ("access", "test"):
        return f"{topic} {item.service_point} {item.third_party or item.id}"
    return f"{topic} {item.service_point}"


def words_of(item: CssItem) -> str:
    """Return an event in words, as the customer and the representative read it."""
    return WORDS[item.kind].format(
        flag=PROTECTED_WORDS.get(item.flag or "", ""), gateway=item.gateway, party=item.third_party
    )


def is_news(mark: Mark, known: Mark) -> bool:
    """Whether an event says something newer than what is known of its subject."""
    return mark > known


def _wrong(said: str, field: str) -> Refused:
    return Refused(Reason.BODY_MALFORMED, said, field=field)
