"""The shapes of what the API answers, for its description. Tests hold real answers against them."""

from typing import Any, Literal

import msgspec

from doorward.ccs.doors.problem import Problem
from doorward.ccs.endpoints import EndpointBody
from doorward.ccs.rules.lifecycle import State
from doorward.wire.reasons import Reason
from doorward.wire.steps import Actor, Outcome, Step
from doorward.wire.vocabulary import Cause, DeviceClass, Operation, Scope, Wish


class Shape(msgspec.Struct, kw_only=True):
    """Base of all shapes."""


class Body(msgspec.Struct, frozen=True):
    """What a request asks, as its message format says."""


class NewRequest(Shape, kw_only=True):
    """One request: what is asked of which device (or of the home, or of the service point as a whole)."""

    operation: Operation
    service_point: str = ""
    device: str = ""
    scope: Scope = Scope.DEVICE
    format: str = ""
    body: dict[str, Any] = {}
    start: str = ""
    until: str = ""
    cause: Cause = Cause.GRID
    campaign: str = ""
    priority: Wish = Wish.NORMAL
    deadline: str = ""
    key: str = ""
    signature: str = ""


class Remaining(Shape, kw_only=True):
    """What is left of the tightest limit."""

    limit: int
    remaining: int
    window_s: int
    reset: str | None


class Links(Shape, kw_only=True):
    """Where to go on."""

    self: str
    journey: str


class Request(Shape, kw_only=True):
    """A request as it stands. `result` is there only when you may see it at this moment."""

    id: str
    state: State
    operation: Operation
    scope: Scope
    service_point: str
    device: str | None
    format: str | None
    start: str | None
    until: str | None
    cause: Cause | None
    campaign: str | None
    priority: Wish
    key: str | None
    received: str
    deadline: str
    final: str | None
    reason: Reason | None
    detail: str
    answer: Literal["", "DELIVERED", "WITHHELD", "UNDELIVERED"]
    settlement: Literal["", "DONE", "NOT_DONE"]
    cancel_asked: bool
    result: Any
    attempts: int
    links: Links
    remaining: Remaining | msgspec.UnsetType = msgspec.UNSET


class Item(Shape, kw_only=True):
    """The answer to one of a list: its request, or the problem with it."""

    status: int
    request: Request | msgspec.UnsetType = msgspec.UNSET
    problem: Problem | msgspec.UnsetType = msgspec.UNSET


class Items(Shape, kw_only=True):
    """Answers to a list, in its order."""

    items: list[Item]


class Cancelled(Shape, kw_only=True):
    """The requests of a campaign that were cancelled, or whose gateway was asked."""

    items: list[Request]


class Requests(Shape, kw_only=True):
    """A page of requests."""

    items: list[Request]
    next: str | None


class Times(Shape, kw_only=True):
    """When a message passed each hand; null when not yet."""

    received: str | None
    pushed_to_gateway: str | None
    received_at_gateway: str | None
    pushed_to_han: str | None
    answered: str | None
    pushed_to_ccs: str | None
    received_by_ccs: str | None
    pushed_to_third_party: str | None


class JourneyStep(Shape, kw_only=True):
    """One thing that happened."""

    at: str
    step: Step
    actor: Actor
    outcome: Outcome
    reason: Reason | None
    detail: str
    sentence: str
    scenario: list[str]


class Journey(Shape, kw_only=True):
    """Every step of a request."""

    request: str
    third_party: str
    service_point: str
    gateway: str
    device: str | None
    operation: Operation
    state: State
    answer: str
    times: Times
    steps: list[JourneyStep]


class Device(Shape, kw_only=True, rename={"device_class": "class"}):
    """A device, and what you may ask of it. Times in `bounds.between` are minutes of the local day."""

    id: str
    name: str
    device_class: DeviceClass
    service_point: str
    operations: list[Operation]
    bounds: dict[str, Any]
    formats: list[str]
    grant: str
    expires: str


class Devices(Shape, kw_only=True):
    """All devices that you may reach."""

    items: list[Device]


class Window(Shape, kw_only=True):
    """One limit."""

    window_s: int
    limit: int
    remaining: int
    reset: str


class Tier(Shape, kw_only=True):
    """The tier of the contract: transactions (two a request) and the response time."""

    name: str
    per_hour: int
    per_day: int
    response_s: int


class Limits(Shape, kw_only=True):
    """What remains at a service point."""

    service_point: str
    windows: list[Window]
    tier: Tier


class Format(Shape, kw_only=True):
    """A message format: `request` is the JSON Schema of a body, `answer` that of a result."""

    name: str
    version: int
    state: Literal["active", "retired"]
    device_class: str
    operation: Operation
    title: str
    description: str
    units: dict[str, str]
    request: dict[str, Any]
    answer: dict[str, Any]


class Formats(Shape, kw_only=True):
    """The catalogue."""

    items: list[Format]


class GrantDevice(Shape, kw_only=True, rename={"device_class": "class"}):
    """What a customer permits on one device."""

    id: str
    device_class: DeviceClass
    operations: list[Operation]
    bounds: dict[str, Any]


class Grant(Shape, kw_only=True):
    """A customer's permission."""

    id: str
    service_point: str
    version: int
    state: Literal["live", "withdrawn"]
    purpose: str
    tier: str
    not_before: str | None
    expires: str
    devices: list[GrantDevice]
    service_point_limit: bool
    sequence: int


class Grants(Shape, kw_only=True):
    """A page of permissions, in the order of their changes."""

    items: list[Grant]
    next: int | None


class Event(Shape, kw_only=True):
    """Something that happened. A thin webhook is the same without `data`."""

    id: str
    cursor: str
    type: str
    created: str
    request: str | None
    service_point: str | None
    device: str | None
    grant: str | None
    data: dict[str, Any]


class Events(Shape, kw_only=True):
    """A page of events; `next` is the cursor to go on after."""

    items: list[Event]
    next: str | None


class Endpoint(Shape, kw_only=True):
    """Where webhooks go. `secret` is there once, when it was made."""

    id: str
    url: str
    mode: Literal["thin", "full"]
    state: Literal["unproved", "proved", "disabled"]
    pin: str
    kinds: list[str]
    ca: str
    secret: str | msgspec.UnsetType = msgspec.UNSET


class Endpoints(Shape, kw_only=True):
    """Your webhook endpoints."""

    items: list[Endpoint]


class Token(Shape, kw_only=True):
    """An access token."""

    access_token: str
    token_type: Literal["Bearer", "DPoP"]
    expires_in: int
    scope: str


class OAuthError(Shape, kw_only=True):
    """An error in the words of RFC 6749."""

    error: str
    error_description: str = ""


ALL: tuple[type[msgspec.Struct], ...] = (
    NewRequest,
    Request,
    Items,
    Cancelled,
    Requests,
    Journey,
    Device,
    Devices,
    Limits,
    Format,
    Formats,
    Grant,
    Grants,
    Event,
    Events,
    Endpoint,
    EndpointBody,
    Endpoints,
    Token,
    OAuthError,
    Problem,
)
"""What the description names; the rest comes along."""
