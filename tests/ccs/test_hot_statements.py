"""What a round trip runs is known: every statement of it has its index in the tests of the plans."""

from typing import Any

import pytest

from doorward.ccs.engines.sql import Batch, Statement
from doorward.ccs.engines.sqlite import FLAVOUR as SQLITE
from doorward.ccs.engines.sqlite import SqliteExecutor
from doorward.ccs.rules.facts import Endpoint
from tests.ccs.town import LIMIT, READ, Town
from tests.engines.store.test_plans import EXPECTED, NEED_NONE, STATEMENTS

NAMES = {id(each): name for name, each in STATEMENTS.items()}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The statements that were run, by their names (their text, where they have none)."""
    seen: set[str] = set()
    for name in ("rows", "do", "many", "kept", "numbered"):
        run = getattr(SqliteExecutor, name)

        async def noted(self: Any, statement: Statement | Batch, *args: Any, run: Any = run) -> Any:
            seen.add(NAMES.get(id(statement)) or statement.on(SQLITE).text)
            return await run(self, statement, *args)

        monkeypatch.setattr(SqliteExecutor, name, noted)
    return seen


async def test_every_statement_of_a_round_trip_is_known_to_go_by_its_index(town: Town, ran: set[str]) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(
            Endpoint(id="e", party="bright", url="https://x", mode="full", pin="00", state="proved")
        )
    )
    ran.clear()
    for ask in (READ, LIMIT):
        request = await town.accepted(ask, key=f"key-{ask['device']}")
        await town.gateway.answer(request.id, {"power_w": 5})
        await town.journey.fetch(town.token(), request.id)
        await town.push()
    await town.store.read(lambda books: books.feed("bright", "", [], 10))
    for duty in (town.upkeep.deadlines, town.upkeep.warnings, town.upkeep.ready, town.upkeep.waiters):
        await duty()
    await town.upkeep.partitions()
    assert len(ran) > 20
    assert ran - EXPECTED.keys() - NEED_NONE == set()
