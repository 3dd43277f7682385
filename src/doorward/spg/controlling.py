"""Control, in order: hold the devices, re-check, prepare, tell, judge (scenario 2)."""

from doorward.spg.desk import Desk, Entry
from doorward.spg.judging import Judging
from doorward.spg.monitoring import Monitoring
from doorward.spg.ports import DeviceFault
from doorward.spg.preparing import Preparing
from doorward.spg.telling import Telling
from doorward.spg.under_way import recheck
from doorward.wire.vocabulary import Scope


class Controlling:
    """Controls devices; nobody else tells them anything in the meantime."""

    def __init__(self, desk: Desk, monitoring: Monitoring) -> None:
        self.desk = desk
        self.preparing = Preparing(desk, monitoring)
        self.telling = Telling(desk)
        self.judging = Judging(desk, monitoring)

    async def control(self, entry: Entry) -> None:
        """Carry out a control; raise ``Later`` when the device must rest first."""
        command = entry.command
        permits = {permit.device: permit.bounds for permit in recheck(self.desk, entry, [])}
        async with self.desk.hands.hold(self.preparing.to_hold(command, permits), command.klass):
            recheck(self.desk, entry, [])
            acts, failures, total_w = await self.preparing.prepare(entry, permits)
            if not acts:
                raise DeviceFault(failures[0].reason, failures[0].detail)
            dids = await self.telling.tell(entry, acts)
            page = self.desk.page()
            if command.scope is Scope.SERVICE_POINT:
                await self.judging.judge_limit(entry, dids, total_w, page)
            else:
                await self.judging.judge(entry, dids, failures, page)
