"""Telling devices: the intent is stored, then each is told once, and says what came of it."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from msgspec.structs import replace

from doorward.spg.answers import is_on, require_sound
from doorward.spg.desk import Desk, Entry
from doorward.spg.ports import DeviceFault, Reading, TimedOut
from doorward.spg.preparing import Act
from doorward.spg.receiving import state_of
from doorward.spg.rules import recovery
from doorward.spg.rules.checks import require_bound_all
from doorward.spg.rules.page import Page
from doorward.spg.under_way import finish, recheck
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Step
from doorward.wire.times import to_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """What came of an act."""

    act: Act
    state: str
    reading: Reading | None = None
    reason: Reason | None = None
    detail: str = ""
    at_us: int = 0


class Telling:
    """Tells devices what was made ready. The caller holds them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def tell(self, entry: Entry, acts: list[Act]) -> list[Did]:
        """The intent is durable; then the last look from memory, and with no wait in between, the device."""
        entry.acting = True
        page = self.desk.page()
        page.intents = [act.intent(page.now_us) for act in acts]
        page.acted = [(entry.command.party, act.device.id, page.now_us) for act in acts]
        page.controls = [act.control for act in acts]
        for act in acts:
            page.step(
                entry.command,
                Step.PASSED_TO_HAN,
                page.now_us,
                detail=f"ends {to_rfc3339(act.control.ends_us)}",
                device=act.device.id,
                tell=act is acts[0],
            )
        try:
            await self.desk.commit(page)
        except Exception:
            entry.acting = False  # nothing was told, and nothing will be
            raise
        try:
            permits = recheck(self.desk, entry, [act.device.id for act in acts])
            require_bound_all(permits, [act.device for act in acts])
        except Refused as refused:
            await self._not_told(entry, acts, refused)
            raise
        return list(await asyncio.gather(*(self._tell_one(act) for act in acts)))

    async def _not_told(self, entry: Entry, acts: list[Act], refused: Refused) -> None:
        """Something changed at the last moment: nothing was told, and what ran before goes on."""
        page = self.desk.page()
        _put_back(acts, self.desk.house.overridden, page)
        await finish(
            self.desk, entry, state_of(refused), reason=refused.reason, detail=refused.detail, page=page
        )

    async def _tell_one(self, act: Act) -> Did:
        try:
            acted = await self.desk.hands.command(act.device, act.target)
            reading = replace(acted.reading, at_us=self.desk.clock.now_us())
            require_sound(reading, act.device.id)
        except TimedOut as late:
            return await self._look(act, late)
        except DeviceFault as fault:
            return Did(
                act=act,
                state="FAILED",
                reason=fault.reason,
                detail=fault.detail,
                at_us=self.desk.clock.now_us(),
            )
        self.desk.house.seen(reading.device, is_on(reading), reading.at_us)
        if acted.followed:
            return Did(act=act, state="DONE", reading=reading, at_us=reading.at_us)
        reason = (
            Reason.CUSTOMER_OVERRIDE if reading.overridden else acted.reason or Reason.DEVICE_NOT_FOLLOWING
        )
        return Did(
            act=act, state="FAILED", reading=reading, reason=reason, detail=acted.detail, at_us=reading.at_us
        )

    async def _look(self, act: Act, late: TimedOut) -> Did:
        """The device did not answer in time: only what it holds now can prove that it acted."""
        try:
            holds: bool | None = await self.desk.hands.follows(act.device, act.target)
        except DeviceFault:
            holds = None
        state = recovery.verdict(act.held_before, holds)
        return Did(
            act=act,
            state=state,
            reason=None if state == "DONE" else Reason.NO_PROOF,
            detail=late.detail,
            at_us=self.desk.clock.now_us(),
        )


def _put_back(acts: list[Act], overridden: Collection[str], page: Page) -> None:
    """What ran before goes on, but where somebody at home has ended it."""
    for act in acts:
        if act.running is not None and act.device.id not in overridden:
            page.controls.append(act.running)
        else:
            page.dropped.append(act.device.id)
