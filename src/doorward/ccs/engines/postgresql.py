"""The store on PostgreSQL: transactions side by side at READ COMMITTED, with row locks (docs/adr/0005)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from doorward.ccs.engines.migrations import migrate_postgresql
from doorward.ccs.engines.sql import Batch, Executor, Flavour, Postgresql, Row, Statement
from doorward.ccs.engines.store.base import DAY_US
from doorward.ccs.engines.store.books import SqlBooks
from doorward.ccs.engines.store.chain import last_of, next_epoch
from doorward.ccs.engines.store.time import PARTITIONS_AHEAD_DAYS
from doorward.ccs.ports import AllBooks, CommitUnsure, StoreUnavailable
from doorward.kit.clock import Clock
from doorward.wire.chain import Head

R = TypeVar("R")

log = logging.getLogger(__name__)

FLAVOUR = Postgresql()
WRITERS = 8
READERS = 4
TRIES_MAX = 6
RETRY_WAIT_S = 0.005
"""The wait before the second try; it doubles with each."""
CONNECT_WAIT_S_MAX = 15.0
CALL_WAIT_S_MAX = 30.0
RELISTEN_WAIT_S = 0.5
HINT_BYTES_MAX = 7_000
HINTS = "doorward"
STATEMENTS_CACHED = 512

SESSION: Final = {
    "application_name": "doorward",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    # Every statement of ours has its index. A plan that was made while a table was empty is kept by the
    # session, and must not be a scan.
    "enable_seqscan": "off",
}
# Of two at once that both found a place free, the second is run again and finds it taken.
_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.UniqueViolationError)
# The last: the server has said that it ends, and its connection is not closed yet.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    OSError,
    asyncpg.InternalClientError,
)


class PostgresqlPen:
    """A connection's right to one of the chains: the first number that no living session holds, kept by a
    lock of the session, so that the server gives it back when the session ends, however it ends."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._writer = 0
        self._epoch = 0
        self._head: Head | None = None
        self._unsure: Head | None = None

    async def take(self, on: Executor, now_us: int) -> tuple[Head, int]:
        """Go on from the last link of this transaction, else from the last that committed."""
        head = self._unsure or self._head
        if head is None:
            head = self._head = await self._look(on)
            self._epoch = self._epoch or next_epoch(head, now_us)
        return head, self._epoch

    async def _look(self, on: Executor) -> Head:
        self._writer = self._writer or await self._first_free()
        return await last_of(on, self._writer)

    async def _first_free(self) -> int:
        free = "SELECT n FROM generate_series(1, $2) n WHERE pg_try_advisory_lock($1, n) LIMIT 1"
        number: int | None = await self._connection.fetchval(free, PENS_LOCK, PENS_MAX)
        if number is None:
            raise StoreUnavailable(f"{PENS_MAX} sessions write the journal already")
        return number

    def wrote(self, head: Head) -> None:
        """It counts once the transaction has committed."""
        self._unsure = head

    def committed(self) -> None:
        """What was written stays."""
        if self._unsure is not None:
            self._head, self._unsure = self._unsure, None

    def failed(self) -> None:
        """Whether anything stays is not known: the head is read again."""
        self._head = self._unsure = None


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection with a pen of its own."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.pen = PostgresqlPen(self)


class PostgresqlExecutor:
    """One transaction on a connection."""

    flavour: Flavour = FLAVOUR

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def pen(self) -> PostgresqlPen:
        """The connection's."""
        pen: PostgresqlPen = self._connection.pen
        return pen

    async def rows(self, statement: Statement, *args: Any) -> list[Row]:
        """Run and return all rows."""
        sql = statement.on(FLAVOUR)
        records: list[Row] = await self._connection.fetch(sql.text, *sql.bind(args))
        return records

    async def do(self, statement: Statement, *args: Any) -> int:
        """Run and return how many rows changed: the last word of ``UPDATE 3``."""
        sql = statement.on(FLAVOUR)
        status: str = await self._connection.execute(sql.text, *sql.bind(args))
        return int(status.rpartition(" ")[2])

    async def many(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Run once, with an array per column."""
        if rows:
            sql = batch.on(FLAVOUR)
            columns = tuple(zip(*batch.last_of_each(rows), strict=True))
            await self._connection.execute(sql.text, *sql.bind(columns))

    async def kept(self, batch: Batch, rows: Sequence[Row]) -> set[str]:
        """Run once; the statement returns what went in."""
        if not rows:
            return set()
        sql = batch.on(FLAVOUR)
        records = await self._connection.fetch(sql.text, *sql.bind(tuple(zip(*rows, strict=True))))
        return {record[0] for record in records}

    async def numbered(self, batch: Batch, rows: Sequence[Row]) -> list[int]:
        """Run once; rows go in, and come back, in the order of the arrays."""
        sql = batch.on(FLAVOUR)
        records = await self._connection.fetch(sql.text, *sql.bind(tuple(zip(*rows, strict=True))))
        return [record[0] for record in records]

    async def drop_day(self, day: int) -> None:
        """The whole partition, if there is one."""
        await self._connection.execute(f"DROP TABLE IF EXISTS journal_{int(day)}")

    async def make_room(self, days: Iterable[int]) -> None:
        """A partition for each day that has none. A day for which the default partition holds rows
        already stays there: journeys are found all the same."""
        await self._connection.execute("SELECT pg_advisory_xact_lock($1)", MAKE_ROOM_LOCK)
        for day in days:
            name = f"journal_{int(day)}"
            if await self._connection.fetchval("SELECT to_regclass($1)", name) is None:
                await self._add_partition(name, int(day))

    async def _add_partition(self, name: str, day: int) -> None:
        # Made apart and then attached: this way nobody who writes the journal has to wait.
        taken = "SELECT EXISTS (SELECT FROM journal_default WHERE day = $1)"
        if await self._connection.fetchval(taken, day):
            return
        await self._connection.execute(
            f"CREATE TABLE {name} (LIKE journal INCLUDING DEFAULTS INCLUDING INDEXES)"
        )
        await self._connection.execute(
            f"ALTER TABLE journal ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({day + 1})"
        )


MAKE_ROOM_LOCK = 0x446F6F73
PENS_LOCK = 0x446F6F70
PENS_MAX = 640
"""Sessions, of all workers together, that may write the journal at one time: a checkpoint of them all is still
a document of its size."""


class PostgresqlStore:
    """:class:`~doorward.ccs.ports.Store` on a PostgreSQL database; made by :func:`open_postgresql`."""

    def __init__(self, dsn: str, writers: Any, readers: Any, clock: Clock) -> None:
        self._dsn = dsn
        self._writers = writers
        self._readers = readers
        self._clock = clock
        self._heard: list[Callable[[str, str], None]] = []
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._running = 0
        self._idle = asyncio.Event()

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """What runs when the store is closed runs to its end; nothing new begins."""
        if self._closed:
            raise RuntimeError("the store is closed")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def write(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        """Run ``step`` in a transaction, again after a deadlock or a serialisation failure (bounded)."""
        with self._call():
            for tried in range(TRIES_MAX - 1):
                try:
                    return await self._write_once(step)
                except _AGAIN:
                    await asyncio.sleep(RETRY_WAIT_S * 2**tried)
                except StoreUnavailable:
                    if tried:
                        raise
                    # The first may have been a connection that was dead before: try another one.
            return await self._write_once(step)

    async def _write_once(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        async with _reached(self._writers) as connection:
            pen: PostgresqlPen = connection.pen  # a connection that is lost gives nothing any more
            transaction = connection.transaction()
            await transaction.start()
            try:
                result = await step(SqlBooks(PostgresqlExecutor(connection), self._clock.now_us()))
            except BaseException:
                pen.failed()
                with contextlib.suppress(*_LOST):  # a lost connection has rolled back by itself
                    await transaction.rollback()
                raise
            try:
                await transaction.commit()
            except BaseException as error:
                pen.failed()
                if isinstance(error, (*_LOST, TimeoutError)):
                    raise CommitUnsure(f"the connection was lost in the commit: {error}") from error
                raise
            pen.committed()
            return result

    async def read(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        """Run a step on a connection that cannot write."""
        with self._call():
            try:
                return await self._read_once(step)
            except StoreUnavailable:  # a connection that was dead before: try another one
                return await self._read_once(step)

    async def _read_once(self, step: "Callable[[AllBooks], Awaitable[R]]") -> R:
        async with _reached(self._readers) as connection:
            return await step(SqlBooks(PostgresqlExecutor(connection), self._clock.now_us()))

    async def turn(self) -> None:
        """Transactions run side by side."""

    async def ahead_us(self, wall_s: Callable[[], float]) -> int:
        """Ask the server for its time; the answer is good to about half of the way there and back."""
        async with _reached(self._readers) as connection:
            before_s = wall_s()
            theirs_us: int = await connection.fetchval(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            )
            return theirs_us - int((before_s + wall_s()) / 2 * 1_000_000)

    async def hint(self, channel: str, payload: str) -> None:
        """Tell all workers; raise ``ValueError`` for a hint that is too long."""
        text = f"{channel} {payload}"
        if len(text.encode()) > HINT_BYTES_MAX:
            raise ValueError(f"a hint is at most {HINT_BYTES_MAX} bytes")
        async with _reached(self._writers) as connection:
            await connection.execute("SELECT pg_notify($1, $2)", HINTS, text)

    async def listen(self, heard: Callable[[str, str], None]) -> None:
        """Call ``heard`` for the hints of all workers; the listener connects again when it is cut off."""
        self._heard.append(heard)
        if self._listening is None:
            ready = asyncio.Event()
            self._listening = asyncio.create_task(self._listen(ready))
            await ready.wait()

    async def _listen(self, ready: asyncio.Event) -> None:
        while True:
            try:
                async with connected(self._dsn) as connection:
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _, lost=lost: lost.set())
                    await connection.add_listener(HINTS, self._notified)
                    ready.set()
                    await lost.wait()
            except (*_LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.warning("listening for hints: %s", error)
            await asyncio.sleep(RELISTEN_WAIT_S)

    def _notified(self, _connection: Any, _pid: int, _channel: str, text: str) -> None:
        channel, _, payload = text.partition(" ")
        for heard in self._heard:
            heard(channel, payload)

    async def close(self) -> None:
        """Finish what runs and close; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._running:
            self._idle.clear()
            await self._idle.wait()
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        await self._readers.close()
        await self._writers.close()


@contextlib.asynccontextmanager
async def _reached(pool: Any) -> AsyncIterator[Any]:
    """A connection of a pool; whatever says that there is none, or that it broke, is one error."""
    try:
        async with pool.acquire(timeout=CONNECT_WAIT_S_MAX) as connection:
            yield connection
    except (*_LOST, TimeoutError) as error:
        raise StoreUnavailable(f"the database cannot be reached: {error or type(error).__name__}") from error


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection for a while."""
    connection = await asyncpg.connect(
        dsn, timeout=CONNECT_WAIT_S_MAX, command_timeout=CALL_WAIT_S_MAX, server_settings=SESSION
    )
    try:
        yield connection
    finally:
        connection.terminate()


async def _keep(_connection: Any) -> None:
    """Our statements leave nothing behind in a session: save the round trip that would reset it."""


async def _pool(dsn: str, size: int, **settings: str) -> Any:
    return await asyncpg.create_pool(
        dsn,
        connection_class=_Connection,
        min_size=1,
        max_size=size,
        timeout=CONNECT_WAIT_S_MAX,
        command_timeout=CALL_WAIT_S_MAX,
        statement_cache_size=STATEMENTS_CACHED,
        max_cached_statement_lifetime=0,
        reset=_keep,
        server_settings={**SESSION, **settings},
    )


async def open_postgresql(
    dsn: str, *, clock: Clock, writers: int = WRITERS, readers: int = READERS
) -> PostgresqlStore:
    """Bring the database up to date and open pools of connections on it.

    Raises :class:`~doorward.ccs.ports.StoreTooNew`, and what asyncpg raises when it cannot connect."""
    async with connected(dsn) as connection:
        await migrate_postgresql(connection)
        today = clock.now_us() // DAY_US
        async with connection.transaction():
            room = range(today, today + PARTITIONS_AHEAD_DAYS + 1)
            await PostgresqlExecutor(connection).make_room(room)
    return PostgresqlStore(
        dsn,
        await _pool(dsn, writers),
        await _pool(dsn, readers, default_transaction_read_only="on"),
        clock,
    )
