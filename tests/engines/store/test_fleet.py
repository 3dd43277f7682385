"""Caps hold however many write at once: the lock on the logs, on every engine."""

import asyncio
from collections.abc import Sequence

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.fleet import (
    Caps,
    FleetLog,
    FleetTerms,
    Hold,
    Load,
    Move,
    Quarantined,
    Scales,
    keys_of,
)
from tests.engines.store.records import HOUR, NOW, new_id, request
from tests.engines.store.rigs import Rig, contend

S = 1_000_000
WRITERS = 8
EACH = 25
TERMS = FleetTerms(
    fleet=Caps(100_000, 10**9),
    area=Caps(10**9, 60_000),
    party=Caps(40_000, 10**9),
    campaign_w=10**12,
    spread_s=0,
)


def load(party: str, subject: str, w: int = 1_000) -> Load:
    return Load(
        request=subject,
        party=party,
        area="north",
        subject=subject,
        move=Move(0, w),
        begin_us=NOW,
        until_us=NOW + HOUR,
    )


async def weigh(rig: Rig, books: AllBooks, loads: Sequence[Load]) -> int:
    """What the accepting transaction does; how many fitted."""
    logs = await books.lock_fleet({key for each in loads for key in keys_of(each.party, each.area)})
    await rig.dawdle()
    scales = Scales(logs, TERMS, NOW)
    weighed = [(each, scales.weigh(each, None)) for each in loads]
    went = [(each, result.spread_s) for each, result in weighed if not result.over]
    await books.put_fleet_holds([scales.hold(each, spread_s) for each, spread_s in went])
    await books.write_fleet(list(logs.values()))
    return len(went)


async def test_eight_writers_at_once_fill_the_cap_and_never_exceed_it(home: Rig) -> None:
    async def writer(number: int) -> int:
        store = home.other if number % 2 else home.store
        went = 0
        for n in range(EACH):
            loads = [load(party, f"{party}-{number}-{n}") for party in ("volt", "amp")]
            went += await store.write(lambda books, loads=loads: weigh(home, books, loads))  # type: ignore[misc]
        return went

    went = sum(await asyncio.gather(*(writer(number) for number in range(WRITERS))))
    logs = {log.key: log for log in await home.store.read(lambda books: books.fleet_logs(100))}
    assert went == 60, "the area's cap on what is held, in kW"
    assert sum(logs["area|north|lower"].held.values()) == 60_000
    for party in ("volt", "amp"):
        assert sum(logs[f"party|{party}|lower"].moved.values()) <= 40_000
    moved = sum(sum(logs[f"party|{party}|lower"].moved.values()) for party in ("volt", "amp"))
    assert moved == sum(logs["fleet|lower"].moved.values()) == 60_000


async def test_of_two_that_begin_a_log_at_once_the_second_sees_the_first(home: Rig) -> None:
    async def step(books: AllBooks) -> int:
        return await weigh(home, books, [load("volt", new_id(), 30_000)])

    assert sorted(await contend(home, step, step)) == [0, 1]


async def test_logs_holds_and_quarantine_come_back_as_they_were_written(home: Rig) -> None:
    log = FleetLog(key="fleet|raise", moved={179_000_000: 5, 179_000_001: 6}, held={6_000_000: 11})
    held = Hold(
        party="volt",
        subject="pump",
        request="r-1",
        area="north",
        raise_w=5,
        lower_w=6,
        at_us=NOW,
        until_us=NOW + HOUR,
    )
    waiting = request(state="QUARANTINED", ready_us=None)
    record = Quarantined(
        request=waiting.id,
        party="volt",
        subject="pump",
        area="north",
        campaign="evening",
        raise_w=0,
        lower_w=750,
        since_us=NOW,
        why="the cap of volt",
    )

    async def write(books: AllBooks) -> None:
        await books.lock_fleet([log.key])
        await books.write_fleet([log])
        await books.put_fleet_holds([held])
        await books.insert_requests([waiting])
        await books.put_quarantined([record])

    async def read(books: AllBooks) -> list[object]:
        return [
            await books.fleet_logs(10),
            await books.fleet_holds([("volt", "pump"), ("amp", "pump")]),
            await books.fleet_holds_of(["r-1", "r-2"]),
            await books.list_quarantined(party="volt", area="north", campaign="evening"),
            await books.list_quarantined(party="amp"),
            await books.list_quarantined(after=waiting.id),
            await books.lock_quarantined([waiting.id]),
            await books.quarantined_count(),
        ]

    await home.store.write(write)
    expected: list[object] = [
        [log],
        {("volt", "pump"): held},
        [held],
        [record],
        [],
        [],
        {waiting.id: record},
        1,
    ]
    assert await home.store.write(read) == expected
    await home.store.write(lambda books: books.end_quarantine([waiting.id]))
    assert await home.store.read(lambda books: books.quarantined_count()) == 0


async def test_what_was_let_go_is_found_no_more(home: Rig) -> None:
    gone = Hold(
        party="volt",
        subject="pump",
        request="r-1",
        area="",
        raise_w=5,
        lower_w=0,
        at_us=NOW,
        until_us=NOW + S,
        let_go=True,
    )
    await home.store.write(lambda books: books.put_fleet_holds([gone]))
    assert await home.store.write(lambda books: books.fleet_holds_of(["r-1"])) == []
