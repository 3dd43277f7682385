"""What an auditor reads: chains and what they cover, page by page, whatever state they are in."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Row, Statement, number
from doorward.ccs.engines.store.base import DAY_US
from doorward.ccs.engines.store.chain import CHAINED, LINK_COLUMNS, last_of, load_link
from doorward.ccs.engines.store.record import GRANT_RECORD, NEXT_WRITER, Recording
from doorward.kit.ids import time_of_us
from doorward.wire.chain import Head, Link

BEFORE_ALL = -(2**31)
"""Below any writer's number."""

_j, _c = t.journal.c, t.chain.c
LINKS = Statement(
    lambda _: (
        select(*(_c[name] for name in LINK_COLUMNS))
        .where(_c.writer == number("writer"), _c.seq > number("after"))
        .order_by(_c.seq)
        .limit(number("limit"))
    ),
    "writer",
    "after",
    "limit",
)
HASHES = Statement(
    lambda f: select(_c.seq, _c.hash).where(_c.writer == number("writer"), f.any_of(_c.seq, "seqs")),
    "writer",
    "seqs",
)
COVERED = Statement(
    lambda _: (
        select(_j.link, *(_j[name] for name in CHAINED))
        .where(_j.writer == number("writer"), _j.link >= number("first"), _j.link <= number("last"))
        .order_by(_j.link, _j.seq)
        .limit(number("limit"))
    ),
    "writer",
    "first",
    "last",
    "limit",
)
NEXT_WRITER_OF_ROWS = Statement(
    lambda _: select(_j.writer).where(_j.writer > number("after")).order_by(_j.writer).limit(number("one")),
    "after",
    "one",
)
JOURNEYS = Statement(
    lambda f: (
        select(*(_j[name] for name in CHAINED))
        .where(f.any_of(_j.day, "days"), f.any_of(_j.message, "messages"))
        .order_by(_j.seq)
    ),
    "days",
    "messages",
)
CHECKPOINTS = Statement(
    lambda _: (
        select(t.checkpoint.c.number, t.checkpoint.c.document)
        .where(t.checkpoint.c.number > number("after"))
        .order_by(t.checkpoint.c.number)
        .limit(number("limit"))
    ),
    "after",
    "limit",
)
TOMBSTONES = Statement(
    lambda _: (
        select(t.tombstone.c.day, t.tombstone.c.document)
        .where(t.tombstone.c.day > number("after"))
        .order_by(t.tombstone.c.day)
        .limit(number("limit"))
    ),
    "after",
    "limit",
)
_r = t.grant_record.c
GRANTS_ONCE = Statement(
    lambda f: (
        select(*(_r[name] for name in GRANT_RECORD))
        .where(f.any_pair(_r.service_point, _r.party, "pairs"))
        .order_by(_r.sequence)
    ),
    "pairs",
)
CARRIED = Statement(
    lambda f: select(
        *(t.request.c[name] for name in ("id", "salt", "body", "result", "settlement", "gateway"))
    ).where(f.any_of(t.request.c.id, "ids")),
    "ids",
)


class GrantOnce(NamedTuple):
    """A permission as it became at one moment; ``message`` is the journal's row that says so."""

    sequence: int
    grant: str
    version: int
    state: str
    party: str
    service_point: str
    at_us: int
    signed: str
    message: str


class Carried(NamedTuple):
    """What a request carries beside the journal, which holds its digests. An empty salt: it was erased."""

    salt: str
    body: bytes
    result: bytes
    settlement: str
    gateway: str


class Auditing(Recording):
    """The reads of an audit. Nothing here trusts what it reads."""

    async def writers(self) -> list[int]:
        """Everybody who has a chain, and everybody under whose name there are rows."""
        found: set[int] = set()
        for statement in (NEXT_WRITER, NEXT_WRITER_OF_ROWS):
            after = BEFORE_ALL
            while rows := await self._on.rows(statement, after, 1):
                after = rows[0][0]
                found.add(after)
        return sorted(found)

    async def last(self, writer: int) -> Head:
        """The newest link of a writer."""
        return await last_of(self._on, writer)

    async def links(self, writer: int, after: int, limit: int) -> list[tuple[int, Link | None]]:
        """Links above ``after`` with their numbers, in order; ``None`` for one that cannot be read."""
        return [(row[2], _readable(row)) for row in await self._on.rows(LINKS, writer, after, limit)]

    async def hashes(self, writer: int, seqs: Collection[int]) -> dict[int, bytes]:
        """The hashes of links, by number."""
        return {seq: bytes(hashed) for seq, hashed in await self._on.rows(HASHES, writer, seqs)}

    async def covered(self, writer: int, first: int, last: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of the links ``first`` … ``last``, each with its link, in order."""
        rows = await self._on.rows(COVERED, writer, first, last, limit)
        return [(row[0], tuple(row)[1:]) for row in rows]

    async def journeys(self, messages: Collection[str]) -> list[Row]:
        """All rows of these messages, in order."""
        days = {time_of_us(message) // DAY_US for message in messages}
        return [tuple(row) for row in await self._on.rows(JOURNEYS, days, messages)]

    async def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Checkpoints above a number, in order."""
        return [(row[0], row[1]) for row in await self._on.rows(CHECKPOINTS, after, limit)]

    async def tombstones(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Tombstones of days above ``after``, in order."""
        return [(row[0], row[1]) for row in await self._on.rows(TOMBSTONES, after, limit)]

    async def grants_once(self, pairs: Collection[tuple[str, str]]) -> list[GrantOnce]:
        """What the permissions of (service point, party) have been, in the order of their changes."""
        return [GrantOnce(*row) for row in await self._on.rows(GRANTS_ONCE, list(pairs))]

    async def carried(self, ids: Collection[str]) -> dict[str, Carried]:
        """What requests carry, by id."""
        rows = await self._on.rows(CARRIED, ids)
        return {
            id: Carried(salt, bytes(body), bytes(result), settlement, gateway)
            for id, salt, body, result, settlement, gateway in rows
        }


def _readable(row: Sequence[Any]) -> Link | None:
    try:
        return load_link(row)
    except (msgspec.DecodeError, TypeError, ValueError):
        return None
