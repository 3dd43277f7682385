"""Both clients against real HTTP: what is sent, what is repeated, what is raised."""

import asyncio
import inspect
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import OKPKey
from starlette.responses import JSONResponse, Response

from doorward import client as sdk
from doorward.client import AsyncClient, Client, ask
from doorward.client.errors import error_of
from doorward.wire.reasons import Reason
from doorward.wire.signatures import b64url, public_jwk
from tests.client.fake_api import FakeApi, problem, serving

NOW_US = 1_800_000_000_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class StoppedClock:
    def __init__(self) -> None:
        self.us = NOW_US

    def now_us(self) -> int:
        return self.us


class Caller:
    """One way to call, whichever client is behind it. Sleeping only moves its clock."""

    def __init__(self, kind: str, url: str, **more: Any) -> None:
        self.clock = StoppedClock()
        self.slept: list[float] = []
        options: dict[str, Any] = {"client_id": "brightgrid", "clock": self.clock, "rng": random.Random(7)}
        if "private_key" not in more:
            options["client_secret"] = "hush"
        options |= more
        self.client: Client | AsyncClient
        if kind == "sync":
            self.client = Client(url, sleep=self._sleep, **options)
        else:
            self.client = AsyncClient(url, sleep=self._sleep_async, **options)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.us += int(seconds * 1_000_000)

    async def _sleep_async(self, seconds: float) -> None:
        self._sleep(seconds)

    async def __call__(self, name: str, *args: Any, **named: Any) -> Any:
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncClient):
            return await method(*args, **named)
        return await asyncio.to_thread(method, *args, **named)

    async def events(self, count: int, **named: Any) -> list[sdk.Event]:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(self._events, self.client, count, named)
        found: list[sdk.Event] = []
        stream = self.client.events(**named)
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    @staticmethod
    def _events(client: Client, count: int, named: dict[str, Any]) -> list[sdk.Event]:
        stream = client.events(**named)
        found = [next(stream) for _ in range(count)]
        stream.close()  # type: ignore[attr-defined]
        return found


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving(FakeApi()) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as open_:
        yield open_


@pytest.fixture
async def call(api: FakeApi, kind: str, stack: AsyncExitStack) -> Caller:
    return await calling(api, kind, stack)


async def calling(api: FakeApi, kind: str, stack: AsyncExitStack, **more: Any) -> Caller:
    made = Caller(kind, api.url, **more)
    stack.push_async_callback(made, "close")
    return made


# --- asking -----------------------------------------------------------------------------------------


async def test_a_limit_says_what_it_means_and_returns_the_result(api: FakeApi, call: Caller) -> None:
    done = await call("limit", "EV-1", watts=1400, until=timedelta(hours=1), cause="grid", wait_s=30)
    assert (done.state, done.is_done, done.result["power_w"]) == ("DONE", True, 1400)
    assert done.until == datetime.fromtimestamp(NOW_US / 1e6 + 3600, UTC)
    headers, body = api.asked("POST", "/v1/requests")[0]
    assert json.loads(body) == {
        "operation": "limit",
        "scope": "device",
        "device": "EV-1",
        "body": {"watts": 1400},
        "until": "2027-01-15T09:00:00.000000Z",
        "cause": "grid",
    }
    assert headers["prefer"] == "wait=30"
    assert len(headers["idempotency-key"]) == 36


@pytest.mark.parametrize(
    "name, args, named, sent",
    [
        ("read", ["EV-1"], {"values": ["power_w"]}, {"operation": "read", "body": {"values": ["power_w"]}}),
        ("turn_on", ["P-1"], {}, {"operation": "turn_on", "body": {}}),
        ("turn_off", ["P-1"], {}, {"operation": "turn_off", "body": {}}),
        (
            "setpoint",
            ["T-1"],
            {"celsius": 20.5, "which": "heat"},
            {"body": {"celsius": 20.5, "which": "heat"}},
        ),
        ("offset", ["T-1"], {"celsius": -2}, {"operation": "offset", "body": {"celsius": -2}}),
        ("mode", ["T-1", "cool"], {}, {"operation": "mode", "body": {"mode": "cool"}}),
        ("shed", ["W-1"], {"level": 2}, {"operation": "shed", "body": {"level": 2}}),
        ("load_up", ["W-1"], {}, {"operation": "load_up", "body": {"level": 1}}),
        ("duty_cycle", ["R-1"], {"percent": 50}, {"operation": "duty_cycle", "body": {"percent": 50}}),
        ("program", ["P-1", [{"at": "22:00", "on": True}]], {}, {"operation": "program"}),
        ("release", ["P-1"], {}, {"operation": "release", "scope": "device"}),
        (
            "limit",
            [],
            {"service_point": "SP-1", "watts": 5000},
            {"scope": "service_point", "operation": "limit"},
        ),
        (
            "read_home",
            ["SP-1"],
            {"from_": datetime(2027, 1, 1, tzinfo=UTC), "to": datetime(2027, 1, 2, tzinfo=UTC)},
            {
                "scope": "home",
                "body": {"from": "2027-01-01T00:00:00.000000Z", "to": "2027-01-02T00:00:00.000000Z"},
            },
        ),
    ],
)
async def test_each_operation_is_sent_in_its_format(
    api: FakeApi, call: Caller, name: str, args: list[Any], named: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert (await call(name, *args, **named)).is_done
    body = json.loads(api.asked("POST", "/v1/requests")[0][1])
    assert body | sent == body


async def test_a_list_is_answered_item_by_item_each_under_its_own_key(api: FakeApi, call: Caller) -> None:
    items = await call(
        "submit", [ask.limit("EV-1", watts=1), ask.read("NOT-MINE"), ask.read("EV-1", key="k")]
    )
    assert [item.status for item in items] == [202, 404, 202]
    assert items[1].problem.reason == "device-unknown"
    keys = [one["key"] for one in json.loads(api.asked("POST", "/v1/requests")[0][1])]
    assert len(set(keys)) == 3
    assert keys[2] == "k"


async def test_everything_else_can_be_looked_at(call: Caller) -> None:
    assert (await call("devices"))[0].device_class == "ev_charger"
    assert (await call("device", "EV-1")).grant == "G-1"
    assert (await call("limits", "SP-1")).windows[0].remaining == 22
    assert (await call("grants"))[0].version == 3
    assert (await call("get", "0190-1")).is_done
    assert (await call("cancel", "0190-1")).state == "CANCELLED"
    assert [one.campaign for one in await call("cancel_campaign", "evening")] == ["evening"]
    assert (await call("requests", device="EV-1")).items[0].operation == "read"
    journey = await call("journey", "0190-1")
    assert journey.steps[0].sentence == "It came."
    assert journey.times["pushed_to_han"] is None


# --- tokens -----------------------------------------------------------------------------------------


async def test_a_token_is_used_until_shortly_before_its_end(api: FakeApi, call: Caller) -> None:
    await call("devices")
    call.clock.us += 569 * 1_000_000
    await call("devices")
    assert len(api.tokens_given) == 1
    call.clock.us += 2 * 1_000_000
    await call("devices")
    assert len(api.tokens_given) == 2
    assert api.tokens_given[0]["basic"] == "brightgrid:hush"
    assert api.tokens_given[0]["scope"] == "monitor control"


async def test_a_revoked_token_is_replaced_once_and_the_call_made_again(api: FakeApi, call: Caller) -> None:
    await call("devices")
    api.good_tokens.clear()
    assert await call("devices")
    assert len(api.tokens_given) == 2


async def test_a_token_that_stays_refused_is_an_error_and_no_loop(api: FakeApi, call: Caller) -> None:
    api.script = [problem(401, "token-revoked"), problem(401, "token-revoked")]
    with pytest.raises(sdk.NotAuthenticated):
        await call("devices")
    assert len(api.tokens_given) == 2


async def test_callers_at_once_ask_for_one_token(api: FakeApi, call: Caller) -> None:
    await asyncio.gather(*(call("devices") for _ in range(8)))
    assert len(api.tokens_given) == 1


async def test_wrong_credentials_say_so(api: FakeApi, kind: str, stack: AsyncExitStack) -> None:
    call = await calling(api, kind, stack, client_secret="wrong")
    with pytest.raises(sdk.NotAuthenticated, match="invalid_client: no such client"):
        await call("devices")
    assert len(api.tokens_given) == 1


async def test_a_private_key_proves_the_client_by_a_statement_that_others_can_verify(
    api: FakeApi, kind: str, stack: AsyncExitStack
) -> None:
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    call = await calling(api, kind, stack, private_key=pem, key_id="k1")
    await call("devices")
    form = api.tokens_given[0]
    read = jws.deserialize_compact(
        form["client_assertion"], OKPKey.import_key({**public_jwk(KEY.public_key())}), algorithms=["Ed25519"]
    )
    claims = json.loads(read.payload)
    assert read.protected == {"alg": "Ed25519", "kid": "k1", "typ": "JWT"}
    assert claims["iss"] == claims["sub"] == form["client_id"] == "brightgrid"
    assert claims["aud"] == f"{api.url}/oauth/token"
    assert claims["exp"] - claims["iat"] == 60


# --- trouble ----------------------------------------------------------------------------------------


async def test_what_passes_is_tried_again_under_the_same_key(api: FakeApi, call: Caller) -> None:
    api.script = [problem(503, "congestion", headers={"Retry-After": "2"}), Response(status_code=502)]
    assert (await call("limit", "EV-1", watts=1)).is_done
    asked = api.asked("POST", "/v1/requests")
    assert len(asked) == 3
    assert len({(headers["idempotency-key"], body) for headers, body in asked}) == 1
    assert len(call.slept) == 2
    assert 2 <= call.slept[0] < 2.2


async def test_a_long_wait_is_left_to_the_caller(api: FakeApi, call: Caller) -> None:
    api.script = [problem(429, "limit-exceeded", headers={"Retry-After": "1800"})]
    with pytest.raises(sdk.LimitExceeded) as caught:
        await call("read", "EV-1")
    assert caught.value.retry_after_s == 1800
    assert call.slept == []


async def test_tries_have_an_end(api: FakeApi, call: Caller) -> None:
    api.script = [problem(503, "congestion") for _ in range(9)]
    with pytest.raises(sdk.LimitExceeded):
        await call("read", "EV-1")
    assert len(api.asked("POST", "/v1/requests")) == 4


async def test_a_ccs_that_is_not_there_is_unreachable(kind: str, stack: AsyncExitStack) -> None:
    async with serving(FakeApi()) as gone:
        pass
    call = await calling(gone, kind, stack)
    with pytest.raises(sdk.Unreachable, match=gone.url):
        await call("devices")
    assert len(call.slept) == 3


async def test_an_error_says_where(api: FakeApi, call: Caller) -> None:
    api.script = [problem(422, "format-invalid", field="/body/watts")]
    with pytest.raises(sdk.Malformed) as caught:
        await call("limit", "EV-1", watts=-1)
    assert (caught.value.field, caught.value.reason) == ("/body/watts", "format-invalid")
    assert caught.value.problem.request_id == "r-1"
    api.script = [Response("<html>", 500)]
    with pytest.raises(sdk.DoorwardError, match="<html>"):
        await call("devices")
    api.script = [JSONResponse({"items": "what"})]
    with pytest.raises(sdk.DoorwardError, match="unexpected answer"):
        await call("devices")


REFUSALS = [
    Reason.NOT_AUTHENTICATED,
    *list(Reason)[1 : list(Reason).index(Reason.CANCELLED)],
]


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_reason_of_a_refusal_has_its_error(reason: Reason) -> None:
    assert type(error_of(sdk.Problem(reason=reason.value))) is not sdk.DoorwardError


def test_what_is_not_done_can_be_required() -> None:
    failed = sdk.Request(id="1", state="FAILED", operation="limit", reason="device-not-following")
    with pytest.raises(sdk.NotDone, match="device-not-following") as caught:
        sdk.require_done(failed)
    assert caught.value.request is failed


@pytest.mark.parametrize("url", ["http://ccs.example.com", "ccs.example.com", "ftp://x", "https://"])
def test_credentials_are_never_sent_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Client(url, client_id="a", client_secret="b")


def test_one_way_of_proof_is_needed_and_no_more() -> None:
    for more in ({}, {"client_secret": "a", "private_key": KEY, "key_id": "k"}):
        with pytest.raises(ValueError, match="either"):
            Client("https://ccs.example.com", client_id="a", **more)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kid"):
        Client("https://ccs.example.com", client_id="a", private_key=KEY)


async def test_a_time_without_a_zone_is_refused(call: Caller) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await call("limit", "EV-1", watts=1, until=datetime(2027, 1, 1))  # noqa: DTZ001


# --- waiting and events -----------------------------------------------------------------------------


async def test_waiting_ends_with_the_final_state(api: FakeApi, call: Caller) -> None:
    api.not_final_yet = 3
    assert (await call("wait", "0190-1")).is_done
    assert len(call.slept) == 3


async def test_waiting_ends_when_time_runs_out(api: FakeApi, call: Caller) -> None:
    api.not_final_yet = 10**6
    assert (await call("wait", "0190-1", timeout_s=5)).state == "SENT"


def event(number: int) -> tuple[str, dict[str, Any]]:
    return f"c{number}", {"id": f"e{number}", "type": "request.result", "request": "0190-1", "data": {}}


async def test_a_broken_stream_goes_on_after_the_last_event(api: FakeApi, call: Caller) -> None:
    api.streams = [[event(1), event(2)], [], [event(3)]]
    found = await call.events(3, kinds=["request.result"])
    assert [one.id for one in found] == ["e1", "e2", "e3"]
    opened = api.asked("GET", "/v1/events/stream")
    assert [headers.get("last-event-id") for headers, _ in opened] == [None, "c2", "c2"]
    assert opened[0][1] == b"kind=request.result"
    assert len(call.slept) == 2


async def test_a_stream_survives_a_revoked_token_and_a_busy_server(api: FakeApi, call: Caller) -> None:
    await call("devices")
    api.good_tokens.clear()
    api.stream_refusals = [problem(503, "congestion", headers={"Retry-After": "7"})]
    api.streams = [[event(1)]]
    assert [one.id for one in await call.events(1, after="c0")] == ["e1"]
    assert len(api.tokens_given) == 2
    assert call.slept[-1] == 7
    assert api.asked("GET", "/v1/events/stream")[0][0]["last-event-id"] == "c0"


async def test_a_stream_begins_where_it_is_told(api: FakeApi, call: Caller) -> None:
    for after in (None, "", "c7"):
        api.streams = [[("c9", {"type": "end", "reason": "token-expired"}), event(9)]]
        assert [one.id for one in await call.events(1, after=after)] == ["e9"]
    opened = api.asked("GET", "/v1/events/stream")
    assert [(query, headers.get("last-event-id")) for headers, query in opened] == [
        (b"", None),
        (b"after=", None),
        (b"", "c7"),
    ]


async def test_a_stream_that_is_not_permitted_is_an_error(api: FakeApi, call: Caller) -> None:
    api.stream_refusals = [problem(403, "scope-missing")]
    with pytest.raises(sdk.NotPermitted):
        await call.events(1)


# --- signed commands --------------------------------------------------------------------------------


async def test_a_control_is_signed_as_the_gateway_will_check_it(
    api: FakeApi, kind: str, stack: AsyncExitStack
) -> None:
    jwk = {**public_jwk(KEY.public_key()), "d": b64url(KEY.private_bytes_raw()), "kid": "c1"}
    call = await calling(api, kind, stack, command_key=jwk)
    await call("limit", "EV-1", watts=1400)
    headers, raw = api.asked("POST", "/v1/requests")[0]
    body = json.loads(raw)
    read = jws.deserialize_compact(
        body["signature"], OKPKey.import_key({**public_jwk(KEY.public_key())}), algorithms=["Ed25519"]
    )
    assert read.protected == {"alg": "Ed25519", "kid": "c1", "typ": "command"}
    assert json.loads(read.payload) == {
        "id": headers["idempotency-key"],
        "party": "brightgrid",
        "service_point": "SP-1",
        "scope": "device",
        "device": "EV-1",
        "operation": "limit",
        "body": {"watts": 1400},
        "start_us": 0,
        "until_us": NOW_US + 4 * 3600 * 1_000_000,
        "issued_us": NOW_US,
        "expires_us": NOW_US + 3600 * 1_000_000,
        "grant_version": 3,
    }
    assert body["until"] == "2027-01-15T12:00:00.000000Z"


async def test_a_changed_grant_is_seen_before_the_next_signature(
    api: FakeApi, kind: str, stack: AsyncExitStack
) -> None:
    call = await calling(api, kind, stack, command_key=KEY, command_key_id="c1")
    await call("turn_off", "EV-1")
    api.grants[0] |= {"version": 4, "sequence": 9}
    await call("turn_off", "EV-1", service_point="SP-1")
    await call("read", "EV-1")
    await call("release", "EV-1")
    bodies = [json.loads(raw) for _, raw in api.asked("POST", "/v1/requests")]
    versions = [
        json.loads(jws.extract_compact(body["signature"].encode()).payload)["grant_version"]
        for body in bodies[:2]
    ]
    assert versions == [3, 4]
    assert ["signature" in body for body in bodies] == [True, True, False, False]


# --- the two shells ---------------------------------------------------------------------------------


def test_both_clients_offer_the_same_under_the_same_names() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        return {
            name: [str(parameter) for parameter in inspect.signature(method).parameters.values()]
            for name, method in vars(kind).items()
            if callable(method) and not name.startswith("_")
        }

    assert surface(Client) == surface(AsyncClient)
