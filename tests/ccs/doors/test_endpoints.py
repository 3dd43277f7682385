"""Webhook endpoints: set, proved by a challenge that a real server answers, used, removed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from doorward.wire.webhook_signature import verify
from tests.ccs.doors.service import Service, now_s


class Receiver:
    """A third party's own server on loopback."""

    def __init__(self) -> None:
        self.url = ""
        self.honest = True
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.got.append((dict(request.headers), body))
        self.came.set()
        said = await request.json()
        if said["type"] == "endpoint.challenge":
            return web.json_response({"challenge": said["challenge"] if self.honest else "guess"})
        return web.Response(status=204)


@asynccontextmanager
async def receiving(receiver: Receiver | None = None) -> AsyncIterator[Receiver]:
    receiver = receiver or Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def put(service: Service, body: dict[str, Any], id: str = "main") -> Any:
    return await service.call("PUT", f"/v1/endpoints/{id}", json=body)


async def test_the_secret_is_shown_once_and_stays_the_same(service: Service) -> None:
    first = await put(service, {"url": "https://hooks.example/a"})
    again = await put(service, {"url": "https://hooks.example/a", "kinds": ["request"]})
    listed = (await service.get("/v1/endpoints")).json["items"]

    assert first.json["secret"].startswith("whsec_")
    assert first.json["state"] == "unproved"
    assert "secret" not in again.json
    assert listed[0]["kinds"] == ["request"]
    assert first.json["secret"].encode() not in str(listed).encode()


async def test_a_secret_is_changed_with_the_old_one_beside_it(service: Service) -> None:
    first = await put(service, {"url": "https://hooks.example/a"})
    second = await put(service, {"url": "https://hooks.example/a", "rotate_secret": True})
    third = await put(service, {"url": "https://hooks.example/a", "rotate_secret": True})

    held = (await service.app.store.read(lambda books: books.endpoints(["bright"])))["bright"][0].secrets
    assert held == [third.json["secret"], second.json["secret"]]
    assert first.json["secret"] not in held


async def test_a_proved_endpoint_gets_signed_notices_without_customers_data(service: Service) -> None:
    async with receiving() as receiver:
        secret = (await put(service, {"url": receiver.url})).json["secret"]
        proved = await service.call("POST", "/v1/endpoints/main/prove")
        receiver.came.clear()
        request = await service.done({"celsius": 21.5})
        async with asyncio.timeout(10):
            await receiver.came.wait()

    assert proved.json["state"] == "proved"
    headers, body = receiver.got[-1]
    assert request.id.encode() in body
    assert b"21.5" not in body
    verify(headers, body, secrets=[secret], public_keys=[], now_s=now_s(), tolerance_s=60)


async def test_an_endpoint_that_answers_the_challenge_wrongly_is_not_used(service: Service) -> None:
    async with receiving() as receiver:
        receiver.honest = False
        await put(service, {"url": receiver.url})
        reply = await service.call("POST", "/v1/endpoints/main/prove")

    assert (reply.status, reply.reason) == (409, "no-proof")
    assert (await service.get("/v1/endpoints")).json["items"][0]["state"] == "unproved"


async def test_another_address_has_to_be_proved_again(service: Service) -> None:
    async with receiving() as receiver:
        await put(service, {"url": receiver.url})
        await service.call("POST", "/v1/endpoints/main/prove")
        same = await put(service, {"url": receiver.url, "kinds": ["access"]})
        moved = await put(service, {"url": f"{receiver.url}?other"})

    assert (same.json["state"], moved.json["state"]) == ("proved", "unproved")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "/url"),
        ({"url": "http://hooks.example/a"}, "/url"),
        ({"url": "https://10.0.0.1/a"}, "/url"),
        ({"url": "https://user:pw@hooks.example/"}, "/url"),
        ({"url": "https://hooks.example/a", "mode": "full"}, "/pin"),
        ({"url": "https://hooks.example/a", "pin": "abc"}, "/pin"),
        ({"url": "https://hooks.example/a", "mode": "loud"}, "/mode"),
        ({"url": "https://hooks.example/a", "kinds": ["gossip"]}, "/kinds"),
        ({"url": "https://hooks.example/a", "kinds": []}, "/kinds"),
        ({"url": "https://hooks.example/a", "ca": "no certificate"}, "/ca"),
        ({"url": "https://hooks.example/a", "colour": "red"}, "/colour"),
    ],
)
async def test_a_wrong_endpoint_is_refused_with_its_place(
    service: Service, body: dict[str, Any], field: str
) -> None:
    reply = await put(service, body)

    assert (reply.status, reply.reason) == (400, "body-malformed"), reply.body
    assert reply.json["field"] == field


async def test_endpoints_are_bounded_removed_and_ones_own(service: Service) -> None:
    for number in range(10):
        assert (await put(service, {"url": "https://hooks.example/a"}, f"e{number}")).status == 200
    eleventh = await put(service, {"url": "https://hooks.example/a"}, "e10")
    others = await service.get("/v1/endpoints", token=service.token("sun"))
    foreign = await service.call("DELETE", "/v1/endpoints/e1", token=service.token("sun"))
    gone = await service.call("DELETE", "/v1/endpoints/e1")
    again = await service.call("DELETE", "/v1/endpoints/e1")

    assert eleventh.reason == "body-malformed"
    assert others.json["items"] == []
    assert foreign.reason == "not-found"
    assert (gone.status, again.reason) == (204, "not-found")
