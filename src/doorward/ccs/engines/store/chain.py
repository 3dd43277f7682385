"""The journal's chain: every transaction that writes the journal adds one link (docs/adr/0009).

Whoever writes holds a *pen*, the right to one writer's chain. On SQLite there is one, and the head is read in
the transaction that goes on from it. On PostgreSQL every connection has its own, so that transactions run
side by side and each chain is still written by one at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Executor, Row, Statement, exactly, inserting, number
from doorward.ccs.engines.store.base import DAY_US, Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.facts import JournalRow
from doorward.kit.ids import time_of_us
from doorward.wire import chain
from doorward.wire.chain import Head, Link, PeerHead, seal

US = 1_000_000

JOURNAL = RowsOf(JournalRow, t.journal)
CHAINED = ("seq", "day", *JOURNAL.names)
"""The columns of the journal that a link covers, in the order in which it does."""

UNMARKED = CHAINED.index("steps")

LINK_COLUMNS = tuple(column.name for column in t.chain.columns)
WRITE_JOURNAL = inserting(
    t.journal, [column.name for column in t.journal.columns if column.name != "seq"], returning="seq"
)
"""In the table's order, so that rows go to the driver as they are."""
WRITE_LINK = inserting(t.chain, LINK_COLUMNS)
LAST = Statement(
    lambda _: (
        select(t.chain.c.epoch, t.chain.c.seq, t.chain.c.hash)
        .where(t.chain.c.writer == number("writer"))
        .order_by(t.chain.c.seq.desc())
        .limit(exactly(1))
    ),
    "writer",
)

_journal_row = JOURNAL.dumper()
_json = msgspec.json.Encoder()
_parts = msgspec.json.Decoder(list[chain.Part])
_peers = msgspec.json.Decoder(list[PeerHead])


async def last_of(on: Executor, writer: int) -> Head:
    """The newest link of a writer."""
    rows = await on.rows(LAST, writer)
    if not rows:
        return chain.beginning(writer)
    epoch, seq, hashed = rows[0]
    return Head(writer=writer, epoch=epoch, seq=seq, hash=hashed)


def next_epoch(head: Head, now_us: int) -> int:
    """The epoch of a process that goes on from a head: above all before it, and by the clock, so that a copy
    that is put back does not use an epoch again."""
    return max(head.epoch + 1, now_us // US)


def link_row(link: Link) -> Row:
    """A link as it stands in its table."""
    return (
        *(link.writer, link.epoch, link.seq, link.at_us, link.prev),
        *(_json.encode(link.parts).decode(), link.marks, _json.encode(link.peers).decode(), link.hash),
    )


def load_link(row: Sequence[Any]) -> Link:
    """Undo :func:`link_row`; raise ``msgspec.DecodeError`` for what is no link."""
    writer, epoch, seq, at_us, prev, parts, marks, peers, hashed = row
    return Link(
        writer=writer,
        epoch=epoch,
        seq=seq,
        at_us=at_us,
        prev=bytes(prev),
        parts=_parts.decode(parts),
        marks=bytes(marks),
        peers=_peers.decode(peers),
        hash=bytes(hashed),
    )


class Chaining(Part):
    """Writing the journal."""

    async def write_journal(self, rows: Sequence[JournalRow], peers: Iterable[PeerHead] = ()) -> Head | None:
        """Append rows to the journal under one link, with what gateways said of their records meanwhile.

        Returns the head that this is once the transaction has committed, ``None`` for no rows.
        """
        if not rows:
            return None
        before, epoch = await self._on.pen.take(self._on, self._now_us)
        mine = before.writer, before.seq + 1
        dated = [(time_of_us(row.message) // DAY_US, _journal_row(row)) for row in rows]
        numbers = await self._on.numbered(
            WRITE_JOURNAL, [(day, *row[:-1], *mine, row[-1]) for day, row in dated]
        )
        link = seal(before, epoch, self._now_us, _by_day(numbers, dated), peers, unmarked=UNMARKED)
        await self._on.many(WRITE_LINK, [link_row(link)])
        self._on.pen.wrote(link.head)
        return link.head


def _by_day(numbers: Sequence[int], dated: Sequence[tuple[int, Row]]) -> Mapping[int, list[Row]]:
    """Rows with their numbers under the days of their messages, which nearly always is one."""
    days: dict[int, list[Row]] = {}
    for at, (day, row) in zip(numbers, dated, strict=True):
        days.setdefault(day, []).append((at, day, *row))
    return days
