"""What the gateway knows: the records that its rules decide on and its store keeps."""

import msgspec

from doorward.wire.grants import GrantDocument
from doorward.wire.messages import Command, Result
from doorward.wire.permission import CONTROL_US_DEFAULT
from doorward.wire.vocabulary import DeviceClass, Operation

US = 1_000_000
MINUTE_US = 60 * US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Who the gateway is, and whom it believes.

    ``link`` is its 32-byte MAC key; ``authority`` are the consent authority's public keys (``kid`` → JWK):
    both arrive at enrolment, the second by its fingerprint in the enrolment code.
    """

    gateway: str
    link: bytes
    authority: dict[str, dict[str, str]]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that the gateway's rules use; times in µs unless the name says otherwise."""

    per_hour: int = 24
    per_day: int = 576
    charge_skew_us: int = 90 * US
    """How far a charge time may be from the gateway's clock."""
    issued_skew_us: int = 30 * US
    """How far ahead of the gateway's clock a signed document may have been issued."""
    lease_us_max: int = DAY_US
    control_us_default: int = CONTROL_US_DEFAULT
    start_late_us_max: int = MINUTE_US
    """How late a control with a start in the future may begin."""
    start_margin_us: int = 5 * US
    """How late it may begin at least, however near its start its deadline is: the CCS's margin for clocks."""
    start_spread_us_max: int = 60 * MINUTE_US
    """The longest random start that a command may ask for."""
    campaign_spread_us: int = 10 * MINUTE_US
    """A control of a campaign begins at random within no less, whatever the command says (X04)."""
    end_spread_us_max: int = 10 * MINUTE_US
    """Every control ends at random within this time, or its own length."""
    withdraw_spread_us: int = MINUTE_US
    """When permission is withdrawn, what ran in a campaign is let go at random within this time."""
    rest_us: dict[str, int] = msgspec.field(
        default_factory=lambda: {DeviceClass.HEAT_PUMP.value: 180 * US, DeviceClass.RELAY.value: 30 * US}
    )
    """Shortest time off before a device of this class (or model) may be turned on again."""
    sample_us: int = 300 * US
    """How often every device is sampled; 0 means never."""
    sample_keep_us: int = 30 * DAY_US
    inbox_keep_us: int = 400 * DAY_US
    payload_keep_us: int = 30 * DAY_US
    journal_keep_us: int = 400 * DAY_US
    attempts_report_us: int = MINUTE_US
    refusals_per_minute_max: int = 120
    """Refused requests of a minute that get rows of their own; what is beyond is counted and reported."""
    notice_gap_us: int = MINUTE_US
    """At most one notice per device, kind and party in this time."""
    open_max: int = 500
    """Requests received and not yet final."""
    outbox_max: int = 50_000
    """Messages not yet acknowledged; beyond it nothing new is taken."""
    release_tries_max: int = 100


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that the gateway holds, and until when its lease lets it be used."""

    document: GrantDocument
    signed: str
    lease_until_us: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the gateway has taken (or refused), as its inbox keeps it.

    ``state`` is ``RECEIVED`` until it is one of the final words of :class:`~doorward.wire.messages.Result`.
    ``UNKNOWN`` is a tombstone: the CCS was told that the gateway never had it, so a late copy, whose
    ``attempt`` is not greater, is refused.
    """

    id: str
    party: str
    party_ref: str
    state: str
    attempt: int
    received_us: int
    start_us: int
    act_by_us: int
    command: Command | None = None
    result: Result | None = None

    @property
    def is_final(self) -> bool:
        """Whether its result is known."""
        return self.state != "RECEIVED"


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """A request's charge: two transactions at one moment, or one where no result crosses."""

    id: str
    party: str
    service_point: str
    charge_us: int
    count: int = 2


INSTEAD_OF_MAX = 8
"""Controls in doubt, one upon the other, that are remembered of one device."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A control that runs on a device: who owns it, what was before, and when the gateway lets go."""

    device: str
    id: str
    party: str
    service_point: str
    grant: str
    klass: int
    operation: Operation
    body: dict[str, object]
    baseline: dict[str, object]
    started_us: int
    until_us: int
    ends_us: int
    """``until_us`` and the drawn time after it."""
    uncertain: bool = False
    """The device may not hold the control (it failed, or a release was about to be sent): before a release
    is written, the device is asked whether it still holds it, or what it was told before."""
    instead_of: list[tuple[Operation, dict[str, object]]] = []
    """What the device may hold while this control is in doubt: the control that this one took the place of,
    and those before it that were in doubt themselves. The newest first."""
    reason: str = ""
    """Why it ends before its time."""
    bound_to: str = ""
    """Fingerprint of the equipment that it was set on (:func:`doorward.wire.grants.binding`)."""
    campaign: bool = False
    """It began at random with others, and is let go at random, too (X04)."""
    tries: int = 0
    again_us: int = 0
    """When it is let go, after a release that failed or permission that was withdrawn."""

    def beneath(self) -> list[tuple[Operation, dict[str, object]]]:
        """Return what the device may hold if a control that takes this one's place does not arrive."""
        earlier = self.instead_of if self.uncertain else []
        return [(self.operation, self.body), *earlier][:INSTEAD_OF_MAX]

    def in_doubt_after(self, failed: "Control") -> "Control":
        """Return this control as it is when one that was to take its place failed: the device may hold either."""
        earlier = self.instead_of if self.uncertain else []
        told = [(failed.operation, failed.body), *earlier][:INSTEAD_OF_MAX]
        return msgspec.structs.replace(self, uncertain=True, instead_of=told)

    def is_same(self, other: "Control | None") -> bool:
        """Whether ``other`` is this control, whatever was noted on it since."""
        return other is not None and (self.id, self.started_us) == (other.id, other.started_us)


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway was about to do to a device: stored before it is done."""

    id: str
    device: str
    operation: Operation
    body: dict[str, object]
    baseline: dict[str, object]
    until_us: int
    before: dict[str, object]
    held_before: bool
    """Whether the device already held the target before."""
    at_us: int


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``step`` is a word of :mod:`doorward.wire.steps` or one of the gateway's own."""

    at_us: int
    step: str
    message: str = ""
    actor: str = "gateway"
    party: str = ""
    service_point: str = ""
    device: str = ""
    outcome: str = "ok"
    reason: str = ""
    detail: str = ""
    payload: str = ""
    """The digest of what came or went with this step, and stands outside the journal."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one device did at one moment; W and Wh."""

    device: str
    at_us: int
    state: str
    power_w: float
    energy_wh: float


class Mark(msgspec.Struct, frozen=True, order=True):
    """High-water mark of frames from the CCS."""

    epoch: int
    counter: int
