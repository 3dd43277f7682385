"""The CCS's workers: the real way, switchboard, pushing and upkeep, put together as in production, each in a
process that can be killed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from doorward.ccs.journey import Journey
from doorward.ccs.ports import Notifier
from doorward.ccs.terms import Terms
from doorward.ccs.upkeep import Ownership, Upkeep
from doorward.kit.clock import SlewingClock
from doorward.simulate.world import town
from doorward.simulate.world.disk import CcsDisk, CcsStore
from doorward.simulate.world.loop import Process
from doorward.simulate.world.network import BrokerLink

IDLE_S = 3600.0
"""Pushing looks by itself this seldom; :class:`Rouser` wakes it when something is due."""
ROUSED_S_MAX = 1.0
"""How late a look at what is due may come: as late as with the real idle time."""

RENEWING = "Upkeep._share."
"""The transactions by which workers renew their leases: they are no news."""

NOTHING_HERE = frozenset({"ends_here", "ends_there", "refusals"})
"""Duties that can have nothing to do: the consent authority is built in, and there is no flood of refusals."""


class Due:
    """When the next thing is due, as the database itself says, asked again only after a commit."""

    QUESTIONS = {
        "deadlines": "SELECT min(due_us) FROM request WHERE final_us = 0",
        "warnings": "SELECT min(warn_us) FROM request WHERE final_us = 0 AND warn_us <> 0",
        "webhooks": "SELECT min(next_us) FROM event WHERE webhook = 'pending'",
        "grant_leases": "SELECT min(lease_until_us) - 43200000000 FROM \"grant\" WHERE state = 'live'",
        "proofs": "SELECT min(until_us) FROM proof",
        "undelivered": "SELECT min(final_us) + 259200000000 FROM request WHERE final_us > 0 AND answer = ''",
    }
    BY_GATEWAY = {
        "ready": "SELECT gateway, min(ready_us) FROM request WHERE ready_us IS NOT NULL GROUP BY gateway",
        "provisioning": "SELECT id, 0 FROM gateway WHERE applied_version < desired_version",
    }
    """Of the gateways that a worker speaks with."""
    STIRRED_S = 2.5
    """So long after something happened the workers renew their leases at their real pace,"""
    SHAKEN_S = 20.0
    """and so long after one of them died, stopped or came back."""

    def __init__(self, disk: CcsDisk) -> None:
        self._disk = disk
        self._known: dict[str, int | None] = {}
        self._by_gateway: dict[str, dict[str, int]] = {}
        self._changes = -1
        self._calm_s = 0.0
        self.changed = asyncio.Event()

    def wrote(self, by: str) -> None:
        """A transaction was committed: has anything changed?"""
        changes = self._disk.changes()
        if changes != self._changes:
            self._changes = changes
            self._known.clear()
            self._by_gateway.clear()
            if not by.startswith(RENEWING):
                self.stir(self.STIRRED_S)

    def stir(self, s: float) -> None:
        """Something happened, after which leases matter for a while."""
        self._calm_s = max(self._calm_s, asyncio.get_running_loop().time() + s)
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def stirred(self) -> bool:
        """Whether something happened lately."""
        return asyncio.get_running_loop().time() < self._calm_s

    def us(self, what: str) -> int | None:
        """When something is due next (CCS's time), ``None`` for never."""
        if what not in self._known:
            self._known[what] = self._disk.ask(self.QUESTIONS[what])[0][0]
        return self._known[what]

    def us_of(self, what: str, gateways: Collection[str]) -> int | None:
        """When something is due next for some of these gateways."""
        if what not in self._by_gateway:
            self._by_gateway[what] = dict(self._disk.ask(self.BY_GATEWAY[what]))
        found = self._by_gateway[what]
        return min((found[gateway] for gateway in gateways if gateway in found), default=None)


class PatientUpkeep(Upkeep):
    """The real duties at their real pace, but for rounds that could find nothing: those are slept through."""

    due: Due

    async def rest(self, duty: Callable[[], Awaitable[bool]], pace_s: float) -> None:
        """Sleep as long as the real one, and then on until the duty can have something to do."""
        await super().rest(duty, pace_s)
        name = duty.__name__
        while (wait_s := self._wait_s(name)) != 0.0:
            changed = self.due.changed
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            except TimeoutError:
                return

    def _wait_s(self, name: str) -> float | None:
        """How long a duty can have nothing to do (``None``: until something changes)."""
        if name == "partitions":
            return 0.0 if self.due.stirred else None
        if name == "waiters":
            return 0.0 if self.journey.waiters.keys() else None
        if name in NOTHING_HERE:
            return None
        if name in Due.BY_GATEWAY:
            due_us = self.due.us_of(name, self.journey.switchboard.greeted_among(town.GATEWAYS))
        elif name in Due.QUESTIONS:
            due_us = self.due.us(name)
        else:
            return 0.0
        return None if due_us is None else max(0.0, (due_us - self.journey.clock.now_us()) / town.US)


class Worker:
    """One worker, from its start to its death."""

    def __init__(
        self,
        process: Process,
        *,
        store: CcsStore,
        link: BrokerLink,
        notifier: Notifier,
        wall_s: Callable[[], float],
        rng: random.Random,
        terms: Terms,
        due: Due,
    ) -> None:
        self.process = process
        self.store = store
        self.link = link
        self.ownership = Ownership(process.name)
        loop = asyncio.get_running_loop()
        self.clock = SlewingClock(wall_s, loop.time)
        store.open(self.clock)
        self.journey = Journey(
            store=store,
            link=link,
            notifier=notifier,
            clock=self.clock,
            rng=rng,
            tokens=town.token_reader(),
            catalogue=town.catalogue,
            claim=lambda: self.ownership,
            master_key=town.MASTER,
            terms=terms,
        )
        self.upkeep = PatientUpkeep(self.journey, self.ownership, town.Consent(), rng, shared=True)
        self.upkeep.due = due
        self._due = due
        self._rng = rng
        self.serving = False
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self) -> None:
        """Start as the CCS does (``ccs/app.py``), and serve."""
        await self.link.start(self.journey.receive, self.journey.presence)
        while True:
            try:
                await self.upkeep.partitions()
                break
            except Exception:  # the process would end, and be started again by its supervisor
                await asyncio.sleep(0.5)
        await self.store.listen(self.journey.heard)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.upkeep.run()),
            loop.create_task(self.journey.pushing.run(IDLE_S)),
            loop.create_task(self._rouse()),
        ]
        self.serving = True

    async def _rouse(self) -> None:
        """Wake pushing when a webhook is due, as its own idle time would."""
        while True:
            changed = self._due.changed
            due_us = self._due.us("webhooks")
            wait_s = None if due_us is None else max(0.0, (due_us - self.clock.now_us()) / town.US)
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            except TimeoutError:
                await asyncio.sleep(self._rng.random() * ROUSED_S_MAX)
                self.journey.pushing.look()
