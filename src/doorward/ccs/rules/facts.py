"""The facts that decisions are made on, as the books hold them. Times are UTC microseconds."""

from enum import StrEnum
from typing import Literal

import msgspec

from doorward.wire.grants import GrantDocument
from doorward.wire.reasons import Reason
from doorward.wire.steps import Actor, Outcome, Step, actor_of
from doorward.wire.vocabulary import DeviceClass, Operation, Scope, Wish

RAW_NULL = msgspec.Raw(b"null")
RAW_EMPTY = msgspec.Raw(b"{}")

FAR_US = 253_402_300_799_000_000
"""9999-12-31: an open end."""


# --- who -------------------------------------------------------------------------------------------


ClientKind = Literal["third_party", "system"]
"""What a client is: each kind has a door, scopes and tokens of its own."""


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """A contract tier (F31, F32). ``per_hour`` and ``per_day`` count transactions (two a request)."""

    name: str
    per_hour: int
    per_day: int
    response_s: int
    top_priority: int
    """The most urgent class that the tier reaches: 0 is the most urgent of third parties."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """A third party. ``auth`` is its authentication profile (F03)."""

    id: str
    name: str
    state: Literal["active", "suspended"] = "active"
    auth: Literal["secret", "private_key_jwt"] = "secret"
    token_s: int = 600
    scopes: list[str] = msgspec.field(default_factory=lambda: ["monitor", "control"])
    tokens_not_before_us: int = 0
    token_binding: Literal["", "dpop", "certificate"] = ""
    """What its access tokens must be bound to (RFC 9449, RFC 8705)."""
    signature_required: bool = False
    keys: dict[str, dict[str, str]] = {}
    """Public Ed25519 JWKs (``kid`` → JWK) with which it signs commands."""
    calls_per_s: int = 200
    contact: str = ""
    utility: bool = False
    """Whether this is the utility itself: its messages go first and are not limited, its controls are signed
    by a utility-operations key (B03, F05)."""
    kind: ClientKind = "third_party"
    """A ``system`` is another system of the utility (A07): it reads and is told, by tokens for its own door."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """How a third party proves itself at the token endpoint: an Argon2 hash, or a JWK Set."""

    id: str
    party: str
    kind: Literal["secret", "jwks"]
    value: str
    not_after_us: int = FAR_US


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a third party takes its webhooks. One per party and ``id``.

    ``mode``: ``thin`` (a notice, the data is fetched with a live token) or ``full`` (data is pushed;
    allowed only with ``pin``, the SHA-256 of the endpoint's certificate in hex). ``state`` becomes
    ``proved`` by the challenge. ``secrets`` are Standard Webhooks secrets, newest first.
    """

    id: str
    party: str
    url: str
    mode: Literal["thin", "full"] = "thin"
    pin: str = ""
    state: Literal["unproved", "proved", "disabled"] = "unproved"
    secrets: list[str] = []
    kinds: list[str] = msgspec.field(
        default_factory=lambda: ["request.result", "request.warning", "device.notice", "access"]
    )
    ca: str = ""
    """PEM of the authority to trust for this endpoint instead of the system's."""


# --- where -----------------------------------------------------------------------------------------


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A service point with the live links that a message needs: its gateway and who lives there."""

    service_point: str
    gateway: str
    partition: int
    service: Literal["on", "off"] = "on"
    timezone: str = "UTC"
    parties: int = 1
    """How many third parties have a live grant here: each has its share of the limit."""
    area: str = ""
    """The part of the grid that it hangs on; ``""`` where none is named."""
    protected: bool = False
    """Whether who lives here is flagged (medical baseline, life support): read only, for everybody."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the catalogue, live at a service point."""

    id: str
    service_point: str
    device_class: DeviceClass
    name: str
    protocol: str
    model: str
    address: str
    serial: str = ""
    rated_w: float = 0.0


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway as the CCS knows it."""

    id: str
    partition: int
    state: Literal["expected", "enrolled", "revoked"] = "expected"
    key_generation: int = 0
    certificate: str = ""
    """SHA-256 of the DER certificate that is accepted, in hex."""
    certificate_before: str = ""
    """The one before a renewal: accepted until the gateway first comes with the new one."""
    code_hash: str = ""
    """SHA-256 of the one-time enrolment code, until it is used."""
    code_expires_us: int = 0
    up_epoch: int = 0
    up_counter: int = 0
    desired_version: int = 0
    applied_version: int = 0
    applied_us: int = 0
    seen_us: int = 0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's permission as it stands. One live grant per (party, service point)."""

    id: str
    party: str
    service_point: str
    version: int
    state: Literal["live", "withdrawn"]
    tier: str
    document: GrantDocument
    signed: str
    """The document as compact JWS, as it is pushed to the gateway."""
    lease_until_us: int = 0
    lease_signed: str = ""
    changed_us: int = 0
    sequence: int = 0
    """Grows with every change of any grant: the cursor of the change feed."""


# --- what ------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One third-party message, from its acceptance to its end. ``0`` and ``""`` mean not (yet)."""

    id: str
    party: str
    service_point: str
    gateway: str
    partition: int
    scope: Scope
    operation: Operation
    grant: str
    grant_version: int
    tier: str
    klass: int
    received_us: int
    charge_us: int
    due_us: int
    """The deadline: one final state by then."""
    warn_us: int
    """When the third party is warned if the gateway has not had it (N07); 0 when warned or no longer needed."""
    act_before_us: int
    state: str
    ready_us: int | None
    """When it may be sent (again); ``None`` when there is nothing to send."""
    device: str = ""
    format: str = ""
    body: msgspec.Raw = RAW_EMPTY
    cause: str = ""
    start_us: int = 0
    until_us: int = 0
    campaign: str = ""
    wish: Wish = Wish.NORMAL
    key: str = ""
    body_hash: str = ""
    signature: str = ""
    charged: int = 2
    attempt: int = 0
    sent_us: int = 0
    at_gateway_us: int = 0
    to_han_us: int = 0
    answered_us: int = 0
    passed_up_us: int = 0
    taken_us: int = 0
    final_us: int = 0
    reason: Reason | None = None
    detail: str = ""
    result: msgspec.Raw = RAW_NULL
    answer: Literal["", "DELIVERED", "WITHHELD", "UNDELIVERED"] = ""
    answer_us: int = 0
    settlement: Literal["", "DONE", "NOT_DONE"] = ""
    cancel_asked: bool = False
    worker: str = ""
    salt: str = ""
    """Goes into the digests that the journal holds of the body and the result; erased with them."""
    spread_s: int = 0
    """Within so many seconds after its time the gateway begins at random (X04)."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"at_us": "at"}):
    """One step of a journey."""

    at_us: int
    step: Step
    outcome: Outcome = Outcome.OK
    reason: Reason | None = None
    detail: str = ""
    by: Actor | None = None

    @property
    def actor(self) -> Actor:
        """Who did it."""
        return self.by or actor_of(self.step)


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one message that one transaction explains: append-only.

    ``message`` is a UUIDv7 also for refused attempts that never became a request.
    """

    message: str
    at_us: int
    party: str
    service_point: str
    gateway: str
    device: str
    steps: list[StepRecord]
    payload: str = ""
    """The digest of the payload that these steps brought (:func:`doorward.wire.chain.payload_digest`)."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell a third party: by webhook, by server-sent event, by polling.

    Other systems of the utility read the events of all; those for them alone have no ``party``.

    ``kind``: ``request.receipt``, ``request.result``, ``request.warning``, ``device.notice``,
    ``access.granted``, ``access.changed``, ``access.withdrawn``. ``data`` holds no customer data for
    ``request.*`` (the result stays with the request); ``webhook`` is the state of its pushing.
    """

    id: str
    party: str
    kind: str
    created_us: int
    request: str = ""
    service_point: str = ""
    device: str = ""
    grant: str = ""
    data: msgspec.Raw = RAW_EMPTY
    gateway: str = ""
    webhook: Literal["none", "pending", "done", "withheld", "dead"] = "pending"
    next_us: int = 0
    attempts: int = 0
    cursor: str = ""
    """Position in the party's feed; made by the store, opaque, ordered within one store."""


class LimitLog(msgspec.Struct, kw_only=True):
    """The charge times of one key in the last 24 hours, ascending (duplicates are charges of one moment)."""

    key: str
    times_us: list[int]
    last_us: int = 0


class FormatRow(msgspec.Struct, frozen=True, kw_only=True):
    """A message format as stored: the document, and whether it is active."""

    name: str
    version: int
    state: Literal["active", "retired"]
    document: bytes


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway should hold: everything that a push needs."""

    gateway: Gateway
    service_points: list[str]
    devices: list[Device]
    grants: list[Grant]


# --- what is set up ----------------------------------------------------------------------------------


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A person or business that the utility serves."""

    id: str
    name: str = ""
    contact: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's account with the utility."""

    id: str
    name: str = ""


class ServicePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where service is delivered. Who lives there, its meter and its gateway are dated links."""

    id: str
    service: Literal["on", "off"] = "on"
    timezone: str = "UTC"
    address: str = ""
    area: str = ""
    """The part of the grid that it hangs on (a feeder, a district), for the caps of X04."""


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """A revenue meter."""

    id: str
    serial: str = ""
    model: str = ""


class LinkKind(StrEnum):
    """Links between separate things, named (a, b). Beside each: what may have one open link at a time."""

    CUSTOMER_ACCOUNT = "customer_account"
    """A customer may hold many accounts and an account many customers; one link per pair."""
    ACCOUNT_SERVICE_POINT = "account_service_point"
    """Occupancy: one account per service point."""
    SERVICE_POINT_METER = "service_point_meter"
    """One service point per meter."""
    SERVICE_POINT_GATEWAY = "service_point_gateway"
    """One gateway per service point."""
    DEVICE_SERVICE_POINT = "device_service_point"
    """One service point per device."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A dated link: live while ``since_us`` <= now < ``until_us``; open while that is ``FAR_US``."""

    kind: LinkKind
    a: str
    b: str
    since_us: int
    until_us: int = FAR_US


class Thing(StrEnum):
    """Kinds of things that are set up, each with ids of its own."""

    TIER = "tier"
    PARTY = "party"
    CUSTOMER = "customer"
    ACCOUNT = "account"
    SERVICE_POINT = "service_point"
    METER = "meter"
    GATEWAY = "gateway"
    DEVICE = "device"
