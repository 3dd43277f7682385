"""What a worker does about gateways that another one served, and what it leaves behind."""

import asyncio
import random
from typing import Any

import pytest

from doorward.ccs import journey
from doorward.ccs.ports import StoreUnavailable
from doorward.ccs.upkeep import Ownership, Upkeep
from doorward.wire.messages import Reconcile, Time
from tests.ccs.town import READ, SECOND, Town, settle


async def test_a_gateway_that_says_no_hello_is_greeted_and_then_served(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "HELLO_WAIT_S", 0.01)
    town.restart()
    await town.accepted(READ)
    assert town.gateway.heard() == []

    town.link.up.add("SPG-1")
    town.journey.presence("SPG-1", True)
    await asyncio.sleep(0.05)
    await town.journey._silent.drained()
    await settle(town.journey)

    heard = town.gateway.heard()
    assert isinstance(heard[0], Time)
    assert [type(each) for each in heard].count(Reconcile) == 1
    assert heard[-1].id  # type: ignore[union-attr]


async def test_a_gateway_that_cannot_be_greeted_now_is_greeted_when_the_books_are_back(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "HELLO_WAIT_S", 0.01)
    read, failures = town.store.read, 3

    async def failing(step: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("no connection")
        return await read(step)

    await town.gateway.disconnect()
    town.gateway.heard()
    monkeypatch.setattr(town.store, "read", failing)
    await town.gateway.connect()
    for _ in range(3_000):
        if heard := town.gateway.heard():
            break
        await asyncio.sleep(0.01)
    assert failures == 0
    assert isinstance(heard[0], Time)


async def test_a_gateway_that_comes_while_the_worker_begins_is_greeted_under_its_epoch_and_not_before(
    town: Town,
) -> None:
    """A frame under no epoch would be a replay to it, and its greeting lost."""
    await town.gateway.disconnect()
    town.ownership.epoch = 0
    town.restart()
    await town.gateway.connect()
    assert town.gateway.heard() == []
    await town.upkeep.partitions()
    for _ in range(3_000):
        if heard := town.gateway.heard():
            break
        await asyncio.sleep(0.01)
    assert isinstance(heard[0], Time)


async def test_a_gateway_that_said_hello_is_not_greeted_twice(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "HELLO_WAIT_S", 0.01)
    await town.gateway.disconnect()
    await town.gateway.connect()
    town.gateway.heard()
    await asyncio.sleep(0.05)
    await town.journey._silent.drained()

    assert town.gateway.heard() == []


async def test_who_serves_a_gateway_hears_at_once_of_what_another_worker_accepted(town: Town) -> None:
    """Played by one store: the worker that accepts has no link, the other one has."""
    heard: list[tuple[str, str]] = []
    await town.store.listen(lambda channel, payload: heard.append((channel, payload)))
    await town.gateway.disconnect()
    await town.accepted(READ)
    await town.journey._elsewhere.drained()
    await asyncio.sleep(0)

    assert heard == [("ready", "SPG-1")]
    await town.gateway.connect()
    town.gateway.heard()
    await town.accepted(READ)
    town.journey.heard("ready", "SPG-1 SPG-9")
    await settle(town.journey)
    assert len(heard) == 1


async def test_a_worker_that_leaves_gives_up_its_partitions_at_once(town: Town) -> None:
    await town.upkeep.leave()
    now_us = town.clock.now_us()
    living = await town.store.write(lambda books: books.beat("w-2", now_us, now_us + SECOND))
    _, held = await town.store.write(
        lambda books: books.take_leases("w-2", range(256), now_us, now_us + SECOND)
    )

    assert living == ["w-2"]
    assert len(held) == 256
    await town.accepted(READ)
    assert town.gateway.commands() == []


async def test_a_worker_that_waits_for_the_leases_of_others_says_once_that_it_is_new(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each word lets the others look at their shares: two that wait would call each other without end."""
    said: list[str] = []

    async def hint(channel: str, payload: str) -> None:
        said.append(payload)

    await town.upkeep.partitions()
    monkeypatch.setattr(town.store, "hint", hint)
    waiting = Upkeep(town.journey, Ownership("new"), None, random.Random(1), shared=True)
    for _ in range(3):
        await waiting.partitions()
    assert waiting.ownership.partitions == frozenset()
    assert said == ["new"]
