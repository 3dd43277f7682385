"""The parts of a world: time that jumps, processes that die, limits by brute force."""

import asyncio
import gc
import random

import pytest

from doorward.simulate.world import town
from doorward.simulate.world.charges import Charges
from doorward.simulate.world.loop import Process, Stuck, WorldLoop


def test_a_day_takes_no_time_and_timers_fire_in_order() -> None:
    loop = WorldLoop(random.Random(1))  # type: ignore[abstract]
    fired: list[float] = []

    async def play() -> None:
        for at_s in (86_400.0, 5.0, 3_600.0):
            loop.call_later(at_s, lambda: fired.append(loop.time()))
        await asyncio.sleep(90_000)

    loop.run(play())
    assert fired == [5.0, 3_600.0, 86_400.0]


def test_the_seed_alone_decides_the_order_of_what_is_ready_together() -> None:
    def order(seed: int) -> list[int]:
        loop = WorldLoop(random.Random(seed))  # type: ignore[abstract]
        seen: list[int] = []

        async def play() -> None:
            for number in range(10):
                loop.call_soon(seen.append, number)
            await asyncio.sleep(1)

        loop.run(play())
        return seen

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_a_killed_process_runs_no_further_and_a_paused_one_goes_on_later() -> None:
    loop = WorldLoop(random.Random(1))  # type: ignore[abstract]
    ticks: dict[str, list[float]] = {"killed": [], "paused": [], "well": []}

    async def tick(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                ticks[name].append(loop.time())
        finally:
            ticks[name].append(-1.0)

    async def play() -> None:
        processes = {name: Process(name, loop) for name in ticks}
        for name, process in processes.items():
            process.start(tick(name))
        await asyncio.sleep(2.5)
        processes["killed"].kill()
        processes["paused"].pause()
        await asyncio.sleep(5)
        processes["paused"].go_on()
        await asyncio.sleep(1.1)

    loop.run(play())
    assert ticks["killed"] == [1.0, 2.0], "no last word"
    assert ticks["paused"] == [1.0, 2.0, 7.5, 8.5]
    assert ticks["well"] == [float(s) for s in range(1, 9)]


def test_what_never_began_in_a_process_that_dies_is_closed_without_a_word(
    recwarn: pytest.WarningsRecorder,
) -> None:
    loop = WorldLoop(random.Random(1))  # type: ignore[abstract]
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)

    async def play() -> None:
        killed, paused, last = (Process(name, loop) for name in ("killed", "paused", "last"))
        paused.pause()
        for process in (killed, paused):
            process.start(work(process.name))
        killed.kill()
        await asyncio.sleep(1)
        paused.kill()
        last.start(work(last.name))

    loop.run(play())
    loop.close()
    gc.collect()
    assert begun == []
    assert [str(each.message) for each in recwarn] == []


def test_a_world_in_which_nothing_can_happen_any_more_says_so() -> None:
    loop = WorldLoop(random.Random(1))  # type: ignore[abstract]

    async def play() -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        loop.run(play())


def accept(charges: Charges, id: str, at_us: int) -> list[str]:
    return charges.moved(id, "", "QUEUED", 0, 0, at_us, "bright", "sp-1", 2, 1)


def test_brute_force_sees_a_window_that_is_overfull_and_a_refusal_that_was_wrong() -> None:
    charges = Charges()
    start_us = town.START_US
    full = town.PER_HOUR // 2
    assert [accept(charges, f"r{at}", start_us + at * town.US) for at in range(full)] == [[]] * full
    assert not charges.refused(start_us + 60 * town.US, "bright", "sp-1", 2, 1), "it was full"
    assert accept(charges, "one too many", start_us + 60 * town.US)


def test_what_was_sent_and_could_not_be_charged_again_stays_charged() -> None:
    charges = Charges()
    start_us = town.START_US
    for at in range(town.PER_HOUR // 2):
        accept(charges, f"r{at}", start_us + at * town.US)
    charges.moved("r0", "SENT", "SENT", 1, start_us, 0, "bright", "sp-1", 2, 1)
    charges.moved("r0", "AT_GATEWAY", "DONE", 1, 0, 0, "bright", "sp-1", 2, 1)
    assert not charges.refused(start_us + 60 * town.US, "bright", "sp-1", 2, 1), "it was full"


def test_what_was_given_back_makes_room() -> None:
    charges = Charges()
    start_us = town.START_US
    for at in range(town.PER_HOUR // 2):
        accept(charges, f"r{at}", start_us + at * town.US)
    charges.moved("r0", "QUEUED", "EXPIRED", 0, start_us, start_us, "bright", "sp-1", 2, 1)
    assert charges.refused(start_us + 60 * town.US, "bright", "sp-1", 2, 1), "refused wrongly"
    assert accept(charges, "fits", start_us + 60 * town.US) == []
