"""Every transaction that writes the journal adds one link to a chain that one writer holds."""

import asyncio
from itertools import pairwise

import pytest

from doorward.ccs.engines.opening import open_store
from doorward.ccs.engines.store.chain import CHAINED, LINK_COLUMNS, load_link
from doorward.ccs.ports import AllBooks
from doorward.wire.chain import NOTHING, Head, Link, PeerHead, hash_of, root_of, text_of
from doorward.wire.steps import Step
from tests.engines.store.records import DAY, NOW, journal_row, new_id
from tests.engines.store.rigs import Rig, raw, while_open


async def write(books: AllBooks) -> Head | None:
    return await books.write_journal(
        [journal_row(new_id(), Step.RECEIVED), journal_row(new_id(), Step.RECORDED)]
    )


async def links(url: str) -> list[Link]:
    rows = await raw(url, f"SELECT {', '.join(LINK_COLUMNS)} FROM chain ORDER BY writer, seq")
    return [load_link(row) for row in rows]


async def covered(url: str, link: Link) -> list[bytes]:
    rows = await raw(
        url,
        f"SELECT {', '.join(CHAINED)} FROM journal WHERE writer = {link.writer} AND link = {link.seq}"
        " ORDER BY day, seq",
    )
    return [text_of(row) for row in rows]


async def require_sound(url: str) -> list[Link]:
    """All chains as they stand, with everything in them proved; returns their links."""
    found = await links(url)
    for link in found:
        assert link.hash == hash_of(link)
        lines = await covered(url, link)
        assert len(lines) == link.rows
        if len(link.parts) == 1:
            assert link.parts[0].root == root_of(lines)
    for before, after in pairwise(found):
        if before.writer == after.writer:
            assert (after.seq, after.prev) == (before.seq + 1, before.hash)
        else:
            assert (after.seq, after.prev) == (1, NOTHING)
    return found


async def test_each_transaction_adds_a_link_that_covers_its_rows(rig: Rig, url: str) -> None:
    heads = [await rig.store.write(write) for _ in range(5)]
    found = await require_sound(url)
    assert [link.head for link in found] == heads
    assert {link.rows for link in found} == {2}
    assert {link.epoch for link in found} == {NOW // 1_000_000}


async def test_a_transaction_without_rows_adds_none(rig: Rig, url: str) -> None:
    assert await rig.store.write(lambda books: books.write_journal([])) is None
    assert await links(url) == []


async def test_what_gateways_said_of_their_records_is_covered(rig: Rig, url: str) -> None:
    said = [PeerHead("SPG-1", 1, 7, 99, b"h" * 32)]
    row = journal_row(new_id(), Step.RECORDED)
    await rig.store.write(lambda books: books.write_journal([row], said))
    (link,) = await require_sound(url)
    assert link.peers == said


async def test_rows_of_two_days_in_one_transaction_are_two_parts(rig: Rig, url: str) -> None:
    rows = [journal_row(new_id(at), Step.RECORDED) for at in (NOW, NOW - DAY, NOW)]
    await rig.store.write(lambda books: books.write_journal(rows))
    (link,) = await links(url)
    assert {part.day: part.rows for part in link.parts} == {NOW // DAY: 2, NOW // DAY - 1: 1}
    for part in link.parts:
        lines = await raw(
            url, f"SELECT {', '.join(CHAINED)} FROM journal WHERE day = {part.day} ORDER BY seq"
        )
        assert part.root == root_of(map(text_of, lines))


async def test_a_transaction_that_fails_leaves_no_link_and_the_next_goes_on_from_the_last(
    rig: Rig, url: str
) -> None:
    async def fail(books: AllBooks) -> None:
        await books.write_journal([journal_row(new_id(), Step.RECEIVED)])
        raise RuntimeError("no")

    for _ in range(3):
        await rig.store.write(write)
        with pytest.raises(RuntimeError):
            await rig.store.write(fail)
    assert [link.seq for link in await require_sound(url)] == [1, 2, 3]


async def test_two_links_of_one_transaction_follow_each_other(rig: Rig, url: str) -> None:
    async def twice(books: AllBooks) -> None:
        await write(books)
        await write(books)

    await rig.store.write(twice)
    assert [link.seq for link in await require_sound(url)] == [1, 2]


async def test_transactions_side_by_side_each_have_a_chain(rig: Rig, url: str) -> None:
    older, newer = await while_open(rig, write, write)
    found = await require_sound(url)
    assert {older, newer} == {link.head for link in found}
    assert len({link.writer for link in found}) == (1 if rig.store is rig.other else 2)


async def test_many_at_once_on_both_workers_leave_sound_chains(rig: Rig, url: str) -> None:
    stores = (rig.store, rig.other)
    heads = await asyncio.gather(*(stores[at % 2].write(write) for at in range(60)))
    found = await require_sound(url)
    assert sorted(link.hash for link in found) == sorted(head.hash for head in heads if head)


async def test_a_worker_that_comes_later_goes_on_with_a_chain_under_a_higher_epoch(
    rig: Rig, url: str
) -> None:
    await rig.store.write(write)
    await rig.close()
    again = await open_store(url, clock=rig.clock)
    try:
        await again.write(write)
        await again.write(write)
    finally:
        await again.close()
    found = await require_sound(url)
    assert [(link.writer, link.seq) for link in found] == [(1, 1), (1, 2), (1, 3)]
    assert found[0].epoch < found[1].epoch == found[2].epoch
