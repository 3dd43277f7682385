"""The CCS's workers: the real way, switchboard, pushing and upkeep, put together as in production, each in a
process that can be killed."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from doorward.ccs.journey import Journey
from doorward.ccs.ports import Notifier
from doorward.ccs.terms import Terms
from doorward.ccs.upkeep import SHARE, Ownership, Upkeep
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

NOTHING_HERE = frozenset({"ends_here", "ends_there", "refusals", "waiters"})
"""Duties that can have nothing to do in these worlds: the consent authority is built in, there is no flood of
refusals, and nobody holds the line."""

READY = "SELECT min(ready_us) FROM request WHERE ready_us IS NOT NULL AND gateway = "
BEHIND = "SELECT min(applied_us) FROM gateway WHERE applied_version < desired_version AND id = "
QUESTIONS = {
    "deadlines": "SELECT min(due_us) FROM request WHERE final_us = 0",
    "warnings": "SELECT min(warn_us) FROM request WHERE final_us = 0 AND warn_us <> 0",
    "webhooks": "SELECT min(next_us) FROM event WHERE webhook = 'pending'",
    "grant_leases": "SELECT min(lease_until_us) - 43200000000 FROM \"grant\" WHERE state = 'live'",
    "proofs": "SELECT min(until_us) FROM proof",
    "undelivered": "SELECT min(final_us) + 259200000000 FROM request WHERE final_us > 0 AND answer = ''",
    **{f"ready {gateway}": f"{READY}'{gateway}'" for gateway in town.GATEWAYS},
    **{f"provisioning {gateway}": f"{BEHIND}'{gateway}'" for gateway in town.GATEWAYS},
}
"""When each duty can have something to do next, in the CCS's time; no answer: never, as things are."""
BY_GATEWAY = frozenset({"ready", "provisioning"})
"""Duties towards gateways that a worker speaks with."""
ALL = "SELECT " + ", ".join(f"({question})" for question in QUESTIONS.values())
OWNERS = "SELECT DISTINCT worker FROM lease"
LOOKED_S = 5.0
"""How often a duty looks whether its gateway is there again."""


class Due:
    """When the next thing is due, as the database itself says: asked anew after every commit."""

    SHAKEN_S = 13.0
    """So long after a worker died, stopped or came back all renew their leases at their real pace (longer than a
    lease lasts); at other times the world does it for them."""

    def __init__(self, disk: CcsDisk, living: Callable[[], set[str]]) -> None:
        """``living`` names the workers whose processes run."""
        self._disk = disk
        self._us: dict[str, int | None] = dict.fromkeys(QUESTIONS)
        self._changes = -1
        self._calm_s = 0.0
        self._owners = {""}
        self._living = living
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def wrote(self, by: str) -> None:
        """A transaction was committed: has anything changed, and for whom?"""
        changes = self._disk.changes()
        if changes == self._changes:
            return
        if by.startswith(RENEWING):
            self._owners = {row[0] for row in self._disk.ask(OWNERS)}
            if self.shaken:
                self._wake("partitions")
            return
        self._changes = changes
        for name, us in zip(QUESTIONS, self._disk.ask(ALL)[0], strict=True):
            if us != self._us[name]:
                self._us[name] = us
                self._wake(name.partition(" ")[0])

    def shake(self) -> None:
        """A worker died, stopped or came back: leases matter for a while."""
        self._calm_s = asyncio.get_running_loop().time() + self.SHAKEN_S
        self._wake("partitions")

    @property
    def shaken(self) -> bool:
        """Whether workers may lose and take leases now."""
        return asyncio.get_running_loop().time() < self._calm_s or not self._owners <= self._living()

    def us(self, name: str) -> int | None:
        """When something is due next (CCS's time), ``None`` for never."""
        return self._us[name]

    def _wake(self, name: str) -> None:
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(None)

    async def news(self, name: str, wait_s: float | None) -> bool:
        """Wait until the answer for ``name`` is another one; ``False`` when ``wait_s`` have passed before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(name, []).append(future)
        if wait_s is None:
            await future
            return True
        late = loop.call_later(wait_s, future.cancel)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                raise
            return False
        late.cancel()
        return True


class PatientUpkeep(Upkeep):
    """The real duties at their real pace, but for rounds that could find nothing: those are slept through."""

    due: Due

    async def rest(self, duty: Callable[[], Awaitable[bool]], pace_s: float) -> None:
        """Sleep as long as the real one, and then on until the duty can have something to do."""
        await super().rest(duty, pace_s)
        name = duty.__name__
        while (wait_s := self._wait_s(name)) != 0.0:
            await self.due.news(name, wait_s)

    def _wait_s(self, name: str) -> float | None:
        """How long a duty can have nothing to do (``None``: until something changes)."""
        if name == "partitions":
            return 0.0 if self.due.shaken else None
        if name in NOTHING_HERE:
            return None
        if name in BY_GATEWAY:
            return self._wait_for_gateways_s(name)
        if name not in QUESTIONS:
            return 0.0
        due_us = self.due.us(name)
        return None if due_us is None else max(0.0, (due_us - self.journey.clock.now_us()) / town.US)

    def _wait_for_gateways_s(self, name: str) -> float | None:
        waits: list[float] = []
        for gateway in town.GATEWAYS:
            due_us = self.due.us(f"{name} {gateway}")
            if due_us is None:
                continue
            if not self.journey.switchboard.greeted_among({gateway}):
                waits.append(LOOKED_S)
            else:
                waits.append(max(0.0, (due_us - self.journey.clock.now_us()) / town.US))
        return min(waits, default=None)


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
        consent: town.Consent,
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
        self.upkeep = PatientUpkeep(self.journey, self.ownership, consent, rng, shared=True)
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
        await self.store.listen(self._heard)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.upkeep.run()),
            loop.create_task(self.journey.pushing.run(IDLE_S)),
            loop.create_task(self._rouse()),
        ]
        self.serving = True

    def _heard(self, channel: str, payload: str) -> None:
        """A word of another worker, as ``ccs/app.py`` takes it."""
        if channel != SHARE:
            self.journey.heard(channel, payload)
        elif payload != self.ownership.worker:
            self._tasks.append(asyncio.get_running_loop().create_task(self._share()))

    async def _share(self) -> None:
        with contextlib.suppress(Exception):  # the duty makes up for it
            await self.upkeep.partitions()

    async def _rouse(self) -> None:
        """Wake pushing when a webhook is due, as its own idle time would."""
        while True:
            due_us = self._due.us("webhooks")
            wait_s = None if due_us is None else max(0.0, (due_us - self.clock.now_us()) / town.US)
            if not await self._due.news("webhooks", wait_s):
                await asyncio.sleep(self._rng.random() * ROUSED_S_MAX)
                self.journey.pushing.look()
