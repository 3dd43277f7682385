"""The gateway's store: real SQLite, with its own thread and without."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from doorward.kit.ids import uuid7
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.engines.store import NewerStore
from doorward.spg.rules.facts import DAY_US, JournalRow, Mark, Request
from doorward.wire.messages import Known


@pytest.fixture(params=["thread", "inline"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "gateway.sqlite", inline=request.param == "inline")


async def test_every_start_is_a_new_boot(store: SqliteStore) -> None:
    boots = [(await store.write(lambda books: books.open(1))).boot for _ in range(3)]
    assert boots == [1, 2, 3]
    await store.close()


async def test_outgoing_numbers_are_never_used_again_and_two_at_once_have_different_ones(
    store: SqliteStore,
) -> None:
    async def put() -> list[int]:
        out = await store.write(
            lambda books: books.put_out([Known(seq=0, unknown=[]), Known(seq=0, unknown=[])])
        )
        return [message.seq for message in out if isinstance(message, Known)]

    numbers = [n for part in await asyncio.gather(*(put() for _ in range(20))) for n in part]
    await store.write(lambda books: books.acknowledged(numbers))
    numbers += await put()
    assert sorted(numbers) == list(range(1, 43))
    await store.close()


async def test_a_step_that_fails_leaves_nothing(store: SqliteStore) -> None:
    def half(books: object) -> None:
        books.put_out([Known(seq=0, unknown=[])])  # type: ignore[attr-defined]
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="middle"):
        await store.write(half)
    assert await store.read(lambda books: books.outbox_size()) == 0
    await store.close()


async def test_the_latest_time_never_goes_back(store: SqliteStore) -> None:
    await store.write(lambda books: books.keep_time(100, Mark(1, 7)))
    await store.write(lambda books: books.keep_time(50))
    restart = await store.write(lambda books: books.open(0))
    assert (restart.time_us, restart.mark) == (100, Mark(1, 7))
    await store.close()


async def test_the_journal_cannot_be_changed(store: SqliteStore, tmp_path: Path) -> None:
    await store.write(lambda books: books.write_journal([JournalRow(at_us=1, step="x")], 1))
    await store.close()
    connection = sqlite3.connect(tmp_path / "gateway.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("UPDATE journal SET detail = 'nothing happened'")
    connection.close()


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "gateway.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerStore, match="schema 99"):
        SqliteStore(tmp_path / "gateway.sqlite", inline=True)


async def test_what_came_while_the_clock_was_wrong_is_not_forgotten_as_old(store: SqliteStore) -> None:
    """Ids are kept so that nothing acts twice; a gateway that booted in 1970 dates them decades back."""
    now_us, dice = 1_800_000_000_000_000, random.Random(1)
    wrong, old = uuid7(now_us, dice), uuid7(now_us - 500 * DAY_US, dice)
    rows = [
        Request(id=id, party="p", party_ref=id, state="REFUSED", attempt=1, received_us=at, start_us=0, act_by_us=0)
        for id, at in ((wrong, 60_000_000), (old, now_us - 500 * DAY_US))
    ]  # fmt: skip
    await store.write(lambda books: books.open(now_us))
    await store.write(lambda books: books.add_requests(rows, []))
    before_us = now_us - 400 * DAY_US
    gone = await store.write(
        lambda books: books.prune(
            inbox_us=before_us, payload_us=0, journal_us=0, samples_us=0, counts_us=0, now_us=now_us
        )
    )
    assert gone == 1
    kept = await store.read(lambda books: books.seen([wrong, old], set())[0])
    assert set(kept) == {wrong}
    await store.close()
