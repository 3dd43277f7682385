"""The central system's side of OCPP 1.6-J."""

import random
from collections.abc import Callable
from typing import Any

from ocpp.v16 import ChargePoint, call, call_result

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

ID_TAG = "doorward"
CONNECTOR = 1


class _Session(Session, ChargePoint):  # type: ignore[misc]
    version = "1.6"

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
    async def on_boot(
        self,
        charge_point_serial_number: str = "",
        charge_box_serial_number: str = "",
        **_: object,
    ) -> object:
        status = self.booted(charge_point_serial_number or charge_box_serial_number)
        await self.told()
        return call_result.BootNotification(current_time=self.now(), interval=HEARTBEAT_S, status=status)

    @then("BootNotification")
    async def after_boot(
        self,
        charge_point_serial_number: str = "",
        charge_box_serial_number: str = "",
        **_: object,
    ) -> None:
        if not self._accepts(charge_point_serial_number or charge_box_serial_number):
            await self.connection.close(1008, "serial number")

    @hears("Heartbeat")
    def on_heartbeat(self) -> object:
        return call_result.Heartbeat(current_time=self.now())

    @hears("Authorize")
    def on_authorize(self, **_: object) -> object:
        # Who may charge at home is not the gateway's business: the charger's own list decides.
        return call_result.Authorize(id_tag_info={"status": "Accepted"})

    @hears("StatusNotification")
    async def on_status(self, connector_id: int, error_code: str, status: str, **_: object) -> object:
        if connector_id in (0, CONNECTOR):
            fault = "" if error_code == "NoError" else error_code
            if connector_id == CONNECTOR or status in ("Faulted", "Unavailable"):
                self.status_is(status, fault)
                self.said.charging_state = status
            await self.told()
        return call_result.StatusNotification()

    @hears("MeterValues")
    async def on_meter(
        self,
        connector_id: int,
        meter_value: list[dict[str, Any]],
        transaction_id: int | None = None,
        **_: object,
    ) -> object:
        if connector_id in (0, CONNECTOR):
            self.meter_is(meter_value)
            if transaction_id is not None:
                self.said.transaction = transaction_id
            await self.told()
        return call_result.MeterValues()

    @hears("StartTransaction")
    async def on_start(self, meter_start: int, **_: object) -> object:
        # Unique across restarts, with nothing to store: 31 random bits.
        self.said.transaction = self.rng.randrange(1, 2**31)
        self.said.begun_wh = float(meter_start)
        await self.told()
        return call_result.StartTransaction(
            transaction_id=self.said.transaction, id_tag_info={"status": "Accepted"}
        )

    @hears("StopTransaction")
    async def on_stop(self, **_: object) -> object:
        self.said.transaction = self.said.begun_wh = None
        await self.told()
        return call_result.StopTransaction()

    @hears("DataTransfer")
    async def on_data(
        self, vendor_id: str, message_id: str | None = None, data: object = None, **_: object
    ) -> object:
        status = self.resident_chose(vendor_id, message_id, data)
        await self.told()
        return call_result.DataTransfer(status=status)

    @hears("FirmwareStatusNotification")
    def on_firmware(self, **_: object) -> object:
        return call_result.FirmwareStatusNotification()

    @hears("DiagnosticsStatusNotification")
    def on_diagnostics(self, **_: object) -> object:
        return call_result.DiagnosticsStatusNotification()

    @hears("SecurityEventNotification")
    def on_security(self, **_: object) -> object:
        return call_result.SecurityEventNotification()

    # --- the charger is asked -------------------------------------------------------------------------

    async def trigger(self, message: str) -> bool:
        if message == "TransactionEvent":
            message = "MeterValues"  # in 1.6 these carry the transaction's id
        connector = None if message == "BootNotification" else CONNECTOR
        answer = await self.ask(call.TriggerMessage(requested_message=message, connector_id=connector))
        return bool(answer.status == "Accepted")

    async def set_profile(self, profile: Profile) -> str:
        purpose = "ChargePointMaxProfile" if profile.whole_station else "TxDefaultProfile"
        raw = {
            "charging_profile_id": profile.id,
            "charging_profile_purpose": purpose,
            **profile_fields(profile),
            "charging_schedule": schedule_fields(profile),
        }
        connector = 0 if profile.whole_station else CONNECTOR
        answer = await self.ask(call.SetChargingProfile(connector_id=connector, cs_charging_profiles=raw))
        return str(answer.status)

    async def clear_profile(self, whole_station: bool, stack_level: int) -> str:
        purpose = "ChargePointMaxProfile" if whole_station else "TxDefaultProfile"
        answer = await self.ask(
            call.ClearChargingProfile(charging_profile_purpose=purpose, stack_level=stack_level)
        )
        return str(answer.status)

    async def composite(self, duration_s: int) -> list[tuple[int, float]]:
        answer = await self.ask(
            call.GetCompositeSchedule(connector_id=CONNECTOR, duration=duration_s, charging_rate_unit="W")
        )
        return rows_of(answer.charging_schedule) if answer.status == "Accepted" else []

    async def set_operative(self, operative: bool) -> str:
        kind = "Operative" if operative else "Inoperative"
        answer = await self.ask(call.ChangeAvailability(connector_id=CONNECTOR, type=kind))
        return str(answer.status)

    async def start_charging(self) -> str:
        answer = await self.ask(call.RemoteStartTransaction(id_tag=ID_TAG, connector_id=CONNECTOR))
        return str(answer.status)

    async def stop_charging(self, transaction: int | str) -> str:
        answer = await self.ask(call.RemoteStopTransaction(transaction_id=int(transaction)))
        return str(answer.status)


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
