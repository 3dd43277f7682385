"""What stands beside the chain: permissions as they were, checkpoints, and what is no longer kept."""

import msgspec
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.wire.chain import payload_digest
from doorward.wire.steps import Step
from tests.engines.store.records import DAY, NOW, grant, journal_row, new_id, request
from tests.engines.store.rigs import Rig, raw, while_open


async def test_every_change_of_a_permission_is_kept_and_stands_in_the_journal(home: Rig, url: str) -> None:
    given, gone = grant(version=2), grant(version=2, state="withdrawn")
    for each in (given, gone):
        await home.store.write(lambda books, one=each: books.put_grants([one]))  # type: ignore[misc]
    kept = await raw(url, "SELECT version, state, signed, message FROM grant_record ORDER BY sequence")
    assert [row[:3] for row in kept[-2:]] == [(2, "live", given.signed), (2, "withdrawn", gone.signed)]
    rows = [(await home.store.read(lambda books, id=row[3]: books.journal(id)))[0] for row in kept[-2:]]  # type: ignore[misc]
    assert [row.steps[0].step for row in rows] == [Step.GRANTED, Step.WITHDRAWN]
    assert rows[0].payload == payload_digest("", given.signed.encode())


async def test_the_heads_are_the_newest_links_of_all_writers(rig: Rig) -> None:
    async def write(books: AllBooks) -> object:
        return await books.write_journal([journal_row(new_id(), Step.RECORDED)])

    assert await rig.store.read(lambda books: books.heads()) == []
    await while_open(rig, write, write)
    older, newer = await while_open(rig, write, write)
    heads = await rig.store.read(lambda books: books.heads())
    assert newer in heads
    assert older in heads or rig.store is rig.other


async def test_checkpoints_follow_each_other(rig: Rig) -> None:
    assert await rig.store.read(lambda books: books.last_checkpoint()) == (0, "")
    for number in (1, 2):
        await rig.store.write(lambda books, n=number: books.add_checkpoint(n, NOW, f"document {n}"))  # type: ignore[misc]
    assert await rig.store.read(lambda books: books.last_checkpoint()) == (2, "document 2")


async def test_a_day_of_the_journal_can_be_dropped_with_a_tombstone(rig: Rig) -> None:
    today, before = NOW // DAY, NOW // DAY - 1
    for at in (NOW, NOW - DAY, NOW - DAY):
        await rig.store.write(
            lambda books, t=at: books.write_journal([journal_row(new_id(t), Step.RECORDED)])  # type: ignore[misc]
        )
    assert await rig.store.read(lambda books: books.oldest_day()) == before
    assert await rig.store.read(lambda books: books.rows_of_day(before)) == 2
    await rig.store.write(lambda books: books.add_tombstone(before, NOW, "signed"))
    assert await rig.store.read(lambda books: books.tombstone(before)) == "signed"
    await rig.store.write(lambda books: books.drop_rows(before, 10))
    assert await rig.store.read(lambda books: books.oldest_day()) == today


async def test_what_old_requests_carried_is_erased_a_slice_at_a_time(home: Rig) -> None:
    old = [
        replace(
            request(new_id(NOW - DAY + at)),
            key="",
            final_us=NOW,
            salt="s",
            body_hash="h",
            result=msgspec.Raw(b'{"watts":1}'),
        )
        for at in range(5)
    ]
    young, running = request(new_id(NOW)), replace(request(new_id(NOW - DAY + 9)), key="", salt="s")
    await home.store.write(lambda books: books.insert_requests([*old, young, running]))
    at, rounds = "", 0
    while True:
        at = await home.store.write(lambda books, after=at: books.erase_payloads(after, new_id(NOW - 1), 3))  # type: ignore[misc]
        rounds += 1
        if not at:
            break
    found = await home.store.read(lambda books: books.requests([each.id for each in (*old, young, running)]))
    assert {bytes(found[each.id].body) for each in old} == {b"{}"}
    assert {bytes(found[each.id].result) for each in old} == {b"null"}
    assert {(found[each.id].salt, found[each.id].body_hash) for each in old} == {("", "")}
    assert found[young.id] == young
    assert found[running.id] == running
    assert rounds == 3
