"""The central system's side of OCPP 2.0.1."""

import random
from collections.abc import Callable
from typing import Any

from ocpp.v201 import ChargePoint, call, call_result

from doorward.kit.clock import Clock
from doorward.spg.han.ocpp_session import (
    HEARTBEAT_S,
    Connection,
    Profile,
    Said,
    Session,
    asked,
    hears,
    profile_fields,
    rows_of,
    schedule_fields,
    then,
)

EVSE = 1
ID_TOKEN = {"id_token": "doorward", "type": "Central"}


class _Session(Session, ChargePoint):  # type: ignore[misc]
    version = "2.0.1"

    def __init__(
        self,
        identity: str,
        connection: Connection,
        clock: Clock,
        rng: random.Random,
        accepts: Callable[[str], bool],
        changed: Callable[[Said], None],
        answer_s_max: float,
    ) -> None:
        ChargePoint.__init__(self, identity, connection, response_timeout=answer_s_max)
        self.prepare(connection, clock, rng, accepts, changed)

    async def listen(self) -> None:
        await self.start()

    async def ask(self, payload: object) -> Any:
        return await asked(self.id, self.call(payload, suppress=False))

    # --- the charger speaks -------------------------------------------------------------------------

    @hears("BootNotification")
    async def on_boot(self, charging_station: dict[str, Any], **_: object) -> object:
        status = self.booted(charging_station.get("serial_number", ""))
        await self.told()
        return call_result.BootNotification(current_time=self.now(), interval=HEARTBEAT_S, status=status)

    @then("BootNotification")
    async def after_boot(self, charging_station: dict[str, Any], **_: object) -> None:
        if not self._accepts(charging_station.get("serial_number", "")):
            await self.connection.close(1008, "serial number")

    @hears("Heartbeat")
    def on_heartbeat(self, **_: object) -> object:
        return call_result.Heartbeat(current_time=self.now())

    @hears("Authorize")
    def on_authorize(self, **_: object) -> object:
        # Who may charge at home is not the gateway's business: the charger's own list decides.
        return call_result.Authorize(id_token_info={"status": "Accepted"})

    @hears("StatusNotification")
    async def on_status(self, connector_status: str, evse_id: int, **_: object) -> object:
        if evse_id in (0, EVSE):
            self.status_is(connector_status, "Faulted" if connector_status == "Faulted" else "")
            await self.told()
        return call_result.StatusNotification()

    @hears("MeterValues")
    async def on_meter(self, evse_id: int, meter_value: list[dict[str, Any]], **_: object) -> object:
        if evse_id in (0, EVSE):
            self.meter_is(meter_value)
            await self.told()
        return call_result.MeterValues()

    @hears("TransactionEvent")
    async def on_transaction(
        self,
        event_type: str,
        transaction_info: dict[str, Any],
        meter_value: list[dict[str, Any]] | None = None,
        **_: object,
    ) -> object:
        said = self.said
        if meter_value:
            self.meter_is(meter_value)
        said.charging_state = transaction_info.get("charging_state", said.charging_state)
        said.transaction = None if event_type == "Ended" else transaction_info["transaction_id"]
        if event_type == "Ended":
            said.begun_wh, said.charging_state = None, ""
        await self.told()
        return call_result.TransactionEvent()

    @hears("DataTransfer")
    async def on_data(
        self, vendor_id: str, message_id: str | None = None, data: object = None, **_: object
    ) -> object:
        status = self.resident_chose(vendor_id, message_id, data)
        await self.told()
        return call_result.DataTransfer(status=status)

    @hears("NotifyEvent")
    def on_event(self, **_: object) -> object:
        return call_result.NotifyEvent()

    @hears("NotifyReport")
    def on_report(self, **_: object) -> object:
        return call_result.NotifyReport()

    @hears("FirmwareStatusNotification")
    def on_firmware(self, **_: object) -> object:
        return call_result.FirmwareStatusNotification()

    @hears("SecurityEventNotification")
    def on_security(self, **_: object) -> object:
        return call_result.SecurityEventNotification()

    # --- the charger is asked -------------------------------------------------------------------------

    async def trigger(self, message: str) -> bool:
        evse = {"id": EVSE}
        if message == "StatusNotification":
            evse["connector_id"] = 1
        answer = await self.ask(
            call.TriggerMessage(
                requested_message=message, evse=None if message == "BootNotification" else evse
            )
        )
        return bool(answer.status == "Accepted")

    async def set_profile(self, profile: Profile) -> str:
        raw = {
            "id": profile.id,
            "charging_profile_purpose": _purpose(profile.whole_station),
            **profile_fields(profile),
            "charging_schedule": [{"id": 1, **schedule_fields(profile)}],
        }
        evse = 0 if profile.whole_station else EVSE
        answer = await self.ask(call.SetChargingProfile(evse_id=evse, charging_profile=raw))
        return str(answer.status)

    async def clear_profile(self, whole_station: bool, stack_level: int) -> str:
        criteria = {"charging_profile_purpose": _purpose(whole_station), "stack_level": stack_level}
        answer = await self.ask(call.ClearChargingProfile(charging_profile_criteria=criteria))
        return str(answer.status)

    async def composite(self, duration_s: int) -> list[tuple[int, float]]:
        answer = await self.ask(
            call.GetCompositeSchedule(duration=duration_s, evse_id=EVSE, charging_rate_unit="W")
        )
        return rows_of(answer.schedule) if answer.status == "Accepted" else []

    async def set_operative(self, operative: bool) -> str:
        status = "Operative" if operative else "Inoperative"
        answer = await self.ask(call.ChangeAvailability(operational_status=status, evse={"id": EVSE}))
        return str(answer.status)

    async def start_charging(self) -> str:
        answer = await self.ask(
            call.RequestStartTransaction(
                id_token=ID_TOKEN, remote_start_id=self.rng.randrange(1, 2**31), evse_id=EVSE
            )
        )
        return str(answer.status)

    async def stop_charging(self, transaction: int | str) -> str:
        answer = await self.ask(call.RequestStopTransaction(transaction_id=str(transaction)))
        return str(answer.status)


def _purpose(whole_station: bool) -> str:
    return "ChargingStationMaxProfile" if whole_station else "TxDefaultProfile"


def session(
    identity: str,
    connection: Connection,
    clock: Clock,
    rng: random.Random,
    accepts: Callable[[str], bool],
    changed: Callable[[Said], None],
    answer_s_max: float,
) -> Session:
    """Return a session with the charger at the other end of ``connection``."""
    return _Session(identity, connection, clock, rng, accepts, changed, answer_s_max)
