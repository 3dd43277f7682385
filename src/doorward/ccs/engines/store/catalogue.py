"""The catalogue of message formats, and numbers that grow in the order of commits."""

from collections.abc import Sequence

from sqlalchemy import select, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Statement, locked, number, putting, words
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.facts import FormatRow

FORMAT = RowsOf(FormatRow, t.message_format)

COUNTER = Statement(
    lambda _: select(t.counter.c.value).where(t.counter.c.name == words("counter")), "counter"
)
LOCK_COUNTER = Statement(
    lambda _: locked(select(t.counter.c.value).where(t.counter.c.name == words("counter"))), "counter"
)
COUNT = Statement(
    lambda _: update(t.counter).where(t.counter.c.name == words("counter")).values(value=number("reached")),
    "counter",
    "reached",
)
FORMATS = Statement(
    lambda _: select(*FORMAT.columns).order_by(t.message_format.c.name, t.message_format.c.version)
)
PUT_FORMATS = putting(t.message_format, FORMAT.names, "name", "version")

_format_row = FORMAT.dumper()


class Counting(Part):
    """Counters. A transaction that takes numbers holds the counter to its end, so that numbers become
    visible in their order and a reader that goes on from the last one skips nothing."""

    async def _take(self, counter: str, count: int) -> range:
        """Take the next ``count`` numbers."""
        reached: int = (await self._on.rows(LOCK_COUNTER, counter))[0][0]
        await self._on.do(COUNT, counter, reached + count)
        return range(reached + 1, reached + count + 1)


class Catalogue(Counting):
    """Message formats under one version."""

    async def formats(self) -> tuple[int, list[FormatRow]]:
        """The catalogue's version and all formats in it."""
        version = await self.formats_version()
        return version, [FORMAT.load(row) for row in await self._on.rows(FORMATS)]

    async def formats_version(self) -> int:
        """The catalogue's version."""
        version: int = (await self._on.rows(COUNTER, "format"))[0][0]
        return version

    async def put_formats(self, rows: Sequence[FormatRow]) -> None:
        """Insert or change formats; the version grows if anything changed."""
        await self._on.rows(LOCK_COUNTER, "format")
        known = {(row.name, row.version): row for row in (await self.formats())[1]}
        changed = [row for row in rows if known.get((row.name, row.version)) != row]
        if changed:
            await self._take("format", 1)
            await self._on.many(PUT_FORMATS, [_format_row(row) for row in changed])
