"""Contracts between a customer and a third party for a service point (B01, F31), as decisions on facts.

::

    drafted → signed → approved → ended
        └───────┴─────────┴─ declined | ended

Nothing is possible without one that is signed, approved and running: a permission is only given under one,
never reaches beyond its time, and ends with it. Each of the three parties' yes to the tier is on record.
"""

from hashlib import sha256
from typing import Literal

import msgspec
from msgspec.structs import replace

from doorward.ccs.rules.facts import FAR_US, Party, ServicePoint, Tier
from doorward.wire.reasons import Reason, Refused

State = Literal["drafted", "signed", "approved", "declined", "ended"]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a third party offers to customers, and that it agrees to the tier (F31).

    ``wants`` are the operations that it asks for, by device class; the customer chooses among them.
    """

    party: str
    legal_name: str = ""
    purpose: str = "energy savings"
    website: str = ""
    tier: str
    wants: dict[str, list[str]] = {}
    verified_us: int = 0
    agreed_by: str = ""
    agreed_us: int = 0
    open: bool = True

    @property
    def id(self) -> str:
        """One offer per third party."""
        return self.party


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One contract. ``…_by`` is a person's id, ``rule`` or ``file``; ``0`` and ``""`` mean not (yet).

    ``text_hash`` is the SHA-256 (hex) of the exact text that was signed.
    """

    id: str
    party: str
    customer: str
    service_point: str
    tier: str
    state: State
    text: str
    text_hash: str
    starts_us: int
    ends_us: int
    drafted_by: str = ""
    drafted_us: int = 0
    agreed_by: str = ""
    """Who agreed to the tier for the third party."""
    agreed_us: int = 0
    signed_by: str = ""
    signed_us: int = 0
    signed_how: str = ""
    approved_by: str = ""
    approved_us: int = 0
    ended_by: str = ""
    ended_us: int = 0
    ended_why: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may still come to something."""
        return self.state in ("drafted", "signed", "approved")


def is_running(contract: Contract, now_us: int) -> bool:
    """Whether anything may be permitted under it now."""
    return contract.state == "approved" and contract.starts_us <= now_us < contract.ends_us


def require_running(contract: Contract | None, now_us: int) -> Contract:
    """Return a contract that is signed, approved and running, or raise ``contract-missing`` with the cause."""
    if contract is None:
        raise Refused(Reason.CONTRACT_MISSING, "there is no contract between this customer and this company")
    if contract.state == "drafted":
        raise Refused(Reason.CONTRACT_MISSING, "the contract is not signed")
    if contract.state == "signed":
        raise Refused(Reason.CONTRACT_MISSING, "the contract is signed, and not approved yet")
    if contract.state != "approved" or now_us >= contract.ends_us:
        raise Refused(Reason.CONTRACT_MISSING, "the contract has ended")
    if now_us < contract.starts_us:
        raise Refused(Reason.CONTRACT_MISSING, "the contract has not begun")
    return contract


def text_of(party: Party, offer: Offer, customer: str, place: ServicePoint, tier: Tier, utility: str) -> str:
    """Return the contract's text: what the customer signs, word for word."""
    return (
        f"Agreement between {customer} (the customer) and {offer.legal_name or party.name} (the company)\n"
        f"for the service point {place.id}{', ' + place.address if place.address else ''}.\n"
        "\n"
        f"1. The company offers: {offer.purpose}.\n"
        "2. The company may reach only the devices that the customer permits, only as the customer permits, "
        f"and only through {utility}. The customer may change or withdraw this at any time; it takes effect "
        "at once.\n"
        f'3. Service level "{tier.name}": at most {tier.per_hour} messages an hour and {tier.per_day} a day; '
        f"answers within {tier.response_s} seconds. {utility}, the customer and the company agree to this level.\n"
        "4. The agreement ends on its last day, when either side ends it, or when electricity service to the "
        "customer ends at this address. All permissions end with it.\n"
        "5. What the company received before stays with the company; for its deletion the customer asks the "
        "company.\n"
    )


def draft(
    *,
    id: str,
    offer: Offer,
    customer: str,
    service_point: str,
    text: str,
    by: str,
    starts_us: int,
    ends_us: int,
    now_us: int,
) -> Contract:
    """Return a contract on the table; the company's yes to its tier comes from its offer."""
    if ends_us <= starts_us:
        raise Refused(Reason.BODY_MALFORMED, "a contract ends after it starts", field="/ends")
    return Contract(
        id=id,
        party=offer.party,
        customer=customer,
        service_point=service_point,
        tier=offer.tier,
        state="drafted",
        text=text,
        text_hash=sha256(text.encode()).hexdigest(),
        starts_us=starts_us,
        ends_us=min(ends_us, FAR_US),
        drafted_by=by,
        drafted_us=now_us,
        agreed_by=offer.agreed_by,
        agreed_us=offer.agreed_us,
    )


def sign(contract: Contract, by: str, text_hash: str, how: str, now_us: int) -> Contract:
    """Return it signed by the customer; the text that was shown must be the text that stands."""
    _require_state(contract, "drafted")
    if text_hash != contract.text_hash:
        raise Refused(Reason.TOO_LATE, "the text has changed since it was shown; read it again")
    return replace(contract, state="signed", signed_by=by, signed_us=now_us, signed_how=how)


def approve(contract: Contract, by: str, now_us: int) -> Contract:
    """Return it approved for the utility, by a person or by ``rule``."""
    _require_state(contract, "signed")
    if not contract.agreed_us:
        raise Refused(Reason.CONTRACT_MISSING, "the company has not agreed to the service level")
    return replace(contract, state="approved", approved_by=by, approved_us=now_us)


def decline(contract: Contract, by: str, why: str, now_us: int) -> Contract:
    """Return it declined by the utility."""
    _require_state(contract, "signed")
    return replace(contract, state="declined", ended_by=by, ended_us=now_us, ended_why=why)


def end(contract: Contract, by: str, why: str, now_us: int) -> Contract:
    """Return it ended; one that has ended stays as it is."""
    if not contract.is_open:
        return contract
    return replace(contract, state="ended", ended_by=by, ended_us=now_us, ended_why=why)


def _require_state(contract: Contract, state: State) -> None:
    if contract.state != state:
        raise Refused(
            Reason.TOO_LATE, f"the contract is {contract.state}, not {state}: somebody was here before"
        )
