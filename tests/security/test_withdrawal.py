"""What is withdrawn ends: live sessions within a minute, new ones at once; nobody else notices."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes as randbytes
from typing import Any

import pytest
from msgspec.structs import replace

from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.ccs.engines.opening import open_store
from doorward.ccs.rules.facts import Gateway
from doorward.ccs.settings import SQLITE_FILE
from doorward.spg.engines.identity import credentials, enrol
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.wire.enrolment import code_hash, format_code
from tests.engines.link.rigs import Home, MqttRig, eventually
from tests.security.world import HOUR_US, World, running
from tests.services import StartMosquitto

MINUTE_S = 60.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path / "ccs") as built:
        yield built


async def within_a_minute(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(MINUTE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.05)


async def enrolled(world: World, gateway: str, place: Path) -> WebSocketUplink:
    """A gateway that enrols over HTTPS, under a fresh code."""
    app = world.app
    code = format_code(gateway, randbytes(16), app.authority.fingerprint, app.consent.fingerprint)
    expected = Gateway(
        id=gateway,
        partition=0,
        code_hash=code_hash(code),
        code_expires_us=app.clock.now_us() + HOUR_US,
    )
    found = (await app.store.read(lambda books: books.gateways([gateway]))).get(gateway, expected)
    coded = replace(
        found, state="expected", code_hash=expected.code_hash, code_expires_us=expected.code_expires_us
    )
    await app.store.write(lambda books: books.put_gateways([coded]))
    place.mkdir(exist_ok=True)
    identity = await enrol(place, app.enrol_url, code, random.Random(1))
    dice = random.Random(gateway)
    return WebSocketUplink(
        identity.link.urls, credentials(place, identity), dice, first_wait_s=0.05, wait_s_max=0.3
    )


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "doorward.cli", *arguments], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def test_a_withdrawn_gateway_is_out_and_stays_out(world: World, tmp_path: Path) -> None:
    link = world.app.link
    assert isinstance(link, WebSocketLink)
    homes = [Home(name, await enrolled(world, name, tmp_path / name)) for name in ("SPG-one", "SPG-two")]
    await within_a_minute(lambda: set(link.connected()) >= {"SPG-one", "SPG-two"})

    said = await asyncio.to_thread(
        command, "gateways", "revoke", "SPG-one", "--dir", str(tmp_path / "ccs"),
    )  # fmt: skip
    assert "SPG-one is revoked" in said
    await within_a_minute(lambda: "SPG-one" not in link.connected())
    connects = homes[0].connects
    await asyncio.sleep(1)  # it tries again and again
    assert "SPG-one" not in link.connected()
    assert homes[0].connects == connects
    assert "SPG-two" in link.connected()
    assert homes[1].losses == 0
    for home in homes:
        await home.leave()


async def test_the_certificate_before_a_new_enrolment_is_worth_nothing(world: World, tmp_path: Path) -> None:
    link = world.app.link
    assert isinstance(link, WebSocketLink)
    old = Home("SPG-one", await enrolled(world, "SPG-one", tmp_path / "old"))
    await within_a_minute(lambda: "SPG-one" in link.connected())
    await enrolled(world, "SPG-one", tmp_path / "new")  # somewhere else, and not connected yet
    await within_a_minute(lambda: "SPG-one" not in link.connected())
    assert old.losses >= 1
    await old.leave()


# ---- third parties ---------------------------------------------------------------------------------------


async def _end_of_stream(world: World, token: str) -> str:
    """Follow events until the stream ends; what it said at the end."""
    reply = await world.call("GET", "/v1/events/stream", token=token, until=b"event: end")
    assert reply.status == 200
    return reply.body.decode()


async def _change(world: World, party: str, **fields: Any) -> None:
    found = (await world.app.store.read(lambda books: books.parties([party])))[party]
    await world.app.store.write(lambda books: books.put_parties([replace(found, **fields)]))


async def test_a_stream_ends_when_its_token_is_withdrawn_and_no_call_is_taken(world: World) -> None:
    """One token is revoked, one party suspended, of one all tokens are thrown out; the fourth goes on."""
    await _change(world, "grey", state="active")
    tokens = [world.token("bright"), world.token("sun"), world.token("grey"), world.token("bright")]
    streams = [asyncio.ensure_future(_end_of_stream(world, token)) for token in tokens]
    await eventually(lambda: world.app.door._streams._open.total() == len(streams))

    now_us = world.app.clock.now_us()
    revoked = {world.app.tokens.read(tokens[0]).jti: now_us + HOUR_US}
    await world.app.store.write(lambda books: books.revoke_tokens(revoked))
    await _change(world, "sun", state="suspended")
    await _change(world, "grey", tokens_not_before_us=now_us + 2_000_000)

    statuses = [(await world.call("GET", "/v1/devices", token=token)).status for token in tokens]
    assert statuses == [401, 403, 401, 200]
    async with asyncio.timeout(MINUTE_S):
        said = await asyncio.gather(*streams[:3])
    assert all("event: end" in each for each in said)
    assert not streams[3].done()
    streams[3].cancel()
    with suppress(asyncio.CancelledError):
        await streams[3]


# ---- at a broker -----------------------------------------------------------------------------------------


async def test_a_broker_ends_the_session_of_a_withdrawn_gateway_and_lets_it_in_no_more(
    tmp_path: Path, start_mosquitto: StartMosquitto
) -> None:
    (tmp_path / "rig").mkdir()
    rig = MqttRig(tmp_path / "rig", start_mosquitto)
    await rig.start()
    ccs = tmp_path / "data"
    ccs.mkdir()
    (ccs / "authority").symlink_to(rig.directory / "ca", target_is_directory=True)
    store = await open_store(f"sqlite:///{ccs / SQLITE_FILE}", clock=_Wall())
    await store.write(
        lambda books: books.put_gateways(
            [Gateway(id=g, partition=0, state="enrolled") for g in ("gw-1", "gw-2")]
        )
    )
    await store.close()
    one, two = await rig.home("gw-1"), await rig.home("gw-2")
    reload = f"kill -HUP {rig._broker.pid}"
    said = await asyncio.to_thread(
        command, "gateways", "revoke", "gw-1", "--dir", str(ccs), "--crl", str(rig._crl),
        "--reload", reload, "--broker", f"mqtts://127.0.0.1:{rig.port}",
    )  # fmt: skip
    assert "gw-1 is revoked" in said
    await within_a_minute(lambda: one.losses >= 1)
    connects = one.connects
    await two.uplink.send(b"still here")
    await eventually(lambda: rig.desk.heard("gw-2") == [b"still here"])
    assert one.connects == connects
    assert two.losses == 0
    await rig.close()


class _Wall:
    def now_us(self) -> int:
        return time.time_ns() // 1000
