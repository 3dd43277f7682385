"""One world: it begins, people ask and things go wrong, everything heals, and what was begun comes to its end."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from doorward.ccs.ports import AllBooks
from doorward.ccs.terms import Terms
from doorward.ccs.upkeep import BEAT_US
from doorward.simulate.world import oracle, town
from doorward.simulate.world import plan as plans
from doorward.simulate.world.devices import Device, Mood, Street
from doorward.simulate.world.disk import CcsStore, GatewayStore, Mishaps, Mortality, Post
from doorward.simulate.world.home import Home
from doorward.simulate.world.ledger import Ledger
from doorward.simulate.world.life import Life
from doorward.simulate.world.loop import Process, WorldLoop
from doorward.simulate.world.network import BrokerLink, BrokerUplink, Network, Weather
from doorward.simulate.world.plan import Fault, Plan
from doorward.simulate.world.third_party import ThirdParties
from doorward.simulate.world.utility import Due, Worker
from doorward.simulate.world.wall import Walls
from doorward.spg.ports import DeviceNotice

US = town.US
TERMS = Terms(per_hour=town.PER_HOUR, per_day=town.PER_DAY)
WORKERS = 2
DRAIN_S_MAX = 26 * 3600.0
"""How long everything may take to come to its end after the world has healed."""
CALM_S = 2.0
OVERRIDE_STORED_S = 30.0
"""After so long a gateway that runs has stored what an override means."""
CALM_LOOKS = 2
LOOK_S = 10.0
RENEWED_S = 2.0


LEASES = "SELECT worker, min(until_us) FROM lease GROUP BY worker"
LEFT_AT_CCS = {
    "open": "SELECT count(*) FROM request WHERE final_us = 0",
    "to send": "SELECT count(*) FROM request WHERE ready_us IS NOT NULL",
    "webhooks": "SELECT count(*) FROM event WHERE webhook = 'pending'",
    "behind": "SELECT count(*) FROM gateway WHERE applied_version < desired_version",
}
LEFT_AT_GATEWAY = {
    "outbox": "SELECT count(*) FROM outbox",
    "intent": "SELECT count(*) FROM intent",
    "control": "SELECT count(*) FROM control",
}
"""What there is to be done while these count anything."""


@dataclass(slots=True)
class Outage:
    """A time (true µs) in which no worker could do anything; ``until_us`` 0 while it lasts."""

    since_us: int
    until_us: int = 0


class World:
    """A seed's world. Everything that is drawn comes from :attr:`rng`, and what depends on it."""

    def __init__(self, seed: int, disks: town.Disks) -> None:
        self.rng = random.Random(f"world-{seed}")
        self.plan: Plan = plans.draw(seed, self.rng)
        self.disks = disks
        self.loop = WorldLoop(self._dice(), shuffled=self.plan.shuffled)  # type: ignore[abstract]
        self.mishaps = Mishaps(killed=self._killed)
        self.network = Network(self.loop, self._dice())
        self.street = Street(town.devices(), self.loop, self.now_us, self._dice())
        self.third_parties = ThirdParties(self._dice(), self.now_us, lambda: self.living_workers())
        self.post = Post(self.loop, self._dice())
        self.walls = Walls(self.loop, self._dice())
        self.workers: list[Worker | None] = [None] * WORKERS
        self.homes: dict[str, Home] = {}
        self.outages: list[Outage] = []
        self._ccs_down_until_s = 0.0
        self._renewed_s = 0.0
        self.healed = False
        self.healed_us = 0
        self._boots: Counter[str] = Counter()
        self._mortal: list[Mortality] = []
        self._processes: list[Process] = []
        self.grants: dict[tuple[str, str], int] = dict.fromkeys(town.GRANTED, 1)
        self.ledger = Ledger(self)
        self._context = Context()

    def _dice(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def now_us(self) -> int:
        """True time."""
        return town.START_US + int(self.loop.time() * US)

    def living_workers(self) -> list[Worker]:
        """Workers whose process runs."""
        return [each for each in self.workers if each is not None and not each.process.dead]

    # --- from beginning to end ---------------------------------------------------------------------------

    def run(self) -> None:
        """Play the world to its end. Raises :class:`~doorward.simulate.world.loop.Stuck`."""
        try:
            self.loop.run(self._play())
        finally:
            self.loop.close()

    async def _play(self) -> None:
        await self.disks.rewind()
        self.due = Due(self.disks.ccs, lambda: {each.process.name for each in self.living_workers()})
        if self.plan.has(Fault.LEASES):
            self._shorten_leases()
        self.loop.on_jump = self._jumped
        self.network.saw_down, self.network.saw_up = self.ledger.saw_down, self.ledger.saw_up
        self.street.witness = self.ledger.acted
        self.network.weather = plans.weather(self.plan, self.rng)
        self.post.loss = 0.5 if self.plan.has(Fault.HINTS) else 0.0
        self.third_parties.answers_lost = 0.3 if self.plan.has(Fault.ANSWERS) else 0.0
        for number in range(WORKERS):
            self._start_worker(number)
        for gateway in town.GATEWAYS:
            self._start_home(gateway)
        await asyncio.sleep(1.0)
        life = Life(self)
        life.begin()
        await asyncio.sleep(self.plan.span_s)
        life.end()
        await self._heal()
        await self._drain()
        await oracle.judge(self)

    def _shorten_leases(self) -> None:
        """The permissions' leases end soon, unless they are renewed and the renewal arrives."""
        for party, place in town.GRANTED:
            at_us = town.START_US - town.HOUR_US
            grant = town.grant(party, place, 1, at_us=at_us)
            span_us = town.HOUR_US + self.rng.choice((5, 60, 300)) * US
            short = town.leased(grant, at_us, us=span_us)
            self.disks.ccs.ask(
                'UPDATE "grant" SET lease_until_us = ?, lease_signed = ? WHERE id = ?',
                short.lease_until_us, short.lease_signed, short.id,
            )  # fmt: skip

    async def _heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self.healed, self.healed_us = True, self.now_us()
        for mortality in self._mortal:
            mortality.healthy = True
        self.network.weather = Weather()
        self.post.loss = 0.0
        self.third_parties.answers_lost = 0.0
        self.third_parties.down.clear()
        self.walls.right()
        for gateway in town.GATEWAYS:
            self.network.mend(gateway)
        for process in self._processes:
            if process.paused:
                process.go_on()
        self.health_changed()
        for device in self.street.devices.values():
            device.mood = Mood.WELL
            self.override(device, False)

    async def _drain(self) -> None:
        """Wait until nothing is left to be done, within a bound."""
        end_s = self.loop.time() + DRAIN_S_MAX
        calm = 0
        looked = -1
        left: dict[str, int] = {}
        while self.loop.time() < end_s:
            changes = self.disks.changes()
            if changes != looked or not left:
                looked, left = changes, self.unfinished()
            calm = 0 if left else calm + 1
            if calm == CALM_LOOKS:
                return
            await asyncio.sleep(LOOK_S if left else CALM_S)
        self.ledger.breach("drained", f"not at rest {DRAIN_S_MAX:.0f} s after everything healed: {left}")

    def unfinished(self) -> dict[str, int]:
        """What still has to happen, by kind."""
        left = {name: self.disks.ccs.ask(sql)[0][0] for name, sql in LEFT_AT_CCS.items()}
        for gateway, disk in self.disks.gateways.items():
            for table in LEFT_AT_GATEWAY:
                left[f"{table} of {gateway}"] = disk.ask(LEFT_AT_GATEWAY[table])[0][0]
        left["wishes"] = sum(1 for each in self.third_parties.wishes if each.open)
        left["starting"] = WORKERS - len(self.living_workers()) + len(town.GATEWAYS) - len(self.homes)
        return {name: count for name, count in left.items() if count}

    # --- processes -----------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """Return a new process of this name; each boot has another one."""
        self._boots[name] += 1
        made = Process(f"{name}.{self._boots[name]}", self.loop)
        self._processes.append(made)
        return made

    def mortality(self, crash: Fault) -> Mortality:
        """Return what befalls a new process."""
        drawn = plans.mortality(self.plan, self._dice(), crash)
        drawn.healthy = self.healed
        self._mortal.append(drawn)
        return drawn

    def _start_worker(self, number: int) -> None:
        process = self.process(f"w-{number + 1}")
        mortality = self.mortality(Fault.CCS_CRASH)
        store = CcsStore(
            self.disks.ccs,
            process,
            mortality,
            self.mishaps,
            lambda by: self.ledger.ccs_wrote(process, by),
            self.post,
        )
        worker = Worker(
            process,
            store=store,
            link=BrokerLink(self.network, process),
            notifier=self.third_parties,
            wall_s=self.walls.ccs_s,
            rng=self._dice(),
            terms=TERMS,
            due=self.due,
            consent=town.Consent(lambda: self.plan.has(Fault.LEASES) and not self.healed),
        )
        self.workers[number] = worker
        process.start(self._run_worker(worker))

    async def _run_worker(self, worker: Worker) -> None:
        await worker.run()
        self.health_changed()

    def _start_home(self, gateway: str) -> None:
        process = self.process(gateway)
        mortality = self.mortality(Fault.GATEWAY_CRASH)
        store = GatewayStore(self.disks.gateways[gateway], process, mortality, self.mishaps)
        home = Home(
            gateway,
            process,
            store=store,
            uplink=BrokerUplink(self.network, process, gateway, self._dice()),
            street=self.street,
            wall_s=self.walls.gateway_s(gateway),
            rng=self._dice(),
        )
        self.homes[gateway] = home
        process.start(home.run())

    def _killed(self, process: Process) -> None:
        """A process has died; somebody starts another one."""
        process.kill()
        self.network.unplug(process)
        wait_s = self.rng.choice((0.2, 2.0, 8.0, 30.0))
        for number, worker in enumerate(self.workers):
            if worker is not None and worker.process is process:
                self.workers[number] = None
                down_s = self._ccs_down_until_s - self.loop.time()
                self.later(max(wait_s, down_s), self._start_worker, number)
        for gateway, home in list(self.homes.items()):
            if home.process is process:
                del self.homes[gateway]
                self._forget_overrides(gateway)
                self.walls.rebooted(gateway, self.plan.has(Fault.GATEWAY_CLOCK) and not self.healed)
                self.later(wait_s, self._start_home, gateway)
        self.health_changed()

    def _forget_overrides(self, gateway: str) -> None:
        """A gateway that has died may have heard of an override and not stored what follows from it."""
        for device in self.street.devices.values():
            lately = self.loop.time() - device.touched_s < OVERRIDE_STORED_S
            if device.gateway == gateway and (device.overridden or lately):
                device.missed = True

    def kill(self, process: Process) -> None:
        """Kill a process at any moment."""
        self.mishaps.counts["kill"] += 1
        self._killed(process)

    def later(self, delay_s: float, do: Callable[..., object], *args: object) -> None:
        """Do something in the world itself, whatever process asked for it."""
        self.loop.call_later(delay_s, do, *args, context=self._context)

    async def stop_ccs(self, down_s: float) -> None:
        """All workers are killed, and none comes back for a while."""
        self._ccs_down_until_s = max(self._ccs_down_until_s, self.loop.time() + down_s)
        for worker in self.living_workers():
            self.kill(worker.process)

    def health_changed(self) -> None:
        """Note when no worker can do anything."""
        self.due.shake()
        well = any(each.serving and not each.process.paused for each in self.living_workers())
        last = self.outages[-1] if self.outages else None
        if well and last is not None and not last.until_us:
            last.until_us = self.now_us()
        elif not well and (last is None or last.until_us):
            self.outages.append(Outage(self.now_us()))

    def _jumped(self, from_s: float, to_s: float) -> None:
        """Time goes on: who lives has renewed its leases meanwhile, as it does every two seconds."""
        if to_s - self._renewed_s < RENEWED_S:
            return
        self._renewed_s = to_s
        if not self.due.shaken and self._lapsed():
            self.due.shake()
        if self.due.shaken:
            return
        for worker in self.living_workers():
            if worker.serving and not worker.process.paused:
                now_us = worker.clock.now_us()
                until_us = now_us + int((to_s - from_s) * US) + BEAT_US
                self.disks.ccs.ask(
                    "UPDATE lease SET until_us = ? WHERE worker = ? AND until_us > ?",
                    until_us, worker.process.name, now_us,
                )  # fmt: skip
                self.disks.ccs.ask(
                    "UPDATE worker SET until_us = ? WHERE name = ?", until_us, worker.process.name
                )

    def _lapsed(self) -> bool:
        """Whether a lease has ended by its owner's clock, which was set: it is renewed at the real pace."""
        ends = {each.process.name: each.clock.now_us() for each in self.living_workers()}
        return any(until_us <= ends.get(owner, 0) for owner, until_us in self.disks.ccs.ask(LEASES))

    # --- what people do ------------------------------------------------------------------------------------

    def override(self, device: Device, overridden: bool) -> None:
        """Somebody at home takes a device in hand, or lets it go again."""
        if device.overridden == overridden:
            return
        device.overridden = overridden
        device.touched_s = self.loop.time()
        if overridden:
            self.mishaps.counts["override"] += 1
            device.owners = device.owners | {"on": not device.settings["on"]}
            device.settings = dict(device.owners)
        home = self.homes.get(device.gateway)
        device.missed |= home is None or home.process.paused or home.adapter.notices is None
        if home is not None:
            kind = "override" if overridden else "override_ended"
            home.said(DeviceNotice(device=device.id, kind=kind, at_us=home.clock.now_us()))

    async def change_access(self, pair: tuple[str, str], rng: random.Random) -> None:
        """A customer ends a permission, or gives it again, at the portal of a worker."""
        version = self.grants[pair] + 1
        live = not self.ledger.access[pair][-1].live
        self.grants[pair] = version
        self.mishaps.counts["access changed"] += 1
        for _ in range(100):
            workers = [each for each in self.living_workers() if each.serving]
            if workers:
                worker = rng.choice(workers)
                done: asyncio.Future[bool] = self.loop.create_future()
                worker.process.start(self._put_access(worker, pair, version, live, done))
                try:
                    async with asyncio.timeout(10.0):
                        if await done:
                            return
                except TimeoutError:
                    pass
            await asyncio.sleep(1.0)

    async def _put_access(
        self, worker: Worker, pair: tuple[str, str], version: int, live: bool, done: "asyncio.Future[bool]"
    ) -> None:
        grant = town.grant(*pair, version, state="live" if live else "withdrawn", at_us=worker.clock.now_us())
        known = self.ledger.access[pair]

        async def put(books: AllBooks) -> None:
            await books.put_grants([grant])
            if known[-1].version < version:
                self.ledger.access_changed(pair, version, live=live)

        try:
            await worker.store.write(put)
        except Exception:
            if not done.done():
                done.set_result(False)
            return
        if not done.done():
            done.set_result(True)

    def skew_us(self, gateway: str) -> int:
        """How far a gateway's time may be wrong in this world, for all that it can know."""
        late_s = self.network.weather.delay_s + 1.0
        if self.plan.has(Fault.DELAY) or self.plan.has(Fault.COPIES) or self.plan.has(Fault.PAUSE):
            late_s += 65.0
        if self.plan.has(Fault.CCS_CLOCK):
            late_s += 90.0
        if self.plan.has(Fault.GATEWAY_CLOCK):
            late_s += 3.0
        return int(late_s * US)
