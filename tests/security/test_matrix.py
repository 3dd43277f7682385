"""Every operation of every door, by everybody, about their own, another's and nobody's things: deny unless listed.

Rows come from the description that the running door gives, so that nothing new can escape.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tests.ccs.doors.service import Reply
from tests.security.doors import ABSENT, DOORS, Caller, Door, Row, fill, operations, own_things
from tests.security.world import TENANTS, World, canary, running

CELLS = [(door, operation) for door in DOORS for operation in door.rows()]
IDS = [f"{door.name} {operation}" for door, operation in CELLS]
NO = (401, 403)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One CCS for all rows: what a call may change, each row makes anew for itself."""
    async with running(tmp_path_factory.mktemp("matrix")) as built:
        yield built


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_no_operation_of_a_door_is_without_a_row(door: Door, world: World) -> None:
    described = operations((await world.call("GET", door.description)).json)
    listed = {operation.partition("#")[0] for operation in door.rows()}

    assert described == listed
    known = {*door.callers, "everybody"}
    assert not {who for row in door.rows().values() for who in row.may} - known


@pytest.mark.parametrize(("door", "operation"), CELLS, ids=IDS)
async def test_only_who_is_listed_gets_an_answer(door: Door, operation: str, world: World) -> None:
    row = door.rows()[operation]
    denied = {name: caller for name, caller in door.callers.items() if not _may(row, name)}
    allowed = {name: caller for name, caller in door.callers.items() if _may(row, name)}

    await _require_denied(world, operation, row, denied)
    for name, caller in allowed.items():
        await _require_allowed(world, operation, row, name, caller)


async def _require_denied(world: World, operation: str, row: Row, callers: Mapping[str, Caller]) -> None:
    """Refused alike whatever it is about, on record, and nothing has changed."""
    things = {tenant: await own_things(world, tenant, row) for tenant in TENANTS}
    shown = {name: await caller.headers(world) for name, caller in callers.items()}
    before, rows = world.books(), await world.rows_in_journal()
    asked = {
        name: [
            _ask(world, operation, row, each, shown[name])
            for each in (things[caller.tenant], things[_stranger(caller)], ABSENT)
        ]
        for name, caller in callers.items()
    }
    for name, replies in zip(asked, await _all(asked.values()), strict=True):
        for reply in replies:
            assert all(status in NO for status in _statuses(reply)), (name, reply.body)
            _require_no_leak(reply, but="")
        assert len({_said(reply) for reply in replies[1:]}) == 1, (name, [reply.body for reply in replies])
    assert world.books() == before
    assert await world.rows_in_journal() >= rows + 3 * len(callers)


async def _require_allowed(world: World, operation: str, row: Row, name: str, caller: Caller) -> None:
    """Answered about its own; another's thing looks exactly like one that is not there, and is not touched."""
    headers = await caller.headers(world)
    own = await own_things(world, caller.tenant, row)
    reply = await _ask(world, operation, row, own, headers, until=canary(caller.tenant).encode())
    expected = (row.answer,) if row.answer else range(200, 300)
    assert all(status in expected for status in _statuses(reply)), (name, reply.body)
    if row.is_of_all:
        return
    _require_no_leak(reply, but=caller.tenant)

    if row.things and row.things != ["format"]:
        others = await own_things(world, _stranger(caller), row)
        before = world.books()
        foreign = await _ask(world, operation, row, others, headers)
        assert world.books() == before, name
        absent = await _ask(world, operation, row, ABSENT, headers)
        assert _said(foreign) == _said(absent), name
        hidden = row.foreign == "hidden"
        assert all((status == 404) == hidden for status in _statuses(foreign)), (name, foreign.body)
        assert hidden or _is_empty(foreign), foreign.body
        _require_no_leak(foreign, but=caller.tenant)


async def _all(asked: Iterable[list[Coroutine[Any, Any, Reply]]]) -> list[list[Reply]]:
    """All at once, as callers come."""
    return list(await asyncio.gather(*(asyncio.gather(*each) for each in asked)))


def _stranger(caller: Caller) -> str:
    return "sun" if caller.tenant != "sun" else "bright"


def _may(row: Row, name: str) -> bool:
    return name in row.may or "everybody" in row.may


async def _ask(
    world: World, operation: str, row: Row, things: dict[str, str], headers: Any, until: bytes = b""
) -> Reply:
    method, path, body, more = fill(operation, row, things)
    return await world.call(method, path, headers={**headers, **more}, body=body, until=until)


def _statuses(reply: Reply) -> list[int]:
    """The status, or those of a list's items."""
    if reply.status == 200 and reply.body.startswith(b'{"items":[{"status":'):
        return [item["status"] for item in reply.json["items"]]
    return [reply.status]


def _said(reply: Reply) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    """What a caller can see of an answer, but for the id that every call has."""
    id = reply.headers["x-request-id"]
    body = re.sub(
        rb'"request_id":"[0-9a-f-]{36}"', b'"request_id":"*"', reply.body.replace(id.encode(), b"*")
    )
    seen = {name.lower(): value for name, value in reply.headers.items()}
    varying = {"date", "x-request-id", "content-length"}
    return reply.status, body, tuple(sorted((n, v) for n, v in seen.items() if n not in varying))


def _is_empty(reply: Reply) -> bool:
    return not [
        item for value in json.loads(reply.body).values() if isinstance(value, list) for item in value
    ]


def _require_no_leak(reply: Reply, *, but: str) -> None:
    for tenant in TENANTS:
        if tenant != but:
            assert canary(tenant).encode() not in reply.body, tenant


async def test_a_row_that_allows_too_much_is_found(world: World) -> None:
    """The matrix can fail: an operation that lets the wrong ones in, or shows another's thing, is seen."""
    door, operation = DOORS[0], "GET /v1/devices/{device}"
    row = door.rows()[operation]
    with pytest.raises(AssertionError):
        await _require_denied(world, operation, row, {"both": door.callers["both"]})
    with pytest.raises(AssertionError):
        await _require_allowed(world, operation, row, "control", door.callers["control"])
    seeing = replace(door.callers["stranger"], tenant="bright")
    with pytest.raises(AssertionError):
        await _require_allowed(world, operation, row, "stranger", seeing)
