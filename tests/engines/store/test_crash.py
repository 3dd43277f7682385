"""The database dies and comes back: what was answered stays, and work goes on by itself."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from doorward.ccs.engines.opening import open_store
from doorward.ccs.ports import AllBooks, CommitUnsure, Store, StoreUnavailable
from doorward.kit import sqlite_thread
from doorward.simulate.services import Postgresql, running, workplace
from tests.engines.store.records import party
from tests.engines.store.rigs import HandClock
from tests.services import embedded_only


@pytest.fixture
def server() -> Iterator[Postgresql]:
    if embedded_only():
        pytest.skip("needs PostgreSQL")
    with workplace(None) as directory:
        server = Postgresql(directory)
        with running(server):
            yield server


async def known(store: Store, *ids: str) -> set[str]:
    return set(await store.read(lambda books: books.parties(ids)))


async def test_a_killed_server_is_said_to_be_unavailable_and_found_again(server: Postgresql) -> None:
    store = await open_store(server.dsn, clock=HandClock())
    heard: list[str] = []
    await store.listen(lambda _, payload: heard.append(payload))
    await store.write(lambda books: books.put_parties([party("before")]))
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.write(lambda books: books.put_parties([party("while")]))
    with pytest.raises(StoreUnavailable):
        await known(store, "before")
    server.start()
    await store.write(lambda books: books.put_parties([party("after")]))
    assert await known(store, "before", "while", "after") == {"before", "after"}
    async with asyncio.timeout(30):
        while "again" not in heard:
            await store.hint("ready", "again")
            await asyncio.sleep(0.05)
    await store.close()


async def test_a_server_that_dies_in_a_step_undoes_it(server: Postgresql) -> None:
    store = await open_store(server.dsn, clock=HandClock())

    async def step(books: AllBooks) -> None:
        await books.put_parties([party("half")])
        server.kill()
        await books.put_parties([party("rest")])

    with pytest.raises(StoreUnavailable):
        await store.write(step)
    server.start()
    assert await known(store, "half", "rest") == set()
    await store.close()


async def test_a_server_that_dies_in_the_commit_leaves_it_open_what_happened(server: Postgresql) -> None:
    store = await open_store(server.dsn, clock=HandClock())

    async def step(books: AllBooks) -> None:
        await books.put_parties([party("maybe")])
        server.kill()

    with pytest.raises(CommitUnsure):
        await store.write(step)
    server.start()
    assert await known(store, "maybe") in (set(), {"maybe"})
    await store.close()


async def test_a_file_that_another_process_holds_is_unavailable_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "BUSY_WAIT_MS_MAX", 50)
    store = await open_store(f"sqlite:///{tmp_path / 'ccs.db'}", clock=HandClock())
    other = sqlite3.connect(tmp_path / "ccs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.write(lambda books: books.put_parties([party("while")]))
    assert await known(store, "while") == set()
    other.execute("ROLLBACK")
    await store.write(lambda books: books.put_parties([party("after")]))
    assert await known(store, "after") == {"after"}
    other.close()
    await store.close()
