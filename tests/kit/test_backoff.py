"""Reconnecting spreads out, and calms down again."""

import asyncio
import logging
import random

import pytest

from doorward.kit.backoff import FullJitter, keep_up


def test_waits_are_spread_under_a_ceiling_that_doubles_to_its_bound() -> None:
    samples = [[] for _ in range(8)]  # type: list[list[float]]
    for seed in range(400):
        backoff = FullJitter(random.Random(seed), first_wait_s=1.0, wait_s_max=20.0)
        for waits in samples:
            waits.append(backoff.next_s())
    for waits, ceiling in zip(samples, [1, 2, 4, 8, 16, 20, 20, 20], strict=True):
        assert 0 <= min(waits) < 0.1 * ceiling
        assert 0.9 * ceiling < max(waits) <= ceiling
        assert 0.4 * ceiling < sum(waits) / len(waits) < 0.6 * ceiling


def test_after_a_reset_the_first_wait_is_short_again() -> None:
    backoff = FullJitter(random.Random(1), first_wait_s=1.0, wait_s_max=1000.0)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.0


class Waits(FullJitter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def next_s(self) -> float:
        self.said.append("wait")
        return 0.0

    def reset(self) -> None:
        self.said.append("reset")


async def test_sessions_follow_each_other_whatever_ends_them(caplog: pytest.LogCaptureFixture) -> None:
    ends = [ConnectionError("refused"), TimeoutError(), ValueError("a fault of ours"), None]
    done = asyncio.Event()

    async def session() -> None:
        if not ends:
            done.set()
            await asyncio.Event().wait()
        end = ends.pop(0)
        if end is not None:
            raise end

    waits = Waits()
    with caplog.at_level(logging.INFO):
        task = asyncio.ensure_future(keep_up(session, waits, logging.getLogger("t"), steady_s=3600))
        await asyncio.wait_for(done.wait(), 20)
    assert waits.said == ["wait"] * 4
    assert [r.levelname for r in caplog.records if r.name == "t"] == ["INFO", "INFO", "ERROR"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_a_session_that_stood_makes_the_next_wait_a_first_one() -> None:
    rounds = 0
    done = asyncio.Event()

    async def session() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            await asyncio.sleep(0.05)
        if rounds == 3:
            done.set()
            await asyncio.Event().wait()

    waits = Waits()
    task = asyncio.ensure_future(keep_up(session, waits, logging.getLogger("t"), steady_s=0.02))
    await asyncio.wait_for(done.wait(), 20)
    task.cancel()
    assert waits.said == ["wait", "reset", "wait"]
