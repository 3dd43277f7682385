"""A customer's permission as a signed grant: the document, its signature and its first lease."""

from collections.abc import Sequence

import msgspec

from doorward.ccs.ports import ConsentAuthority
from doorward.ccs.rules.facts import Grant, Party, ServicePoint, Tier
from doorward.wire.grants import DevicePermit, GrantDocument, LeaseDocument, lease_until_us
from doorward.wire.signatures import payload_of


def grant_document(
    *,
    grant: str,
    version: int,
    party: Party,
    tier: Tier,
    service_point: ServicePoint,
    permits: Sequence[DevicePermit],
    purpose: str,
    not_before_us: int,
    expires_us: int,
    now_us: int,
    service_point_limit: bool = False,
    signature_required: bool = False,
) -> GrantDocument:
    """Return the document that the customer's yes amounts to.

    The third party's command keys and whether it must sign come from ``party`` (the grant may ask for more).
    """
    return GrantDocument(
        grant=grant,
        version=version,
        party=party.id,
        service_point=service_point.id,
        purpose=purpose,
        devices=list(permits),
        not_before_us=not_before_us,
        expires_us=expires_us,
        issued_us=now_us,
        timezone=service_point.timezone,
        service_point_limit=service_point_limit,
        signature_required=signature_required or party.signature_required,
        party_keys=party.keys,
        utility=party.utility,
        tier_hour=tier.per_hour,
        tier_day=tier.per_day,
    )


def signed_grant(document: GrantDocument, tier: str, consent: ConsentAuthority, now_us: int) -> Grant:
    """Return a live grant over a document, with its first lease: both are what the authority signed.

    Raises :class:`~doorward.wire.reasons.Refused` when it does not.
    """
    signed = consent.sign_grant(msgspec.json.encode(document))
    said = msgspec.json.decode(payload_of(signed), type=GrantDocument)
    asked = LeaseDocument(
        grant=document.grant,
        version=document.version,
        until_us=lease_until_us(document.grant, document.expires_us, now_us),
        issued_us=now_us,
    )
    lease = consent.sign_lease(msgspec.json.encode(asked))
    return Grant(
        id=said.grant,
        party=said.party,
        service_point=said.service_point,
        version=said.version,
        state="live",
        tier=tier,
        document=said,
        signed=signed,
        lease_until_us=msgspec.json.decode(payload_of(lease), type=LeaseDocument).until_us,
        lease_signed=lease,
        changed_us=now_us,
    )


def build_grant(
    *,
    grant: str,
    party: Party,
    tier: Tier,
    service_point: ServicePoint,
    permits: Sequence[DevicePermit],
    purpose: str,
    expires_us: int,
    now_us: int,
    consent: ConsentAuthority,
    version: int = 1,
    service_point_limit: bool = False,
    signature_required: bool = False,
) -> Grant:
    """Return a permission that holds from now on, signed and leased, ready for ``put_grants``."""
    document = grant_document(
        grant=grant,
        version=version,
        party=party,
        tier=tier,
        service_point=service_point,
        permits=permits,
        purpose=purpose,
        not_before_us=now_us,
        expires_us=expires_us,
        now_us=now_us,
        service_point_limit=service_point_limit,
        signature_required=signature_required,
    )
    return signed_grant(document, tier.name, consent, now_us)
