"""Every test of this folder runs over every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines.store.records import settle_home
from tests.engines.store.rigs import Rig, open_rig
from tests.services import store_engines


@pytest.fixture(params=store_engines())
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ccs.db'}"
    dsn: str = request.getfixturevalue("postgresql_dsn")
    return dsn


@pytest.fixture
async def rig(url: str) -> AsyncIterator[Rig]:
    """A migrated database with workers on it."""
    opened = await open_rig(url)
    yield opened
    await opened.close()


@pytest.fixture
async def home(rig: Rig) -> Rig:
    """A database with one home in it."""
    await settle_home(rig.store)
    return rig
