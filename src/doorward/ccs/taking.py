"""What the messages of gateways come to: each has its effect on what the journey will write in one go."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from doorward.ccs import way_back
from doorward.ccs.pushing import Decided
from doorward.ccs.refusals import RefusalMeter, attempt_row
from doorward.ccs.rules.facts import Event, JournalRow, Request, StepRecord
from doorward.ccs.rules.lifecycle import Event as Move
from doorward.ccs.rules.lifecycle import State, after
from doorward.ccs.switchboard import judge_counter
from doorward.ccs.waiting import Wait
from doorward.kit.ids import uuid7
from doorward.wire.chain import HASH_BYTES, Head, PeerHead
from doorward.wire.messages import Applied, Attempt, FrameUp, Hello, Known, Receipt, Result, Up
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Outcome, Step

Mark = tuple[int, int]
_NOT_ACTED = frozenset({State.REFUSED, State.EXPIRED, State.CANCELLED})


@dataclass(slots=True)
class Taken:
    """What a batch of frames comes to: gathered in the transaction, acted on after its commit."""

    requests: dict[str, Request] = field(default_factory=dict)
    changed: dict[str, Request] = field(default_factory=dict)
    steps: dict[str, list[StepRecord]] = field(default_factory=dict)
    rows: list[JournalRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    peers: dict[str, PeerHead] = field(default_factory=dict)
    """By gateway, what it said of its own record."""
    head: Head | None = None
    """The link under which all this is recorded."""
    applied: dict[str, int] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    """Gateway → what it could not take of its desired state, and why."""
    acks: dict[str, list[int]] = field(default_factory=dict)
    hellos: list[str] = field(default_factory=list)
    csrs: dict[str, str] = field(default_factory=dict)
    """Gateway → its request for a new certificate."""
    heard: list[tuple[str, str]] = field(default_factory=list)
    room: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    let_go: set[str] = field(default_factory=set)
    """Controls that did not act, or hold no more: what they held of the caps is free again (X04)."""
    pushes: Decided = field(default_factory=Decided)
    given: list[tuple[Wait, Request | Exception]] = field(default_factory=list)
    """To whom of those who wait here answers go with this commit."""

    def keep(self, request: Request, steps: list[StepRecord]) -> None:
        """A request has become this, for these reasons."""
        self.requests[request.id] = self.changed[request.id] = request
        self.steps.setdefault(request.id, []).extend(steps)

    def push(self, decided: Decided) -> None:
        """What was decided about webhooks of this batch goes with it."""
        self.pushes = decided
        self.rows += decided.rows
        for id, steps in decided.steps.items():
            self.keep(decided.changed.get(id, self.requests[id]), steps)

    def journal(self, now_us: int) -> list[JournalRow]:
        """All rows that this batch writes."""
        explained = [
            way_back.journal_of(self.requests[id], steps, now_us) for id, steps in self.steps.items()
        ]
        return [*self.rows, *explained]


def requests_in(message: Up) -> Iterable[str]:
    """Return the ids of the requests that a gateway's message is about."""
    if isinstance(message, Receipt | Result):
        return (message.id,)
    return message.unknown if isinstance(message, Known) else ()


class Taking:
    """The effects of one batch of frames, at one moment."""

    def __init__(self, refusals: RefusalMeter, rng: random.Random, now_us: int) -> None:
        self._refusals = refusals
        self._rng = rng
        self._now_us = now_us
        self.taken = Taken()

    def attempt(self, gateway: str, refusal: Refused, *, party: str = "", device: str = "") -> None:
        """Record that something came which must not have (F24), unless there is a flood of it."""
        if self._refusals.admits(gateway, refusal.reason, self._now_us):
            row = attempt_row(
                uuid7(self._now_us, self._rng),
                gateway,
                refusal.reason,
                refusal.detail,
                self._now_us,
                party=party,
                device=device,
            )
            self.taken.rows.append(row)

    def fresh(self, frames: Sequence[FrameUp], marks: dict[str, Mark]) -> list[FrameUp]:
        """Return the frames that were not seen before, and raise the marks; replays are recorded."""
        new = []
        for frame in frames:
            mark = marks.get(frame.gateway, (0, 0))
            try:
                if judge_counter(mark, (frame.epoch, frame.counter)):
                    marks[frame.gateway] = (frame.epoch, frame.counter)
                    new.append(frame)
                    self._hear_of_record(frame)
            except Refused as refusal:
                self.attempt(frame.gateway, refusal)
        return new

    def _hear_of_record(self, frame: FrameUp) -> None:
        head = frame.head
        if head is not None and len(head.hash) == HASH_BYTES:
            self.taken.peers[frame.gateway] = PeerHead(
                frame.gateway, head.writer, head.epoch, head.seq, head.hash
            )

    def take(self, gateway: str, messages: Iterable[Up]) -> None:
        """Let the messages of a frame have their effect; those about one request are taken together.

        What a gateway numbers is acknowledged after the commit. Notices of devices are decided together,
        by :func:`~doorward.ccs.notices.take_notices`.
        """
        about: dict[str, list[Receipt | Result]] = {}
        acks = self.taken.acks.setdefault(gateway, [])
        for message in messages:
            if isinstance(message, Hello):
                self.taken.hellos.append(gateway)
                if message.csr:
                    self.taken.csrs[gateway] = message.csr
                continue
            acks.append(message.seq)
            if isinstance(message, Receipt | Result):
                about.setdefault(message.id, []).append(message)
            else:
                self._one(gateway, message)
        for id, said in about.items():
            self._about(gateway, id, said)
        if not acks:
            del self.taken.acks[gateway]

    def _one(self, gateway: str, message: Up) -> None:
        if isinstance(message, Applied):
            self.taken.applied[gateway] = max(message.version, self.taken.applied.get(gateway, 0))
            if message.failed:
                self.taken.failed.setdefault(gateway, {}).update(message.failed)
        elif isinstance(message, Attempt):
            refusal = Refused(message.reason, message.detail)
            self.attempt(gateway, refusal, party=message.party, device=message.device)
        elif isinstance(message, Known):
            attempts = [*message.attempts, *([1] * len(message.unknown))]
            for id, attempt in zip(message.unknown, attempts, strict=False):
                self._unknown_there(gateway, id, attempt)

    def _about(self, gateway: str, id: str, said: list[Receipt | Result]) -> None:
        request = self.taken.requests.get(id)
        if request is None or request.gateway != gateway:
            foreign = f"speaks of request {id}, which is not this gateway's"
            self.attempt(gateway, Refused(Reason.FORGED, foreign))
            return
        self.taken.heard.append((gateway, id))
        changed, steps = way_back.take_messages(request, said, self._now_us)
        if not steps:
            return
        self.taken.keep(changed, steps)
        if request.operation.is_control and (
            changed.state in _NOT_ACTED or any(step.step is Step.RELEASED for step in steps)
        ):
            self.taken.let_go.add(id)
        if (
            changed.state != request.state and State(changed.state).is_final
        ) or changed.settlement != request.settlement:
            self.taken.ended.add(id)
            self.taken.events.append(way_back.result_event(changed, self._now_us, self._rng))
        elif changed.at_gateway_us and not request.at_gateway_us:
            self.taken.events.append(way_back.receipt_event(changed, self._now_us, self._rng))

    def _unknown_there(self, gateway: str, id: str, attempt: int) -> None:
        """The gateway never had it, and refuses it up to this attempt: send it again, or settle what was
        unconfirmed. What was sent after that may have arrived, however late this word came."""
        request = self.taken.requests.get(id)
        if request is None or request.gateway != gateway or attempt < way_back.last_attempt(request):
            return
        state = after(State(request.state), Move.UNKNOWN_THERE)
        if state is not None:
            self.taken.room.add(gateway)
            lost = StepRecord(
                at_us=self._now_us, step=Step.PASSED_TO_GATEWAY, outcome=Outcome.FAILED, detail="lost"
            )
            self.taken.keep(replace(request, state=state, ready_us=self._now_us), [lost])
        elif request.state == State.UNCONFIRMED and not request.settlement:
            settled = StepRecord(at_us=self._now_us, step=Step.SETTLED, detail="NOT_DONE")
            changed = replace(request, settlement="NOT_DONE")
            self.taken.keep(changed, [settled])
            self.taken.ended.add(id)
            self.taken.events.append(way_back.result_event(changed, self._now_us, self._rng))
