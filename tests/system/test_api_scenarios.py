"""Scenarios 1 and 2 through the API, between processes; what the devices did is read from their own files."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from doorward.simulate.local_utility import LocalUtility

READ = {"device": "TH-1", "operation": "read"}


class Party:
    """A third party with nothing but an HTTP client."""

    def __init__(self, utility: LocalUtility, client: aiohttp.ClientSession, id: str) -> None:
        self.url = utility.url
        self._client = client
        self._form = {
            "grant_type": "client_credentials",
            "client_id": id,
            "client_secret": utility.secret(id),
        }
        self._token = ""

    async def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, JSON and headers of a call."""
        if not self._token:
            async with self._client.post(f"{self.url}/oauth/token", data=self._form) as answer:
                assert answer.status == 200, await answer.text()
                self._token = (await answer.json())["access_token"]
        sent = {"authorization": f"Bearer {self._token}", **headers}
        async with self._client.request(method, self.url + path, json=body, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None), dict(answer.headers)

    async def get(self, path: str) -> Any:
        status, view, _ = await self.call("GET", path)
        assert status == 200, view
        return view

    async def ask(self, body: object, wait_s: int = 30) -> Any:
        """Post and wait; the final request."""
        status, view, _ = await self.call("POST", "/v1/requests", body, prefer=f"wait={wait_s}")
        assert status == 200, view
        return view


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def bright(utility: LocalUtility, client: aiohttp.ClientSession) -> Party:
    """The company that the customers let in, once its gateways are connected."""
    party = Party(utility, client, "bright")
    async with asyncio.timeout(90):
        for device in ("TH-1", "TH-2"):
            letting_go = {"device": device, "operation": "release", "key": f"first-{device}"}
            status = 202
            while status == 202:  # a key: however often it is asked, it is one message
                status, _, _ = await party.call("POST", "/v1/requests", letting_go, prefer="wait=30")
    return party


def scenario_of(journey: dict[str, Any]) -> set[str]:
    return {step for each in journey["steps"] for step in each["scenario"]}


@pytest.mark.req(
    "A01", "A02", "A03", "A04", "S1.01", "S1.02", "S1.03", "S1.04", "S1.04b", "S1.05", "S1.06", "S1.07", "S1.08",
    "S1.09", "S1.10", "S1.11", "S1.12", "S1.13", "S1.14", "S1.15", "S1.16", "S1.17", "F01", "F02", "F06", "F09",
    "F18", "F23", "N03", "N04", "R04",
)  # fmt: skip
async def test_a_read_crosses_every_hop_and_each_is_on_record(utility: LocalUtility, bright: Party) -> None:
    done = await bright.ask(READ)
    journey = await bright.get(f"/v1/requests/{done['id']}/journey")

    assert (done["state"], done["answer"]) == ("DONE", "DELIVERED")
    assert (done["result"]["device"], bool(done["result"]["values"])) == ("TH-1", True)
    wanted = {f"S1.{number:02d}" for number in range(1, 18)} | {"S1.04b"}
    assert wanted <= scenario_of(journey)
    assert all(journey["times"].values())
    for clock in (
        ("received", "pushed_to_gateway", "received_by_ccs", "pushed_to_third_party"),
        ("received_at_gateway", "pushed_to_han", "answered", "pushed_to_ccs"),
    ):
        moments = [journey["times"][name] for name in clock]
        assert moments == sorted(moments)
    log = [line for line in utility.gateway_log("SPG-1") if line.get("message") == done["id"]]
    assert log, "the gateway's own journal knows the message"


@pytest.mark.req(
    "S2.01", "S2.02", "S2.03", "S2.04", "S2.05", "S2.06", "S2.07", "S2.08", "S2.09", "S2.10", "S2.11", "S2.12",
    "S2.13", "S2.14", "S2.15", "S2.16", "S2.17", "S2.18", "F15", "F16",
)  # fmt: skip
async def test_a_control_is_done_when_the_device_itself_says_so(utility: LocalUtility, bright: Party) -> None:
    found = await bright.ask({"device": "RL-1", "operation": "read"})
    done = await bright.ask({"device": "RL-1", "operation": "turn_on"})
    journey = await bright.get(f"/v1/requests/{done['id']}/journey")

    assert found["state"] == "DONE"
    assert done["state"] == "DONE", done
    assert [each["name"] for each in utility.actuations("RL-1")].count("on") == 1
    wanted = {f"S2.{number:02d}" for number in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)}
    assert wanted <= scenario_of(journey)


@pytest.mark.req("S1.01b")
async def test_all_of_a_home_is_read_in_one_request(bright: Party) -> None:
    done = await bright.ask({"service_point": "SP-1", "scope": "home", "operation": "read"})

    assert done["state"] == "DONE"
    assert "TH-1" in json.dumps(done["result"])
    assert "RL-1" in json.dumps(done["result"])


@pytest.mark.req("F06", "F08", "F24", "F14")
async def test_who_has_no_permission_and_what_has_no_form_come_nowhere(
    utility: LocalUtility, client: aiohttp.ClientSession, bright: Party
) -> None:
    before = len(utility.gateway_log("SPG-1"))
    sun = Party(utility, client, "sun")
    foreign, view, _ = await sun.call("POST", "/v1/requests", READ)
    unknown, other, _ = await bright.call("POST", "/v1/requests", READ | {"device": "TH-9"})
    malformed, bad, _ = await bright.call("POST", "/v1/requests", READ | {"body": {"wings": 2}})

    assert (foreign, view["reason"]) == (unknown, other["reason"]) == (404, "device-unknown")
    assert (malformed, bad["reason"], bad["field"]) == (422, "format-invalid", "/body/wings")
    assert (await sun.get("/v1/devices"))["items"] == []
    assert len(utility.gateway_log("SPG-1")) == before


@pytest.mark.req("F20", "F30", "N07")
async def test_what_a_dead_gateway_never_had_ends_by_its_deadline_with_a_warning(
    utility: LocalUtility, bright: Party
) -> None:
    utility.processes["SPG-2"].kill()
    deadline = {"deadline": _in(6)}
    status, view, _ = await bright.call(
        "POST", "/v1/requests", {"device": "TH-2", "operation": "read", **deadline}, prefer="wait=30"
    )
    events = (await bright.get("/v1/events?kind=request.warning&limit=500"))["items"]
    utility.start_gateway(utility.plan.homes[1])

    assert status == 200
    assert view["state"] in ("EXPIRED", "UNCONFIRMED")
    assert view["result"] is None
    warned = [event["data"] for event in events if event["request"] == view["id"]]
    assert warned[0]["destination_id"] == "TH-2"
    assert warned[0]["reason"] == "gateway-unreachable"


@pytest.mark.req("F04", "F32", "F38", "N01")
async def test_the_25th_message_in_an_hour_is_refused_and_warned_about(bright: Party) -> None:
    statuses = []
    for _ in range(14):
        status, view, headers = await bright.call(
            "POST", "/v1/requests", {"device": "TH-2", "operation": "read"}
        )
        statuses.append(status)
        if status == 429:
            break
    events = (await bright.get("/v1/events?kind=request.warning&limit=500"))["items"]

    assert statuses[-1] == 429
    assert len(statuses) <= 13
    assert (view["reason"], int(headers["Retry-After"]) > 0) == ("limit-exceeded", True)
    warned = [event["data"] for event in events if event["request"] == view["request_id"]]
    assert warned[0]["message_id"] == view["request_id"]
    assert warned[0]["destination_id"] == "TH-2"
    assert warned[0]["received"]


CALL_PAUSE_S = 0.04
"""Two callers stay within the rate of the one worker that is left: half of 200 calls a second."""


@pytest.mark.req("N02")
async def test_a_worker_that_stops_refuses_nobody_and_another_takes_over(
    utility: LocalUtility, client: aiohttp.ClientSession, bright: Party
) -> None:
    if utility.engines != ("postgresql", "mqtt"):
        pytest.skip("several workers need PostgreSQL and MQTT")
    stopping = asyncio.Event()
    statuses: list[int] = []

    async def keep_calling() -> None:
        while not stopping.is_set():
            async with aiohttp.ClientSession() as fresh:
                other = Party(utility, fresh, "bright")
                other._token = bright._token
                statuses.append((await other.call("GET", "/v1/devices"))[0])
            await asyncio.sleep(CALL_PAUSE_S)

    callers = [asyncio.ensure_future(keep_calling()) for _ in range(2)]
    master = utility.processes["ccs"].child.pid
    first = _children(master)[0]
    os.kill(first, signal.SIGTERM)
    async with asyncio.timeout(60):
        while first in (now := _children(master)) or len(now) < 2:  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.05)
    stopping.set()
    await asyncio.gather(*callers)
    done = await bright.ask(READ, 60)

    assert set(statuses) == {200}
    assert done["state"] == "DONE"


def _children(parent: int) -> list[int]:
    with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
        return [int(each) for each in file.read().split()]


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
