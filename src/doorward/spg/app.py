"""The gateway, put together: the only file that knows everybody."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from doorward import __version__
from doorward.kit.clock import SlewingClock
from doorward.spg.desk import Desk
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.engines.hands import AdapterHands
from doorward.spg.engines.identity import Identity, credentials
from doorward.spg.engines.outbox import Outbox
from doorward.spg.engines.papers import Papers
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.engines.store import STORE_FILE
from doorward.spg.engines.uplink_mqtt import MqttUplink
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.spg.han.modbus import ModbusAdapter
from doorward.spg.han.ocpp import OcppAdapter
from doorward.spg.journey import Journey
from doorward.spg.ports import HanAdapter, Store, Uplink
from doorward.spg.rules.facts import Keys, Policy
from doorward.spg.settings import GatewaySettings
from doorward.spg.upkeep import Upkeep
from doorward.wire.codec import encode_up
from doorward.wire.messages import Hello, Up

log = logging.getLogger(__name__)

SOFTWARE = f"doorward/{__version__}"
HAN_CALL_S_MAX = 30.0
STOP_WAIT_S_MAX = 5.0
RENEW_LOOK_S = 6 * 3600.0
HELLO_AGAIN_S = 5.0
HELLO_AGAIN_S_MAX = 60.0


class GatewayApp:
    """One gateway of given parts: in production, in the simulation, and a thousand of them in a bench.

    ``clock`` is the gateway's own; adapters should be given the same one. ``born_after_us`` is a time before
    which it cannot be (the enrolment). The store is closed by whoever opened it, after :meth:`stop`.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        policy: Policy,
        clock: GatewayClock,
        rng: random.Random,
        store: Store,
        uplink: Uplink,
        adapters: Mapping[str, HanAdapter],
        born_after_us: int = 0,
        han_call_s_max: float = HAN_CALL_S_MAX,
        stop_wait_s_max: float = STOP_WAIT_S_MAX,
        papers: Papers | None = None,
        reconnect: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._store = store
        self._uplink = uplink
        self._adapters = adapters
        self._born_after_us = born_after_us
        self._stop_wait_s_max = stop_wait_s_max
        self._counter = 0
        self.outbox = Outbox(store, self._seal, uplink.send, rng)
        self.desk = Desk(
            keys=keys,
            policy=policy,
            clock=clock,
            rng=rng,
            store=store,
            post=self.outbox,
            hands=AdapterHands(adapters, han_call_s_max),
        )
        self.journey = Journey(self.desk, SOFTWARE)
        self.upkeep = Upkeep(self.journey)
        self._rng = rng
        self._papers = papers
        self._reconnect = reconnect
        self.journey.papers = self._certified
        self._running: list[asyncio.Task[None]] = []
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what the store holds, open the home network, go on, and keep the link up.

        Raises what the store or an adapter raises (a port that is taken, a store that cannot be read).
        """
        now_us = self._clock.now_us()
        restart = await self._store.write(lambda books: books.open(now_us))
        self.desk.head = restart.head
        self.desk.outgoing = await self._store.read(lambda books: books.outbox_size())
        self._clock.resume(max(restart.time_us, self._born_after_us))
        self.journey.resume(restart)
        for adapter in self._adapters.values():
            await adapter.start(self.journey.said)
        # Requests that were open wait for the CCS's time: a machine's own may be wrong after a restart (P23).
        loop = asyncio.get_running_loop()
        link = self._uplink.run(self._connected, self.journey.receive, self._lost)
        self._running = [loop.create_task(self.upkeep.run()), loop.create_task(link)]
        if self._papers is not None:
            self._running.append(loop.create_task(self._renew_in_time(self._papers)))

    async def stop(self) -> None:
        """Let what runs end within a bound, then close the link and the home network; idempotent."""
        running, self._running = self._running, []
        await self.desk.stop(self._stop_wait_s_max)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._stop_asking()
        await self.outbox.stop()
        for adapter in self._adapters.values():
            await adapter.stop()

    async def wait(self) -> None:
        """Return when the gateway can go on no more, and raise why."""
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _seal(self, messages: list[Up]) -> bytes:
        self._counter += 1
        return encode_up(
            self._keys.gateway,
            self.journey.boot,
            self._counter,
            messages,
            self._keys.link,
            head=self.desk.head,
        )

    async def _connected(self) -> None:
        await self.outbox.connected(self._hello())
        self._stop_asking()
        self._asking = asyncio.get_running_loop().create_task(self._until_greeted(self.journey.times_heard))

    async def _until_greeted(self, heard: int) -> None:
        """Say hello again until the CCS answers with the time: the first one, or the answer, may be lost."""
        pause_s = HELLO_AGAIN_S
        while True:
            await asyncio.sleep(pause_s * (0.75 + self._rng.random() / 2))
            if self.journey.times_heard != heard:
                return
            pause_s = min(HELLO_AGAIN_S_MAX, pause_s * 2)
            try:
                await self._uplink.send(self._seal([self._hello()]))
            except ConnectionError:
                return

    def _hello(self) -> Hello:
        """Who we are; with a request for a new certificate when ours gets old."""
        hello = self.journey.hello()
        self._clock.asked()
        if self._papers is None:
            return hello
        return msgspec.structs.replace(hello, csr=self._papers.request(self._clock.now_us()))

    def _certified(self, pem: str) -> None:
        """Keep a new certificate, and come again with it."""
        if self._papers is None or self._reconnect is None:
            return
        try:
            self._papers.take(pem)
        except ValueError as error:
            log.warning("a new certificate is not taken: %s", error)
            return
        log.info("the certificate was renewed")
        self.desk.spawn(self._reconnect())

    async def _renew_in_time(self, papers: Papers) -> None:
        """Where a connection lasts for months, break it: the next one asks for a new certificate."""
        while True:
            await asyncio.sleep(RENEW_LOOK_S * (0.5 + self._rng.random()))
            if self._reconnect is not None and papers.request(self._clock.now_us()):
                await self._reconnect()

    async def _lost(self) -> None:
        self._stop_asking()
        self.outbox.lost()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None


def open_store(directory: Path) -> SqliteStore:
    """Open (or create) the store of the gateway in ``directory``."""
    return SqliteStore(directory / STORE_FILE)


def enrolled(settings: GatewaySettings, identity: Identity, store: SqliteStore) -> GatewayApp:
    """Put together an enrolled gateway with its real parts."""
    rng = random.SystemRandom()
    # The machine's wall is read at the start only: from then on the CCS says the time, not whoever sets it.
    clock = GatewayClock(SlewingClock(time.time, _uptime_s, slew_per_s=0.0))
    models = settings.dir / "models"
    adapters: dict[str, HanAdapter] = {
        "modbus": ModbusAdapter(
            clock,
            model_directories=(models,) if models.is_dir() else (),
            poll_interval_s=settings.modbus_poll_s,
        ),
        "ocpp": OcppAdapter(
            clock,
            rng,
            host=settings.ocpp_host,
            port=settings.ocpp_port,
            passwords=settings.ocpp_passwords,
        ),
    }
    uplink = _uplink(settings.dir, identity, rng)
    return GatewayApp(
        keys=Keys(gateway=identity.gateway, link=identity.mac_key, authority=identity.consent_keys),
        policy=settings.policy(),
        clock=clock,
        rng=rng,
        store=store,
        uplink=uplink,
        adapters=adapters,
        papers=Papers(settings.dir, identity),
        reconnect=uplink.reconnect,
        born_after_us=identity.enrolled_us,
        han_call_s_max=settings.han_call_s_max,
        stop_wait_s_max=settings.stop_wait_s_max,
    )


def _uptime_s() -> float:
    """Return seconds since the machine started; where the system tells, those asleep too."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def _uplink(directory: Path, identity: Identity, rng: random.Random) -> WebSocketUplink | MqttUplink:
    proof = credentials(directory, identity)
    if identity.link.kind == "mqtt":
        return MqttUplink(identity.gateway, identity.link.urls, proof, rng)
    return WebSocketUplink(identity.link.urls, proof, rng)
