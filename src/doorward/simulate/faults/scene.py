"""A running utility under load, with its four ledgers: where every fault is played."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from doorward.client import Client
from doorward.simulate.bench.processes import family
from doorward.simulate.faults.judge import FINAL, Power, Verdict, judge
from doorward.simulate.faults.ledgers import acts_of, gather, read_books, read_gateway
from doorward.simulate.faults.load import Prober, Trader
from doorward.simulate.local_utility import EMBEDDED, LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.simulate.services import workplace
from doorward.wire.vocabulary import DeviceClass

PARTY = "bright"
PLENTY = 100_000
"""Transactions an hour: no limit is reached, so that none may be said to be."""
CAPS_KW = (
    "fleet_kw_per_minute", "fleet_kw_at_once", "area_kw_per_minute", "area_kw_at_once",
    "party_kw_per_minute", "party_kw_at_once", "opposing_kw", "campaign_kw_per_minute",
)  # fmt: skip
"""Nor is so much load moved that anything would be held or spread: what is late is late by the fault."""
WAIT_S_MAX = 60.0
LOOK_S = 0.2
DEADLINE_S = 20.0
PATIENT_S = 60.0
"""A deadline so long that a busy machine is no excuse: whatever ends otherwise than done was held up by a fault."""
PAUSE_S = 0.6
"""Between two requests to one device: a home's device is not asked more often than it can answer."""
LATE_S_MAX = 20.0
"""How long after its deadline a request may end: a CCS that was down at the time has to be there again."""


BROKER_SETTINGS = ("acl", "mosquitto.conf", "mosquitto.log")


class DidNotHappen(RuntimeError):
    """Something that was waited for did not come; the message says what."""


def plan_of(homes: int, pumps: int = 2) -> Plan:
    """Homes with pool pumps, each behind a gateway of its own, and one company that may ask them all."""
    return Plan(
        homes=tuple(
            Home(
                f"SP-{number}",
                f"SPG-{number}",
                f"Customer {number}",
                tuple(Equipment(f"PP-{number}{n}", DeviceClass.POOL_PUMP, "Pump") for n in range(pumps)),
            )
            for number in range(1, homes + 1)
        ),
        parties=(Company(PARTY, "BrightGrid", "premium", tuple(f"SP-{n}" for n in range(1, homes + 1))),),
        per_hour=PLENTY,
        per_day=PLENTY,
    )


class Scene:
    """A utility, its third parties, and what breaks. Made by :func:`scene`."""

    def __init__(self, utility: LocalUtility, rng: random.Random, open_: ExitStack) -> None:
        self.utility = utility
        self.rng = rng
        self._open = open_
        self.traders: list[Trader] = []
        self.probers: list[Prober] = []

    # ---- load ---------------------------------------------------------------------------------------

    def prepare(self, *, deadline_s: float) -> None:
        """A third party's trader for every device; return when every gateway has answered once."""
        client = self._open.enter_context(self.client())
        devices = [device.id for home in self.utility.plan.homes for device in home.equipment]
        self.traders = [
            Trader(client, device, random.Random(self.rng.random()), PAUSE_S, deadline_s)
            for device in devices
        ]
        for device in devices:
            self.until(lambda device=device: client.read(device).is_done, f"{device} answers")  # type: ignore[misc]

    def client(self) -> Client:
        """The third party, with the SDK."""
        return Client(self.utility.url, client_id=PARTY, client_secret=self.utility.secret(PARTY))

    def prober(self) -> Prober:
        """Somebody who makes single calls, to the last device, which then has no trader."""
        device = self.traders.pop().device
        secret = self.utility.secret(PARTY)
        self.probers.append(Prober(self.utility.url, PARTY, secret, device))
        return self.probers[-1]

    def begin(self) -> None:
        """Let the load begin."""
        for trader in self.traders:
            trader.begin()

    def end(self) -> None:
        """Let the load end."""
        for trader in self.traders:
            trader.end()

    def slowest_s(self) -> float:
        """The longest that an answer took."""
        return max(trader.slowest_s for trader in self.traders)

    def wait(self, least_s: float, most_s: float) -> None:
        """Let some time pass."""
        time.sleep(self.rng.uniform(least_s, most_s))

    def until(self, look: Callable[[], object], what: str, wait_s_max: float = WAIT_S_MAX) -> float:
        """Return how many seconds it took until ``look`` found something; raise :class:`DidNotHappen`.

        Whatever ``look`` raises means: not yet.
        """
        began_s = time.monotonic()
        said = ""
        while time.monotonic() - began_s < wait_s_max:
            try:
                if look():
                    return time.monotonic() - began_s
            except Exception as error:
                said = f": {error}"
            time.sleep(LOOK_S)
        raise DidNotHappen(f"{what}: not within {wait_s_max:.0f} s{said}")

    def works_again(self) -> float:
        """Return how many seconds it took until every gateway answered the third party."""
        began_s = time.monotonic()
        with self.client() as asking:
            for home in self.utility.plan.homes:
                device = home.equipment[0].id
                self.until(lambda device=device: asking.read(device).is_done, f"{device} answers")  # type: ignore[misc]
        return time.monotonic() - began_s

    # ---- the end ------------------------------------------------------------------------------------

    def verdict(self, **how: Any) -> Verdict:
        """Wait until everything has ended and every gateway was heard, then compare the ledgers.

        Who asked again and again while nobody was there may find that the deadline has passed meanwhile.
        """
        self.until(self._all_ended, "every request ends", PATIENT_S + WAIT_S_MAX)
        self.until(self._all_told, "every gateway is acknowledged")
        told = [each for trader in self.traders for each in trader.told]
        told += [each for prober in self.probers for each in prober.told]
        ledgers = asyncio.run(gather(self.utility, PARTY, told))
        return judge(
            ledgers, **{"late_us_max": int(LATE_S_MAX * 1e6), "refusals": ("deadline-passed",), **how}
        )

    def acts(self, power: Power) -> list[int]:
        """When a device took this power, by its own file."""
        return acts_of(self.utility, [power[0]]).get(power, [])

    def _all_ended(self) -> bool:
        books = asyncio.run(read_books(self.utility.database, PARTY))
        return all(booked.state in FINAL for booked in books)

    def _all_told(self) -> bool:
        gateways = self.utility.directory / "gateways"
        return not any(read_gateway(gateways / home.gateway)[2] for home in self.utility.plan.homes)

    # ---- breaking -----------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The process ids of the CCS's workers: of the one process, or of the master's children."""
        first, *others = family(self.utility.processes["ccs"].child.pid)
        return others or [first]

    def kill(self, name: str) -> None:
        """``kill -9`` of a process or a server, with all its descendants."""
        if name in self.utility.servers:
            self.utility.servers[name].kill()
        else:
            kill_family(self.utility.processes[name].child.pid)
            self.utility.processes[name].child.wait()

    def start(self, name: str) -> None:
        """Start again what was ended."""
        if name in self.utility.servers:
            self.utility.servers[name].start()
        elif name == "ccs":
            self.utility.wait_ready(self.utility.start_ccs())
        else:
            self.utility.start_gateway(self.home(name))

    def kill_worker(self) -> None:
        """``kill -9`` of one of several workers; the master starts it again."""
        victim = self.rng.choice(self.workers())
        os.kill(victim, signal.SIGKILL)
        self.until(lambda: victim not in self.workers() and self.all_there(), "the worker is started again")

    def kill_master(self) -> None:
        """``kill -9`` of the master of several workers: they stop by themselves, and it is started again."""
        left = self.workers()
        self.utility.processes["ccs"].kill()
        self.until(lambda: not any(map(_lives, left)), "workers without a master stop")
        self.start("ccs")

    def all_there(self) -> bool:
        """Whether there are as many workers as there should be."""
        return len(self.workers()) == self.utility.workers

    def wipe_broker(self) -> None:
        """The broker dies with all it knew, and comes back on the same port."""
        broker = self.utility.servers["broker"]
        broker.kill()
        for file in broker.directory.iterdir():
            if file.name not in BROKER_SETTINGS:
                file.unlink()
        broker.start()

    def pause_database(self, seconds: float) -> None:
        """The database answers nobody for a while."""
        pids = family(self.utility.servers["database"].pid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def home(self, gateway: str) -> Home:
        """The home behind a gateway."""
        return next(home for home in self.utility.plan.homes if home.gateway == gateway)

    @property
    def gateways(self) -> list[str]:
        """The names of the gateways."""
        return [home.gateway for home in self.utility.plan.homes]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def kill_family(pid: int) -> None:
    """``kill -9`` of a process that we started and all its descendants."""
    for each in family(pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


@contextmanager
def scene(
    rng: random.Random,
    engines: tuple[str, str] = EMBEDDED,
    *,
    homes: int = 2,
    workers: int = 1,
    settings: dict[str, Any] | None = None,
    prepare: Callable[[LocalUtility], None] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Scene]:
    """Run a utility of ``homes`` until the block ends. ``prepare`` may change it before it starts.

    ``deadline_s`` is that of the load's requests.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workplace(None))
        utility = LocalUtility(
            place,
            plan_of(homes),
            {"per_hour": PLENTY, "per_day": PLENTY, **dict.fromkeys(CAPS_KW, PLENTY), **(settings or {})},
            engines=engines,
            workers=workers,
        )
        stack.callback(utility.stop)
        if prepare is not None:
            prepare(utility)
        utility.start()
        running = Scene(utility, rng, stack)
        running.prepare(deadline_s=deadline_s)
        stack.callback(running.end)
        yield running
