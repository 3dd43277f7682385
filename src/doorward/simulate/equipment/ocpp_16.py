"""The simulated charger in OCPP 1.6-J."""

import random
from typing import Any

from ocpp.v16 import ChargePoint, call, call_result
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
    """The charger in OCPP 1.6-J."""

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
        await self.call(
            call.BootNotification(
                charge_point_model="sim-ev-charger",
                charge_point_vendor="Doorward",
                charge_point_serial_number=self.charger.serial or None,
            ),
            suppress=False,
        )

    def status(self) -> object:
        return self.charger.status_16()

    async def tell_status(self) -> None:
        status = self.charger.status_16()
        error = "InternalError" if status == "Faulted" else "NoError"
        await self.call(
            call.StatusNotification(connector_id=1, error_code=error, status=status, timestamp=self.now())
        )

    async def tell_charging(self) -> None:
        """In 1.6 the status says it."""

    async def tell_meter(self) -> None:
        if not self.silent:
            await self.call(
                call.MeterValues(
                    connector_id=1,
                    transaction_id=self.charger.given,
                    meter_value=[{"timestamp": self.now(), "sampled_value": self._samples()}],
                )
            )

    def _samples(self) -> list[dict[str, str]]:
        power, energy = self.charger.power_w, self.charger.energy_wh
        samples = [
            {"value": f"{power:.1f}", "measurand": "Power.Active.Import", "unit": "W"},
            {"value": f"{energy:.1f}", "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
        ]
        if self.charger.plugged:
            soc = f"{self.charger.battery.soc_percent:.1f}"
            samples.append({"value": soc, "measurand": "SoC", "unit": "Percent"})
        return nonsense_of(samples) if "nonsense" in self.charger.moods else samples

    async def tell_transaction(self) -> None:
        meter = round(self.charger.energy_wh)
        self.charger.told_transaction = self.charger.transaction
        if self.charger.given is not None:
            await self.call(
                call.StopTransaction(
                    meter_stop=meter,
                    timestamp=self.now(),
                    transaction_id=self.charger.given,
                    reason=self.charger.stop_reason,
                )
            )
            self.charger.given = None
        if self.charger.transaction is not None:
            answer = await self.call(
                call.StartTransaction(
                    connector_id=1, id_tag="resident", meter_start=meter, timestamp=self.now()
                )
            )
            self.charger.given = answer.transaction_id if answer is not None else None

    async def tell_resident(self) -> None:
        await self.call(
            call.DataTransfer(vendor_id=VENDOR, message_id="resident", data=self.resident_choice())
        )

    @hears("TriggerMessage")
    def on_trigger(self, requested_message: str, **_: object) -> object:
        known = requested_message in ("StatusNotification", "MeterValues", "BootNotification")
        return call_result.TriggerMessage(status="Accepted" if known else "NotImplemented")

    @then("TriggerMessage")
    async def after_trigger(self, requested_message: str, **_: object) -> None:
        await do_triggered(self, requested_message)

    @hears("SetChargingProfile")
    def on_set_profile(self, connector_id: int, cs_charging_profiles: dict[str, Any], **_: object) -> object:
        raw = cs_charging_profiles
        profile = profile_of(raw, raw["charging_profile_id"], raw["charging_schedule"], self.clock.now_us())
        taken = self.charger.set_profile(profile, "SetChargingProfile")
        return call_result.SetChargingProfile(status="Accepted" if taken else "Rejected")

    @hears("ClearChargingProfile")
    def on_clear_profile(
        self,
        id: int | None = None,
        charging_profile_purpose: str | None = None,
        stack_level: int | None = None,
        **_: object,
    ) -> object:
        cleared = self.charger.clear_profiles(
            "ClearChargingProfile", id=id, purpose=charging_profile_purpose, stack=stack_level
        )
        return call_result.ClearChargingProfile(status="Accepted" if cleared else "Unknown")

    @hears("GetCompositeSchedule")
    def on_composite(self, connector_id: int, duration: int, **_: object) -> object:
        return call_result.GetCompositeSchedule(
            status="Accepted",
            connector_id=connector_id,
            schedule_start=self.now(),
            charging_schedule={
                "duration": duration,
                "charging_rate_unit": "W",
                "charging_schedule_period": periods_of(self.charger.schedule(duration)),
            },
        )

    @hears("ChangeAvailability")
    def on_availability(self, type: str, **_: object) -> object:
        status = self.charger.set_operative(type == "Operative", "ChangeAvailability")
        return call_result.ChangeAvailability(status=status)

    @hears("RemoteStartTransaction")
    def on_remote_start(self, **_: object) -> object:
        begun = self.charger.remote_start("RemoteStartTransaction")
        return call_result.RemoteStartTransaction(status="Accepted" if begun else "Rejected")

    @hears("RemoteStopTransaction")
    def on_remote_stop(self, transaction_id: int, **_: object) -> object:
        mine = self.charger.transaction if transaction_id == self.charger.given else None
        ended = mine is not None and self.charger.remote_stop(mine, "RemoteStopTransaction")
        return call_result.RemoteStopTransaction(status="Accepted" if ended else "Rejected")


def point(
    identity: str, connection: ClientConnection, charger: EvCharger, clock: Clock, rng: random.Random
) -> Telling:
    """Return the charger at the end of ``connection``."""
    return _Point(identity, connection, charger, clock, rng)
