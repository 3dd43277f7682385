"""After a crash: what was begun is looked at, and never told again."""

import asyncio

from msgspec.structs import replace

from doorward.spg.answers import raw
from doorward.spg.desk import Desk, Entry
from doorward.spg.ports import DeviceFault, HanCommand
from doorward.spg.receiving import ended_now
from doorward.spg.rules import recovery
from doorward.spg.rules.facts import Intent
from doorward.spg.under_way import finish
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step

RECOVER_TRIES_MAX = 12
RECOVER_PAUSE_S = 5.0


class Recovering:
    """Finds out what came of intents that the last run stored."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def recover(self, entry: Entry, intents: list[Intent]) -> None:
        """Something was about to be told when the gateway stopped. It is looked at, never told again."""
        verdicts = [await self._verdict(intent) for intent in intents]
        state = recovery.together(verdicts)
        page = self.desk.page()
        for intent, word in zip(intents, verdicts, strict=True):
            control = self.desk.house.controls.get(intent.device)
            if control is not None and control.id == intent.id:
                end_us = self.desk.end_us(control, page.now_us)
                ending = ended_now(control, end_us, Reason.CANCELLED) if entry.cancelled else control
                page.controls.append(replace(ending, uncertain=word != "DONE"))
        page.step(
            entry.command, Step.ANSWER_RECEIVED, page.now_us, detail="found after a restart of the gateway"
        )
        await finish(
            self.desk,
            entry,
            state,
            reason=None if state == "DONE" else Reason.NO_PROOF,
            detail="decided by reading the device after a restart of the gateway",
            data=raw({"before": [intent.before for intent in intents]}),
            page=page,
        )

    async def _verdict(self, intent: Intent) -> str:
        target = HanCommand(
            operation=intent.operation,
            body=intent.body,
            until_us=intent.until_us,
            baseline=intent.baseline,
            id=intent.id,
        )
        holds: bool | None = None
        told = False
        for _ in range(RECOVER_TRIES_MAX):
            device = self.desk.house.devices.get(intent.device)
            if device is None:
                break
            try:
                async with self.desk.hands.hold([device.id], 0):
                    holds = await self.desk.hands.follows(device, target)
                    told = self.desk.hands.was_told(device.id)
                break
            except DeviceFault:
                await asyncio.sleep(RECOVER_PAUSE_S)
        return recovery.verdict(intent.held_before or told, holds)
