import asyncio

from tests.engines.store.records import NOW, S
from tests.engines.store.rigs import Rig


async def take(rig: Rig, worker: str, wanted: set[int], now_us: int = NOW) -> tuple[int, set[int]]:
    return await rig.store.write(lambda books: books.take_leases(worker, wanted, now_us, now_us + 30 * S))


async def test_living_workers_are_those_whose_time_has_not_run_out(rig: Rig) -> None:
    await rig.store.write(lambda books: books.beat("w-2", NOW, NOW + 10))
    assert await rig.store.write(lambda books: books.beat("w-1", NOW, NOW + 30)) == ["w-1", "w-2"]
    assert await rig.store.write(lambda books: books.beat("w-1", NOW + 10, NOW + 40)) == ["w-1"]


async def test_a_renewal_keeps_the_epoch_and_a_new_partition_raises_it(rig: Rig) -> None:
    first, held = await take(rig, "w-1", {1, 2})
    renewed = await take(rig, "w-1", {1, 2}, NOW + 10 * S)
    wider, more = await take(rig, "w-1", {1, 2, 3}, NOW + 20 * S)
    assert first == NOW // S
    assert held == {1, 2}
    assert renewed == (first, {1, 2})
    assert wider > first
    assert more == {1, 2, 3}


async def test_a_held_partition_is_not_taken_until_it_expires(rig: Rig) -> None:
    first, _ = await take(rig, "w-1", {1, 2})
    _, early = await take(rig, "w-2", {2, 3}, NOW + 29 * S)
    epoch, late = await take(rig, "w-2", {2, 3}, NOW + 30 * S)
    assert early == {3}
    assert late == {2, 3}
    assert epoch > first


async def test_what_is_no_longer_wanted_is_free_at_once(rig: Rig) -> None:
    await take(rig, "w-1", {1, 2})
    await take(rig, "w-1", {1})
    _, held = await take(rig, "w-2", {1, 2})
    assert held == {2}


async def test_an_epoch_is_greater_than_any_before_even_when_the_clock_went_back(rig: Rig) -> None:
    first, _ = await take(rig, "w-1", {1})
    await take(rig, "w-1", set())
    second, _ = await take(rig, "w-2", {1}, NOW - 1000 * S)
    assert second == first + 1


async def test_a_partition_has_one_owner_however_many_want_it(rig: Rig) -> None:
    everything = set(range(256))

    async def want(at: int) -> set[int]:
        store = rig.store if at % 2 else rig.other
        _, held = await store.write(lambda books: books.take_leases(f"w-{at}", everything, NOW, NOW + 30 * S))
        return held

    shares = await asyncio.gather(*(want(at) for at in range(6)))
    assert sum(map(len, shares)) == len(everything) == len(set().union(*shares))
