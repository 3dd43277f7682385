"""What the API answers, as records. Times are aware datetimes; fields that a newer CCS adds are ignored."""

from datetime import datetime
from typing import Any

import msgspec

FINAL_STATES = frozenset({"DONE", "FAILED", "REFUSED", "EXPIRED", "CANCELLED", "UNCONFIRMED"})


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Problem(Record, frozen=True, kw_only=True):
    """An error after RFC 9457. ``reason`` is from Doorward's closed list, ``field`` a JSON pointer."""

    status: int = 0
    title: str = ""
    detail: str = ""
    reason: str = ""
    field: str = ""
    request_id: str = ""
    retry_after_s: float | None = None


class Remaining(Record, frozen=True, kw_only=True):
    """What is left of the narrowest limit after a request."""

    limit: int
    remaining: int
    window_s: int
    reset: datetime | None = None


class Request(Record, frozen=True, kw_only=True):
    """A request as it stands. ``result`` is there only when you may see it now."""

    id: str
    state: str
    operation: str
    scope: str = "device"
    service_point: str | None = None
    device: str | None = None
    format: str | None = None
    start: datetime | None = None
    until: datetime | None = None
    cause: str | None = None
    campaign: str | None = None
    priority: str | None = None
    key: str | None = None
    received: datetime | None = None
    deadline: datetime | None = None
    final: datetime | None = None
    reason: str | None = None
    detail: str | None = None
    answer: str = ""
    settlement: str | None = None
    result: dict[str, Any] | None = None
    attempts: int = 0
    remaining: Remaining | None = None

    @property
    def is_final(self) -> bool:
        """Whether the request has reached its one final state."""
        return self.state in FINAL_STATES

    @property
    def is_done(self) -> bool:
        """Whether the device confirmed it."""
        return self.state == "DONE"


class Item(Record, frozen=True, kw_only=True):
    """The answer to one of a list of requests: a request, or the problem with it."""

    status: int
    request: Request | None = None
    problem: Problem | None = None


class Items(Record, frozen=True, kw_only=True):
    """Answers to a list of requests, in its order."""

    items: list[Item]


class Requests(Record, frozen=True, kw_only=True):
    """A page of requests, newest first; ``next`` is the id to go on after."""

    items: list[Request]
    next: str | None = None


class Step(Record, frozen=True, kw_only=True):
    """One step of a journey; ``sentence`` says it for people."""

    at: datetime
    step: str
    actor: str
    outcome: str
    reason: str | None = None
    detail: str | None = None
    sentence: str = ""
    scenario: list[str] = []


class Journey(Record, frozen=True, kw_only=True):
    """Every step of a request. ``times`` has the moments of its hand-overs, ``None`` where not yet."""

    request: str
    state: str
    third_party: str | None = None
    service_point: str | None = None
    gateway: str | None = None
    device: str | None = None
    operation: str | None = None
    times: dict[str, datetime | None] = {}
    steps: list[Step] = []


class Device(Record, frozen=True, kw_only=True, rename={"device_class": "class"}):
    """A device, and what you may do with it."""

    id: str
    name: str = ""
    device_class: str = ""
    service_point: str = ""
    operations: list[str] = []
    bounds: dict[str, Any] = {}
    formats: list[str] = []
    grant: str = ""
    expires: datetime | None = None


class Devices(Record, frozen=True, kw_only=True):
    """All devices that you may reach."""

    items: list[Device]


class Window(Record, frozen=True, kw_only=True):
    """One limit of a service point: so many messages in any ``window_s`` seconds."""

    window_s: int
    limit: int
    remaining: int
    reset: datetime | None = None


class Tier(Record, frozen=True, kw_only=True):
    """The tier of your contract."""

    name: str
    per_hour: int
    per_day: int
    response_s: int


class Limits(Record, frozen=True, kw_only=True):
    """What you may still send to a service point."""

    service_point: str
    windows: list[Window]
    tier: Tier | None = None


class Format(Record, frozen=True, kw_only=True):
    """A message format: JSON Schemas of a request's body and its answer."""

    name: str
    version: int
    title: str = ""
    state: str = "active"
    device_class: str = ""
    operation: str = ""
    request: dict[str, Any] = {}
    answer: dict[str, Any] = {}


class Formats(Record, frozen=True, kw_only=True):
    """The catalogue of formats."""

    items: list[Format]


class Grant(Record, frozen=True, kw_only=True):
    """A customer's permission as it stands."""

    id: str
    service_point: str
    version: int
    state: str
    purpose: str = ""
    devices: list[Any] = []
    not_before: datetime | None = None
    expires: datetime | None = None
    tier: str = ""
    sequence: int = 0


class Grants(Record, frozen=True, kw_only=True):
    """A page of grants in the order of their changes."""

    items: list[Grant]
    next: int | None = None


class Event(Record, frozen=True, kw_only=True):
    """Something that happened. A thin webhook has no ``data``: fetch the request with a live token.

    ``challenge`` is there for the ``endpoint.challenge`` that proves an endpoint: answer with it.
    """

    type: str
    id: str = ""
    cursor: str = ""
    created: datetime | None = None
    request: str | None = None
    service_point: str | None = None
    device: str | None = None
    grant: str | None = None
    data: dict[str, Any] = {}
    challenge: str = ""


class Events(Record, frozen=True, kw_only=True):
    """A page of events; ``next`` is the cursor to go on after."""

    items: list[Event]
    next: str | None = None


class Endpoint(Record, frozen=True, kw_only=True):
    """Where you take your webhooks. ``secret`` is shown once, when it is made."""

    id: str
    url: str
    mode: str = "thin"
    state: str = "unproved"
    pin: str = ""
    kinds: list[str] = []
    secret: str = ""


class Endpoints(Record, frozen=True, kw_only=True):
    """Your webhook endpoints."""

    items: list[Endpoint]


class Keys(Record, frozen=True, kw_only=True):
    """A JWK Set."""

    keys: list[dict[str, str]]


class Token(Record, frozen=True, kw_only=True):
    """An access token."""

    access_token: str
    expires_in: int
    scope: str = ""


class Nothing(Record, frozen=True, kw_only=True):
    """An answer without content."""
