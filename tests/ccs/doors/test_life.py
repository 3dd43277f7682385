"""Starting, stopping, settings, and the command line."""

import asyncio
import os
import random
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from doorward.ccs.app import CcsApp
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.settings import CcsSettings, read_settings
from tests.ccs.doors.service import Service, settings_in, started


async def test_it_lives_and_is_ready(service: Service) -> None:
    assert (await service.get("/healthz", token="")).body == b"ok\n"
    assert (await service.get("/readyz", token="")).status == 200


async def test_stopping_answers_who_waits_and_ends_who_follows(tmp_path: Path) -> None:
    app = await started(tmp_path)
    async with aiohttp.ClientSession() as client:
        service = Service(app, client)
        await service.build()
        waiting = asyncio.ensure_future(service.post(headers={"prefer": "wait=60"}))
        following = asyncio.ensure_future(service.get("/v1/events/stream"))
        await service.command()
        running = [service.get("/v1/devices") for _ in range(10)]
        tasks = [asyncio.ensure_future(each) for each in running]
        await asyncio.sleep(0)
        async with asyncio.timeout(15):
            await app.stop()
            replies = await asyncio.gather(waiting, following, *tasks)

    assert replies[0].status == 202
    assert all(reply.status == 200 for reply in replies[1:])


async def test_it_starts_again_on_the_same_books_with_the_same_keys(tmp_path: Path) -> None:
    first = await started(tmp_path)
    keys, authority = first.keys, first.authority.fingerprint
    await first.stop()
    second = await started(tmp_path)
    await second.stop()

    assert second.keys.token.kid == keys.token.kid
    assert second.keys.link == keys.link
    assert second.authority.fingerprint == authority
    for name in ("link.key", "token.key", "webhook.key"):
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600


async def test_the_api_speaks_https_with_a_certificate(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ca", lambda: time.time_ns() // 1000)
    server = authority.server("api", ["127.0.0.1"])
    app = await started(tmp_path / "ccs", tls_certificate=server.certificate, tls_key=server.key)
    trusting = ssl.create_default_context(cadata=authority.pem)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as client:
        service = Service(app, client)
        await service.build()
        reply = await service.post()
    await app.stop()

    assert app.url.startswith("https://")
    assert reply.status == 202


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    holder = await started(tmp_path / "a")
    port = int(holder.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await started(tmp_path / "b", port=port)
    await holder.stop()


def test_it_refuses_randomness_that_can_be_foretold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="randomness"):
        CcsApp(settings_in(tmp_path), random.Random(1))


@pytest.mark.parametrize(
    ("over", "named"),
    [
        ({"workers": 2}, "workers"),
        ({"workers": 2, "database": "postgresql:///x"}, "workers"),
        ({"workers": 0}, "workers"),
        ({"database": "mysql://x"}, "database"),
        ({"link": "mqtt"}, "mqtt_url"),
        ({"tls_key": "x.pem"}, "tls_certificate"),
        ({"porrt": 1}, "porrt"),
        ({"port": "many"}, "port"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(over: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        CcsSettings(**over)


def test_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ccs.toml"
    file.write_text('port = 1000\nhost = "0.0.0.0"\nwebhook_allow_networks = ["127.0.0.0/8"]\n')
    monkeypatch.setenv("DOORWARD_CCS_PORT", "2000")
    settings = read_settings(file)

    assert (settings.port, settings.host) == (2000, "0.0.0.0")
    assert str(settings.webhook_allow_networks[0]) == "127.0.0.0/8"


async def run(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward.cli", *arguments,
        env={**os.environ, "PYTHONPATH": "src", **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_the_command_serves_and_ends_cleanly(tmp_path: Path) -> None:
    free = {f"DOORWARD_CCS_{name}": "0" for name in ("PORT", "LINK_PORT", "ENROL_PORT")}
    process = await run("ccs", env={**free, "DOORWARD_CCS_DATA_DIR": str(tmp_path)})
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while not (line := (await process.stderr.readline()).decode()).startswith("CCS: API "):
            assert line, "it ended before it served"
    url = line.split()[2].rstrip(",")
    async with aiohttp.ClientSession() as client, client.get(f"{url}/healthz") as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        _, rest = await process.communicate()

    assert process.returncode == 0, rest.decode()
    assert b"Traceback" not in rest


async def test_the_command_says_what_is_wrong_with_a_setting(tmp_path: Path) -> None:
    process = await run("ccs", "--workers", "2", env={"DOORWARD_CCS_DATA_DIR": str(tmp_path)})
    async with asyncio.timeout(60):
        _, said = await process.communicate()

    assert process.returncode == 2
    assert b"PostgreSQL" in said
    assert b"Traceback" not in said
