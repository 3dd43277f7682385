"""The way back: the third parties' feeds, webhooks that are due, and where they go."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, delete, select, tuple_, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import (
    Flavour,
    Row,
    Statement,
    exactly,
    inserting,
    locked,
    number,
    putting,
    updating,
    words,
)
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.facts import Endpoint, Event
from doorward.wire.reasons import Reason, Refused

EVENT = RowsOf(Event, t.event, leaving_out=("cursor",))
ENDPOINT = RowsOf(Endpoint, t.endpoint)
_c = t.event.c
_COLUMNS = (*EVENT.columns, _c.xact, _c.seq)


def _claim(flavour: Flavour) -> Any:
    # Picked first and once: a plan that ran the sub-select again for each row would take more than asked.
    due = (_c.webhook == exactly("pending"), _c.next_us <= number("now"))
    picked = locked(select(_c.seq).where(*due).order_by(_c.next_us).limit(number("limit")), skip=True)
    picked_too = picked.cte("picked")
    return (
        update(t.event)
        .where(_c.seq == picked_too.c.seq)
        .values(next_us=number("until"))
        .returning(*_COLUMNS)
        .add_cte(picked_too)
    )


def _feed(flavour: Flavour, *more: Any) -> Select[Any]:
    after = flavour.beyond(_c.xact, _c.seq)
    settled = flavour.settled()
    bounds = [] if settled is None else [settled]
    return (
        select(*_COLUMNS)
        .where(_c.party == words("party"), after, *bounds, *more)
        .order_by(_c.xact, _c.seq)
        .limit(number("limit"))
    )


ADD_EVENTS = inserting(t.event, EVENT.names)
CLAIM_EVENTS = Statement(_claim, "now", "until", "limit")
EVENTS_OF = Statement(
    lambda f: (
        select(*_COLUMNS)
        .where(f.any_of(_c.request, "requests"), _c.request != exactly(""), _c.kind == words("kind"))
        .order_by(_c.seq)
    ),
    "requests",
    "kind",
)
UPDATE_EVENTS = updating(t.event, "id", ("webhook", "next_us", "attempts"))
FEED = Statement(_feed, "party", "xact", "seq", "limit")
FEED_OF = Statement(lambda f: _feed(f, f.any_of(_c.kind, "kinds")), "party", "xact", "seq", "kinds", "limit")


def _feed_end(flavour: Flavour) -> Select[Any]:
    settled = flavour.settled()
    bounds = [] if settled is None else [settled]
    return (
        select(_c.xact, _c.seq)
        .where(_c.party == words("party"), *bounds)
        .order_by(_c.xact.desc(), _c.seq.desc())
        .limit(exactly(1))
    )


def _pushed(_: Flavour) -> Select[Any]:
    return (
        select(*_COLUMNS)
        .where(_c.party == words("party"), _c.webhook != exactly("none"))
        .where(tuple_(_c.xact, _c.seq) < tuple_(number("xact"), number("seq")))
        .order_by(_c.xact.desc(), _c.seq.desc())
        .limit(number("limit"))
    )


PUSHED = Statement(_pushed, "party", "xact", "seq", "limit")
EVENTS = Statement(lambda f: select(*_COLUMNS).where(f.any_of(_c.id, "ids")), "ids")
FEED_END = Statement(_feed_end, "party")
ENDPOINTS = Statement(
    lambda f: (
        select(*ENDPOINT.columns).where(f.any_of(t.endpoint.c.party, "parties")).order_by(t.endpoint.c.id)
    ),
    "parties",
)
PUT_ENDPOINTS = putting(t.endpoint, ENDPOINT.names, "party", "id")
DELETE_ENDPOINT = Statement(
    lambda _: delete(t.endpoint).where(t.endpoint.c.party == words("party"), t.endpoint.c.id == words("id")),
    "party",
    "id",
)

_event_row = EVENT.dumper()
_pushing_row = EVENT.dumper(("webhook", "next_us", "attempts", "id"))
_endpoint_row = ENDPOINT.dumper()

BEGINNING = (0, 0)
CURSOR = re.compile("([0-9a-z]{1,13})[.]([0-9a-z]{1,13})")
NUMBER_MAX = (1 << 63) - 1


def place_of(text: str) -> tuple[int, int]:
    """(transaction, number) of a cursor that we gave out; raise :class:`Refused` for anything else."""
    if not text:
        return BEGINNING
    parts = CURSOR.fullmatch(text)
    if parts is not None:
        place = int(parts[1], 36), int(parts[2], 36)
        if max(place) <= NUMBER_MAX:
            return place
    raise Refused(Reason.BODY_MALFORMED, "this is no cursor of a feed", field="/after")


def _base36(value: int) -> str:
    digits = ""
    while value:
        value, rest = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"


def event_of(row: Row) -> Event:
    """Return the event of a row that ends with its place in the feed."""
    return EVENT.load(row, cursor=_text(row))


def cursor_at(xact: int, seq: int) -> str:
    """Return the cursor of a place in a feed."""
    return f"{_base36(xact)}.{_base36(seq)}"


def _text(row: Row) -> str:
    return cursor_at(row[-2], row[-1])


class WayBack(Part):
    """What third parties are told, and how far that has come."""

    async def add_events(self, events: Sequence[Event]) -> None:
        """Append to the third parties' feeds."""
        await self._on.many(ADD_EVENTS, [_event_row(event) for event in events])

    async def claim_events(self, now_us: int, until_us: int, limit: int) -> list[Event]:
        """Events whose webhook is due, now ours until ``until_us``; oldest first."""
        rows = await self._on.rows(CLAIM_EVENTS, now_us, until_us, limit)
        return [event_of(row) for row in sorted(rows, key=lambda row: (row[-2], row[-1]))]

    async def events_of(self, requests: Collection[str], kind: str) -> dict[str, Event]:
        """The newest event of ``kind`` per request."""
        return {
            event.request: event for event in map(event_of, await self._on.rows(EVENTS_OF, requests, kind))
        }

    async def update_events(self, events: Sequence[Event]) -> None:
        """Write webhook state, attempts, ``next_us`` of events."""
        await self._on.many(UPDATE_EVENTS, [_pushing_row(event) for event in events])

    async def feed(self, party: str, after: str, kinds: Collection[str], limit: int) -> list[Event]:
        """Events of a party after a cursor, oldest first. Those of a transaction that began before one that
        still runs are not shown yet, so that none is ever skipped. Raises :class:`Refused` for a bad cursor."""
        place = place_of(after)
        if kinds:
            rows = await self._on.rows(FEED_OF, party, *place, kinds, limit)
        else:
            rows = await self._on.rows(FEED, party, *place, limit)
        return [event_of(row) for row in rows]

    async def feed_end(self, party: str) -> str:
        """The cursor after which a party's feed has nothing yet (``""`` when it is empty)."""
        rows = await self._on.rows(FEED_END, party)
        return _text(rows[0]) if rows else ""

    async def pushed(self, party: str, *, before: str = "", limit: int = 50) -> list[Event]:
        """Events of a party that are or were to be pushed, newest first, before a cursor."""
        place = place_of(before) if before else (NUMBER_MAX, NUMBER_MAX)
        return [event_of(row) for row in await self._on.rows(PUSHED, party, *place, limit)]

    async def events(self, ids: Collection[str]) -> dict[str, Event]:
        """Events by id."""
        return {event.id: event for event in map(event_of, await self._on.rows(EVENTS, ids))}

    async def endpoints(self, parties: Collection[str]) -> dict[str, list[Endpoint]]:
        """Webhook endpoints per party."""
        found: defaultdict[str, list[Endpoint]] = defaultdict(list)
        for row in await self._on.rows(ENDPOINTS, parties):
            endpoint = ENDPOINT.load(row)
            found[endpoint.party].append(endpoint)
        return dict(found)

    async def put_endpoint(self, endpoint: Endpoint) -> None:
        """Insert or replace an endpoint."""
        await self._on.many(PUT_ENDPOINTS, [_endpoint_row(endpoint)])

    async def delete_endpoint(self, party: str, endpoint: str) -> bool:
        """Remove an endpoint; whether it was there."""
        return await self._on.do(DELETE_ENDPOINT, party, endpoint) > 0
