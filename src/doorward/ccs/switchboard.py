"""Between the journey and the link: frames, their counters and their MACs.

Messages for one gateway gather while the loop is busy and leave in one frame. What is sent proves
nothing; the journey believes receipts only.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from doorward.ccs.ports import Link
from doorward.ccs.rules.facts import Gateway
from doorward.wire import codec
from doorward.wire.chain import HEADS_MAX, Head
from doorward.wire.messages import Down, FrameUp
from doorward.wire.reasons import Reason, Refused

REPLAY_WINDOW = 1024
"""A counter this far below the highest is a late duplicate; further below it is a replay."""

TELL_AGAIN_US = 15_000_000
"""A gateway that has not confirmed its desired state is told again after this; it may be busy applying it."""
IN_FLIGHT_S_MAX = 5.0
"""A request that had no receipt for so long takes no more room: its frame is lost, or the gateway could not
store it, and whatever has to be sent again needs the room."""
NO_EPOCH_WAIT_S = 0.05
"""A worker that begins has no epoch until it owns its partitions: how long until it looks again."""
ACK_WAIT_S = 1.0
"""How long an acknowledgement waits for a command to go with; a gateway repeats nothing for three seconds."""


@dataclass(slots=True)
class _Line:
    """What is known of one gateway's link."""

    key: bytes
    counter: int = 0
    waiting: list[Down] = field(default_factory=list)
    in_flight: dict[str, float] = field(default_factory=dict)
    """Request → until when it takes room (the loop's time)."""
    greeted: bool = False
    heads: dict[int, Head] = field(default_factory=dict)
    """By writer, the newest links of the journal that record what waits here."""
    checkpoint: int = 0
    """The number of the last checkpoint that it was sent."""
    told: tuple[int, int] = (0, 0)
    """The version of its desired state that it was told last, and when (µs)."""

    def covered(self, head: Head | None) -> None:
        """What waits here is recorded by this link."""
        if head is not None and (head.writer not in self.heads or head.seq > self.heads[head.writer].seq):
            self.heads[head.writer] = head


class Switchboard:
    """Gives messages to gateways and opens what comes from them.

    ``epoch`` is read at every frame: the fencing epoch under which this worker sends.
    """

    def __init__(self, link: Link, master_key: bytes, epoch: Callable[[], int], in_flight_max: int) -> None:
        self._link = link
        self._master = master_key
        self._epoch = epoch
        self._in_flight_max = in_flight_max
        self._lines: dict[str, _Line] = {}
        self._dirty: set[str] = set()
        self._flush: asyncio.Handle | None = None
        self._unhurried: set[str] = set()
        self._checkpoint = (0, "")
        self._later: asyncio.Handle | None = None

    def unknown(self, gateways: Iterable[str]) -> set[str]:
        """Those of ``gateways`` whose keys are not known here yet."""
        return {gateway for gateway in gateways if gateway not in self._lines}

    def learn(self, gateways: Mapping[str, Gateway]) -> None:
        """Take the keys of enrolled gateways; forget those that are revoked."""
        for gateway in gateways.values():
            if gateway.state != "enrolled":
                self._lines.pop(gateway.id, None)
                continue
            key = codec.gateway_key(self._master, gateway.id, gateway.key_generation)
            line = self._lines.get(gateway.id)
            if line is None or line.key != key:
                self._lines[gateway.id] = _Line(key)

    def forget(self, gateway: str) -> None:
        """Drop what is known of a gateway (gone, revoked, another worker's now)."""
        self._lines.pop(gateway, None)

    def open(self, gateway: str, raw: bytes) -> FrameUp:
        """Return a frame from ``gateway`` (the one that the connection proved) or raise :class:`Refused`."""
        line = self._lines.get(gateway)
        if line is None:
            raise Refused(Reason.FORGED, "a frame from a gateway that is not enrolled")
        return codec.decode_up(raw, gateway, line.key)

    def greeted(self, gateway: str) -> None:
        """The gateway has been told time, withdrawals, grants: dispatch may begin."""
        line = self._lines.get(gateway)
        if line is not None:
            line.greeted = True
            line.in_flight.clear()

    def lost(self, gateway: str) -> None:
        """The gateway's link is gone; whatever was in flight is as good as lost."""
        line = self._lines.get(gateway)
        if line is not None:
            line.greeted = False
            line.in_flight.clear()
            line.waiting.clear()

    def ready(self, gateways: Collection[str]) -> set[str]:
        """Those of ``gateways`` that may be sent requests now."""
        return set(self.room(gateways))

    def room(self, gateways: Iterable[str]) -> dict[str, int]:
        """How many more requests each of ``gateways`` may be sent now; those with none are left out."""
        found = {}
        for gateway in gateways:
            line = self._lines.get(gateway)
            if line is None or not line.greeted:
                continue
            if len(line.in_flight) >= self._in_flight_max:
                now_s = asyncio.get_running_loop().time()
                line.in_flight = {id: until_s for id, until_s in line.in_flight.items() if until_s > now_s}
            if len(line.in_flight) < self._in_flight_max:
                found[gateway] = self._in_flight_max - len(line.in_flight)
        return found

    def greeted_among(self, gateways: Collection[str]) -> set[str]:
        """Those of ``gateways`` that are connected and have been told what comes first."""
        return {each for each in gateways if each in self._lines and self._lines[each].greeted}

    def tell(self, gateway: str, version: int, now_us: int, *messages: Down) -> None:
        """Send a gateway its desired state, and remember that it was told."""
        line = self._lines.get(gateway)
        if line is not None:
            line.told = (version, now_us)
            self.post(gateway, *messages)

    def needs_telling(self, gateway: str, version: int, now_us: int) -> bool:
        """Whether it was not told this version, or so long ago that the word must have been lost."""
        line = self._lines.get(gateway)
        return line is not None and (line.told[0] != version or now_us - line.told[1] > TELL_AGAIN_US)

    def took(self, gateway: str, request: str) -> bool:
        """A receipt or result for a request came; whether that made room where there was none."""
        line = self._lines.get(gateway)
        if line is None or request not in line.in_flight:
            return False
        was_full = len(line.in_flight) >= self._in_flight_max
        del line.in_flight[request]
        return was_full

    def dispatch(self, gateway: str, request: str, message: Down, head: Head | None = None) -> None:
        """Send a request, with the link that records it; it counts as in flight until :meth:`took`."""
        line = self._lines.get(gateway)
        if line is not None:
            line.in_flight[request] = asyncio.get_running_loop().time() + IN_FLIGHT_S_MAX
            line.covered(head)
            self.post(gateway, message)

    def checkpointed(self, number: int, document: str) -> None:
        """There is a new checkpoint: it goes to every gateway with the next frame that goes there anyway."""
        self._checkpoint = (number, document)

    def post(self, gateway: str, *messages: Down) -> None:
        """Send messages with the gateway's next frame, at the end of this turn of the loop."""
        line = self._lines.get(gateway)
        if line is None:
            return
        line.waiting.extend(messages)
        self._dirty.add(gateway)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_soon(self._send_all)

    def post_soon(self, gateway: str, *messages: Down, head: Head | None = None) -> None:
        """Send messages with the next frame to the gateway, or after ``ACK_WAIT_S``: nobody waits for them.
        ``head`` is the link that records what they answer."""
        line = self._lines.get(gateway)
        if line is None:
            return
        line.covered(head)
        line.waiting.extend(messages)
        self._unhurried.add(gateway)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(ACK_WAIT_S, self._send_unhurried)

    def _send_unhurried(self) -> None:
        self._later = None
        self._dirty |= self._unhurried
        self._unhurried = set()
        self._send_all()

    def _send_all(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        epoch = self._epoch()
        if not epoch:
            # Nothing may be sent yet: a gateway that came while we begin would take it for a replay.
            self._flush = asyncio.get_running_loop().call_later(NO_EPOCH_WAIT_S, self._send_all)
            return
        dirty, self._dirty = self._dirty, set()
        for gateway in sorted(dirty):
            line = self._lines.get(gateway)
            if line is None or not line.waiting:
                continue
            self._link.send(gateway, self._frame(gateway, line, epoch))

    def _frame(self, gateway: str, line: _Line, epoch: int) -> bytes:
        messages, line.waiting = line.waiting, []
        heads, line.heads = line.heads, {}
        number, checkpoint = self._checkpoint
        if number <= line.checkpoint:
            checkpoint = ""
        line.checkpoint = number
        line.counter += 1
        return codec.encode_down(
            gateway,
            epoch,
            line.counter,
            messages,
            line.key,
            heads=list(heads.values())[-HEADS_MAX:],
            checkpoint=checkpoint,
        )


def judge_counter(mark: tuple[int, int], frame: tuple[int, int]) -> bool:
    """Whether a frame's (epoch, counter) is new after the highest seen one.

    Returns ``False`` for a late duplicate (nothing to do); raises ``replayed`` for an old frame.
    """
    if frame > mark:
        return True
    if frame[0] == mark[0] and mark[1] - frame[1] < REPLAY_WINDOW:
        return False
    raise Refused(Reason.REPLAYED, f"frame {frame[0]}/{frame[1]} is older than {mark[0]}/{mark[1]}")
