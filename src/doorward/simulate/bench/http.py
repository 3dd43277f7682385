"""HTTP/1.1 as cheap as it gets, so that the load does not eat the cores of what it measures.

A :class:`Line` is a kept connection with one call at a time; a :class:`Sink` takes webhooks. Both stand on
llhttp by httptools, without streams, tasks or buffers of their own.
"""

import asyncio
from collections.abc import Callable
from ssl import SSLContext
from typing import Protocol, cast

import httptools

CALL_WAIT_S_MAX = 60.0
LINES_MAX = 1_000
"""Connections of one pool; what finds none waits for one, and that counts as latency."""


class NoAnswer(Exception):
    """A connection ended before the answer was whole."""


class Line(asyncio.Protocol):
    """One kept connection. Bodies are handed over whole, or part by part where ``parts`` is set."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body = bytearray()
        self.parts: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over: whoever waits for an answer gets none."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(str(error or "the connection was closed")))

    def on_body(self, body: bytes) -> None:
        """From the parser."""
        if self.parts is not None:
            self.parts(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """From the parser."""
        body = bytes(self._body)
        self._body.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))

    @property
    def stands(self) -> bool:
        """Whether another call may be made."""
        return self._transport is not None

    def call(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request; return the future of (status, body). Raises :class:`NoAnswer` through it."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._answer.set_exception(NoAnswer("no connection"))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Hang up; idempotent."""
        if self._transport is not None:
            self._transport.close()


class Pool:
    """Kept connections to one server, opened as they are needed."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[Line] = []
        self._places = asyncio.Semaphore(LINES_MAX)

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Return (status, body); raise :class:`NoAnswer`, ``OSError``, or ``TimeoutError``."""
        async with self._places:
            line = await self._line()
            async with asyncio.timeout(CALL_WAIT_S_MAX):
                answer = await line.call(request)
            self._idle.append(line)
            return answer

    async def _line(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            if line.stands:
                return line
        return await self.open()

    async def open(self) -> Line:
        """Return a connection of the caller's own."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(Line, self._host, self._port)
        return line

    def close(self) -> None:
        """Hang up whatever is idle."""
        while self._idle:
            self._idle.pop().close()


def request(method: str, path: str, host: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a request."""
    head = [f"{method} {path} HTTP/1.1", f"host: {host}", *headers]
    if body:
        head += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


class Taker(Protocol):
    """What a sink gives each post to: it returns the body of the answer."""

    def __call__(self, body: bytes) -> bytes:
        """Take one post."""
        ...


class Sink:
    """A server for webhooks: every post is answered 200."""

    def __init__(self, take: Taker) -> None:
        self._take = take
        self._server: asyncio.Server | None = None

    async def start(self, host: str, tls: SSLContext) -> int:
        """Listen on a free port and return it."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Post(self._take), host, 0, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()


class _Post(asyncio.Protocol):
    """One connection to the sink."""

    def __init__(self, take: Taker) -> None:
        self._take = take
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer = self._take(bytes(self._body))
        self._body.clear()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
