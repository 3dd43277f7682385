"""The town on the real books; every engine that this run has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doorward.ccs.engines.sqlite import SqliteStore
from tests.ccs.town import HandClock, Town


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """A town on SQLite."""
    clock = HandClock()
    store = SqliteStore(tmp_path / "ccs.db", clock=clock)
    built = Town(store, clock)
    await built.build()
    yield built
    await store.close()
