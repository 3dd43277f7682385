"""Letting go by request: a service gives back what it set."""

import asyncio

from doorward.spg.answers import Failure, raw
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.receiving import ended_now
from doorward.spg.rules.facts import Control
from doorward.spg.rules.page import Page
from doorward.spg.under_way import finish, passed_to_han, recheck_release
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.times import to_rfc3339


class Releasing:
    """Answers a service that asks to let go."""

    def __init__(self, desk: Desk, letting_go: LettingGo) -> None:
        self.desk = desk
        self.letting_go = letting_go

    async def release(self, entry: Entry) -> None:
        """The service lets go of what it set. It needs no room in any limit of the home."""
        command, house = entry.command, self.desk.house
        permits = recheck_release(self.desk, entry)
        own = [
            c
            for device in permits
            if (c := house.controls.get(device)) is not None and c.party == command.party
        ]
        if not own:
            detail = "no control of this service runs here"
            return await finish(self.desk, entry, "DONE", detail=detail, data=raw({"released": []}))
        await passed_to_han(self.desk, entry)
        single = [control for control in own if not control.campaign]
        answers = await asyncio.gather(*(self.letting_go.let_go(control, command) for control in single))
        page = self.desk.page()
        ends = self._end_at_random([control for control in own if control.campaign], page)
        released = [control.device for control, fault in zip(single, answers, strict=True) if fault is None]
        failures = [
            Failure(control.device, fault.reason, fault.detail)
            for control, fault in zip(single, answers, strict=True)
            if fault is not None
        ]
        said = ", ".join(f"{device} ends {at}" for device, at in ends.items())
        page.step(command, Step.ANSWER_RECEIVED, page.now_us, detail=said)
        answer: dict[str, object] = {
            "released": released,
            "failed": [failure.data() for failure in failures],
            **({"ends": ends} if ends else {}),
        }
        if released or ends:
            return await finish(self.desk, entry, "DONE", detail=said, data=raw(answer), page=page)
        first = failures[0]
        return await finish(
            self.desk, entry, "FAILED", reason=first.reason, detail=first.detail, data=raw(answer), page=page
        )

    def _end_at_random(self, controls: list[Control], page: Page) -> dict[str, str]:
        """X04: what began at random in a campaign ends at random; the drawn time is stored, and said."""
        ends = {}
        for control in controls:
            ending = ended_now(control, self.desk.end_us(control, page.now_us), Reason.CANCELLED)
            page.controls.append(ending)
            ends[control.device] = to_rfc3339(ending.ends_us)
        return ends
