"""Light gateways: real certificates, links, frames and MACs; no store, no checks, and a home in memory.

One costs a tenth of a real gateway, so that ten thousand fit on one machine and the CCS is what is busy. It
answers a command at once with all that a real one tells of it, and says again what was not acknowledged when
its link comes back.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec

from doorward.kit.clock import Clock
from doorward.simulate.bench.home import RATED_W, Memory
from doorward.spg.ports import Uplink
from doorward.wire import codec
from doorward.wire.messages import (
    Ack,
    Applied,
    Command,
    Down,
    Hello,
    Known,
    Provision,
    Receipt,
    Reconcile,
    Result,
    Up,
)
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation

SOFTWARE = "light"
STEPS = (Step.GATEWAY_RECEIVED, Step.PASSED_TO_HAN, Step.DEVICE_ANSWERED, Step.ANSWER_RECEIVED)
RECONNECT_S_MAX = 5.0
"""After a storm each gateway comes back at a random moment within this time, and again as its link says."""


class LightGateway:
    """One light gateway. ``provisioned`` is called with the number of devices that it is told."""

    def __init__(
        self,
        id: str,
        key: bytes,
        uplink: Uplink,
        clock: Clock,
        rng: random.Random,
        memory: Memory,
        provisioned: Callable[[int], None],
    ) -> None:
        self._id = id
        self._key = key
        self._uplink = uplink
        self._clock = clock
        self._rng = rng
        self._memory = memory
        self._provisioned = provisioned
        self._version = 0
        self._counter = 0
        self._seq = 0
        self._acted: set[str] = set()
        self._untaken: dict[int, Up] = {}
        self._running: asyncio.Task[None] | None = None
        self.greeted = asyncio.Event()
        """Set when the CCS has spoken since the link came up."""

    async def start(self) -> None:
        """Keep a link up from now on."""
        self._running = asyncio.get_running_loop().create_task(
            self._uplink.run(self._connected, self._received, self._lost)
        )

    async def come_back(self) -> None:
        """Lose the link, and return when the CCS has greeted us anew."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self.greeted.clear()
        await asyncio.sleep(self._rng.random() * RECONNECT_S_MAX)
        await self.start()
        await self.greeted.wait()

    async def _connected(self) -> None:
        hello = Hello(gateway=self._id, boot=1, software=SOFTWARE, provision_version=self._version)
        await self._say([hello, *self._untaken.values()])

    async def _lost(self) -> None:
        self.greeted.clear()

    async def _received(self, raw: bytes) -> None:
        self.greeted.set()
        said: list[Up] = []
        for message in codec.decode_down(raw, self._id, self._key).messages:
            said += self._answer(message)
        if said:
            await self._say(said)

    async def _say(self, messages: list[Up]) -> None:
        self._counter += 1
        frame = codec.encode_up(self._id, 1, self._counter, messages, self._key)
        with contextlib.suppress(ConnectionError):  # it is said again when the link is back
            await self._uplink.send(frame)

    def _answer(self, message: Down) -> list[Up]:
        if isinstance(message, Command):
            return self._act(message)
        if isinstance(message, Ack):
            for seq in message.seqs:
                self._untaken.pop(seq, None)
        elif isinstance(message, Provision):
            self._version = message.version
            self._provisioned(len(message.devices))
            at_us = self._clock.now_us()
            return [self._kept(Applied(seq=self._next(), version=message.version, at_us=at_us))]
        elif isinstance(message, Reconcile):
            asked = zip(message.ids, message.attempts, strict=True)
            unknown = {id: attempt for id, attempt in asked if id not in self._acted}
            word = Known(seq=self._next(), unknown=list(unknown), attempts=list(unknown.values()))
            return [self._kept(word)]
        return []

    def _act(self, command: Command) -> list[Up]:
        """Act once, and tell it as often as we are asked."""
        if command.id not in self._acted:
            self._acted.add(command.id)
            self._memory.reads[command.device] += 1
            if command.operation is not Operation.READ:
                self._memory.controls.append(command.id)
        at_us = self._clock.now_us()
        receipts = [
            self._kept(Receipt(seq=self._next(), id=command.id, step=step, at_us=at_us)) for step in STEPS
        ]
        result = Result(
            seq=self._next(), id=command.id, state="DONE", at_us=at_us, data=_reading(command, at_us)
        )
        return [*receipts, self._kept(result)]

    def _kept(self, message: Up) -> Up:
        self._untaken[self._seq] = message
        return message

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def _reading(command: Command, at_us: int) -> msgspec.Raw:
    """Return an answer of the size that a real one has."""
    return msgspec.Raw(
        msgspec.json.encode(
            {
                "device": command.device,
                "at_us": at_us,
                "state": "RUNNING_NORMAL",
                "power_w": RATED_W,
                "energy_wh": 1_250.0,
                "values": {"limit_w": RATED_W, "plugged": True, "charging_state": "charging"},
            }
        )
    )
