"""Letting go by request: a service gives back what it set."""

import asyncio

from doorward.spg.answers import Failure, raw
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.under_way import finish, passed_to_han, recheck_release
from doorward.wire.steps import Step


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
        answers = await asyncio.gather(*(self.letting_go.let_go(control, command) for control in own))
        page = self.desk.page()
        released = [control.device for control, fault in zip(own, answers, strict=True) if fault is None]
        failures = [
            Failure(control.device, fault.reason, fault.detail)
            for control, fault in zip(own, answers, strict=True)
            if fault is not None
        ]
        page.step(command, Step.ANSWER_RECEIVED, page.now_us)
        data = raw({"released": released, "failed": [failure.data() for failure in failures]})
        if released:
            return await finish(self.desk, entry, "DONE", data=data, page=page)
        first = failures[0]
        return await finish(
            self.desk, entry, "FAILED", reason=first.reason, detail=first.detail, data=data, page=page
        )
