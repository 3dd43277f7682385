"""Clients that are slow on purpose: each is let go within seconds, and the API answers everybody else meanwhile.

A few in every run; ``make hostile`` brings a thousand (``DOORWARD_SLOW_CLIENTS``).
"""

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from doorward.ccs.doors.api.call import BODY_WAIT_S_MAX
from doorward.kit import serving
from tests.security.world import World, running

CLIENTS = int(os.environ.get("DOORWARD_SLOW_CLIENTS", "50"))
CLOSED_S_MAX = 10.0
MARGIN_S = 20.0
"""What a busy machine may add to it."""
PACE_S = 0.5

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as built:
        yield built


async def _drip(streams: Streams, text: bytes) -> None:
    """Write a byte now and then, until the other side has had enough."""
    reader, writer = streams
    gone = asyncio.ensure_future(reader.read())
    for at in range(len(text)):
        if gone.done():
            break
        writer.write(text[at : at + 1])
        await asyncio.wait({gone}, timeout=PACE_S)
    await gone


async def silent(streams: Streams, token: str) -> None:
    """Connects, and says nothing."""
    await streams[0].read()


async def slow_head(streams: Streams, token: str) -> None:
    """Headers, a byte at a time and without end."""
    streams[1].write(b"GET /v1/devices HTTP/1.1\r\nHost: x\r\n")
    await _drip(streams, b"X-a: b\r\n" * 1000)


async def slow_body(streams: Streams, token: str) -> None:
    """A body that is announced and comes a byte at a time."""
    head = f"POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    streams[1].write(f"{head}Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n".encode())
    await _drip(streams, b"{" + b" " * 9998)


async def slow_form(streams: Streams, token: str) -> None:
    """The same at the token endpoint, where nobody has proved anything yet."""
    head = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    streams[1].write(head + b"Transfer-Encoding: chunked\r\n\r\n")
    await _drip(streams, b"1\r\na\r\n" * 1000)


async def answered_and_dripping(streams: Streams, token: str) -> None:
    """Its token is worth nothing, which it is told at once; its body goes on all the same."""
    head = b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n"
    streams[1].write(head + b"Content-Length: 9999\r\n\r\n")
    await _drip(streams, b" " * 9999)


KINDS: list[Callable[[Streams, str], Awaitable[None]]] = [
    silent,
    slow_head,
    slow_body,
    slow_form,
    answered_and_dripping,
]


async def test_slow_clients_are_let_go_and_others_are_served(world: World) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, CLIENTS * 2 + 1000)), hard))
    where = urlsplit(world.app.url)
    token = world.token("bright")
    lasted: list[float] = []

    async def client(number: int) -> None:
        streams = await asyncio.open_connection(where.hostname, where.port)
        began_s = time.monotonic()
        try:
            await KINDS[number % len(KINDS)](streams, token)
        except ConnectionError:
            pass
        finally:
            lasted.append(time.monotonic() - began_s)
            streams[1].close()

    clients = [asyncio.ensure_future(client(number)) for number in range(CLIENTS)]
    answered = 0
    while not all(each.done() for each in clients):
        reply = await world.call("GET", "/v1/devices", token=token)
        assert reply.status == 200
        answered += 1
        await asyncio.sleep(0.2)
    await asyncio.gather(*clients)

    assert answered > 10
    assert len(lasted) == CLIENTS
    assert max(lasted) < CLOSED_S_MAX + MARGIN_S
    assert max(serving.HEAD_WAIT_S_MAX, serving.BODY_WAIT_S_MAX, BODY_WAIT_S_MAX) <= CLOSED_S_MAX


async def test_who_takes_no_answer_is_let_go_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "UNREAD_WAIT_MS_MAX", 3_000)
    where = urlsplit(world.app.url)
    connections = world.app._api_server._server.server_state.connections
    greedy = []
    for _ in range(10):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (where.hostname, where.port))
        await asyncio.get_running_loop().sock_sendall(
            client, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
        )
        greedy.append(client)
    try:
        async with asyncio.timeout(60):
            while len(connections) > 1:
                assert (await world.call("GET", "/healthz")).status == 200
                await asyncio.sleep(0.2)
    finally:
        for client in greedy:
            client.close()
