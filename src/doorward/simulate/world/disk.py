"""The disks: the real stores in memory, which outlive processes, and what can go wrong at each commit.

A step runs whole or not at all, as on SQLite and as seen from outside on PostgreSQL. Around it the world may
slow the process down, fail the commit, or kill the process just before or just after it.
"""

import asyncio
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

from doorward.ccs.engines.sqlite import SqliteStore as CcsSqliteStore
from doorward.ccs.ports import AllBooks, CommitUnsure, StoreUnavailable
from doorward.kit.clock import Clock
from doorward.kit.sqlite_thread import MEMORY, CommitFailed, NotBegun
from doorward.simulate.world.loop import Process, never
from doorward.spg.engines.sqlite import SqliteStore as GatewaySqliteStore
from doorward.spg.ports import Books

R = TypeVar("R")
Rows = list[tuple[Any, ...]]

HERE = "doorward/simulate/"
LOOP = "doorward/simulate/world/loop.py"


@dataclass(slots=True)
class Mortality:
    """What befalls one process at its commits, and how long they take.

    ``deaths``: number of the commit → whether the process dies ``before`` or ``after`` it.
    """

    rng: random.Random
    deaths: dict[int, str] = field(default_factory=dict)
    place: tuple[str, str] = ("", "")
    """A place in the real code, and whether the process dies before or after its first commit there."""
    failure_share: float = 0.0
    wait_s: float = 0.002
    """Mean time that a commit takes."""
    slow_share: float = 0.0
    slow_s: float = 1.5
    healthy: bool = False
    """From now on nothing goes wrong any more (the world heals)."""

    def pause_s(self) -> float:
        """How long one half of a commit takes."""
        if self.rng.random() < 0.5:
            return 0.0
        if not self.healthy and self.slow_share and self.rng.random() < self.slow_share:
            return self.rng.random() * self.slow_s
        return self.rng.expovariate(1.0 / self.wait_s)

    def fails(self) -> bool:
        """Whether this commit fails."""
        return not self.healthy and bool(self.failure_share) and self.rng.random() < self.failure_share


@dataclass(slots=True)
class Mishaps:
    """What was done to the processes of a world: counted by kind, and deaths by the place in the code."""

    counts: Counter[str] = field(default_factory=Counter)
    deaths: Counter[tuple[str, str]] = field(default_factory=Counter)
    killed: Callable[[Process], None] = lambda process: process.kill()

    def kill_at_commit(self, process: Process, when: str) -> None:
        """The process dies here and now."""
        self.counts["crash"] += 1
        self.deaths[_place(), when] += 1
        self.killed(process)


def _place() -> str:
    """Return which function of the real code is committing: the innermost one that is no simulation."""
    at: FrameType | None = sys._getframe(1)
    while at is not None:
        file, name = at.f_code.co_filename, at.f_code.co_name
        if file.endswith(LOOP):
            return "a change of access"  # the world's own transaction, in a worker
        if "/doorward/" in file and HERE not in file and name not in _PASSING:
            return f"{file.rpartition('/doorward/')[2].removesuffix('.py')}.{name}"
        at = at.f_back
    return "?"


_PASSING = frozenset({"<lambda>", "commit", "commit_surely", "finish"})
"""Functions that only pass on what others decided: a death there says too little."""


class _Tape:
    """The state of a database to which it can be wound back, so that statements stay prepared."""

    def __init__(self, connection: sqlite3.Connection, fixed: frozenset[str]) -> None:
        found = connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name <> 'sqlite_stat1'"
        )
        self._tables = sorted({row[0] for row in found} - fixed)
        for table in self._tables:
            connection.execute(f'CREATE TEMP TABLE "kept_{table}" AS SELECT * FROM main."{table}"')  # noqa: S608 - the schema's names

    def rewind(self, connection: sqlite3.Connection) -> None:
        """Make every table what it was."""
        connection.execute("PRAGMA defer_foreign_keys = ON")
        for table in self._tables:
            connection.execute(f'DELETE FROM main."{table}"')  # noqa: S608
            connection.execute(f'INSERT INTO main."{table}" SELECT * FROM temp."kept_{table}"')  # noqa: S608


class CcsDisk(CcsSqliteStore):
    """The CCS's database: the real store, wound back for every world, with a watch on every request.

    The watch (:attr:`moves`) is SQLite's own trigger and knows nothing of the code that writes.
    """

    FIXED = frozenset({"alembic_version", "format", "tier", "service_point", "meter", "account", "customer",
                       "device", "customer_account", "account_service_point", "service_point_meter",
                       "service_point_gateway", "device_service_point"})  # fmt: skip

    def __init__(self, clock: Clock) -> None:
        super().__init__(MEMORY, clock=clock, synchronous="OFF", inline=True)

    def opened(self, clock: Clock) -> CcsSqliteStore:
        """Return the store as one process opens it: with its own clock and pen, on the same disk."""
        return _Opened(self, clock)

    async def keep(self) -> None:
        """What is in the database now is what it is wound back to."""
        self._tape = await self._thread.write(self._watched)

    def _watched(self, connection: sqlite3.Connection) -> _Tape:
        tape = _Tape(connection, self.FIXED)
        connection.execute(
            "CREATE TEMP TABLE moved (kind TEXT, id TEXT, before TEXT, after TEXT, attempt INTEGER,"
            " sent INTEGER, before_us INTEGER, charge_us INTEGER, party TEXT, service_point TEXT, device TEXT,"
            " data BLOB)"
        )
        connection.execute(
            "CREATE TEMP TRIGGER request_made AFTER INSERT ON main.request BEGIN INSERT INTO moved"
            " VALUES ('request', NEW.id, '', NEW.state, NEW.attempt, NEW.attempt > 0, 0,"
            " NEW.charge_us, NEW.party, NEW.service_point, NEW.device, NEW.charged); END"
        )
        connection.execute(
            "CREATE TEMP TRIGGER request_moved AFTER UPDATE ON main.request WHEN OLD.state <> NEW.state"
            " OR OLD.attempt < NEW.attempt OR OLD.charge_us <> NEW.charge_us BEGIN INSERT INTO moved"
            " VALUES ('request', NEW.id, OLD.state, NEW.state, NEW.attempt, OLD.attempt < NEW.attempt,"
            " OLD.charge_us, NEW.charge_us, NEW.party, NEW.service_point, NEW.device, NEW.charged); END"
        )
        connection.execute(
            "CREATE TEMP TRIGGER handed AFTER INSERT ON main.journal"
            " WHEN instr(NEW.steps, 'handing_over') BEGIN INSERT INTO moved"
            " VALUES ('handing over', NEW.message, '', '', 0, 0, 0, NEW.at_us, NEW.party, NEW.service_point,"
            " NEW.device, NULL); END"
        )
        connection.execute(
            "CREATE TEMP TRIGGER event_made AFTER INSERT ON main.event BEGIN INSERT INTO moved"
            " VALUES (NEW.kind, NEW.request, '', '', 0, 0, 0, NEW.created_us, NEW.party, NEW.service_point,"
            " NEW.device, NEW.data); END"
        )
        return tape

    async def rewind(self) -> None:
        """Forget the last world."""
        await self._thread.write(self._tape.rewind)
        self._heard.clear()

    def moves(self) -> Rows:
        """What moved since the last time, in order: the columns of ``moved``."""
        connection = self._connection()
        rows = connection.execute("SELECT * FROM moved ORDER BY rowid").fetchall()
        if rows:
            connection.execute("DELETE FROM moved")
        return rows

    def changes(self) -> int:
        """How many rows were ever changed here."""
        return self._connection().total_changes

    def is_writing(self) -> bool:
        """Whether a transaction is under way: what it wrote is not on the disk yet."""
        return self._connection().in_transaction

    def ask(self, sql: str, *args: Any) -> Rows:
        """Look at the disk itself."""
        return self._connection().execute(sql, args).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection = self._thread._session.connection
        assert connection is not None
        return connection


class _Opened(CcsSqliteStore):
    """A store over a disk that is there already."""

    def __init__(self, disk: CcsDisk, clock: Clock) -> None:
        super().__init__(MEMORY, clock=clock, thread=disk._thread)


class GatewayDisk(GatewaySqliteStore):
    """A gateway's file."""

    def __init__(self) -> None:
        super().__init__(MEMORY, inline=True, synchronous="OFF")

    async def keep(self) -> None:
        """What is in the database now is what it is wound back to."""
        self._tape = await self._thread.write(lambda connection: _Tape(connection, frozenset()))

    async def rewind(self) -> None:
        """Forget the last world."""
        await self._thread.write(self._tape.rewind)

    def changes(self) -> int:
        """How many rows were ever changed here."""
        return self._connection().total_changes

    def is_writing(self) -> bool:
        """Whether a transaction is under way: what it wrote is not on the disk yet."""
        return self._connection().in_transaction

    def ask(self, sql: str, *args: Any) -> Rows:
        """Look at the disk itself."""
        return self._connection().execute(sql, args).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection = self._thread._session.connection
        assert connection is not None
        return connection


class _Mortal:
    """The part that both stores have: one process's way to its disk."""

    def __init__(self, process: Process, mortality: Mortality, mishaps: Mishaps) -> None:
        self._process = process
        self._mortality = mortality
        self._mishaps = mishaps
        self._commits = 0

    async def _begin(self) -> str:
        """Wait, and return what happens to this commit: ``""``, ``fails``, ``before`` or ``after`` (death)."""
        await asyncio.sleep(self._mortality.pause_s())
        self._commits += 1
        death = "" if self._mortality.healthy else self._death()
        if death == "before":
            self._mishaps.kill_at_commit(self._process, death)
            await never()
        return death or ("fails" if self._mortality.fails() else "")

    def _death(self) -> str:
        place, when = self._mortality.place
        if place and _place() == place:
            return when
        return self._mortality.deaths.get(self._commits, "")

    async def _end(self, fate: str) -> None:
        if fate == "after":
            self._mishaps.kill_at_commit(self._process, fate)
            await never()
        pause_s = self._mortality.pause_s()
        if pause_s:
            await asyncio.sleep(pause_s)


class CcsStore(_Mortal):
    """:class:`~doorward.ccs.ports.Store` for one worker. ``wrote`` looks at the disk after every commit."""

    def __init__(
        self,
        disk: CcsDisk,
        process: Process,
        mortality: Mortality,
        mishaps: Mishaps,
        wrote: Callable[[str], None],
        post: "Post",
    ) -> None:
        super().__init__(process, mortality, mishaps)
        self._disk = disk
        self._wrote = wrote
        self._post = post

    def open(self, clock: Clock) -> None:
        """Open the real store, as a process does at its start."""
        self._store = self._disk.opened(clock)

    async def write(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run a step in a transaction, if nothing happens to us."""
        fate = await self._begin()
        if fate == "fails":
            await self._fail(step)
        answer = await self._store.write(step)
        self._wrote(step.__qualname__)
        await self._end(fate)
        return answer

    async def _fail(self, step: Callable[[AllBooks], Awaitable[R]]) -> None:
        """It could not begin; or it may have been committed, and nobody knows."""
        self._mishaps.counts["commit failed"] += 1
        kind = self._mortality.rng.randrange(3)
        if kind == 0:
            raise StoreUnavailable("simulated: no connection")
        if kind == 1:
            await self._store.write(step)
            self._wrote(step.__qualname__)
        raise CommitUnsure("simulated: the connection was lost in the commit")

    async def read(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run a step that only reads."""
        pause_s = self._mortality.pause_s()
        if pause_s:
            await asyncio.sleep(pause_s)
        if self._mortality.fails():
            self._mishaps.counts["read failed"] += 1
            raise StoreUnavailable("simulated: no connection")
        return await self._store.read(step)

    async def hint(self, channel: str, payload: str) -> None:
        """Say it to all workers, maybe."""
        self._post.say(channel, payload)

    async def listen(self, heard: Callable[[str, str], None]) -> None:
        """Hear what workers say."""
        self._post.listen(self._process, heard)

    async def turn(self) -> None:
        """Transactions run to their end at once."""

    async def ahead_us(self, wall_s: Callable[[], float]) -> int:
        """The workers' clocks are the world's to set."""
        return 0

    async def close(self) -> None:
        """The disk stays."""


class Post:
    """Hints between workers: late, or lost."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self.loss = 0.0
        self._heard: list[tuple[Process, Callable[[str, str], None]]] = []

    def listen(self, process: Process, heard: Callable[[str, str], None]) -> None:
        """A process hears from now on."""
        self._heard = [each for each in self._heard if not each[0].dead]
        self._heard.append((process, heard))

    def say(self, channel: str, payload: str) -> None:
        """Say a hint to all that live."""
        for process, heard in self._heard:
            if self._rng.random() >= self.loss:
                late_s = self._rng.random() * 0.02
                self._loop.call_later(late_s, heard, channel, payload, context=process.context)


class GatewayStore(_Mortal):
    """:class:`~doorward.spg.ports.Store` for one gateway's process."""

    def __init__(
        self,
        disk: GatewayDisk,
        process: Process,
        mortality: Mortality,
        mishaps: Mishaps,
    ) -> None:
        super().__init__(process, mortality, mishaps)
        self._disk = disk

    async def write(self, step: Callable[[Books], R]) -> R:
        """Run a step in a transaction, if nothing happens to us."""
        fate = await self._begin()
        if fate == "fails":
            self._mishaps.counts["commit failed"] += 1
            raise CommitFailed("simulated: disk full")
        answer = await self._disk.write(step)
        await self._end(fate)
        return answer

    async def read(self, step: Callable[[Books], R]) -> R:
        """Run a step that only reads."""
        pause_s = self._mortality.pause_s()
        if pause_s:
            await asyncio.sleep(pause_s)
        if self._mortality.fails():
            self._mishaps.counts["read failed"] += 1
            raise NotBegun("simulated: disk error")
        return await self._disk.read(step)
