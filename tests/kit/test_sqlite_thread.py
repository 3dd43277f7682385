import asyncio
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doorward.kit import sqlite_thread
from doorward.kit.gather import Overloaded
from doorward.kit.sqlite_thread import MEMORY, CommitFailed, NotBegun, SqliteThread

Job = Callable[[sqlite3.Connection], Any]


def schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS fact (n INTEGER PRIMARY KEY, p INTEGER REFERENCES parent (id))"
    )


def insert(n: int) -> Job:
    return lambda connection: connection.execute("INSERT INTO fact (n) VALUES (?)", (n,)).lastrowid


def facts(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM fact ORDER BY n")]


@pytest.fixture(params=["thread", "loop", "inline", "memory", "inline memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteThread:
    path = MEMORY if "memory" in request.param else tmp_path / "facts.db"
    return SqliteThread(
        path, schema=schema, inline="inline" in request.param, on_loop=request.param == "loop"
    )


@pytest.fixture
def filed(tmp_path: Path) -> SqliteThread:
    return SqliteThread(tmp_path / "facts.db", schema=schema)


class Hold:
    """A job that keeps the writer busy until it is let go, so that what follows gathers behind it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.begun.set()
        self.go.wait(30)


async def test_what_was_answered_is_seen_by_the_next_read(database: SqliteThread) -> None:
    for n in range(20):
        assert await database.write(insert(n)) == n
        assert await database.read(facts) == list(range(n + 1))
    await database.close()


async def test_one_that_raises_fails_alone(database: SqliteThread) -> None:
    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO fact (n) VALUES (100)")
        raise LookupError("no")

    jobs: list[Job] = [insert(1), bad, insert(2), insert(1), insert(3)]
    answers = await asyncio.gather(*(database.write(job) for job in jobs), return_exceptions=True)
    assert [type(each) for each in answers] == [int, LookupError, int, sqlite3.IntegrityError, int]
    assert await database.read(facts) == [1, 2, 3]
    await database.close()


async def test_a_job_that_raises_stop_iteration_is_answered_too(database: SqliteThread) -> None:
    def bad(_: sqlite3.Connection) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await database.write(bad)
    assert await database.write(insert(1)) == 1
    await database.close()


async def test_what_waits_together_commits_together(filed: SqliteThread) -> None:
    commits: list[str] = []
    await filed.write(lambda connection: connection.set_trace_callback(commits.append))
    hold = Hold()
    first = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    rest = [asyncio.create_task(filed.write(insert(n))) for n in range(50)]
    await asyncio.sleep(0)
    commits.clear()
    hold.go.set()
    await asyncio.gather(first, *rest)
    assert commits.count("COMMIT") == 2
    await filed.close()


async def test_a_read_does_not_wait_for_the_writer(filed: SqliteThread) -> None:
    await filed.write(insert(1))
    hold = Hold()
    writing = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    assert await filed.read(facts) == [1]
    hold.go.set()
    await writing
    await filed.close()


async def test_a_read_cannot_write(filed: SqliteThread) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await filed.read(insert(1))
    await filed.close()


async def test_a_failed_commit_fails_all_of_its_group_and_none_of_the_next(filed: SqliteThread) -> None:
    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA defer_foreign_keys = ON")  # found out at the commit only
        connection.execute("INSERT INTO fact (n, p) VALUES (9, 404)")

    before = await filed.write(lambda connection: connection)
    hold = Hold()
    first = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    group = [asyncio.create_task(filed.write(job)) for job in (insert(1), orphan, insert(2))]
    await asyncio.sleep(0)
    hold.go.set()
    await first
    answers = await asyncio.gather(*group, return_exceptions=True)
    assert [type(each) for each in answers] == [CommitFailed] * 3
    assert await filed.write(lambda connection: connection) is not before, "a failed fsync is not repeated"
    assert await filed.write(insert(3)) == 3
    assert await filed.read(facts) == [3]
    await filed.close()


async def test_a_group_that_the_database_gave_up_by_itself_fails_as_a_whole(filed: SqliteThread) -> None:
    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # what SQLite does by itself when the disk is full
        raise sqlite3.OperationalError("disk full")

    hold = Hold()
    first = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    group = [asyncio.create_task(filed.write(job)) for job in (insert(1), lose, insert(2))]
    await asyncio.sleep(0)
    hold.go.set()
    await first
    answers = await asyncio.gather(*group, return_exceptions=True)
    assert [type(each) for each in answers] == [CommitFailed, sqlite3.OperationalError, CommitFailed]
    assert "disk full" in str(answers[0])
    assert await filed.write(insert(3)) == 3
    assert await filed.read(facts) == [3]
    await filed.close()


FULL_DISK = """
import asyncio, resource, signal, sys
from doorward.kit.sqlite_thread import CommitFailed, SqliteThread
import sqlite3

async def main(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    make = lambda c: c.execute("CREATE TABLE fact (n INTEGER PRIMARY KEY, filler BLOB)")
    database = SqliteThread(path, schema=make)
    put = lambda n: database.write(lambda c: c.execute("INSERT INTO fact VALUES (?, zeroblob(9000))", (n,)) and n)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    full = await asyncio.gather(*(put(n) for n in range(60)), return_exceptions=True)
    full += [await asyncio.gather(put(n), return_exceptions=True) for n in range(60, 70)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    roomy = await asyncio.gather(*(put(n) for n in range(100, 110)))
    there = await database.read(lambda c: [row[0] for row in c.execute("SELECT n FROM fact ORDER BY n")])
    await database.close()
    said = [n for each in full for n in (each if isinstance(each, list) else [each]) if isinstance(n, int)]
    failed = len(full) - len(said)
    print(failed > 0, sorted(said + roomy) == there)

asyncio.run(main(sys.argv[1]))
"""


def test_a_full_disk_loses_nothing_that_was_answered_and_it_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "full.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("True True\n", "")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


async def test_a_bound_keeps_the_queue_short(filed: SqliteThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "JOBS_WAITING_MAX", 3)
    hold = Hold()
    first = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    rest = [asyncio.create_task(filed.write(insert(n))) for n in range(5)]
    await asyncio.sleep(0)
    hold.go.set()
    await first
    answers = await asyncio.gather(*rest, return_exceptions=True)
    assert [type(each) for each in answers] == [int, int, int, Overloaded, Overloaded]
    await filed.close()


async def test_what_nobody_waits_for_any_more_is_not_begun(filed: SqliteThread) -> None:
    hold = Hold()
    first = asyncio.create_task(filed.write(hold))
    await asyncio.to_thread(hold.begun.wait, 30)
    dropped, kept = (asyncio.create_task(filed.write(insert(n))) for n in (1, 2))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.sleep(0)
    hold.go.set()
    await asyncio.gather(first, kept)
    assert await filed.read(facts) == [2]
    await filed.close()


async def test_close_finishes_what_waits_can_be_repeated_and_then_refuses(database: SqliteThread) -> None:
    writing = [asyncio.create_task(database.write(insert(n))) for n in range(10)]
    await asyncio.sleep(0)
    await database.close()
    await database.close()
    assert await asyncio.gather(*writing) == list(range(10))
    with pytest.raises(RuntimeError, match="closed"):
        await database.write(insert(99))


@pytest.mark.parametrize("on_loop", [False, True])
async def test_two_processes_take_turns(filed: SqliteThread, on_loop: bool) -> None:
    other = SqliteThread(filed.path, schema=schema, on_loop=on_loop)
    await asyncio.gather(*((filed if n % 2 else other).write(insert(n)) for n in range(40)))
    assert await filed.read(facts) == list(range(40))
    await other.close()
    await filed.close()


async def test_inline_answers_without_ever_giving_way(tmp_path: Path) -> None:
    database = SqliteThread(tmp_path / "facts.db", schema=schema, inline=True)
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await database.write(insert(1))
    await database.read(facts)
    assert others == []
    await database.close()


async def test_a_commit_is_as_durable_as_asked_for(tmp_path: Path) -> None:
    levels = []
    for level in ("OFF", "NORMAL", "FULL"):
        database = SqliteThread(tmp_path / f"{level}.db", synchronous=level)
        levels.append(await database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]))
        assert await database.write(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
        await database.close()
    assert levels == [0, 1, 2]


async def test_on_the_loop_the_disk_is_waited_for_by_a_thread_only(tmp_path: Path) -> None:
    database = SqliteThread(tmp_path / "facts.db", schema=schema, on_loop=True)
    threads: set[int] = set()
    commits: list[int] = []

    def traced(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(threading.get_ident())

    await database.write(lambda connection: connection.set_trace_callback(traced))
    await asyncio.gather(*(database.write(lambda _: threads.add(threading.get_ident())) for _ in range(20)))
    assert threads == {threading.get_ident()}
    assert len(commits) == 2, "the trace itself, and twenty together"
    assert threading.get_ident() not in commits
    await database.close()


async def test_on_the_loop_a_commit_that_fails_fails_its_group_and_none_of_the_next(tmp_path: Path) -> None:
    database = SqliteThread(tmp_path / "facts.db", schema=schema, on_loop=True)

    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("INSERT INTO fact (n, p) VALUES (9, 404)")

    jobs = (insert(1), orphan, insert(2))
    answers = await asyncio.gather(*(database.write(job) for job in jobs), return_exceptions=True)
    assert [type(each) for each in answers] == [CommitFailed] * 3
    assert await database.write(insert(3)) == 3
    assert await database.read(facts) == [3]
    await database.close()


async def test_on_the_loop_a_file_that_another_holds_too_long_is_said_to_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = SqliteThread(tmp_path / "facts.db", schema=schema, on_loop=True)
    other = sqlite3.connect(tmp_path / "facts.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(sqlite_thread, "BUSY_WAIT_MS_MAX", 50)
    with pytest.raises(NotBegun, match="locked"):
        await database.write(insert(1))
    monkeypatch.setattr(sqlite_thread, "BUSY_WAIT_MS_MAX", 30_000)
    waiting = asyncio.create_task(database.write(insert(2)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    other.execute("ROLLBACK")
    assert await waiting == 2
    await database.close()


async def test_on_the_loop_a_file_is_opened_though_another_holds_it_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "facts.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")
    let_go = threading.Timer(0.1, other.execute, ("ROLLBACK",))
    let_go.start()

    def held_schema(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        schema(connection)
        connection.execute("COMMIT")

    database = SqliteThread(path, schema=held_schema, on_loop=True)
    let_go.join()
    assert await database.write(insert(1)) == 1
    await database.close()


async def test_who_waits_for_a_turn_shares_the_transaction_after_the_commit_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = SqliteThread(tmp_path / "facts.db", schema=schema, on_loop=True)
    hold, sizes, commit = Hold(), [], sqlite_thread._Session.commit

    def held(session: Any, jobs: Any) -> None:
        sizes.append(len(jobs))
        if len(sizes) == 1:
            hold(session.connection)
        commit(session, jobs)

    monkeypatch.setattr(sqlite_thread._Session, "commit", held)

    async def in_turn(n: int) -> None:
        await database.turn()
        await database.write(insert(n))

    first = asyncio.ensure_future(in_turn(0))
    await asyncio.to_thread(hold.begun.wait, 30)
    others = [asyncio.ensure_future(in_turn(n)) for n in range(1, 6)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in others)
    hold.go.set()
    await asyncio.gather(first, *others)
    assert sizes == [1, 5]
    assert await database.read(facts) == [0, 1, 2, 3, 4, 5]
    await database.close()
