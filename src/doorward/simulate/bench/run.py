"""A bench from beginning to end. Read this first.

::

    set up  services (PostgreSQL, Mosquitto) → keys and books → the CCS → gateways connect → third parties
    measure warm-up → steady → saturation, by every way of handing over → the ledgers are compared
    floor   the same load on the same hops with no Doorward between them

The CCS is the real one, started by its command. Its CPU time is what the kernel counts for its processes
from just before a phase's first call until its last answer.
"""

import asyncio
import os
import platform
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from doorward.ccs.app import database_url, prepare
from doorward.ccs.engines.link_mqtt import mosquitto_acl, mosquitto_config
from doorward.ccs.engines.opening import open_store
from doorward.ccs.settings import PREFIX, CcsSettings, read_settings
from doorward.kit.clock import Clock
from doorward.simulate.bench import floor, gateways, history, ledger, load
from doorward.simulate.bench.briefs import HOST, Market, Trader
from doorward.simulate.bench.http import NoAnswer, Pool, request
from doorward.simulate.bench.plan import ECHOES, Phase, Plan
from doorward.simulate.bench.processes import Worker, cpu_s, family, role, rss_bytes, started
from doorward.simulate.bench.report import Cost, Machine, Measured, Memory, Report
from doorward.simulate.bench.town import Builder, Town
from doorward.simulate.services import Mosquitto, Postgresql, Server, free_port, running, workplace
from doorward.wire.enrolment import LinkAddress

READY_WAIT_S_MAX = 60.0
PHASE_WAIT_S_MAX = 120.0
START_WAIT_S_MAX = 90.0
POLL_S = 0.05
UNCAPPED_KW = 1_000_000_000
"""The caps on moved load are made for homes, not for a thousand controls a second; all are weighed, none held."""
CAPS = ("per_minute", "at_once")
SETTLE_S = 1.0
"""Between the last gateway's arrival and the look at the CCS's memory."""

Progress = Callable[[str], None]


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs while it is measured: what their CPU time is counted as → their processes."""

    load: Worker
    spgs: Worker | None = None
    counted: Mapping[str, int]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each, with all their descendants."""
        return {name: cpu_s(family(pid)) for name, pid in self.counted.items()}


async def run(plan: Plan, clock: Clock, rng: random.Random, progress: Progress) -> Report:
    """Measure and return the report; raise :class:`ProcessFailed` or ``ServiceUnavailable``.

    ``progress`` is told in words what goes on.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    machine = _machine()
    with workplace(None) as place:
        place.chmod(0o711)  # PostgreSQL's own user must get to its directory
        async with AsyncExitStack() as stack:
            servers = await _database(plan, place, stack)
            settings = _settings(plan, place, servers)
            await prepare(settings, rng)
            if plan.history:
                progress(f"{plan.history} journal rows of history")
                await history.fill(database_url(settings), plan.history, clock.now_us())
            progress(f"{plan.gateways} gateways, {plan.points} service points: setting up")
            town = await Builder(plan, settings, clock, rng).build(_fresh(place / "seats"), _link(settings))
            if plan.link == "mqtt":
                servers["broker"] = _broker(town, settings, _fresh(place / "broker"))
                await asyncio.to_thread(stack.enter_context, running(servers["broker"]))
            phases, memory, verdict = await _measure(plan, place, settings, town, servers, clock, progress)
        floors = await _measure_floor(plan, place, town, progress)
    return Report(
        plan=plan,
        machine=machine,
        phases=phases,
        floor=floors,
        memory=memory,
        verdict=verdict,
        seconds=loop.time() - began_s,
    )


# --- what has to be there first ------------------------------------------------------------------------


async def _database(plan: Plan, place: Path, stack: AsyncExitStack) -> dict[str, Server]:
    """Start the servers that the plan needs before the CCS has keys."""
    if plan.store == "sqlite":
        return {}
    postgresql = await asyncio.to_thread(Postgresql, _fresh(place / "postgresql"))
    await asyncio.to_thread(stack.enter_context, running(postgresql))
    return {"database": postgresql}


def _settings(plan: Plan, place: Path, servers: Mapping[str, Server]) -> CcsSettings:
    """Return the CCS's settings: the defaults, but for addresses and what is written to the log."""
    database = servers.get("database")
    return read_settings(
        None,
        data_dir=place / "ccs",
        database=database.dsn if isinstance(database, Postgresql) else "",
        port=free_port(),
        link=plan.link,
        link_port=free_port(),
        enrol_port=free_port(),
        mqtt_url=f"mqtts://{HOST}:{free_port()}" if plan.link == "mqtt" else "",
        workers=plan.workers,
        log_level="warning",
        webhook_allow_networks=["127.0.0.0/8"],
        **{f"{who}_kw_{kind}": UNCAPPED_KW for who in ("fleet", "area", "party") for kind in CAPS},
        opposing_kw=UNCAPPED_KW,
        campaign_kw_per_minute=UNCAPPED_KW,
    )


def _broker(town: Town, settings: CcsSettings, directory: Path) -> Mosquitto:
    """Return a broker that asks for certificates, on the port that the settings name."""
    acl = directory / "acl"
    workers = [f"{settings.mqtt_name}-{number}" for number in range(1, settings.workers + 1)]
    acl.write_text(mosquitto_acl(workers))
    certificate = town.authority.server("broker", [HOST])
    broker = Mosquitto(directory, mosquitto_config(certificate, town.authority.path, acl))
    broker.port = urlsplit(settings.mqtt_url).port or 0
    return broker


def _fresh(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _link(settings: CcsSettings) -> LinkAddress:
    if settings.link == "mqtt":
        return LinkAddress(kind="mqtt", urls=[settings.mqtt_url])
    return LinkAddress(kind="websocket", urls=[f"wss://{HOST}:{settings.link_port}"])


def _environment(settings: CcsSettings) -> dict[str, str]:
    """Return what gives another process the same settings."""
    held = settings.model_dump(mode="json", exclude_unset=True)
    return {
        f"{PREFIX}{name.upper()}": value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in held.items()
    }


def _machine() -> Machine:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return Machine(
        processor=names[0] if names else platform.machine(),
        cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        load_before=os.getloadavg()[0],
    )


# --- the CCS -------------------------------------------------------------------------------------------


async def _measure(
    plan: Plan,
    place: Path,
    settings: CcsSettings,
    town: Town,
    servers: dict[str, Server],
    clock: Clock,
    progress: Progress,
) -> tuple[list[Measured], Memory, ledger.Verdict]:
    homes, market = place / "homes.json", place / "market.json"
    homes.write_bytes(msgspec.json.encode(town.homes))
    market.write_bytes(msgspec.json.encode(town.market))
    command = [sys.executable, "-m", "doorward.cli", "ccs"]
    async with (
        started("the CCS", command, place / "ccs.log", _environment(settings)) as ccs,
        started("the gateways", role("gateways"), place / "gateways.log") as spgs,
        started("the load", role("load"), place / "load.log") as traders,
    ):
        await _ready(ccs, settings.port)
        alone = rss_bytes(family(ccs.pid))
        wait_s = START_WAIT_S_MAX + gateways.connect_wait_s(plan.gateways)
        await spgs.ask(gateways.Order(do="start", path=str(homes)), int, wait_s)
        await _provisioned(settings, clock)
        await asyncio.sleep(SETTLE_S)
        connected = rss_bytes(family(ccs.pid))
        progress(f"{plan.gateways} gateways are connected")
        await traders.ask(load.Order(do="start", path=str(market)), bool, START_WAIT_S_MAX)
        counted = {"ccs": ccs.pid, "gateways": spgs.pid, "load": traders.pid}
        cast = Cast(
            load=traders, spgs=spgs, counted=counted | {name: server.pid for name, server in servers.items()}
        )
        await _phase(cast, plan.warm_up)
        measured = []
        for phase in plan.phases:
            measured.append(await _phase(cast, phase))
            progress(measured[-1].words())
        memory = Memory(
            alone_bytes=alone,
            connected_bytes=connected,
            after_bytes=rss_bytes(family(ccs.pid)),
            per_gateway_bytes=max(0, connected - alone) // plan.gateways,
        )
        return measured, memory, await _compare(place, spgs, traders)


async def _provisioned(settings: CcsSettings, clock: Clock) -> None:
    """Wait until every gateway has confirmed what it holds: what comes before is no round trip."""
    store = await open_store(database_url(settings), clock=clock)
    try:
        async with asyncio.timeout(START_WAIT_S_MAX):
            while await store.read(lambda books: books.unprovisioned(None, 1)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.5)
    finally:
        await store.close()


async def _ready(ccs: Worker, port: int) -> None:
    pool = Pool(HOST, port)
    try:
        async with asyncio.timeout(READY_WAIT_S_MAX):
            while not await _says_ready(pool):
                if ccs.ended:
                    raise ccs.failed("ended")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise ccs.failed(f"was not ready within {READY_WAIT_S_MAX:.0f} s") from None
    finally:
        pool.close()


async def _says_ready(pool: Pool) -> bool:
    try:
        status, _ = await pool.call(request("GET", "/readyz", HOST))
    except (OSError, NoAnswer):
        return False
    return status == 200


async def _phase(cast: Cast, phase: Phase) -> Measured:
    """Open, measure, close one phase."""
    await cast.load.ask(load.Order(do="open", phase=phase), bool, PHASE_WAIT_S_MAX)
    before = cast.cpu_s()
    outcome, back_s = await asyncio.gather(_run(cast, phase), _storm(cast, phase))
    after = cast.cpu_s()
    await cast.load.ask(load.Order(do="close", phase=phase), bool, PHASE_WAIT_S_MAX)
    trips = max(1, outcome.round_trips)
    costs = {name: (after[name] - before[name]) * 1e6 / trips for name in after}
    busy = {name: (after[name] - before[name]) / outcome.seconds for name in after}
    return Measured(phase=phase, outcome=outcome, cost=Cost(cpu_us=costs, cores=busy), reconnected_s=back_s)


async def _run(cast: Cast, phase: Phase) -> load.Outcome:
    return await cast.load.ask(
        load.Order(do="run", phase=phase), load.Outcome, PHASE_WAIT_S_MAX + phase.seconds_max
    )


async def _storm(cast: Cast, phase: Phase) -> float:
    """Let all gateways reconnect if the phase says so; return the seconds until the last was back."""
    if not phase.storm or cast.spgs is None:
        return 0.0
    return await cast.spgs.ask(gateways.Order(do="storm"), float, PHASE_WAIT_S_MAX + phase.seconds_max * 4)


async def _compare(place: Path, spgs: Worker, traders: Worker) -> ledger.Verdict:
    acts, lines = place / "acts.json", place / "lines.json"
    await spgs.ask(gateways.Order(do="write", path=str(acts)), bool, PHASE_WAIT_S_MAX)
    await traders.ask(load.Order(do="write", path=str(lines)), bool, PHASE_WAIT_S_MAX)
    return ledger.compare(ledger.read_lines(lines), ledger.read_acts(acts))


# --- the floor -----------------------------------------------------------------------------------------


async def _measure_floor(plan: Plan, place: Path, town: Town, progress: Progress) -> list[Measured]:
    async with _floor_cast(plan, place, town) as cast:
        await _phase(cast, plan.warm_up)
        measured = []
        for phase in plan.floor:
            measured.append(await _phase(cast, phase))
            progress(f"floor: {measured[-1].words()}")
        return measured


@asynccontextmanager
async def _floor_cast(plan: Plan, place: Path, town: Town) -> AsyncIterator[Cast]:
    credentials = town.authority.server("floor", [HOST])
    setup = floor.Setup(
        directory=str(_fresh(place / "floor")),
        certificate=str(credentials.certificate),
        key=str(credentials.key),
        ca=credentials.ca,
    )
    async with (
        started("the floor", role("floor"), place / "floor.log") as bare,
        started("the echo", role("echo"), place / "echo.log") as echo,
        started("the floor's load", role("load"), place / "floor-load.log") as traders,
    ):
        ports = await bare.ask(setup, floor.Ports, START_WAIT_S_MAX)
        count = min(ECHOES, plan.gateways)
        told = floor.Echo(path=str(place / "homes.json"), count=count, port=ports.link)
        await echo.ask(told, int, START_WAIT_S_MAX)
        market = place / "floor-market.json"
        market.write_bytes(msgspec.json.encode(_floor_market(town.market, ports.http)))
        await traders.ask(load.Order(do="start", path=str(market)), bool, START_WAIT_S_MAX)
        yield Cast(load=traders, counted={"floor": bare.pid, "echo": echo.pid, "load": traders.pid})


def _floor_market(market: Market, port: int) -> Market:
    traders = [Trader(party=trader.party, secret="", devices=trader.devices) for trader in market.traders]
    return Market(host=market.host, port=port, traders=traders)
