"""From what is wanted and what is there to a list of changes, each said in words. Pure: no input, no output.

Nothing is ever deleted. What is no longer wanted loses its links; its permissions are withdrawn, a third
party is suspended, and its record stays. What apply did not make (a permission that a customer gave by
another way) is left alone: apply's own permissions have ids that begin with ``file.``.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from doorward.ccs.rules.contracts import Contract, Offer, end, text_of
from doorward.ccs.rules.facts import (
    FAR_US,
    Account,
    Credential,
    Customer,
    Device,
    Gateway,
    Grant,
    Link,
    LinkKind,
    Meter,
    Party,
    ServicePoint,
    Tier,
)
from doorward.ccs.rules.feed import Subscription
from doorward.ccs.rules.people import Person
from doorward.ccs.rules.wording import document_words
from doorward.ccs.setup.grants import grant_document
from doorward.wire.grants import DevicePermit, GrantDocument
from doorward.wire.topics import partition_of

OWN_PREFIX = "file."
"""Ids of permissions and credentials that apply made begin so."""

Record = (
    Tier
    | Party
    | Credential
    | Customer
    | Account
    | ServicePoint
    | Meter
    | Gateway
    | Device
    | Person
    | Offer
    | Contract
    | Subscription
)
LinkEnds = tuple[LinkKind, str, str]

R = TypeVar("R", bound=msgspec.Struct)


class WantedGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A permission as the file has it. ``not_before_us`` 0 means from when it is first given."""

    id: str
    party: str
    service_point: str
    purpose: str
    tier: str
    permits: list[DevicePermit]
    expires_us: int
    not_before_us: int = 0
    service_point_limit: bool = False
    signature_required: bool = False
    consent: str = ""
    """The customer's yes: a form, a call."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The state to reach. All references between its parts are whole (the reader sees to that).

    ``said`` names (kind, id, field) of states that were said; the others keep what they are.
    ``coded`` are gateways for which an enrolment code is wanted while they are expected.
    """

    tiers: list[Tier] = []
    parties: list[Party] = []
    """Third parties, and the utility's other systems."""
    subscriptions: list[Subscription] = []
    credentials: list[Credential] = []
    customers: list[Customer] = []
    accounts: list[Account] = []
    service_points: list[ServicePoint] = []
    meters: list[Meter] = []
    gateways: list[str] = []
    devices: list[Device] = []
    links: list[LinkEnds] = []
    grants: list[WantedGrant] = []
    people: list[Person] = []
    offers: list[Offer] = []
    utility: str = "the utility"
    said: frozenset[tuple[str, str]] = frozenset()
    coded: frozenset[str] = frozenset()


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, by id; ``links`` are the open ones."""

    tiers: dict[str, Tier] = {}
    parties: dict[str, Party] = {}
    subscriptions: dict[str, Subscription] = {}
    credentials: dict[str, Credential] = {}
    customers: dict[str, Customer] = {}
    accounts: dict[str, Account] = {}
    service_points: dict[str, ServicePoint] = {}
    meters: dict[str, Meter] = {}
    gateways: dict[str, Gateway] = {}
    devices: dict[str, Device] = {}
    links: list[Link] = []
    grants: dict[str, Grant] = {}
    people: dict[str, Person] = {}
    offers: dict[str, Offer] = {}
    contracts: dict[str, Contract] = {}
    kept: dict[str, int] = {}
    """Permissions that people changed by another way since, and when."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``words`` say it to people."""

    words: str


class Put(Change, frozen=True, kw_only=True):
    """Insert or replace a record."""

    record: Record


class End(Change, frozen=True, kw_only=True):
    """End an open link."""

    link: LinkEnds


class Begin(Change, frozen=True, kw_only=True):
    """Begin a link now."""

    link: LinkEnds


class Give(Change, frozen=True, kw_only=True):
    """Sign and put a permission, new or in a new version."""

    document: GrantDocument
    tier: str
    said: list[str] = []
    """What it allows, in sentences."""


class Withdraw(Change, frozen=True, kw_only=True):
    """Withdraw a permission."""

    grant: Grant


class Code(Change, frozen=True, kw_only=True):
    """Make a one-time enrolment code for a gateway."""

    gateway: str


class Note(Change, frozen=True, kw_only=True):
    """Nothing to do, but something to know."""


KINDS = {
    Tier: "tier",
    Party: "third party",
    Customer: "customer",
    Account: "account",
    ServicePoint: "service point",
    Meter: "meter",
    Gateway: "gateway",
    Device: "device",
    Person: "person",
    Offer: "offer of",
    Contract: "contract",
    Subscription: "subscription",
}
_TIES = {
    LinkKind.CUSTOMER_ACCOUNT: ("customer {a}", "account {b}"),
    LinkKind.ACCOUNT_SERVICE_POINT: ("account {a}", "service point {b}"),
    LinkKind.SERVICE_POINT_METER: ("meter {b}", "service point {a}"),
    LinkKind.SERVICE_POINT_GATEWAY: ("gateway {b}", "service point {a}"),
    LinkKind.DEVICE_SERVICE_POINT: ("device {a}", "service point {b}"),
}
_CAME = ("cursor", "next_us", "attempts", "failing_since_us", "why")
"""What of a subscription says how far it has come."""
_SECRET = {"value", "keys"}
"""Fields whose values are not for the terminal."""


def plan(wanted: Wanted, present: Present, now_us: int) -> list[Change]:
    """Return the changes from ``present`` to ``wanted``, in an order in which they can be carried out.

    Wanted and present alike give none, apart from notes.
    """
    return [
        *_withdrawals(wanted, present, now_us),
        *_endings(wanted, present),
        *_records(wanted, present, now_us),
        *_people(wanted, present, now_us),
        *_beginnings(wanted, present),
        *_contracts(wanted, present, now_us),
        *_permissions(wanted, present, now_us),
    ]


def changes_only(changes: Sequence[Change]) -> list[Change]:
    """Return the changes without the notes."""
    return [change for change in changes if not isinstance(change, Note)]


# --- records ----------------------------------------------------------------------------------------


def _records(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    yield from _puts({tier.name: tier for tier in wanted.tiers}, present.tiers)
    parties = {party.id: _kept_party(party, present, wanted) for party in wanted.parties}
    yield from _puts(parties, present.parties)
    yield from _ended_tokens(parties, present, wanted, now_us)
    yield from _suspensions(parties, present)
    yield from _credentials(wanted, present, now_us)
    yield from _subscriptions(wanted, present)
    yield from _puts({each.id: each for each in wanted.customers}, present.customers)
    yield from _puts({each.id: each for each in wanted.accounts}, present.accounts)
    points = {point.id: _kept_point(point, present, wanted) for point in wanted.service_points}
    yield from _puts(points, present.service_points)
    yield from _puts({each.id: each for each in wanted.meters}, present.meters)
    yield from _gateways(wanted, present, now_us)
    yield from _puts({each.id: each for each in wanted.devices}, present.devices, but={"service_point"})


def _puts(
    wanted: Mapping[str, R], present: Mapping[str, R], but: set[str] | frozenset[str] = frozenset()
) -> Iterator[Change]:
    for id, record in wanted.items():
        kind = _kind_of(record)
        found = present.get(id)
        if found is None:
            yield Put(words=f"add {kind} {id}", record=record)  # type: ignore[arg-type]
            continue
        differing = [
            name
            for name in record.__struct_fields__
            if name not in but and getattr(record, name) != getattr(found, name)
        ]
        if differing:
            said = ", ".join(_difference(name, found, record) for name in differing)
            yield Put(words=f"change {kind} {id}: {said}", record=record)  # type: ignore[arg-type]


def _kind_of(record: msgspec.Struct) -> str:
    return "system" if isinstance(record, Party) and record.kind == "system" else KINDS[type(record)]


def _subscriptions(wanted: Wanted, present: Present) -> Iterator[Change]:
    """How far one has come stays; one that an operator made by another way is left alone."""
    kept = {}
    for each in wanted.subscriptions:
        found = present.subscriptions.get(each.id, each)
        came = {name: getattr(found, name) for name in _CAME}
        kept[each.id] = msgspec.structs.replace(each, **came)
    yield from _puts(kept, present.subscriptions)


def _difference(name: str, before: object, after: object) -> str:
    if name in _SECRET:
        return name
    return f"{name} {_shown(getattr(before, name))} → {_shown(getattr(after, name))}"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _kept_party(party: Party, present: Present, wanted: Wanted) -> Party:
    """What the utility decided by another way (a suspension, ended tokens) is not undone by silence."""
    found = present.parties.get(party.id)
    if found is None:
        return party
    party = msgspec.structs.replace(party, tokens_not_before_us=found.tokens_not_before_us)
    if ("party", party.id) not in wanted.said:
        party = msgspec.structs.replace(party, state=found.state)
    return party


def _ended_tokens(
    parties: Mapping[str, Party], present: Present, wanted: Wanted, now_us: int
) -> Iterator[Change]:
    """Tokens end with what they were given for: a secret or a key that is withdrawn takes them along."""
    for party in parties.values():
        if _is_withdrawn(party, present, wanted, now_us):
            ended = msgspec.structs.replace(party, tokens_not_before_us=now_us)
            yield Put(words=f"end the tokens of third party {party.id}", record=ended)


def _is_withdrawn(party: Party, present: Present, wanted: Wanted, now_us: int) -> bool:
    """Whether something by which the party could prove itself is not good any more."""
    kept = {credential.id: credential for credential in wanted.credentials}
    for id, credential in present.credentials.items():
        if credential.party != party.id or not id.startswith(OWN_PREFIX) or credential.not_after_us <= now_us:
            continue
        after = kept.get(id)
        if after is None or not _proofs(credential) <= _proofs(after):
            return True
    return False


def _proofs(credential: Credential) -> set[str]:
    """What a credential proves a party by: a hash, or each key of a JWK Set."""
    if credential.kind == "secret":
        return {credential.value}
    keys = msgspec.json.decode(credential.value)["keys"]
    return {msgspec.json.encode(key, order="deterministic").decode() for key in keys}


def _kept_point(point: ServicePoint, present: Present, wanted: Wanted) -> ServicePoint:
    found = present.service_points.get(point.id)
    if found is None or ("service_point", point.id) in wanted.said:
        return point
    return msgspec.structs.replace(point, service=found.service)


def _suspensions(wanted: Mapping[str, Party], present: Present) -> Iterator[Change]:
    for id, party in present.parties.items():
        if id not in wanted and party.state == "active":
            gone = msgspec.structs.replace(party, state="suspended")
            yield Put(words=f"suspend third party {id} (no longer in the file)", record=gone)


def _credentials(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    kept = {credential.id: credential for credential in wanted.credentials}
    for id, credential in kept.items():
        found = present.credentials.get(id)
        if found != credential:
            verb = "set" if found is None else "change"
            words = f"{verb} the {credential.kind} of third party {credential.party}"
            yield Put(words=words, record=credential)
    for id, credential in present.credentials.items():
        if id.startswith(OWN_PREFIX) and id not in kept and credential.not_after_us > now_us:
            ended = msgspec.structs.replace(credential, not_after_us=now_us)
            yield Put(words=f"end the {credential.kind} of third party {credential.party}", record=ended)


def _gateways(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    for id in wanted.gateways:
        gateway = present.gateways.get(id)
        if gateway is None:
            fresh = Gateway(id=id, partition=partition_of(id))
            yield Put(words=f"expect gateway {id}", record=fresh)
        elif gateway.state == "revoked":
            yield Note(words=f"gateway {id} is revoked and stays so")
        usable = gateway is not None and gateway.code_hash and gateway.code_expires_us > now_us
        if id in wanted.coded and (gateway is None or gateway.state == "expected") and not usable:
            yield Code(words=f"make a one-time enrolment code for gateway {id}", gateway=id)


def _people(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    """People keep their password, their locks and their way of reading; companies what they agreed to."""
    people = {}
    for person in wanted.people:
        found = present.people.get(person.id)
        if found is not None:
            kept = ("password", "failed", "locked_until_us", "created_us", "fahrenheit")
            person = msgspec.structs.replace(person, **{name: getattr(found, name) for name in kept})
        people[person.id] = person
    yield from _puts(people, present.people)
    offers = {}
    for offer in wanted.offers:
        before = present.offers.get(offer.party)
        agreed_us = before.agreed_us if before is not None and before.tier == offer.tier else now_us
        offers[offer.party] = msgspec.structs.replace(offer, agreed_us=agreed_us)
    yield from _puts(offers, present.offers)


# --- contracts (B01) --------------------------------------------------------------------------------


def _contracts(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    """A permission in the file stands on a contract: signed on paper, approved by whoever keeps the file."""
    off = _turned_off(wanted, present)
    for grant in wanted.grants:
        found = present.grants.get(grant.id)
        if (
            grant.service_point in off
            or grant.expires_us <= now_us
            or (found is not None and found.state == "withdrawn")
        ):
            continue
        id = contract_id(grant.id)
        before = present.contracts.get(id)
        others = (each for each in present.contracts.values() if each.id != id and each.is_open)
        if any((each.party, each.service_point) == (grant.party, grant.service_point) for each in others):
            yield Note(words=f"{grant.party} at {grant.service_point} has another contract, which stays")
        elif before is None or (before.state == "approved" and _contract_differs(before, grant)):
            where = f"{grant.party} at {grant.service_point}"
            verb = "put on record" if before is None else "change"
            record = _contract(wanted, present, grant, before, now_us)
            yield Put(words=f"{verb} the contract of {where} ({grant.tier})", record=record)


def contract_id(grant: str) -> str:
    """Return the id of the contract that a permission of the file stands on."""
    return f"{grant}.contract"


def _contract_differs(before: Contract, grant: WantedGrant) -> bool:
    return (before.tier, before.ends_us) != (grant.tier, grant.expires_us)


def _contract(
    wanted: Wanted, present: Present, grant: WantedGrant, before: Contract | None, now_us: int
) -> Contract:
    parties = {party.id: party for party in wanted.parties}
    offers = {offer.party: offer for offer in wanted.offers}
    points = {point.id: point for point in wanted.service_points}
    tiers = {tier.name: tier for tier in wanted.tiers}
    offer = msgspec.structs.replace(
        offers.get(grant.party, Offer(party=grant.party, tier=grant.tier)),
        tier=grant.tier,
        purpose=grant.purpose,
    )
    customer = _customer_at(wanted, grant.service_point)
    named = {each.id: each.name or each.id for each in wanted.customers}
    text = text_of(
        parties[grant.party],
        offer,
        named.get(customer, "the customer"),
        points[grant.service_point],
        tiers[grant.tier],
        wanted.utility,
    )
    since_us = before.starts_us if before else min(grant.not_before_us or now_us, now_us)
    return Contract(
        id=contract_id(grant.id),
        party=grant.party,
        customer=customer,
        service_point=grant.service_point,
        tier=grant.tier,
        state="approved",
        text=text,
        text_hash=sha256(text.encode()).hexdigest(),
        starts_us=since_us,
        ends_us=grant.expires_us,
        drafted_by="file",
        drafted_us=now_us,
        agreed_by="file",
        agreed_us=now_us,
        signed_by=customer or "file",
        signed_us=now_us,
        signed_how=grant.consent or "as the utility's file says",
        approved_by="file",
        approved_us=now_us,
    )


def _customer_at(wanted: Wanted, service_point: str) -> str:
    """Return the first customer of the account at a service point."""
    accounts = [
        a for kind, a, b in wanted.links if kind is LinkKind.ACCOUNT_SERVICE_POINT and b == service_point
    ]
    held = [a for kind, a, b in wanted.links if kind is LinkKind.CUSTOMER_ACCOUNT and b in accounts]
    return held[0] if held else ""


# --- links ------------------------------------------------------------------------------------------


def _endings(wanted: Wanted, present: Present) -> Iterator[Change]:
    kept = set(wanted.links)
    for link in present.links:
        ends = (link.kind, link.a, link.b)
        if link.until_us == FAR_US and ends not in kept:
            one, other = _ties(ends)
            yield End(words=f"end the link of {one} to {other}", link=ends)


def _beginnings(wanted: Wanted, present: Present) -> Iterator[Change]:
    there = {(link.kind, link.a, link.b) for link in present.links if link.until_us == FAR_US}
    for ends in dict.fromkeys(wanted.links):
        if ends not in there:
            one, other = _ties(ends)
            yield Begin(words=f"link {one} to {other} from now on", link=ends)


def _ties(link: LinkEnds) -> tuple[str, str]:
    kind, a, b = link
    one, other = _TIES[kind]
    return one.format(a=a, b=b), other.format(a=a, b=b)


# --- permissions ------------------------------------------------------------------------------------


def _withdrawals(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    off = _turned_off(wanted, present)
    kept = {grant.id for grant in wanted.grants}
    pairs = {(grant.party, grant.service_point) for grant in wanted.grants if _is_new(grant, present)}
    for id, grant in present.grants.items():
        where = f"the permission of {grant.party} at {grant.service_point}"
        if grant.state == "live" and grant.service_point in off:
            yield Withdraw(words=f"withdraw {where} (service is off)", grant=grant)
            continue
        if grant.state != "live" or id in kept:
            continue
        if (grant.party, grant.service_point) in pairs:
            yield Withdraw(words=f"withdraw {where} (another takes its place)", grant=grant)
            yield from _ended(id, where, present, now_us)
        elif id.startswith(OWN_PREFIX):
            yield Withdraw(words=f"withdraw {where} (no longer in the file)", grant=grant)
            yield from _ended(id, where, present, now_us)

    for contract in present.contracts.values():
        if contract.is_open and contract.service_point in off:
            gone = end(contract, "file", "service off", now_us)
            words = f"end the contract of {contract.party} at {contract.service_point} (service is off)"
            yield Put(words=words, record=gone)


def _turned_off(wanted: Wanted, present: Present) -> set[str]:
    """Return the service points at which service is off, or will be by this plan (B02)."""
    points = [_kept_point(point, present, wanted) for point in wanted.service_points]
    return {point.id for point in points if point.service == "off"}


def _ended(grant: str, where: str, present: Present, now_us: int) -> Iterator[Change]:
    """The contract that a permission of the file stood on ends with it."""
    contract = present.contracts.get(contract_id(grant))
    if contract is not None and contract.is_open:
        gone = end(contract, "file", "no longer in the file", now_us)
        yield Put(words=f"end the contract behind {where}", record=gone)


def _is_new(grant: WantedGrant, present: Present) -> bool:
    found = present.grants.get(grant.id)
    return found is None or found.state == "live"


def _permissions(wanted: Wanted, present: Present, now_us: int) -> Iterator[Change]:
    parties = {party.id: _kept_party(party, present, wanted) for party in wanted.parties}
    points = {point.id: point for point in wanted.service_points}
    tiers = {tier.name: tier for tier in wanted.tiers}
    names = {device.id: device.name for device in wanted.devices}
    off = _turned_off(wanted, present)
    for grant in wanted.grants:
        found = present.grants.get(grant.id)
        where = f"{grant.party} at {grant.service_point}"
        if found is not None and found.state == "withdrawn":
            yield Note(
                words=f"the permission of {where} was withdrawn {_day(found.changed_us)} and stays so; "
                "for a new one give another `consent`"
            )
            continue
        if grant.service_point in off:
            yield Note(words=f"service is off at {grant.service_point}: {where} is not given anything")
            continue
        if found is not None and grant.id in present.kept:
            day = _day(present.kept[grant.id])
            yield Note(words=f"the permission of {where} was changed by people {day} and stays as it is")
            continue
        document = grant_document(
            grant=grant.id,
            version=found.version + 1 if found else 1,
            party=parties[grant.party],
            tier=tiers[grant.tier],
            service_point=points[grant.service_point],
            permits=grant.permits,
            purpose=grant.purpose,
            not_before_us=grant.not_before_us or (found.document.not_before_us if found else now_us),
            expires_us=grant.expires_us,
            now_us=now_us,
            service_point_limit=grant.service_point_limit,
            signature_required=grant.signature_required,
        )
        if found is None and grant.expires_us <= now_us:
            yield Note(words=f"the permission of {where} ended {_day(grant.expires_us)} and is not given")
        elif found is None:
            words = f"give {where} a permission until {_day(grant.expires_us)}: {_permitted(document)}"
            said = document_words(document, names)
            yield Give(words=words, document=document, tier=grant.tier, said=said)
        elif differing := _differing(found, document, grant.tier):
            words = f"change the permission of {where} (version {document.version}): {', '.join(differing)}"
            yield Give(words=words, document=document, tier=grant.tier)


def _differing(found: Grant, document: GrantDocument, tier: str) -> list[str]:
    """Name what differs, apart from what differs in every version."""
    names = [name for name in document.__struct_fields__ if name not in ("version", "issued_us")]
    differing = [name for name in names if getattr(found.document, name) != getattr(document, name)]
    return differing + (["tier"] if found.tier != tier else [])


def _permitted(document: GrantDocument) -> str:
    return "; ".join(f"{permit.device} ({', '.join(permit.operations)})" for permit in document.devices)


def _day(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
