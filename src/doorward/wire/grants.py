"""The signed documents: the grant, its lease, whom to trust, and a third party's command. Canonical forms.

A document is signed as compact JWS (RFC 7515) with ``alg`` "Ed25519" (RFC 9864) over the JSON that
msgspec produces for the struct (field order as declared, defaults omitted). The verifier checks the
signature over the received bytes and never re-encodes.
"""

import hashlib

import msgspec

from doorward.wire.vocabulary import DeviceClass, Operation, Scope

BINDING_DIGITS = 32
HOUR_US = 3_600_000_000
LEASE_US_MAX = 24 * HOUR_US
LEASE_SPREAD_US = 6 * HOUR_US


class Bounds(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The customer's own bounds on one device. ``None`` means no bound.

    ``between`` is (from, to) in minutes of the local day in the grant's time zone; a span over
    midnight has from > to. ``times_per_day`` counts controls (not reads, not releases) in any 24 h.
    """

    watts_min: float | None = None
    watts_max: float | None = None
    celsius_min: float | None = None
    celsius_max: float | None = None
    offset_max: float | None = None
    times_per_day: int | None = None
    between: tuple[int, int] | None = None
    hours_max: float | None = None
    """The longest time that one control may last, in hours."""


class DevicePermit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is permitted on one device."""

    device: str
    device_class: DeviceClass
    operations: list[Operation]
    bounds: Bounds = Bounds()
    bound_to: str = ""
    """:func:`binding` of the equipment that the customer's yes was for; the gateway tells no other."""


def binding(protocol: str, model: str, address: str, serial: str) -> str:
    """Return the fingerprint of a piece of equipment: how it is reached, and its serial number.

    It stands in the signed grant, so that whoever writes the gateway's list of devices (the CCS) cannot
    point a permitted device's name at other equipment.
    """
    parts = msgspec.json.encode([protocol, model, address, serial])
    return hashlib.sha256(parts).hexdigest()[:BINDING_DIGITS]


class GrantDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer's permission for one third party at one service point.

    ``expires_us`` is exclusive. ``party_keys`` are the public Ed25519 JWKs (by ``kid``) whose signature
    the gateway accepts on commands; ``signature_required`` says whether it must be there.
    """

    grant: str
    version: int
    party: str
    service_point: str
    purpose: str
    devices: list[DevicePermit]
    not_before_us: int
    expires_us: int
    issued_us: int
    timezone: str = "UTC"
    service_point_limit: bool = False
    """Whether a limit for the service point as a whole is permitted (S2.09b)."""
    signature_required: bool = False
    party_keys: dict[str, dict[str, str]] = {}
    utility: bool = False
    """Whether the utility itself is the third party here: its controls carry the signature of a
    utility-operations key (:class:`TrustDocument`), always, and may be of the utility's classes."""
    tier_hour: int = 24
    tier_day: int = 576
    paused_until_us: int = 0
    """Until then nothing is permitted although the grant stands; what runs is let go (0: not paused)."""

    def permit(self, device: str) -> DevicePermit | None:
        """Return the permit of ``device``, or ``None``."""
        for permit in self.devices:
            if permit.device == device:
                return permit
        return None


class LeaseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The consent authority's word that a grant still stands until ``until_us`` (at most 24 h ahead)."""

    grant: str
    version: int
    until_us: int
    issued_us: int


def lease_until_us(grant: str, expires_us: int, now_us: int) -> int:
    """Return until when a lease that is given now lasts: 18 to 24 hours, spread by the grant's hash.

    Leases are renewed at half their life, so that what was given together is not renewed together.
    """
    share = int.from_bytes(hashlib.sha256(grant.encode()).digest()[:4]) / 2**32
    return min(now_us + LEASE_US_MAX - int(share * LEASE_SPREAD_US), expires_us)


class TrustDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Whom gateways believe: the consent authority's keys and the utility-operations keys (``kid`` → JWK).

    Signed (``typ`` ``trust``) by a key of the authority that the gateway already believes; only a higher
    version replaces. So both kinds of keys are exchanged, with an overlap, and with no visit to any home.
    """

    version: int
    issued_us: int
    authority: dict[str, dict[str, str]]
    operations: dict[str, dict[str, str]] = {}


class SignedCommand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a third party signs for a control: ``id`` is its own key of the request."""

    id: str
    party: str
    service_point: str
    scope: Scope
    device: str
    operation: Operation
    body: msgspec.Raw
    start_us: int
    until_us: int
    issued_us: int
    expires_us: int
    grant_version: int
    campaign: bool = False
    """Part of a campaign: it begins at random, whatever is said on the way (X04)."""
