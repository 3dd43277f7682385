import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Endpoint, Event
from doorward.wire.reasons import Reason, Refused
from tests.engines.store.records import HOUR, NOW, doing, event
from tests.engines.store.rigs import Rig, while_open


async def feed(rig: Rig, after: str = "", party: str = "volt", limit: int = 100, *kinds: str) -> list[Event]:
    return await rig.store.read(lambda books: books.feed(party, after, kinds, limit))


def without_cursor(events: list[Event]) -> list[Event]:
    return [replace(each, cursor="") for each in events]


async def test_a_feed_is_a_partys_own_oldest_first_and_goes_on_after_a_cursor(rig: Rig) -> None:
    mine = [event(), event(kind="access.granted"), event(), event()]
    await rig.store.write(lambda books: books.add_events([mine[0], event(party="amp"), mine[1]]))
    await rig.store.write(lambda books: books.add_events(mine[2:]))
    all_of_it = await feed(rig)
    first = await feed(rig, limit=2)
    assert without_cursor(all_of_it) == mine
    assert without_cursor(first) == mine[:2]
    assert without_cursor(await feed(rig, first[-1].cursor)) == mine[2:]
    assert await feed(rig, all_of_it[-1].cursor) == []


async def test_a_feed_can_be_of_some_kinds_only(rig: Rig) -> None:
    several = [event(), event(kind="device.notice"), event(kind="access.changed")]
    await rig.store.write(lambda books: books.add_events(several))
    found = await feed(rig, "", "volt", 10, "device.notice", "access.changed")
    assert without_cursor(found) == several[1:]


async def test_an_event_comes_back_as_it_was_put(rig: Rig) -> None:
    whole = event(
        request="r",
        service_point="sp",
        device="d",
        grant="g",
        data=msgspec.Raw(b'{"kind":"override"}'),
        webhook="none",
        next_us=NOW + 5,
        attempts=2,
    )
    await rig.store.write(lambda books: books.add_events([whole]))
    found = await rig.store.read(lambda books: books.events([whole.id, "nothing"]))
    assert {id: replace(each, cursor="") for id, each in found.items()} == {whole.id: whole}


async def test_an_older_transaction_that_commits_last_is_not_skipped(rig: Rig) -> None:
    older, newer = event(), event()
    seen: list[Event] = []

    async def meanwhile() -> None:
        await rig.other.write(lambda books: books.add_events([newer]))
        seen.extend(await feed(rig))

    await rig.overlapping(lambda books: books.add_events([older]), meanwhile)
    seen.extend(await feed(rig, seen[-1].cursor if seen else ""))
    assert sorted(each.id for each in seen) == sorted([older.id, newer.id])


async def test_the_end_of_a_feed_skips_nothing_either(rig: Rig) -> None:
    older, newer = event(), event()
    ends: list[str] = []

    async def meanwhile() -> None:
        await rig.other.write(lambda books: books.add_events([newer]))
        ends.append(await rig.store.read(lambda books: books.feed_end("volt")))

    before = await rig.store.read(lambda books: books.feed_end("volt"))
    await rig.overlapping(lambda books: books.add_events([older]), meanwhile)
    shown = {each.id for each in await feed(rig)} - {each.id for each in await feed(rig, ends[0])}
    end = await rig.store.read(lambda books: books.feed_end("volt"))
    assert before == ""
    assert older.id in {each.id for each in await feed(rig, ends[0])} or older.id in shown
    assert end == (await feed(rig))[-1].cursor
    assert await feed(rig, end) == []


async def test_readers_who_follow_many_writers_miss_nothing_and_see_nothing_twice(rig: Rig) -> None:
    events = [event() for _ in range(120)]
    seen: list[str] = []
    done = asyncio.Event()

    def adding(some: list[Event]) -> "asyncio.Task[None]":
        async def step(books: AllBooks) -> None:
            await books.add_events(some[:1])
            await rig.dawdle()
            await books.add_events(some[1:])

        store = rig.store if events.index(some[0]) % 2 else rig.other
        return asyncio.create_task(store.write(step))

    async def follow() -> None:
        cursor = ""
        while True:
            last_look = done.is_set()
            for each in await feed(rig, cursor):
                seen.append(each.id)
                cursor = each.cursor
            if last_look:
                return
            await asyncio.sleep(0)

    reader = asyncio.create_task(follow())
    for at in range(0, len(events), 30):
        await asyncio.gather(*(adding(events[of : of + 3]) for of in range(at, at + 30, 3)))
    done.set()
    await reader
    assert sorted(seen) == sorted(each.id for each in events)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1.", ".1", "-1.2", "1.2.3", "zzzzzzzzzzzzzzzz.1", "1 .2", "ü.1", "9" * 99]
)
async def test_what_is_no_cursor_is_refused_by_name(rig: Rig, cursor: str) -> None:
    with pytest.raises(Refused) as refused:
        await feed(rig, cursor)
    assert (refused.value.reason, refused.value.field) == (Reason.BODY_MALFORMED, "/after")


def claiming(limit: int = 100, now_us: int = NOW) -> Callable[[AllBooks], Awaitable[list[Event]]]:
    async def step(books: AllBooks) -> list[Event]:
        return await books.claim_events(now_us, now_us + HOUR, limit)

    return step


async def test_due_events_are_taken_once_until_their_next_time(rig: Rig) -> None:
    due, later, none = event(), event(next_us=NOW + 1), event(webhook="none")
    await rig.store.write(lambda books: books.add_events([due, later, none]))
    first = await rig.store.write(claiming())
    second = await rig.store.write(claiming())
    after = await rig.store.write(claiming(now_us=NOW + HOUR))
    assert without_cursor(first) == [replace(due, next_us=NOW + HOUR)]
    assert first[0].cursor
    assert second == []
    assert [each.id for each in after] == [due.id, later.id]


async def test_no_event_is_taken_by_two(rig: Rig) -> None:
    await rig.store.write(lambda books: books.add_events([event() for _ in range(60)]))
    batches = await asyncio.gather(
        *((rig.store if at % 2 else rig.other).write(claiming(5)) for at in range(16))
    )
    taken = [each.id for batch in batches for each in batch]
    assert all(len(batch) <= 5 for batch in batches)
    assert len(taken) == len(set(taken))


async def test_an_event_that_another_is_taking_is_skipped_not_waited_for(rig: Rig) -> None:
    first, second = event(next_us=NOW - 1), event()
    await rig.store.write(lambda books: books.add_events([first, second]))
    one, two = await while_open(rig, claiming(1), claiming(1))
    assert ([each.id for each in one], [each.id for each in two]) == ([first.id], [second.id])


async def test_what_became_of_a_push_is_written(rig: Rig) -> None:
    mine = event(request="r-1")
    await rig.store.write(lambda books: books.add_events([mine]))
    moved = replace(mine, webhook="dead", attempts=9, next_us=NOW + 7)
    await rig.store.write(lambda books: books.update_events([moved]))
    assert without_cursor(await feed(rig)) == [moved]


async def test_the_newest_event_of_a_kind_is_found_per_request(rig: Rig) -> None:
    old, new, other, receipt = (
        event(request="r-1"),
        event(request="r-1"),
        event(request="r-2"),
        event(request="r-1", kind="request.receipt"),
    )
    await rig.store.write(lambda books: books.add_events([old, new, other, receipt]))
    found = await rig.store.read(lambda books: books.events_of(["r-1", "r-2", "r-3"], "request.result"))
    assert {id: each.id for id, each in found.items()} == {"r-1": new.id, "r-2": other.id}


async def test_endpoints_are_kept_per_party(home: Rig) -> None:
    first = Endpoint(id="e-1", party="volt", url="https://volt.example/hook")
    whole = Endpoint(
        id="e-1",
        party="volt",
        url="https://volt.example/new",
        mode="full",
        pin="ab",
        state="proved",
        secrets=["whsec_a", "whsec_b"],
        kinds=["access"],
        ca="PEM",
    )
    foreign = Endpoint(id="e-1", party="amp", url="https://amp.example/hook")
    await home.store.write(
        doing(
            lambda books: books.put_endpoint(first),
            lambda books: books.put_endpoint(foreign),
            lambda books: books.put_endpoint(whole),
        )
    )
    before = await home.store.read(lambda books: books.endpoints(["volt", "amp", "nobody"]))
    removed = [await home.store.write(lambda books: books.delete_endpoint("volt", "e-1")) for _ in range(2)]
    after = await home.store.read(lambda books: books.endpoints(["volt", "amp"]))
    assert before == {"volt": [whole], "amp": [foreign]}
    assert removed == [True, False]
    assert after == {"amp": [foreign]}
