"""SQLite with one writer: what waits together commits together, with one ``fsync``.

Work is a plain function over a connection. While one transaction commits, what arrives gathers into the
next one; each function runs under a savepoint of its own, so that one that raises fails alone. Reads
have a connection and a thread of their own and never wait for a commit.

The writer is a thread; or, for a busy loop, only its commits are (``on_loop``): Python's lock changes hands
at every statement, and two busy threads of Python wait for it far longer than a statement takes.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

from doorward.kit.gather import Overloaded

R = TypeVar("R")

MEMORY = ":memory:"
WRITES_TOGETHER_MAX = 128
READS_TOGETHER_MAX = 16
JOBS_WAITING_MAX = 10_000
BUSY_WAIT_MS_MAX = 10_000
"""How long another process may hold the file before a transaction gives up."""
CHECKPOINT_PAGES = 4_000
WAL_KEPT_BYTES_MAX = 64 * 1024 * 1024
BUSY_RETRY_S = 0.005
STATEMENTS_CACHED = 512


class CommitFailed(Exception):
    """The commit failed (disk full, I/O error). Nothing of it is visible now, but after a crash of the
    machine it may turn out to have reached the disk: look before you answer that it did not happen."""


class NotBegun(Exception):
    """The transaction could not begin (another process holds the file too long, the file is gone)."""


class _Job:
    """One function, the future of its answer, and how it went."""

    __slots__ = ("error", "fn", "future", "result")

    def __init__(self, fn: Callable[[sqlite3.Connection], Any], future: "asyncio.Future[Any] | None") -> None:
        self.fn = fn
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Say that the job did not happen, unless it failed by itself before."""
        if self.error is None:
            self.error = error

    def answer(self) -> None:
        """Resolve the future, on its own loop."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Session:
    """A connection, and transactions of several jobs on it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], begin: str, *, reopens: bool) -> None:
        self._connect = connect
        self._begin = begin
        self._reopens = reopens
        self.connection: sqlite3.Connection | None = connect()

    def transact(self, jobs: list[_Job]) -> None:
        """Run all jobs in one transaction; each one ends with a result or an error."""
        try:
            self.begin()
        except sqlite3.Error as error:
            self.fail(jobs, NotBegun, error)
            return
        if self.run(jobs):
            self.commit(jobs)

    def begin(self) -> None:
        """Begin a transaction; raise ``sqlite3.Error`` when that is not possible now."""
        if self.connection is None:
            self.connection = self._connect()
        self.connection.execute(self._begin)

    def run(self, jobs: list[_Job]) -> bool:
        """Run jobs in the transaction; whether there is something to commit."""
        assert self.connection is not None
        try:
            for job in jobs:
                self._run(self.connection, job)
        except sqlite3.Error as error:
            self._lose(jobs, error)
            return False
        return True

    def commit(self, jobs: list[_Job]) -> None:
        """Commit durably; every job that did not fail by itself before fails with it."""
        assert self.connection is not None
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._lose(jobs, error)

    def _lose(self, jobs: list[_Job], error: sqlite3.Error) -> None:
        self._abandon()
        self.fail(jobs, CommitFailed, error)

    def fail(self, jobs: list[_Job], kind: type[Exception], cause: sqlite3.Error) -> None:
        """Say that jobs did not happen, and why."""
        for job in jobs:
            failure = kind(str(cause))
            failure.__cause__ = cause
            job.fail(failure)

    def _run(self, connection: sqlite3.Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.fn(connection)
        except StopIteration as error:  # a future cannot carry it
            job.error = RuntimeError(f"job raised {error!r}")
        except BaseException as error:  # it belongs to whoever asked
            job.error = error
        if job.error is not None:
            if not connection.in_transaction:  # SQLite rolled back by itself: the group is lost
                raise sqlite3.OperationalError(f"transaction lost: {job.error}") from job.error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def _abandon(self) -> None:
        """Roll back. A connection whose fsync failed is never used again: the kernel may have dropped the
        dirty pages and would report the next fsync as good."""
        if self.connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute("ROLLBACK")
        if self._reopens:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None


class _Worker:
    """A thread that takes what waits and gives it to its session, group by group."""

    def __init__(self, session: _Session, name: str, together_max: int) -> None:
        self._session = session
        self._together_max = together_max
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(self, fn: Callable[[sqlite3.Connection], R]) -> "asyncio.Future[R]":
        """Queue ``fn``; raise :class:`Overloaded` at the bound."""
        if self._queue.qsize() >= JOBS_WAITING_MAX:
            raise Overloaded(f"{JOBS_WAITING_MAX} database jobs wait")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(fn, future))
        return future

    async def stop(self) -> None:
        """Finish what waits, close the session, end the thread."""
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _serve(self) -> None:
        ended = False
        while not ended:
            group, ended = self._gather()
            if group:
                self._session.transact(group)
                _answer(group)
        self._session.close()

    def _gather(self) -> tuple[list[_Job], bool]:
        job = self._queue.get()
        group: list[_Job] = []
        while job is not None:
            if job.future is not None and not job.future.cancelled():
                group.append(job)
            if len(group) >= self._together_max:
                return group, False
            try:
                job = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True


class _LoopWriter:
    """Runs jobs on the loop itself; only commits, which wait for the disk, go to a thread."""

    def __init__(self, session: _Session, name: str, together_max: int) -> None:
        self._session = session
        self._together_max = together_max
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._soon = False
        self._turns: list[asyncio.Future[None]] = []
        self._refused_s = 0.0
        self._commits: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._idle: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._commit, name=name, daemon=True)
        self._thread.start()

    def ask(self, fn: Callable[[sqlite3.Connection], R]) -> "asyncio.Future[R]":
        """Queue ``fn``; raise :class:`Overloaded` at the bound."""
        if len(self._waiting) >= JOBS_WAITING_MAX:
            raise Overloaded(f"{JOBS_WAITING_MAX} database jobs wait")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append(_Job(fn, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next)
        return future

    async def turn(self) -> None:
        """Return when what is asked for at once goes into the transaction that begins next."""
        if self._busy and not self._soon:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            await turn

    async def stop(self) -> None:
        """Finish what waits, close the session, end the thread."""
        if self._busy:
            self._idle = asyncio.Event()
            await self._idle.wait()
        self._commits.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._session.close()

    def _next(self) -> None:
        """Begin the next transaction and run its jobs; another process may hold the file for a while."""
        self._soon = False
        group = self._gather()
        if not group:
            self._busy = False
            if self._idle is not None:
                self._idle.set()
            return
        try:
            self._session.begin()
        except sqlite3.Error as error:
            self._wait_or_fail(group, error)
            return
        self._refused_s = 0.0
        if self._session.run(group):
            self._commits.put(group)
        else:
            self._ended(group)

    def _wait_or_fail(self, group: list[_Job], error: sqlite3.Error) -> None:
        loop = asyncio.get_running_loop()
        self._refused_s = self._refused_s or loop.time()
        if loop.time() - self._refused_s < BUSY_WAIT_MS_MAX / 1000 and _is_busy(error):
            self._waiting.extendleft(reversed(group))
            loop.call_later(BUSY_RETRY_S, self._next)
            return
        self._refused_s = 0.0
        self._session.fail(group, NotBegun, error)
        self._ended(group)

    def _gather(self) -> list[_Job]:
        group: list[_Job] = []
        while self._waiting and len(group) < self._together_max:
            job = self._waiting.popleft()
            if job.future is not None and not job.future.cancelled():
                group.append(job)
        return group

    def _commit(self) -> None:
        while (group := self._commits.get()) is not None:
            self._session.commit(group)
            assert group[0].future is not None
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there
                group[0].future.get_loop().call_soon_threadsafe(self._ended, group)

    def _ended(self, group: list[_Job]) -> None:
        """Answer; whoever was answered, or waits for a turn, may still join the next transaction."""
        _answer_all(group)
        turns, self._turns = self._turns, []
        for turn in turns:
            if not turn.done():
                turn.set_result(None)
        self._soon = True
        asyncio.get_running_loop().call_soon(self._next)


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _answer(group: list[_Job]) -> None:
    """Resolve the futures of a group with one wake-up of each loop (there is one, as a rule)."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        if job.future is not None:
            loops.setdefault(job.future.get_loop(), []).append(job)
    for loop, jobs in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there
            loop.call_soon_threadsafe(_answer_all, jobs)


def _answer_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()


class SqliteThread:
    """A SQLite database in WAL mode with one writer and one reader.

    ``path`` is a file or ``":memory:"`` (then reads go through the writer: there is one connection).
    ``schema`` is called once, on the fresh connection in autocommit, before anything else.
    ``synchronous`` is SQLite's: FULL survives a power cut, OFF is for throw-away data.
    ``inline`` runs everything in the caller's thread at once and never suspends: for simulation, where
    the order of events is the seed's. ``on_loop`` runs statements on the loop and only commits in a
    thread: for a process whose loop is busy itself, with transactions that are short.

    Functions given to :meth:`write` and :meth:`read` must not keep the connection, commit, or roll back.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        schema: Callable[[sqlite3.Connection], None] | None = None,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        inline: bool = False,
        on_loop: bool = False,
        cache_kib: int = 16_384,
    ) -> None:
        self.path = str(path)
        self._synchronous = synchronous
        self._cache_kib = cache_kib
        self._closed = False
        alone = self.path == MEMORY or inline
        self._on_loop = on_loop and not inline
        self._session = _Session(self._connect_writer, "BEGIN IMMEDIATE", reopens=self.path != MEMORY)
        if schema is not None:
            self._bring_up_to_date(schema)
        kind = _LoopWriter if self._on_loop else _Worker
        self._writer = None if inline else kind(self._session, "sqlite-writer", WRITES_TOGETHER_MAX)
        self._reader = None if alone else self._start_reader()

    def _bring_up_to_date(self, schema: Callable[[sqlite3.Connection], None]) -> None:
        """Nothing runs yet, so that even a store that is ``on_loop`` may wait for another process here."""
        connection = self._session.connection
        assert connection is not None
        connection.execute(f"PRAGMA busy_timeout={BUSY_WAIT_MS_MAX}").fetchall()
        schema(connection)
        if self._on_loop:
            connection.execute("PRAGMA busy_timeout=0").fetchall()

    def _start_reader(self) -> _Worker:
        session = _Session(self._connect_reader, "BEGIN", reopens=True)
        return _Worker(session, "sqlite-reader", READS_TOGETHER_MAX)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED
        )
        for pragma in (
            f"busy_timeout={BUSY_WAIT_MS_MAX}",  # first: the next one may have to wait
            "journal_mode=WAL",
            f"synchronous={self._synchronous}",
            "foreign_keys=ON",
            f"cache_size=-{self._cache_kib}",
            "temp_store=MEMORY",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            f"journal_size_limit={WAL_KEPT_BYTES_MAX}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        if self._on_loop:  # never wait on the loop: it is tried again instead
            connection.execute("PRAGMA busy_timeout=0").fetchall()
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return connection

    async def write(self, fn: Callable[[sqlite3.Connection], R]) -> R:
        """Run ``fn`` in a transaction, commit durably, return its result.

        Raises what ``fn`` raises (after rolling back), :class:`NotBegun`, :class:`CommitFailed`, or
        ``Overloaded``."""
        return await self._run(self._writer, fn)

    async def read(self, fn: Callable[[sqlite3.Connection], R]) -> R:
        """Run ``fn`` on a snapshot that sees every write that was answered before; it must not write."""
        return await self._run(self._reader or self._writer, fn)

    async def _run(self, worker: _Worker | _LoopWriter | None, fn: Callable[[sqlite3.Connection], R]) -> R:
        if self._closed:
            raise RuntimeError(f"database {self.path} is closed")
        if worker is not None:
            return await worker.ask(fn)
        job = _Job(fn, None)
        self._session.transact([job])
        if job.error is not None:
            raise job.error
        result: R = job.result
        return result

    async def turn(self) -> None:
        """Return when a write would not wait for a commit that is under way: what gathers until then shares
        a transaction. Waits for one commit at the most."""
        if isinstance(self._writer, _LoopWriter):
            await self._writer.turn()

    async def close(self) -> None:
        """Finish what was asked for and close; idempotent."""
        if self._closed:
            return
        self._closed = True
        for worker in (self._reader, self._writer):
            if worker is not None:
                await worker.stop()
        self._session.close()
