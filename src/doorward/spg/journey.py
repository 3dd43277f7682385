"""THE WAY of a message through the gateway. Read this first.

::

    in    receive → open the frame → is it new → desired state | requests → check → inbox ┆ act
    act   hold the device → re-check → what is now → intent ┆ re-check → tell the device → read back → result
    back  a device speaks by itself → whom the customer lets hear it → notice

What stands before ``┆`` is one durable transaction (a :class:`~doorward.spg.rules.page.Page`), and only
then comes what stands after it. Frames are taken one at a time, in the order of the link; acts run side by
side, one at a time per device. The steps are in :mod:`~doorward.spg.receiving`, :mod:`~doorward.spg.acting`,
:mod:`~doorward.spg.letting_go` and :mod:`~doorward.spg.speaking`; what time does is in
:mod:`~doorward.spg.upkeep`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import groupby

from doorward.spg.acting import Acting
from doorward.spg.desk import Desk, Entry
from doorward.spg.letting_go import LettingGo
from doorward.spg.monitoring import Monitoring
from doorward.spg.ports import DeviceNotice, Restart
from doorward.spg.receiving import Receiving, applied
from doorward.spg.rules.facts import Intent, Mark
from doorward.spg.rules.house import binding_of
from doorward.spg.rules.marks import is_new
from doorward.spg.speaking import Speaking
from doorward.wire.chain import HEADS_MAX
from doorward.wire.codec import decode_down
from doorward.wire.messages import (
    Certificate,
    Command,
    Down,
    FrameDown,
    GrantPush,
    Hello,
    Lease,
    Provision,
    Time,
    Trust,
    Withdraw,
)
from doorward.wire.reasons import Refused
from doorward.wire.vocabulary import Operation

log = logging.getLogger(__name__)

DESIRED_STATE = (Time, Trust, Provision, GrantPush, Lease, Withdraw, Certificate)
WITHDRAW_RANK = -2
"""A withdrawal waits for nobody but the call that a device is answering now."""


class Journey:
    """The way, in order. ``software`` is what the gateway says of itself."""

    def __init__(self, desk: Desk, software: str) -> None:
        self.desk = desk
        self.software = software
        self.papers: Callable[[str], None] = lambda _pem: None
        """Called with a new certificate."""
        self.letting_go = LettingGo(desk)
        self.monitoring = Monitoring(desk, self.letting_go)
        self.acting = Acting(desk, self.monitoring, self.letting_go)
        self.speaking = Speaking(desk, self.letting_go)
        self.receiving = Receiving(desk, self)
        self.boot = 0
        self.times_heard = 0
        """How often the CCS has said the time, and it was stored."""
        self._mark = Mark(-1, -1)
        self._one_frame = asyncio.Lock()
        self._waiting_for_time: list[tuple[Entry, list[Intent]]] = []

    # --- in ------------------------------------------------------------------------------------------

    async def receive(self, raw: bytes) -> None:
        """Take one frame from the CCS: prove it, store what it says with what follows from it, then act."""
        async with self._one_frame:
            try:
                frame = self._opened(raw)
            except Refused as refused:
                return await self._attempted(refused)
            if frame is None or not self._has_room(frame):
                return None
            mark = Mark(frame.epoch, frame.counter)
            try:
                await self._make_way(frame)
                said: FrameDown | None = frame
                for is_state, part in groupby(
                    frame.messages, lambda message: isinstance(message, DESIRED_STATE)
                ):
                    await self._take(list(part), mark, said, is_state=is_state)
                    said = None
            except Exception:  # the store failed: nothing of this part was taken, and the CCS sends it again
                log.exception("a frame could not be stored")
                return None
            self._mark = max(self._mark, mark)
            return None

    def _opened(self, raw: bytes) -> FrameDown | None:
        """S1.05: the frame proves that it comes from the CCS, and is new; ``None`` for a duplicate."""
        frame = decode_down(raw, self.desk.keys.gateway, self.desk.keys.link)
        return frame if is_new(Mark(frame.epoch, frame.counter), self._mark) else None

    async def _take(
        self, messages: Sequence[Down], mark: Mark, said: FrameDown | None, *, is_state: bool
    ) -> None:
        """One part of a frame, one transaction; the first also keeps what the frame says of the CCS's record."""
        page = self.desk.page()
        page.mark = mark
        if said is not None:
            page.heads, page.checkpoint = said.heads[-HEADS_MAX:], said.checkpoint
        if is_state:
            self.receiving.desired_state(messages, page)
        else:
            self.receiving.requests(messages, await self.receiving.seen(messages), page)
        await self.desk.commit(page)

    def _has_room(self, frame: FrameDown) -> bool:
        """With a full outbox nothing new is taken: the CCS keeps it, and sends it again."""
        full = self.desk.outgoing >= self.desk.policy.outbox_max
        return not full or not any(isinstance(message, Command) for message in frame.messages)

    async def _attempted(self, refused: Refused) -> None:
        """A forged, replayed or malformed frame: counted, recorded, reported (F25)."""
        page = self.desk.page()
        self.desk.count_attempt(page, "in", refused)
        if page.out:
            await self.desk.commit(page)

    async def _make_way(self, frame: FrameDown) -> None:
        """Devices that leave the list, or lead elsewhere, are let go where the control was set."""
        for message in frame.messages:
            if isinstance(message, Provision) and message.version >= self.desk.house.provision_version:
                house = self.desk.house
                places = {device.id: binding_of(device) for device in message.devices}
                staying = {id for id, device in house.devices.items() if places.get(id) == binding_of(device)}
                await self.letting_go.let_go_of_all(set(house.controls) - staying)

    # --- what follows --------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> None:
        """S1.07, S2.07: carry out a request, now or at its time."""
        self.acting.begin(entry)

    def withdraw(self, grant: str, version: int) -> None:
        """S3.06: the grant is dead already for every check; its end is stored when no device is being told."""
        self.desk.spawn(self._withdraw(grant, version))

    async def _withdraw(self, grant: str, version: int) -> None:
        held = self.desk.house.grants.get(grant)
        devices = [permit.device for permit in held.document.devices] if held is not None else []
        async with self.desk.hands.hold(devices, WITHDRAW_RANK):
            page = self.desk.page()
            page.ended[grant] = version
            page.controls = [c for c in self.desk.house.controls.values() if c.grant == grant and c.campaign]
            page.note(
                "withdrawn",
                page.now_us,
                party=held.document.party if held is not None else "",
                service_point=held.document.service_point if held is not None else "",
                detail=f"{grant} up to version {version}",
            )
            if not self.desk.house.is_ending(page.ended):
                page.out.append(applied(self.desk, page))
            await self.desk.commit_surely(page)
        await self._end_requests(grant)
        self.desk.poke()

    async def _end_requests(self, grant: str) -> None:
        """What waits under a grant that ended gets its result now; what crosses no more counts for less."""
        page = self.desk.page()
        for entry in [each for each in self.desk.opened.values() if each.command.grant == grant]:
            self.desk.settle_smaller(page, entry.command)
            if entry.request.id in self.desk.armed:
                self.desk.spawn(self.acting.carry_out(entry))
        if page.settled:
            await self.desk.commit_surely(page)

    # --- back ----------------------------------------------------------------------------------------

    async def said(self, notice: DeviceNotice) -> None:
        """A device spoke by itself."""
        await self.speaking.said(notice)

    # --- a restart -----------------------------------------------------------------------------------

    def resume(self, restart: Restart) -> None:
        """Remember what the last run left; requests without a result go on with :meth:`trusted`."""
        house = self.desk.house
        self.boot, self._mark = restart.boot, restart.mark
        house.born_us = restart.born_us
        house.provision_version = restart.provision_version
        self.desk.hands.provision(restart.devices)
        self.desk.know_devices(restart.devices)
        house.trust = restart.trust
        house.grants = dict(restart.grants)
        house.ended = dict(restart.ended)
        house.controls = {control.device: control for control in restart.controls}
        for charge in restart.charges:
            house.charged(charge)
        for party, device, at_us in restart.acted:
            house.acted[party, device].append(at_us)
        for control in restart.controls:
            if control.operation is Operation.TURN_OFF:
                house.turned_off(control.device, control.started_us)
        for request in restart.opened:
            if request.command is not None:
                intents = [intent for intent in restart.intents if intent.id == request.id]
                entry = Entry(request, request.command, acting=bool(intents))
                self.desk.opened[request.id] = entry
                self._waiting_for_time.append((entry, intents))

    def trusted(self) -> None:
        """The CCS has said the time: requests that waited for it go on."""
        self.times_heard += 1
        waiting, self._waiting_for_time = self._waiting_for_time, []
        for entry, intents in waiting:
            if entry.request.id in self.desk.opened:
                self.acting.resume(entry, intents)
        self.desk.poke()

    def certified(self, pem: str) -> None:
        """There is a new certificate of ours."""
        self.papers(pem)

    def hello(self) -> Hello:
        """Return who the gateway is and what it holds: first on every connection."""
        house = self.desk.house
        return Hello(
            gateway=self.desk.keys.gateway,
            boot=self.boot,
            software=self.software,
            provision_version=house.provision_version,
            grants=house.versions(),
            born_us=house.born_us,
            trust_version=house.trust.version if house.trust is not None else 0,
        )
