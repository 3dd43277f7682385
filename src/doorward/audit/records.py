"""The two kinds of records, opened for reading only: a CCS's database and a gateway's file."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from doorward.audit.findings import CCS
from doorward.ccs.engines.opening import auditing
from doorward.ccs.engines.store import chain as ccs_chain
from doorward.ccs.engines.store.auditing import Auditing
from doorward.ccs.ports import StoreUnavailable
from doorward.spg.engines import record as spg_record
from doorward.spg.engines.identity import load
from doorward.spg.engines.store import STORE_FILE, SqliteBooks
from doorward.spg.rules.facts import JournalRow
from doorward.wire.chain import Head, Link, Row

WRITER = spg_record.WRITER


class NotAuditable(Exception):
    """A record is not there, or cannot be read; says which and why."""


class CcsRecord:
    """The CCS's journal: a :class:`~doorward.audit.chains.Source`. Each call is a transaction of its own, so
    that a system that runs is not held up."""

    name = CCS
    columns = ccs_chain.CHAINED
    unmarked = ccs_chain.UNMARKED
    by_day = True

    def __init__(self, books: Auditing) -> None:
        self.books = books

    def gone(self) -> int:
        """The CCS keeps all links; only rows may go."""
        return 0

    async def writers(self) -> list[int]:
        """Everybody who has links or rows."""
        return await self.books.writers()

    async def last(self, writer: int) -> Head:
        """The newest link of a writer."""
        return await self.books.last(writer)

    async def links(self, writer: int, after: int, limit: int) -> list[tuple[int, Link | None]]:
        """Links above a number."""
        return await self.books.links(writer, after, limit)

    async def rows(self, writer: int, first: int, last: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of links."""
        return await self.books.covered(writer, first, last, limit)

    async def hashes(self, writer: int, seqs: Collection[int]) -> dict[int, bytes]:
        """The hashes of links."""
        return await self.books.hashes(writer, seqs)


@asynccontextmanager
async def open_ccs(url: str) -> AsyncIterator[CcsRecord]:
    """Open a CCS's database. Raises :class:`NotAuditable`."""
    try:
        async with auditing(url) as books:
            yield CcsRecord(books)
    except (StoreUnavailable, OSError, ValueError, sqlite3.OperationalError) as error:
        raise NotAuditable(f"the CCS's database cannot be read: {error}") from error


class GatewayRecord:
    """A gateway's file: a :class:`~doorward.audit.chains.Source` too. ``behind`` is the link behind which it
    begins, where its oldest part is no longer kept."""

    columns = spg_record.CHAINED
    unmarked = spg_record.UNMARKED
    by_day = False

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self.name = name
        self._sql = connection
        self._books = SqliteBooks(connection)

    def gone(self) -> int:
        """The last link that is no longer kept, as the record itself says."""
        return self.behind()[0].seq

    async def writers(self) -> list[int]:
        """A gateway has one writer."""
        return [WRITER]

    async def last(self, writer: int) -> Head:
        """The newest link."""
        return self._books.head()

    async def links(self, writer: int, after: int, limit: int) -> list[tuple[int, Link | None]]:
        """Links above a number."""
        return self._books.links(after, limit)

    async def rows(self, writer: int, first: int, last: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of links."""
        return self._books.covered(first, last, limit)

    async def hashes(self, writer: int, seqs: Collection[int]) -> dict[int, bytes]:
        """The hashes of links."""
        return self._books.hashes(seqs)

    def behind(self) -> tuple[Head, str]:
        """The link behind which the record begins, and the row that says why, if it is not the first."""
        first = self._books.links(0, 1)
        if not first or first[0][0] <= 1:
            return Head(writer=WRITER, epoch=0, seq=0, hash=bytes(32)), ""
        return self._books.expired()

    def journeys(self, messages: Collection[str]) -> dict[str, list[JournalRow]]:
        """What the record holds of these messages."""
        return {message: [row for _, row in self._books.journal(message=message)] for message in messages}

    def messages(self, after: str, limit: int) -> list[str]:
        """Ids of messages of the CCS that the record speaks of, above an id, in order."""
        return self._books.messages(after, limit)

    def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Checkpoints of the CCS that the gateway was given, by the gateway's own numbers."""
        return self._books.checkpoints(after, limit)

    def begins_us(self) -> int:
        """From which time on the record is whole: its oldest part may no longer be kept."""
        first = self._books.links(0, 1)
        link = first[0][1] if first else None
        return link.at_us if link is not None and link.seq > 1 else 0


class Gateway(NamedTuple):
    """A gateway's record, and the keys of the consent authority that it was given when it was enrolled."""

    record: GatewayRecord
    keys: dict[str, dict[str, str]]


@contextmanager
def open_gateway(directory: Path) -> Iterator[Gateway]:
    """Open the record of the gateway in a directory. Raises :class:`NotAuditable`."""
    path = directory / STORE_FILE
    if not path.exists():
        raise NotAuditable(f"{directory} holds no gateway's record ({STORE_FILE})")
    try:
        identity = load(directory)
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as sql:
            sql.execute("SELECT 1 FROM chain LIMIT 1")
            yield Gateway(
                GatewayRecord(identity.gateway if identity else directory.name, sql),
                identity.consent_keys if identity else {},
            )
    except (sqlite3.OperationalError, msgspec.DecodeError, OSError) as error:
        raise NotAuditable(f"the record in {directory} cannot be read: {error}") from error
