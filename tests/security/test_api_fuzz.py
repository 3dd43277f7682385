"""The API as a machine reads its description, with everything that the description allows and forbids.

No call ends in a 5xx, and every answer is one that the description knows. ``DOORWARD_FUZZ_S`` is how many
seconds it goes on (``make hostile`` gives it more).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.world import World, running

SECONDS = int(os.environ.get("DOORWARD_FUZZ_S", "6"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as built:
        yield built


async def test_no_call_breaks_the_api_and_every_answer_is_as_described(world: World, tmp_path: Path) -> None:
    url = world.app.url
    arguments = [
        "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--url", url, "--no-color",
        "--header", f"Authorization:Bearer {world.token('bright')}",
        "--exclude-path", "/v1/events/stream",
        "--phases", "coverage,fuzzing", "--checks", CHECKS, "--max-time", str(SECONDS),
        "--max-failures", "20", "--generation-database", "none", "--warnings", "off", "--workers", "1",
        "--request-timeout", "70",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS + 240):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-12_000:]
    assert (await world.call("GET", "/readyz")).status == 200
