"""What happened, told by polling and by server-sent events; results are authorised at each hand-over."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from doorward.ccs.doors.api import events as door
from doorward.ccs.rules.facts import Grant
from doorward.wire.messages import Notice
from tests.ccs.doors.service import Service


class Stream:
    """A reader of server-sent events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def line(self) -> str:
        async with asyncio.timeout(10):
            return (await self.answer.content.readline()).decode()

    async def next(self) -> dict[str, Any]:
        """The next event: its id, its type, its data."""
        fields: dict[str, Any] = {}
        while True:
            line = await self.line()
            if not line:
                raise EOFError
            if line == "\n":
                if "data" in fields:
                    return fields
                continue
            if not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = json.loads(value) if name == "data" else value


@asynccontextmanager
async def following(
    service: Service, query: str = "", *, token: str = "", last: str = ""
) -> AsyncIterator[Stream]:
    headers = {"authorization": f"Bearer {token or service.token()}"}
    if last:
        headers["last-event-id"] = last
    async with service.client.get(f"{service.app.url}/v1/events/stream{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.read()
        assert answer.content_type == "text/event-stream"
        stream = Stream(answer)
        assert await stream.line() == ": doorward\n"
        yield stream


async def test_events_are_polled_with_the_data_that_is_allowed_now(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    page = (await service.get("/v1/events")).json

    kinds = [event["type"] for event in page["items"]]
    assert kinds == ["request.receipt", "request.result"]
    result = page["items"][1]
    assert result["request"] == request.id
    assert result["data"]["result"] == {"celsius": 21.5}
    assert page["next"] == result["cursor"]
    assert "handing_over" in await service.steps(request.id)


async def test_a_receipt_that_comes_with_its_result_is_no_event_of_its_own(service: Service) -> None:
    await service.post()
    await service.gateway.answer((await service.command()).id, 1)

    assert [event["type"] for event in (await service.get("/v1/events")).json["items"]] == ["request.result"]


async def test_polling_goes_on_after_the_cursor_and_says_it_again_when_nothing_is_new(
    service: Service,
) -> None:
    await service.done(1)
    first = (await service.get("/v1/events?limit=1")).json
    rest = (await service.get(f"/v1/events?after={first['next']}")).json
    nothing = (await service.get(f"/v1/events?after={rest['next']}")).json

    assert [len(page["items"]) for page in (first, rest, nothing)] == [1, 1, 0]
    assert nothing["next"] == rest["next"]


async def test_a_poll_after_the_withdrawal_brings_no_data(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    await service.town.withdraw()
    reply = await service.get("/v1/events?kind=request.result")

    (event,) = reply.json["items"]
    assert event["data"]["answer"] == "WITHHELD"
    assert b"21.5" not in reply.body
    assert "withheld" in await service.steps(request.id)


async def test_what_a_device_said_by_itself_is_kept_back_after_the_withdrawal(service: Service) -> None:
    notice = Notice(
        seq=1,
        id="01a20d1e-449c-7293-befc-a9c57e5886fd",
        party="bright",
        service_point="SP-1",
        device="TH-1",
        grant="G-bright",
        grant_version=1,
        kind="override",
        at_us=service.app.clock.now_us(),
        data=msgspec.Raw(b'{"hot":1}'),
    )
    await service.gateway.say(notice)
    before = (await service.get("/v1/events?kind=device.notice")).json["items"]
    await service.town.withdraw()
    after = (await service.get("/v1/events?kind=device.notice")).json["items"]

    assert before[0]["data"]["data"] == {"hot": 1}
    assert after[0]["data"] == {}


@pytest.mark.parametrize("query", ["?after=nonsense", "?limit=0", "?limit=501", "?limit=x", "?kind=%00"])
async def test_a_wrong_query_is_refused_with_its_place(service: Service, query: str) -> None:
    reply = await service.get(f"/v1/events{query}")

    assert (reply.status, reply.reason) == (400, "body-malformed"), reply.body
    assert reply.json["field"].startswith(f"/{query[1:].split('=')[0]}")


async def test_a_stream_begins_now_and_brings_what_happens_with_its_data(service: Service) -> None:
    await service.done("before")
    async with following(service) as stream:
        request = await service.done({"celsius": 21.5})
        receipt, result = await stream.next(), await stream.next()

    assert receipt["event"] == "request.receipt"
    assert result["event"] == "request.result"
    assert result["data"]["request"] == request.id
    assert result["data"]["data"]["result"] == {"celsius": 21.5}
    assert result["id"] == result["data"]["cursor"]


async def test_a_stream_goes_on_after_the_last_id_and_misses_nothing(service: Service) -> None:
    async with following(service) as stream:
        await service.done(1)
        await stream.next()
        last = (await stream.next())["id"]
    second = await service.done(2)
    async with following(service, last=last) as stream:
        again = [await stream.next(), await stream.next()]

    assert {event["data"]["request"] for event in again} == {second.id}


async def test_a_stream_after_a_cursor_brings_only_the_kinds_that_were_asked_for(service: Service) -> None:
    await service.done(1)
    async with following(service, "?after=&kind=request.result") as stream:
        assert (await stream.next())["event"] == "request.result"


async def test_a_stream_brings_no_data_after_the_withdrawal(service: Service) -> None:
    async with following(service, "?kind=request.result") as stream:
        await service.post()
        command = await service.command()
        await service.town.withdraw()
        await service.gateway.answer(command.id, {"celsius": 21.5})
        event = await stream.next()

    assert event["data"]["data"]["answer"] == "WITHHELD"
    assert event["data"]["data"]["result"] is None


async def test_a_stream_ends_with_its_token_and_says_why(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.app.door._streams, "_look_s", 0.05)
    token = service.token()
    async with following(service, token=token) as stream:
        claims = service.app.tokens.read(token)
        await service.app.store.write(lambda books: books.revoke_tokens({claims.jti: 2**50}))
        event = await stream.next()
        with pytest.raises(EOFError):
            await stream.next()

    assert (event["event"], event["data"]) == ("end", {"reason": "token-revoked"})


async def test_a_quiet_stream_says_that_it_is_there(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(service.app.door._streams, "_look_s", 0.02)
    async with following(service) as stream:
        assert await stream.line() == "\n"
        assert await stream.line() == ": still here\n"


async def test_a_party_has_a_bounded_number_of_streams_and_gets_them_back(service: Service) -> None:
    open_streams = [following(service) for _ in range(door.STREAMS_PER_PARTY_MAX)]
    for each in open_streams:
        await each.__aenter__()
    refused = await service.get("/v1/events/stream")
    async with following(service, token=service.token("sun")):
        pass
    for each in open_streams:
        await each.__aexit__(None, None, None)
    async with asyncio.timeout(10):
        while service.app.door._streams._open.total():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)

    assert refused.reason == "rate-limited"
    async with following(service):
        pass


async def test_a_stream_with_a_wrong_query_is_refused_before_it_begins(service: Service) -> None:
    for query in ("?after=nonsense", "?since=1", "?after=%00"):
        reply = await service.get(f"/v1/events/stream{query}")
        assert (reply.status, reply.reason) == (400, "body-malformed"), query


async def test_nobody_hears_of_another_partys_events(service: Service) -> None:
    async with following(service, token=service.token("sun")) as stream:
        await service.done(1)
        await service.app.store.write(lambda books: books.put_grants([_grant(service)]))
        assert (await service.get("/v1/events", token=service.token("sun"))).json["items"] == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.next()


def _grant(service: Service) -> Grant:
    return service.town.grant("sun", 1)
