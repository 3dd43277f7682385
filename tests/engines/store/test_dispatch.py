import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec import Struct
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks, LeaseLost
from doorward.ccs.rules.facts import Request
from doorward.wire.topics import partition_of
from tests.engines.store.records import HOUR, NOW, S, gateway, request
from tests.engines.store.rigs import Rig, contend, while_open


class Held(Struct):
    worker: str
    epoch: int
    partitions: frozenset[int]


def claiming(
    gateways: list[str], room: int = 100, class_max: int = 1000
) -> Callable[[AllBooks], Awaitable[list[str]]]:
    """Take what is ready and send it, as dispatch does."""

    async def step(books: AllBooks) -> list[str]:
        ready = await books.claim_ready(gateways, NOW, room, class_max)
        sent = [replace(each, state="SENT", ready_us=NOW + HOUR, attempt=each.attempt + 1) for each in ready]
        await books.update_requests(sent)
        return [each.id for each in sent]

    return step


async def put(rig: Rig, *requests: Request) -> None:
    await rig.store.write(lambda books: books.insert_requests(requests))


async def test_the_most_urgent_class_goes_first_then_the_earliest_deadline(rig: Rig) -> None:
    late = request(klass=10, due_us=NOW + 50 * S)
    soon = request(klass=10, due_us=NOW + 5 * S)
    urgent = request(klass=0, due_us=NOW + 59 * S)
    slow = request(klass=12, due_us=NOW + S)
    await put(rig, slow, late, urgent, soon)
    assert await rig.store.write(claiming(["gw-1"])) == [urgent.id, soon.id, late.id, slow.id]


async def test_only_what_is_ready_and_of_a_class_that_may_go_is_taken(rig: Rig) -> None:
    ready, later, nothing, low, elsewhere = (
        request(),
        request(ready_us=NOW + 1),
        request(ready_us=None),
        request(klass=20),
        request(gateway="gw-2"),
    )
    await put(rig, ready, later, nothing, low, elsewhere)
    assert await rig.store.write(claiming(["gw-1", "gw-9"], class_max=11)) == [ready.id]


async def test_each_gateway_has_its_own_room_and_gets_its_most_urgent(rig: Rig) -> None:
    of_one = [request(due_us=NOW + at * S) for at in range(5)]
    of_two = [request(gateway="gw-2", due_us=NOW + at * S) for at in range(3)]
    await put(rig, *reversed(of_one), *reversed(of_two))
    taken = await rig.store.write(claiming(["gw-1", "gw-2"], room=2))
    assert set(taken) == {each.id for each in (*of_one[:2], *of_two[:2])}


async def test_no_request_is_taken_by_two(rig: Rig) -> None:
    waiting = [request(due_us=NOW + at) for at in range(60)]
    await put(rig, *waiting)

    async def some(at: int) -> list[str]:
        store = rig.store if at % 2 else rig.other
        return await store.write(claiming(["gw-1"], room=5))

    batches = await asyncio.gather(*(some(at) for at in range(24)))
    taken = [id for batch in batches for id in batch]
    assert len(taken) == len(set(taken)), "a device would have switched twice"


async def test_what_another_transaction_has_taken_is_skipped_not_waited_for(rig: Rig) -> None:
    first, second = request(due_us=NOW + 1), request(due_us=NOW + 2)
    await put(rig, first, second)
    taken = await while_open(rig, claiming(["gw-1"], room=1), claiming(["gw-1"], room=1))
    assert taken == ([first.id], [second.id])


async def test_gateways_with_something_ready_are_found_in_the_partitions_that_one_owns(rig: Rig) -> None:
    await put(rig, request(), request(), request(gateway="gw-2"), request(gateway="gw-3", ready_us=NOW + 1))
    mine = [partition_of("gw-2"), partition_of("gw-3")]
    everywhere = await rig.store.read(lambda books: books.ready_gateways(None, NOW, 10))
    owned = await rig.store.read(lambda books: books.ready_gateways(mine, NOW, 10))
    one = await rig.store.read(lambda books: books.ready_gateways(None, NOW, 1))
    none = await rig.store.read(lambda books: books.ready_gateways([], NOW, 10))
    assert (everywhere, owned, len(one), none) == ({"gw-1", "gw-2"}, {"gw-2"}, 1, set())


async def test_open_requests_of_a_gateway_are_those_that_it_may_have(rig: Rig) -> None:
    sent, there, queued, done, elsewhere = (
        request(state=state, gateway=at)
        for state, at in [
            ("SENT", "gw-1"),
            ("AT_GATEWAY", "gw-1"),
            ("QUEUED", "gw-1"),
            ("DONE", "gw-1"),
            ("SENT", "gw-2"),
        ]
    )
    await put(rig, sent, there, queued, done, elsewhere)
    assert await rig.store.read(lambda books: books.open_at("gw-1")) == sorted([sent.id, there.id])


async def test_two_that_change_a_request_do_it_one_after_the_other(rig: Rig) -> None:
    first = request()
    await put(rig, first)

    async def count(books: AllBooks) -> None:
        found = (await books.requests([first.id], lock=True))[first.id]
        await rig.dawdle()
        await books.update_requests([replace(found, attempt=found.attempt + 1)])

    await asyncio.gather(*((rig.store if at % 2 else rig.other).write(count) for at in range(20)))
    found = await rig.store.read(lambda books: books.requests([first.id]))
    assert found[first.id].attempt == 20


async def test_marks_of_frames_are_kept(home: Rig) -> None:
    await home.store.write(lambda books: books.mark_frames({"gw-1": (7, 42), "gw-9": (1, 1)}, NOW + 5))
    found = await home.store.read(lambda books: books.gateways(["gw-1", "gw-9"]))
    assert {id: (each.up_epoch, each.up_counter, each.seen_us) for id, each in found.items()} == {
        "gw-1": (7, 42, NOW + 5)
    }
    marks = await home.store.write(lambda books: books.frame_marks(["gw-1", "gw-9"]))
    assert marks == {"gw-1": (7, 42)}


async def test_a_gateway_comes_back_as_it_was_put(rig: Rig) -> None:
    whole = gateway(
        key_generation=2,
        certificate="ab",
        code_hash="cd",
        code_expires_us=1,
        up_epoch=2,
        up_counter=3,
        desired_version=4,
        applied_version=5,
        applied_us=6,
        seen_us=7,
    )
    await rig.store.write(lambda books: books.put_gateways([gateway(), whole]))
    assert await rig.store.write(lambda books: books.gateways(["gw-1"], lock=True)) == {"gw-1": whole}


async def lease(rig: Rig, worker: str, *partitions: int, now_us: int = NOW) -> Held:
    epoch, held = await rig.store.write(
        lambda books: books.take_leases(worker, partitions, now_us, now_us + 30 * S)
    )
    return Held(worker, epoch, frozenset(held))


async def test_a_fence_lets_pass_only_who_holds_all_partitions_now(rig: Rig) -> None:
    held = await lease(rig, "w-1", 1, 2)
    await rig.store.write(lambda books: books.fence(held, [2, 1, 2], NOW))
    await rig.store.write(lambda books: books.fence(held, [], NOW))
    stale = replace(held, epoch=held.epoch - 1)
    stranger = replace(held, worker="w-2")
    for claim, partitions, now_us in [
        (held, [1, 3], NOW),
        (held, [1], NOW + 30 * S),
        (stale, [1], NOW),
        (stranger, [1], NOW),
    ]:
        with pytest.raises(LeaseLost):
            await rig.store.write(lambda books, c=claim, p=partitions, n=now_us: books.fence(c, p, n))  # type: ignore[misc]


async def test_those_who_send_under_one_lease_do_not_wait_for_each_other(rig: Rig) -> None:
    held = await lease(rig, "w-1", 1, 2)
    await while_open(
        rig, lambda books: books.fence(held, [1, 2], NOW), lambda books: books.fence(held, [2, 1], NOW)
    )


async def test_who_takes_a_lease_over_waits_for_what_is_being_sent_under_it(rig: Rig) -> None:
    held = await lease(rig, "w-1", 1)
    order: list[str] = []
    later_us = NOW + 31 * S

    async def send(books: AllBooks) -> None:
        await books.fence(held, [1], NOW)

    async def sending(books: AllBooks) -> None:
        await send(books)
        order.append("sent")

    async def taking(books: AllBooks) -> None:
        _, taken = await books.take_leases("w-2", [1], later_us, later_us + 30 * S)
        order.append(f"taken {taken}")

    async def slow(books: AllBooks) -> None:
        await sending(books)
        await rig.dawdle()

    await contend(rig, slow, taking)
    assert order == ["sent", "taken {1}"]
    with pytest.raises(LeaseLost):
        await rig.store.write(send)


async def test_who_is_being_replaced_finds_out_when_the_new_lease_commits(rig: Rig) -> None:
    held = await lease(rig, "w-1", 1)
    later_us = NOW + 31 * S

    async def sending(books: AllBooks) -> str:
        try:
            # By its own clock, which is behind, the old lease still runs.
            await books.fence(held, [1], NOW)
        except LeaseLost:
            return "lost"
        return "sent"

    _, old = await contend(rig, lambda books: books.take_leases("w-2", [1], later_us, later_us + S), sending)
    assert old == "lost"


async def test_of_many_the_final_ones_are_told_apart(rig: Rig) -> None:
    open_still, over, unknown = request(), request(state="DONE", final_us=NOW), request()
    await put(rig, open_still, over)
    asked = [open_still.id, over.id, unknown.id]
    assert await rig.store.read(lambda books: books.final_among(asked)) == {over.id}
