"""What only the direct link promises: it is the server that gateways meet."""

import asyncio
import ssl
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from doorward.ccs.engines.link_websocket import Allowance, WebSocketLink
from doorward.kit.tls import client_context
from tests.engines.link.rigs import HOST, WebSocketRig, eventually


async def test_text_is_refused_with_a_reason(websocket_rig: WebSocketRig) -> None:
    connection = await websocket_rig.connect(websocket_rig.certify("gw-1"))
    await connection.send("a word")
    with pytest.raises(ConnectionClosedError) as closed:
        await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1003, "frames are binary")
    assert websocket_rig.desk.frames == []


async def test_an_unknown_fingerprint_is_told_so_before_the_session_begins(
    websocket_rig: WebSocketRig,
) -> None:
    older = websocket_rig.certify("gw-1")
    websocket_rig.certify("gw-1")
    with pytest.raises(InvalidStatus) as refused:
        await websocket_rig.connect(older)
    assert refused.value.response.status_code == 403
    assert websocket_rig.desk.presences == []


async def test_a_worker_is_no_gateway(websocket_rig: WebSocketRig) -> None:
    worker = websocket_rig.authority.worker("ccs-1")
    websocket_rig.accepted["ccs-1"] = websocket_rig.accepted[""] = "anything"
    assert not await websocket_rig.is_taken(worker)


async def test_nothing_below_tls_1_3_is_spoken(websocket_rig: WebSocketRig) -> None:
    credentials = websocket_rig.certify("gw-1")
    tls = client_context(credentials.ca, credentials)
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):  # an alert or a reset, as the systems please
        await asyncio.open_connection(HOST, websocket_rig.port, ssl=tls)
    assert await websocket_rig.is_taken(credentials)


async def test_who_is_slow_to_say_hello_is_closed(websocket_rig: WebSocketRig) -> None:
    credentials = websocket_rig.certify("gw-1")
    silent, speechless = await asyncio.open_connection(HOST, websocket_rig.port)
    tls = client_context(credentials.ca, credentials)
    half, writer = await asyncio.open_connection(HOST, websocket_rig.port, ssl=tls)
    writer.write(b"GET / HTTP/1.1\r\n")
    async with asyncio.timeout(20):
        for reader in (silent, half):
            with suppress(OSError):
                assert await reader.read() == b""
    for each in (speechless, writer):
        each.transport.abort()


async def test_a_storm_is_turned_away_and_let_in_later(websocket_rig: WebSocketRig) -> None:
    credentials = websocket_rig.certify("gw-1")
    calm = WebSocketLink(
        HOST, 0, websocket_rig.authority.server("link", [HOST, "localhost"]), lambda *_: True,
        handshakes_per_s_max=3.0,
    )  # fmt: skip
    await calm.start(websocket_rig.desk.received, websocket_rig.desk.presence)
    await websocket_rig.link.stop()
    websocket_rig.link, websocket_rig.port = calm, calm.port
    taken = await asyncio.gather(*(websocket_rig.is_taken(credentials) for _ in range(40)))
    assert True in taken
    assert False in taken
    home = await websocket_rig.home("gw-1", credentials=credentials)
    await home.uplink.send(b"in the end")
    await eventually(lambda: websocket_rig.desk.heard("gw-1")[-1:] == [b"in the end"])


def test_an_allowance_is_a_rate_and_a_bound() -> None:
    allowance = Allowance(2.0)
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(100.5) for _ in range(2)] == [True, False]
    assert [allowance.take(999.0) for _ in range(3)] == [True, True, False]
