"""The physics is simple and honest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.simulate.equipment.physics import (
    Battery,
    Conditioner,
    House,
    Tank,
    duty_is_on,
    pump_power_w,
    pump_speed_percent,
)


def test_a_house_without_heat_cools_to_the_outdoor_temperature() -> None:
    house = House(temperature=20, outdoor=5)
    house.step(3600, 0)
    assert 19 < house.temperature < 20
    house.step(30 * 86_400, 0)
    assert house.temperature == pytest.approx(5)


def test_a_house_is_warmed_by_heat_and_cooled_by_cooling() -> None:
    warm, cool = House(temperature=20, outdoor=20), House(temperature=20, outdoor=20)
    warm.step(3600, 3000)
    cool.step(3600, -3000)
    assert warm.temperature == pytest.approx(21, abs=0.05)
    assert cool.temperature == pytest.approx(19, abs=0.05)


@given(st.floats(1, 1e6), st.floats(-20_000, 20_000))
def test_many_short_steps_are_one_long_step(seconds: float, heat: float) -> None:
    long, short = House(), House()
    long.step(seconds, heat)
    for _ in range(10):
        short.step(seconds / 10, heat)
    assert short.temperature == pytest.approx(long.temperature, abs=1e-6)


def test_a_conditioner_does_not_chatter() -> None:
    conditioner = Conditioner(hysteresis_k=0.5)
    seen = [conditioner.decide("heat", t, 20, 30) for t in (19.4, 19.9, 20.4, 20.6, 19.9, 19.6, 19.4)]
    assert seen == [1, 1, 1, 0, 0, 0, 1]
    assert conditioner.decide("off", 10.0, 20, 30) == 0
    assert conditioner.decide("cool", 31.0, 20, 30) == -1


def test_a_tank_keeps_count_of_energy() -> None:
    tank = Tank(temperature=50, loss_w_per_k=1e-9, draw_w=0)
    room = tank.room_for_wh(60)
    tank.step(3600, 1000)
    assert room - tank.room_for_wh(60) == pytest.approx(1000, rel=1e-3)


def test_a_tank_left_alone_cools() -> None:
    tank = Tank(temperature=50)
    tank.step(3600, 0)
    assert tank.temperature < 50


def test_a_battery_fills_and_takes_less_towards_the_end() -> None:
    battery = Battery(capacity_wh=10_000, soc_percent=50)
    assert battery.accepts_w(7000) == 7000
    battery.step(3600, 7000)
    assert battery.soc_percent == pytest.approx(100)
    assert battery.accepts_w(7000) == 0
    assert 0 < Battery(soc_percent=95).accepts_w(7000) < 7000


@given(st.floats(10, 5000), st.floats(0, 1))
def test_a_pumps_speed_keeps_its_power_within_the_limit(rated: float, share: float) -> None:
    speed = pump_speed_percent(rated, rated * share)
    assert pump_power_w(rated, speed) == pytest.approx(rated * share, abs=1e-6 * rated)


def test_half_the_speed_is_an_eighth_of_the_power() -> None:
    assert pump_power_w(1600, 50) == 200


@pytest.mark.parametrize(("elapsed", "on"), [(0, True), (299, True), (300, False), (599, False), (600, True)])
def test_half_duty_is_on_half_of_the_period(elapsed: float, on: bool) -> None:
    assert duty_is_on(elapsed, 50, 600) is on
