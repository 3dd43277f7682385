"""The process of many gateways: the real gateway on real links, with stores and homes in memory."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from doorward.kit.clock import Clock
from doorward.kit.collector import calm
from doorward.kit.tls import Credentials
from doorward.simulate.bench import ledger
from doorward.simulate.bench.briefs import Homes, Seat
from doorward.simulate.bench.home import PROTOCOL, Memory, MemoryHome
from doorward.simulate.bench.light import LightGateway
from doorward.simulate.bench.processes import questions, read, say
from doorward.spg.app import GatewayApp
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.engines.uplink_mqtt import MqttUplink
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.spg.ports import Uplink
from doorward.spg.rules.facts import Keys, Policy

CONNECTING_MAX = 24
"""Gateways that connect at one time: the cryptography of both ends shares this machine's cores."""
CONNECT_WAIT_S_MAX = 60.0
TURN_S_MAX = 3.0
CONNECTS_PER_S_MIN = 10.0
"""How many a second are waited for beyond that."""

log = logging.getLogger(__name__)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the bench tells the gateways. ``path``: the town's file, or where the acts are written to.

    ``storm``: all links are lost, and the answer comes when all are back.
    """

    do: Literal["start", "storm", "write"]
    path: str = ""


def connect_wait_s(count: int) -> float:
    """Return how long so many gateways may take to connect."""
    return CONNECT_WAIT_S_MAX + count / CONNECTS_PER_S_MIN


class Street:
    """All gateways of this process."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._memory = Memory()
        self._running: list[GatewayApp | LightGateway] = []
        self._turns = asyncio.Semaphore(CONNECTING_MAX)

    async def start(self, homes: Homes) -> None:
        """Start every gateway and return when each has been told its devices; raise ``TimeoutError``."""
        async with asyncio.timeout(connect_wait_s(len(homes.seats))):
            await asyncio.gather(*(self._connect(homes, seat) for seat in homes.seats))

    async def storm(self) -> float:
        """Let light gateways lose their links; return the seconds until the last one was greeted again."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        light = [each for each in self._running if isinstance(each, LightGateway)]
        async with asyncio.timeout(connect_wait_s(len(light))):
            await asyncio.gather(*(each.come_back() for each in light))
        return loop.time() - began_s

    async def _connect(self, homes: Homes, seat: Seat) -> None:
        async with self._turns:
            told = asyncio.Event()

            def provisioned(devices: int) -> None:
                if devices:
                    told.set()

            gateway = self._gateway(homes, seat, provisioned)
            await gateway.start()
            self._running.append(gateway)
            # One that has to come again waits for a while, and must not keep others from their turn.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S_MAX):
                    await told.wait()
        await told.wait()

    def _gateway(
        self, homes: Homes, seat: Seat, provisioned: Callable[[int], None]
    ) -> GatewayApp | LightGateway:
        if homes.light:
            uplink = self._uplink(homes, seat)
            return LightGateway(
                seat.gateway, seat.mac_key, uplink, self._clock, self._rng, self._memory, provisioned
            )
        clock = GatewayClock(self._clock)
        return GatewayApp(
            keys=Keys(gateway=seat.gateway, link=seat.mac_key, authority=homes.consent_keys),
            policy=Policy(sample_us=0),
            clock=clock,
            rng=self._rng,
            store=SqliteStore(":memory:", inline=True, synchronous="OFF"),
            uplink=self._uplink(homes, seat),
            adapters={PROTOCOL: MemoryHome(clock, self._memory, provisioned)},
        )

    def _uplink(self, homes: Homes, seat: Seat) -> Uplink:
        proof = Credentials(Path(seat.certificate), Path(seat.key), homes.ca)
        if homes.link.kind == "mqtt":
            return MqttUplink(seat.gateway, homes.link.urls, proof, self._rng)
        return WebSocketUplink(homes.link.urls, proof, self._rng)

    def write(self, path: Path) -> None:
        """Write down what the devices did."""
        acts = ledger.Acts(controls=self._memory.controls, reads=dict(self._memory.reads))
        ledger.write(path, acts)


async def serve(clock: Clock, rng: random.Random) -> None:
    """Do what the bench says, until it says no more."""
    street = Street(clock, rng)
    async for line in questions():
        order = msgspec.json.decode(line, type=Order)
        if order.do == "start":
            homes = read(order.path, Homes)
            await street.start(homes)
            calm()  # a thousand gateways in one process are a heap that no single gateway has
            say(len(homes.seats))
        elif order.do == "storm":
            say(await street.storm())
        else:
            street.write(Path(order.path))
            say(True)
