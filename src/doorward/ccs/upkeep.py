"""What time does: deadlines, warnings, retries, provisioning, leases of grants and of partitions.

Every duty is a loop of its own with its own pace, so that none can hold up another; the times by which
things must happen are absolute and stored, so that a restart re-arms them by looking.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from doorward.ccs import way_back, way_out
from doorward.ccs.cancelling import refund
from doorward.ccs.journey import Journey
from doorward.ccs.leasing import Leasing, built_in
from doorward.ccs.ports import Books, ConsentAuthority
from doorward.ccs.refusals import attempt_row
from doorward.ccs.rules.facts import Event, Request, StepRecord
from doorward.ccs.rules.feed import request_news
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.weighing import give_back, is_weighed
from doorward.kit.ids import uuid7
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.topics import PARTITIONS

log = structlog.get_logger(__name__)

US = 1_000_000
SLICE = 200
"""How many rows one round of a duty takes at most."""
UNDELIVERED_US = 3 * 24 * 3600 * US
SHARE = "share"
"""The hint that a worker came, went, or gave something up: the others look at once what is theirs now."""
BEAT_US = 10 * US
"""How long a worker's word holds."""


@dataclass(slots=True)
class Ownership:
    """The partitions of this worker, and the epoch under which it sends."""

    worker: str
    epoch: int = 0
    partitions: frozenset[int] = field(default_factory=frozenset)


def share_of(worker: str, living: Collection[str]) -> frozenset[int]:
    """Return the partitions that fall to ``worker`` among the living ones: round and round in name order."""
    order = sorted(living)
    if worker not in order:
        return frozenset()
    at = order.index(worker)
    return frozenset(range(at, PARTITIONS, len(order)))


class Upkeep:
    """The duties of one worker."""

    def __init__(
        self,
        journey: Journey,
        ownership: Ownership,
        consent: ConsentAuthority | None,
        rng: random.Random,
        *,
        shared: bool,
        leasing: Leasing | None = None,
    ) -> None:
        self.journey = journey
        self.ownership = ownership
        self.leasing = leasing or (built_in(journey, consent) if consent is not None else None)
        self._rng = rng
        self._shared = shared
        """Whether several workers share the gateways by partitions."""
        self._sharing = asyncio.Lock()
        self._announced = False

    async def run(self) -> None:
        """Do all duties until cancelled."""
        duties: list[tuple[Callable[[], Awaitable[bool]], float]] = [
            (self.deadlines, 0.5),
            (self.warnings, 5.0),
            (self.ready, 1.0),
            (self.provisioning, 1.0),
            (self.grant_leases, 60.0),
            (self.ends_there, 10.0),
            (self.ends_here, 10.0),
            (self.undelivered, 300.0),
            (self.refusals, 20.0),
            (self.proofs, 30.0),
            (self.prune, 3600.0),
            (self.waiters, 1.0),
            (self.partitions, 2.0),
        ]
        async with asyncio.TaskGroup() as group:
            for duty, pace_s in duties:
                group.create_task(self._keep(duty, pace_s))

    async def _keep(self, duty: Callable[[], Awaitable[bool]], pace_s: float) -> None:
        while True:
            more = False
            try:
                more = await duty()
            except Exception:
                log.exception("upkeep duty failed; it is tried again", duty=duty.__name__)
            if not more:
                await self.rest(duty, pace_s)

    async def rest(self, duty: Callable[[], Awaitable[bool]], pace_s: float) -> None:
        """Sleep between two rounds of a duty: its pace, a little more or less."""
        await asyncio.sleep(pace_s * (0.75 + self._rng.random() / 2))

    # deadlines

    async def deadlines(self) -> bool:
        """Give every request one final state by its deadline; whether there may be more."""
        ended = await self.journey.store.write(self._expire)
        self.journey.waiters.tell([request.id for request in ended])
        if ended:
            self.journey.pushing.look()
        return len(ended) == SLICE

    async def _expire(self, books: Books) -> list[Request]:
        now_us = self.journey.clock.now_us()
        due = await books.due(now_us, SLICE)
        if not due:
            return []
        ended, rows, events = [], [], []
        for request in due:
            reason = self._why_not(request)
            after_it, steps = way_back.expire(request, now_us, reason)
            if not steps:
                continue
            ended.append(after_it)
            if not request.at_gateway_us:
                events.append(self._warning(after_it, reason, now_us))
                events.append(request_news("message.failed", after_it, reason.value, now_us))
                steps = [*steps, StepRecord(at_us=now_us, step=Step.WARNED, reason=reason)]
            rows.append(way_back.journal_of(after_it, steps, now_us))
            events.append(way_back.result_event(after_it, now_us, self._rng))
        await refund(books, ended)
        never = [each.id for each in ended if each.state == State.EXPIRED and is_weighed(each)]
        await give_back(books, never, now_us)
        quarantined = [each.id for each in due if each.state == State.QUARANTINED]
        if quarantined:
            await books.end_quarantine(quarantined)
        await books.update_requests(ended)
        await books.write_journal(rows)
        await books.add_events(events)
        return ended

    def _why_not(self, request: Request) -> Reason:
        if request.state == State.QUARANTINED:
            return Reason.FLEET_CAP
        if request.gateway not in self.journey.link.connected():
            return Reason.GATEWAY_UNREACHABLE
        return Reason.DEADLINE_PASSED if request.sent_us else Reason.CONGESTION

    async def warnings(self) -> bool:
        """N07: warn inside 15 minutes of whatever the gateway has not had, though its deadline is later."""
        warned = await self.journey.store.write(self._warn)
        if warned:
            self.journey.pushing.look()
        return warned == SLICE

    async def _warn(self, books: Books) -> int:
        now_us = self.journey.clock.now_us()
        late = await books.to_warn(now_us, SLICE)
        if not late:
            return 0
        events, rows = [], []
        for request in late:
            reason = self._why_not(request)
            events.append(self._warning(request, reason, now_us))
            step = StepRecord(at_us=now_us, step=Step.WARNED, reason=reason)
            rows.append(way_back.journal_of(request, [step], now_us))
        await books.update_requests([replace(request, warn_us=0) for request in late])
        await books.write_journal(rows)
        await books.add_events(events)
        return len(late)

    def _warning(self, request: Request, reason: Reason, now_us: int) -> Event:
        return way_out.warning(
            request.id,
            request.party,
            request.service_point,
            request.device,
            request.received_us,
            reason,
            "not delivered to the gateway",
            now_us,
            self._rng,
        )

    # the way out, again

    async def ready(self) -> bool:
        """Find what became ready without a word: later charge times, resends, other workers' accepts."""
        now_us = self.journey.clock.now_us()
        partitions = self.ownership.partitions if self._shared else None
        gateways = await self.journey.store.read(
            lambda books: books.ready_gateways(partitions, now_us, 5_000)
        )
        self.journey.dispatch_to(gateways)
        return False

    async def provisioning(self) -> bool:
        """Push desired state to connected gateways that do not have it yet."""
        partitions = self.ownership.partitions if self._shared else None
        behind = await self.journey.store.read(lambda books: books.unprovisioned(partitions, SLICE))
        connected = self.journey.switchboard.greeted_among(behind)
        if connected:
            found = await self.journey.store.read(lambda books: books.gateways(connected))
            now_us = self.journey.clock.now_us()
            needed = {
                each.id
                for each in found.values()
                if self.journey.switchboard.needs_telling(each.id, each.desired_version, now_us)
            }
            states = await self.journey.store.read(lambda books: books.provisioned(needed))
            for state in states.values():
                self.journey.tell(state)
        return False

    async def grant_leases(self) -> bool:
        """Renew leases of grants at half their life, and give them to gateways that are connected."""
        return await self.leasing.renew() if self.leasing is not None else False

    async def ends_there(self) -> bool:
        """What ended at the consent authority itself ends here."""
        return await self.leasing.hear_of_ends() if self.leasing is not None else False

    async def ends_here(self) -> bool:
        """What ended here is told to the consent authority."""
        return await self.leasing.tell_of_ends() if self.leasing is not None else False

    # the way back, given up

    async def undelivered(self) -> bool:
        """Answers that nobody took for three days are undelivered."""
        return await self.journey.store.write(self._give_up) == SLICE

    async def _give_up(self, books: Books) -> int:
        now_us = self.journey.clock.now_us()
        left = await books.undelivered(now_us - UNDELIVERED_US, SLICE)
        step = StepRecord(at_us=now_us, step=Step.UNDELIVERED)
        await books.update_requests(
            [replace(request, answer="UNDELIVERED", answer_us=now_us) for request in left]
        )
        await books.write_journal([way_back.journal_of(request, [step], now_us) for request in left])
        return len(left)

    # house-keeping

    async def refusals(self) -> bool:
        """Write one counting row per source and minute for refusals beyond the bound."""
        now_us = self.journey.clock.now_us()
        counted = self.journey.refusals.counted(now_us)
        if counted:
            rows = [
                attempt_row(
                    uuid7(now_us, self._rng), "", reason, f"{count} more in a minute from {source}", now_us
                )
                for source, reason, count in counted
            ]
            await self.journey.store.write(lambda books: books.write_journal(rows))
        return False

    async def proofs(self) -> bool:
        """Keep the ids of used proofs few: each third party's rate times the minutes that a proof is good for."""
        now_us = self.journey.clock.now_us()
        await self.journey.store.write(lambda books: books.prune_proofs(now_us))
        return False

    async def prune(self) -> bool:
        """Drop what no rule can need any more."""
        now_us = self.journey.clock.now_us()
        await self.journey.store.write(lambda books: books.prune(now_us))
        return False

    async def waiters(self) -> bool:
        """Hints may be lost: look once a second at what is waited for here."""
        keys = self.journey.waiters.keys()[:5_000]
        if keys:
            self.journey.waiters.tell(await self.journey.store.read(lambda books: books.final_among(keys)))
        return False

    async def partitions(self) -> bool:
        """Say that we live, and own our share of the partitions under a fencing epoch."""
        async with self._sharing:
            given_up = await self._share()
        if given_up:
            await self.journey.store.hint(SHARE, self.ownership.worker)
        return False

    async def _share(self) -> bool:
        """Renew what is ours; whether there is something for others in it: what we gave up, or that we are new."""
        now_us = self.journey.clock.now_us()
        worker = self.ownership.worker
        until_us = now_us + BEAT_US
        living = await self.journey.store.write(lambda books: books.beat(worker, now_us, until_us))
        wanted = share_of(worker, living) if self._shared else frozenset(range(PARTITIONS))
        epoch, held = await self.journey.store.write(
            lambda books: books.take_leases(worker, wanted, now_us, until_us)
        )
        before, is_new = self.ownership.partitions, not self._announced
        self._announced = (
            True  # once: workers that wait for a dead one's leases would call each other for ever
        )
        self.ownership.epoch, self.ownership.partitions = epoch, frozenset(held)
        if before != held:
            await self.journey.link.own(held)
        return self._shared and (is_new or bool(before - held))

    async def leave(self) -> None:
        """Give up what this worker owns, so that others need not wait until its word has run out."""
        now_us = self.journey.clock.now_us()
        worker = self.ownership.worker
        await self.journey.store.write(lambda books: books.beat(worker, now_us, now_us))
        await self.journey.store.write(lambda books: books.take_leases(worker, (), now_us, now_us))
        self.ownership.partitions = frozenset()
        await self.journey.store.hint(SHARE, worker)
