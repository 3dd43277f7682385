"""The simulated charger in OCPP 2.0.1."""

import random
from typing import Any

from ocpp.v201 import ChargePoint, call, call_result
from websockets.asyncio.client import ClientConnection

from doorward.kit.clock import Clock
from doorward.simulate.equipment.charger import EvCharger
from doorward.simulate.equipment.ocpp_point import (
    ANSWER_S_MAX,
    VENDOR,
    Telling,
    do_triggered,
    hears,
    nonsense_of,
    periods_of,
    profile_of,
    then,
)


class _Point(Telling, ChargePoint):  # type: ignore[misc]
    """The charger in OCPP 2.0.1."""

    def __init__(
        self,
        identity: str,
        connection: ClientConnection,
        charger: EvCharger,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        ChargePoint.__init__(self, identity, connection, response_timeout=ANSWER_S_MAX)
        self.prepare(charger, clock, rng)

    async def listen(self) -> None:
        await self.start()

    async def route_message(self, raw_msg: str) -> None:
        """Drop what arrives while the charger hangs."""
        if not self.silent:
            await super().route_message(raw_msg)

    async def boot(self) -> None:
        station = {"model": "sim-ev-charger", "vendor_name": "Doorward"}
        if self.charger.serial:
            station["serial_number"] = self.charger.serial
        await self.call(call.BootNotification(charging_station=station, reason="PowerUp"), suppress=False)

    def status(self) -> object:
        return self.charger.status_201()

    async def tell_status(self) -> None:
        await self.call(
            call.StatusNotification(
                timestamp=self.now(), connector_status=self.charger.status_201(), evse_id=1, connector_id=1
            )
        )

    async def tell_charging(self) -> None:
        if self.charger.given is not None:
            await self._event("Updated", "ChargingStateChanged", self.charger.given)

    async def tell_meter(self) -> None:
        if not self.silent:
            value = {"timestamp": self.now(), "sampled_value": self._samples()}
            await self.call(call.MeterValues(evse_id=1, meter_value=[value]))

    def _samples(self) -> list[dict[str, Any]]:
        power, energy = self.charger.power_w, self.charger.energy_wh
        samples: list[dict[str, Any]] = [
            {"value": round(power, 1), "measurand": "Power.Active.Import", "unit_of_measure": {"unit": "W"}},
            {
                "value": round(energy / 1000, 4),
                "measurand": "Energy.Active.Import.Register",
                "unit_of_measure": {"unit": "Wh", "multiplier": 3},
            },
        ]
        if self.charger.plugged:
            samples.append({"value": round(self.charger.battery.soc_percent, 1), "measurand": "SoC"})
        return nonsense_of(samples) if "nonsense" in self.charger.moods else samples

    async def tell_transaction(self) -> None:
        self.charger.told_transaction = self.charger.transaction
        if self.charger.given is not None:
            ended, self.charger.given = self.charger.given, None
            await self._event("Ended", "RemoteStop", ended, stopped_reason=self.charger.stop_reason)
        if self.charger.transaction is not None:
            self.charger.given = f"{self.charger.name}-{self.charger.transaction}"
            await self._event("Started", "CablePluggedIn", self.charger.given)

    async def _event(self, kind: str, trigger: str, transaction: object, **more: str) -> None:
        self.charger.sequence += 1
        state = self.charger.charging_state()
        info: dict[str, object] = {"transaction_id": transaction, "charging_state": state, **more}
        await self.call(
            call.TransactionEvent(
                event_type=kind,
                timestamp=self.now(),
                trigger_reason=trigger,
                seq_no=self.charger.sequence,
                transaction_info=info,
                evse={"id": 1, "connector_id": 1},
            )
        )

    async def tell_resident(self) -> None:
        await self.call(
            call.DataTransfer(vendor_id=VENDOR, message_id="resident", data=self.resident_choice())
        )

    @hears("TriggerMessage")
    def on_trigger(self, requested_message: str, **_: object) -> object:
        known = requested_message in ("StatusNotification", "MeterValues", "BootNotification")
        running = requested_message == "TransactionEvent" and self.charger.given is not None
        status = "Accepted" if known or running else "Rejected"
        return call_result.TriggerMessage(status=status)

    @then("TriggerMessage")
    async def after_trigger(self, requested_message: str, **_: object) -> None:
        if requested_message == "TransactionEvent" and self.charger.given is not None:
            await self._event("Updated", "Trigger", self.charger.given)
        else:
            await do_triggered(self, requested_message)

    @hears("SetChargingProfile")
    def on_set_profile(self, evse_id: int, charging_profile: dict[str, Any], **_: object) -> object:
        raw = charging_profile
        profile = profile_of(raw, raw["id"], raw["charging_schedule"][0], self.clock.now_us())
        taken = self.charger.set_profile(profile, "SetChargingProfile")
        return call_result.SetChargingProfile(status="Accepted" if taken else "Rejected")

    @hears("ClearChargingProfile")
    def on_clear_profile(
        self,
        charging_profile_id: int | None = None,
        charging_profile_criteria: dict[str, Any] | None = None,
        **_: object,
    ) -> object:
        criteria = charging_profile_criteria or {}
        cleared = self.charger.clear_profiles(
            "ClearChargingProfile",
            id=charging_profile_id,
            purpose=criteria.get("charging_profile_purpose"),
            stack=criteria.get("stack_level"),
        )
        return call_result.ClearChargingProfile(status="Accepted" if cleared else "Unknown")

    @hears("GetCompositeSchedule")
    def on_composite(self, duration: int, evse_id: int, **_: object) -> object:
        return call_result.GetCompositeSchedule(
            status="Accepted",
            schedule={
                "evse_id": evse_id,
                "duration": duration,
                "schedule_start": self.now(),
                "charging_rate_unit": "W",
                "charging_schedule_period": periods_of(self.charger.schedule(duration)),
            },
        )

    @hears("ChangeAvailability")
    def on_availability(self, operational_status: str, **_: object) -> object:
        status = self.charger.set_operative(operational_status == "Operative", "ChangeAvailability")
        return call_result.ChangeAvailability(status=status)

    @hears("RequestStartTransaction")
    def on_remote_start(self, **_: object) -> object:
        begun = self.charger.remote_start("RequestStartTransaction")
        return call_result.RequestStartTransaction(status="Accepted" if begun else "Rejected")

    @hears("RequestStopTransaction")
    def on_remote_stop(self, transaction_id: str, **_: object) -> object:
        mine = self.charger.transaction if transaction_id == self.charger.given else None
        ended = mine is not None and self.charger.remote_stop(mine, "RequestStopTransaction")
        return call_result.RequestStopTransaction(status="Accepted" if ended else "Rejected")


def point(
    identity: str, connection: ClientConnection, charger: EvCharger, clock: Clock, rng: random.Random
) -> Telling:
    """Return the charger at the end of ``connection``."""
    return _Point(identity, connection, charger, clock, rng)
