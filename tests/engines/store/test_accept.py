import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import LimitLog, Request
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step
from doorward.wire.vocabulary import Operation, Scope, Wish
from tests.engines.store.records import DAY, HOUR, NOW, S, doing, journal_row, new_id, request
from tests.engines.store.rigs import Rig, contend

MS = 1000


def full_request() -> Request:
    """A request in which every field differs from its default."""
    return request(
        scope=Scope.SERVICE_POINT,
        operation=Operation.LIMIT,
        device="pump",
        format="limit/1",
        body=msgspec.Raw(b'{"watts":1000}'),
        cause="grid",
        start_us=NOW + 1,
        until_us=NOW + HOUR,
        campaign="summer",
        wish=Wish.HIGH,
        key="k-1",
        body_hash="abc",
        signature="jws",
        charged=1,
        attempt=3,
        sent_us=NOW + 2,
        at_gateway_us=NOW + 3,
        to_han_us=NOW + 4,
        answered_us=NOW + 5,
        passed_up_us=NOW + 6,
        taken_us=NOW + 7,
        final_us=NOW + 8,
        reason=Reason.DEVICE_FAULT,
        detail="it said no – twice",
        result=msgspec.Raw(b'{"state":"ERROR"}'),
        answer="DELIVERED",
        answer_us=NOW + 9,
        settlement="DONE",
        cancel_asked=True,
        worker="w-1",
        ready_us=None,
    )


async def test_a_request_comes_back_as_it_was_put(rig: Rig) -> None:
    whole = full_request()
    assert await rig.store.write(lambda books: books.insert_requests([whole])) == {whole.id}
    assert await rig.store.read(lambda books: books.requests([whole.id, new_id()])) == {whole.id: whole}


async def test_everything_that_moves_is_written_and_what_is_fixed_stays(rig: Rig) -> None:
    first = request(key="k-1")
    moved = replace(full_request(), id=first.id)
    await rig.store.write(lambda books: books.insert_requests([first]))
    await rig.store.write(lambda books: books.update_requests([moved]))
    found = (await rig.store.read(lambda books: books.requests([first.id])))[first.id]
    fixed = {"scope", "operation", "device", "format", "body", "cause", "start_us", "until_us", "campaign"}
    fixed |= {"wish", "body_hash", "signature"}
    assert found == replace(moved, **{name: getattr(first, name) for name in fixed})


async def test_a_key_is_taken_once_per_party_and_the_others_of_the_batch_go_in(rig: Rig) -> None:
    first, again, foreign, free = (
        request(key="k"),
        request(key="k"),
        request(key="k", party="amp"),
        request(),
    )
    await rig.store.write(lambda books: books.insert_requests([first]))
    went_in = await rig.store.write(lambda books: books.insert_requests([again, foreign, free]))
    found = await rig.store.read(
        lambda books: books.requests_by_key([("volt", "k"), ("amp", "k"), ("x", "k")])
    )
    assert went_in == {foreign.id, free.id}
    assert found == {("volt", "k"): first, ("amp", "k"): foreign}


async def test_requests_without_a_key_never_meet(rig: Rig) -> None:
    several = [request() for _ in range(3)]
    assert await rig.store.write(lambda books: books.insert_requests(several)) == {
        each.id for each in several
    }
    assert await rig.store.read(lambda books: books.requests_by_key([("volt", "")])) == {}


async def test_of_two_with_one_key_at_once_one_goes_in_and_the_other_finds_it(rig: Rig) -> None:
    one, two = request(key="k"), request(key="k")

    def asking(wanted: Request) -> Callable[[AllBooks], Awaitable[tuple[set[str], Request]]]:
        async def step(books: AllBooks) -> tuple[set[str], Request]:
            went_in = await books.insert_requests([wanted])
            return went_in, (await books.requests_by_key([("volt", "k")]))["volt", "k"]

        return step

    first, second = await contend(rig, asking(one), asking(two))
    assert first == ({one.id}, one)
    assert second == (set(), one)


async def test_a_limit_log_keeps_its_times_to_the_millisecond(rig: Rig) -> None:
    times = [NOW, NOW, NOW + MS, NOW + DAY]
    log = LimitLog(key="sp|1", times_us=times, last_us=NOW + DAY + 7)
    await rig.store.write(lambda books: books.lock_limits(["sp|1", "sp|2"]))
    await rig.store.write(lambda books: books.write_limits([log]))
    locked = await rig.store.write(lambda books: books.lock_limits(["sp|2", "sp|1"]))
    assert locked == {"sp|1": log, "sp|2": LimitLog(key="sp|2", times_us=[], last_us=0)}
    assert await rig.store.read(lambda books: books.limits(["sp|1", "sp|3"])) == {"sp|1": log}


async def test_a_charge_between_milliseconds_is_a_mistake(rig: Rig) -> None:
    with pytest.raises(ValueError, match="whole milliseconds"):
        await rig.store.write(lambda books: books.write_limits([LimitLog(key="k", times_us=[NOW + 1])]))


runs: list[int] = []


def charging(rig: Rig, keys: list[str], limit: int) -> Callable[[AllBooks], Awaitable[bool]]:
    """Admit one message under ``limit`` in the way of the real one: lock, look, write."""

    async def step(books: AllBooks) -> bool:
        runs.append(1)
        logs = await books.lock_limits(keys)
        await rig.dawdle()
        if any(len(log.times_us) >= limit for log in logs.values()):
            return False
        for log in logs.values():
            log.times_us.append(NOW)
        await books.write_limits(list(logs.values()))
        return True

    return step


async def test_two_that_charge_a_new_key_at_once_see_each_other(rig: Rig) -> None:
    admitted = await contend(rig, charging(rig, ["k"], 1), charging(rig, ["k"], 1))
    assert admitted == (True, False)


async def test_many_writers_never_exceed_a_limit(rig: Rig) -> None:
    runs.clear()
    for round_ in range(3):
        keys = [f"{round_}-{at}" for at in range(400)]
        stores = [rig.store, rig.other]
        # Half of them name the keys the other way round: were they not locked in one order, they would
        # wait for each other.
        steps = [charging(rig, keys[:: 1 if at % 2 else -1], 6) for at in range(16)]
        admitted = await asyncio.gather(*(stores[at % 2].write(step) for at, step in enumerate(steps)))
        logs = await rig.store.read(lambda books, keys=keys: books.limits(keys))  # type: ignore[misc]
        assert sum(admitted) == 6
        assert {len(logs[key].times_us) for key in keys} == {6}
    assert len(runs) == 3 * 16, "some were run again, for they had locked in another order"


async def test_a_journey_is_read_in_the_order_in_which_it_was_written(rig: Rig) -> None:
    message, stranger = new_id(), new_id()
    await rig.store.write(
        doing(
            lambda books: books.write_journal(
                [journal_row(message, Step.RECEIVED, Step.RECORDED), journal_row(stranger, Step.RECEIVED)]
            ),
            lambda books: books.write_journal([journal_row(message, Step.PASSED_TO_GATEWAY, at_us=NOW - S)]),
        )
    )
    rows = await rig.store.read(lambda books: books.journal(message))
    assert rows == [
        journal_row(message, Step.RECEIVED, Step.RECORDED),
        journal_row(message, Step.PASSED_TO_GATEWAY, at_us=NOW - S),
    ]


async def test_a_journey_of_any_age_is_found_before_and_after_its_day_has_a_place(rig: Rig) -> None:
    messages = [new_id(NOW + days * DAY) for days in (-400, -1, 0, 3, 30)]
    await rig.store.write(
        lambda books: books.write_journal([journal_row(each, Step.RECEIVED) for each in messages])
    )
    await rig.store.write(lambda books: books.prune(NOW + 30 * DAY))
    await rig.store.write(
        lambda books: books.write_journal([journal_row(each, Step.RECORDED) for each in messages])
    )
    for message in messages:
        rows = await rig.store.read(lambda books, id=message: books.journal(id))  # type: ignore[misc]
        assert [row.steps[0].step for row in rows] == [Step.RECEIVED, Step.RECORDED]


async def test_what_is_no_message_has_no_journey(rig: Rig) -> None:
    assert await rig.store.read(lambda books: books.journal("'; DROP TABLE journal --")) == []


async def test_a_step_keeps_its_reason_and_outcome(rig: Rig) -> None:
    row = journal_row(new_id(), Step.AUTHORISED)
    step = replace(row.steps[0], outcome=Outcome.REFUSED, reason=Reason.DEVICE_UNKNOWN, detail="“who?”")
    row = replace(row, steps=[step])
    await rig.store.write(lambda books: books.write_journal([row]))
    assert await rig.store.read(lambda books: books.journal(row.message)) == [row]
