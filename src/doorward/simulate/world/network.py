"""The network between CCS and gateways: a broker without memory, that loses, repeats, delays and reorders.

Frames are the real bytes under their real MACs. Who is there is told late, and not always to all.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from dataclasses import dataclass, field

from doorward.simulate.world.loop import Process
from doorward.wire.topics import partition_of

NOTICED_S_MAX = 4.0
"""How long a broken connection may go unnoticed."""


@dataclass(slots=True)
class Weather:
    """How the network behaves: shares of frames, and seconds."""

    loss: float = 0.0
    loss_up: float = 0.0
    copies: float = 0.0
    delay_s: float = 0.02
    stragglers: float = 0.0
    """Frames that come much later than those sent after them."""
    straggle_s: float = 20.0


class Network:
    """The broker, and the wires to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._context = Context()
        self.weather = Weather()
        self.counts: Counter[str] = Counter()
        self.cut: set[str] = set()
        """Gateways whose frames are lost both ways, whether anybody has noticed or not."""
        self._links: list[BrokerLink] = []
        self._uplinks: dict[str, BrokerUplink] = {}
        self.saw_down: Callable[[str, str, bytes], None] = lambda worker, gateway, frame: None
        self.saw_up: Callable[[str, bytes], None] = lambda gateway, frame: None

    # --- the sessions --------------------------------------------------------------------------------

    def plug_in(self, link: "BrokerLink") -> None:
        """A worker has come."""
        self._links.append(link)

    def unplug(self, process: Process) -> None:
        """A process has died: the broker notices after a while (last will)."""
        self._links = [link for link in self._links if link.process is not process]
        for gateway, uplink in list(self._uplinks.items()):
            if uplink.process is process:
                del self._uplinks[gateway]
                self._tell(gateway, False)

    def enter(self, gateway: str, uplink: "BrokerUplink") -> None:
        """A gateway has connected."""
        self._uplinks[gateway] = uplink
        self._tell(gateway, True)

    def leave(self, gateway: str, uplink: "BrokerUplink") -> None:
        """A gateway's session has ended."""
        if self._uplinks.get(gateway) is uplink:
            del self._uplinks[gateway]
            self._tell(gateway, False)

    def present(self) -> Collection[str]:
        """Gateways that are connected."""
        return list(self._uplinks)

    def _tell(self, gateway: str, connected: bool) -> None:
        for link in self._links:
            self._say(link, gateway, connected)

    def tell(self, link: "BrokerLink", gateways: Collection[str]) -> None:
        """A worker subscribed: it is told who is there (retained messages)."""
        for gateway in gateways:
            self._say(link, gateway, True)

    def _say(self, link: "BrokerLink", gateway: str, connected: bool) -> None:
        """Tell a worker who is there; of one gateway, in the order in which it happened."""
        at_s = max(self._loop.time() + self._rng.random() * 0.05, link.told_s.get(gateway, 0.0) + 1e-6)
        link.told_s[gateway] = at_s
        self._loop.call_at(at_s, link.arrived, gateway, connected, context=self._context)

    # --- cutting and mending ---------------------------------------------------------------------------

    def break_up(self, gateway: str) -> None:
        """The line breaks. Both ends notice later, or only when it is there again."""
        self.counts["line cut"] += 1
        self.cut.add(gateway)
        uplink = self._uplinks.get(gateway)
        if uplink is not None:
            self._loop.call_later(
                self._rng.random() * NOTICED_S_MAX, self._notice, gateway, uplink, context=self._context
            )

    def _notice(self, gateway: str, uplink: "BrokerUplink") -> None:
        uplink.end()
        self.leave(gateway, uplink)

    def mend(self, gateway: str) -> None:
        """The line is there again; the gateway connects when it tries next."""
        self.cut.discard(gateway)

    def wipe(self) -> None:
        """The broker is killed and comes back with nothing: all sessions end."""
        self.counts["broker wiped"] += 1
        for gateway, uplink in list(self._uplinks.items()):
            self._notice(gateway, uplink)

    # --- frames ----------------------------------------------------------------------------------------

    def down(self, worker: str, gateway: str, frame: bytes) -> None:
        """A worker publishes to a gateway."""
        self.saw_down(worker, gateway, frame)
        for delay_s in self._fates("down", gateway):
            self._loop.call_later(delay_s, self._arrive_down, gateway, frame, context=self._context)

    def up(self, gateway: str, frame: bytes) -> None:
        """A gateway publishes."""
        self.saw_up(gateway, frame)
        for delay_s in self._fates("up", gateway):
            self._loop.call_later(delay_s, self._arrive_up, gateway, frame, context=self._context)

    def _arrive_down(self, gateway: str, frame: bytes) -> None:
        uplink = self._uplinks.get(gateway)
        if uplink is not None and gateway not in self.cut:
            uplink.arrived(frame)

    def _arrive_up(self, gateway: str, frame: bytes) -> None:
        if gateway in self.cut:
            return
        for link in self._links:
            link.arrived(gateway, frame)

    def _fates(self, way: str, gateway: str) -> list[float]:
        """After how many seconds each copy of a frame arrives; an empty list when it is lost."""
        weather, rng = self.weather, self._rng
        self.counts["frames"] += 1
        if gateway in self.cut:
            self.counts["frame lost"] += 1
            return []
        loss = weather.loss_up if way == "up" else weather.loss
        if loss and rng.random() < loss:
            self.counts["frame lost"] += 1
            return []
        fates = [0.001 + rng.random() * weather.delay_s]
        if weather.copies and rng.random() < weather.copies:
            self.counts["frame repeated"] += 1
            fates.append(rng.random() * weather.straggle_s)
        if weather.stragglers and rng.random() < weather.stragglers:
            self.counts["frame delayed"] += 1
            fates[0] += rng.random() * weather.straggle_s
        return fates


class BrokerLink:
    """A worker's end (a :class:`~doorward.ccs.ports.Link`), with the ways of the one through a broker."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self.process = process
        self._partitions: frozenset[int] = frozenset()
        self._connected: set[str] = set()
        self._inbox: deque[tuple[str, bytes | bool]] = deque()
        self.told_s: dict[str, float] = {}
        """When the broker told us last about each gateway."""

    async def start(
        self, received: Callable[[str, bytes], None], presence: Callable[[str, bool], None]
    ) -> None:
        """Hear and speak from now on."""
        self._received, self._presence = received, presence
        self._network.plug_in(self)

    def connected(self) -> Collection[str]:
        """Gateways of our partitions of which we have heard that they are there."""
        return self._connected

    def send(self, gateway: str, frame: bytes) -> bool:
        """Publish a frame, to a gateway that is there for all we know."""
        if gateway not in self._connected:
            return False
        self._network.down(self.process.name, gateway, frame)
        return True

    async def own(self, partitions: Collection[int]) -> None:
        """Hear these partitions only."""
        wanted = frozenset(partitions)
        gained, self._partitions = wanted - self._partitions, wanted
        for gateway in [each for each in sorted(self._connected) if partition_of(each) not in wanted]:
            self._leave(gateway)
        self._network.tell(
            self, [each for each in sorted(self._network.present()) if partition_of(each) in gained]
        )

    async def drop(self, gateway: str) -> None:
        """Hear it no more."""
        self._leave(gateway)

    async def stop(self) -> None:
        """Leave the broker."""
        self._network.unplug(self.process)

    def arrived(self, gateway: str, what: bytes | bool) -> None:
        """The broker delivers: a frame of a gateway, or whether it is there. In order, also after a pause."""
        if not self.process.dead:
            self._inbox.append((gateway, what))
            self.process.call(self._take)

    def _take(self) -> None:
        gateway, what = self._inbox.popleft()
        if partition_of(gateway) not in self._partitions:
            return
        if isinstance(what, bytes):
            if gateway in self._connected:
                self._received(gateway, what)
            return
        self._leave(gateway)
        if what:
            self._connected.add(gateway)
            self._presence(gateway, True)

    def _leave(self, gateway: str) -> None:
        if gateway in self._connected:
            self._connected.discard(gateway)
            self._presence(gateway, False)


@dataclass(eq=False)
class BrokerUplink:
    """A gateway's end (an :class:`~doorward.spg.ports.Uplink`)."""

    network: Network
    process: Process
    gateway: str
    rng: random.Random
    _frames: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    _linked: bool = False

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """Connect, serve, notice the end, connect again."""
        while True:
            while self.gateway in self.network.cut:  # noqa: ASYNC110 - it tries again and again, as uplinks do
                await asyncio.sleep(0.5 + self.rng.random() * 3.0)
            await asyncio.sleep(self.rng.random() * 0.5)
            self._frames = asyncio.Queue()
            self._linked = True
            self.network.enter(self.gateway, self)
            try:
                await connected()
                await self._serve(received)
            except Exception:  # as the real uplinks: the session ends, and they connect anew
                self._linked = False
                self.network.leave(self.gateway, self)
            await lost()

    async def _serve(self, received: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand over frames in order until the session is over; one that cannot be taken is lost."""
        while (frame := await self._frames.get()) is not None:
            with contextlib.suppress(Exception):
                await received(frame)

    async def send(self, frame: bytes) -> None:
        """Publish a frame."""
        if not self._linked:
            raise ConnectionError("no link to the CCS")
        self.network.up(self.gateway, frame)

    def arrived(self, frame: bytes) -> None:
        """A frame for this gateway."""
        if self._linked:
            self.process.call(self._frames.put_nowait, frame)

    def end(self) -> None:
        """The session is over."""
        if self._linked:
            self._linked = False
            self.process.call(self._frames.put_nowait, None)
