"""Scenario 1 at the gateway: asked, checked, recorded, read, answered."""

from pathlib import Path

import msgspec
import pytest

from doorward.spg.rules.facts import MINUTE_US, US, Policy
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation, Scope
from tests.spg.home import OTHER, SP2, Home, data_of, permit
from tests.spg.virtual import in_virtual_time


async def ready(directory: Path, **grant: object) -> Home:
    home = await Home(directory).start()
    await home.greet(**grant)
    return home


@in_virtual_time
async def test_a_device_is_read_and_every_step_is_told_in_order(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.READ, "pump")
    assert result.state == "DONE"
    data = data_of(result)
    assert data["device"] == "pump"
    assert data["power_w"] == 1000.0
    assert data["state"] == "RUNNING_NORMAL"
    assert data["values"]["on"] is True
    await home.settle(0.1)
    receipts = home.receipts(result.id)
    assert [r.step for r in receipts] == [
        Step.GATEWAY_RECEIVED,
        Step.PASSED_TO_HAN,
        Step.DEVICE_ANSWERED,
        Step.ANSWER_RECEIVED,
    ]
    assert sorted(r.at_us for r in receipts) == [r.at_us for r in receipts]


@in_virtual_time
async def test_what_is_ready_together_goes_up_in_one_frame(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.READ)
    with_result = next(frame for frame in home.frames if any(m is result for m in frame))
    assert len(with_result) == 3, "the device's answer, its receipt and the result"


@in_virtual_time
async def test_the_record_is_durable_before_anything_is_said_or_asked(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.READ)
    await home.tell(command)
    await home.settle(3)
    rows = [row for row in await home.journal() if row.message == command.id]
    assert [row.step for row in rows] == [
        "gateway_received",
        "gateway_checked",
        "passed_to_han",
        "device_answered",
        "answer_received",
        "passed_to_ccs",
    ]


@in_virtual_time
async def test_only_the_values_asked_for_are_in_the_answer(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.ask(Operation.READ, body={"values": ["celsius"]})
    assert data_of(result)["values"] == {"celsius": 20.0}


@in_virtual_time
async def test_all_permitted_devices_of_the_home_are_read_and_a_silent_one_fails_alone(
    tmp_path: Path,
) -> None:
    home = await ready(tmp_path, devices=[permit("pump", Operation.READ), permit("ev", Operation.READ)])
    home.adapter.things["ev"].silent = True
    result = await home.ask(Operation.READ, "", scope=Scope.HOME)
    data = data_of(result)
    assert result.state == "DONE"
    assert [reading["device"] for reading in data["readings"]] == ["pump"]
    assert data["failed"] == [
        {"device": "ev", "reason": "device-unavailable", "detail": "no route to the device"}
    ]
    assert home.adapter.things["tank"].reads == 0, "the customer has not permitted the tank"


@in_virtual_time
async def test_a_past_interval_is_answered_from_the_homes_own_samples(tmp_path: Path) -> None:
    home = await Home(tmp_path, Policy(sample_us=5 * MINUTE_US)).start()
    await home.greet()
    begin_us = home.wall.now_us()
    await home.sleep(3600)
    reads = home.adapter.things["pump"].reads
    body = {"from": to_rfc3339(begin_us), "to": to_rfc3339(home.wall.now_us())}
    data = data_of(await home.ask(Operation.READ, "", body, scope=Scope.HOME))
    points = [point for point in data["readings"] if point["device"] == "pump"]
    assert len(points) == 12
    assert {point["power_w"] for point in points} == {1000.0}
    assert home.adapter.things["pump"].reads == reads, "nothing was asked of the device"


@in_virtual_time
async def test_samples_stay_in_the_home_without_a_grant(tmp_path: Path) -> None:
    home = await Home(tmp_path, Policy(sample_us=5 * MINUTE_US)).start()
    await home.greet(devices=[permit("pump", Operation.TURN_OFF)])
    await home.sleep(900)
    now_us = home.wall.now_us()
    body = {"from": to_rfc3339(now_us - 600 * US), "to": to_rfc3339(now_us)}
    result = await home.ask(Operation.READ, "", body, scope=Scope.HOME)
    assert (result.state, result.reason) == ("REFUSED", Reason.OPERATION_NOT_PERMITTED)
    assert data_of(result) is None


@in_virtual_time
async def test_samples_are_forgotten_after_their_time(tmp_path: Path) -> None:
    policy = Policy(sample_us=60 * MINUTE_US, sample_keep_us=24 * 60 * MINUTE_US)
    home = await Home(tmp_path, policy).start()
    await home.greet()
    await home.sleep(3 * 24 * 3600)
    samples = await home.store.inner.read(lambda books: books.samples("pump", 0, 2**62))
    assert 20 < len(samples) < 36


@in_virtual_time
async def test_an_answer_that_is_no_number_is_a_fault_and_not_data(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].nonsense = True
    result = await home.ask(Operation.READ)
    assert (result.state, result.reason) == ("FAILED", Reason.DEVICE_FAULT)


@in_virtual_time
async def test_a_device_that_never_answers_fails_within_the_time_out(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    home.adapter.things["pump"].silent = True
    result = await home.ask(Operation.READ)
    assert (result.state, result.reason) == ("FAILED", Reason.DEVICE_UNAVAILABLE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grant": "g-none"}, Reason.ACCESS_DISABLED),
        ({"party": OTHER}, Reason.ACCESS_DISABLED),
        ({"service_point": SP2}, Reason.ACCESS_DISABLED),
        ({"grant_version": 2}, Reason.ACCESS_DISABLED),
        ({"device": "pump2"}, Reason.DEVICE_UNKNOWN),
        ({"device": "nothing"}, Reason.DEVICE_UNKNOWN),
        ({"operation": Operation.SHED}, Reason.OPERATION_NOT_PERMITTED),
        ({"body": msgspec.Raw(b"[]")}, Reason.BODY_MALFORMED),
        ({"body": msgspec.Raw(b'{"from":"yesterday","to":"today"}')}, Reason.FORMAT_INVALID),
    ],
)
@in_virtual_time
async def test_what_the_grant_does_not_cover_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, object], reason: Reason
) -> None:
    home = await ready(tmp_path)
    result = await home.answer(home.command(**({"operation": Operation.READ} | changes)))  # type: ignore[arg-type]
    assert (result.state, result.reason) == ("REFUSED", reason)
    assert home.adapter.calls == 0


@in_virtual_time
async def test_service_points_of_one_gateway_are_strangers_to_each_other(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.tell(home.push(home.document("g-2", OTHER, service_point=SP2)))
    await home.settle(0.1)
    foreign = home.command(Operation.READ, "pump", party=OTHER, grant="g-2", service_point=SP2)
    result = await home.answer(foreign)
    assert (result.state, result.reason) == ("REFUSED", Reason.DEVICE_UNLISTED)
