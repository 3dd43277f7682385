"""What crosses the link: frames of tagged messages, as msgspec structs encoded in JSON.

Times are integer UTC microseconds. Ids are UUIDv7 strings. Unknown fields are ignored; an unknown
message type is an error. ``docs/reference/asyncapi.json`` is generated from this file.
"""

import msgspec

from doorward.wire.chain import Head
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

WIRE_VERSION = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of everything that travels in a frame."""


# --- down: CCS to gateway -------------------------------------------------------------------------


class Time(Message, frozen=True, tag="time", kw_only=True):
    """The CCS's time, first on every connection (S1.04b, P23)."""

    at_us: int


class ProvisionedDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device that the gateway may talk to (F22), and how.

    ``model`` names a device model file of the adapter; ``address`` is the adapter's own
    (``host:port/unit`` for Modbus, the charge point's identity for OCPP).
    """

    id: str
    service_point: str
    device_class: DeviceClass
    protocol: str
    model: str
    address: str
    rated_w: float = 0.0
    serial: str = ""


class Provision(Message, frozen=True, tag="provision", kw_only=True):
    """Desired state of the gateway, whole and versioned; a lower version than the stored is ignored."""

    version: int
    service_points: list[str]
    devices: list[ProvisionedDevice]
    grants: list[str] = []
    """Ids of all grants that may exist; a stored grant that is not listed is withdrawn (drift repair)."""


class GrantPush(Message, frozen=True, tag="grant", kw_only=True):
    """A grant: a :class:`~doorward.wire.grants.GrantDocument` as compact JWS of the consent authority."""

    grant: str
    version: int
    document: str
    lease_until_us: int


class Trust(Message, frozen=True, tag="trust", kw_only=True):
    """Whom to believe from now on: a :class:`~doorward.wire.grants.TrustDocument` as compact JWS."""

    document: str


class Lease(Message, frozen=True, tag="lease", kw_only=True):
    """Renewal of a grant's lease: a :class:`~doorward.wire.grants.LeaseDocument` as compact JWS."""

    grant: str
    document: str


class Withdraw(Message, frozen=True, tag="withdraw", kw_only=True):
    """The grant has ended; needs no signature, for narrowing is always believed."""

    grant: str
    version: int
    at_us: int


ATTEMPT_ALL = 2**31
"""In place of an attempt: whatever attempt comes, none of them is taken any more."""


class Reconcile(Message, frozen=True, tag="reconcile", kw_only=True):
    """Ids that the CCS holds open for this gateway; it answers with what it knows of each.

    ``attempts`` are the attempts last sent, in the order of ``ids`` (1 where it is missing): of an id that
    the gateway never had, it refuses late copies up to that attempt, and takes a newer one.
    """

    ids: list[str]
    attempts: list[int] = []


class Command(Message, frozen=True, tag="command", kw_only=True):
    """A request on its way to the home (S1.05, S2.06).

    ``device`` is empty when ``scope`` is not ``device``. ``act_before_us`` is the deadline less the
    skew margin; ``charge_us`` is the time under which the limits were charged. ``signature`` is the
    third party's own JWS over :class:`~doorward.wire.grants.SignedCommand`, where there is one.
    ``spread_s`` asks the gateway to begin at a random time up to so many seconds late; of a ``campaign``
    it takes no less than its own span (X04).
    """

    id: str
    party: str
    service_point: str
    scope: Scope
    operation: Operation
    grant: str
    grant_version: int
    charge_us: int
    act_before_us: int
    party_ref: str = ""
    device: str = ""
    body: msgspec.Raw = msgspec.Raw(b"{}")
    cause: str = ""
    start_us: int = 0
    until_us: int = 0
    klass: int = 10
    attempt: int = 1
    signature: str = ""
    spread_s: int = 0
    campaign: bool = False
    salt: str = ""
    """Goes into the digests that both journals hold of the body and of the answer."""


class Cancel(Message, frozen=True, tag="cancel", kw_only=True):
    """Asks that a request be not acted on, or released if it was; the gateway keeps a tombstone."""

    id: str
    by_party: str = ""


class Certificate(Message, frozen=True, tag="certificate", kw_only=True):
    """A new certificate of the gateway (PEM), for the request that its :class:`Hello` carried."""

    pem: str


class Ack(Message, frozen=True, tag="ack", kw_only=True):
    """The CCS has stored these messages of the gateway's outbox (by their ``seq``)."""

    seqs: list[int]


# --- up: gateway to CCS ---------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello", kw_only=True):
    """First message of a gateway on a connection: who I am and what I hold."""

    gateway: str
    boot: int
    software: str
    provision_version: int
    grants: dict[str, int] = {}
    born_us: int = 0
    """When this gateway's store was created; older signed commands are refused."""
    csr: str = ""
    """A certificate request (PEM), when the certificate that the gateway shows gets old."""
    trust_version: int = 0
    """The version of the :class:`Trust` that it holds; 0 while it believes what its enrolment code named."""


class Receipt(Message, frozen=True, tag="receipt", kw_only=True):
    """A step that happened at the gateway (S1.06, S1.07, S1.10), with its own time."""

    seq: int
    id: str
    step: Step
    at_us: int
    outcome: Outcome = Outcome.OK
    reason: Reason | None = None
    detail: str = ""


class Result(Message, frozen=True, tag="result", kw_only=True):
    """The end of a request at the gateway; repeated until acknowledged (S1.11, S2.12).

    ``state`` is one of ``DONE FAILED REFUSED EXPIRED CANCELLED UNCONFIRMED``; ``data`` is the answer.
    """

    seq: int
    id: str
    state: str
    at_us: int
    reason: Reason | None = None
    detail: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Applied(Message, frozen=True, tag="applied", kw_only=True):
    """The gateway now holds this version of its desired state and these grants."""

    seq: int
    version: int
    at_us: int
    grants: dict[str, int] = {}
    failed: dict[str, str] = {}


class Notice(Message, frozen=True, tag="notice", kw_only=True):
    """Something that a device said by itself (override, fault, plugged in); under the same checks."""

    seq: int
    id: str
    party: str
    service_point: str
    device: str
    kind: str
    at_us: int
    grant: str
    grant_version: int
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Attempt(Message, frozen=True, tag="attempt", kw_only=True):
    """Unauthorised attempts seen at the gateway (F25, F26), one row per cause since the last report."""

    seq: int
    at_us: int
    direction: str
    reason: Reason
    count: int = 1
    party: str = ""
    device: str = ""
    message: str = ""
    detail: str = ""


class Known(Message, frozen=True, tag="known", kw_only=True):
    """Answer to :class:`Reconcile`: ids that the gateway never had. Of the others it repeats results.

    ``attempts`` are those up to which it refuses each of them from now on, in the order of ``unknown`` (1
    where it is missing): of a later attempt, sent while this word was on its way, it says nothing.
    """

    seq: int
    unknown: list[str]
    attempts: list[int] = []


Down = (
    Time | Provision | Trust | GrantPush | Lease | Withdraw | Reconcile | Command | Cancel | Certificate | Ack
)
Up = Hello | Receipt | Result | Applied | Notice | Attempt | Known


class FrameDown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One crossing from CCS to gateway."""

    v: int
    gateway: str
    epoch: int
    counter: int
    messages: list[Down]
    heads: list[Head] = []
    """The links of the CCS's journal that record these messages: whoever holds them holds the chains up to
    them (docs/adr/0009)."""
    checkpoint: str = ""
    """The newest :class:`~doorward.wire.chain.Checkpoint`, when this gateway does not have it yet."""


class FrameUp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One crossing from gateway to CCS."""

    v: int
    gateway: str
    epoch: int
    counter: int
    messages: list[Up]
    head: Head | None = None
    """The newest link of the gateway's journal; it covers all that these messages tell."""
