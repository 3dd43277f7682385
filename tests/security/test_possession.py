"""Tokens that are bound to a key or a certificate, asked for and shown by a client that is not ours.

The client here is joserfc and aiohttp, by the words of RFC 9449 and RFC 8705 and of the CCS's own metadata.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from msgspec.structs import replace

from doorward.client import AsyncClient, DoorwardError
from tests.ccs.doors.service import SECRET, Reply
from tests.security.world import World, running

READ = b'{"device": "TH-bright", "operation": "read"}'
Key = ECKey | OKPKey


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running(tmp_path_factory.mktemp("possession")) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def world(one_world: World) -> World:
    """One CCS for all tests, in which nobody has to bind anything yet."""
    await binds(one_world, "")
    return one_world


async def binds(world: World, how: Any, tenant: str = "bright") -> None:
    """Change the tenant's profile."""
    party = (await world.app.store.read(lambda books: books.parties([tenant])))[tenant]
    changed = replace(party, token_binding=how)
    await world.app.store.write(lambda books: books.put_parties([changed]))


class Foreign:
    """A client of another make: it knows the metadata, its key and its secret."""

    def __init__(self, world: World, key: Key, alg: str) -> None:
        self.world = world
        self.key = key
        self.alg = alg
        self.token = ""

    def proof(self, method: str, url: str, *, head: Mapping[str, Any] | None = None, **over: Any) -> str:
        claims: dict[str, Any] = {
            "jti": str(uuid.uuid4()),
            "htm": method,
            "htu": url,
            "iat": int(time.time()),
        }
        if self.token:
            digest = hashlib.sha256(self.token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        header = {"typ": "dpop+jwt", "alg": self.alg, "jwk": self.key.as_dict(private=False)} | dict(
            head or {}
        )
        said = {name: value for name, value in (claims | over).items() if value is not None}
        return jwt.encode(header, said, self.key, algorithms=[self.alg])

    async def sign_in(self, proof: str | None = None) -> Reply:
        self.token = ""
        meta = (await self.world.call("GET", "/.well-known/oauth-authorization-server")).json
        assert self.alg in meta["dpop_signing_alg_values_supported"]
        form = f"grant_type=client_credentials&client_id=bright&client_secret={SECRET.replace(' ', '+')}"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        shown = self.proof("POST", meta["token_endpoint"]) if proof is None else proof
        if shown:
            headers["dpop"] = shown
        reply = await self.world.call("POST", "/oauth/token", headers=headers, body=form.encode())
        self.token = reply.json.get("access_token", "")
        return reply

    async def call(
        self,
        method: str,
        path: str,
        *,
        proof: str | None = None,
        scheme: str = "DPoP",
        body: bytes | None = None,
    ) -> Reply:
        headers = {"authorization": f"{scheme} {self.token}"}
        shown = self.proof(method, self.world.app.url + path.partition("?")[0]) if proof is None else proof
        if shown:
            headers["dpop"] = shown
        return await self.world.call(method, path, headers=headers, body=body)


def foreign(world: World, alg: str = "ES256") -> Foreign:
    key: Key = ECKey.generate_key("P-256") if alg == "ES256" else OKPKey.generate_key("Ed25519")
    return Foreign(world, key, alg)


@pytest.mark.parametrize("alg", ["ES256", "Ed25519"])
async def test_a_foreign_client_with_a_key_asks_and_is_answered(world: World, alg: str) -> None:
    await binds(world, "dpop")
    client = foreign(world, alg)
    given = await client.sign_in()
    assert (given.status, given.json["token_type"]) == (200, "DPoP"), given.body

    asked = await client.call("POST", "/v1/requests", body=READ)
    assert asked.status == 202, asked.body
    shown = await client.call("GET", f"/v1/requests/{asked.json['id']}")
    assert shown.json["id"] == asked.json["id"]
    assert (await client.call("GET", "/v1/devices?service_point=SP-bright")).json["items"]


@pytest.mark.req("F03")
async def test_a_stolen_token_is_worth_nothing_without_its_key(world: World) -> None:
    client, thief = foreign(world), foreign(world)
    await client.sign_in()
    thief.token = client.token

    for reply in (
        await thief.call("POST", "/v1/requests", body=READ),
        await thief.call("POST", "/v1/requests", body=READ, scheme="Bearer"),
        await thief.call("POST", "/v1/requests", body=READ, scheme="Bearer", proof=""),
        await thief.call("POST", "/v1/requests", body=READ, proof=""),
        await thief.call("GET", "/v1/events/stream", proof=""),
        await thief.call("DELETE", "/v1/requests?campaign=x", scheme="Bearer"),
    ):
        assert (reply.status, reply.reason) == (401, "proof-invalid"), reply.body
        assert reply.headers["www-authenticate"].startswith("DPoP ")


@pytest.mark.req("F03")
async def test_a_proof_is_good_once_for_one_call(world: World) -> None:
    client = foreign(world)
    await client.sign_in()
    proof = client.proof("POST", f"{world.app.url}/v1/requests")
    together = await asyncio.gather(
        *(client.call("POST", "/v1/requests", body=READ, proof=proof) for _ in range(5))
    )
    assert sorted(reply.status for reply in together) == [202, 401, 401, 401, 401]
    later = await client.call("POST", "/v1/requests", body=READ, proof=proof)
    assert later.reason == "proof-invalid"
    assert "used before" in later.json["detail"]


async def test_the_proof_of_a_new_token_is_good_once_too(world: World) -> None:
    client = foreign(world)
    proof = client.proof("POST", f"{world.app.url}/oauth/token")
    assert (await client.sign_in(proof)).status == 200
    again = await client.sign_in(proof)
    assert (again.status, again.json["error"]) == (400, "invalid_dpop_proof")


WRONG: dict[str, Callable[[Foreign, str], str]] = {
    "another method": lambda c, url: c.proof("GET", url),
    "another URL": lambda c, url: c.proof("POST", url + "x"),
    "another host": lambda c, url: c.proof("POST", "https://elsewhere.example/v1/requests"),
    "old": lambda c, url: c.proof("POST", url, iat=int(time.time()) - 3600),
    "ahead": lambda c, url: c.proof("POST", url, iat=int(time.time()) + 3600),
    "no time": lambda c, url: c.proof("POST", url, iat=None),
    "no id": lambda c, url: c.proof("POST", url, jti=""),
    "an id without end": lambda c, url: c.proof("POST", url, jti="x" * 201),
    "another token": lambda c, url: c.proof("POST", url, ath="x"),
    "no token": lambda c, url: c.proof("POST", url, ath=None),
    "another type": lambda c, url: c.proof("POST", url, head={"typ": "JWT"}),
    "critical": lambda c, url: c.proof("POST", url).replace("e", "f", 1),
    "private key shown": lambda c, url: c.proof("POST", url, head={"jwk": c.key.as_dict(private=True)}),
    "another's key shown": lambda c, url: c.proof(
        "POST", url, head={"jwk": ECKey.generate_key("P-256").as_dict(private=False)}
    ),
    "garbage": lambda c, url: "a.b.c",
    "empty parts": lambda c, url: "..",
    "not one": lambda c, url: "\x80",
    "giant": lambda c, url: c.proof("POST", url, x="y" * 5000),
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_proof_with_something_wrong_in_it_is_refused_and_recorded(world: World, how: str) -> None:
    client = foreign(world)
    await client.sign_in()
    before, rows = world.books(), await world.rows_in_journal()
    reply = await client.call(
        "POST", "/v1/requests", body=READ, proof=WRONG[how](client, f"{world.app.url}/v1/requests")
    )

    assert (reply.status, reply.reason) == (401, "proof-invalid"), reply.body
    assert world.books() == before
    assert await world.rows_in_journal() == rows + 1


def _signed(header: dict[str, Any], claims: dict[str, Any], key: OctKey | RSAKey) -> str:
    head = {"typ": "dpop+jwt", **header}
    return jwt.encode(head, claims, key, algorithms=["HS256", "RS256"])


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = ({"typ": "dpop+jwt", **header}, claims)
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts), ""]
    )


async def test_no_algorithm_is_confused_with_another(world: World) -> None:
    client = foreign(world)
    await client.sign_in()
    url = f"{world.app.url}/v1/requests"
    shared = OctKey.import_key("a secret that both sides would have to know")
    rsa = RSAKey.generate_key(2048)
    claims = jwt.decode(client.proof("POST", url), client.key, algorithms=["ES256"]).claims
    open_key = client.key.as_dict(private=False)
    proofs = [
        _signed({"alg": "HS256", "jwk": shared.as_dict(private=True)}, claims, shared),
        _signed({"alg": "RS256", "jwk": rsa.as_dict(private=False)}, claims, rsa),
        _signed({"alg": "HS256", "jwk": open_key}, claims, shared),
        _unsigned({"alg": "none", "jwk": open_key}, claims),
    ]
    for proof in proofs:
        reply = await client.call("POST", "/v1/requests", body=READ, proof=proof)
        assert (reply.status, reply.reason) == (401, "proof-invalid"), reply.body


@pytest.mark.req("F03")
async def test_the_profile_says_who_must_bind_its_tokens(world: World) -> None:
    unbound = world.token("bright")
    assert (await world.call("GET", "/v1/devices", token=unbound)).status == 200
    await binds(world, "dpop")
    refused = await world.call("GET", "/v1/devices", token=unbound)
    assert refused.reason == "proof-invalid"
    without = await foreign(world).sign_in(proof="")
    assert (without.status, without.json["error"]) == (400, "invalid_dpop_proof")
    assert (await world.call("GET", "/v1/devices", token=world.token("sun"))).status == 200


async def test_a_token_without_a_key_is_not_shown_as_if_it_had_one(world: World) -> None:
    client = foreign(world)
    client.token = world.token("bright")
    reply = await client.call("GET", "/v1/devices")
    assert reply.reason == "proof-invalid"


async def test_used_proofs_are_forgotten_when_nobody_could_use_them_any_more(world: World) -> None:
    client = foreign(world)
    before = len(world.books()["proof"])
    await client.sign_in()
    for _ in range(10):
        await client.call("GET", "/v1/devices")
    assert len(world.books()["proof"]) == before + 11
    in_three_minutes_us = world.app.clock.now_us() + 180_000_000
    await world.app.store.write(lambda books: books.prune_proofs(in_three_minutes_us))
    assert world.books()["proof"] == []


# ---- our own SDK -----------------------------------------------------------------------------------------


async def test_the_sdk_binds_its_tokens_and_follows_events_with_them(world: World) -> None:
    await binds(world, "dpop")
    async with AsyncClient(world.app.url, client_id="bright", client_secret=SECRET, dpop=True) as client:
        assert [device.id for device in await client.devices()] == ["TH-bright"]
        request = await client.read("TH-bright", wait_s=0)
        async for event in client.events(after=""):
            assert event.type == "access.granted"
            break
        assert (await client.cancel(request.id)).state == "CANCELLED"
    async with AsyncClient(world.app.url, client_id="bright", client_secret=SECRET) as client:
        with pytest.raises(DoorwardError):
            await client.devices()


# ---- certificates ----------------------------------------------------------------------------------------


class Certificates:
    """Authorities and their certificates, as files and TLS settings."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.ours, self.clients, self.others = trustme.CA(), trustme.CA(), trustme.CA()
        server = self.ours.issue_cert("127.0.0.1")
        self.chain, self.key, self.client_ca = place / "chain.pem", place / "key.pem", place / "clients.pem"
        server.cert_chain_pems[0].write_to_path(self.chain)
        server.private_key_pem.write_to_path(self.key)
        self.clients.cert_pem.write_to_path(self.client_ca)

    def shown(self, authority: trustme.CA | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ours.configure_trust(context)
        if authority is not None:
            authority.issue_cert("third-party.example").configure_cert(context)
        return context


@pytest_asyncio.fixture(loop_scope="module")
async def tls_world(tmp_path: Path) -> AsyncIterator[tuple[World, Certificates]]:
    made = Certificates(tmp_path / "certificates")
    more = {"tls_certificate": made.chain, "tls_key": made.key, "tls_client_ca": made.client_ca}
    async with running(tmp_path / "ccs", **more) as world:
        await binds(world, "certificate")
        yield world, made


async def _as(
    world: World, context: ssl.SSLContext, method: str, path: str, token: str = "", **more: Any
) -> Reply:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.request(method, world.app.url + path, headers=headers, **more) as answer,
    ):
        return Reply(answer.status, answer.headers, await answer.read())


async def test_a_token_is_good_only_with_the_certificate_that_it_was_given_to(
    tls_world: tuple[World, Certificates],
) -> None:
    world, made = tls_world
    own, another, none = made.shown(made.clients), made.shown(made.clients), made.shown(None)
    form = {"grant_type": "client_credentials", "client_id": "bright", "client_secret": SECRET}
    meta = await _as(world, none, "GET", "/.well-known/oauth-authorization-server")
    assert meta.json["tls_client_certificate_bound_access_tokens"] is True

    without = await _as(world, none, "POST", "/oauth/token", data=form)
    assert (without.status, without.json["error"]) == (400, "invalid_request")
    given = await _as(world, own, "POST", "/oauth/token", data=form)
    assert (given.status, given.json["token_type"]) == (200, "Bearer"), given.body
    token = given.json["access_token"]
    assert (await _as(world, own, "GET", "/v1/devices", token)).status == 200
    for context in (another, none):
        reply = await _as(world, context, "GET", "/v1/devices", token)
        assert (reply.status, reply.reason) == (401, "proof-invalid")
    unbound = await _as(world, own, "GET", "/v1/devices", world.token("bright"))
    assert unbound.reason == "proof-invalid"
    with pytest.raises(aiohttp.ClientError):
        await _as(world, made.shown(made.others), "GET", "/v1/devices", token)
