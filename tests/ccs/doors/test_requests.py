"""Posting, fetching and cancelling requests over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.ccs.doors.service import READ, Service

LIMIT = {"device": "EV-1", "operation": "limit", "body": {"watts": 2000}}


async def test_a_request_is_accepted_with_its_place_and_what_remains(service: Service) -> None:
    reply = await service.post()

    assert reply.status == 202
    view = reply.json
    assert view["state"] in ("ACCEPTED", "QUEUED", "SENT")
    assert view["id"] == reply.headers["x-request-id"]
    assert reply.headers["location"] == view["links"]["self"] == f"/v1/requests/{view['id']}"
    assert view["remaining"]["limit"] == 24
    assert view["remaining"]["remaining"] == 22
    assert reply.headers["ratelimit-policy"] == '"hour";q=24;w=3600'
    assert reply.headers["ratelimit"].startswith('"hour";r=22;t=')


async def test_who_waits_gets_the_result_and_the_hand_over_is_on_record(service: Service) -> None:
    waiting = asyncio.ensure_future(service.post(headers={"prefer": "wait=10"}))
    command = await service.command()
    await service.gateway.answer(command.id, {"celsius": 21.5})
    reply = await waiting

    assert reply.status == 200
    assert reply.headers["preference-applied"] == "wait=10"
    assert reply.json["state"] == "DONE"
    assert reply.json["answer"] == "DELIVERED"
    assert reply.json["result"] == {"celsius": 21.5}
    steps = await service.steps(command.id)
    assert steps[-4:] == ["target_authenticated", "target_authorised", "handing_over", "handed_over"]


async def test_who_waits_in_vain_is_answered_202_when_the_time_is_up(service: Service) -> None:
    reply = await service.post(headers={"prefer": "respond-async, wait=1"})

    assert reply.status == 202
    assert reply.json["result"] is None


async def test_the_result_is_withheld_from_who_waits_when_access_ended_meanwhile(service: Service) -> None:
    waiting = asyncio.ensure_future(service.post(headers={"prefer": "wait=10"}))
    command = await service.command()
    await service.town.withdraw()
    await service.gateway.answer(command.id, {"celsius": 21.5})
    reply = await waiting

    assert reply.status == 200
    assert reply.json["answer"] == "WITHHELD"
    assert reply.json["result"] is None
    assert b"21.5" not in reply.body


async def test_a_list_is_answered_item_by_item_and_one_bad_item_fails_alone(service: Service) -> None:
    reply = await service.post(
        [READ, {"device": "TH-1", "operation": "fly"}, {"device": "X", "operation": "read"}, READ]
    )

    assert reply.status == 200
    items = reply.json["items"]
    assert [item["status"] for item in items] == [202, 400, 404, 202]
    assert items[1]["problem"]["reason"] == "body-malformed"
    assert items[1]["problem"]["field"] == "/operation"
    assert items[2]["problem"]["reason"] == "device-unknown"
    assert items[0]["request"]["id"] != items[3]["request"]["id"]


async def test_a_list_that_waits_brings_every_result(service: Service) -> None:
    waiting = asyncio.ensure_future(service.post([READ, LIMIT], headers={"prefer": "wait=10"}))
    answered = 0
    while answered < 2:
        for command in service.gateway.commands():
            await service.gateway.answer(command.id, {"of": command.device})
            answered += 1
        await asyncio.sleep(0.005)
    items = (await waiting).json["items"]

    assert [item["status"] for item in items] == [200, 200]
    assert [item["request"]["result"] for item in items] == [{"of": "TH-1"}, {"of": "EV-1"}]


@pytest.mark.parametrize(
    ("raw", "status", "reason", "field"),
    [
        (b"{", 400, "body-malformed", ""),
        (b"", 400, "body-malformed", ""),
        (b"7", 400, "body-malformed", ""),
        (b"null", 400, "body-malformed", ""),
        (b'{"device":"\xff","operation":"read"}', 400, "body-malformed", ""),
        (b'{"device":7,"operation":"read"}', 400, "body-malformed", "/device"),
        (b'{"device":"TH-1"}', 400, "body-malformed", "/operation"),
        (b'{"device":"TH-1","operation":"read","when":1}', 400, "body-malformed", "/when"),
        (b'{"device":"TH-\\u0000","operation":"read"}', 400, "body-malformed", "/device"),
        (b'{"device":"' + b"x" * 65 + b'","operation":"read"}', 400, "body-malformed", "/device"),
        (b'{"device":"TH-1","operation":"read","body":[]}', 400, "body-malformed", "/body"),
        (b'{"device":"TH-1","operation":"read","body":{"x":"\xff"}}', 400, "body-malformed", "/body"),
        (b'{"device":"TH-1","operation":"read","body":{"wings":2}}', 422, "format-invalid", "/body/wings"),
        (b'{"device":"TH-1","operation":"read","format":"bird.fly/1"}', 422, "format-unknown", "/format"),
        (
            b'{"device":"TH-1","operation":"setpoint","body":{"celsius":35}}',
            403,
            "outside-customer-limits",
            None,
        ),
        (b'{"device":"TH-1","operation":"mode","body":{"mode":"off"}}', 403, "operation-not-permitted", None),
        (
            b'{"device":"TH-1","operation":"read","deadline":"2001-01-01T00:00:00Z"}',
            422,
            "deadline-passed",
            "/deadline",
        ),
        (b'{"device":"TH-1","operation":"read","deadline":"tomorrow"}', 400, "body-malformed", "/deadline"),
        (b'{"device":"TH-1","operation":"read","key":"' + b"k" * 65 + b'"}', 400, "body-malformed", "/key"),
        (
            b'{"device":"TH-1","operation":"read","body":' + b'{"a":' * 30 + b"1" + b"}" * 30 + b"}",
            400,
            "body-malformed",
            "",
        ),
        (b"[" * 200_000, 400, "body-malformed", ""),
        (b"[]", 400, "body-malformed", ""),
        (b"[1,,2]", 400, "body-malformed", ""),
        (
            b'{"device":"TH-1","operation":"read","body":{"x":"' + b"y" * 20_000 + b'"}}',
            413,
            "body-too-large",
            "/body",
        ),
    ],
)
async def test_bad_input_is_refused_with_its_reason_and_its_place(
    service: Service, raw: bytes, status: int, reason: str, field: str | None
) -> None:
    reply = await service.call("POST", "/v1/requests", raw=raw)

    assert (reply.status, reply.reason) == (status, reason), reply.body
    if field is not None:
        assert reply.json.get("field", "") == field


async def test_bad_input_disturbs_nobody_who_asks_at_the_same_time(service: Service) -> None:
    bad = [
        service.call("POST", "/v1/requests", raw=raw) for raw in (b"{", b'{"device":"\xff"}', b"[" * 9_999)
    ]
    good = [service.post() for _ in range(3)]
    replies = await asyncio.gather(*bad, *good)

    assert [reply.status for reply in replies] == [400, 400, 400, 202, 202, 202]


async def test_a_huge_body_is_refused_whether_it_says_its_size_or_not(service: Service) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    said = await service.call("POST", "/v1/requests", raw=b" " * 1_048_577)
    chunked = await service.call(
        "POST", "/v1/requests", headers={"content-type": "application/json"}, data=parts()
    )

    assert (said.status, said.reason) == (413, "body-too-large")
    assert (chunked.status, chunked.reason) == (413, "body-too-large")


async def test_a_list_of_more_than_a_thousand_is_refused_with_the_bound(service: Service) -> None:
    reply = await service.call("POST", "/v1/requests", raw=b"[" + b"{}," * 1000 + b"{}]")

    assert (reply.status, reply.reason) == (413, "body-too-large")
    assert "1000" in reply.json["detail"]


async def test_a_body_that_is_no_json_by_its_header_is_refused(service: Service) -> None:
    reply = await service.call("POST", "/v1/requests", raw=b"{}", headers={"content-type": "text/plain"})

    assert (reply.status, reply.reason) == (415, "body-malformed")


# ---- the same key -----------------------------------------------------------------------------------


async def test_the_same_key_gives_the_same_request_and_sends_it_once(service: Service) -> None:
    first = await service.post(headers={"idempotency-key": "k-1"})
    again = await service.post(headers={"idempotency-key": "k-1"})
    inside = await service.post({**READ, "key": "k-1"})

    assert (first.status, again.status) == (202, 202)
    assert again.json["id"] == first.json["id"]
    assert inside.reason == "idempotency-conflict"  # the body is another one: it says the key itself
    await asyncio.sleep(0.05)
    assert len(service.gateway.commands()) == 1


async def test_the_same_key_with_another_body_is_refused(service: Service) -> None:
    await service.post({**READ, "key": "k-1"})
    reply = await service.post({**LIMIT, "key": "k-1"})

    assert (reply.status, reply.reason) == (422, "idempotency-conflict")
    assert reply.json["field"] == "/key"


async def test_the_same_key_at_once_and_in_one_list_is_one_request(service: Service) -> None:
    keyed = {**READ, "key": "k-1"}
    replies = await asyncio.gather(*(service.post(keyed) for _ in range(5)))
    listed = await service.post([keyed, keyed, {**LIMIT, "key": "k-1"}])

    ids = {reply.json["id"] for reply in replies}
    ids |= {item["request"]["id"] for item in listed.json["items"][:2]}
    assert len(ids) == 1
    assert listed.json["items"][2]["problem"]["reason"] == "idempotency-conflict"


async def test_a_key_repeated_after_the_end_does_not_show_the_result_unauthorised(service: Service) -> None:
    await service.post(headers={"idempotency-key": "k-1"})
    command = await service.command()
    await service.gateway.answer(command.id, {"celsius": 21.5})
    await service.town.withdraw()
    plain = await service.post(headers={"idempotency-key": "k-1"})
    waited = await service.post(headers={"idempotency-key": "k-1", "prefer": "wait=5"})

    assert b"21.5" not in plain.body
    assert waited.json["answer"] == "WITHHELD"
    assert b"21.5" not in waited.body


async def test_a_key_repeated_with_a_wait_brings_the_result(service: Service) -> None:
    await service.post(headers={"idempotency-key": "k-1"})
    command = await service.command()
    await service.gateway.answer(command.id, {"celsius": 21.5})
    reply = await service.post(headers={"idempotency-key": "k-1", "prefer": "wait=5"})

    assert (reply.status, reply.json["result"]) == (200, {"celsius": 21.5})


async def test_a_list_takes_no_key_in_the_header(service: Service) -> None:
    reply = await service.post([READ], headers={"idempotency-key": "k-1"})

    assert (reply.status, reply.reason) == (400, "body-malformed")


# ---- limits -----------------------------------------------------------------------------------------


async def test_over_the_limit_is_429_with_its_headers_and_a_warning(service: Service) -> None:
    replies = [await service.post() for _ in range(13)]

    assert [reply.status for reply in replies] == [202] * 12 + [429]
    last = replies[-1]
    assert last.reason == "limit-exceeded"
    assert 3500 < int(last.headers["retry-after"]) <= 3600
    assert last.json["retry_after_s"] == int(last.headers["retry-after"])
    assert last.headers["ratelimit"].startswith('"hour";r=0;t=')
    (warning,) = await service.feed("request.warning")
    told = json.loads(bytes(warning.data))
    assert told["message_id"] == last.json["request_id"]
    assert told["destination_id"] == "TH-1"
    assert told["reason"] == "limit-exceeded"


async def test_too_many_calls_a_second_are_refused_and_others_are_not(service: Service) -> None:
    party = (await service.app.store.read(lambda books: books.parties(["bright"])))["bright"]
    slow = type(party)(
        **{name: getattr(party, name) for name in party.__struct_fields__} | {"calls_per_s": 2}
    )
    await service.app.store.write(lambda books: books.put_parties([slow]))
    replies = [await service.get("/v1/formats") for _ in range(4)]
    other = await service.get("/v1/formats", token=service.token("sun"))

    assert [reply.status for reply in replies].count(429) >= 1
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.reason == "rate-limited"
    assert int(refused.headers["retry-after"]) >= 1
    assert other.status == 200


# ---- fetching ---------------------------------------------------------------------------------------


async def test_a_request_is_fetched_with_its_result(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    reply = await service.get(f"/v1/requests/{request.id}")

    assert (reply.status, reply.json["result"]) == (200, {"celsius": 21.5})
    assert (await service.request(request.id)).answer == "DELIVERED"


async def test_another_partys_request_and_none_look_exactly_the_same(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    nobodys = "01a20d1e-449c-7293-befc-a9c57e5886fd"
    paths = [f"/v1/requests/{id}" for id in (request.id, nobodys, "not-an-id", "%00")]
    paths += [f"{path}/journey" for path in paths]
    seen = set()
    for path in paths:
        reply = await service.get(path, token=service.token("sun"))
        assert reply.status == 404
        seen.add(reply.body.replace(reply.headers["x-request-id"].encode(), b"ID"))
    cancelled = await service.call("DELETE", paths[0], token=service.token("sun"))

    assert len(seen) == 1
    assert cancelled.body.replace(cancelled.headers["x-request-id"].encode(), b"ID") in seen


async def test_a_journey_has_every_step_and_all_times_in_one_answer(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    await service.get(f"/v1/requests/{request.id}")
    view = (await service.get(f"/v1/requests/{request.id}/journey")).json

    assert all(view["times"].values()), view["times"]
    assert view["steps"][0]["scenario"] == ["S1.01"]
    assert view["steps"][-1]["step"] == "handed_over"
    assert b"21.5" not in json.dumps(view).encode()


async def test_requests_are_listed_by_page_and_filter_without_results(service: Service) -> None:
    for number in range(5):
        await service.post({**READ, "campaign": "c" if number % 2 else ""})
    first = (await service.get("/v1/requests?limit=2")).json
    second = (await service.get(f"/v1/requests?limit=9&after={first['next']}")).json
    campaign = (await service.get("/v1/requests?campaign=c")).json
    states = (await service.get("/v1/requests?state=DONE&state=FAILED")).json

    ids = [item["id"] for item in first["items"] + second["items"]]
    assert len(ids) == 5
    assert ids == sorted(ids, reverse=True)
    assert second["next"] is None
    assert len(campaign["items"]) == 2
    assert states["items"] == []


# ---- cancelling ---------------------------------------------------------------------------------------


async def test_what_was_not_sent_is_cancelled_at_once_and_again_is_the_same(service: Service) -> None:
    await service.gateway.disconnect()
    id = (await service.post()).json["id"]
    first = await service.call("DELETE", f"/v1/requests/{id}")
    again = await service.call("DELETE", f"/v1/requests/{id}")

    assert (first.status, first.json["state"]) == (200, "CANCELLED")
    assert (again.status, again.json["state"]) == (200, "CANCELLED")


async def test_of_what_was_sent_the_gateway_is_asked(service: Service) -> None:
    id = (await service.post()).json["id"]
    await service.command()
    reply = await service.call("DELETE", f"/v1/requests/{id}")

    assert reply.status == 202
    assert reply.json["cancel_asked"] is True


async def test_what_has_ended_is_too_late_to_cancel(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    reply = await service.call("DELETE", f"/v1/requests/{request.id}")

    assert (reply.status, reply.reason) == (409, "too-late")


async def test_a_campaign_is_cancelled_as_a_group(service: Service) -> None:
    await service.gateway.disconnect()
    for campaign in ("peak", "peak", "other"):
        await service.post({**LIMIT, "campaign": campaign})
    reply = await service.call("DELETE", "/v1/requests?campaign=peak")
    wrong = await service.call("DELETE", "/v1/requests")

    assert [item["state"] for item in reply.json["items"]] == ["CANCELLED", "CANCELLED"]
    assert (wrong.status, wrong.json["field"]) == (400, "/campaign")
