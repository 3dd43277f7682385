"""What is there, read in one transaction; and a plan carried out, in the same or another."""

import random
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import msgspec

from doorward.ccs.agreeing import By, contract_event, record_changes
from doorward.ccs.ports import AllBooks, ConsentAuthority
from doorward.ccs.rules.contracts import Contract, Offer
from doorward.ccs.rules.facts import (
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
    Thing,
    Tier,
)
from doorward.ccs.rules.feed import Subscription
from doorward.ccs.rules.people import Person
from doorward.ccs.setup.grants import signed_grant
from doorward.ccs.setup.plan import Begin, Change, Code, End, Give, LinkEnds, Present, Put, Record, Withdraw

PAGE = 1_000
FILE = "file"
"""Who changes what ``doorward apply`` changes."""
CODE_US = 7 * 24 * 3600 * 1_000_000
"""How long an enrolment code may be used."""

T = TypeVar("T")

MakeCode = Callable[[str], str]
"""gateway → the hash of a new enrolment code, which has reached whoever installs the gateway."""


async def read_present(books: AllBooks, now_us: int) -> Present:
    """Return everything that is set up, with open links and all permissions."""
    ids = {thing: await _all_ids(books, thing) for thing in Thing}
    parties = await books.parties(ids[Thing.PARTY])
    credentials = [each for party in parties for each in await books.credentials(party)]
    links = [link for kind in LinkKind for link in await books.links(kind, live_us=now_us)]
    return Present(
        tiers=await books.tiers(),
        parties=parties,
        subscriptions={each.id: each for each in await books.subscriptions()},
        credentials={credential.id: credential for credential in credentials},
        customers=await books.customers(ids[Thing.CUSTOMER]),
        accounts=await books.accounts(ids[Thing.ACCOUNT]),
        service_points=await books.service_points(ids[Thing.SERVICE_POINT]),
        meters=await books.meters(ids[Thing.METER]),
        gateways=await books.gateways(ids[Thing.GATEWAY]),
        devices=await books.equipment(ids[Thing.DEVICE]),
        links=links,
        grants={grant.id: grant for party in parties for grant in await _all_grants(books, party)},
        people=await books.people(await _all_people(books)),
        offers={offer.party: offer for offer in await books.offers(parties)},
        contracts={each.id: each for each in await books.contracts_at(ids[Thing.SERVICE_POINT])},
        kept=await books.changed_by_people(FILE),
    )


async def _all_people(books: AllBooks) -> list[str]:
    found: list[str] = []
    while part := await books.people_from(found[-1] if found else "", PAGE):
        found += [person.id for person in part]
    return found


async def _all_ids(books: AllBooks, thing: Thing) -> list[str]:
    found: list[str] = []
    while part := await books.known(thing, after=found[-1] if found else "", limit=PAGE):
        found += part
    return found


async def _all_grants(books: AllBooks, party: str) -> list[Grant]:
    found: list[Grant] = []
    while part := await books.grants_of(party, after=found[-1].sequence if found else -1, limit=PAGE):
        found += part
    return found


async def carry_out(
    books: AllBooks,
    changes: Sequence[Change],
    consent: ConsentAuthority,
    make_code: MakeCode,
    rng: random.Random,
    now_us: int,
) -> None:
    """Carry out a plan in this transaction; third parties are told of what happens to their permissions.

    Codes are made before the transaction commits, so that none is promised that nobody has.
    """
    # withdrawals first, as on the wire; and a link must end before the next one may begin
    await _put_grants(books, [each.grant for each in _of(changes, Withdraw)], rng, now_us)
    for kind in LinkKind:
        gone = [(a, b) for ended, a, b in _links(changes, End) if ended is kind]
        if gone:
            await books.end_links(kind, gone, now_us)
    records = [each.record for each in _of(changes, Put)]
    await _put_records(books, records)
    ended = [each for each in _of(records, Contract) if each.state == "ended"]
    await books.add_events([contract_event(each, rng, now_us) for each in ended])
    await books.put_links(
        [Link(kind=kind, a=a, b=b, since_us=now_us) for kind, a, b in _links(changes, Begin)]
    )
    gives = _of(changes, Give)
    given = [signed_grant(each.document, each.tier, consent, now_us) for each in gives]
    await books.put_grants(given)
    by = By(person=FILE, asked_us=now_us)
    said = {each.document.grant: each.said for each in gives}
    first, later = [each for each in given if each.version == 1], [each for each in given if each.version > 1]
    await record_changes(books, by, "granted", first, said, rng, now_us)
    await record_changes(books, by, "changed", later, said, rng, now_us)
    await _put_codes(books, [each.gateway for each in _of(changes, Code)], make_code, now_us)


async def _put_grants(books: AllBooks, withdrawn: Sequence[Grant], rng: random.Random, now_us: int) -> None:
    gone = [msgspec.structs.replace(grant, state="withdrawn", changed_us=now_us) for grant in withdrawn]
    await books.put_grants(gone)
    await record_changes(books, By(person=FILE, asked_us=now_us), "withdrawn", gone, {}, rng, now_us)


async def _put_records(books: AllBooks, records: Sequence[Record]) -> None:
    await books.put_tiers(_of(records, Tier))
    await books.put_parties(_of(records, Party))
    await books.put_credentials(_of(records, Credential))
    await _put_subscriptions(books, _of(records, Subscription))
    await books.put_customers(_of(records, Customer))
    await books.put_accounts(_of(records, Account))
    await books.put_service_points(_of(records, ServicePoint))
    await books.put_meters(_of(records, Meter))
    await books.put_gateways(_of(records, Gateway))
    await books.put_equipment(_of(records, Device))
    await books.put_people(_of(records, Person))
    await books.put_offers(_of(records, Offer))
    await books.put_contracts(_of(records, Contract))


async def _put_subscriptions(books: AllBooks, subscriptions: Sequence[Subscription]) -> None:
    """A new one begins at the end of the feed, not with all that ever happened."""
    if not subscriptions:
        return
    known = {each.id for each in await books.subscriptions()}
    end = await books.everything_end()
    await books.put_subscriptions(
        [each if each.id in known else msgspec.structs.replace(each, cursor=end) for each in subscriptions]
    )


async def _put_codes(books: AllBooks, gateways: Collection[str], make_code: MakeCode, now_us: int) -> None:
    known = await books.gateways(gateways, lock=True)
    coded = [
        msgspec.structs.replace(gateway, code_hash=make_code(gateway.id), code_expires_us=now_us + CODE_US)
        for gateway in known.values()
        if gateway.state == "expected"
    ]
    await books.put_gateways(coded)


def _of(items: Sequence[object], kind: type[T]) -> list[T]:
    return [item for item in items if isinstance(item, kind)]


def _links(changes: Sequence[Change], kind: type[Begin] | type[End]) -> list[LinkEnds]:
    return [each.link for each in _of(changes, kind)]
