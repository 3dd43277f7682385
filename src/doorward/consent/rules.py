"""What the consent authority decides: pure, with the time and the facts as arguments."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import kid_of, verify

US = 1_000_000
EVIDENCE_TYP = "consent-evidence"
EVIDENCE_US_MAX = 15 * 60 * US
"""How old an operator's evidence may be, and how far ahead of our clock."""
CODE_DIGITS = 8
CODE_US = 15 * 60 * US
CODE_TRIES_MAX = 5
ISSUED_US_MAX = 10 * 60 * US
"""How far the time in a document may be from ours."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator signs: the digest of one document, of one kind, at one time."""

    kind: str
    sha256: str
    issued_us: int


class PartyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A third party as the authority knows it: the keys of its commands, and whether it must sign them."""

    id: str
    name: str
    keys: dict[str, dict[str, str]] = {}
    signature_required: bool = True


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How the customer of a service point is reached past the CCS: an e-mail address."""

    service_point: str
    email: str
    name: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A permission in the register. ``ended`` is the version up to which it is over (-1: none)."""

    document: GrantDocument
    signed: str
    ended: int = -1

    @property
    def is_live(self) -> bool:
        """Whether it stands."""
        return self.document.version > self.ended


def digest(document: bytes) -> str:
    """Return what evidence names a document by."""
    return sha256(document).hexdigest()


def require_evidence(
    evidence: str, operators: Mapping[str, dict[str, str]], kind: str, document: bytes, now_us: int
) -> str:
    """Return the ``kid`` of the operator who signed for this very document, just now.

    Raises ``signature-invalid``: no operator of ours, another document or kind, too old.
    """
    payload = verify(evidence, dict(operators), EVIDENCE_TYP)
    try:
        said = msgspec.json.decode(payload, type=Evidence)
    except msgspec.DecodeError as error:
        raise Refused(Reason.SIGNATURE_INVALID, f"evidence: {error}") from None
    if (said.kind, said.sha256) != (kind, digest(document)):
        raise Refused(Reason.SIGNATURE_INVALID, "the evidence is for another document")
    if abs(said.issued_us - now_us) > EVIDENCE_US_MAX:
        raise Refused(Reason.SIGNATURE_INVALID, "the evidence is not of now")
    return kid_of(evidence)


def require_next(document: GrantDocument, held: Standing | None, now_us: int) -> None:
    """Raise unless ``document`` can follow what the register holds of its grant."""
    if abs(document.issued_us - now_us) > ISSUED_US_MAX:
        raise Refused(Reason.BODY_MALFORMED, "the document is not of now", field="/issued_us")
    if document.expires_us <= now_us:
        raise Refused(Reason.ACCESS_ENDED, "the permission would have ended already", field="/expires_us")
    if held is None:
        return
    if not held.is_live:
        raise Refused(Reason.ACCESS_DISABLED, f"{document.grant} was withdrawn; a new yes needs a new grant")
    if document.version <= held.document.version:
        raise Refused(Reason.REPLAYED, f"version {held.document.version} is already signed", field="/version")
    if (document.party, document.service_point) != (held.document.party, held.document.service_point):
        raise Refused(Reason.BODY_MALFORMED, "a grant stays with its company and its home")


def is_same(document: GrantDocument, held: Standing | None) -> bool:
    """Whether a document says what is signed already, apart from when it was issued."""
    if held is None or not held.is_live:
        return False
    return msgspec.structs.replace(document, issued_us=held.document.issued_us) == held.document


def is_narrower(new: GrantDocument, old: GrantDocument) -> bool:
    """Whether ``new`` allows nothing that ``old`` does not: it needs no evidence."""
    same = ("party", "service_point", "timezone", "purpose", "utility")
    if any(getattr(new, name) != getattr(old, name) for name in same):
        return False
    if old.signature_required and not new.signature_required:
        return False
    if any(old.party_keys.get(kid) != jwk for kid, jwk in new.party_keys.items()):
        return False
    if new.service_point_limit and not old.service_point_limit:
        return False
    if new.not_before_us < old.not_before_us or new.expires_us > old.expires_us:
        return False
    if (
        new.paused_until_us < old.paused_until_us
        or new.tier_hour > old.tier_hour
        or new.tier_day > old.tier_day
    ):
        return False
    return all(_permit_narrower(permit, old.permit(permit.device)) for permit in new.devices)


def _permit_narrower(new: DevicePermit, old: DevicePermit | None) -> bool:
    if old is None or new.device_class != old.device_class or new.bound_to != old.bound_to:
        return False
    return set(new.operations) <= set(old.operations) and _bounds_narrower(new.bounds, old.bounds)


def _bounds_narrower(new: Bounds, old: Bounds) -> bool:
    at_least = (("watts_min", -1), ("celsius_min", -1), ("watts_max", 1), ("celsius_max", 1))
    for name, sign in (*at_least, ("offset_max", 1), ("times_per_day", 1), ("hours_max", 1)):
        was, now = getattr(old, name), getattr(new, name)
        if was is not None and (now is None or sign * now > sign * was):
            return False
    return old.between is None or new.between == old.between


def require_signing(document: GrantDocument, party: PartyRecord | None) -> None:
    """Raise unless controls under ``document`` need a signature, or the register says that this company need not.

    The utility's own always need one, by its operations key.
    """
    controls = any(operation.is_control for permit in document.devices for operation in permit.operations)
    exempt = document.utility or (party is not None and not party.signature_required)
    if controls and not document.signature_required and not exempt:
        raise Refused(
            Reason.SIGNATURE_INVALID,
            f"{document.party} must sign its controls, and this permission does not ask for it",
            field="/signature_required",
        )


def with_party(document: GrantDocument, party: PartyRecord) -> GrantDocument:
    """Return a document with the third party's keys and duty to sign as the *register* has them."""
    return msgspec.structs.replace(
        document,
        party_keys=party.keys,
        signature_required=document.signature_required or party.signature_required,
    )


def words_of(document: GrantDocument, party: str) -> str:
    """Return what a customer is asked to agree to, in plain words."""
    lines = [f"{party} asks for your permission at {document.service_point}, for {document.purpose}:"]
    for permit in document.devices:
        lines.append(f"  {permit.device}: {', '.join(permit.operations)}{_bounds_words(permit.bounds)}")
    if document.service_point_limit:
        lines.append("  your home as a whole: limit its power")
    end = datetime.fromtimestamp(document.expires_us / US, UTC).strftime("%Y-%m-%d")
    lines.append(f"It ends on {end}, or whenever you say so.")
    return "\n".join(lines)


def _bounds_words(bounds: Bounds) -> str:
    said: Sequence[str] = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in msgspec.structs.asdict(bounds).items()
        if value is not None
    ]
    return f" ({', '.join(said)})" if said else ""
