import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Request
from tests.engines.store.records import DAY, NOW, request
from tests.engines.store.rigs import Rig, while_open


async def put(rig: Rig, *requests: Request) -> None:
    await rig.store.write(lambda books: books.insert_requests(requests))


async def test_deadlines_are_found_oldest_first_and_only_of_what_is_not_final(rig: Rig) -> None:
    late, later = request(due_us=NOW - 1), request(due_us=NOW - 5)
    await put(
        rig, late, later, request(due_us=NOW + 1), request(due_us=NOW - 9, final_us=NOW - 8, state="DONE")
    )
    everything = await rig.store.write(lambda books: books.due(NOW, 10))
    one = await rig.store.write(lambda books: books.due(NOW, 1))
    assert everything == [later, late]
    assert one == [later]


async def test_warnings_are_found_until_they_are_given(rig: Rig) -> None:
    late = request(warn_us=NOW - 1)
    await put(rig, late, request(warn_us=NOW + 1), request(warn_us=0), request(warn_us=NOW - 1, final_us=NOW))
    assert await rig.store.write(lambda books: books.to_warn(NOW, 10)) == [late]
    await rig.store.write(lambda books: books.update_requests([replace(late, warn_us=0)]))
    assert await rig.store.write(lambda books: books.to_warn(NOW, 10)) == []


async def test_answers_that_nobody_took_are_found_by_their_age(rig: Rig) -> None:
    left = request(final_us=NOW - 3 * DAY - 1)
    await put(
        rig,
        left,
        request(final_us=NOW - 3 * DAY),
        request(final_us=NOW - 9 * DAY, answer="DELIVERED"),
        request(),
    )
    assert await rig.store.write(lambda books: books.undelivered(NOW - 3 * DAY, 10)) == [left]


def ending(limit: int) -> Callable[[AllBooks], Awaitable[list[str]]]:
    async def step(books: AllBooks) -> list[str]:
        due = await books.due(NOW, limit)
        await books.update_requests(
            [replace(each, state="EXPIRED", final_us=NOW, ready_us=None) for each in due]
        )
        return [each.id for each in due]

    return step


async def test_a_deadline_is_met_by_one_worker_only(rig: Rig) -> None:
    waiting = [request(due_us=NOW - 1) for _ in range(40)]
    await put(rig, *waiting)
    rounds = await asyncio.gather(*((rig.store if at % 2 else rig.other).write(ending(5)) for at in range(8)))
    ended = [id for batch in rounds for id in batch]
    assert len(ended) == len(set(ended))


async def test_a_deadline_that_another_is_meeting_is_skipped(rig: Rig) -> None:
    first, second = request(due_us=NOW - 2), request(due_us=NOW - 1)
    await put(rig, first, second)
    assert await while_open(rig, ending(1), ending(1)) == ([first.id], [second.id])


async def test_house_keeping_can_be_repeated_and_done_by_several_at_once(rig: Rig) -> None:
    gone = await asyncio.gather(
        *(
            (rig.store if at % 2 else rig.other).write(lambda books: books.prune(NOW + 20 * DAY))
            for at in range(4)
        )
    )
    assert gone == [0, 0, 0, 0]
