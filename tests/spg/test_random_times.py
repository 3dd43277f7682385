"""X04 at the gateway: starts of campaigns and all ends are drawn, stored and told, whatever is asked."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from doorward.spg.rules.controls import end_window_us, latest_end_us, start_room_us
from doorward.spg.rules.facts import HOUR_US, MINUTE_US, US, Policy
from doorward.wire.messages import Cancel, Receipt
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation
from tests.spg.home import Home, permit
from tests.spg.virtual import in_virtual_time

SPAN_S = 600


async def ready(directory: Path, seed: int = 1, **grant: Any) -> Home:
    """A gateway that has its devices and permission; ``seed`` is its dice's."""
    directory.mkdir(exist_ok=True)
    home = await Home(directory, seed=seed).start()
    await home.greet(**grant)
    return home


def starts(home: Home, id: str) -> list[Receipt]:
    """The receipts that it is stored, which tell when it begins."""
    return [each for each in home.receipts(id) if each.step is Step.GATEWAY_RECEIVED]


async def campaign(home: Home, **changes: Any) -> str:
    """A control of a campaign that runs; its id."""
    command = home.command(Operation.TURN_OFF, campaign=True, **changes)
    result = await home.answer(command, s=SPAN_S + 60)
    assert result.state == "DONE"
    return command.id


async def let_go_after_s(home: Home, id: str, asked_us: int) -> float:
    """Wait until the gateway says that it let go of a control; how long after it was asked it did."""
    await home.settle(SPAN_S + 60, until=lambda: Step.RELEASED in home.steps(id))
    (released,) = [each for each in home.receipts(id) if each.step is Step.RELEASED]
    return (released.at_us - asked_us) / US


@in_virtual_time
async def test_the_gateway_keeps_its_own_span_when_a_campaign_s_command_has_none(tmp_path: Path) -> None:
    began = []
    for seed in range(4):
        home = await ready(tmp_path / str(seed), seed=seed)
        asked_us = home.wall.now_us()
        id = await campaign(home, spread_s=(0, 1, 10, 59)[seed])
        began.append((home.wall.now_us() - asked_us) / US)
        assert [each.detail[:6] for each in starts(home, id)] == ["begins"]
    assert max(began) > 60, "longer than any of the commands said"
    assert max(began) <= SPAN_S + 2


@in_virtual_time
async def test_a_drawn_start_survives_a_restart(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF, campaign=True)
    await home.tell(command)
    await home.settle()
    (told,) = starts(home, command.id)
    before = home.app.desk.opened[command.id].request.start_us
    await home.restart()
    assert home.app.desk.opened[command.id].request.start_us == before
    await home.tell(home.time())
    await home.settle(SPAN_S + 60, until=lambda: bool(home.adapter.acts))
    assert before <= home.wall.now_us() <= before + 2 * US
    assert told.detail.startswith("begins ")


@in_virtual_time
async def test_a_single_control_begins_at_once(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    asked_us = home.wall.now_us()
    await home.ask(Operation.TURN_OFF)
    assert home.wall.now_us() - asked_us < 5 * US


@in_virtual_time
async def test_the_drawn_end_is_told_before_the_device_is(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.answer(command)
    (passed,) = [each for each in home.receipts(command.id) if each.step is Step.PASSED_TO_HAN]
    assert passed.detail.startswith("ends 20")


@pytest.mark.parametrize("how", ["cancel", "release"])
def test_what_began_at_random_is_let_go_at_random(tmp_path: Path, how: str) -> None:
    @in_virtual_time
    async def play(directory: Path) -> None:
        took = []
        for seed in range(4):
            home = await ready(directory / str(seed), seed=seed)
            id = await campaign(home)
            asked_us = home.wall.now_us()
            if how == "cancel":
                await home.tell(Cancel(id=id))
                await home.settle()
            else:
                result = await home.ask(Operation.RELEASE)
                assert result.state == "DONE", "it is stored, and will happen"
                assert result.detail.startswith("pump ends 20")
            await home.restart()
            took.append(await let_go_after_s(home, id, asked_us))
        assert max(took) > 60
        assert max(took) <= SPAN_S + 5

    play(tmp_path)


@in_virtual_time
async def test_a_single_control_is_let_go_at_once(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.answer(command)
    asked_us = home.wall.now_us()
    await home.tell(Cancel(id=command.id))
    assert await let_go_after_s(home, command.id, asked_us) < 5


@in_virtual_time
async def test_a_withdrawal_lets_a_campaign_go_at_random_but_soon(tmp_path: Path) -> None:
    took = []
    for seed in range(4):
        home = await ready(tmp_path / str(seed), seed=seed)
        id = await campaign(home)
        asked_us = home.wall.now_us()
        await home.tell(home.withdraw())
        await home.settle()
        await home.restart()
        took.append(await let_go_after_s(home, id, asked_us))
    assert max(took) > 5
    assert max(took) <= 65


@in_virtual_time
async def test_somebody_at_home_waits_for_no_draw(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    id = await campaign(home)
    await home.adapter.say("pump", "override")
    await home.settle(2)
    assert Step.RELEASED in home.steps(id)


# --- the rules ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_half_of_a_short_control_is_left_to_it(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    now_us = home.wall.now_us()
    command = home.command(Operation.TURN_OFF, campaign=True, until_us=now_us + 4 * MINUTE_US)
    assert start_room_us(command, now_us, Policy()) == 2 * MINUTE_US
    assert start_room_us(replace(command, spread_s=30, campaign=False), now_us, Policy()) == 30 * US
    assert start_room_us(replace(command, operation=Operation.RELEASE), now_us, Policy()) == 0


def test_ends_are_drawn_after_until_or_before_it_where_the_customer_leaves_no_room() -> None:
    policy, far = Policy(), 10**15
    assert end_window_us(0, HOUR_US, far, policy) == (HOUR_US, HOUR_US + 10 * MINUTE_US)
    assert end_window_us(0, MINUTE_US, far, policy) == (MINUTE_US, 2 * MINUTE_US)
    assert end_window_us(0, HOUR_US, HOUR_US, policy) == (HOUR_US - 10 * MINUTE_US, HOUR_US)
    assert end_window_us(0, HOUR_US, HOUR_US + 4 * MINUTE_US, policy) == (
        HOUR_US - 6 * MINUTE_US,
        HOUR_US + 4 * MINUTE_US,
    )
    assert end_window_us(0, MINUTE_US, MINUTE_US, policy) == (MINUTE_US // 2, MINUTE_US)
    assert end_window_us(0, 2 * HOUR_US, HOUR_US, policy) == (HOUR_US - 10 * MINUTE_US, HOUR_US)


def test_the_end_of_the_permission_is_a_bound_like_the_customers_hours() -> None:
    assert latest_end_us(0, None, 7) == 7
    assert latest_end_us(0, 1.0, 2 * HOUR_US) == HOUR_US
    assert latest_end_us(0, 3.0, 2 * HOUR_US) == 2 * HOUR_US


@in_virtual_time
async def test_with_no_room_after_it_a_control_still_ends_at_a_time_of_its_own(tmp_path: Path) -> None:
    ended = set()
    for seed in range(3):
        directory = tmp_path / str(seed)
        home = await ready(directory, seed=seed, devices=[permit("pump", Operation.TURN_OFF, hours_max=1.0)])
        start_us = home.wall.now_us()
        await home.ask(Operation.TURN_OFF, until_us=start_us + HOUR_US, start_us=start_us)
        await home.settle(7200, until=lambda home=home: len(home.adapter.acts) == 2)  # type: ignore[misc]
        ended.add((home.wall.now_us() - start_us) // (10 * US))
    assert len(ended) == 3
    assert all(end <= 361 for end in ended)
