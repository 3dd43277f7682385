from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.spg.han.street import Heard, Street


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    street = Street(tmp_path)
    yield street
    for world in street.running:
        await world.stop()


@pytest.fixture
def heard() -> Heard:
    return Heard()
