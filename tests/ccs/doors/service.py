"""The CCS as it runs, on a free port over SQLite; only the gateway is played, at the Link port."""

import asyncio
import io
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.ccs.app import KEYS_DIR, CcsApp
from doorward.ccs.ports import AllBooks, Link
from doorward.ccs.rules.facts import Credential, Event, JournalRow, Party, Request
from doorward.ccs.rules.identity import Claims, write_token
from doorward.ccs.settings import CcsSettings
from doorward.kit.files import write_atomically
from doorward.kit.ids import uuid7
from doorward.wire.messages import Command
from doorward.wire.signatures import public_jwk
from doorward.wire.steps import Step
from tests.ccs.town import MASTER, FakeLink, PlayedGateway, Town

SECRET = "correct horse battery staple"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
READ: dict[str, Any] = {"device": "TH-1", "operation": "read"}


class AppWithPlayedGateway(CcsApp):
    """The real application with a link whose gateways the test plays."""

    def _make_link(self) -> Link:
        return FakeLink()


class Reply:
    """An HTTP answer, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self.body
        assert self.json["status"] == self.status
        assert self.json["request_id"] == self.headers["x-request-id"]
        return str(self.json["reason"])


class Service:
    """A running CCS with a small town in its books, and a client of it."""

    def __init__(self, app: AppWithPlayedGateway, client: aiohttp.ClientSession) -> None:
        self.app = app
        self.client = client
        self.town = Town(app.store, app.clock)  # type: ignore[arg-type]
        self.town.journey = app.journey
        self.link = app.link
        assert isinstance(self.link, FakeLink)
        self.gateway = PlayedGateway("SPG-1", app.journey, self.link)
        self.key = Ed25519PrivateKey.generate()

    async def build(self) -> None:
        await self.app.store.write(self.town._build)
        await self.app.store.write(self._credentials)
        await self.gateway.connect()
        self.gateway.heard()

    async def _credentials(self, books: AllBooks) -> None:
        await books.put_parties([Party(id="keyed", name="Keyed", auth="private_key_jwt")])
        jwks = json.dumps({"keys": [{**public_jwk(self.key.public_key()), "kid": "k1"}]})
        await books.put_credentials(
            [
                Credential(id="c-bright", party="bright", kind="secret", value=CHEAP.hash(SECRET)),
                Credential(id="c-keyed", party="keyed", kind="jwks", value=jwks),
            ]
        )

    # the third party's side

    def token(self, party: str = "bright", scope: str = "monitor control", life_s: int = 600) -> str:
        now_us = self.app.clock.now_us()
        claims = Claims(
            iss=self.app.url,
            aud=self.app.url,
            sub=party,
            client_id=party,
            exp=now_us // 1_000_000 + life_s,
            iat=now_us // 1_000_000,
            jti=uuid7(now_us, random.SystemRandom()),
            scope=scope,
        )
        return write_token(claims, self.app.keys.token.key, self.app.keys.token.kid)

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: object = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Reply:
        sent = dict(headers or {})
        bearer = self.token() if token is None else token
        if bearer:
            sent.setdefault("authorization", f"Bearer {bearer}")
        if raw is not None:
            sent.setdefault("content-type", "application/json")
            more["data"] = io.BytesIO(raw)
        elif json is not None:
            more["json"] = json
        async with self.client.request(method, self.app.url + path, headers=sent, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def post(self, body: object = None, **more: Any) -> Reply:
        return await self.call("POST", "/v1/requests", json=READ if body is None else body, **more)

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.call("GET", path, **more)

    async def form(self, path: str, fields: Mapping[str, str], **more: Any) -> Reply:
        async with self.client.post(self.app.url + path, data=fields, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    # the gateway's side

    async def command(self) -> Command:
        """The next command that reaches the gateway."""
        async with asyncio.timeout(10):
            while True:
                commands = self.gateway.commands()
                if commands:
                    return commands[0]
                await asyncio.sleep(0.005)

    async def done(self, data: object) -> Request:
        """Send a read and let the gateway answer it, the receipt in a frame before the rest."""
        reply = await self.post()
        assert reply.status == 202, reply.body
        command = await self.command()
        at_us = self.app.clock.now_us()
        await self.gateway.say(self.gateway.receipt(command.id, Step.GATEWAY_RECEIVED, at_us))
        await self.gateway.answer(command.id, data)
        return await self.request(command.id)

    # the books

    async def request(self, id: str) -> Request:
        return (await self.app.store.read(lambda books: books.requests([id])))[id]

    async def journal(self, id: str) -> list[JournalRow]:
        await self.app.attempts.drained()
        return await self.app.store.read(lambda books: books.journal(id))

    async def feed(self, kind: str, party: str = "bright") -> list[Event]:
        return await self.app.store.read(lambda books: books.feed(party, "", [kind], 100))

    async def steps(self, id: str) -> list[str]:
        return [str(step.step) for row in await self.journal(id) for step in row.steps]


def settings_in(directory: Path, **more: Any) -> CcsSettings:
    return CcsSettings(
        **{
            "data_dir": directory,
            "port": 0,
            "link_port": 0,
            "enrol_port": 0,
            "webhook_allow_networks": ["127.0.0.0/8"],
            **more,
        }
    )


async def started(directory: Path, **more: Any) -> AppWithPlayedGateway:
    """Start the application in a directory, with the key that played gateways have."""
    write_atomically(directory / KEYS_DIR / "link.key", MASTER.hex().encode())
    app = AppWithPlayedGateway(settings_in(directory, **more), random.SystemRandom())
    await app.start()
    return app


def now_s() -> int:
    return int(time.time())
