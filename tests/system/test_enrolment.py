"""A gateway joins over real HTTPS, and with what it was given it connects; whoever should not, does not."""

import asyncio
import itertools
import os
import random
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import uvicorn

from doorward.ccs.doors.enrol import BODY_BYTES_MAX, enrol_app
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.ccs.engines.sqlite import SqliteStore
from doorward.ccs.enrolment import Enrolling, Enrolment, RefusalCounter
from doorward.ccs.rules.facts import Gateway, JournalRow
from doorward.kit.tls import Credentials, client_context
from doorward.spg.engines.identity import EnrolmentFailed, credentials, enrol, load
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.wire.codec import gateway_key
from doorward.wire.enrolment import LinkAddress, code_hash, format_code
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step

HOST = "127.0.0.1"
HOUR_US = 3_600_000_000
MASTER = b"m" * 32
RNG = random.Random(1)


class WallClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000


async def eventually(condition: "object") -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def serve(app: object, tls: Credentials, stop: list[uvicorn.Server]) -> str:
    """Serve an application over HTTPS on a free port; return its address."""
    listening = socket.create_server((HOST, 0))
    config = uvicorn.Config(
        app, ssl_certfile=tls.certificate, ssl_keyfile=tls.key, log_config=None, lifespan="off", ws="none"
    )  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve([listening]))
    stop.append(server)
    await eventually(lambda: server.started or task.done())
    return f"https://{HOST}:{listening.getsockname()[1]}"


class Utility:
    """A CCS as far as gateways that join are concerned: store, authorities, the two doors, the link."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clock = WallClock()
        self.store = SqliteStore(place / "ccs.db", clock=self.clock)
        self.authority = CertificateAuthority(place / "ca", self.clock.now_us)
        self.consent = LocalConsentAuthority(place / "consent")
        self.joined: dict[str, Gateway] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.servers: list[uvicorn.Server] = []
        self.secrets = itertools.count()

    async def open(self) -> None:
        tls = self.authority.server("ccs", [HOST])
        self.link = WebSocketLink(HOST, 0, tls, self._accepts)
        await self.link.start(lambda gateway, frame: self.heard.append((gateway, frame)), lambda *_: None)
        address = LinkAddress(kind="websocket", urls=[f"wss://{HOST}:{self.link.port}"])

        async def sign(csr: str, gateway: str) -> tuple[str, str]:
            return await asyncio.to_thread(self.authority.sign_gateway, csr, gateway)

        self.enrolment = Enrolment(
            self.store,
            sign,
            self.consent,
            Enrolling(master=MASTER, ca=self.authority.pem, link=address),
            self.clock,
            RNG,
            lambda gateway: self.joined.__setitem__(gateway.id, gateway),
        )
        self.app = enrol_app(self.enrolment.enrol, self.authority.pem, lambda: "request-1")
        self.url = await serve(self.app, tls, self.servers)

    def _accepts(self, gateway: str, fingerprint: str) -> bool:
        return gateway in self.joined and self.joined[gateway].certificate == fingerprint

    async def close(self) -> None:
        for server in self.servers:
            server.should_exit = True
        await self.link.stop()
        await self.store.close()
        await asyncio.sleep(0.2)

    async def expect(self, gateway: str, *, expires_us: int = 0, **more: object) -> str:
        """Expect a gateway; return its code."""
        secret = next(self.secrets).to_bytes(16, "big")
        code = format_code(gateway, secret, self.authority.fingerprint, self.consent.fingerprint)
        found = await self.gateway(gateway) or Gateway(id=gateway, partition=1)
        row = msgspec.structs.replace(
            found,
            code_hash=code_hash(code),
            code_expires_us=expires_us or self.clock.now_us() + HOUR_US,
            **more,  # type: ignore[arg-type]
        )
        await self.store.write(lambda books: books.put_gateways([row]))
        return code

    async def gateway(self, gateway: str) -> Gateway | None:
        return (await self.store.read(lambda books: books.gateways([gateway]))).get(gateway)

    def attempts(self, gateway: str) -> list[tuple[Outcome, Reason | None, str]]:
        """What the journal says of a gateway's enrolments, oldest first."""
        import sqlite3

        with sqlite3.connect(self.place / "ccs.db") as sql:
            found = sql.execute(
                "SELECT message FROM journal WHERE gateway = ? ORDER BY seq", [gateway]
            ).fetchall()
        sql.close()
        rows: list[JournalRow] = []
        for (message,) in found:
            rows += asyncio.get_event_loop().run_until_complete(self.journal(message))
        return [(s.outcome, s.reason, s.detail) for row in rows for s in row.steps]

    async def journal(self, message: str) -> list[JournalRow]:
        return await self.store.read(lambda books: books.journal(message))


@pytest.fixture
async def utility(tmp_path: Path) -> AsyncIterator[Utility]:
    place = tmp_path / "utility"
    place.mkdir()
    utility = Utility(place)
    await utility.open()
    yield utility
    await utility.close()
