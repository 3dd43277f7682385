"""A CCS as it runs, and tenants who have one of everything each, so that one can reach for the other's.

Whatever belongs to a tenant carries the word of :func:`canary` somewhere, so that a leak shows by itself.
"""

import random
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.ccs.app import CcsApp
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import (
    Credential,
    Device,
    Endpoint,
    Event,
    Gateway,
    Grant,
    Link,
    LinkKind,
    Party,
    ServicePoint,
    Tier,
)
from doorward.ccs.rules.feed import SCOPES, Subscription
from doorward.ccs.rules.identity import Claims, write_token
from doorward.ccs.settings import SQLITE_FILE
from doorward.kit.ids import uuid7
from doorward.wire import topics
from doorward.wire.grants import DevicePermit, GrantDocument
from doorward.wire.signatures import public_jwk
from doorward.wire.vocabulary import DeviceClass, Operation
from tests.ccs.doors.service import CHEAP, SECRET, Reply, settings_in

US = 1_000_000
HOUR_US = 3600 * US
TENANTS = ("bright", "sun", "grey")
"""``bright`` asks, ``sun`` is the stranger, ``grey`` is suspended."""
SETTLES_BY_ITSELF = {
    "journal",
    "home_note",
    "chain",
    "checkpoint",
    "tombstone",
    "worker",
    "lease",
    "counter",
    "gateway",
}
"""Tables that upkeep, and the record of attempts, write to at any time."""


def canary(tenant: str) -> str:
    """A word that stands in everything that is only this tenant's."""
    return f"canary-{tenant}"


@dataclass
class World:
    """The running CCS with its tenants, and calls to it, each from an address of its own."""

    app: CcsApp
    http: aiohttp.ClientSession
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    """The tenants' own keys, for assertions."""
    rng: random.Random = field(default_factory=random.SystemRandom)
    _addresses: Any = field(default_factory=lambda: count(1))

    def claims(self, party: str, scope: str = "monitor control", **over: Any) -> Claims:
        """Claims of a good access token, and what is to be different in them."""
        now_s = self.app.clock.now_us() // US
        good = {
            "iss": self.app.url,
            "aud": self.app.url,
            "sub": party,
            "client_id": party,
            "exp": now_s + 600,
            "iat": now_s,
            "jti": uuid7(self.app.clock.now_us(), self.rng),
            "scope": scope,
        }
        return Claims(**{**good, **over})

    def token(self, party: str, scope: str = "monitor control", **over: Any) -> str:
        """An access token that this CCS signed."""
        return write_token(
            self.claims(party, scope, **over), self.app.keys.token.key, self.app.keys.token.kid
        )

    def address(self) -> str:
        """Another address at each call: what failed from one must not slow down the next."""
        number = next(self._addresses)
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        until: bytes = b"",
    ) -> Reply:
        """Call, and read the answer whole; a stream until ``until`` comes in it."""
        sent = {"x-forwarded-for": self.address(), **(headers or {})}
        if token:
            sent.setdefault("authorization", f"Bearer {token}")
        if body is not None:
            sent.setdefault("content-type", "application/json")
        async with self.http.request(method, self.app.url + path, headers=sent, data=body) as answer:
            if answer.content_type != "text/event-stream":
                return Reply(answer.status, answer.headers, await answer.read())
            said = b""
            while until not in said and (line := await answer.content.readline()):
                said += line
            return Reply(answer.status, answer.headers, said)

    def books(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table that nothing but a call can change."""
        with sqlite3.connect(f"file:{self.app.settings.data_dir / SQLITE_FILE}?mode=ro", uri=True) as file:
            names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                name: sorted(file.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
                for name in names
                if name not in SETTLES_BY_ITSELF
            }

    async def rows_in_journal(self) -> int:
        """How many rows the journal has, with all attempts in it."""
        await self.app.attempts.drained()
        with sqlite3.connect(f"file:{self.app.settings.data_dir / SQLITE_FILE}?mode=ro", uri=True) as file:
            return int(file.execute("SELECT count(*) FROM journal").fetchone()[0])

    # ---- what tenants have --------------------------------------------------------------------------

    async def build(self) -> None:
        """Give every tenant a home, a gateway, a device, a permission, an endpoint and an event."""
        await self.app.store.write(self._build)

    async def _build(self, books: AllBooks) -> None:
        now_us = self.app.clock.now_us()
        await books.put_tiers(
            [Tier(name="gold", per_hour=20_000, per_day=20_000, response_s=3600, top_priority=0)]
        )
        for tenant in TENANTS:
            await self._tenant(books, tenant, now_us)

    async def _tenant(self, books: AllBooks, tenant: str, now_us: int) -> None:
        party = Party(
            id=tenant,
            name=tenant,
            tokens_not_before_us=now_us - HOUR_US,
            state="suspended" if tenant == "grey" else "active",
            calls_per_s=10_000,
        )
        point, gateway, device = f"SP-{tenant}", f"SPG-{tenant}", f"TH-{tenant}"
        self.keys[tenant] = Ed25519PrivateKey.generate()
        jwks = {"keys": [{**public_jwk(self.keys[tenant].public_key()), "kid": "k1"}]}
        await books.put_parties([party])
        await books.put_credentials(
            [
                Credential(id=f"s-{tenant}", party=tenant, kind="secret", value=CHEAP.hash(SECRET)),
                Credential(
                    id=f"k-{tenant}", party=tenant, kind="jwks", value=msgspec.json.encode(jwks).decode()
                ),
            ]
        )
        await books.put_service_points([ServicePoint(id=point)])
        await books.put_gateways(
            [Gateway(id=gateway, partition=topics.partition_of(gateway), state="enrolled", key_generation=1)]
        )
        await books.put_equipment([_thermostat(device, point, tenant)])
        since = {"since_us": now_us - HOUR_US}
        await books.put_links(
            [
                Link(kind=LinkKind.SERVICE_POINT_GATEWAY, a=point, b=gateway, **since),
                Link(kind=LinkKind.DEVICE_SERVICE_POINT, a=device, b=point, **since),
            ]
        )
        await books.put_grants([_grant(tenant, point, device, now_us)])
        await books.put_endpoint(self.endpoint(tenant, f"hook-{tenant}"))
        await self._system(books, tenant)
        await books.add_events(
            [
                Event(
                    id=uuid7(now_us, self.rng),
                    party=tenant,
                    kind="access.granted",
                    created_us=now_us,
                    service_point=point,
                    data=msgspec.Raw(msgspec.json.encode({"purpose": canary(tenant)})),
                    webhook="none",
                )
            ]
        )

    async def _system(self, books: AllBooks, tenant: str) -> None:
        """Give every tenant a system of the utility too."""
        system = Party(
            id=f"sys-{tenant}",
            name=canary(tenant),
            kind="system",
            scopes=list(SCOPES),
            state="suspended" if tenant == "grey" else "active",
            calls_per_s=10_000,
        )
        await books.put_parties([system])

    def endpoint(self, tenant: str, id: str) -> Endpoint:
        """An endpoint at an address where nobody listens."""
        return Endpoint(
            id=id, party=tenant, url=f"https://127.0.0.1:9/{canary(tenant)}", secrets=["whsec_AAAA"]
        )

    async def fresh_endpoint(self, tenant: str) -> str:
        """Another endpoint, and its id."""
        id = f"hook-{tenant}-{next(self._addresses)}"
        await self.app.store.write(lambda books: books.put_endpoint(self.endpoint(tenant, id)))
        return id

    async def fresh_subscription(self, tenant: str) -> str:
        """A subscription of a tenant's system, and its id."""
        id = f"sub-{tenant}-{next(self._addresses)}"
        made = Subscription(id=id, system=f"sys-{tenant}", state="paused")
        await self.app.store.write(lambda books: books.put_subscriptions([made]))
        return id

    async def fresh_request(self, tenant: str) -> str:
        """A request that waits for its gateway, and its id."""
        active = Party(id=tenant, name=tenant, calls_per_s=10_000)
        if tenant == "grey":  # it asked before it was suspended
            await self.app.store.write(lambda books: books.put_parties([active]))
        body = {"device": f"TH-{tenant}", "operation": "read", "campaign": canary(tenant)}
        reply = await self.call(
            "POST", "/v1/requests", token=self.token(tenant), body=msgspec.json.encode(body)
        )
        assert reply.status == 202, reply.body
        if tenant == "grey":
            suspended = msgspec.structs.replace(active, state="suspended")
            await self.app.store.write(lambda books: books.put_parties([suspended]))
        return str(reply.json["id"])


def _thermostat(device: str, point: str, tenant: str) -> Device:
    return Device(
        id=device,
        service_point=point,
        device_class=DeviceClass.THERMOSTAT,
        name=canary(tenant),
        protocol="modbus",
        model="m",
        address="a",
    )


def _grant(tenant: str, point: str, device: str, now_us: int) -> Grant:
    permit = DevicePermit(
        device=device,
        device_class=DeviceClass.THERMOSTAT,
        operations=[Operation.READ, Operation.SETPOINT, Operation.RELEASE],
    )
    document = GrantDocument(
        grant=f"G-{tenant}",
        version=1,
        party=tenant,
        service_point=point,
        purpose=canary(tenant),
        devices=[permit],
        not_before_us=now_us - HOUR_US,
        expires_us=now_us + 24 * HOUR_US,
        issued_us=now_us,
    )
    return Grant(
        id=document.grant,
        party=tenant,
        service_point=point,
        version=1,
        state="live",
        tier="gold",
        document=document,
        signed="signed",
        lease_until_us=now_us + 24 * HOUR_US,
        changed_us=now_us - HOUR_US,
    )


@asynccontextmanager
async def running(directory: Path, **more: Any) -> AsyncIterator[World]:
    """Start a CCS with its tenants; what fails from one address does not slow down another."""
    settings = settings_in(
        directory,
        trusted_proxies="127.0.0.1",
        per_hour=20_000,
        per_day=20_000,
        refusals_per_minute_max=1_000_000,
        warn_after_s=900,
        **more,
    )
    app = CcsApp(settings, random.SystemRandom())
    await app.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            world = World(app, http)
            await world.build()
            yield world
    finally:
        await app.stop()
