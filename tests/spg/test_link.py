"""Messages over a link that loses, repeats, reorders, forges; and limits, clock and restarts of that side."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from doorward.spg.rules.facts import US, Policy
from doorward.wire.codec import encode_down
from doorward.wire.messages import Attempt, Hello, Known, Reconcile, Result
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation
from tests.spg.home import GATEWAY, KEY, OTHER, START_US, Home
from tests.spg.virtual import in_virtual_time


async def ready(directory: Path, policy: Policy | None = None, **grant: object) -> Home:
    home = await Home(directory, policy).start()
    await home.greet(**grant)
    return home


@in_virtual_time
async def test_hello_comes_first_and_says_what_is_held(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.restart()
    hellos = home.of(Hello)
    assert [(h.boot, h.provision_version, h.grants) for h in hellos] == [(1, 0, {}), (2, 1, {"g-1": 1})]
    assert hellos[1].born_us >= START_US
    assert all(
        isinstance(frame[0], Hello) == any(isinstance(m, Hello) for m in frame) for frame in home.frames
    )


@in_virtual_time
async def test_ten_copies_are_one_act_and_one_result(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    for _ in range(10):
        await home.tell(command)
    await home.settle(3)
    for _ in range(10):
        await home.tell(command)
    await home.settle(3)
    assert home.adapter.acts_of(command.id) == ["turn_off"]
    assert {r.state for r in home.results(command.id)} == {"DONE"}


@in_virtual_time
async def test_copies_in_one_frame_are_one_act(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.tell(command, command, replace(command, attempt=2))
    await home.settle(3)
    assert home.adapter.acts_of(command.id) == ["turn_off"]


@in_virtual_time
async def test_a_copy_a_month_later_and_after_a_restart_is_still_known(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    done = home.command(Operation.TURN_OFF)
    await home.answer(done)
    await home.sleep(31 * 24 * 3600)
    await home.restart()
    await home.tell(home.time(), home.lease(), replace(done, act_before_us=2**60))
    await home.settle(3)
    assert home.adapter.acts_of(done.id) == ["turn_off"]


@in_virtual_time
async def test_the_partys_own_key_is_used_once(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    first = home.command(Operation.TURN_OFF, party_ref="order-7")
    await home.answer(first)
    again = await home.answer(home.command(Operation.TURN_OFF, party_ref="order-7"))
    assert (again.state, again.reason) == ("REFUSED", Reason.REPLAYED)
    together = [home.command(Operation.READ, party_ref="order-8") for _ in range(2)]
    await home.tell(*together)
    await home.settle(2)
    assert sorted(home.results(c.id)[-1].state for c in together) == ["DONE", "REFUSED"]


@in_virtual_time
async def test_a_duplicate_of_the_link_is_nothing_and_a_replay_is_an_attempt(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    frame = home.frame(home.command(Operation.READ))
    for _ in range(3):
        await home.deliver(frame)
    await home.settle(1)
    assert home.of(Attempt) == []
    home.counter += 2000
    await home.tell(home.time())
    await home.settle(0.2)
    await home.deliver(frame)
    await home.settle(0.2)
    assert [(a.direction, a.reason) for a in home.of(Attempt)] == [("in", Reason.REPLAYED)]


@in_virtual_time
async def test_frames_of_an_older_worker_are_not_taken_any_more(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    late = home.frame(command)
    home.epoch, home.counter = 6, 0
    await home.tell(home.time())
    await home.deliver(late)
    await home.settle(2)
    assert home.adapter.acts == []


@pytest.mark.parametrize("where", [0, 31, 32, 60, -1])
@in_virtual_time
async def test_a_frame_with_one_changed_bit_is_refused_recorded_and_reported(
    tmp_path: Path, where: int
) -> None:
    home = await ready(tmp_path)
    raw = bytearray(home.frame(home.command(Operation.TURN_OFF)))
    raw[where] ^= 1
    await home.deliver(bytes(raw))
    await home.settle(2)
    assert home.adapter.calls == 0
    assert [a.reason for a in home.of(Attempt)] == [Reason.FORGED]
    assert [row.reason for row in await home.journal() if row.step == "attempt"] == ["forged"]


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 4096])
@in_virtual_time
async def test_garbage_is_an_attempt_and_what_comes_after_it_works(tmp_path: Path, raw: bytes) -> None:
    home = await ready(tmp_path)
    for _ in range(50):
        await home.deliver(raw)
    await home.settle(0.5)
    assert len(home.of(Attempt)) == 1
    assert (await home.ask(Operation.READ)).state == "DONE"


@in_virtual_time
async def test_a_frame_for_another_gateway_or_from_another_key_is_refused(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.deliver(encode_down("gw-2", 9, 1, [command], KEY))
    await home.deliver(encode_down(GATEWAY, 9, 2, [command], b"z" * 32))
    await home.settle(1)
    assert home.adapter.calls == 0


@in_virtual_time
async def test_what_is_not_acknowledged_is_said_again_until_it_is(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.acks = False
    command = home.command(Operation.READ)
    await home.tell(command)
    await home.sleep(120)
    said = len(home.results(command.id))
    assert said > 2
    home.acks = True
    await home.sleep(120)
    said = len(home.results(command.id))
    await home.sleep(600)
    assert len(home.results(command.id)) == said
    assert len({r.seq for r in home.results(command.id)}) == 1


@in_virtual_time
async def test_without_a_link_everything_is_kept_and_said_when_it_is_back(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + 60 * US)
    await home.tell(command)
    await home.link.cut()
    await home.sleep(3600)
    assert home.results(command.id) == []
    assert home.adapter.things["pump"].power_w == 1000, "the control ended without the CCS"
    await home.link.mend()
    await home.settle(2)
    assert [r.state for r in home.results(command.id)] == ["DONE"]
    assert Step.RELEASED in home.steps(command.id)


@in_virtual_time
async def test_what_was_not_acknowledged_survives_a_restart(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.acks = False
    done = await home.ask(Operation.READ)
    home.acks = True
    before = len(home.results(done.id))
    await home.restart()
    await home.settle(3)
    assert len(home.results(done.id)) > before


@in_virtual_time
async def test_a_backlog_beyond_the_window_is_sent_in_bounded_frames_and_in_full(tmp_path: Path) -> None:
    home = await ready(
        tmp_path, Policy(sample_us=0, per_hour=10_000, per_day=100_000), tier_hour=10_000, tier_day=99_999
    )
    await home.link.cut()
    home.link.is_up = True  # frames come in, nothing goes out
    commands = [home.command(Operation.READ, "ev") for _ in range(300)]
    for start in range(0, 300, 50):
        await home.tell(*commands[start : start + 50])
        await home.sleep(10)
    await home.link.mend()
    await home.settle(30)
    assert all(home.results(command.id) for command in commands)
    assert max(len(frame) for frame in home.frames) <= 256


@in_virtual_time
async def test_reconciling_repeats_what_is_known_and_says_what_never_came(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    done = await home.ask(Operation.READ)
    before = len(home.results(done.id))
    waiting = home.command(Operation.TURN_OFF, start_us=home.wall.now_us() + 3600 * US)
    lost = home.command(Operation.TURN_OFF)
    await home.tell(waiting)
    await home.settle(1)
    await home.tell(Reconcile(ids=[done.id, waiting.id, lost.id], attempts=[1, 1, 2]))
    await home.settle(1)
    assert [(k.unknown, k.attempts) for k in home.of(Known)] == [([lost.id], [2])]
    assert len(home.results(done.id)) == before + 1
    assert home.steps(waiting.id).count(Step.GATEWAY_RECEIVED) == 2
    await home.tell(lost, replace(lost, attempt=2))
    await home.settle(3)
    assert home.adapter.acts == [], "late copies: the CCS was told that they never came"
    await home.tell(Reconcile(ids=[lost.id], attempts=[1]))
    await home.tell(replace(lost, attempt=2))
    await home.settle(3)
    assert home.of(Known)[-1].attempts == [2], "a question that comes late takes nothing back"
    assert home.adapter.acts == []
    await home.tell(replace(lost, attempt=3))
    await home.settle(3)
    assert home.adapter.acts_of(lost.id) == ["turn_off"], "what the CCS sends anew is taken"


# --- limits --------------------------------------------------------------------------------------------


@in_virtual_time
async def test_twenty_four_transactions_an_hour_and_never_one_more(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    first_us = home.wall.now_us()
    results = []
    for _ in range(13):
        results.append(await home.ask(Operation.READ, act_before_us=2**60))
        await home.sleep(30)
    assert [r.state for r in results] == ["DONE"] * 12 + ["REFUSED"]
    assert results[-1].reason is Reason.LIMIT_EXCEEDED
    await home.sleep((first_us + 3600 * US - home.wall.now_us()) / US)
    assert (await home.ask(Operation.READ)).state == "DONE"
    assert (await home.ask(Operation.READ)).reason is Reason.LIMIT_EXCEEDED


@in_virtual_time
async def test_one_frame_cannot_hold_more_than_the_limit_either(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    commands = [home.command(Operation.READ) for _ in range(20)]
    await home.tell(*commands)
    await home.settle(5)
    states = [home.results(c.id)[-1].state for c in commands]
    assert states == ["DONE"] * 12 + ["REFUSED"] * 8


@in_virtual_time
async def test_a_request_every_five_minutes_is_admitted_all_day_long(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    for n in range(2 * 288):
        if n % 100 == 0:
            await home.tell(home.lease())
        asked_us = home.wall.now_us()
        result = await home.ask(Operation.READ)
        assert result.state == "DONE", f"request {n}: {result.detail}"
        await home.sleep((asked_us + 300 * US + 1000 - home.wall.now_us()) / US)


@in_virtual_time
async def test_the_limit_of_the_service_point_is_for_all_parties_together_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    await home.tell(home.push(home.document("g-2", OTHER, tier_hour=6)))
    theirs = {"party": OTHER, "grant": "g-2"}
    states = [(await home.ask(Operation.READ, **theirs)).state for _ in range(4)]
    assert states == ["DONE", "DONE", "DONE", "REFUSED"], "its tier allows six an hour"
    for _ in range(9):
        assert (await home.ask(Operation.READ)).state == "DONE"
    await home.restart()
    await home.tell(home.time())
    assert (await home.ask(Operation.READ)).reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("off_s", [-91, 91])
@in_virtual_time
async def test_a_charge_time_far_from_the_gateways_clock_is_refused(tmp_path: Path, off_s: int) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.READ, charge_us=home.wall.now_us() + off_s * US)
    assert (await home.answer(command)).reason is Reason.LIMIT_EXCEEDED


@in_virtual_time
async def test_letting_go_costs_nothing_when_the_gateway_does_it(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    until_us = home.wall.now_us() + 600 * US
    for watts in range(100, 112):
        await home.ask(Operation.LIMIT, body={"watts": watts}, until_us=until_us)
    await home.sleep(1300)  # it ends at random, within no more than its length
    assert home.adapter.things["pump"].power_w == 1000


# --- time ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_gateway_that_boots_in_1970_does_nothing_for_third_parties_until_it_has_heard_the_time(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.machine.wrong_us = -START_US
    await home.start()
    await home.tell(home.provision(), home.push(home.document()))
    assert (await home.ask(Operation.TURN_OFF)).reason is Reason.CLOCK_UNTRUSTED
    await home.tell(home.time())
    assert (await home.ask(Operation.TURN_OFF)).state == "DONE"
    await home.restart()
    assert (await home.ask(Operation.READ)).reason is Reason.CLOCK_UNTRUSTED, "and again after every boot"
    assert all(row.at_us >= START_US for row in (await home.journal())[-3:]), (
        "but it never falls behind its store"
    )


@in_virtual_time
async def test_hello_is_said_again_until_the_ccs_has_said_the_time(tmp_path: Path) -> None:
    def hellos() -> int:
        return sum(isinstance(message, Hello) for message in home.heard_messages)

    home = Home(tmp_path)
    await home.start()
    await home.sleep(120)
    said = hellos()
    assert said > 2
    await home.tell(home.time())
    await home.sleep(600)
    assert hellos() == said


@in_virtual_time
async def test_a_boot_in_1970_still_ends_what_ran_and_then_begins_what_waited(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + 100 * US)
    start_us = home.wall.now_us() + 50 * US
    armed = home.command(Operation.TURN_OFF, "tank", start_us=start_us, act_before_us=start_us + 55 * US)
    await home.tell(armed)
    await home.settle(1)
    home.machine.wrong_us = -START_US
    await home.restart()
    await home.sleep(60)
    assert not home.results(armed.id), "it waits for the time"
    await home.tell(home.time())
    await home.settle(3)
    assert home.results(armed.id)[-1].state == "DONE"
    await home.sleep(160)  # it ends at random, within no more than its length
    assert home.adapter.things["pump"].power_w == 1000


@pytest.mark.parametrize("off_s", [-600, 600])
@in_virtual_time
async def test_a_machine_clock_that_is_ten_minutes_wrong_carries_out_nothing_expired(
    tmp_path: Path, off_s: int
) -> None:
    home = Home(tmp_path)
    home.machine.wrong_us = off_s * US
    await home.start()
    await home.greet()
    late = home.command(Operation.TURN_OFF, act_before_us=home.wall.now_us() - US)
    assert (await home.answer(late)).state == "EXPIRED"
    assert (await home.ask(Operation.TURN_OFF)).state == "DONE"


@pytest.mark.parametrize("off_s", [-30, 30])
@in_virtual_time
async def test_half_a_minute_of_skew_refuses_nothing_valid(tmp_path: Path, off_s: int) -> None:
    home = await ready(tmp_path)
    home.machine.wrong_us = off_s * US
    assert (await home.ask(Operation.READ)).state == "DONE"


@in_virtual_time
async def test_with_a_full_outbox_no_new_command_is_taken_and_none_is_lost(tmp_path: Path) -> None:
    home = await ready(tmp_path, Policy(sample_us=0, outbox_max=8))
    home.acks = False
    first = home.command(Operation.READ)
    await home.answer(first)
    second = home.command(Operation.READ, act_before_us=2**60)
    for _ in range(3):
        await home.tell(home.command(Operation.READ))
        await home.settle(1)
    await home.tell(second)
    await home.settle(1)
    assert not [m for m in home.of(Result) if m.id == second.id]
    home.acks = True
    await home.sleep(130)
    await home.tell(replace(second, charge_us=home.wall.now_us()))
    await home.settle(2)
    assert home.results(second.id)[-1].state == "DONE"
