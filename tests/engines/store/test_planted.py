"""Two bugs that only a database with row locks can show, planted to see that this suite finds them, repeatedly."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from doorward.ccs.engines.sql import Statement
from doorward.ccs.engines.store import accept, dispatch
from doorward.ccs.ports import AllBooks
from tests.engines.store.records import HOUR, NOW, request
from tests.engines.store.rigs import OneByOne, Rig

ROUNDS_MAX = 20
"""Each bug must be found within so many rounds."""
WRITERS = 8
LIMIT = 3


def _unlocked(make: Callable[[], Statement]) -> Statement:
    """Make a statement that is no part of the house: the tests of all statements must not see it."""
    known = list(Statement.every)
    planted = make()
    Statement.every[:] = known
    return planted


LIMITS_WITHOUT_LOCK = _unlocked(lambda: Statement(lambda flavour: accept._limits(flavour), "keys"))


@pytest.fixture(autouse=True)
def only_where_transactions_overlap(rig: Rig) -> None:
    if isinstance(rig, OneByOne):
        pytest.skip("one writer: its transactions never overlap, and neither bug can be seen")


def charging(rig: Rig, key: str) -> Callable[[AllBooks], Awaitable[bool]]:
    """Admit one message under ``LIMIT``: lock, look, write."""

    async def step(books: AllBooks) -> bool:
        logs = await books.lock_limits([key])
        await rig.dawdle()
        if len(logs[key].times_us) >= LIMIT:
            return False
        logs[key].times_us.append(NOW)
        await books.write_limits(list(logs.values()))
        return True

    return step


async def test_a_limit_without_its_row_lock_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def admitted(key: str) -> int:
        stores = (rig.store, rig.other)
        steps = (stores[at % 2].write(charging(rig, key)) for at in range(WRITERS))
        return sum(await asyncio.gather(*steps))

    assert [await admitted(f"locked-{round_}") for round_ in range(3)] == [LIMIT] * 3
    monkeypatch.setattr(accept, "LOCK_LIMITS", LIMITS_WITHOUT_LOCK)
    counts = [await admitted(f"planted-{round_}") for round_ in range(ROUNDS_MAX)]
    assert max(counts) > LIMIT, "the bug was planted and nobody noticed"


def claiming() -> Callable[[AllBooks], Awaitable[list[str]]]:
    """Take what is ready and mark it as sent, as dispatch does."""

    async def step(books: AllBooks) -> list[str]:
        ready = await books.claim_ready(["gw-1"], NOW, 5, 1000)
        sent = [replace(each, state="SENT", ready_us=NOW + HOUR, attempt=each.attempt + 1) for each in ready]
        await books.update_requests(sent)
        return [each.id for each in sent]

    return step


async def test_a_claim_without_its_guard_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def twice() -> int:
        """How many requests were taken by two."""
        waiting = [request(due_us=NOW + at) for at in range(20)]
        await rig.store.write(lambda books: books.insert_requests(waiting))
        stores = (rig.store, rig.other)
        batches = await asyncio.gather(*(stores[at % 2].write(claiming()) for at in range(WRITERS)))
        taken = [id for batch in batches for id in batch]
        return len(taken) - len(set(taken))

    assert [await twice() for _ in range(3)] == [0] * 3
    monkeypatch.setattr(dispatch, "locked", lambda statement, **_: statement)
    planted = _unlocked(lambda: Statement(dispatch._claim, "gateways", "now", "room", "class_max"))
    monkeypatch.setattr(dispatch, "CLAIM_READY", planted)
    assert any([await twice() for _ in range(ROUNDS_MAX)]), "the bug was planted and nobody noticed"
