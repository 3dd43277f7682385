"""What a store promises about transactions, whatever is in them."""

import asyncio
import time
from functools import partial

import pytest

from doorward.ccs.ports import AllBooks
from tests.engines.store.records import NOW, party, request
from tests.engines.store.rigs import Rig, open_rig


class Unhappy(Exception):
    pass


async def test_a_step_that_raises_leaves_nothing_behind(rig: Rig) -> None:
    async def step(books: AllBooks) -> None:
        await books.put_parties([party()])
        raise Unhappy("as it goes")

    with pytest.raises(Unhappy, match="as it goes"):
        await rig.store.write(step)
    assert await rig.store.read(lambda books: books.parties(["volt"])) == {}


async def test_one_bad_step_among_many_fails_alone(rig: Rig) -> None:
    def putting(at: int):  # type: ignore[no-untyped-def]
        async def step(books: AllBooks) -> int:
            await books.put_parties([party(f"p-{at}")])
            if at == 7:
                raise Unhappy
            return at

        return step

    answers = await asyncio.gather(
        *(rig.store.write(putting(at)) for at in range(20)), return_exceptions=True
    )
    known = await rig.store.read(lambda books: books.parties([f"p-{at}" for at in range(20)]))
    assert [at for at, answer in enumerate(answers) if answer != at] == [7]
    assert isinstance(answers[7], Unhappy)
    assert len(known) == 19
    assert "p-7" not in known


async def test_a_broken_rule_of_the_database_fails_its_step_only(rig: Rig) -> None:
    async def bad(books: AllBooks) -> None:
        await books.insert_requests([request(detail=None)])  # never null

    good = rig.store.write(lambda books: books.put_parties([party()]))
    answers = await asyncio.gather(rig.store.write(bad), good, return_exceptions=True)
    assert isinstance(answers[0], Exception)
    assert answers[1] is None
    assert set(await rig.store.read(lambda books: books.parties(["volt"]))) == {"volt"}


async def test_a_step_sees_its_own_writes_and_readers_see_only_what_was_committed(rig: Rig) -> None:
    seen: list[int] = []

    async def step(books: AllBooks) -> int:
        await books.put_parties([party()])
        return len(await books.parties(["volt"]))

    async def meanwhile() -> None:
        seen.append(len(await rig.other.read(lambda books: books.parties(["volt"]))))

    before = len(await rig.store.read(lambda books: books.parties(["volt"])))
    own = await rig.overlapping(step, meanwhile)
    after = len(await rig.store.read(lambda books: books.parties(["volt"])))
    assert (before, own, after) == (0, 1, 1)
    assert seen in ([0], [1])


async def test_a_read_cannot_write(rig: Rig) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        await rig.store.read(lambda books: books.put_parties([party()]))
    assert await rig.store.read(lambda books: books.parties(["volt"])) == {}


async def test_what_was_answered_is_there_when_the_database_is_opened_again(rig: Rig, url: str) -> None:
    await rig.store.write(lambda books: books.put_parties([party()]))
    await rig.close()
    again = await open_rig(url)
    try:
        assert set(await again.store.read(lambda books: books.parties(["volt"]))) == {"volt"}
    finally:
        await again.close()


async def test_close_can_be_repeated_and_finishes_what_runs(rig: Rig) -> None:
    running = asyncio.gather(
        *(rig.store.write(lambda books, at=at: books.put_parties([party(f"p-{at}")])) for at in range(8))  # type: ignore[misc]
    )
    await asyncio.sleep(0)
    await rig.store.close()
    await rig.store.close()
    assert await running == [None] * 8


async def test_hints_are_heard_by_all_workers_our_own_included(rig: Rig) -> None:
    heard: list[tuple[str, str, str]] = []
    everybody = asyncio.Event()

    def hear(who: str, channel: str, payload: str) -> None:
        heard.append((who, channel, payload))
        if len(heard) == 2:
            everybody.set()

    await rig.store.listen(partial(hear, "own"))
    await rig.other.listen(partial(hear, "other"))
    await rig.store.hint("ready", "gw-1 gw-2")
    async with asyncio.timeout(20):
        await everybody.wait()
    assert sorted(heard) == [("other", "ready", "gw-1 gw-2"), ("own", "ready", "gw-1 gw-2")]


async def test_what_a_caller_no_longer_waits_for_disturbs_nobody(rig: Rig) -> None:
    tasks = [
        asyncio.create_task(rig.store.write(lambda books, at=at: books.put_parties([party(f"p-{at}")])))  # type: ignore[misc]
        for at in range(10)
    ]
    await asyncio.sleep(0)
    tasks[3].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [at for at, answer in enumerate(answers) if answer is not None] == [3]
    assert await rig.store.write(lambda books: books.ready_gateways(None, NOW, 1)) == set()


async def test_the_time_of_the_database_is_known_relative_to_ours(rig: Rig) -> None:
    own = await rig.store.ahead_us(time.time)
    slow = await rig.store.ahead_us(lambda: time.time() - 100)
    assert abs(own) < 10_000_000
    assert slow in (0, pytest.approx(100_000_000, abs=10_000_000))
