"""One running CCS a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.ccs.doors.service import Service, started


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """The CCS on a free port, a town in its books, a gateway that the test plays."""
    app = await started(tmp_path)
    try:
        async with aiohttp.ClientSession() as client:
            built = Service(app, client)
            await built.build()
            yield built
    finally:
        await app.stop()
