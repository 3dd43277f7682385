"""Simple honest physics, stepped by ``dt_s``. No clock, no randomness, no I/O.

Each model is solved exactly over a step, so that long steps (a sped-up demo) stay stable.
"""

import math

WATER_WH_PER_LITRE_K = 1.163
HOUR_S = 3600.0


class House:
    """Indoor air and walls as one mass: it drifts to the outdoor temperature, and heat moves it away."""

    def __init__(
        self,
        *,
        temperature: float = 20.0,
        outdoor: float = 5.0,
        loss_w_per_k: float = 150.0,
        mass_wh_per_k: float = 3000.0,
    ) -> None:
        self.temperature = temperature
        self.outdoor = outdoor
        self._loss = loss_w_per_k
        self._mass = mass_wh_per_k

    def step(self, dt_s: float, heat_w: float) -> None:
        """Let ``heat_w`` (negative: cooling) work for ``dt_s``."""
        rest = self.outdoor + heat_w / self._loss
        fade = math.exp(-dt_s * self._loss / (self._mass * HOUR_S))
        self.temperature = rest + (self.temperature - rest) * fade


class Conditioner:
    """Decides with hysteresis whether a house is to be heated (+1), cooled (-1) or left (0)."""

    def __init__(self, hysteresis_k: float = 0.3) -> None:
        self._band = hysteresis_k
        self.direction = 0

    def decide(self, mode: str, temperature: float, heat_to: float, cool_to: float) -> int:
        """Return the direction for now."""
        heats, cools = mode in ("heat", "auto"), mode in ("cool", "auto")
        if heats and temperature < heat_to - self._band:
            self.direction = 1
        elif cools and temperature > cool_to + self._band:
            self.direction = -1
        elif self._is_enough(heats, cools, temperature, heat_to, cool_to):
            self.direction = 0
        return self.direction

    def _is_enough(
        self, heats: bool, cools: bool, temperature: float, heat_to: float, cool_to: float
    ) -> bool:
        if self.direction > 0:
            return not heats or temperature >= heat_to + self._band
        return self.direction == 0 or not cools or temperature <= cool_to - self._band


class Tank:
    """Hot water: it loses heat to the room, hot water is drawn from it, an element heats it."""

    def __init__(
        self,
        *,
        litres: float = 190.0,
        temperature: float = 50.0,
        room: float = 20.0,
        loss_w_per_k: float = 2.0,
        draw_w: float = 150.0,
    ) -> None:
        self.temperature = temperature
        self.mass_wh_per_k = litres * WATER_WH_PER_LITRE_K
        self._room = room
        self._loss = loss_w_per_k
        self._draw_w = draw_w

    def step(self, dt_s: float, heat_w: float) -> None:
        """Let ``heat_w`` work for ``dt_s``, less the average that is drawn while the tank is warm."""
        drawn = self._draw_w if self.temperature > self._room else 0.0
        rest = self._room + (heat_w - drawn) / self._loss
        fade = math.exp(-dt_s * self._loss / (self.mass_wh_per_k * HOUR_S))
        self.temperature = rest + (self.temperature - rest) * fade

    def room_for_wh(self, until_temperature: float) -> float:
        """Energy that the tank can still take up to a temperature."""
        return max(0.0, (until_temperature - self.temperature) * self.mass_wh_per_k)


class Battery:
    """A car's battery: takes full power up to 80 %, less and less beyond."""

    def __init__(self, *, capacity_wh: float = 60_000.0, soc_percent: float = 40.0) -> None:
        self._capacity_wh = capacity_wh
        self.soc_percent = soc_percent

    def accepts_w(self, offered_w: float) -> float:
        """Power that it draws of what is offered."""
        if self.soc_percent >= 100.0:
            return 0.0
        taper = min(1.0, (100.0 - self.soc_percent) / 20.0 + 0.05)
        return max(0.0, offered_w) * taper

    def step(self, dt_s: float, power_w: float) -> None:
        """Fill with ``power_w`` for ``dt_s``; a tenth is lost as heat."""
        gained = 0.9 * power_w * dt_s / HOUR_S
        self.soc_percent = min(100.0, self.soc_percent + 100.0 * gained / self._capacity_wh)


def pump_power_w(rated_w: float, speed_percent: float) -> float:
    """Power of a pump by the cube law of affinity."""
    return rated_w * (speed_percent / 100.0) ** 3


def pump_speed_percent(rated_w: float, limit_w: float) -> float:
    """The fastest speed whose power is within ``limit_w``."""
    return 100.0 * math.cbrt(min(1.0, max(0.0, limit_w / rated_w)))


def duty_is_on(elapsed_s: float, percent: float, period_s: float) -> bool:
    """Whether a duty cycle is in the part of its period that is on."""
    return (elapsed_s % period_s) < period_s * percent / 100.0
