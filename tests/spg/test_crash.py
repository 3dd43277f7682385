"""kill -9 at every persistence boundary: nothing is lost, nothing is done twice, nothing is guessed (P1–P3)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from doorward.spg.rules.facts import HOUR_US, US
from doorward.wire.messages import Command, Reconcile
from doorward.wire.vocabulary import Operation, Scope
from tests.spg.home import Home
from tests.spg.virtual import in_virtual_time

BOUNDARIES_MAX = 40


async def on_the_eve(directory: Path) -> Home:
    """A gateway that holds a grant, before the process that will be killed is started."""
    home = await Home(directory).start()
    await home.greet()
    return home


async def every_boundary(
    tmp_path: Path,
    script: Callable[[Home], Awaitable[Command]],
    check: Callable[[Home, Command], None],
    *,
    after: bool,
) -> int:
    """Run ``script`` once per commit of its process, killed there; return how many boundaries there were."""
    for die_at in range(1, BOUNDARIES_MAX):
        directory = tmp_path / f"{die_at}"
        directory.mkdir()
        home = await on_the_eve(directory)
        home.kill()
        await stop_tasks(home)
        await home.start(die_at, after=after)
        command = await script(home)
        await home.settle(20, until=partial(is_dead, home))
        died = home.adapter.dead
        await home.restart()
        # the CCS: time, then what it holds open, then what it has no receipt for
        await home.tell(home.time())
        await home.tell(Reconcile(ids=[command.id]))
        await home.settle(30)
        if not home.results(command.id):
            await home.tell(
                Command(**{f: getattr(command, f) for f in command.__struct_fields__} | {"attempt": 2})
            )
            await home.settle(100)
        check(home, command)
        await stop_tasks(home)
        if not died:
            return die_at - 1
    raise AssertionError("there is no end of boundaries")


def is_dead(home: Home) -> bool:
    return home.adapter.dead


async def stop_tasks(home: Home) -> None:
    home.kill()
    for task in [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
        task.cancel()
    await asyncio.sleep(0)
    await home.store.close()


def one_truthful_outcome(home: Home, command: Command) -> None:
    states = {result.state for result in home.results(command.id)}
    acts = home.adapter.acts_of(command.id)
    assert len(states) == 1, f"one outcome, not {states}"
    assert len(acts) <= 1, "a device acts at most once"
    (state,) = states
    if state == "DONE":
        assert len(acts) == 1
    if state in ("REFUSED", "EXPIRED", "CANCELLED"):
        assert acts == []


@pytest.mark.parametrize("after", [False, True])
@in_virtual_time
async def test_killed_at_any_commit_of_a_control(tmp_path: Path, after: bool) -> None:
    async def script(home: Home) -> Command:
        command = home.command(Operation.TURN_OFF)
        await home.tell(home.time(), command)
        return command

    boundaries = await every_boundary(tmp_path, script, one_truthful_outcome, after=after)
    assert boundaries >= 5, "boot, time, inbox, intent, result"


@pytest.mark.parametrize("after", [False, True])
@in_virtual_time
async def test_killed_at_any_commit_of_a_read(tmp_path: Path, after: bool) -> None:
    async def script(home: Home) -> Command:
        command = home.command(Operation.READ)
        await home.tell(home.time(), command)
        return command

    def is_answered(home: Home, command: Command) -> None:
        assert {result.state for result in home.results(command.id)} == {"DONE"}

    await every_boundary(tmp_path, script, is_answered, after=after)


@pytest.mark.parametrize("after", [False, True])
@in_virtual_time
async def test_killed_at_any_commit_of_a_limit_of_the_whole(tmp_path: Path, after: bool) -> None:
    async def script(home: Home) -> Command:
        command = home.command(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
        await home.tell(home.time(), command)
        return command

    def check(home: Home, command: Command) -> None:
        states = {result.state for result in home.results(command.id)}
        devices = [device for act, device, _, _ in home.adapter.acts if act == command.id]
        assert len(states) == 1
        assert len(devices) == len(set(devices))
        if states == {"DONE"}:
            assert sorted(devices) == ["ev", "heat", "pump"]

    await every_boundary(tmp_path, script, check, after=after)


@pytest.mark.parametrize("after", [False, True])
@in_virtual_time
async def test_killed_at_any_commit_of_a_whole_control_the_device_is_free_again_in_the_end(
    tmp_path: Path, after: bool
) -> None:
    async def script(home: Home) -> Command:
        command = home.command(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + 5 * US)
        await home.tell(home.time(), command)
        return command

    def is_free(home: Home, command: Command) -> None:
        one_truthful_outcome(home, command)
        assert home.adapter.things["pump"].power_w == 1000
        assert home.app.desk.house.controls == {}

    assert await every_boundary(tmp_path, script, is_free, after=after) >= 7


@in_virtual_time
async def test_killed_while_the_device_was_being_told_it_is_done_only_where_the_device_proves_it(
    tmp_path: Path,
) -> None:
    home = await on_the_eve(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    told = home.command(Operation.TURN_OFF)
    heat = home.adapter.things["heat"]
    heat.hangs, heat.lies = asyncio.Event(), True
    lied = home.command(Operation.TURN_OFF, "heat")
    already = home.adapter.things["ev"]
    already.settings["on"] = False
    already.hangs = asyncio.Event()
    held = home.command(Operation.TURN_OFF, "ev")
    await home.tell(told, lied, held)
    await home.settle(1)
    assert len(home.adapter.acts) == 3
    await home.restart()
    await home.tell(home.time())
    await home.settle(5)
    assert home.results(told.id)[-1].state == "DONE", "it holds now what it did not hold before"
    assert home.results(lied.id)[-1].state == "UNCONFIRMED"
    assert home.results(held.id)[-1].state == "UNCONFIRMED", "it held it before: that proves nothing"
    assert len(home.adapter.acts) == 3, "and nothing was told again"


@in_virtual_time
async def test_a_control_in_doubt_does_not_hide_the_one_whose_place_it_took(tmp_path: Path) -> None:
    home = await on_the_eve(tmp_path)
    until_us = home.wall.now_us() + HOUR_US
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=until_us)
    pump = home.adapter.things["pump"]
    pump.hangs, pump.lies = asyncio.Event(), True
    second = home.command(Operation.LIMIT, body={"watts": 300}, until_us=until_us)
    await home.tell(second)
    await home.settle(1)
    pump.lies = False
    await home.restart()
    await home.tell(home.time())
    await home.settle(5)
    assert home.results(second.id)[-1].state == "UNCONFIRMED"
    assert home.adapter.things["pump"].power_w == 500
    await home.sleep(4500)
    assert home.adapter.things["pump"].power_w == 1000, "its owner has it back"


@in_virtual_time
async def test_what_another_command_did_after_the_restart_proves_nothing(tmp_path: Path) -> None:
    home = await on_the_eve(tmp_path)
    pump = home.adapter.things["pump"]
    pump.hangs, pump.lies = asyncio.Event(), True
    first = home.command(Operation.TURN_OFF)
    await home.tell(first)
    await home.settle(1)
    pump.lies, pump.silent = False, True
    await home.restart()
    await home.tell(home.time())
    await home.settle(1)
    pump.silent = False
    second = await home.ask(Operation.TURN_OFF)
    await home.settle(20)
    assert second.state == "DONE"
    assert home.results(first.id)[-1].state == "UNCONFIRMED"


@in_virtual_time
async def test_a_device_that_stays_away_after_a_restart_is_unconfirmed_and_not_guessed(
    tmp_path: Path,
) -> None:
    home = await on_the_eve(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    command = home.command(Operation.TURN_OFF)
    await home.tell(command)
    await home.settle(1)
    home.adapter.things["pump"].silent = True
    await home.restart()
    await home.tell(home.time())
    await home.settle(120)
    assert home.results(command.id)[-1].state == "UNCONFIRMED"


@in_virtual_time
async def test_received_but_not_begun_goes_on_while_there_is_time_and_expires_when_there_is_none(
    tmp_path: Path,
) -> None:
    home = await on_the_eve(tmp_path)
    home.adapter.things["pump"].hangs = asyncio.Event()
    first = home.command(Operation.LIMIT, body={"watts": 700})
    soon = home.command(Operation.LIMIT, body={"watts": 600})
    late = home.command(Operation.LIMIT, body={"watts": 500}, act_before_us=home.wall.now_us() + 3 * US)
    await home.tell(first, soon, late)
    await home.settle(1)
    home.kill()
    await home.sleep(10)
    await home.restart()
    await home.tell(home.time())
    await home.settle(5)
    assert home.results(soon.id)[-1].state == "DONE"
    assert home.results(late.id)[-1].state == "EXPIRED"
    assert home.adapter.acts_of(late.id) == []


@in_virtual_time
async def test_a_restart_sets_the_end_of_a_control_again(tmp_path: Path) -> None:
    home = await on_the_eve(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + HOUR_US)
    await home.restart()
    await home.sleep(3500)
    assert home.adapter.things["pump"].power_w == 500
    await home.sleep(800)
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_an_end_that_passed_while_the_gateway_was_off_is_made_good_at_once(tmp_path: Path) -> None:
    home = await on_the_eve(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + HOUR_US)
    home.kill()
    await home.sleep(2 * 3600)
    await home.restart()
    await home.settle(2)
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_a_restart_sets_a_future_start_again(tmp_path: Path) -> None:
    home = await on_the_eve(tmp_path)
    start_us = home.wall.now_us() + HOUR_US
    command = home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us + 55 * US)
    await home.tell(command)
    await home.settle(1)
    await home.restart()
    await home.tell(home.time())
    await home.sleep(3500)
    assert home.adapter.acts == []
    await home.sleep(110)
    assert home.results(command.id)[-1].state == "DONE"


@in_virtual_time
async def test_a_release_that_a_crash_cut_short_is_looked_at_and_not_written_over_the_resident(
    tmp_path: Path,
) -> None:
    home = await on_the_eve(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + 60 * US)
    pump = home.adapter.things["pump"]
    pump.hangs = asyncio.Event()
    await home.settle(120, until=lambda: len(home.adapter.acts) == 2)
    assert pump.settings["limit"] is None, "it was let go, and the gateway does not know it yet"
    home.kill()
    pump.hangs = None
    pump.settings["limit"] = 800  # somebody at home, while the gateway was away
    await home.restart()
    await home.sleep(3600)
    assert pump.settings["limit"] == 800
    assert home.app.desk.house.controls == {}
