"""The EV charger itself, whatever OCPP version it speaks: cable, transaction, availability, profiles."""

import random
from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from doorward.simulate.equipment.actuation import ActuationFile
from doorward.simulate.equipment.appliances import Appliance, Value
from doorward.simulate.equipment.charging_profiles import Profile, composite, limit_at
from doorward.simulate.equipment.physics import Battery
from doorward.wire.vocabulary import DeviceClass

PROFILES_MAX = 32


class EvCharger(Appliance):
    """A charger that lets any car charge when it is plugged in, while it is operative.

    ``shown`` profiles are those that its composite schedule is made of, ``active`` those that limit it.
    ``transaction`` counts up; None while nothing charges. ``changed`` is called after any change.
    """

    device_class: ClassVar[DeviceClass] = DeviceClass.EV_CHARGER
    owner: ClassVar[Mapping[str, Value]] = {"on": True}

    def __init__(
        self,
        name: str,
        serial: str,
        file: ActuationFile,
        rng: random.Random,
        parameters: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__(name, serial, file, rng, parameters)
        self.battery = Battery(soc_percent=self.parameter("soc_percent", rng.uniform(20.0, 60.0)))
        self.rated_w = self.parameter("rated_w", 7400.0)
        self.plugged = bool(self.parameter("plugged", 1.0))
        self.transaction: int | None = None
        self.told_transaction: int | None = None
        self.given: int | str | None = None
        """The transaction's id on the wire: the central system's in 1.6, the charger's own in 2.0.1."""
        self.sequence = 0
        self.stop_reason = "Remote"
        self.session_wh = 0.0
        self.started = 0
        self.shown_profiles: list[Profile] = []
        self.active_profiles: list[Profile] = []
        self.pending_off = False
        self.changed: Callable[[], None] = lambda: None
        self.now_us: Callable[[], int] = lambda: 0
        if self.plugged:
            self._begin()

    # --- what the central system asks -----------------------------------------------------------------

    def set_profile(self, profile: Profile, via: str) -> bool:
        """Take a profile (it replaces one of the same purpose and level); False when it has no room."""
        if len(self.shown_profiles) >= PROFILES_MAX:
            return False
        others = [p for p in self.shown_profiles if (p.purpose, p.stack) != (profile.purpose, profile.stack)]
        self._profiles([*others, profile], via, msgspec.to_builtins(profile))
        return True

    def clear_profiles(
        self, via: str, *, id: int | None = None, purpose: str | None = None, stack: int | None = None
    ) -> bool:
        """Clear what matches; False when nothing did."""
        matching = [
            p
            for p in self.shown_profiles
            if id in (None, p.id) and purpose in (None, p.purpose) and stack in (None, p.stack)
        ]
        if matching:
            rest = [p for p in self.shown_profiles if p not in matching]
            self._profiles(rest, via, {"cleared": [p.id for p in matching]})
        return bool(matching)

    def _profiles(self, profiles: list[Profile], via: str, value: object) -> None:
        if self.moods & {"lie", "override", "opt_out", "fault"}:
            return
        before, self.shown_profiles = self.shown_profiles, profiles
        if "stuck" not in self.moods:
            self.active_profiles = profiles
            what = [_effect(before), _effect(profiles)]
            self.record(via=via, name="profiles", value=value, before=what[0], after=what[1])
        self.settle()
        self.changed()

    def schedule(self, duration_s: int) -> list[tuple[int, float]]:
        """The composite schedule that it says it follows."""
        return composite(self.shown_profiles, self.now_us(), duration_s, self.rated_w)

    def set_operative(self, operative: bool, via: str) -> str:
        """Change availability; ``Scheduled`` while a transaction runs, as the standard has it."""
        if not operative and self.transaction is not None:
            self.pending_off = "lie" not in self.moods
            return "Scheduled"
        self.pending_off = False
        self.command("on", operative, via)
        self.changed()
        return "Accepted"

    def remote_start(self, via: str) -> bool:
        """Begin a transaction; False when there is no car, or the charger is out of service."""
        if not (self.plugged and self.shown["on"]) or self.moods & {"fault"}:
            return False
        if "lie" not in self.moods and self.transaction is None:
            self._begin()
            self.record(via=via, name="charging", value=True, before=False, after=True)
            self.settle()
            self.changed()
        return True

    def remote_stop(self, transaction: int, via: str) -> bool:
        """End the transaction; False when it is another one."""
        if self.transaction is None or transaction != self.transaction:
            return False
        if "lie" not in self.moods:
            self._end("Remote")
            self.record(via=via, name="charging", value=False, before=True, after=False)
            if self.pending_off:
                self.set_operative(False, via)
            self.settle()
            self.changed()
        return True

    # --- what people do ---------------------------------------------------------------------------------

    def resident(self, action: str) -> None:
        """As of any device, and ``plug`` and ``unplug``."""
        if action == "plug" and not self.plugged:
            self.plugged = True
            if self.shown["on"]:
                self._begin()
        elif action == "unplug" and self.plugged:
            self.plugged = False
            self._end("EVDisconnected")
            if self.pending_off:
                self.set_operative(False, "ChangeAvailability")
        elif action not in ("plug", "unplug"):
            super().resident(action)
            self._let_go(action)
        self.settle()
        self.changed()

    def _let_go(self, action: str) -> None:
        """Who overrides or opts out charges as if nobody controlled the charger."""
        if action in ("override", "opt_out"):
            self.shown_profiles, self.active_profiles, self.pending_off = [], [], False
            if self.plugged and self.transaction is None:
                self._begin()

    def _begin(self) -> None:
        self.started += 1
        self.transaction, self.session_wh = self.started, 0.0

    def _end(self, reason: str) -> None:
        self.transaction, self.stop_reason = None, reason

    # --- physics and speech -----------------------------------------------------------------------------

    def limit_w(self) -> float:
        """The limit that really acts."""
        return limit_at(self.active_profiles, self.now_us(), self.rated_w)

    def draws_w(self) -> float:
        """What the car takes of what it is offered."""
        if self.transaction is None or not self.active["on"]:
            return 0.0
        return self.battery.accepts_w(self.limit_w())

    def live(self, dt_s: float) -> None:
        """Fill the battery."""
        before_w, self.session_wh = self.power_w, self.session_wh + self.power_w * dt_s / 3600.0
        self.battery.step(dt_s, self.power_w)
        if (before_w > 0) != (self.draws_w() > 0):
            self.changed()

    def charging_state(self) -> str:
        """Return Idle, EVConnected, Charging, SuspendedEV or SuspendedEVSE (the names of OCPP 2.0.1)."""
        if self.transaction is None:
            return "EVConnected" if self.plugged else "Idle"
        if self.power_w > 0:
            return "Charging"
        return "SuspendedEV" if self.limit_w() > 0 else "SuspendedEVSE"

    def status_16(self) -> str:
        """Return the connector's status in the words of OCPP 1.6."""
        if "fault" in self.moods:
            return "Faulted"
        if not self.shown["on"]:
            return "Unavailable"
        state = self.charging_state()
        return {"Idle": "Available", "EVConnected": "Preparing"}.get(state, state)

    def status_201(self) -> str:
        """Return the connector's status in the words of OCPP 2.0.1."""
        status = self.status_16()
        return status if status in ("Faulted", "Unavailable", "Available") else "Occupied"


def _effect(profiles: list[Profile]) -> list[object]:
    return [[p.purpose, p.stack, [list(period) for period in p.periods], p.valid_to_us] for p in profiles]
