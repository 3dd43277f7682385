"""What the devices do, without any protocol."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from doorward.simulate.equipment.actuation import ActuationFile
from doorward.simulate.equipment.appliances import (
    Appliance,
    HeatPump,
    PoolPump,
    Relay,
    Thermostat,
    WaterHeater,
    program_value,
)
from doorward.simulate.equipment.charger import EvCharger


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ActuationFile]:
    file = ActuationFile(tmp_path / "acts.jsonl", "d", lambda: 42)
    yield file
    file.close()


def acts(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "acts.jsonl").read_text().splitlines()]


def made(kind: type[Appliance], file: ActuationFile, **parameters: float | str) -> Appliance:
    appliance = kind("d", "SN", file, random.Random(7), parameters)
    appliance.step(0, 0)
    return appliance


def test_an_act_is_one_line_with_all_that_counts(tmp_path: Path, file: ActuationFile) -> None:
    pump = made(PoolPump, file)
    pump.command("limit_w", 300.0, "holding 20")
    assert acts(tmp_path) == [
        {
            "at_us": 42,
            "device": "d",
            "via": "holding 20",
            "name": "limit_w",
            "value": 300.0,
            "effect": [None, 300.0],
            "repeat": False,
        }
    ]


def test_two_writers_of_one_file_lose_no_line(tmp_path: Path, file: ActuationFile) -> None:
    other = ActuationFile(tmp_path / "acts.jsonl", "e", lambda: 43)
    for n in range(10):
        for writer in (file, other):
            writer.record(via="x", name="n", value=n, before=0, after=1)
    other.close()
    other.close()
    assert len(acts(tmp_path)) == 20


def test_a_program_holds_over_midnight() -> None:
    rows = [{"minute": 360.0, "c": 20.0}, {"minute": 1320.0, "c": 16.0}]
    assert [program_value(rows, m, "c", 0) for m in (0, 359, 360, 1319, 1320)] == [16, 16, 20, 20, 16]
    assert program_value([], 0, "c", 21) == 21


def test_a_relay_keeps_its_minimum_off_time(file: ActuationFile) -> None:
    relay = made(Relay, file, min_off_s=60.0)
    relay.command("on", False, "coil 0")
    relay.step(10, 0)
    relay.command("on", True, "coil 0")
    assert (relay.tell("on"), relay.tell("output")) == (True, False)
    relay.step(49, 0)
    assert relay.power_w == 0
    relay.step(2, 0)
    assert relay.power_w > 0


def test_a_water_heater_sheds_and_loads_up(file: ActuationFile) -> None:
    heater = made(WaterHeater, file, temperature=45.0)
    assert heater.tell("operating") == "running"
    heater.command("shed_level", 2.0, "holding 21")
    assert (heater.power_w, heater.tell("operating")) == (0.0, "idle-curtailed")
    heater.command("shed_level", 0.0, "holding 21")
    heater.command("load_up_level", 1.0, "holding 22")
    assert heater.tell("operating") == "running-heightened"


def test_a_thermostat_that_is_set_lower_uses_less(file: ActuationFile) -> None:
    used = []
    for setpoint in (20.0, 17.0):
        thermostat = made(Thermostat, file, temperature=20.0)
        thermostat.command("heat_setpoint", setpoint, "holding 11")
        before = thermostat.energy_wh
        for _ in range(12 * 60):
            thermostat.step(60, 0)
        used.append(thermostat.energy_wh - before)
    assert used[1] < 0.9 * used[0]


def test_a_heat_pump_runs_a_part_of_the_time(file: ActuationFile) -> None:
    pump = made(HeatPump, file, temperature=10.0)
    pump.command("duty_percent", 25.0, "holding 21")
    on = 0
    for _ in range(60):
        pump.step(10, 0)
        on += pump.power_w > 0
    assert on == 15


def test_who_overrides_gets_his_own_way_and_the_device_heeds_nobody_else(
    tmp_path: Path, file: ActuationFile
) -> None:
    thermostat = made(Thermostat, file)
    thermostat.command("heat_setpoint", 16.0, "holding 11")
    thermostat.resident("override")
    thermostat.command("heat_setpoint", 15.0, "holding 11")
    assert (thermostat.tell("heat_setpoint"), thermostat.tell("override")) == (22.0, True)
    assert [act["value"] for act in acts(tmp_path)] == [16.0]


def test_clearing_a_fault_keeps_the_control_that_was_in_force(file: ActuationFile) -> None:
    pump = made(PoolPump, file)
    pump.command("limit_w", 300.0, "holding 20")
    pump.resident("fault")
    assert pump.power_w == 0
    pump.resident("clear")
    assert pump.power_w == pytest.approx(300)


def test_an_unknown_action_is_refused(file: ActuationFile) -> None:
    with pytest.raises(ValueError, match="'dance' is not one of override"):
        made(PoolPump, file).resident("dance")


def test_a_charger_fills_the_car_and_stops_when_it_is_full(file: ActuationFile) -> None:
    charger = made(EvCharger, file, soc_percent=90.0)
    for _ in range(10 * 60):
        charger.step(60, 0)
    assert isinstance(charger, EvCharger)
    assert charger.battery.soc_percent == 100
    assert (charger.power_w, charger.status_16()) == (0.0, "SuspendedEV")


def test_a_charger_in_a_transaction_goes_out_of_service_after_it(file: ActuationFile) -> None:
    charger = made(EvCharger, file)
    assert isinstance(charger, EvCharger)
    assert charger.set_operative(False, "ChangeAvailability") == "Scheduled"
    assert charger.status_16() == "Charging"
    charger.resident("unplug")
    assert charger.status_16() == "Unavailable"
