"""The desk at which all parts of the gateway's way work: what it knows, and how a page gets written.

Memory (:class:`~doorward.spg.rules.house.House`) changes only here, after the commit of the page that says so.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from doorward.kit.ids import uuid7
from doorward.spg.ports import Books, Hands, Post, Store, TrustedClock
from doorward.spg.rules.facts import Control, Keys, Policy, Request
from doorward.spg.rules.house import House
from doorward.spg.rules.page import Page
from doorward.spg.rules.tally import Cause, RefusalBound, Tally
from doorward.wire.chain import Head
from doorward.wire.messages import Command, ProvisionedDevice, Up
from doorward.wire.reasons import Refused

log = logging.getLogger(__name__)

COMMIT_TRIES_MAX = 12
COMMIT_PAUSE_S_MAX = 30.0


@dataclass(slots=True, eq=False)
class Entry:
    """A request that has no result yet."""

    request: Request
    command: Command
    cancelled: bool = False
    acting: bool = False
    """The device may have been told: from here on only reading back decides."""
    ending: bool = False
    """Its result is being stored: nothing gives it another one."""
    passing: "asyncio.Task[None] | None" = None
    """Writes that the request is passed to the home network."""


def write(page: Page, books: Books, *, confirmed: bool) -> tuple[list[Up], Head | None]:
    """Write a page; return its outgoing messages with their numbers, and the journal's new head.

    ``confirmed`` says whether its time may be kept as one that really was.
    """
    books.keep_time(page.now_us if confirmed else 0, page.mark)
    if page.born_us:
        books.born(page.born_us)
    if page.provision is not None:
        books.put_provision(*page.provision)
    if page.trust is not None:
        books.put_trust(page.trust)
    books.put_grants(page.grants)
    books.end_grants(page.ended)
    books.add_requests(page.requests, page.charges)
    books.settle(page.settled)
    books.add_intents(page.intents, page.acted)
    books.put_controls(page.controls)
    books.drop_controls(page.dropped)
    books.finish(page.results)
    head = books.write_journal(page.journal, page.now_us, heads=page.heads, checkpoint=page.checkpoint)
    books.acknowledged(page.acknowledged)
    return books.put_out(page.out), head


class Desk:
    """What the parts of the way share. ``poke`` wakes upkeep when something new may be due."""

    def __init__(
        self,
        *,
        keys: Keys,
        policy: Policy,
        clock: TrustedClock,
        rng: random.Random,
        store: Store,
        post: Post,
        hands: Hands,
    ) -> None:
        self.keys = keys
        self.policy = policy
        self.clock = clock
        self.rng = rng
        self.store = store
        self.post = post
        self.hands = hands
        self.house = House()
        self.tally = Tally(policy.attempts_report_us)
        self.refusals = RefusalBound(policy.refusals_per_minute_max)
        self.opened: dict[str, Entry] = {}
        self.armed: dict[str, int] = {}
        """Requests that wait for their time: id → when."""
        self.head: Head | None = None
        """The newest link of the journal that is durable."""
        self.outgoing = 0
        """Messages in the outbox."""
        self.poke: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    def page(self) -> Page:
        """Return an empty page of now."""
        return Page(now_us=self.clock.now_us())

    def new_id(self) -> str:
        """Return an id of the gateway's own."""
        return uuid7(self.clock.now_us(), self.rng)

    def draw(self, room_us: int) -> int:
        """Return a random time below ``room_us``."""
        return self.rng.randrange(room_us) if room_us > 0 else 0

    def end_us(self, control: Control, now_us: int) -> int:
        """Return when a control is let go that is to be let go now: what began at random ends at random."""
        return now_us + (self.draw(self.policy.end_spread_us_max) if control.campaign else 0)

    async def commit(self, page: Page) -> None:
        """Write the page; then remember it, send what it sends, and do what follows.

        Raises what the store raises; then nothing of it is remembered, sent or done.
        """
        confirmed = self.clock.confirmed
        numbered, head = await self.store.write(lambda books: write(page, books, confirmed=confirmed))
        if head is not None and (self.head is None or head.seq > self.head.seq):
            self.head = head
        self.outgoing += len(numbered) - len(page.acknowledged)
        self._remember(page)
        self.post.acknowledged(page.acknowledged)
        self.post.ready(numbered)
        for follow in page.follow:
            follow()

    async def commit_surely(self, page: Page) -> None:
        """Write a page whose content has happened already: try again while the store fails, within a bound."""
        for tries in range(1, COMMIT_TRIES_MAX):
            try:
                await self.commit(page)
                return
            except Exception:
                log.exception("the store failed; trying again", extra={"tries": tries})
                await asyncio.sleep(min(COMMIT_PAUSE_S_MAX, 0.1 * 2**tries))
        await self.commit(page)

    def _remember(self, page: Page) -> None:
        house = self.house
        house.born_us = house.born_us or page.born_us
        if page.provision is not None:
            house.provision_version, devices = page.provision
            self.know_devices(devices)
        house.trust = page.trust or house.trust
        house.grants |= page.grants
        for grant, version in page.ended.items():
            house.ended[grant] = max(version, house.ended.get(grant, -1))
            if house.ending.get(grant, -1) <= version:
                house.ending.pop(grant, None)
            held = house.grants.get(grant)
            if held is not None and held.document.version <= version:
                del house.grants[grant]
        for charge in page.charges:
            house.charged(charge)
        house.settled(page.settled)
        for party, device, at_us in page.acted:
            house.acted[party, device].append(at_us)
        house.controls |= {control.device: control for control in page.controls}
        for device_id in page.dropped:
            house.controls.pop(device_id, None)
        for id in page.results:
            self.opened.pop(id, None)
            self.armed.pop(id, None)
        if page.controls or page.grants:
            self.poke()

    def know_devices(self, devices: Sequence[ProvisionedDevice]) -> None:
        """Take the list of devices into memory."""
        self.house.devices = {device.id: device for device in devices}
        self.house.capabilities = {device.id: self.hands.capabilities(device) for device in devices}
        self.house.overridden &= self.house.devices.keys()

    def settle_smaller(self, page: Page, command: Command) -> None:
        """No result of this request crosses to the third party: it counts as one transaction only."""
        for charge in self.house.charges[command.service_point]:
            if charge.id == command.id and charge.count > 1:
                page.settled.append(replace(charge, count=1))

    def count_attempt(
        self,
        page: Page,
        direction: str,
        refused: Refused,
        *,
        party: str = "",
        device: str = "",
        message: str = "",
    ) -> None:
        """Count an unauthorised attempt; the first of its cause is recorded and reported at once."""
        cause = Cause(direction, refused.reason, party, device)
        page.attempt(self.tally.count(cause, page.now_us, message=message, detail=refused.detail))
        self.poke()

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run ``work`` beside everything else; its error is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the gateway failed", exc_info=error)

    async def stop(self, wait_s_max: float) -> None:
        """Let what runs end, within a bound; what does not is recovered at the next start."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=wait_s_max)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
