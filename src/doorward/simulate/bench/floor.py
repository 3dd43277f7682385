"""The floor: the same hops with no Doorward between them, so that its cost can be told as a ratio.

HTTP parse (uvicorn and httptools, a bare ASGI application, msgspec), one durable commit per batch (SQLite,
``synchronous=FULL``), the link (websockets over TLS 1.3 with client certificates) to clients that echo, and
the answer back to whoever waits. Nothing is checked, charged, journalled or authorised.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from doorward.kit.gather import Gatherer
from doorward.kit.serving import HttpServer, listen
from doorward.kit.sqlite_thread import SqliteThread
from doorward.kit.tls import Credentials, client_context, server_context
from doorward.simulate.bench.briefs import HOST, Homes
from doorward.simulate.bench.processes import questions, read, say

CONNECT_WAIT_S_MAX = 30.0
STORE_FILE = "floor.sqlite"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What the floor is told: where its store goes, and the link's certificate."""

    directory: str
    certificate: str
    key: str
    ca: str


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Where the floor listens."""

    http: int
    link: int


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What the echoing clients are told: the town's file, how many connect, and where."""

    path: str
    count: int
    port: int


class Asked(msgspec.Struct, frozen=True):
    """A request; a message on the link."""

    device: str
    operation: str
    key: str
    body: msgspec.Raw = msgspec.Raw(b"{}")
    id: str = ""


_one = msgspec.json.Decoder(Asked)
_many = msgspec.json.Decoder(list[Asked])
_encode = msgspec.json.Encoder().encode
_ANSWER_HEAD = [(b"content-type", b"application/json")]


class Floor:
    """One process that does as little as can be."""

    def __init__(self, directory: Path) -> None:
        self._store = SqliteThread(directory / STORE_FILE, schema=_schema)
        self._batch: Gatherer[Asked, asyncio.Future[Asked]] = Gatherer(self._take)
        self._waiting: dict[str, asyncio.Future[Asked]] = {}
        self._lines: list[ServerConnection] = []
        self._numbers = itertools.count()
        self._turn = itertools.count()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one call."""
        body = b""
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        if body[:1] == b"[":
            done = await asyncio.gather(*(self._round(asked) for asked in _many.decode(body)))
            answer = _encode({"items": [{"status": 200, "request": each} for each in done]})
        else:
            answer = _encode(await self._round(_one.decode(body)))
        head = [*_ANSWER_HEAD, (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    async def _round(self, asked: Asked) -> dict[str, str]:
        back = await (await self._batch.ask(asked))
        return {"id": back.id, "state": "DONE", "final": "now"}

    async def _take(self, batch: list[Asked]) -> list[asyncio.Future[Asked] | Exception]:
        """One durable commit for all of them; only then are they sent."""
        named = [msgspec.structs.replace(asked, id=str(next(self._numbers))) for asked in batch]
        rows = [(asked.id, asked.device, bytes(asked.body)) for asked in named]
        await self._store.write(lambda books: books.executemany("INSERT INTO asked VALUES (?, ?, ?)", rows))
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Asked] | Exception] = []
        for asked in named:
            future: asyncio.Future[Asked] = loop.create_future()
            self._waiting[asked.id] = future
            futures.append(future)
            broadcast((self._lines[next(self._turn) % len(self._lines)],), _encode(asked))
        return futures

    async def link(self, connection: ServerConnection) -> None:
        """Take what one client echoes."""
        self._lines.append(connection)
        async for frame in connection:
            back = _one.decode(frame)
            self._waiting.pop(back.id).set_result(back)


def _schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS asked (id TEXT PRIMARY KEY, device TEXT, body BLOB)")


@asynccontextmanager
async def _serving(setup: Setup) -> AsyncIterator[Ports]:
    floor = Floor(Path(setup.directory))
    tls = server_context(Credentials(Path(setup.certificate), Path(setup.key), setup.ca))
    http = HttpServer(floor, listen(HOST, 0))
    await http.start()
    async with serve(floor.link, HOST, 0, ssl=tls, compression=None) as link:
        yield Ports(http=http.port, link=link.sockets[0].getsockname()[1])
    await http.stop()


async def serve_floor() -> None:
    """Serve until the bench says no more."""
    asked = questions()
    setup = msgspec.json.decode(await anext(asked), type=Setup)
    async with _serving(setup) as ports:
        say(ports)
        async for _ in asked:
            pass


async def serve_echo() -> None:
    """Connect and echo until the bench says no more."""
    asked = questions()
    echo = msgspec.json.decode(await anext(asked), type=Echo)
    homes = read(echo.path, Homes)
    async with asyncio.timeout(CONNECT_WAIT_S_MAX):
        echoing = [await _echo(homes, number, echo.port) for number in range(echo.count)]
    say(len(echoing))
    async for _ in asked:
        pass


async def _echo(homes: Homes, number: int, port: int) -> "asyncio.Task[None]":
    seat = homes.seats[number]
    tls = client_context(homes.ca, Credentials(Path(seat.certificate), Path(seat.key), homes.ca))
    connection = await connect(f"wss://{HOST}:{port}", ssl=tls, compression=None, proxy=None)

    async def echo() -> None:
        async for frame in connection:
            await connection.send(frame)

    return asyncio.get_running_loop().create_task(echo())
