"""The gateway's record: a link for each transaction, and no hole where its oldest part is no longer kept."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from doorward.audit.chains import Walk
from doorward.audit.findings import Report
from doorward.audit.records import open_gateway
from doorward.spg.engines.record import CHECKPOINTS_KEPT_MAX, WRITER
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.engines.store import STORE_FILE, SqliteBooks
from doorward.spg.rules.facts import DAY_US, JournalRow
from doorward.wire.chain import NOTHING, Head, Link, digest_of, hash_of

AT = 1_800_000_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / STORE_FILE)
    await opened.write(lambda books: books.open(AT))
    yield opened
    await opened.close()


def row(at_us: int = AT, step: str = "passed_to_han") -> JournalRow:
    return JournalRow(at_us=at_us, step=step, message="m-1", detail="x")


async def links(store: SqliteStore) -> list[Link]:
    def read(books: SqliteBooks) -> list[Link]:
        return [link for _, link in books.links(0, 10_000) if link is not None]

    found: list[Link] = await store.read(read)  # type: ignore[arg-type]
    return found


async def audited(tmp_path: Path) -> Report:
    """What an auditor finds in the file by itself."""
    report = Report()
    with open_gateway(tmp_path) as gateway:
        begin, _ = gateway.record.behind()
        end = await gateway.record.last(WRITER)
        await Walk(gateway.record, WRITER, report, ()).run(begin, end.seq)
    return report


async def prune(store: SqliteStore, journal_us: int, now_us: int) -> int:
    return await store.write(
        lambda books: books.prune(
            inbox_us=0, payload_us=0, journal_us=journal_us, samples_us=0, counts_us=0, now_us=now_us
        )
    )


async def test_each_transaction_adds_a_link_that_names_the_one_before(store: SqliteStore) -> None:
    heads = [await store.write(lambda books: books.write_journal([row(), row()], AT)) for _ in range(4)]
    found = await links(store)
    assert [link.head for link in found] == heads
    assert found[0].prev == NOTHING
    assert all(after.prev == before.hash == hash_of(before) for before, after in pairwise(found))
    assert {(link.epoch, link.rows) for link in found} == {(1, 2)}


async def test_a_restart_is_an_epoch_of_its_own(store: SqliteStore) -> None:
    await store.write(lambda books: books.write_journal([row()], AT))
    restart = await store.write(lambda books: books.open(AT))
    assert restart.head == (await links(store))[-1].head
    await store.write(lambda books: books.write_journal([row()], AT))
    assert [link.epoch for link in await links(store)] == [1, 2]


async def test_what_the_ccs_says_of_its_record_is_kept_also_when_nothing_else_happens(
    store: SqliteStore,
) -> None:
    head = Head(writer=3, epoch=9, seq=70, hash=b"c" * 32)
    await store.write(lambda books: books.write_journal([], AT, heads=[head], checkpoint="signed"))
    (link,) = await links(store)
    said, noted = link.peers
    assert (said.name, said.head) == ("", head)
    assert (noted.name, noted.hash) == ("checkpoint", digest_of("signed"))
    assert await store.write(lambda books: books.write_journal([], AT)) is None


async def test_no_more_checkpoints_are_kept_than_a_bound(store: SqliteStore) -> None:
    for at in range(CHECKPOINTS_KEPT_MAX + 5):
        await store.write(lambda books, n=at: books.write_journal([], AT, checkpoint=f"signed {n}"))  # type: ignore[misc]

    def kept(books: SqliteBooks) -> list[tuple[int, str]]:
        return books.checkpoints(0, 10_000)

    assert len(await store.read(kept)) == CHECKPOINTS_KEPT_MAX  # type: ignore[arg-type]


async def test_what_is_too_old_goes_from_the_oldest_end_and_the_rest_is_one_chain(
    store: SqliteStore, tmp_path: Path
) -> None:
    for day in range(600):
        at_us = AT + day * DAY_US
        await store.write(lambda books, at=at_us: books.write_journal([row(at)], at))  # type: ignore[misc]
    now_us = AT + 600 * DAY_US
    while await prune(store, now_us - 400 * DAY_US, now_us):
        pass
    found = await links(store)
    assert [link.seq for link in found[:2]] == [201, 202]
    assert found[-1].at_us == now_us
    assert (await audited(tmp_path)).findings == []


async def test_a_beginning_that_went_without_a_word_is_missed(store: SqliteStore, tmp_path: Path) -> None:
    for _ in range(5):
        await store.write(lambda books: books.write_journal([row()], AT))

    def cut(books: SqliteBooks) -> None:
        books._sql.execute("DELETE FROM journal WHERE link <= 2")
        books._sql.execute("DELETE FROM chain WHERE seq <= 2")

    await store.write(cut)  # type: ignore[arg-type]
    assert (await audited(tmp_path)).counted == {"removed": 1}


async def test_what_was_recorded_before_the_time_was_known_is_not_old(
    store: SqliteStore, tmp_path: Path
) -> None:
    """A gateway that booted in 1970 dates its first links so, and goes on today."""
    for at_us in (60_000_000, 61_000_000, AT):
        await store.write(lambda books, at=at_us: books.write_journal([row(at)], at))  # type: ignore[misc]
    assert await prune(store, AT - 31 * DAY_US, AT) == 0
    assert len(await links(store)) == 3
    assert await prune(store, AT + 1, AT + 400 * DAY_US)
    assert {link.at_us for link in await links(store)} == {AT + 400 * DAY_US}
    assert (await audited(tmp_path)).findings == []
