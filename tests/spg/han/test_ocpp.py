"""The OCPP adapter against simulated chargers of both versions, over real WebSockets."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from doorward.simulate.equipment import Neighbourhood
from doorward.spg.han.ocpp import OcppAdapter
from doorward.spg.ports import Acted, DeviceFault, HanCommand
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, OperatingState, Operation
from tests.spg.han.street import Heard, Street, eventually, real_clock

VERSIONS = ["ocpp1.6", "ocpp2.0.1"]
DAILY = [{"at": "00:00", "watts": 1500}, {"at": "12:00", "watts": 1500}]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def adapter(heard: Heard) -> AsyncIterator[OcppAdapter]:
    adapter = OcppAdapter(
        real_clock(),
        random.Random(1),
        passwords={"guarded": "sesame"},
        answer_s_max=1.0,
        settle_s_max=1.5,
    )
    await adapter.start(heard)
    yield adapter
    await adapter.stop()


def listed(identity: str, serial: str = "") -> ProvisionedDevice:
    return ProvisionedDevice(
        id=identity,
        service_point="sp-1",
        device_class=DeviceClass.EV_CHARGER,
        protocol="ocpp",
        model="",
        address=identity,
        rated_w=7400.0,
        serial=serial,
    )


async def plugged_in(
    street: Street, adapter: OcppAdapter, version: str, name: str = "charger", **how: object
) -> tuple[Neighbourhood, ProvisionedDevice]:
    """One charger with a car that charges, connected and read once."""
    device = listed(name, serial=str(how.pop("listed_serial", f"SN-{name}")))
    adapter.provision([device])
    world = await street.start(
        street.device(
            DeviceClass.EV_CHARGER,
            name=name,
            protocol=version,
            url=f"ws://127.0.0.1:{adapter.port}/ocpp",
            parameters={"soc_percent": 30.0},
            **how,
        )
    )
    return world, device


async def charging(
    street: Street, adapter: OcppAdapter, version: str, **how: object
) -> tuple[Neighbourhood, ProvisionedDevice]:
    world, device = await plugged_in(street, adapter, version, **how)  # type: ignore[arg-type]
    await eventually(lambda: _draws(adapter, device))
    return world, device


async def _draws(adapter: OcppAdapter, device: ProvisionedDevice) -> bool:
    try:
        return (await adapter.read(device)).power_w > 7000
    except DeviceFault:
        return False


async def do(adapter: OcppAdapter, device: ProvisionedDevice, operation: Operation, **body: object) -> Acted:
    return await adapter.command(device, HanCommand(operation=operation, body=body, id=f"r-{operation}"))


async def test_every_operation_of_a_charger_can_be_carried_out(adapter: OcppAdapter) -> None:
    assert adapter.capabilities(listed("c")) == CLASS_OPERATIONS[DeviceClass.EV_CHARGER]


async def test_a_reading_says_what_charges(street: Street, adapter: OcppAdapter, version: str) -> None:
    _, device = await charging(street, adapter, version)
    reading = await adapter.read(device)
    assert reading.state is OperatingState.RUNNING_NORMAL
    assert reading.power_w == pytest.approx(7400)
    assert reading.energy_wh > 1000
    assert reading.values["soc_percent"] == pytest.approx(30, abs=1)
    assert (reading.values["plugged"], reading.values["on"]) == (True, True)
    assert reading.values["charging_state"] == "Charging"


@pytest.mark.parametrize(
    ("operation", "body"),
    [(Operation.LIMIT, {"watts": 2000}), (Operation.PROGRAM, {"intervals": DAILY}), (Operation.TURN_OFF, {})],
    ids=["limit", "program", "turn_off"],
)
async def test_a_command_is_followed_recorded_by_the_charger_and_undone_by_release(
    street: Street, adapter: OcppAdapter, version: str, operation: Operation, body: dict[str, object]
) -> None:
    _, device = await charging(street, adapter, version)
    before = await adapter.snapshot(device)
    command = HanCommand(operation=operation, body=body, id="request-1")
    assert not await adapter.follows(device, command)

    acted = await adapter.command(device, command)
    assert acted.followed, acted.detail
    assert acted.reading.power_w <= 2050
    assert acted.reading.state.value.endswith("_CURTAILED")
    assert await adapter.follows(device, command)
    assert [act for act in street.acts(device.id) if not act["repeat"]]

    released = await adapter.command(
        device, HanCommand(operation=Operation.RELEASE, body={}, baseline=before)
    )
    assert released.followed, released.detail
    assert released.reading.power_w > 7000
    assert await adapter.snapshot(device) == before


async def test_what_was_turned_off_charges_again_when_it_is_turned_on(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    _, device = await charging(street, adapter, version)
    off = await do(adapter, device, Operation.TURN_OFF)
    again = await do(adapter, device, Operation.TURN_OFF)
    assert (off.followed, off.reading.power_w, again.followed) == (True, 0.0, True)
    on = await do(adapter, device, Operation.TURN_ON)
    again = await do(adapter, device, Operation.TURN_ON)
    assert (on.followed, again.followed) == (True, True)
    assert on.reading.power_w > 7000
    changes = [(act["name"], act["value"]) for act in street.acts(device.id) if not act["repeat"]]
    assert changes == [("charging", False), ("on", False), ("on", True), ("charging", True)]


async def test_a_charger_without_a_car_turns_off_and_on(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "unplug")
    off = await do(adapter, device, Operation.TURN_OFF)
    on = await do(adapter, device, Operation.TURN_ON)
    assert (off.followed, on.followed, on.reading.values["plugged"]) == (True, True, False)


async def test_a_limit_carries_its_end_and_the_requests_id(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    _, device = await charging(street, adapter, version)
    until_us = (real_clock().now_us() // 1_000_000 + 3600) * 1_000_000
    for request in ("one", "two"):
        command = HanCommand(operation=Operation.LIMIT, body={"watts": 1400}, id=request, until_us=until_us)
        assert (await adapter.command(device, command)).followed
    profiles = [act["value"] for act in street.acts(device.id)]
    assert all(isinstance(p, dict) and p["valid_to_us"] == until_us for p in profiles)
    assert len({p["id"] for p in profiles if isinstance(p, dict)}) == 2
    assert [act["repeat"] for act in street.acts(device.id)] == [False, True]


async def test_a_limit_ends_by_itself_at_the_charger(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    _, device = await charging(street, adapter, version)
    until_us = real_clock().now_us() + 1_500_000
    command = HanCommand(operation=Operation.LIMIT, body={"watts": 1400}, until_us=until_us)
    assert (await adapter.command(device, command)).followed
    await eventually(lambda: _draws(adapter, device))


@pytest.mark.parametrize("how", ["lie", "stuck"])
async def test_a_charger_that_accepts_and_does_not_follow_is_not_followed(
    street: Street, adapter: OcppAdapter, version: str, how: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, how)
    acted = await do(adapter, device, Operation.LIMIT, watts=1400)
    assert (acted.followed, acted.reason) == (False, Reason.DEVICE_NOT_FOLLOWING)
    assert street.acts(device.id) == []


async def test_a_charger_that_hangs_is_unavailable_within_the_time_out(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "hang")
    async with asyncio.timeout(4):
        with pytest.raises(DeviceFault) as fault:
            await adapter.read(device)
    assert fault.value.reason is Reason.DEVICE_UNAVAILABLE


async def test_a_fault_shows_as_error_and_is_noticed(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "fault")
    await eventually(lambda: "fault" in heard.kinds(device.id))
    assert (await adapter.read(device)).state is OperatingState.ERROR
    acted = await do(adapter, device, Operation.LIMIT, watts=1400)
    assert (acted.followed, acted.reason) == (False, Reason.DEVICE_FAULT)
    world.resident(device.id, "clear")
    await eventually(lambda: "fault_cleared" in heard.kinds(device.id))


async def test_what_the_resident_chose_is_seen_noticed_and_never_written_over(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    assert (await do(adapter, device, Operation.LIMIT, watts=1400)).followed
    world.resident(device.id, "override")
    await eventually(lambda: "override" in heard.kinds(device.id))
    reading = await adapter.read(device)
    assert reading.overridden
    assert reading.power_w > 7000
    acted = await do(adapter, device, Operation.TURN_OFF)
    assert (acted.followed, acted.reason) == (False, Reason.CUSTOMER_OVERRIDE)
    world.resident(device.id, "clear")
    await eventually(lambda: "override_ended" in heard.kinds(device.id))


async def test_a_notice_that_the_gateway_stumbles_over_does_not_end_the_others(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    heard.stumbles = 1
    _, device = await charging(street, adapter, version)
    await eventually(lambda: heard.kinds(device.id) == ["plugged"])


async def test_opting_out_shows_in_the_state(street: Street, adapter: OcppAdapter, version: str) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "opt_out")
    await eventually(lambda: _opted_out(adapter, device))


async def _opted_out(adapter: OcppAdapter, device: ProvisionedDevice) -> bool:
    return (await adapter.read(device)).state is OperatingState.RUNNING_OPTED_OUT


async def test_the_cable_and_the_link_are_noticed(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "unplug")
    await eventually(lambda: heard.kinds(device.id) == ["online", "plugged", "unplugged"])
    world.resident(device.id, "plug")
    await eventually(lambda: heard.kinds(device.id)[3:] == ["plugged"])
    await world.stop()
    await eventually(lambda: heard.kinds(device.id)[4:] == ["offline"])
    with pytest.raises(DeviceFault, match="not connected"):
        await adapter.read(device)


async def test_after_a_restart_of_the_gateway_a_running_transaction_can_be_stopped(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    _, device = await charging(street, adapter, version)
    port = adapter.port
    await adapter.stop()
    restarted = OcppAdapter(real_clock(), random.Random(2), port=port, answer_s_max=1.0, settle_s_max=1.0)
    restarted.provision([device])
    await restarted.start(heard)
    try:
        await eventually(lambda: _draws(restarted, device))
        off = await do(restarted, device, Operation.TURN_OFF)
        assert (off.followed, off.reading.power_w) == (True, 0.0)
    finally:
        await restarted.stop()


async def test_an_unlisted_charger_is_refused_and_reported_once(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    adapter.provision([])
    for _ in range(2):
        with pytest.raises(InvalidStatus, match="404"):
            await connect(
                f"ws://127.0.0.1:{adapter.port}/stranger", subprotocols=[Subprotocol(version)], proxy=None
            )
    await eventually(lambda: heard.kinds("stranger") == ["unlisted"])
    assert [device.address for device in await adapter.discover()] == ["stranger"]


async def test_a_charger_of_another_serial_is_refused_and_nothing_that_it_says_is_passed_on(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    _, device = await plugged_in(street, adapter, version, listed_serial="SN-ANOTHER")
    await eventually(lambda: "unlisted" in heard.kinds("charger"))
    assert "plugged" not in heard.kinds("charger")
    with pytest.raises(DeviceFault):
        await adapter.read(device)


async def test_a_password_lets_in_and_its_lack_does_not(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    url = f"ws://127.0.0.1:{adapter.port}/guarded"
    adapter.provision([listed("guarded")])
    with pytest.raises(InvalidStatus, match="401"):
        await connect(url, subprotocols=[Subprotocol(version)], proxy=None)
    await eventually(lambda: heard.kinds("guarded") == ["unlisted"])
    _, device = await charging(street, adapter, version, name="guarded", password="sesame")
    assert (await adapter.read(device)).power_w > 7000


async def test_a_charger_of_an_unknown_version_is_refused(adapter: OcppAdapter) -> None:
    adapter.provision([listed("old")])
    with pytest.raises(InvalidStatus, match="400"):
        await connect(f"ws://127.0.0.1:{adapter.port}/old", subprotocols=[Subprotocol("ocpp1.5")], proxy=None)


@pytest.mark.parametrize(
    "garbage", ["no json", "[]", "[2]", '{"a": 1}', '[3, "x"]', '[2, "1", "Nonsense", {}]']
)
async def test_garbage_from_one_charger_disturbs_no_other(
    street: Street, adapter: OcppAdapter, version: str, garbage: str
) -> None:
    _, well = await charging(street, adapter, version)
    adapter.provision([well, listed("mad")])
    async with connect(
        f"ws://127.0.0.1:{adapter.port}/mad", subprotocols=[Subprotocol(version)], proxy=None
    ) as mad:
        await mad.send(garbage)
        assert (await adapter.read(well)).power_w > 7000


async def test_nonsense_is_a_fault_and_never_a_value(
    street: Street, adapter: OcppAdapter, version: str
) -> None:
    world, device = await charging(street, adapter, version)
    world.resident(device.id, "nonsense")
    with pytest.raises(DeviceFault, match="device-fault: power reads"):
        await adapter.read(device)


@pytest.mark.parametrize("body", [{}, {"watts": -1}, {"watts": "all"}, {"watts": float("nan")}])
async def test_a_limit_that_is_none_is_refused(
    street: Street, adapter: OcppAdapter, version: str, body: dict[str, object]
) -> None:
    _, device = await charging(street, adapter, version)
    with pytest.raises(DeviceFault, match="device-refused"):
        await do(adapter, device, Operation.LIMIT, **body)
    assert street.acts(device.id) == []


async def test_two_chargers_of_both_versions_are_commanded_at_once(
    street: Street, adapter: OcppAdapter
) -> None:
    devices = [listed(f"c{n}") for n in range(len(VERSIONS))]
    adapter.provision(devices)
    await street.start(
        *(
            street.device(
                DeviceClass.EV_CHARGER,
                name=f"c{n}",
                protocol=version,
                url=f"ws://127.0.0.1:{adapter.port}",
                parameters={"soc_percent": 30.0},
            )
            for n, version in enumerate(VERSIONS)
        )
    )
    for device in devices:
        await eventually(lambda d=device: _draws(adapter, d))  # type: ignore[misc]
    acted = await asyncio.gather(
        *(do(adapter, device, Operation.LIMIT, watts=1000 * (n + 1)) for n, device in enumerate(devices))
    )
    assert [(a.followed, a.reading.device, a.reading.values["limit_w"]) for a in acted] == [
        (True, "c0", 1000.0),
        (True, "c1", 2000.0),
    ]


async def test_a_charger_that_is_taken_off_the_list_is_disconnected(
    street: Street, adapter: OcppAdapter, heard: Heard, version: str
) -> None:
    _, device = await charging(street, adapter, version)
    adapter.provision([])
    with pytest.raises(DeviceFault, match="device-unlisted"):
        await adapter.read(device)
    await eventually(lambda: "unlisted" in heard.kinds("charger"))


@pytest.mark.parametrize(("power", "read"), [("3.6", 3600.0), ("much", None), ("NaN", None)])
async def test_a_hand_written_charger_that_knows_no_trigger_is_read_from_what_it_said(
    adapter: OcppAdapter, power: str, read: float | None
) -> None:
    """A foreign 1.6 charger, spoken by hand: it refuses triggers and has no smart charging."""
    device = listed("foreign")
    adapter.provision([device])
    async with connect(
        f"ws://127.0.0.1:{adapter.port}/foreign", subprotocols=[Subprotocol("ocpp1.6")], proxy=None
    ) as wire:
        await _says(wire, power)
        reading = asyncio.ensure_future(adapter.read(device))
        for answer in ({"status": "NotImplemented"}, {"status": "NotImplemented"}, {"status": "Rejected"}):
            asked = json.loads(await wire.recv())
            await wire.send(json.dumps([3, asked[1], answer]))
        if read is None:
            with pytest.raises(DeviceFault, match="device-fault: power reads nan"):
                await reading
        else:
            said = await reading
            assert (said.power_w, said.energy_wh, said.values["limit_w"]) == (read, 12345.0, None)


async def _says(wire: ClientConnection, power: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sampled = [{"value": power, "measurand": "Power.Active.Import", "unit": "kW"}, {"value": "12345"}]
    meter = {"connectorId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": sampled}]}
    for action, payload in (
        ("BootNotification", {"chargePointModel": "X", "chargePointVendor": "Y"}),
        ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Charging"}),
        ("MeterValues", meter),
    ):
        await wire.send(json.dumps([2, action, action, payload]))
        assert json.loads(await wire.recv())[0] == 3
