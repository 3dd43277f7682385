"""A store to test, as each engine gives it: the only place that knows which one it is."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, Protocol

from doorward.ccs.engines.opening import open_store, sqlite_path
from doorward.ccs.engines.postgresql import connected
from doorward.ccs.ports import AllBooks, Store
from tests.engines.store.records import NOW

Step = Callable[[AllBooks], Awaitable[Any]]


class HandClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.us = NOW

    def now_us(self) -> int:
        return self.us


class Rig(Protocol):
    """A database with two workers on it (where an engine serves only one, both are the same store)."""

    clock: HandClock
    store: Store
    other: Store

    async def overlapping(self, older: Step, meanwhile: Callable[[], Awaitable[Any]]) -> Any:
        """Run ``older`` and hold its transaction open while ``meanwhile`` runs; where transactions cannot
        overlap, one after the other."""
        ...

    async def dawdle(self) -> None:
        """Inside a step: let others run, if the engine can run others meanwhile."""
        ...

    async def close(self) -> None: ...


class OneByOne:
    """A single writer: transactions never overlap."""

    def __init__(self, clock: HandClock, store: Store) -> None:
        self.clock = clock
        self.store = self.other = store

    async def overlapping(self, older: Step, meanwhile: Callable[[], Awaitable[Any]]) -> Any:
        result = await self.store.write(older)
        await meanwhile()
        return result

    async def dawdle(self) -> None:
        return

    async def close(self) -> None:
        await self.store.close()


class SideBySide:
    """Two workers whose transactions overlap."""

    def __init__(self, clock: HandClock, store: Store, other: Store) -> None:
        self.clock = clock
        self.store = store
        self.other = other

    async def overlapping(self, older: Step, meanwhile: Callable[[], Awaitable[Any]]) -> Any:
        opened, released = asyncio.Event(), asyncio.Event()

        async def held(books: AllBooks) -> Any:
            result = await older(books)
            opened.set()
            await released.wait()
            return result

        running = asyncio.create_task(self.store.write(held))
        await opened.wait()
        try:
            await meanwhile()
        finally:
            released.set()
        return await running

    async def dawdle(self) -> None:
        await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.store.close()
        await self.other.close()


async def open_rig(url: str) -> Rig:
    """Open the workers of a database."""
    clock = HandClock()
    store = await open_store(url, clock=clock)
    if url.startswith("sqlite"):
        return OneByOne(clock, store)
    return SideBySide(clock, store, await open_store(url, clock=clock))


async def while_open(rig: Rig, older: Step, newer: Step) -> tuple[Any, Any]:
    """Run the newer step to its end while the older has not committed: it must not wait for it."""
    results: list[Any] = []

    async def meanwhile() -> None:
        results.append(await rig.other.write(newer))

    first = await rig.overlapping(older, meanwhile)
    return first, results[0]


async def raw(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement beside the store, and return its rows."""
    path = sqlite_path(url)
    if path is None:
        async with connected(url) as server:
            return [tuple(row) for row in await server.fetch(statement)]
    with closing(sqlite3.connect(path)) as file, file:
        return list(file.execute(statement))


async def contend(rig: Rig, older: Step, newer: Step) -> tuple[Any, Any]:
    """Run two steps so that the newer one begins, on the other worker, while the older has not committed.

    The pause gives the newer one time to come to where it has to wait; were the machine slower than that,
    the two would run one after the other and the test would pass: it never fails by time."""
    tasks: list[asyncio.Task[Any]] = []

    async def meanwhile() -> None:
        tasks.append(asyncio.create_task(rig.other.write(newer)))
        await asyncio.sleep(0.1)

    first = await rig.overlapping(older, meanwhile)
    return first, await tasks[0]
