"""The devices: what they are asked, what they say, what they do, and who at home says otherwise.

Protocol servers call :meth:`Appliance.command` and :meth:`Appliance.tell`, the clock tick calls
:meth:`Appliance.step`, people call :meth:`Appliance.resident`.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from doorward.simulate.equipment.actuation import ActuationFile
from doorward.simulate.equipment.physics import (
    HOUR_S,
    Conditioner,
    House,
    Tank,
    duty_is_on,
    pump_power_w,
    pump_speed_percent,
)
from doorward.wire.vocabulary import DeviceClass

Program = list[dict[str, float]]
"""Daily intervals: ``minute`` of the day (UTC), and what holds from then on."""
Value = float | str | bool | None | Program

ACTIONS = ("override", "opt_out", "opt_in", "fault", "hang", "lie", "stuck", "nonsense", "clear")
"""What a resident or a tester can do to any device. ``lie`` accepts and changes nothing that shows,
``stuck`` shows the change and does not do it, ``hang`` stops answering, ``nonsense`` answers garbage."""


class Appliance:
    """Base of all devices.

    ``asked`` echoes what was written, ``shown`` is what the device says that it acts upon, ``active``
    what it really acts upon; they differ only when it lies, is overridden, opted out, or faulty.
    """

    device_class: ClassVar[DeviceClass]
    owner: ClassVar[Mapping[str, Value]] = {}
    """The owner's own settings: what a device does when nobody controls it."""

    def __init__(
        self,
        name: str,
        serial: str,
        file: ActuationFile,
        rng: random.Random,
        parameters: Mapping[str, float | str] | None = None,
    ) -> None:
        self.name = name
        self.serial = serial
        self.rng = rng
        self.moods: set[str] = set()
        self.power_w = 0.0
        self.energy_wh = float(rng.randrange(1000, 50_000))
        self.elapsed_s = 0.0
        self._file = file
        self._parameters = dict(parameters or {})
        self.own: dict[str, Value] = {
            key: self._parameters.get(key, value) for key, value in self.owner.items()
        }
        self.asked, self.shown, self.active = dict(self.own), dict(self.own), dict(self.own)

    def parameter(self, name: str, default: float) -> float:
        """Return a number of the device's configuration."""
        return float(self._parameters.get(name, default))

    # --- commands ---------------------------------------------------------------------------------

    def command(self, name: str, value: Value, via: str) -> None:
        """Take a command; write the actuation file when the device obeys."""
        self.asked[name] = value
        if self.moods & {"lie", "override", "opt_out", "fault"}:
            return
        before, self.shown[name] = self.shown[name], value
        if "stuck" not in self.moods:
            self.active[name] = value
            self._file.record(via=via, name=name, value=value, before=before, after=value)
        self.settle()

    def record(self, *, via: str, name: str, value: object, before: object, after: object) -> None:
        """Write an act to the device's file that is not the change of a setting."""
        self._file.record(via=via, name=name, value=value, before=before, after=after)

    def tell(self, name: str) -> Value:
        """Return what the device says of ``name``; a setting, a measurement or a mood."""
        if name in self.shown:
            return self.shown[name]
        if name in ("override", "opt_out"):
            return name in self.moods
        if name == "fault":
            return 7 if "fault" in self.moods else 0
        if name == "running":
            return self.power_w > 0
        return self.measured(name)

    def measured(self, name: str) -> Value:
        """Return a measurement."""
        if name == "power_w":
            return self.power_w
        if name == "energy_wh":
            return self.energy_wh
        raise KeyError(name)

    # --- people -----------------------------------------------------------------------------------

    def resident(self, action: str) -> None:
        """Do one of :data:`ACTIONS` to the device; raise ``ValueError`` for another."""
        if action not in ACTIONS:
            raise ValueError(f"'{action}' is not one of {', '.join(ACTIONS)}")
        restores = action in ("override", "opt_out")
        if action == "clear":
            restores = bool(self.moods & {"override", "opt_out"})
            self.moods.clear()
        elif action == "opt_in":
            self.moods.discard("opt_out")
        else:
            self.moods.add(action)
        if restores:
            self._own_settings(self.chosen_by_hand() if action == "override" else {})
        self.settle()

    def chosen_by_hand(self) -> dict[str, Value]:
        """What a resident chooses who overrides; everything else becomes the owner's own."""
        return {}

    def _own_settings(self, chosen: Mapping[str, Value]) -> None:
        for settings in (self.asked, self.shown, self.active):
            settings.update({**self.own, **chosen})

    # --- time -------------------------------------------------------------------------------------

    def step(self, dt_s: float, minute: float) -> None:
        """Let ``dt_s`` pass at ``minute`` of the day (UTC)."""
        self.elapsed_s += dt_s
        self._minute = minute
        self.settle()
        self.energy_wh += self.power_w * dt_s / HOUR_S
        self.live(dt_s)

    _minute: float = 0.0

    def settle(self) -> None:
        """Bring the power to what the settings ask, now."""
        self.power_w = 0.0 if "fault" in self.moods else self.draws_w()

    def draws_w(self) -> float:
        """Power that the device draws now, as its settings and its physics have it."""
        return 0.0

    def live(self, dt_s: float) -> None:
        """Let the physics move."""

    # --- settings, read safely ----------------------------------------------------------------------

    def number(self, name: str, default: float = 0.0) -> float:
        """Return an active setting as a number; ``default`` when it has none."""
        value = self.active[name]
        return float(value) if isinstance(value, (int, float)) else default

    def scheduled(self, key: str, default: float) -> float:
        """Return what the programme in force says of ``key`` now, or ``default`` without one."""
        program = self.active.get("program")
        return program_value(program, self._minute, key, default) if isinstance(program, list) else default


def program_value(program: Sequence[Mapping[str, float]], minute: float, key: str, default: float) -> float:
    """Return ``key`` of the daily interval that ``minute`` is in (the last one holds over midnight)."""
    if not program:
        return default
    rows = sorted(program, key=lambda row: row["minute"])
    begun = [row for row in rows if row["minute"] <= minute] or rows[-1:]
    return float(begun[-1].get(key, default))


class _Conditioned(Appliance):
    """A house that is kept between two setpoints."""

    hand_setpoint_k: ClassVar[float] = 2.0

    def __init__(
        self,
        name: str,
        serial: str,
        file: ActuationFile,
        rng: random.Random,
        parameters: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__(name, serial, file, rng, parameters)
        self.house = House(
            temperature=self.parameter("temperature", 19.0 + rng.random()),
            outdoor=self.parameter("outdoor", 5.0),
        )
        self._conditioner = Conditioner()

    def chosen_by_hand(self) -> dict[str, Value]:
        """Two degrees warmer than the owner's own setpoint."""
        warm = self.own["heat_setpoint"]
        return {"heat_setpoint": float(warm) + self.hand_setpoint_k} if isinstance(warm, (int, float)) else {}

    def direction(self) -> int:
        """Return +1 to heat, -1 to cool, 0 to leave."""
        heat_to, cool_to = self.number("heat_setpoint"), self.number("cool_setpoint")
        if str(self.active["mode"]) == "cool":
            cool_to = self.scheduled("celsius", cool_to)
        else:
            heat_to = self.scheduled("celsius", heat_to)
        return self._conditioner.decide(str(self.active["mode"]), self.house.temperature, heat_to, cool_to)

    def measured(self, name: str) -> Value:
        """Add the house's temperature."""
        return self.house.temperature if name == "temperature" else super().measured(name)

    def live(self, dt_s: float) -> None:
        """Warm or cool the house."""
        self.house.step(dt_s, self.power_w * self.gain() * self._conditioner.direction)

    def gain(self) -> float:
        """Heat moved per power drawn."""
        return 1.0


class Thermostat(_Conditioned):
    """A thermostat with resistive heating and a cooler behind it."""

    device_class = DeviceClass.THERMOSTAT
    owner = {"mode": "heat", "heat_setpoint": 20.0, "cool_setpoint": 26.0, "program": []}

    def draws_w(self) -> float:
        """All or nothing."""
        return self.parameter("rated_w", 6000.0) * abs(self.direction())


class HeatPump(_Conditioned):
    """A heat pump with an inverter: it can be limited, and run a part of the time."""

    device_class = DeviceClass.HEAT_PUMP
    owner = {
        "on": True,
        "limit_w": None,
        "duty_percent": 100.0,
        "mode": "heat",
        "heat_setpoint": 21.0,
        "cool_setpoint": 26.0,
    }

    def draws_w(self) -> float:
        """Rated power within the limit, while it is on and its duty cycle lets it."""
        rated = self.parameter("rated_w", 3000.0)
        duty = duty_is_on(self.elapsed_s, self.number("duty_percent"), self.parameter("duty_period_s", 600.0))
        if not (self.active["on"] and duty):
            return 0.0
        return min(rated, self.number("limit_w", rated)) * abs(self.direction())

    def gain(self) -> float:
        """Three units of heat for one of power."""
        return 3.0


class PoolPump(Appliance):
    """A variable-speed pump; its power goes with the cube of its speed."""

    device_class = DeviceClass.POOL_PUMP
    owner = {"on": True, "limit_w": None, "program": []}

    def chosen_by_hand(self) -> dict[str, Value]:
        """Full speed."""
        return {"on": True}

    def speed_percent(self) -> float:
        """Speed within the programme and the limit."""
        rated = self.parameter("rated_w", 1500.0)
        if not self.scheduled("on", float(bool(self.active["on"]))):
            return 0.0
        wished = self.scheduled("speed_percent", 100.0)
        return min(wished, pump_speed_percent(rated, self.number("limit_w", rated)))

    def draws_w(self) -> float:
        """Power by the cube law."""
        return pump_power_w(self.parameter("rated_w", 1500.0), self.speed_percent())

    def measured(self, name: str) -> Value:
        """Add the speed (what the device says, so of what it draws)."""
        if name == "speed_percent":
            return 0.0 if "fault" in self.moods else self.speed_percent()
        return super().measured(name)


SHED_K = (0.0, 5.0, 10.0, 60.0)
LOAD_UP_K = (0.0, 5.0, 10.0)
TANK_MAX = 65.0


class WaterHeater(Appliance):
    """A tank with an element; sheds by letting the tank cool, loads up by heating it further."""

    device_class = DeviceClass.WATER_HEATER
    owner = {"on": True, "heat_setpoint": 50.0, "shed_level": 0.0, "load_up_level": 0.0}

    def __init__(
        self,
        name: str,
        serial: str,
        file: ActuationFile,
        rng: random.Random,
        parameters: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__(name, serial, file, rng, parameters)
        self.tank = Tank(temperature=self.parameter("temperature", 46.0 + rng.random()))
        self._conditioner = Conditioner(hysteresis_k=1.0)

    def target(self) -> float:
        """Temperature that the element heats to now."""
        shed, load_up = int(self.number("shed_level")), int(self.number("load_up_level"))
        return min(TANK_MAX, self.number("heat_setpoint") - SHED_K[shed] + LOAD_UP_K[load_up])

    def draws_w(self) -> float:
        """The element, all or nothing."""
        wants = self._conditioner.decide("heat", self.tank.temperature, self.target(), 100.0)
        return self.parameter("rated_w", 4500.0) if wants and self.active["on"] else 0.0

    def live(self, dt_s: float) -> None:
        """Heat the tank, and let it cool."""
        self.tank.step(dt_s, self.power_w)

    def measured(self, name: str) -> Value:
        """Add the tank's temperature, what it can still take, and the operating state as a word."""
        if name == "tank_temperature":
            return self.tank.temperature
        if name == "present_capacity_wh":
            return self.tank.room_for_wh(TANK_MAX)
        return self._operating() if name == "operating" else super().measured(name)

    def _operating(self) -> str:
        running = "running" if self.power_w > 0 else "idle"
        if "fault" in self.moods:
            return "error"
        if "opt_out" in self.moods:
            return f"{running}-opted-out"
        if self.shown["shed_level"] or not self.shown["on"]:
            return f"{running}-curtailed"
        return f"{running}-heightened" if self.shown["load_up_level"] else running


class Relay(Appliance):
    """A contact with a load; what was off stays off for its minimum off time."""

    device_class = DeviceClass.RELAY
    owner = {"on": True, "duty_percent": 100.0, "program": []}

    _closed = False
    _opened_at_s = float("-inf")

    def chosen_by_hand(self) -> dict[str, Value]:
        """On."""
        return {"on": True}

    def draws_w(self) -> float:
        """The load, while the contact is closed."""
        period_s = self.parameter("duty_period_s", 600.0)
        wanted = bool(self.scheduled("on", float(bool(self.active["on"]))))
        wanted = wanted and duty_is_on(self.elapsed_s, self.number("duty_percent"), period_s)
        rested = self.elapsed_s - self._opened_at_s >= self.parameter("min_off_s", 0.0)
        if self._closed and not wanted:
            self._opened_at_s = self.elapsed_s
        self._closed = wanted and (self._closed or rested)
        return self.parameter("rated_w", 2000.0) if self._closed else 0.0

    def measured(self, name: str) -> Value:
        """Add the contact and the minimum off time."""
        if name == "output":
            return self.power_w > 0
        return self.parameter("min_off_s", 0.0) if name == "min_off_s" else super().measured(name)


class Meter(Appliance):
    """The home's meter: a base load that wavers, and the devices that hang on it."""

    device_class = DeviceClass.METER

    _wobble_w = 0.0
    behind: Callable[[], float] = staticmethod(lambda: 0.0)
    """Power of the devices behind the meter; the neighbourhood sets it."""

    def draws_w(self) -> float:
        """Base load and all devices behind."""
        return self.parameter("base_w", 300.0) + self._wobble_w + self.behind()

    def live(self, dt_s: float) -> None:
        """Let the base load waver."""
        self._wobble_w = self.rng.uniform(-20.0, 20.0)

    def measured(self, name: str) -> Value:
        """Add the voltage."""
        return 230.0 + self._wobble_w / 20.0 if name == "voltage" else super().measured(name)
