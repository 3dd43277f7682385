"""The feed for the utility's other systems (A07, F41): its kinds, who may read which, and CloudEvents 1.0.

The feed is every event of every third party, and the events that are for the utility alone (no ``party``).
A kind is ``family.what``; a system reads the families that its scopes open.
"""

from collections.abc import Collection
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from doorward.ccs.rules.facts import RAW_EMPTY, Event, Request
from doorward.ccs.rules.homes import AccessChange
from doorward.wire.times import to_rfc3339

KINDS_OF: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "requests.read": (
            "request.receipt",
            "request.result",
            "request.warning",
            "device.notice",
            "message.failed",
            "quarantine.held",
        ),
        "provisioning.read": (
            "access.granted",
            "access.changed",
            "access.withdrawn",
            "access.enabled",
            "access.modified",
            "access.disabled",
            "access.failed",
            "contract.ended",
        ),
        "gateways.read": ("gateway.connected", "gateway.disconnected"),
        "tests.read": ("test.result",),
        "alarms.read": ("alarm.raised", "alarm.cleared"),
        "orders.read": ("order.raised", "order.closed"),
        "css": ("css.confirmed", "css.failed"),
        "subscriptions.manage": ("subscription.undelivered",),
    }
)
"""Scope → the kinds that it opens. A new kind is a word here."""
SCOPE_OF: MappingProxyType[str, str] = MappingProxyType(
    {kind: scope for scope, kinds in KINDS_OF.items() for kind in kinds}
)
SCOPES = (*KINDS_OF, "journals.read")
"""All scopes of the door for utility systems."""
KIND_NAMES = frozenset(SCOPE_OF) | {kind.split(".")[0] for kind in SCOPE_OF}
"""What a filter may name: a kind, or a whole family."""
TYPE_PREFIX = "doorward."
_OUTCOME_FAILED = frozenset({"failed", "no_answer", "unknown"})
_GATEWAYS_WORD = MappingProxyType(
    {
        "granted": "access.enabled",
        "changed": "access.modified",
        "paused": "access.modified",
        "resumed": "access.modified",
        "withdrawn": "access.disabled",
        "ended": "access.disabled",
    }
)
_data = msgspec.json.Decoder(dict[str, Any])


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted; empty lets everything pass. ``failed_only``: of those with an outcome."""

    kinds: list[str] = []
    party: str = ""
    service_point: str = ""
    gateway: str = ""
    failed_only: bool = False


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a system is pushed: what, to which of its endpoints, and how far that has come.

    An operator configures it (F40). ``cursor`` is the place in the feed up to which everything was taken.
    """

    id: str
    system: str
    kinds: list[str] = []
    party: str = ""
    service_point: str = ""
    gateway: str = ""
    failed_only: bool = False
    endpoint: str = ""
    state: Literal["active", "paused"] = "active"
    cursor: str = ""
    next_us: int = 0
    attempts: int = 0
    failing_since_us: int = 0
    why: str = ""

    @property
    def filter(self) -> Filter:
        """What is wanted."""
        return Filter(
            kinds=self.kinds,
            party=self.party,
            service_point=self.service_point,
            gateway=self.gateway,
            failed_only=self.failed_only,
        )


def wanted(event: Event, filter: Filter, scopes: Collection[str]) -> bool:
    """Whether an event is asked for, and its kind is open to these scopes."""
    if SCOPE_OF.get(event.kind) not in scopes:
        return False
    if filter.kinds and event.kind not in filter.kinds and event.kind.split(".")[0] not in filter.kinds:
        return False
    if filter.service_point and event.service_point != filter.service_point:
        return False
    if filter.gateway and event.gateway != filter.gateway:
        return False
    if filter.party and party_of(event) != filter.party:
        return False
    return not filter.failed_only or has_failed(event)


def party_of(event: Event) -> str:
    """Return the third party that an event is about, ``""`` where there is none."""
    if event.party:
        return event.party
    named = _data.decode(event.data).get("third_party")
    return named if isinstance(named, str) else ""


def has_failed(event: Event) -> bool:
    """Whether an event tells of a failure; a test's ``data`` says so by its ``outcome``."""
    if event.kind == "test.result":
        return _data.decode(event.data).get("outcome") in _OUTCOME_FAILED
    return event.kind.endswith((".failed", ".raised", ".disconnected", ".warning", ".undelivered", ".held"))


def cloud_event(event: Event, source: str) -> dict[str, Any]:
    """Return an event in the JSON format of CloudEvents 1.0, with its place in the feed as ``cursor``."""
    view: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": TYPE_PREFIX + event.kind,
        "subject": subject_of(event),
        "time": to_rfc3339(event.created_us),
        "datacontenttype": "application/json",
        "cursor": event.cursor,
    }
    about = {
        "thirdparty": party_of(event),
        "servicepoint": event.service_point,
        "gateway": event.gateway,
        "device": event.device,
        "request": event.request,
    }
    view |= {name: value for name, value in about.items() if value}
    view["data"] = {} if event.kind == "device.notice" else event.data
    return view


def subject_of(event: Event) -> str:
    """Return what an event is about, the narrowest thing that it names."""
    if event.request:
        return f"request/{event.request}"
    if event.grant:
        return f"grant/{event.grant}"
    if event.device:
        return f"device/{event.device}"
    if event.gateway:
        return f"gateway/{event.gateway}"
    return f"service_point/{event.service_point}" if event.service_point else "utility"


def news(
    kind: str,
    now_us: int,
    *,
    request: str = "",
    service_point: str = "",
    gateway: str = "",
    device: str = "",
    grant: str = "",
    data: dict[str, Any] | None = None,
) -> Event:
    """Return an event for the utility's systems alone: add it in the transaction that it tells of.

    This is what tests, alarms and orders call. ``data`` is small and names no customer; ``third_party`` and
    ``outcome`` in it are filtered by. Raises ``KeyError`` for a kind that :data:`KINDS_OF` does not have.
    """
    SCOPE_OF[kind]
    raw = msgspec.Raw(msgspec.json.encode(data, order="deterministic")) if data else RAW_EMPTY
    named = (kind, request, service_point, gateway, device, grant)
    return Event(
        id=_id_of(now_us, *(word.encode() for word in named), bytes(raw)),
        party="",
        kind=kind,
        created_us=now_us,
        request=request,
        service_point=service_point,
        gateway=gateway,
        device=device,
        grant=grant,
        data=raw,
        webhook="none",
    )


def receipt_news(changes: Collection[AccessChange], now_us: int) -> list[Event]:
    """S3.08: what gateways said of changes of access: that they hold them, or why they could not take them."""
    return [
        news(
            "access.failed" if each.failed else _GATEWAYS_WORD[each.kind],
            now_us,
            service_point=each.service_point,
            gateway=each.gateway,
            grant=each.grant,
            data={
                "receipt": each.id,
                "third_party": each.party,
                "version": each.version,
                "gateway_version": each.gateway_version,
                "decided": to_rfc3339(each.at_us),
                **({"why": each.failed} if each.failed else {}),
            },
        )
        for each in changes
    ]


def request_news(kind: str, request: Request, why: str, now_us: int) -> Event:
    """Return news of a third party's request, and why."""
    return news(
        kind,
        now_us,
        request=request.id,
        service_point=request.service_point,
        gateway=request.gateway,
        device=request.device,
        data={"third_party": request.party, "why": why},
    )


def _id_of(now_us: int, *named: bytes) -> str:
    """Return a UUIDv7 whose random bits are drawn from what the event says: told twice, it is one event."""
    digest = sha256(b"\0".join(named)).digest()
    millis, rest = divmod(now_us, 1000)
    value = (millis & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | ((rest << 12) // 1000 & 0xFFF) << 64
    value |= 0b10 << 62 | int.from_bytes(digest[:8]) >> 2
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
