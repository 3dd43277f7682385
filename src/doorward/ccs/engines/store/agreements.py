"""Offers and contracts, changes of access with their receipts, and what is noted about homes."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, Table, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import (
    SKIP,
    Flavour,
    Statement,
    exactly,
    inserting,
    locked,
    number,
    putting,
    words,
)
from doorward.ccs.engines.store.accept import REQUEST
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.facts import GRANT
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.contracts import Contract, Offer
from doorward.ccs.rules.facts import Grant, Request
from doorward.ccs.rules.homes import AccessChange, HomeNote, PartyNote

OFFER = RowsOf(Offer, t.offer)
CONTRACT = RowsOf(Contract, t.contract)
CHANGE = RowsOf(AccessChange, t.access_change)
NOTE = RowsOf(HomeNote, t.home_note)
PARTY_NOTE = RowsOf(PartyNote, t.party_note)
_c = t.request.c

PUT_OFFERS = putting(t.offer, OFFER.names, "party")
OFFERS = Statement(
    lambda _: (
        select(*OFFER.columns)
        .where(t.offer.c.party > words("after"))
        .order_by(t.offer.c.party)
        .limit(number("limit"))
    ),
    "after",
    "limit",
)
OFFERS_OF = Statement(lambda f: select(*OFFER.columns).where(f.any_of(t.offer.c.party, "parties")), "parties")
PUT_CONTRACTS = putting(t.contract, CONTRACT.names, "id")


def _contracts(flavour: Flavour) -> Select[Any]:
    return select(*CONTRACT.columns).where(flavour.any_of(t.contract.c.id, "ids")).order_by(t.contract.c.id)


def _contracts_at(flavour: Flavour) -> Select[Any]:
    at = flavour.any_of(t.contract.c.service_point, "points")
    return select(*CONTRACT.columns).where(at).order_by(t.contract.c.id)


CONTRACTS = Statement(_contracts, "ids")
LOCK_CONTRACTS = Statement(lambda f: locked(_contracts(f)), "ids")
CONTRACTS_AT = Statement(_contracts_at, "points")
LOCK_CONTRACTS_AT = Statement(lambda f: locked(_contracts_at(f)), "points")
CONTRACTS_SIGNED = Statement(
    lambda _: (
        select(*CONTRACT.columns)
        .where(t.contract.c.state == exactly("signed"))
        .order_by(t.contract.c.signed_us)
        .limit(number("limit"))
    ),
    "limit",
)
PUT_CHANGES = putting(t.access_change, CHANGE.names, "id")
CHANGES = Statement(lambda f: select(*CHANGE.columns).where(f.any_of(t.access_change.c.id, "ids")), "ids")
PUT_NOTES = inserting(t.home_note, NOTE.names, SKIP)
PUT_PARTY_NOTES = inserting(t.party_note, PARTY_NOTE.names, SKIP)
PARTY_NOTES = Statement(
    lambda _: (
        select(*PARTY_NOTE.columns)
        .where(t.party_note.c.party == words("party"), t.party_note.c.id < words("before"))
        .order_by(t.party_note.c.id.desc())
        .limit(number("limit"))
    ),
    "party",
    "before",
    "limit",
)
GRANTS_AT = Statement(
    lambda f: (
        select(*GRANT.columns).where(f.any_of(t.grant.c.service_point, "points")).order_by(t.grant.c.sequence)
    ),
    "points",
)


def _newest(table: Table, columns: Sequence[Any]) -> Statement:
    """Of one service point, newest first: those of ids between two, both left out."""

    def build(_: Flavour) -> Select[Any]:
        return (
            select(*columns)
            .where(table.c.service_point == words("point"))
            .where(table.c.id > words("since"), table.c.id < words("before"))
            .order_by(table.c.id.desc())
            .limit(number("limit"))
        )

    return Statement(build, "point", "since", "before", "limit")


REQUESTS_AT = _newest(t.request, REQUEST.columns)
CHANGES_AT = _newest(t.access_change, CHANGE.columns)
NOTES_AT = _newest(t.home_note, NOTE.columns)
OPEN_REQUESTS = Statement(
    lambda f: locked(
        select(*REQUEST.columns)
        .where(f.any_of(_c.gateway, "gateways"), _c.ready_us.is_not(None))
        .order_by(_c.id)
        .limit(number("limit"))
    ),
    "gateways",
    "limit",
)
"""Whatever still is to be sent to some gateways; what was sent already is their ``open_at``."""

_offer_row, _contract_row = OFFER.dumper(), CONTRACT.dumper()
_change_row, _note_row, _party_note_row = CHANGE.dumper(), NOTE.dumper(), PARTY_NOTE.dumper()
AFTER_ALL = "~"
"""Greater than any id."""


class Agreements(Part):
    """:class:`~doorward.ccs.ports.AgreementBooks`."""

    async def offers(self, parties: Collection[str] | None = None, *, limit: int = 500) -> list[Offer]:
        """Offers of third parties, of all or of some."""
        if parties is None:
            rows = await self._on.rows(OFFERS, "", limit)
        else:
            rows = await self._on.rows(OFFERS_OF, parties)
        return [OFFER.load(row) for row in rows]

    async def put_offers(self, offers: Sequence[Offer]) -> None:
        """Insert or replace offers by third party."""
        await self._on.many(PUT_OFFERS, [_offer_row(offer) for offer in offers])

    async def contracts(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Contract]:
        """Contracts by id; ``lock`` takes row locks in the order of ids."""
        rows = await self._on.rows(LOCK_CONTRACTS if lock else CONTRACTS, ids)
        return {row[0]: CONTRACT.load(row) for row in rows}

    async def contracts_at(self, service_points: Collection[str], *, lock: bool = False) -> list[Contract]:
        """All contracts for some service points, oldest first."""
        rows = await self._on.rows(LOCK_CONTRACTS_AT if lock else CONTRACTS_AT, service_points)
        return [CONTRACT.load(row) for row in rows]

    async def contracts_signed(self, limit: int) -> list[Contract]:
        """Contracts that wait for the utility's approval, longest first."""
        return [CONTRACT.load(row) for row in await self._on.rows(CONTRACTS_SIGNED, limit)]

    async def put_contracts(self, contracts: Sequence[Contract]) -> None:
        """Insert or replace contracts by id."""
        await self._on.many(PUT_CONTRACTS, [_contract_row(contract) for contract in contracts])

    async def put_changes(self, changes: Sequence[AccessChange]) -> None:
        """Record changes of access."""
        await self._on.many(PUT_CHANGES, [_change_row(change) for change in changes])

    async def changes(self, ids: Collection[str]) -> dict[str, AccessChange]:
        """Changes of access by id."""
        return {row[0]: CHANGE.load(row) for row in await self._on.rows(CHANGES, ids)}

    async def put_notes(self, notes: Sequence[HomeNote]) -> None:
        """Note what is no message."""
        await self._on.many(PUT_NOTES, [_note_row(note) for note in notes])

    async def put_party_notes(self, notes: Sequence[PartyNote]) -> None:
        """Note what people of a third party did with what is theirs."""
        await self._on.many(PUT_PARTY_NOTES, [_party_note_row(note) for note in notes])

    async def party_notes(self, party: str, *, before: str = "", limit: int = 50) -> list[PartyNote]:
        """Notes about a third party, newest first, of ids before one."""
        rows = await self._on.rows(PARTY_NOTES, party, before or AFTER_ALL, limit)
        return [PARTY_NOTE.load(row) for row in rows]

    async def grants_at(self, service_points: Collection[str]) -> list[Grant]:
        """All permissions at some service points, live or not, in the order of their last change."""
        return [GRANT.load(row) for row in await self._on.rows(GRANTS_AT, service_points)]

    async def requests_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[Request]:
        """Requests at a service point, newest first, of ids between two."""
        rows = await self._on.rows(REQUESTS_AT, service_point, since, before or AFTER_ALL, limit)
        return [REQUEST.load(row) for row in rows]

    async def changes_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[AccessChange]:
        """Changes of access at a service point, newest first, of ids between two."""
        rows = await self._on.rows(CHANGES_AT, service_point, since, before or AFTER_ALL, limit)
        return [CHANGE.load(row) for row in rows]

    async def notes_at(
        self, service_point: str, *, since: str = "", before: str = "", limit: int = 50
    ) -> list[HomeNote]:
        """Notes about a service point, newest first, of ids between two."""
        rows = await self._on.rows(NOTES_AT, service_point, since, before or AFTER_ALL, limit)
        return [NOTE.load(row) for row in rows]

    async def requests_to_send(self, gateways: Collection[str], limit: int) -> list[Request]:
        """Requests that still are to be sent to some gateways, row-locked."""
        return [REQUEST.load(row) for row in await self._on.rows(OPEN_REQUESTS, gateways, limit)]
