"""Leases of permissions: renewed at half their life, and ends of permissions told both ways.

Built in, the CCS signs leases itself. With an authority apart, the authority renews from its own register: what
ended there is not renewed and ends here, and what ended here is told there, until it knows.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from doorward.ccs.journey import Journey
from doorward.ccs.ports import Books, ConsentAuthority, Grants, LeaseSource, Trusted
from doorward.ccs.provisioning import is_live
from doorward.ccs.rules.consents import Renewals
from doorward.ccs.rules.facts import Grant
from doorward.kit.clock import Clock
from doorward.wire.grants import LEASE_US_MAX, LeaseDocument, lease_until_us
from doorward.wire.messages import Lease, Time, Trust
from doorward.wire.signatures import payload_of

log = structlog.get_logger(__name__)

SLICE = 200
"""How many rows one round takes at most."""

Withdraw = Callable[[Sequence[Grant]], Awaitable[None]]
"""Ends permissions here, as a customer's withdrawal does."""


class BuiltIn:
    """A :class:`~doorward.ccs.ports.LeaseSource` over an authority in our own process: it believes our books."""

    def __init__(self, consent: ConsentAuthority, clock: Clock) -> None:
        self._consent = consent
        self._clock = clock

    async def renew(self, grants: Mapping[str, Grant]) -> Renewals:
        """Sign a lease for every permission."""
        now_us = self._clock.now_us()
        leases = {}
        for id, grant in grants.items():
            until_us = lease_until_us(id, grant.document.expires_us, now_us)
            lease = LeaseDocument(grant=id, version=grant.version, until_us=until_us, issued_us=now_us)
            leases[id] = self._consent.sign_lease(msgspec.json.encode(lease))
        return Renewals(leases=leases)


class Apart:
    """A :class:`~doorward.ccs.ports.LeaseSource` over an authority apart, which has a register of its own."""

    def __init__(self, authority: Grants) -> None:
        self._authority = authority

    async def renew(self, grants: Mapping[str, Grant]) -> Renewals:
        """Ask for leases in the version that we hold."""
        return await self._authority.renew({id: grant.version for id, grant in grants.items()})


class Leasing:
    """The duties. ``authority`` is there only where the authority is apart."""

    def __init__(
        self,
        journey: Journey,
        source: LeaseSource,
        withdraw: Withdraw,
        authority: Grants | None = None,
        trust: Trusted = tuple,
    ) -> None:
        self._journey = journey
        self._source = source
        self._withdraw = withdraw
        self._authority = authority
        self._trust = trust
        self._ended_to = 0
        self._told_to: int | None = None

    # --- renewing --------------------------------------------------------------------------------------

    async def renew(self) -> bool:
        """Renew leases at half their life, and give them to gateways that are connected; whether there are more."""
        now_us = self._journey.clock.now_us()
        due = await self._journey.store.read(
            lambda books: books.leases_to_renew(now_us + LEASE_US_MAX // 2, SLICE)
        )
        asked = {grant.id: grant for grant in due if is_live(grant, now_us)}
        if not asked:
            return False
        answer = await self._source.renew(asked)
        renewed = [_renewed(asked[id], lease) for id, lease in answer.leases.items() if id in asked]
        kept = await self._journey.store.write(lambda books: self._keep(books, renewed, answer.documents))
        await self._give(kept, now_us)
        if answer.ended:
            await self._withdraw([asked[id] for id in answer.ended if id in asked])
        if answer.unknown:
            log.warning("the consent authority does not renew these permissions", grants=answer.unknown)
        return len(due) == SLICE and bool(kept)

    async def _keep(
        self, books: Books, renewed: Sequence[Grant], documents: Mapping[str, str]
    ) -> list[Grant]:
        """Store the leases of what is still as it was when they were asked for."""
        pairs = {(grant.party, grant.service_point) for grant in renewed}
        current = {grant.id: grant for grant in (await books.grants(pairs)).values()}
        kept = [
            grant
            for grant in renewed
            if grant.id in current
            and (current[grant.id].version, current[grant.id].state) == (grant.version, "live")
            and grant.lease_until_us > current[grant.id].lease_until_us
        ]
        await books.renew_leases(kept)
        await books.put_grants(
            [replace(grant, signed=documents[grant.id]) for grant in kept if grant.id in documents]
        )
        return kept

    async def _give(self, grants: Sequence[Grant], now_us: int) -> None:
        places = await self._journey.store.read(
            lambda books: books.places({grant.service_point for grant in grants}, now_us)
        )
        for grant in grants:
            place = places.get(grant.service_point)
            if place is not None:
                trust = [Trust(document=document) for document in self._trust()]
                lease = Lease(grant=grant.id, document=grant.lease_signed)
                self._journey.switchboard.post(place.gateway, Time(at_us=now_us), *trust, lease)

    # --- ends ------------------------------------------------------------------------------------------

    async def hear_of_ends(self) -> bool:
        """What the customer ended at the authority itself ends here; whether there may be more."""
        if self._authority is None:
            return False
        ends = await self._authority.ended(self._ended_to)
        if self._told_to is None:
            self._told_to = ends.told
        if ends.grants:
            live = await self._journey.store.read(lambda books: books.grants_live(list(ends.grants)))
            await self._withdraw([grant for grant in live if grant.version <= ends.grants[grant.id]])
        more = ends.next > self._ended_to
        self._ended_to = ends.next
        return more

    async def tell_of_ends(self) -> bool:
        """What ended here is told to the authority, in order, until it knows; whether there may be more."""
        if self._authority is None or self._told_to is None:
            return False
        told_to = self._told_to
        gone = await self._journey.store.read(lambda books: books.withdrawn_since(told_to, SLICE))
        if gone:
            last = gone[-1].sequence
            await self._authority.tell({grant.id: grant.version for grant in gone}, last)
            self._told_to = last
        return len(gone) == SLICE


def _renewed(grant: Grant, lease: str) -> Grant:
    said = msgspec.json.decode(payload_of(lease), type=LeaseDocument)
    return replace(grant, lease_until_us=said.until_us, lease_signed=lease)


def built_in(journey: Journey, consent: ConsentAuthority) -> Leasing:
    """Return the duties where the authority is in our own process: nothing ends anywhere but here."""

    async def nothing(_grants: Sequence[Grant]) -> None:
        return None

    return Leasing(journey, BuiltIn(consent, journey.clock), nothing)
