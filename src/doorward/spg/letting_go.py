"""Letting go: every control ends by itself, and what ends it needs no grant and costs no limit.

A resident's override ends a control without any further word to the device.
"""

import asyncio

from msgspec.structs import replace

from doorward.spg.answers import is_on, require_sound
from doorward.spg.desk import Desk
from doorward.spg.ports import DeviceFault, HanCommand
from doorward.spg.rules.facts import US, Control
from doorward.spg.rules.page import Page
from doorward.wire.messages import Command
from doorward.wire.reasons import SENTENCES, Reason
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation

RANK = -1
"""Letting go passes everything that waits for the same device."""
RETRY_S_MIN = 5.0
RETRY_S_MAX = 900.0


class LettingGo:
    """Gives devices back to their owner."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._going: set[str] = set()
        self._dropping: dict[str, asyncio.Event] = {}

    def due(self, now_us: int) -> None:
        """Let go of every control whose end has come."""
        for control in list(self.desk.house.controls.values()):
            if self.desk.house.control_end_us(control) <= now_us and control.device not in self._going:
                self._going.add(control.device)
                self.desk.spawn(self._let_go_in_time(control))

    def next_us(self) -> int | None:
        """When the next control ends."""
        house = self.desk.house
        ends = [house.control_end_us(c) for c in house.controls.values() if c.device not in self._going]
        return min(ends, default=None)

    async def _let_go_in_time(self, control: Control) -> None:
        try:
            await self.let_go(control)
        finally:
            self._going.discard(control.device)
            self.desk.poke()

    async def let_go(self, control: Control, command: Command | None = None) -> DeviceFault | None:
        """Restore what was before the first control; return what went wrong, and then go on trying.

        ``command`` is the service's own request to let go, where there is one.
        """
        async with self.desk.hands.hold([control.device], RANK):
            current = self.desk.house.controls.get(control.device)
            if current is None or not control.is_same(current):
                return None
            if await self._is_its_own(current):
                await self._drop(current, "the device no longer holds it; nothing was written")
                return None
            try:
                await self._release(current, command)
            except DeviceFault as fault:
                await self._try_later(current, fault)
                return fault
            return None

    async def _is_its_own(self, control: Control) -> bool:
        """Whether somebody at home, or the device itself, has ended the control already."""
        device = self.desk.house.devices.get(control.device)
        if device is None or control.device in self.desk.house.overridden:
            return True
        if not control.uncertain or self.desk.house.leads_elsewhere(control, device):
            return False
        for operation, body in control.beneath():
            target = HanCommand(
                operation=operation,
                body=body,
                until_us=control.ends_us,
                baseline=control.baseline,
                id=control.id,
            )
            try:
                if await self.desk.hands.follows(device, target):
                    return False
            except DeviceFault:
                return False
        return True

    async def _release(self, control: Control, command: Command | None) -> None:
        """Stored first, so that a crash in between is looked at and not repeated."""
        device = self.desk.house.devices[control.device]
        if self.desk.house.leads_elsewhere(control, device):
            raise DeviceFault(Reason.DEVICE_UNLISTED, "the list leads to other equipment than was controlled")
        rested_us = self.desk.house.rested_us(device, self.desk.policy)
        if control.operation is Operation.TURN_OFF and self.desk.clock.now_us() < rested_us:
            raise DeviceFault(Reason.DEVICE_REFUSED, f"the device must rest until {to_rfc3339(rested_us)}")
        id = command.id if command is not None else self.desk.new_id()
        page = self.desk.page()
        page.controls = [replace(control, uncertain=True)]
        self._note(page, "release", control, detail=f"as {id}")
        await self.desk.commit(page)
        release = HanCommand(operation=Operation.RELEASE, body={}, baseline=control.baseline, id=id)
        acted = await self.desk.hands.command(device, release)
        require_sound(acted.reading, device.id)
        self.desk.house.seen(device.id, is_on(acted.reading), self.desk.clock.now_us())
        if not (acted.followed or acted.reading.overridden):
            raise DeviceFault(acted.reason or Reason.DEVICE_NOT_FOLLOWING, acted.detail or "not let go")
        await self._drop(control, "asked by the service" if command is not None else "")

    async def _drop(self, control: Control, detail: str) -> None:
        """The control is over: recorded and told once, whoever notices first."""
        under_way = self._dropping.get(control.device)
        if under_way is not None:
            await under_way.wait()
            return
        dropped = self._dropping[control.device] = asyncio.Event()
        page = self.desk.page()
        page.dropped = [control.device]
        reason = self.desk.house.why_ended(control, page.now_us)
        if control.device in self.desk.house.overridden:
            reason = Reason.CUSTOMER_OVERRIDE
        detail = detail or (SENTENCES[reason] if reason else "its time was over")
        page.receipt(control.id, Step.RELEASED, page.now_us, reason=reason, detail=detail)
        self._note(page, Step.RELEASED.value, control, reason=reason, detail=detail)
        try:
            await self.desk.commit_surely(page)
        finally:
            del self._dropping[control.device]
            dropped.set()

    async def _try_later(self, control: Control, fault: DeviceFault) -> None:
        """A device that cannot be let go now is tried again with growing pauses, and in the end reported."""
        page = self.desk.page()
        tries = control.tries + 1
        if tries > self.desk.policy.release_tries_max:
            page.dropped = [control.device]
            page.receipt(
                control.id,
                Step.RELEASED,
                page.now_us,
                outcome=Outcome.FAILED,
                reason=fault.reason,
                detail=f"given up after {tries} tries: {fault.detail}",
            )
        else:
            page.controls = [self._delayed(control, tries, page.now_us)]
        self._note(page, Step.RELEASED.value, control, Outcome.FAILED, fault.reason, fault.detail)
        await self.desk.commit_surely(page)

    def _delayed(self, control: Control, tries: int, now_us: int) -> Control:
        span_s = min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(tries, 10))
        again_us = now_us + int((RETRY_S_MIN + self.desk.rng.random() * span_s) * US)
        device = self.desk.house.devices[control.device]
        if control.operation is Operation.TURN_OFF:
            again_us = max(again_us, self.desk.house.rested_us(device, self.desk.policy))
        ends_us = min(control.ends_us, now_us)
        current = self.desk.house.controls.get(control.device, control)
        return replace(control, tries=tries, again_us=again_us, ends_us=ends_us, uncertain=current.uncertain)

    def _note(
        self,
        page: Page,
        step: str,
        control: Control,
        outcome: Outcome = Outcome.OK,
        reason: Reason | None = None,
        detail: str = "",
    ) -> None:
        page.note(
            step,
            page.now_us,
            message=control.id,
            party=control.party,
            service_point=control.service_point,
            device=control.device,
            outcome=outcome,
            reason=reason,
            detail=detail,
        )

    def overridden(self, device: str, overridden: bool) -> None:
        """Somebody at home has chosen otherwise (or no longer): a control that runs there is over."""
        house = self.desk.house
        if not overridden:
            house.overridden.discard(device)
            return
        if device in house.overridden:
            return
        house.overridden.add(device)
        control = house.controls.get(device)
        if control is not None:
            self.desk.spawn(self._drop(control, "somebody at home has chosen otherwise"))

    async def let_go_of_all(self, devices: set[str]) -> None:
        """Let go of what runs on devices that are about to leave the list."""
        going = [c for c in self.desk.house.controls.values() if c.device in devices]
        await asyncio.gather(*(self.let_go(control) for control in going))
