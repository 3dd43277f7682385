"""Batches: nothing waits when it is quiet, and one bad item never fails strangers."""

import asyncio

import pytest

from doorward.kit.gather import Gatherer, Overloaded


async def test_what_arrives_while_a_batch_runs_becomes_the_next_batch() -> None:
    sizes: list[int] = []
    gate = asyncio.Event()

    async def handle(items: list[int]) -> list[int | Exception]:
        sizes.append(len(items))
        await gate.wait()
        return [item * 2 for item in items]

    gatherer: Gatherer[int, int] = Gatherer(handle)
    first = gatherer.ask(1)
    await asyncio.sleep(0)
    rest = [gatherer.ask(item) for item in range(2, 50)]
    gate.set()
    assert await first == 2
    assert await asyncio.gather(*rest) == [item * 2 for item in range(2, 50)]
    assert sizes == [1, 48]


async def test_a_batch_is_what_has_gathered_when_its_turn_comes() -> None:
    sizes: list[int] = []
    turn = asyncio.Event()

    async def handle(items: list[int]) -> list[int | Exception]:
        sizes.append(len(items))
        return list(items)

    async def come() -> None:
        await turn.wait()

    gatherer: Gatherer[int, int] = Gatherer(handle, turn=come)
    asked = [gatherer.ask(1)]
    await asyncio.sleep(0)
    asked += [gatherer.ask(item) for item in range(2, 10)]
    turn.set()
    assert await asyncio.gather(*asked) == list(range(1, 10))
    assert sizes == [9]


async def test_one_bad_item_fails_alone() -> None:
    async def handle(items: list[int]) -> list[int | Exception]:
        if 13 in items:
            raise ValueError("thirteen")
        return list(items)

    gatherer: Gatherer[int, int] = Gatherer(handle)
    answers = await asyncio.gather(*(gatherer.ask(item) for item in range(20)), return_exceptions=True)
    assert [each for each in answers if not isinstance(each, Exception)] == [
        item for item in range(20) if item != 13
    ]
    assert isinstance(answers[13], ValueError)


async def test_what_is_no_items_fault_is_told_to_all_at_once_and_not_tried_piece_by_piece() -> None:
    tries = []

    async def handle(items: list[int]) -> list[int | Exception]:
        tries.append(len(items))
        raise ConnectionError("no database")

    gatherer: Gatherer[int, int] = Gatherer(handle, of_all=(ConnectionError,))
    answers = await asyncio.gather(*(gatherer.ask(item) for item in range(20)), return_exceptions=True)
    assert [type(each) for each in answers] == [ConnectionError] * 20
    assert tries == [20]


async def test_a_full_queue_refuses_instead_of_growing() -> None:
    async def handle(items: list[int]) -> list[int | Exception]:
        await asyncio.sleep(3600)
        return list(items)

    gatherer: Gatherer[int, int] = Gatherer(handle, items_max=1, queue_max=2)
    asks = [gatherer.ask(0)]
    await asyncio.sleep(0)
    asks += [gatherer.ask(1), gatherer.ask(2)]
    with pytest.raises(Overloaded):
        gatherer.ask(3)
    for ask in asks:
        ask.cancel()
