"""One running portal a test."""

from collections.abc import AsyncIterator

import pytest

from tests.ccs.doors.portal.site import Site
from tests.ccs.doors.service import Service


@pytest.fixture
async def site(service: Service) -> AsyncIterator[Site]:
    """The portal of a CCS with a town in its books, and people."""
    built = Site(service)
    await built.build()
    yield built
    await built.close()
