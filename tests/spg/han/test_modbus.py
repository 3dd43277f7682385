"""The Modbus adapter against simulated equipment, over real Modbus TCP."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from doorward.simulate.equipment import DeviceConfiguration, Neighbourhood
from doorward.spg.han.modbus import ModbusAdapter
from doorward.spg.ports import DeviceFault, HanCommand
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, OperatingState, Operation
from tests.spg.han.street import Heard, Street, eventually, provisioned, real_clock

MODBUS_CLASSES = [kind for kind in DeviceClass if kind is not DeviceClass.EV_CHARGER]
NIGHT_AND_DAY: dict[DeviceClass, object] = {
    DeviceClass.THERMOSTAT: [{"at": "06:00", "celsius": 20.5}, {"at": "22:00", "celsius": 16.0}],
    DeviceClass.POOL_PUMP: [{"at": "00:00", "on": True, "speed_percent": 40.0}],
    DeviceClass.RELAY: [{"at": "00:00", "on": False}],
}
CASES: list[tuple[DeviceClass, Operation, dict[str, object], dict[str, object]]] = [
    (DeviceClass.THERMOSTAT, Operation.SETPOINT, {"celsius": 18.5}, {"heat_setpoint": 18.5}),
    (DeviceClass.THERMOSTAT, Operation.OFFSET, {"celsius": -2}, {"heat_setpoint": 18.0}),
    (DeviceClass.THERMOSTAT, Operation.MODE, {"mode": "off"}, {"mode": "off"}),
    (DeviceClass.HEAT_PUMP, Operation.TURN_OFF, {}, {"on": False}),
    (DeviceClass.HEAT_PUMP, Operation.LIMIT, {"watts": 1200}, {"limit_w": 1200.0}),
    (DeviceClass.HEAT_PUMP, Operation.DUTY_CYCLE, {"percent": 50}, {"duty_percent": 50.0}),
    (DeviceClass.HEAT_PUMP, Operation.SETPOINT, {"celsius": 24, "which": "cool"}, {"cool_setpoint": 24.0}),
    (DeviceClass.HEAT_PUMP, Operation.OFFSET, {"celsius": 1.5}, {"heat_setpoint": 22.5}),
    (DeviceClass.HEAT_PUMP, Operation.MODE, {"mode": "cool"}, {"mode": "cool"}),
    (DeviceClass.POOL_PUMP, Operation.TURN_OFF, {}, {"on": False}),
    (DeviceClass.POOL_PUMP, Operation.LIMIT, {"watts": 300}, {"limit_w": 300.0}),
    (DeviceClass.WATER_HEATER, Operation.TURN_OFF, {}, {"on": False}),
    (DeviceClass.WATER_HEATER, Operation.SHED, {"level": 2}, {"shed_level": 2.0}),
    (DeviceClass.WATER_HEATER, Operation.LOAD_UP, {"level": 1}, {"load_up_level": 1.0}),
    (DeviceClass.WATER_HEATER, Operation.SETPOINT, {"celsius": 55}, {"heat_setpoint": 55.0}),
    (DeviceClass.RELAY, Operation.TURN_OFF, {}, {"on": False, "output": False}),
    (DeviceClass.RELAY, Operation.DUTY_CYCLE, {"percent": 30}, {"duty_percent": 30.0}),
    *((kind, Operation.PROGRAM, {"intervals": rows}, {}) for kind, rows in NIGHT_AND_DAY.items()),
]
NAMES = [f"{case[0].value}-{case[1].value}" for case in CASES]


@pytest.fixture
async def adapter(heard: Heard) -> AsyncIterator[ModbusAdapter]:
    adapter = ModbusAdapter(real_clock(), poll_interval_s=0.05, request_timeout_s=0.3)
    await adapter.start(heard)
    yield adapter
    await adapter.stop()


async def one(
    street: Street, adapter: ModbusAdapter, kind: DeviceClass, **how: object
) -> tuple[Neighbourhood, ProvisionedDevice]:
    configured = street.device(kind, **how)
    world = await street.start(configured)
    device = provisioned(world, configured)
    adapter.provision([device])
    return world, device


@pytest.mark.parametrize("kind", MODBUS_CLASSES)
async def test_every_operation_of_a_class_can_be_carried_out(kind: DeviceClass) -> None:
    device = ProvisionedDevice(
        id="d",
        service_point="sp",
        device_class=kind,
        protocol="modbus",
        model=f"sim-{kind.value.replace('_', '-')}",
        address="127.0.0.1:502/1",
    )
    assert ModbusAdapter(real_clock()).capabilities(device) == CLASS_OPERATIONS[kind]


@pytest.mark.parametrize(("kind", "operation", "body", "shows"), CASES, ids=NAMES)
async def test_a_command_is_followed_recorded_by_the_device_and_undone_by_release(
    street: Street,
    adapter: ModbusAdapter,
    kind: DeviceClass,
    operation: Operation,
    body: dict[str, object],
    shows: dict[str, object],
) -> None:
    _, device = await one(street, adapter, kind)
    before = await adapter.snapshot(device)
    command = HanCommand(operation=operation, body=body, baseline=before)
    assert not await adapter.follows(device, command)

    acted = await adapter.command(device, command)
    assert acted.followed, acted.detail
    assert {name: acted.reading.values[name] for name in shows} == pytest.approx(shows)
    assert await adapter.follows(device, command)
    held = await adapter.snapshot(device)
    assert held != before
    assert [act for act in street.acts(device.id) if not act["repeat"]]

    released = await adapter.command(
        device, HanCommand(operation=Operation.RELEASE, body={}, baseline=before)
    )
    assert released.followed
    assert await adapter.snapshot(device) == before


@pytest.mark.parametrize("kind", [DeviceClass.HEAT_PUMP, DeviceClass.RELAY, DeviceClass.POOL_PUMP])
async def test_what_was_turned_off_draws_nothing_and_turns_on_again(
    street: Street, adapter: ModbusAdapter, kind: DeviceClass
) -> None:
    _, device = await one(street, adapter, kind)
    off = await adapter.command(device, HanCommand(operation=Operation.TURN_OFF, body={}))
    assert (off.followed, off.reading.power_w) == (True, 0.0)
    on = await adapter.command(device, HanCommand(operation=Operation.TURN_ON, body={}))
    assert on.followed
    assert on.reading.power_w > 0
    assert [(act["name"], act["value"]) for act in street.acts(device.id) if not act["repeat"]] == [
        ("on", False),
        ("on", True),
    ]


async def test_a_water_heater_turns_off_and_on(street: Street, adapter: ModbusAdapter) -> None:
    _, device = await one(street, adapter, DeviceClass.WATER_HEATER)
    off = await adapter.command(device, HanCommand(operation=Operation.TURN_OFF, body={}))
    on = await adapter.command(device, HanCommand(operation=Operation.TURN_ON, body={}))
    assert (off.followed, off.reading.state) == (True, OperatingState.IDLE_CURTAILED)
    assert (on.followed, on.reading.state) == (True, OperatingState.RUNNING_NORMAL)


async def test_a_meter_is_read_in_watts_and_sees_what_is_behind_it(
    street: Street, adapter: ModbusAdapter
) -> None:
    pump = street.device(DeviceClass.POOL_PUMP)
    meter = street.device(DeviceClass.METER, behind=["pool_pump"])
    world = await street.start(pump, meter)
    device = provisioned(world, meter)
    adapter.provision([device])
    await eventually(lambda: _power_is_above(adapter, device, 1500.0))
    assert (await adapter.read(device)).values["voltage"] == pytest.approx(230, abs=10)


async def _power_is_above(adapter: ModbusAdapter, device: ProvisionedDevice, watts: float) -> bool:
    return (await adapter.read(device)).power_w > watts


async def test_an_offset_is_not_cumulative(street: Street, adapter: ModbusAdapter) -> None:
    _, device = await one(street, adapter, DeviceClass.THERMOSTAT)
    owner = await adapter.snapshot(device)
    for _ in range(2):
        acted = await adapter.command(
            device, HanCommand(operation=Operation.OFFSET, body={"celsius": -2}, baseline=owner)
        )
    assert acted.reading.values["heat_setpoint"] == 18.0


async def test_the_same_command_again_is_a_repeat_in_the_devices_file(
    street: Street, adapter: ModbusAdapter
) -> None:
    _, device = await one(street, adapter, DeviceClass.POOL_PUMP)
    for _ in range(2):
        await adapter.command(device, HanCommand(operation=Operation.LIMIT, body={"watts": 500}))
    assert [(a["name"], a["value"], a["repeat"]) for a in street.acts(device.id)] == [
        ("limit_w", 500.0, False),
        ("limit_w", 500.0, True),
    ]


@pytest.mark.parametrize("how", ["lie", "stuck"])
async def test_a_pump_that_accepts_and_does_not_follow_is_not_followed(
    street: Street, adapter: ModbusAdapter, how: str
) -> None:
    world, device = await one(street, adapter, DeviceClass.POOL_PUMP)
    world.resident(device.id, how)
    acted = await adapter.command(device, HanCommand(operation=Operation.LIMIT, body={"watts": 300}))
    assert (acted.followed, acted.reason) == (False, Reason.DEVICE_NOT_FOLLOWING)
    assert street.acts(device.id) == []


async def test_a_device_that_hangs_is_unavailable_and_does_not_hold_up_its_neighbour(
    street: Street, adapter: ModbusAdapter
) -> None:
    hung = street.device(DeviceClass.POOL_PUMP, name="hung", bus="b", unit=1)
    well = street.device(DeviceClass.RELAY, name="well", bus="b", unit=2)
    world = await street.start(hung, well)
    devices = [provisioned(world, hung), provisioned(world, well)]
    adapter.provision(devices)
    world.resident("hung", "hang")
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(adapter.read(d) for d in devices), return_exceptions=True)
    assert isinstance(answers[0], DeviceFault)
    assert answers[0].reason is Reason.DEVICE_UNAVAILABLE
    assert not isinstance(answers[1], BaseException)


async def test_nothing_listening_is_unavailable(street: Street, adapter: ModbusAdapter) -> None:
    world, device = await one(street, adapter, DeviceClass.RELAY)
    await world.stop()
    with pytest.raises(DeviceFault, match="device-unavailable"):
        await adapter.read(device)


async def test_the_adapter_reconnects_when_the_equipment_is_back(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    world, device = await one(street, adapter, DeviceClass.RELAY)
    await adapter.read(device)
    await world.stop()
    await eventually(lambda: heard.kinds(device.id) == ["offline"])
    port = int(device.address.partition(":")[2].partition("/")[0])
    await street.start(street.device(DeviceClass.RELAY, port=port))
    await eventually(lambda: heard.kinds(device.id) == ["offline", "online"])
    assert (await adapter.read(device)).power_w > 0


async def test_a_fault_shows_as_error_and_is_noticed(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    world, device = await one(street, adapter, DeviceClass.HEAT_PUMP)
    world.resident(device.id, "fault")
    assert (await adapter.read(device)).state is OperatingState.ERROR
    acted = await adapter.command(device, HanCommand(operation=Operation.LIMIT, body={"watts": 900}))
    assert (acted.followed, acted.reason) == (False, Reason.DEVICE_FAULT)
    await eventually(lambda: heard.kinds(device.id) == ["fault"])
    world.resident(device.id, "clear")
    await eventually(lambda: heard.kinds(device.id) == ["fault", "fault_cleared"])


async def test_what_the_resident_chose_is_seen_noticed_and_never_written_over(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    world, device = await one(street, adapter, DeviceClass.THERMOSTAT)
    world.resident(device.id, "override")
    assert (await adapter.read(device)).overridden
    acted = await adapter.command(device, HanCommand(operation=Operation.SETPOINT, body={"celsius": 17}))
    assert (acted.followed, acted.reason) == (False, Reason.CUSTOMER_OVERRIDE)
    assert acted.reading.values["heat_setpoint"] == 22.0
    assert world.devices[device.id].asked["heat_setpoint"] == 22.0  # nobody tried to write it
    await eventually(lambda: heard.kinds(device.id) == ["override"])
    world.resident(device.id, "clear")
    await eventually(lambda: heard.kinds(device.id) == ["override", "override_ended"])


async def test_a_notice_that_the_gateway_stumbles_over_does_not_end_the_polling(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    world, device = await one(street, adapter, DeviceClass.RELAY)
    heard.stumbles = 1
    world.resident(device.id, "fault")
    await eventually(lambda: heard.stumbles == 0)
    world.resident(device.id, "clear")
    await eventually(lambda: heard.kinds(device.id) == ["fault_cleared"])


async def test_opting_out_is_noticed_and_shows_in_the_state(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    world, device = await one(street, adapter, DeviceClass.POOL_PUMP)
    world.resident(device.id, "opt_out")
    assert (await adapter.read(device)).state is OperatingState.RUNNING_OPTED_OUT
    await eventually(lambda: heard.kinds(device.id) == ["opt_out"])
    world.resident(device.id, "opt_in")
    await eventually(lambda: heard.kinds(device.id) == ["opt_out", "opt_in"])


async def test_a_device_of_another_serial_is_refused_and_reported(
    street: Street, adapter: ModbusAdapter, heard: Heard
) -> None:
    configured = street.device(DeviceClass.RELAY)
    world = await street.start(configured)
    device = provisioned(world, configured)
    other = ProvisionedDevice(
        id=device.id,
        service_point="sp-1",
        device_class=device.device_class,
        protocol="modbus",
        model=device.model,
        address=device.address,
        serial="SN-ANOTHER",
    )
    adapter.provision([other])
    with pytest.raises(DeviceFault, match=r"device-unlisted.*SN-relay"):
        await adapter.command(other, HanCommand(operation=Operation.TURN_OFF, body={}))
    assert street.acts("relay") == []
    await eventually(lambda: heard.kinds(device.address) == ["unlisted"])


async def test_a_device_that_is_not_on_the_list_is_not_spoken_to(
    street: Street, adapter: ModbusAdapter
) -> None:
    _, device = await one(street, adapter, DeviceClass.RELAY)
    adapter.provision([])
    with pytest.raises(DeviceFault, match="device-unlisted"):
        await adapter.read(device)


@pytest.mark.parametrize("kind", [DeviceClass.RELAY, DeviceClass.METER])
async def test_nonsense_is_a_fault_and_never_a_value(
    street: Street, adapter: ModbusAdapter, kind: DeviceClass
) -> None:
    world, device = await one(street, adapter, kind)
    world.resident(device.id, "nonsense")
    with pytest.raises(DeviceFault, match="device-fault: power_w reads") as fault:
        await adapter.read(device)
    assert fault.value.reason is Reason.DEVICE_FAULT


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"watts": 99_000}, "outside"),
        ({"watts": "much"}, "takes a number"),
        ({"watts": float("nan")}, "takes a number"),
        ({}, "lacks 'watts'"),
    ],
)
async def test_what_a_device_can_not_take_is_refused_before_anything_is_written(
    street: Street, adapter: ModbusAdapter, body: dict[str, object], said: str
) -> None:
    _, device = await one(street, adapter, DeviceClass.POOL_PUMP)
    with pytest.raises(DeviceFault, match=f"device-refused.*{said}"):
        await adapter.command(device, HanCommand(operation=Operation.LIMIT, body=body))
    assert street.acts(device.id) == []


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ([{"at": "25:00", "on": True}], "HH:MM"),
        ([{"at": "10:00", "warmth": 3}], "no warmth"),
        ([{"at": "10:00"}] * 25, "at most 24"),
        ("daily", "a list"),
    ],
)
async def test_a_programme_that_a_device_can_not_hold_is_refused(
    street: Street, adapter: ModbusAdapter, intervals: object, said: str
) -> None:
    _, device = await one(street, adapter, DeviceClass.RELAY)
    command = HanCommand(operation=Operation.PROGRAM, body={"intervals": intervals})
    with pytest.raises(DeviceFault, match=f"device-refused.*{said}"):
        await adapter.command(device, command)
    assert street.acts(device.id) == []


async def test_two_devices_on_one_connection_are_commanded_at_once(
    street: Street, adapter: ModbusAdapter
) -> None:
    configured: list[DeviceConfiguration] = [
        street.device(DeviceClass.POOL_PUMP, name=f"pump{n}", bus="b", unit=n) for n in range(1, 5)
    ]
    world = await street.start(*configured)
    devices = [provisioned(world, device) for device in configured]
    adapter.provision(devices)
    acted = await asyncio.gather(
        *(
            adapter.command(d, HanCommand(operation=Operation.LIMIT, body={"watts": 100 * n}))
            for n, d in enumerate(devices, 1)
        )
    )
    assert [(a.followed, a.reading.device, a.reading.values["limit_w"]) for a in acted] == [
        (True, f"pump{n}", 100.0 * n) for n in range(1, 5)
    ]


async def test_unlisted_units_of_a_known_model_are_discovered(street: Street, adapter: ModbusAdapter) -> None:
    listed = street.device(DeviceClass.RELAY, name="listed", bus="b", unit=1)
    stranger = street.device(DeviceClass.POOL_PUMP, name="stranger", bus="b", unit=2)
    world = await street.start(listed, stranger)
    adapter.provision([provisioned(world, listed)])
    await adapter.read(provisioned(world, listed))
    found = await adapter.discover()
    assert [(d.model, d.serial, d.address) for d in found] == [
        ("sim-pool-pump", "SN-stranger", world.addresses["stranger"])
    ]


async def test_an_address_or_a_model_that_is_wrong_is_said(adapter: ModbusAdapter) -> None:
    def device(model: str = "sim-relay", address: str = "127.0.0.1:502/1") -> ProvisionedDevice:
        return ProvisionedDevice(
            id="d",
            service_point="sp",
            device_class=DeviceClass.RELAY,
            protocol="modbus",
            model=model,
            address=address,
        )

    for wrong, said in (
        (device(address="nowhere"), "host:port/unit"),
        (device(model="sim-nothing"), "no device model"),
        (device(model="sim-meter"), "is a meter"),
    ):
        adapter.provision([wrong])
        with pytest.raises(DeviceFault, match=said):
            await adapter.read(wrong)
