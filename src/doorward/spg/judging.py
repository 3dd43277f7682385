"""Judging a control: what was read back decides, never what was told."""

from collections.abc import Collection

from msgspec.structs import replace

from doorward.spg.answers import Failure, raw, reading_data
from doorward.spg.desk import Desk, Entry
from doorward.spg.limiting import devices_at, usage_w, watts_of
from doorward.spg.monitoring import Monitoring
from doorward.spg.preparing import Act
from doorward.spg.receiving import ended_now
from doorward.spg.rules import plan
from doorward.spg.rules.page import Page
from doorward.spg.telling import Did
from doorward.spg.under_way import finish
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation, Scope


class Judging:
    """Makes the result of a control from what came of its acts. The caller holds the devices."""

    def __init__(self, desk: Desk, monitoring: Monitoring) -> None:
        self.desk = desk
        self.monitoring = monitoring

    async def judge(self, entry: Entry, dids: list[Did], failures: list[Failure], page: Page) -> None:
        """S2.10–12: what was read back decides, per device."""
        command = entry.command
        for did in dids:
            self._note_did(entry, did, page)
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        if command.scope is Scope.DEVICE:
            did = dids[0]
            data = raw(self._did_data(did))
            return await finish(
                self.desk, entry, did.state, reason=did.reason, detail=did.detail, data=data, page=page
            )
        failures = failures + [
            Failure(did.act.device.id, did.reason or Reason.NO_PROOF, did.detail)
            for did in dids
            if did.state != "DONE"
        ]
        state = _best([did.state for did in dids])
        data = raw(
            {
                "service_point": command.service_point,
                "readings": [self._did_data(did) for did in dids if did.state == "DONE"],
                "failed": [failure.data() for failure in failures],
            }
        )
        first = failures[0] if failures and state != "DONE" else None
        return await finish(
            self.desk,
            entry,
            state,
            reason=first.reason if first else None,
            detail=first.detail if first else "",
            data=data,
            page=page,
        )

    async def judge_limit(self, entry: Entry, dids: list[Did], before_w: float, page: Page) -> None:
        """S2.09b: the limit is met when the total that is read back says so; otherwise all is undone."""
        command = entry.command
        limit_w = watts_of(command)
        after, failures = await self.monitoring.read_all(devices_at(self.desk, command.service_point))
        after_w = usage_w(self.desk, after, failures)
        met = all(did.state == "DONE" for did in dids) and plan.is_met(limit_w, after_w)
        for did in dids:
            self._note_did(entry, did, page)
            if not met and did.state == "DONE":
                page.controls = [c for c in page.controls if c.device != did.act.device.id]
                page.controls.append(ended_now(did.act.control, page.now_us, Reason.DEVICE_NOT_FOLLOWING))
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        data = {
            "service_point": command.service_point,
            "limit_w": limit_w,
            "total_before_w": before_w,
            "total_after_w": after_w,
            "readings": [self._did_data(did) for did in dids],
            "failed": [failure.data() for failure in failures],
        }
        if met:
            return await finish(self.desk, entry, "DONE", data=raw(data), page=page)
        worst = next((did for did in dids if did.state != "DONE"), None)
        reason = worst.reason if worst else Reason.DEVICE_NOT_FOLLOWING
        detail = worst.detail if worst else f"{after_w:.0f} W were read back, not {limit_w:.0f} W"
        state = "UNCONFIRMED" if worst is not None and worst.state == "UNCONFIRMED" else "FAILED"
        return await finish(self.desk, entry, state, reason=reason, detail=detail, data=raw(data), page=page)

    def _note_did(self, entry: Entry, did: Did, page: Page) -> None:
        """What an outcome means for the device's control: it runs, is in doubt, or is no more."""
        command, act = entry.command, did.act
        page.step(
            command,
            Step.DEVICE_ANSWERED,
            did.at_us or page.now_us,
            outcome=Outcome.OK if did.state == "DONE" else Outcome.FAILED,
            reason=did.reason,
            detail=did.detail,
            device=act.device.id,
            tell=did.reading is not None,
        )
        if did.state == "DONE":
            self._runs(entry, act, page)
        elif did.reason is Reason.CUSTOMER_OVERRIDE:
            page.dropped.append(act.device.id)
        elif did.state == "UNCONFIRMED":
            page.controls.append(replace(act.control, uncertain=True))
        elif act.running is not None and act.running.party == command.party:
            page.controls.append(act.running.in_doubt_after(act.control))
        else:
            page.controls.append(
                replace(
                    ended_now(act.control, page.now_us, did.reason or Reason.DEVICE_NOT_FOLLOWING),
                    uncertain=True,
                )
            )

    def _runs(self, entry: Entry, act: Act, page: Page) -> None:
        if act.target.operation is Operation.TURN_OFF:
            self.desk.house.turned_off(act.device.id, page.now_us)
        if act.running is not None and act.running.party != entry.command.party:
            page.receipt(
                act.running.id,
                Step.RELEASED,
                page.now_us,
                reason=Reason.SUPERSEDED,
                detail="a more urgent control",
            )
        if entry.cancelled:
            end_us = self.desk.end_us(act.control, page.now_us)
            page.controls.append(ended_now(act.control, end_us, Reason.CANCELLED))

    def _did_data(self, did: Did) -> dict[str, object]:
        """The reading after, and beside it the one before and the times that were drawn."""
        act = did.act
        after = reading_data(did.reading) if did.reading is not None else {"device": act.device.id}
        return after | {
            "operation": act.target.operation.value,
            "told": act.target.body,
            "before": reading_data(act.before),
            "started": to_rfc3339(act.control.started_us),
            "until": to_rfc3339(act.control.until_us),
            "ends": to_rfc3339(act.control.ends_us),
        }


def _best(states: Collection[str]) -> str:
    return next((word for word in ("DONE", "UNCONFIRMED") if word in states), "FAILED")
