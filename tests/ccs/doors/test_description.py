"""The API's description is complete and true, and its page loads without any other site."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest

from doorward.ccs.doors.api import call
from doorward.ccs.doors.api.docs import SHA256
from doorward.ccs.doors.problem import STATUS, problem_headers, problem_of
from doorward.ccs.ports import CommitUnsure, StoreUnavailable
from doorward.kit import serving
from doorward.wire.reasons import SENTENCES, Reason, Refused
from tests.ccs.doors.service import READ, SECRET, Reply, Service

METHODS = {"get", "put", "post", "delete"}


async def description_of(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = (await service.get("/openapi.json", token="")).json
    return found


def strict(node: Any) -> Any:
    """The same schema, with no field beyond those that it names."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {key: strict(value) for key, value in node.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed["additionalProperties"] = False
    return closed


def hold(reply: Reply, description: dict[str, Any], path: str, method: str) -> None:
    """Fail unless an answer is one that the description has, in just that shape."""
    answer = description["paths"][path][method]["responses"][str(reply.status)]
    kind = reply.headers["content-type"].partition(";")[0]
    schema = answer["content"][kind]["schema"]
    components = strict(description["components"])
    jsonschema.Draft202012Validator({**schema, "components": components}).validate(reply.json)


async def test_answers_have_just_the_shapes_that_are_described(service: Service) -> None:
    description = await description_of(service)
    request = await service.done({"celsius": 21.5})
    await service.call("PUT", "/v1/endpoints/main", json={"url": "https://hooks.example/a"})
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("post", "/v1/requests", "/v1/requests", {"json": READ}),
        ("post", "/v1/requests", "/v1/requests", {"json": [READ, {"operation": "x"}]}),
        ("post", "/v1/requests", "/v1/requests", {"json": {}}),
        ("post", "/v1/requests", "/v1/requests", {"json": READ | {"device": "X"}}),
        ("post", "/v1/requests", "/v1/requests", {"raw": b"{}", "headers": {"content-type": "text/plain"}}),
        ("get", "/v1/requests", "/v1/requests", {}),
        ("get", "/v1/requests/{id}", f"/v1/requests/{request.id}", {}),
        ("get", "/v1/requests/{id}", "/v1/requests/x", {}),
        ("delete", "/v1/requests/{id}", f"/v1/requests/{request.id}", {}),
        ("delete", "/v1/requests", "/v1/requests?campaign=c", {}),
        ("get", "/v1/requests/{id}/journey", f"/v1/requests/{request.id}/journey", {}),
        ("get", "/v1/devices", "/v1/devices", {}),
        ("get", "/v1/devices/{device}", "/v1/devices/TH-1", {}),
        ("get", "/v1/devices/{device}", "/v1/devices/X", {}),
        ("get", "/v1/limits", "/v1/limits?service_point=SP-1", {}),
        ("get", "/v1/limits", "/v1/limits", {}),
        ("get", "/v1/formats", "/v1/formats", {}),
        ("get", "/v1/formats/{name}/{version}", "/v1/formats/thermostat.read/1", {}),
        ("get", "/v1/grants", "/v1/grants", {}),
        ("get", "/v1/events", "/v1/events", {}),
        ("get", "/v1/events", "/v1/events?limit=0", {}),
        ("get", "/v1/endpoints", "/v1/endpoints", {}),
        ("put", "/v1/endpoints/{id}", "/v1/endpoints/other", {"json": {"url": "https://hooks.example/b"}}),
        ("put", "/v1/endpoints/{id}", "/v1/endpoints/other", {"json": {}}),
        ("post", "/v1/endpoints/{id}/prove", "/v1/endpoints/none/prove", {}),
        ("get", "/v1/devices", "/v1/devices", {"token": ""}),
    ]
    for method, path, called, more in calls:
        hold(await service.call(method.upper(), called, **more), description, path, method)
    form = {"grant_type": "client_credentials", "client_id": "bright", "client_secret": SECRET}
    hold(await service.form("/oauth/token", form), description, "/oauth/token", "post")
    hold(await service.form("/oauth/token", {}), description, "/oauth/token", "post")


async def test_what_is_described_as_a_request_is_what_is_taken(service: Service) -> None:
    description = await description_of(service)
    schema = {"$ref": "#/components/schemas/NewRequest", "components": strict(description["components"])}
    examples = description["paths"]["/v1/requests"]["post"]["requestBody"]["content"]["application/json"]
    for example in examples["examples"].values():
        jsonschema.Draft202012Validator(schema).validate(example["value"])
    full = READ | {"scope": "device", "service_point": "SP-1", "format": "thermostat.read/1", "campaign": "c",
                   "priority": "low", "key": "k", "body": {}, "cause": "grid"}  # fmt: skip
    jsonschema.Draft202012Validator(schema).validate(full)

    assert (await service.post(full)).status == 202


async def test_every_operation_says_what_it_does_and_how_it_may_fail(service: Service) -> None:
    description = await description_of(service)

    assert description["openapi"] == "3.1.0"
    assert set(description["components"]["securitySchemes"]) == {"oauth2", "basic"}
    for path, item in description["paths"].items():
        assert set(item) <= METHODS
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation.get("summary"), where
            assert operation["responses"], where
            assert not any(
                "HTTPValidationError" in str(answer) for answer in operation["responses"].values()
            ), where
            if path.startswith("/v1/"):
                assert operation["security"], where
                assert {"401", "403", "429", "503"} <= set(operation["responses"]), where
    for name in set(re.findall(r'#/components/schemas/(\w+)"', str(description).replace("'", '"'))):
        assert name in description["components"]["schemas"], name


def test_every_reason_has_a_status_and_becomes_a_problem() -> None:
    assert set(STATUS) == set(Reason)
    for reason in Reason:
        problem = problem_of(Refused(reason, retry_after_s=1.2), "id")
        assert 400 <= problem.status < 600
        assert (problem.type, problem.title) == (f"/problems/{reason.value}", SENTENCES[reason])
        assert problem.retry_after_s == 2
        assert (b"retry-after", b"2") in problem_headers(problem, reason)


async def test_every_reason_has_a_page(service: Service) -> None:
    for reason in Reason:
        page = await service.get(f"/problems/{reason}", token="", headers={"accept": "text/html"})
        assert SENTENCES[reason].replace("'", "&#x27;").encode() in page.body
    assert (await service.get("/problems/nonsense", token="")).reason == "not-found"


async def test_the_page_loads_from_here_only_and_runs_no_inline_script(service: Service) -> None:
    page = await service.get("/docs", token="")
    policy = page.headers["content-security-policy"]
    places = re.findall(r'(?:src|href)="([^"]*)"', page.body.decode())

    assert "script-src 'self';" in policy
    assert re.search(r"<script[^>]*>[^<]", page.body.decode()) is None
    assert len(places) == 3
    for place in places:
        assert place.startswith("/docs/assets/")
        asset = await service.get(place, token="")
        assert asset.status == 200
        name = place.rsplit("/", 1)[1]
        if name in SHA256:
            assert hashlib.sha256(asset.body).hexdigest() == SHA256[name]
    for name in ("docs.html", "..%2Fdocs.py", "x"):
        assert (await service.get(f"/docs/assets/{name}", token="")).status == 404


async def test_whatever_is_not_there_is_a_problem_too(service: Service) -> None:
    nowhere = await service.get("/nowhere", token="")
    under = await service.get("/v1/nowhere")
    method = await service.call("PATCH", "/v1/devices")
    head = await service.call("PUT", "/v1/requests", json={})

    assert (nowhere.reason, under.reason) == ("not-found", "not-found")
    assert (method.status, method.reason, method.headers["allow"]) == (405, "body-malformed", "GET")
    assert head.status == 405


async def test_a_failure_of_ours_tells_nothing_but_its_id(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the password is swordfish")

    hot, cold = service.app.journey._hand_over, service.app.store.read
    service.app.store.read = broken  # type: ignore[method-assign, assignment]
    replies = [await service.get("/v1/grants"), await service.get("/readyz", token="")]
    service.app.store.read = cold  # type: ignore[method-assign]
    service.app.journey._fetches._handle = broken  # type: ignore[assignment]
    replies.append(await service.get("/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd"))
    service.app.journey._fetches._handle = hot

    for reply in replies:
        assert (reply.status, reply.reason) == (500, "system-failure")
        assert b"swordfish" not in reply.body
    assert (await service.get("/v1/grants")).status == 200


@pytest.mark.parametrize("error", [StoreUnavailable("disk full"), CommitUnsure("the connection was lost")])
async def test_while_the_books_cannot_be_reached_the_answer_is_to_come_again(
    service: Service, error: Exception
) -> None:
    async def broken(*_: object) -> None:
        raise error

    write, service.app.store.write = service.app.store.write, broken  # type: ignore[method-assign, assignment]
    one = await service.post(headers={"idempotency-key": "k-1"})
    several = await service.post([READ, READ])
    service.app.store.write = write  # type: ignore[method-assign]

    assert (one.status, one.reason, one.headers["retry-after"]) == (503, "system-failure", "1")
    assert [item["status"] for item in several.json["items"]] == [503, 503]
    assert b"disk full" not in one.body + several.body
    assert (await service.post(headers={"idempotency-key": "k-1"})).status == 202


async def test_when_too_much_waits_the_answer_is_to_come_again(service: Service) -> None:
    service.app.journey.asks._queue_max = 0
    one = await service.post()
    listed = await service.post([READ])
    service.app.journey.asks._queue_max = 100

    assert (one.status, one.reason) == (503, "congestion")
    assert int(one.headers["retry-after"]) >= 1
    assert listed.json["items"][0]["problem"]["reason"] == "congestion"


async def test_a_connection_that_never_finishes_its_head_is_closed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_WAIT_S_MAX", 0.1)
    host, _, port = service.app.url.removeprefix("http://").partition(":")
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def flood(host: str, port: int) -> None:
    """Send headers until nobody takes them any more."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(10):
        while not reader.at_eof():
            writer.write(b"X-More: " + b"y" * 8000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
    raise ConnectionResetError


async def test_a_head_without_end_is_closed(service: Service) -> None:
    host, _, port = service.app.url.removeprefix("http://").partition(":")
    with pytest.raises(ConnectionError):
        await flood(host, int(port))
    assert (await service.get("/healthz", token="")).status == 200


async def test_a_slow_body_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "BODY_WAIT_S_MAX", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"device":'
        await asyncio.sleep(5)
        yield b'"TH-1"}'

    reply = await service.call(
        "POST", "/v1/requests", headers={"content-type": "application/json"}, data=slow()
    )

    assert reply.reason == "body-malformed"
