"""The store on SQLite: one writer thread that commits what waits together (docs/adr/0005).

A step is a coroutine, but nothing in it ever waits: every method of its books answers from the
connection at once. So the thread runs it with a single ``send(None)`` and takes the result from
``StopIteration``. A step that awaits anything else is a mistake, and is told so.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from doorward.ccs.engines.migrations import migrate_sqlite
from doorward.ccs.engines.sql import Batch, Executor, Flavour, Row, Sqlite, Statement
from doorward.ccs.engines.store.books import SqlBooks
from doorward.ccs.engines.store.chain import last_of, next_epoch
from doorward.ccs.ports import AllBooks, CommitUnsure, StoreUnavailable
from doorward.kit.clock import Clock
from doorward.kit.sqlite_thread import CommitFailed, NotBegun, SqliteThread
from doorward.wire.chain import Head

R = TypeVar("R")

FLAVOUR = Sqlite()
CACHE_KIB = 65_536
WRITER = 1
"""There is one writer, and so one chain."""


class SqlitePen:
    """The one chain. Its head is read in the very transaction that adds to it, so that nothing that was
    rolled back, lost in a commit or written by another process can be in the way."""

    def __init__(self) -> None:
        self._epoch = 0

    async def take(self, on: Executor, now_us: int) -> tuple[Head, int]:
        """Go on from the last link; after one of another process, under a new epoch."""
        head = await last_of(on, WRITER)
        if not self._epoch or head.epoch != self._epoch:
            self._epoch = next_epoch(head, now_us)
        return head, self._epoch

    def wrote(self, head: Head) -> None:
        """Nothing is remembered."""


class SqliteExecutor:
    """One transaction on a connection; no method suspends."""

    flavour: Flavour = FLAVOUR

    def __init__(self, connection: sqlite3.Connection, pen: SqlitePen) -> None:
        self._connection = connection
        self.pen = pen

    async def rows(self, statement: Statement, *args: Any) -> list[Row]:
        """Run and return all rows."""
        sql = statement.on(FLAVOUR)
        return self._connection.execute(sql.text, sql.bind(args)).fetchall()

    async def do(self, statement: Statement, *args: Any) -> int:
        """Run and return how many rows changed."""
        sql = statement.on(FLAVOUR)
        return self._connection.execute(sql.text, sql.bind(args)).rowcount

    async def many(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Run for every row."""
        sql = batch.on(FLAVOUR)
        self._connection.executemany(sql.text, rows if sql.as_given else map(sql.bind, rows))

    async def kept(self, batch: Batch, rows: Sequence[Row]) -> set[str]:
        """Run for every row; a row that was skipped changed nothing."""
        sql = batch.on(FLAVOUR)
        execute = self._connection.execute
        return {row[0] for row in rows if execute(sql.text, sql.bind(row)).rowcount}

    async def numbered(self, batch: Batch, rows: Sequence[Row]) -> list[int]:
        """Run for every row; each is numbered one above the greatest number there is."""
        await self.many(batch, rows)
        (last,) = self._connection.execute("SELECT last_insert_rowid()").fetchone()
        return list(range(last - len(rows) + 1, last + 1))

    async def drop_day(self, day: int) -> None:
        """The journal is one table here."""

    async def make_room(self, days: Iterable[int]) -> None:
        """The journal is one table here."""


def drive(coroutine: "Coroutine[Any, Any, R]") -> R:
    """Run a coroutine that never suspends and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: R = ended.value
        return result
    coroutine.close()
    raise RuntimeError("a step awaited something other than its books")


class SqliteStore:
    """:class:`~doorward.ccs.ports.Store` on a file, or ``":memory:"``.

    One process only: :meth:`hint` is heard by the listeners of this object. ``thread`` is a database that
    another store of this process has opened; then nothing else is looked at but ``clock``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        inline: bool = False,
        thread: SqliteThread | None = None,
    ) -> None:
        self._clock = clock
        self._heard: list[Callable[[str, str], None]] = []
        self._pen = SqlitePen()
        self._thread = thread or SqliteThread(
            path,
            schema=migrate_sqlite,
            synchronous=synchronous,
            inline=inline,
            on_loop=True,
            cache_kib=CACHE_KIB,
        )

    async def write(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        """Run ``step`` in a transaction and commit durably."""
        try:
            return await self._thread.write(self._over(step))
        except CommitFailed as error:
            raise CommitUnsure(str(error)) from error
        except (NotBegun, sqlite3.OperationalError) as error:  # or in its midst: the disk is full, or broken
            raise StoreUnavailable(str(error)) from error

    async def read(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        """Run a step that only reads."""
        try:
            return await self._thread.read(self._over(step))
        except (NotBegun, sqlite3.OperationalError) as error:
            raise StoreUnavailable(str(error)) from error

    def _over(self, step: "Callable[[AllBooks], Awaitable[R]]") -> "Callable[[sqlite3.Connection], R]":
        now_us, pen = self._clock.now_us(), self._pen
        return lambda connection: drive(_awaiting(step(SqlBooks(SqliteExecutor(connection, pen), now_us))))

    async def turn(self) -> None:
        """Wait for the commit that is under way."""
        await self._thread.turn()

    async def ahead_us(self, wall_s: Callable[[], float]) -> int:
        """Our own clock is the only one."""
        return 0

    async def hint(self, channel: str, payload: str) -> None:
        """Tell our own listeners, soon."""
        loop = asyncio.get_running_loop()
        for heard in self._heard:
            loop.call_soon(heard, channel, payload)

    async def listen(self, heard: Callable[[str, str], None]) -> None:
        """Call ``heard`` for every hint."""
        self._heard.append(heard)

    async def close(self) -> None:
        """Finish what runs and close; idempotent."""
        await self._thread.close()


async def _awaiting(awaitable: "Awaitable[R]") -> R:
    return await awaitable
