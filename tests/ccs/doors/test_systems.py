"""The utility's other systems: they read what everybody asked, and are told what happens, each in its scopes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Credential, Event, Party
from doorward.ccs.rules.feed import SCOPES, news
from doorward.ccs.rules.homes import AccessChange
from doorward.kit.ids import uuid7
from doorward.wire.messages import Applied
from doorward.wire.times import to_rfc3339
from doorward.wire.webhook_signature import verify
from tests.ccs.doors.service import CHEAP, SECRET, Reply, Service, now_s, started
from tests.ccs.doors.test_endpoints import Receiver, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")
WAIT_S = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One CCS for all tests here, with systems that have all scopes, some, and none."""
    directory: Path = tmp_path_factory.mktemp("systems")
    app = await started(directory, per_hour=2000, per_day=2000)
    try:
        async with aiohttp.ClientSession() as client:
            built = Service(app, client)
            await built.build()
            await app.store.write(_systems)
            yield built
    finally:
        await app.stop()


async def _systems(books: AllBooks) -> None:
    scopes = {
        "ops": list(SCOPES),
        "css": ["provisioning.read", "tests.read"],
        "idle": [],
        "other": ["tests.read"],
    }
    await books.put_parties(
        [Party(id=id, name=id, kind="system", scopes=each, calls_per_s=10_000) for id, each in scopes.items()]
    )
    await books.put_credentials(
        [Credential(id=f"c-{id}", party=id, kind="secret", value=CHEAP.hash(SECRET)) for id in scopes]
    )


async def token_of(service: Service, system: str = "ops") -> str:
    fields = {"grant_type": "client_credentials", "client_id": system, "client_secret": SECRET}
    reply = await service.form("/oauth/token", fields)
    assert reply.status == 200, reply.body
    return str(reply.json["access_token"])


async def ask(service: Service, path: str, system: str = "ops", method: str = "GET", **more: Any) -> Reply:
    return await service.call(method, f"/utility/v1{path}", token=await token_of(service, system), **more)


async def tell(service: Service, *events: Event) -> None:
    await service.app.store.write(lambda books: books.add_events(events))


async def end(service: Service) -> str:
    """The cursor after all that has happened so far."""
    return str((await ask(service, "/events?after=now")).json["next"] or "")


async def soon(look: Callable[[], Awaitable[Any]]) -> Any:
    """What a look brings, as soon as it brings something."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.02)


def verdict(service: Service, outcome: str = "failed", gateway: str = "SPG-1", number: int = 0) -> Event:
    data = {"outcome": outcome, "number": number}
    return news("test.result", service.app.clock.now_us(), gateway=gateway, data=data)


async def test_a_token_of_a_system_is_for_its_own_door_and_a_third_partys_is_not(service: Service) -> None:
    at_the_api = await service.get("/v1/devices", token=await token_of(service))
    theirs = await service.get("/utility/v1/requests")

    assert (at_the_api.status, at_the_api.reason) == (401, "not-authenticated")
    assert (theirs.status, theirs.reason) == (401, "not-authenticated")


async def test_every_request_and_its_journey_can_be_read_but_never_what_a_device_said(
    service: Service,
) -> None:
    done = await service.done({"celsius": 21.25})

    listed = (await ask(service, "/requests?service_point=SP-1&third_party=bright&state=DONE")).json["items"]
    shown = await ask(service, f"/requests/{done.id}")
    journey = (await ask(service, f"/messages/{done.id}/journey")).json

    assert listed[0]["id"] == done.id == shown.json["id"]
    assert (shown.json["third_party"], shown.json["gateway"]) == ("bright", "SPG-1")
    assert "21.25" not in str(listed) + str(shown.json)
    assert {"gateway_received", "device_answered"} <= {step["step"] for step in journey["steps"]}
    assert journey["times"]["received_at_gateway"]


async def test_a_refused_attempt_has_a_journey_too_and_is_in_the_journal(service: Service) -> None:
    refused = await service.post({"device": "TH-nowhere", "operation": "read"})
    id = refused.json["request_id"]
    await service.app.attempts.drained()

    journey = (await ask(service, f"/messages/{id}/journey")).json
    rows = (await ask(service, "/journals?limit=500&third_party=bright&state=refused")).json["items"]

    assert journey["rows"][0]["steps"][-1]["reason"] == "device-unknown"
    assert id in {row["message"] for row in rows}


async def test_a_list_is_paged_without_gaps_and_filtered_by_time(service: Service) -> None:
    made = [(await service.done(None)).id for _ in range(4)]

    pages, after = [], ""
    for _ in range(10):
        page = (await ask(service, f"/requests?limit=2&after={after}")).json
        pages += [item["id"] for item in page["items"]]
        after = page["next"]
        if not after:
            break
    later = "2100-01-01T00:00:00Z"

    assert pages == sorted(pages, reverse=True)
    assert set(made) <= set(pages)
    assert len(pages) == len(set(pages))
    assert (await ask(service, f"/requests?since={later}")).json == {"items": [], "next": None}
    assert (await ask(service, f"/journals?since={later}")).json["items"] == []
    assert (await ask(service, "/requests?gateway=SPG-1")).json["items"]
    assert (await ask(service, "/requests?gateway=SPG-nowhere")).json["items"] == []


async def test_the_journal_is_paged_without_gaps(service: Service) -> None:
    made = [(await service.done(None)).id for _ in range(3)]

    seen: list[str] = []
    after = ""
    for _ in range(200):
        page = (await ask(service, f"/journals?limit=5&after={after}")).json
        seen += [row["message"] for row in page["items"]]
        after = page["next"]
        if not after:
            break

    whole = (await ask(service, "/journals?limit=500")).json["items"]
    assert set(made) <= set(seen)
    assert seen == [row["message"] for row in whole][: len(seen)]


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=yesterday", "/since"), ("until=2026-01-01", "/until"), ("limit=0", "/limit")],
)
async def test_a_wrong_filter_is_refused_with_its_place(service: Service, query: str, field: str) -> None:
    reply = await ask(service, f"/requests?{query}")
    assert (reply.status, reply.json["field"]) == (400, field)


async def test_a_receipt_is_pending_until_the_gateway_has_said_so_and_then_it_is_told(
    service: Service,
) -> None:
    """S3.08: the gateway's word is on record, and other systems hear of it."""
    since = await end(service)
    change = await _changed(service, "withdrawn")
    pending = (await ask(service, "/provisioning?service_point=SP-1&state=pending", "css")).json["items"]

    await _applied(service, change, {})
    confirmed = (await ask(service, "/provisioning?state=confirmed&third_party=bright", "css")).json["items"]
    events = (await ask(service, f"/events?after={since}&kind=access", "css")).json["items"]

    assert change.id in {each["id"] for each in pending}
    assert confirmed[0]["id"] == change.id
    assert confirmed[0]["confirmed"]
    assert [(each["type"], each["gateway"], each["data"]["receipt"]) for each in events] == [
        ("doorward.access.disabled", "SPG-1", change.id)
    ]


async def test_what_a_gateway_could_not_take_is_told_with_its_reason(service: Service) -> None:
    since = await end(service)
    change = await _changed(service, "granted")
    failed = {change.grant: "its signature does not verify"}
    await _applied(service, change, failed)

    receipt = (await ask(service, "/provisioning?state=failed")).json["items"][0]
    (event,) = (await ask(service, f"/events?after={since}&kind=access.failed")).json["items"]

    assert (receipt["id"], receipt["failed"]) == (change.id, "its signature does not verify")
    assert event["data"]["why"] == "its signature does not verify"
    assert event["thirdparty"] == "bright"


async def _changed(service: Service, kind: Any) -> AccessChange:
    """A change of access that waits for its gateway, as ``agreeing`` records one."""
    now_us = service.app.clock.now_us()
    gateway = (await service.app.store.read(lambda books: books.gateways(["SPG-1"])))["SPG-1"]
    change = AccessChange(
        id=uuid7(now_us, service.town.rng),
        kind=kind,
        party="bright",
        service_point="SP-1",
        grant="G-bright",
        version=1,
        at_us=now_us,
        asked_us=now_us,
        by="file",
        gateway="SPG-1",
        gateway_version=gateway.desired_version,
    )
    await service.app.store.write(lambda books: books.put_changes([change]))
    return change


async def _applied(service: Service, change: AccessChange, failed: dict[str, str]) -> None:
    """The gateway's word that it holds a change, or why it could not take it."""
    service.gateway.seq += 1
    at_us = service.app.clock.now_us()
    await service.gateway.say(
        Applied(seq=service.gateway.seq, at_us=at_us, version=change.gateway_version, failed=failed)
    )


async def test_a_gateway_that_goes_and_comes_is_told(service: Service) -> None:
    since = await end(service)
    await service.gateway.disconnect()
    await service.gateway.connect()
    await service.app.comings.drained()

    events = (await ask(service, f"/events?after={since}&kind=gateway&gateway=SPG-1")).json["items"]

    assert [each["type"] for each in events] == [
        "doorward.gateway.disconnected",
        "doorward.gateway.connected",
    ]


async def test_a_system_is_told_only_what_its_scopes_open(service: Service) -> None:
    since = await end(service)
    await tell(service, verdict(service), news("alarm.raised", service.app.clock.now_us(), data={"a": 1}))

    async def kinds(system: str) -> list[str]:
        return [each["type"] for each in (await ask(service, f"/events?after={since}", system)).json["items"]]

    assert await kinds("ops") == ["doorward.test.result", "doorward.alarm.raised"]
    assert await kinds("css") == ["doorward.test.result"]
    assert (await ask(service, "/events", "idle")).reason == "scope-missing"
    assert (await ask(service, "/requests", "css")).reason == "scope-missing"


async def test_the_feed_can_be_read_again_from_any_point_and_never_twice_from_one(service: Service) -> None:
    since = await end(service)
    await tell(service, *(verdict(service, number=number) for number in range(5)))

    first = (await ask(service, f"/events?after={since}&limit=2&kind=test")).json
    rest = (await ask(service, f"/events?after={first['next']}&kind=test")).json
    again = (await ask(service, f"/events?after={since}&kind=test")).json
    from_time = (await ask(service, f"/events?since={first['items'][0]['time']}&kind=test")).json

    assert [each["data"]["number"] for each in first["items"] + rest["items"]] == [0, 1, 2, 3, 4]
    assert again["items"] == first["items"] + rest["items"]
    assert from_time["items"][-5:] == again["items"]
    assert (await ask(service, "/events?after=nonsense")).status == 400
    assert (await ask(service, "/events?kind=nonsense")).json["field"] == "/kinds"


async def test_an_event_is_a_cloud_event(service: Service) -> None:
    since = await end(service)
    await tell(service, verdict(service))
    (event,) = (await ask(service, f"/events?after={since}&kind=test")).json["items"]

    assert event["specversion"] == "1.0"
    assert event["source"] == f"{service.app.url}/utility/v1"
    assert event["subject"] == "gateway/SPG-1"
    assert event["id"]
    assert event["time"].endswith("Z")
    assert all(name.isalnum() and name.islower() for name in event)


async def test_a_stream_brings_what_happens_and_goes_on_after_the_last_id(service: Service) -> None:
    headers = {"authorization": f"Bearer {await token_of(service)}"}
    async with _stream(service, headers, "?kind=test") as lines:
        await tell(service, verdict(service, number=1))
        first = await _event(lines)
    await tell(service, verdict(service, number=2))
    async with _stream(service, {**headers, "last-event-id": first["cursor"]}, "?kind=test") as lines:
        second = await _event(lines)

    assert (first["data"]["number"], second["data"]["number"]) == (1, 2)


@asynccontextmanager
async def _stream(service: Service, headers: Any, query: str) -> AsyncIterator[aiohttp.StreamReader]:
    url = f"{service.app.url}/utility/v1/events/stream{query}"
    async with service.client.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield answer.content


async def _event(lines: aiohttp.StreamReader) -> Any:
    async with asyncio.timeout(WAIT_S):
        while not (line := await lines.readline()).startswith(b"data: "):
            pass
    return json.loads(line[6:])


# ---- what an operator subscribed a system to -------------------------------------------------------------


class Deaf(Receiver):
    """A receiver that takes nothing until it is told to, and keeps what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = False

    async def take(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.read()
        said = json.loads(body)
        if isinstance(said, dict):
            return aiohttp.web.json_response({"challenge": said["challenge"]})
        if self.deaf:
            return aiohttp.web.Response(status=503)
        self.got.append((dict(request.headers), body))
        return aiohttp.web.Response(status=204)

    def events(self) -> list[Any]:
        return [event for _, body in self.got for event in json.loads(body)]

    async def until(self, count: int) -> list[Any]:
        async def enough() -> list[Any]:
            return self.events() if len(self.events()) >= count else []

        found: list[Any] = await soon(enough)
        return found


@asynccontextmanager
async def subscribed(service: Service, id: str, **body: Any) -> AsyncIterator[tuple[Deaf, str]]:
    """A system's endpoint that proved itself, and an operator's subscription for it."""
    async with receiving(Deaf()) as receiver:
        assert isinstance(receiver, Deaf)
        put = await ask(service, f"/endpoints/{id}", "css", "PUT", json={"url": receiver.url})
        assert put.status == 200, put.body
        proved = await ask(service, f"/endpoints/{id}/prove", "css", "POST")
        assert proved.json["state"] == "proved", proved.body
        wanted = {"system": "css", "endpoint": id, **body}
        made = await ask(service, f"/subscriptions/{id}", "ops", "PUT", json=wanted)
        assert made.status == 200, made.body
        try:
            yield receiver, str(put.json["secret"])
        finally:
            await ask(service, f"/subscriptions/{id}", "ops", "DELETE")
            await ask(service, f"/endpoints/{id}", "css", "DELETE")


async def test_a_test_that_fails_is_pushed_signed_to_whom_the_operator_wants_told(service: Service) -> None:
    """F40: and one that went well is not."""
    async with subscribed(service, "failed-tests", kinds=["test"], failed_only=True) as (receiver, secret):
        await tell(service, verdict(service, "passed"), verdict(service, "failed"))
        (event,) = await receiver.until(1)

    headers, body = receiver.got[0]
    assert (event["type"], event["data"]["outcome"]) == ("doorward.test.result", "failed")
    assert headers["Content-Type"] == "application/cloudevents-batch+json"
    named = {name.lower(): value for name, value in headers.items()}
    assert verify(named, body, secrets=[secret], public_keys=[], now_s=now_s(), tolerance_s=300)


async def test_what_is_not_taken_is_sent_again_in_order_with_nothing_lost(service: Service) -> None:
    async with subscribed(service, "retry", kinds=["test"]) as (receiver, _):
        receiver.deaf = True
        await tell(service, verdict(service, number=1))
        failing = await soon(lambda: _failing(service, "retry"))
        await tell(service, verdict(service, number=2))
        receiver.deaf = False
        await _now(service, "retry")
        events = await receiver.until(2)

    assert [each["data"]["number"] for each in events] == [1, 2]
    assert "503" in failing["why"]


async def test_what_nobody_takes_for_three_days_is_passed_over_and_that_is_told(service: Service) -> None:
    old_us = service.app.clock.now_us() - 4 * 24 * 3600 * 1_000_000
    since = await end(service)
    async with subscribed(service, "gone", kinds=["test"]) as (receiver, _):
        receiver.deaf = True
        await _now(service, "gone", failing_since_us=old_us)
        old = replace(verdict(service, number=7), created_us=old_us)
        await tell(service, old)
        told = await soon(lambda: _events(service, since, "subscription.undelivered"))
        receiver.deaf = False
        await tell(service, verdict(service, number=8))
        await _now(service, "gone")
        events = await receiver.until(1)

    assert [each["data"]["number"] for each in events] == [8]
    assert (told[0]["data"]["subscription"], told[0]["data"]["count"]) == ("gone", 1)
    again = await _events(service, told[0]["data"]["after"], "test.result")
    assert again[0]["data"]["number"] == 7, "what was passed over can still be read"


async def test_pushes_can_be_had_again_from_any_point(service: Service) -> None:
    since = await end(service)
    async with subscribed(service, "again", kinds=["test"]) as (receiver, _):
        await tell(service, verdict(service, number=1))
        await receiver.until(1)
        reply = await ask(service, "/subscriptions/again/replay", "css", "POST", json={"cursor": since})
        events = await receiver.until(2)
        foreign = await ask(service, "/subscriptions/again/replay", "other", "POST", json={"cursor": since})

    assert reply.json["cursor"] == since
    assert events[0] == events[1]
    assert foreign.reason == "not-found"


async def test_only_an_operators_tool_says_who_is_told_what(service: Service) -> None:
    body = {"system": "css", "kinds": ["test"]}
    assert (await ask(service, "/subscriptions/x", "css", "PUT", json=body)).reason == "scope-missing"
    wrong = await ask(service, "/subscriptions/x", "ops", "PUT", json={**body, "kinds": ["tests"]})
    assert wrong.json["field"] == "/kinds"
    nobody = await ask(service, "/subscriptions/x", "ops", "PUT", json={**body, "system": "bright"})
    assert nobody.json["field"] == "/system"
    assert (await ask(service, "/subscriptions/x", "ops", "DELETE")).reason == "not-found"


async def _events(service: Service, after: str, kind: str) -> list[Any]:
    items: list[Any] = (await ask(service, f"/events?after={after}&kind={kind}")).json["items"]
    return items


async def _failing(service: Service, id: str) -> Any:
    """A subscription that could not be pushed, as its system sees it."""
    listed = (await ask(service, "/subscriptions", "css")).json["items"]
    return next((each for each in listed if each["id"] == id and each["failing_since"]), None)


async def _now(service: Service, id: str, **change: Any) -> None:
    """Let the time of the next try come."""

    async def step(books: AllBooks) -> None:
        (found,) = [each for each in await books.subscriptions() if each.id == id]
        await books.put_subscriptions([replace(found, next_us=0, **change)])

    await service.app.store.write(step)


async def test_the_customer_service_system_speaks_at_this_door_with_its_own_scope(service: Service) -> None:
    """I02: accounts and flags come from it, item by item, and what became of each can be read."""

    def said(id: str, kind: str, **more: Any) -> dict[str, Any]:
        at = to_rfc3339(service.app.clock.now_us())
        return {"id": id, "kind": kind, "at": at, "sequence": 1, "customer": "C-77", **more}

    account = said("f-1", "account.changed", account="A-77", name="Ana Ruiz", contact="ana@example.org")
    flag = said("f-2", "customer.flagged", flag="life-support")
    refused = await ask(service, "/css/events", "other", method="POST", json=[account])
    assert (refused.status, refused.reason) == (403, "scope-missing")

    told = await ask(service, "/css/events", method="POST", json=[account, flag, {"id": 7}])
    assert [item["outcome"] for item in told.json["items"]] == ["applied", "applied", "refused"], told.body
    assert (await ask(service, "/css/events/f-2")).json["outcome"] == "applied"
    assert (await ask(service, "/css/events/f-2", "other")).status == 403
    known = (await service.app.store.read(lambda books: books.customers(["C-77"])))["C-77"]
    assert known.name == "Ana Ruiz"
