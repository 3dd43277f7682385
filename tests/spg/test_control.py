"""Scenario 2 at the gateway: told, read back, ended by itself."""

import asyncio
from pathlib import Path

import pytest

from doorward.spg.rules.facts import HOUR_US, MINUTE_US, US
from doorward.wire.messages import Cancel, Notice
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step
from doorward.wire.vocabulary import Operation, Scope
from tests.spg.home import OTHER, Home, data_of, permit
from tests.spg.virtual import in_virtual_time


async def ready(directory: Path, **grant: object) -> Home:
    home = await Home(directory).start()
    await home.greet(**grant)
    return home


@in_virtual_time
async def test_a_pump_is_turned_off_and_its_own_reading_confirms_it(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.TURN_OFF)
    data = data_of(result)
    assert result.state == "DONE"
    assert (data["before"]["power_w"], data["power_w"]) == (1000.0, 0.0)
    assert home.adapter.acts_of(result.id) == ["turn_off"]
    assert {"started", "until", "ends"} <= data.keys()


@in_virtual_time
async def test_a_pump_that_does_not_follow_is_not_done(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].lies = True
    result = await home.ask(Operation.TURN_OFF)
    assert (result.state, result.reason) == ("FAILED", Reason.DEVICE_NOT_FOLLOWING)
    await home.settle(3600)
    assert len(home.adapter.acts) == 1, "what it never held is not written back"


@in_virtual_time
async def test_a_control_ends_by_itself_after_four_hours_when_nobody_says(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.LIMIT, body={"watts": 300})
    assert home.adapter.things["pump"].power_w == 300
    await home.sleep(4 * 3600 - 60)
    assert home.adapter.things["pump"].power_w == 300
    await home.sleep(25 * 60)
    assert home.adapter.things["pump"].power_w == 1000
    assert Step.RELEASED in home.steps(result.id)
    assert [act[2] for act in home.adapter.acts] == ["limit", "release"]
    assert home.adapter.acts[1][0] != result.id, "a release has an id of its own"


@in_virtual_time
async def test_a_control_ends_at_random_after_its_until_within_no_more_than_its_length(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    until_us = home.wall.now_us() + 100 * US
    await home.ask(Operation.TURN_OFF, until_us=until_us)
    await home.settle(600, until=lambda: len(home.adapter.acts) == 2)
    assert until_us <= home.wall.now_us() <= until_us + 101 * US


@in_virtual_time
async def test_the_random_end_stays_inside_the_customers_hours(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[permit("pump", Operation.TURN_OFF, hours_max=1.0)])
    start_us = home.wall.now_us()
    await home.ask(Operation.TURN_OFF, until_us=start_us + HOUR_US, start_us=start_us)
    await home.settle(7200, until=lambda: len(home.adapter.acts) == 2)
    assert home.wall.now_us() < start_us + HOUR_US + 2 * US


@in_virtual_time
async def test_a_control_for_tomorrow_is_kept_and_begins_in_its_time(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + 20 * HOUR_US
    command = home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us + 55 * US)
    await home.tell(command)
    await home.settle(2)
    waiting = [r for r in home.receipts(command.id) if r.outcome is Outcome.WAITING]
    assert len(waiting) == 1
    await home.sleep(20 * 3600 - 60)
    assert home.adapter.acts == []
    await home.tell(home.lease())
    await home.sleep(70)
    assert home.results(command.id)[-1].state == "DONE"


@in_virtual_time
async def test_a_start_is_checked_again_when_it_comes(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + HOUR_US
    command = home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us + 55 * US)
    await home.tell(command)
    await home.sleep(60)
    await home.tell(home.withdraw())
    await home.sleep(2)
    assert [(r.state, r.reason) for r in home.results(command.id)] == [("REFUSED", Reason.ACCESS_DISABLED)]
    await home.sleep(4000)
    assert home.adapter.acts == []


@in_virtual_time
async def test_a_campaign_begins_at_a_random_time_that_the_receipt_tells(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.answer(home.command(Operation.TURN_OFF, spread_s=300), s=400)
    waiting = next(r for r in home.receipts(result.id) if r.outcome is Outcome.WAITING)
    assert waiting.detail.startswith("begins ")
    assert result.state == "DONE"


@in_virtual_time
async def test_a_later_control_replaces_and_the_owners_setting_comes_back(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    first = await home.ask(Operation.OFFSET, "heat", {"celsius": -2})
    second = await home.ask(Operation.OFFSET, "heat", {"celsius": -3})
    assert (first.state, second.state) == ("DONE", "DONE")
    assert home.adapter.things["heat"].settings["celsius"] == 17.0, "relative to the owner's, not cumulative"
    await home.ask(Operation.RELEASE, "heat")
    assert home.adapter.things["heat"].settings["celsius"] == 20.0


@in_virtual_time
async def test_a_device_that_took_the_later_control_and_told_nonsense_is_given_back_too(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    pump = home.adapter.things["pump"]
    until_us = home.wall.now_us() + 3600 * US
    first = await home.ask(Operation.LIMIT, body={"watts": 800}, until_us=until_us)
    pump.hangs = hanging = asyncio.Event()
    command = home.command(Operation.LIMIT, body={"watts": 500}, until_us=until_us)
    await home.tell(command)
    await home.settle(1)
    pump.nonsense = True
    hanging.set()
    await home.settle(2)
    assert (first.state, home.results(command.id)[-1].state) == ("DONE", "FAILED")
    pump.nonsense = False
    assert pump.power_w == 500, "it acted, whatever it said"
    await home.sleep(3 * 3600)
    assert pump.power_w == 1000


@in_virtual_time
async def test_another_party_does_not_take_a_device_over_unless_it_is_more_urgent(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.tell(home.push(home.document("g-2", OTHER)))
    mine = await home.ask(Operation.LIMIT, body={"watts": 500}, klass=12)
    theirs = {"party": OTHER, "grant": "g-2", "body": {"watts": 100}}
    refused = await home.ask(Operation.LIMIT, klass=12, **theirs)  # type: ignore[arg-type]
    assert (refused.state, refused.reason) == ("REFUSED", Reason.SUPERSEDED)
    urgent = await home.ask(Operation.LIMIT, klass=10, **theirs)  # type: ignore[arg-type]
    assert urgent.state == "DONE"
    await home.settle(1)
    told = [r for r in home.receipts(mine.id) if r.step is Step.RELEASED]
    assert [r.reason for r in told] == [Reason.SUPERSEDED]
    await home.ask(Operation.RELEASE, party=OTHER, grant="g-2")
    assert home.adapter.things["pump"].power_w == 1000, "the baseline is from before the first control"


@in_virtual_time
async def test_a_party_cannot_let_go_of_what_another_set(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.tell(home.push(home.document("g-2", OTHER)))
    await home.ask(Operation.LIMIT, body={"watts": 500})
    result = await home.ask(Operation.RELEASE, party=OTHER, grant="g-2")
    assert data_of(result) == {"released": []}
    assert home.adapter.things["pump"].power_w == 500


@in_virtual_time
async def test_a_residents_override_ends_a_control_and_nothing_more_is_written(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.LIMIT, body={"watts": 500})
    home.adapter.things["pump"].overridden = True
    home.adapter.things["pump"].settings["limit"] = None
    await home.adapter.say("pump", "override")
    await home.sleep(5 * 3600)
    assert [act[2] for act in home.adapter.acts] == ["limit"]
    assert [r.reason for r in home.receipts(result.id) if r.step is Step.RELEASED] == [
        Reason.CUSTOMER_OVERRIDE
    ]
    assert [n.kind for n in home.of(Notice)] == ["override"]
    refused = await home.ask(Operation.LIMIT, body={"watts": 500})
    assert refused.reason is Reason.CUSTOMER_OVERRIDE
    assert len(home.adapter.acts) == 1


@in_virtual_time
async def test_an_override_in_the_middle_of_an_act_is_not_done(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    pump = home.adapter.things["pump"]
    pump.hangs = hanging = asyncio.Event()
    command = home.command(Operation.TURN_OFF)
    await home.tell(command)
    await home.settle(1)
    pump.overridden = True
    await home.adapter.say("pump", "override")
    hanging.set()
    await home.settle(2)
    result = home.results(command.id)[-1]
    assert (result.state, result.reason) == ("FAILED", Reason.CUSTOMER_OVERRIDE)
    await home.sleep(5 * 3600)
    assert home.adapter.acts_of(command.id) == ["turn_off"]
    assert len(home.adapter.acts) == 1, "nothing is written over the resident's choice"


@in_virtual_time
async def test_an_override_at_the_last_moment_keeps_the_device_from_being_told(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.tell(command)
    await home.settle(1, until=lambda: home.adapter.calls == 2)
    await home.adapter.say("pump", "override")
    await home.settle(2)
    assert home.results(command.id)[-1].reason is Reason.CUSTOMER_OVERRIDE
    assert home.adapter.acts == []


@in_virtual_time
async def test_an_override_that_a_reading_shows_keeps_a_release_that_waits_from_being_written(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    done = await home.ask(Operation.LIMIT, body={"watts": 500})
    home.adapter.things["pump"].overridden = True
    home.adapter.things["pump"].settings["limit"] = 800
    await home.tell(home.command(Operation.READ))
    await home.sleep(0.07)
    await home.tell(Cancel(id=done.id))
    await home.settle(3)
    assert [act[2] for act in home.adapter.acts] == ["limit"]
    released = [r.reason for r in home.receipts(done.id) if r.step is Step.RELEASED]
    assert released == [Reason.CUSTOMER_OVERRIDE], "told once"


@in_virtual_time
async def test_an_override_at_the_last_moment_ends_what_ran_before_too(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500})
    calls = home.adapter.calls
    command = home.command(Operation.LIMIT, body={"watts": 300})
    await home.tell(command)
    await home.settle(1, until=lambda: home.adapter.calls == calls + 2)
    await home.adapter.say("pump", "override")
    await home.settle(2)
    await home.adapter.say("pump", "override_ended")
    await home.sleep(5 * 3600)
    assert home.results(command.id)[-1].reason is Reason.CUSTOMER_OVERRIDE
    assert [act[2] for act in home.adapter.acts] == ["limit"]
    assert home.app.desk.house.controls == {}


@in_virtual_time
async def test_an_override_ended_lets_controls_in_again(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.adapter.say("pump", "opt_out")
    home.adapter.things["pump"].overridden = True
    assert (await home.ask(Operation.TURN_OFF)).reason is Reason.CUSTOMER_OVERRIDE
    home.adapter.things["pump"].overridden = False
    await home.adapter.say("pump", "opt_in")
    assert (await home.ask(Operation.TURN_OFF)).state == "DONE"


@in_virtual_time
async def test_a_hanging_device_is_unconfirmed_unless_it_proves_that_it_acted(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    proved = await home.ask(Operation.TURN_OFF)
    assert proved.state == "DONE", "it holds now what it did not hold before"
    heat = home.adapter.things["heat"]
    heat.hangs = asyncio.Event()
    heat.lies = True
    unproved = await home.ask(Operation.TURN_OFF, "heat")
    assert (unproved.state, unproved.reason) == ("UNCONFIRMED", Reason.NO_PROOF)


@in_virtual_time
async def test_a_hanging_device_holds_up_no_other_device(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    hanging = home.command(Operation.TURN_OFF)
    quick = home.command(Operation.TURN_OFF, "tank")
    await home.tell(hanging, quick)
    await home.settle(2)
    assert home.results(quick.id)[-1].state == "DONE"
    assert not home.results(hanging.id)


@in_virtual_time
async def test_who_is_more_urgent_goes_first_at_a_busy_device(tmp_path: Path) -> None:
    home = await ready(tmp_path, tier_hour=24)
    home.adapter.things["pump"].hangs = asyncio.Event()
    ids = []
    for klass in (11, 13, 11, 10):
        command = home.command(Operation.LIMIT, body={"watts": 100 + klass}, klass=klass)
        ids.append(command.id)
        await home.tell(command)
        await home.settle(0.2)
    await home.settle(20)
    assert [act[0] for act in home.adapter.acts] == [ids[0], ids[3], ids[2], ids[1]]


@in_virtual_time
async def test_cancelled_before_it_begins_it_never_begins(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + HOUR_US
    command = home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us + 55 * US)
    await home.tell(command)
    await home.settle(1)
    await home.tell(Cancel(id=command.id))
    await home.sleep(4000)
    assert [r.state for r in home.results(command.id)] == ["CANCELLED"]
    assert home.adapter.acts == []


@in_virtual_time
async def test_cancelled_while_it_runs_it_is_let_go_and_stays_done(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    done = await home.ask(Operation.LIMIT, body={"watts": 500})
    await home.tell(Cancel(id=done.id))
    await home.settle(2)
    assert home.adapter.things["pump"].power_w == 1000
    assert {r.state for r in home.results(done.id)} == {"DONE"}
    assert [r.reason for r in home.receipts(done.id) if r.step is Step.RELEASED] == [Reason.CANCELLED]


@in_virtual_time
async def test_cancelled_while_the_device_is_being_told_it_is_let_go_after(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    hanging = asyncio.Event()
    home.adapter.things["pump"].hangs = hanging
    command = home.command(Operation.LIMIT, body={"watts": 500})
    await home.tell(command)
    await home.settle(1)
    await home.tell(Cancel(id=command.id))
    await home.settle(1)
    hanging.set()
    await home.settle(3)
    assert home.results(command.id)[-1].state == "DONE"
    assert home.adapter.things["pump"].power_w == 1000


@pytest.mark.parametrize("after_s", [0.01, 0.05, 0.1, 0.14, 0.16, 0.2, 0.25])
@in_virtual_time
async def test_a_read_that_is_cancelled_while_its_answer_comes_has_one_result(
    tmp_path: Path, after_s: float
) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.READ)
    await home.tell(command)
    await home.sleep(after_s)
    await home.tell(Cancel(id=command.id))
    await home.settle(3)
    assert len({result.state for result in home.results(command.id)}) == 1


@in_virtual_time
async def test_letting_go_by_request_passes_a_limit_that_is_used_up(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    for watts in range(100, 112):
        await home.ask(Operation.LIMIT, body={"watts": watts})
    assert (await home.ask(Operation.LIMIT, body={"watts": 90})).reason is Reason.LIMIT_EXCEEDED
    for _ in range(3):
        assert (await home.ask(Operation.RELEASE)).state == "DONE"
    assert home.adapter.things["pump"].power_w == 1000


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6])
@in_virtual_time
async def test_a_control_that_is_cancelled_at_whatever_moment_does_not_go_on(
    tmp_path: Path, after_s: float
) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.LIMIT, body={"watts": 500})
    await home.tell(command)
    await home.sleep(after_s)
    await home.tell(Cancel(id=command.id))
    await home.settle(5)
    assert len({result.state for result in home.results(command.id)}) == 1
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_cancelled_before_it_came_it_is_never_taken(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.tell(Cancel(id=command.id))
    await home.settle(0.5)
    assert [r.state for r in home.results(command.id)] == ["CANCELLED"]
    await home.tell(command)
    await home.settle(3)
    assert home.adapter.acts == []
    assert {r.state for r in home.results(command.id)} == {"CANCELLED"}


@in_virtual_time
async def test_a_device_that_cannot_be_let_go_is_tried_again_until_it_is(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    pump = home.adapter.things["pump"]
    until_us = home.wall.now_us() + 60 * US
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=until_us)
    pump.silent = True
    await home.sleep(3600)
    assert pump.power_w == 500
    pump.silent = False
    await home.sleep(1900)
    assert pump.power_w == 1000


@in_virtual_time
async def test_a_compressor_rests_before_it_is_turned_on_again(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.TURN_OFF, "relay")
    off_us = home.wall.now_us()
    on = await home.ask(Operation.TURN_ON, "relay")
    assert on.state == "DONE"
    assert home.wall.now_us() >= off_us + 29 * US, "it waited for the relay's rest"
    await home.ask(Operation.TURN_OFF, "heat")
    refused = await home.ask(Operation.TURN_ON, "heat")
    assert (refused.state, refused.reason) == ("REFUSED", Reason.DEVICE_REFUSED)
    assert "rest until" in refused.detail


@in_virtual_time
async def test_what_begins_later_is_not_begun_after_its_deadline_because_the_device_must_rest(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + 10 * US
    command = home.command(Operation.TURN_ON, "relay", start_us=start_us, act_before_us=start_us + US)
    await home.tell(command)
    await home.sleep(5)
    await home.ask(Operation.TURN_OFF, "relay")
    await home.sleep(90)
    assert (home.results(command.id)[-1].state, home.adapter.acts_of(command.id)) == ("REFUSED", [])


@in_virtual_time
async def test_a_control_begins_at_its_start_though_that_is_its_deadline_less_the_margin(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + 10 * US
    result = await home.answer(
        home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us), s=20
    )
    assert result.state == "DONE"


@in_virtual_time
async def test_a_compressor_is_let_go_only_after_its_rest(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.TURN_OFF, "heat")
    released = await home.ask(Operation.RELEASE, "heat")
    assert (released.state, released.reason) == ("FAILED", Reason.DEVICE_REFUSED)
    await home.sleep(120)
    assert home.adapter.things["heat"].power_w == 0
    await home.sleep(120)
    assert home.adapter.things["heat"].power_w == 1000, "the gateway lets go by itself when it may"


@pytest.mark.parametrize(
    ("bounds", "operation", "device", "body"),
    [
        ({"watts_min": 400}, Operation.LIMIT, "pump", {"watts": 300}),
        ({"watts_max": 900}, Operation.LIMIT, "pump", {"watts": 1000}),
        ({"celsius_min": 18}, Operation.SETPOINT, "heat", {"celsius": 17}),
        ({"offset_max": 1}, Operation.OFFSET, "heat", {"celsius": -2}),
        ({"hours_max": 2}, Operation.TURN_OFF, "heat", {}),
        ({"between": (0, 1)}, Operation.TURN_OFF, "heat", {}),
        ({"times_per_day": 0}, Operation.TURN_OFF, "heat", {}),
    ],
)
@in_virtual_time
async def test_the_customers_own_bounds_are_kept_at_the_gateway_too(
    tmp_path: Path, bounds: dict[str, object], operation: Operation, device: str, body: dict[str, object]
) -> None:
    home = await ready(tmp_path, devices=[permit(device, operation, **bounds)])
    result = await home.ask(operation, device, body)
    assert (result.state, result.reason) == ("REFUSED", Reason.OUTSIDE_CUSTOMER_LIMITS)
    assert home.adapter.acts == []


@in_virtual_time
async def test_the_customers_times_a_day_are_counted_over_any_day(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[permit("pump", Operation.LIMIT, times_per_day=2)])
    states = [(await home.ask(Operation.LIMIT, body={"watts": 100 * n})).state for n in (5, 6, 7)]
    assert states == ["DONE", "DONE", "REFUSED"]
    await home.restart()
    await home.tell(home.time())
    assert (await home.ask(Operation.LIMIT, body={"watts": 800})).state == "REFUSED"
    await home.sleep(23.9 * 3600)
    await home.tell(home.lease())
    await home.sleep(0.2 * 3600)
    assert (await home.ask(Operation.LIMIT, body={"watts": 800})).state == "DONE"


@in_virtual_time
async def test_a_command_that_comes_too_late_expires_and_does_nothing(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF, act_before_us=home.wall.now_us() - 1)
    result = await home.answer(command)
    assert (result.state, result.reason) == ("EXPIRED", Reason.DEADLINE_PASSED)
    assert home.adapter.calls == 0


@in_virtual_time
async def test_a_command_that_waits_too_long_for_its_device_expires(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    first = home.command(Operation.TURN_OFF)
    second = home.command(Operation.LIMIT, body={"watts": 5}, act_before_us=home.wall.now_us() + 2 * US)
    await home.tell(first, second)
    await home.settle(30)
    assert home.results(second.id)[-1].state == "EXPIRED"
    assert home.adapter.acts_of(second.id) == []


# --- a limit of the whole service point ----------------------------------------------------------------


@in_virtual_time
async def test_a_limit_of_the_whole_is_met_across_the_permitted_devices_and_undone_at_its_end(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path)
    until_us = home.wall.now_us() + 10 * MINUTE_US
    result = await home.ask(
        Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT, until_us=until_us
    )
    data = data_of(result)
    assert result.state == "DONE"
    assert (data["total_before_w"], data["total_after_w"]) == (5000.0, 2500.0)
    assert sum(thing.power_w for name, thing in home.adapter.things.items() if name != "pump2") == 2500
    assert {reading["device"]: reading["told"] for reading in data["readings"]} == {
        "ev": {"watts": 0.0},
        "pump": {"watts": 0.0},
        "heat": {"watts": 500.0},
    }
    await home.sleep(21 * 60)
    assert sum(thing.power_w for thing in home.adapter.things.values()) == 6000


@in_virtual_time
async def test_a_limit_that_the_permitted_devices_cannot_meet_touches_nothing(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[permit("ev", Operation.LIMIT, watts_min=600.0)])
    result = await home.ask(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    assert (result.state, result.reason) == ("REFUSED", Reason.OUTSIDE_CUSTOMER_LIMITS)
    assert "4600 W" in result.detail
    assert home.adapter.acts == []


@in_virtual_time
async def test_a_limit_that_one_device_does_not_follow_is_failed_and_undone(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["ev"].lies = True
    result = await home.ask(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    assert result.state == "FAILED"
    await home.sleep(60)
    assert all(thing.power_w == 1000 for thing in home.adapter.things.values())


@in_virtual_time
async def test_a_limit_of_the_whole_needs_the_customers_word(tmp_path: Path) -> None:
    home = await ready(tmp_path, service_point_limit=False)
    result = await home.ask(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    assert result.reason is Reason.OPERATION_NOT_PERMITTED


@in_virtual_time
async def test_letting_go_of_the_whole_lets_go_of_every_device_of_ones_own(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    result = await home.ask(Operation.RELEASE, "", scope=Scope.SERVICE_POINT)
    assert sorted(data_of(result)["released"]) == ["ev", "heat", "pump"]
    assert all(thing.power_w == 1000 for thing in home.adapter.things.values())
