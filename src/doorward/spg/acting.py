"""Carrying requests out, each now or at its time: read, control or let go; in the end one result.

What the device was told is decided by reading back, never assumed. What was begun and not
proved is ``UNCONFIRMED``, and is not done again.
"""

from doorward.spg.controlling import Controlling
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.monitoring import Monitoring
from doorward.spg.ports import DeviceFault
from doorward.spg.preparing import Later
from doorward.spg.receiving import state_of
from doorward.spg.recovering import Recovering
from doorward.spg.releasing import Releasing
from doorward.spg.rules.facts import Intent
from doorward.spg.under_way import finish
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import Operation


class Acting:
    """Does what was taken."""

    def __init__(self, desk: Desk, monitoring: Monitoring, letting_go: LettingGo) -> None:
        self.desk = desk
        self.monitoring = monitoring
        self.controlling = Controlling(desk, monitoring)
        self.releasing = Releasing(desk, letting_go)
        self.recovering = Recovering(desk)

    def begin(self, entry: Entry) -> None:
        """Carry out a request now, or at its time."""
        self.desk.opened[entry.request.id] = entry
        if entry.request.start_us > self.desk.clock.now_us():
            self.desk.armed[entry.request.id] = entry.request.start_us
            self.desk.poke()
        else:
            self.desk.spawn(self.carry_out(entry))

    async def carry_out(self, entry: Entry) -> None:
        """Carry out a request; whatever happens, it gets its one result."""
        self.desk.armed.pop(entry.request.id, None)
        try:
            if entry.command.operation is Operation.READ:
                await self.monitoring.read(entry)
            elif entry.command.operation is Operation.RELEASE:
                await self.releasing.release(entry)
            else:
                await self.controlling.control(entry)
        except Later as later:
            self._wait(entry, later.at_us)
        except Refused as refused:
            await finish(self.desk, entry, state_of(refused), reason=refused.reason, detail=refused.detail)
        except DeviceFault as fault:
            await finish(self.desk, entry, "FAILED", reason=fault.reason, detail=fault.detail)
        except Exception as error:
            state = "UNCONFIRMED" if entry.acting else "FAILED"
            await finish(
                self.desk,
                entry,
                state,
                reason=Reason.SYSTEM_FAILURE,
                detail=f"gateway: {type(error).__name__}",
            )
            raise

    def _wait(self, entry: Entry, at_us: int) -> None:
        self.desk.armed[entry.request.id] = at_us
        self.desk.poke()

    def resume(self, entry: Entry, intents: list[Intent]) -> None:
        """Go on with a request that the last run left without a result."""
        if intents:
            self.desk.spawn(self.recovering.recover(entry, intents))
        else:
            self.begin(entry)
