"""Contracts, and the access that they make possible: given, changed, paused, withdrawn, ended (S3.01–S3.06).

Every function is one step over the books, for whatever door somebody came in by. The commit is the moment:
from it the CCS refuses, and its gateway is told. Nothing is given without a contract that is signed,
approved and running; whatever ends a contract ends what was given under it in the same transaction (B01, B02).
"""

import random
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from doorward.ccs.cancelling import cancel_requests
from doorward.ccs.ports import AllBooks, ConsentAuthority
from doorward.ccs.rules import contracts as rule
from doorward.ccs.rules.contracts import Contract
from doorward.ccs.rules.facts import Device, Event, Grant, Request
from doorward.ccs.rules.homes import AccessChange, ChangeKind
from doorward.ccs.rules.people import Person
from doorward.ccs.rules.wording import difference_words, document_words
from doorward.ccs.setup.grants import grant_document, signed_grant
from doorward.kit.ids import uuid7
from doorward.wire.grants import DevicePermit, GrantDocument, binding
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor
from doorward.wire.vocabulary import CLASS_OPERATIONS

CANCELLED_MAX = 1_000
"""Requests that one end of access cancels in its own transaction; dispatch refuses whatever is left."""
PAUSE_US_MAX = 30 * 24 * 3600 * 1_000_000
NEWS: dict[ChangeKind, str] = {
    "granted": "access.granted",
    "changed": "access.changed",
    "paused": "access.changed",
    "resumed": "access.changed",
    "withdrawn": "access.withdrawn",
    "ended": "access.withdrawn",
}
"""What a third party is told of a change."""


class By(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a change, why, and since when they have been asking (the click, the call)."""

    person: str
    name: str = ""
    role: str = ""
    why: str = ""
    asked_us: int
    fahrenheit: bool = False


def by_person(person: Person, asked_us: int, why: str = "") -> By:
    """Return a person as whoever asks."""
    return By(
        person=person.id,
        name=person.name,
        role=person.role,
        why=why,
        asked_us=asked_us,
        fahrenheit=person.fahrenheit,
    )


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a step came to: its receipts, the requests that it cancelled, and whom to tell after the commit."""

    changes: list[AccessChange] = []
    cancelled: list[Request] = []
    contracts: list[Contract] = []

    @property
    def gateways(self) -> set[str]:
        """Gateways that should hold something else now."""
        return {change.gateway for change in self.changes if change.gateway}


class Agreeing:
    """The steps. ``utility`` is what customers call it; ``by_rule``: a signed contract needs no person's yes."""

    def __init__(self, consent: ConsentAuthority, rng: random.Random, utility: str, *, by_rule: bool) -> None:
        self._consent = consent
        self._rng = rng
        self._utility = utility
        self._by_rule = by_rule

    # ---- contracts (B01, F31) -----------------------------------------------------------------------

    async def draft(
        self,
        books: AllBooks,
        by: By,
        *,
        party: str,
        customer: str,
        service_point: str,
        ends_us: int,
        now_us: int,
    ) -> Contract:
        """Put a contract on the table; one that is drafted already takes the new dates.

        Raises ``not-found``, ``party-suspended``, or ``too-late`` while another one is open.
        """
        parties, offers = await books.parties([party]), await books.offers([party])
        place = (await books.service_points([service_point])).get(service_point)
        customers = await books.customers([customer])
        if party not in parties or not offers or not offers[0].open or place is None:
            raise Refused(Reason.NOT_FOUND)
        if parties[party].state != "active":
            raise Refused(Reason.PARTY_SUSPENDED)
        if place.service != "on":
            raise Refused(Reason.SERVICE_OFF)
        tier = (await books.tiers()).get(offers[0].tier)
        if tier is None:
            raise Refused(Reason.NOT_FOUND, "the company's service level does not exist")
        known = await self._open(books, party, service_point)
        if known is not None and (known.state != "drafted" or known.customer != customer):
            raise Refused(Reason.TOO_LATE, f"there is a contract already; it is {known.state}")
        named = customers[customer].name if customer in customers else customer
        contract = rule.draft(
            id=known.id if known else uuid7(now_us, self._rng),
            offer=offers[0],
            customer=customer,
            service_point=service_point,
            text=rule.text_of(parties[party], offers[0], named or customer, place, tier, self._utility),
            by=by.person,
            starts_us=now_us,
            ends_us=ends_us,
            now_us=now_us,
        )
        await books.put_contracts([contract])
        return contract

    async def sign(
        self, books: AllBooks, by: By, contract: str, text_hash: str, how: str, now_us: int
    ) -> Contract:
        """Sign for the customer; by rule it is approved in the same breath. Raises ``not-found``, ``too-late``."""
        signed = rule.sign(await self._contract(books, contract), by.person, text_hash, how, now_us)
        if self._by_rule:
            signed = rule.approve(signed, "rule", now_us)
        await books.put_contracts([signed])
        return signed

    async def approve(self, books: AllBooks, by: By, contract: str, now_us: int) -> Contract:
        """Approve for the utility. Raises ``not-found``, ``too-late``, ``contract-missing``."""
        approved = rule.approve(await self._contract(books, contract), by.person, now_us)
        await books.put_contracts([approved])
        return approved

    async def decline(self, books: AllBooks, by: By, contract: str, now_us: int) -> Contract:
        """Decline for the utility. Raises ``not-found``, ``too-late``."""
        declined = rule.decline(await self._contract(books, contract), by.person, by.why, now_us)
        await books.put_contracts([declined])
        return declined

    async def end(self, books: AllBooks, by: By, contract: str, now_us: int) -> Done:
        """End one contract, and what was given under it. Raises ``not-found``."""
        found = await self._contract(books, contract)
        return await self._end_contracts(books, by, [found], now_us)

    async def service_off(
        self, books: AllBooks, by: By, service_points: Collection[str], now_us: int
    ) -> Done:
        """B02: turn service off; all contracts there end, whoever made them, and so does all access."""
        known = await books.service_points(service_points)
        await books.put_service_points([replace(point, service="off") for point in known.values()])
        return await self.end_all(books, by, list(known), now_us)

    async def end_all(self, books: AllBooks, by: By, service_points: Collection[str], now_us: int) -> Done:
        """End all contracts and all access at some service points: service is off, or the customer has left."""
        found = await books.contracts_at(service_points, lock=True)
        done = await self._end_contracts(books, by, found, now_us)
        left = [grant for grant in await books.grants_at(service_points) if grant.state == "live"]
        more = await self._withdraw(books, by, left, "ended", now_us)
        return Done(
            changes=[*done.changes, *more.changes],
            cancelled=[*done.cancelled, *more.cancelled],
            contracts=done.contracts,
        )

    async def service_on(self, books: AllBooks, service_points: Collection[str]) -> None:
        """Turn service on again; nothing that ended comes back by itself."""
        known = await books.service_points(service_points)
        await books.put_service_points([replace(point, service="on") for point in known.values()])

    async def _end_contracts(self, books: AllBooks, by: By, found: Sequence[Contract], now_us: int) -> Done:
        ended = [rule.end(each, by.person, by.why, now_us) for each in found if each.is_open]
        await books.put_contracts(ended)
        pairs = {(each.party, each.service_point) for each in ended}
        grants = await books.grants(pairs)
        live = [grant for grant in grants.values() if grant.state == "live"]
        done = await self._withdraw(books, by, live, "ended", now_us)
        await books.add_events([contract_event(each, self._rng, now_us) for each in ended])
        return Done(changes=done.changes, cancelled=done.cancelled, contracts=ended)

    async def _contract(self, books: AllBooks, id: str) -> Contract:
        found = (await books.contracts([id], lock=True)).get(id)
        if found is None:
            raise Refused(Reason.NOT_FOUND)
        return found

    async def _open(self, books: AllBooks, party: str, service_point: str) -> Contract | None:
        for each in await books.contracts_at([service_point], lock=True):
            if each.party == party and each.is_open:
                return each
        return None

    # ---- access (S3.05) -----------------------------------------------------------------------------

    async def give(
        self,
        books: AllBooks,
        by: By,
        contract: str,
        permits: Sequence[DevicePermit],
        *,
        until_us: int,
        now_us: int,
        service_point_limit: bool = False,
    ) -> Done:
        """Give access under a contract, or change what was given; a version of the grant each time.

        ``until_us`` is cut to the contract's end. Raises ``contract-missing``, ``service-off``,
        ``device-unknown`` (not at this home: another's looks like none), ``operation-not-permitted`` (the
        device cannot), ``body-malformed``.
        """
        agreed = rule.require_running(await self._contract(books, contract), now_us)
        place = (await books.service_points([agreed.service_point]))[agreed.service_point]
        if place.service != "on":
            raise Refused(Reason.SERVICE_OFF)
        devices = {each.id: each for each in (await books.devices_at([place.id])).get(place.id, ())}
        _require_possible(permits, devices)
        permits = [_bound(permit, devices[permit.device]) for permit in permits]
        if until_us <= now_us:
            raise Refused(Reason.BODY_MALFORMED, "the permission would have ended already", field="/until")
        before = await self._live(books, agreed.party, place.id)
        party, tier = (await books.parties([agreed.party]))[agreed.party], (await books.tiers())[agreed.tier]
        offers = await books.offers([agreed.party])
        document = grant_document(
            grant=before.id if before else uuid7(now_us, self._rng),
            version=before.version + 1 if before else 1,
            party=party,
            tier=tier,
            service_point=place,
            permits=permits,
            purpose=offers[0].purpose if offers else "",
            not_before_us=before.document.not_before_us if before else now_us,
            expires_us=min(until_us, agreed.ends_us),
            now_us=now_us,
            service_point_limit=service_point_limit,
        )
        names = {device.id: device.name for device in devices.values()}
        words = (
            difference_words(before.document, document, names, by.fahrenheit)
            if before
            else document_words(document, names, by.fahrenheit)
        )
        if before and before.document.expires_us != document.expires_us:
            words.append("the end date changed")
        return await self._put(
            books, by, "changed" if before else "granted", document, agreed.tier, words, now_us, contract
        )

    async def pause(
        self, books: AllBooks, by: By, party: str, service_point: str, until_us: int, now_us: int
    ) -> Done:
        """Pause access for a time: refused at once, and the gateway lets go of what runs. Raises ``not-found``."""
        if not now_us < until_us <= now_us + PAUSE_US_MAX:
            raise Refused(Reason.BODY_MALFORMED, "a pause ends within 30 days", field="/until")
        before = await self._must_be_live(books, party, service_point)
        return await self._paused(books, by, "paused", before, until_us, now_us)

    async def resume(self, books: AllBooks, by: By, party: str, service_point: str, now_us: int) -> Done:
        """End a pause. Raises ``not-found``."""
        before = await self._must_be_live(books, party, service_point)
        return await self._paused(books, by, "resumed", before, 0, now_us)

    async def withdraw(self, books: AllBooks, by: By, party: str, service_point: str, now_us: int) -> Done:
        """Withdraw access; what waits is cancelled. The contract stays, so that it can be given again."""
        before = await self._must_be_live(books, party, service_point)
        return await self._withdraw(books, by, [before], "withdrawn", now_us)

    async def _paused(
        self, books: AllBooks, by: By, kind: ChangeKind, before: Grant, until_us: int, now_us: int
    ) -> Done:
        document = replace(
            before.document, version=before.version + 1, issued_us=now_us, paused_until_us=until_us
        )
        done = await self._put(books, by, kind, document, before.tier, [], now_us)
        cancelled = await self._cancel_waiting(books, [before], now_us) if until_us else []
        return Done(changes=done.changes, cancelled=cancelled)

    async def _put(
        self,
        books: AllBooks,
        by: By,
        kind: ChangeKind,
        document: GrantDocument,
        tier: str,
        words: list[str],
        now_us: int,
        contract: str = "",
    ) -> Done:
        grant = signed_grant(document, tier, self._consent, now_us)
        await books.put_grants([grant])
        return await self._record(books, by, kind, [grant], words, now_us, contract)

    async def _withdraw(
        self, books: AllBooks, by: By, live: Sequence[Grant], kind: ChangeKind, now_us: int
    ) -> Done:
        if not live:
            return Done()
        gone = [replace(grant, state="withdrawn", changed_us=now_us) for grant in live]
        await books.put_grants(gone)
        cancelled = await self._cancel_waiting(books, live, now_us)
        done = await self._record(books, by, kind, gone, [], now_us)
        return Done(changes=done.changes, cancelled=cancelled)

    async def _record(
        self,
        books: AllBooks,
        by: By,
        kind: ChangeKind,
        grants: Sequence[Grant],
        words: list[str],
        now_us: int,
        contract: str = "",
    ) -> Done:
        said = {grant.id: words for grant in grants}
        changes = await record_changes(books, by, kind, grants, said, self._rng, now_us, contract)
        return Done(changes=changes)

    async def _cancel_waiting(self, books: AllBooks, grants: Sequence[Grant], now_us: int) -> list[Request]:
        """Cancel what these third parties still have waiting at these homes; letting go is left to pass."""
        pairs = {(grant.party, grant.service_point) for grant in grants}
        places = await books.places({point for _, point in pairs}, now_us)
        gateways = {place.gateway for place in places.values()}
        waiting = await books.requests_to_send(gateways, CANCELLED_MAX) if gateways else []
        theirs = [
            each
            for each in waiting
            if (each.party, each.service_point) in pairs and not each.sent_us and not each.cancel_asked
        ]
        reason = Reason.ACCESS_DISABLED
        return await cancel_requests(books, theirs, now_us, Actor.CUSTOMER, reason, self._rng)

    async def _live(self, books: AllBooks, party: str, service_point: str) -> Grant | None:
        found = (await books.grants([(party, service_point)])).get((party, service_point))
        return found if found is not None and found.state == "live" else None

    async def _must_be_live(self, books: AllBooks, party: str, service_point: str) -> Grant:
        found = await self._live(books, party, service_point)
        if found is None:
            raise Refused(Reason.NOT_FOUND, "this company has no access here")
        return found


def contract_event(contract: Contract, rng: random.Random, now_us: int) -> Event:
    """Return what a third party is told of the end of a contract."""
    data = {"contract": contract.id, "why": contract.ended_why}
    return Event(
        id=uuid7(now_us, rng),
        party=contract.party,
        kind="contract.ended",
        created_us=now_us,
        service_point=contract.service_point,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


async def record_changes(
    books: AllBooks,
    by: By,
    kind: ChangeKind,
    grants: Sequence[Grant],
    words: Mapping[str, list[str]],
    rng: random.Random,
    now_us: int,
    contract: str = "",
) -> list[AccessChange]:
    """Write the receipts of changes that this transaction made, and the news for the third parties.

    ``words`` says per grant what changed. Call it after ``put_grants``: a receipt names the version of its
    gateway's desired state that carries the change.
    """
    if not grants:
        return []
    places = await books.places({grant.service_point for grant in grants}, now_us)
    gateways = await books.gateways({place.gateway for place in places.values()})
    changes = []
    for grant in grants:
        place = places.get(grant.service_point)
        gateway = gateways.get(place.gateway) if place else None
        changes.append(
            AccessChange(
                id=uuid7(now_us, rng),
                kind=kind,
                party=grant.party,
                service_point=grant.service_point,
                grant=grant.id,
                version=grant.version,
                at_us=now_us,
                asked_us=by.asked_us,
                by=by.person,
                by_name=by.name,
                by_role=by.role,
                why=by.why,
                words=words.get(grant.id, []),
                contract=contract,
                gateway=gateway.id if gateway else "",
                gateway_version=gateway.desired_version if gateway else 0,
            )
        )
    await books.put_changes(changes)
    await books.add_events([access_event(grant, NEWS[kind], rng, now_us) for grant in grants])
    return changes


def access_event(grant: Grant, kind: str, rng: random.Random, now_us: int) -> Event:
    """Return what a third party is told of a change to its permission."""
    data: dict[str, object] = {
        "version": grant.version,
        "state": grant.state,
        "purpose": grant.document.purpose,
    }
    if grant.document.paused_until_us > now_us:
        data["paused_until_us"] = grant.document.paused_until_us
    return Event(
        id=uuid7(now_us, rng),
        party=grant.party,
        kind=kind,
        created_us=now_us,
        service_point=grant.service_point,
        grant=grant.id,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def _bound(permit: DevicePermit, device: Device) -> DevicePermit:
    """Tie a permit to the very equipment that the customer's yes was for."""
    return replace(permit, bound_to=binding(device.protocol, device.model, device.address, device.serial))


def _require_possible(permits: Sequence[DevicePermit], devices: dict[str, Device]) -> None:
    """Every device is at this home, and can what is permitted (S3.04)."""
    if not permits:
        raise Refused(
            Reason.BODY_MALFORMED, "nothing is permitted: choose at least one device", field="/devices"
        )
    for permit in permits:
        device = devices.get(permit.device)
        if device is None:
            raise Refused(Reason.DEVICE_UNKNOWN, f"there is no device {permit.device} here", field="/devices")
        able = CLASS_OPERATIONS[device.device_class]
        if not permit.operations or not able.issuperset(permit.operations):
            raise Refused(Reason.OPERATION_NOT_PERMITTED, f"{device.name} cannot do that", field="/devices")
