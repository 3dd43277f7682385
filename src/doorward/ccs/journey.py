"""THE WAY of a message through the CCS. Read this first.

::

    out   receive → authenticate → validate → authorise → admit → record ┆ dispatch → sent → at the gateway
    back  receive → record → authenticate the target → authorise it again → deliver | withhold → record

The unit of work is a batch: while one transaction commits, what arrives gathers into the next. Every step
is load, decide, write inside one transaction; whatever has to happen outside happens after its commit.
The decisions are in :mod:`~doorward.ccs.way_out`, :mod:`~doorward.ccs.way_back` and the rules.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from doorward.ccs import way_back, way_out
from doorward.ccs.callers import authenticate_all, authenticate_one, pair_of, targets
from doorward.ccs.cancelling import cancel_requests
from doorward.ccs.notices import take_notices
from doorward.ccs.ports import Books, Claim, CommitUnsure, LeaseLost, Link, Notifier, Store
from doorward.ccs.provisioning import greeting
from doorward.ccs.pushing import Pushing
from doorward.ccs.refusals import RefusalMeter, attempt_row
from doorward.ccs.rules import limits
from doorward.ccs.rules.asking import Ask
from doorward.ccs.rules.facts import RAW_NULL, Event, JournalRow, LimitLog, Request, StepRecord
from doorward.ccs.rules.formats import Catalogue
from doorward.ccs.rules.identity import TokenReader, scope_missing
from doorward.ccs.rules.lifecycle import Event as Move
from doorward.ccs.rules.lifecycle import State, after
from doorward.ccs.switchboard import Switchboard, judge_counter
from doorward.ccs.terms import Terms
from doorward.ccs.waiting import Waiters
from doorward.ccs.way_out import (
    Accepted,
    Batch,
    Declined,
    Entry,
    Verdict,
    limit_keys,
    message_of,
    sent_steps,
    uncharge,
)
from doorward.kit.clock import Clock
from doorward.kit.gather import Gatherer
from doorward.kit.ids import uuid7
from doorward.wire.messages import Ack, Applied, Attempt, FrameUp, Hello, Known, Notice, Up
from doorward.wire.messages import Receipt as ReceiptMessage
from doorward.wire.messages import Result as ResultMessage
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor, Outcome, Step
from doorward.wire.vocabulary import Operation

log = structlog.get_logger(__name__)

CLASS_ANY = 1_000


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes from a gateway, as the link proved it."""

    gateway: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """Somebody asks for a request with a live token, and by which channel its answer would leave."""

    token: str
    request: str
    channel: str


@dataclass(slots=True)
class Taken:
    """What a batch of frames came to: filled in the transaction, acted on after its commit."""

    requests: dict[str, Request] = field(default_factory=dict)
    changed: dict[str, Request] = field(default_factory=dict)
    steps: dict[str, list[StepRecord]] = field(default_factory=dict)
    rows: list[JournalRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    applied: dict[str, int] = field(default_factory=dict)
    acks: dict[str, list[int]] = field(default_factory=dict)
    hellos: list[str] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)
    room: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)


class Journey:
    """The way of a message, on one worker.

    ``claim`` gives the partitions that the worker owns, and the epoch under which it may send.
    """

    def __init__(
        self,
        *,
        store: Store,
        link: Link,
        notifier: Notifier,
        clock: Clock,
        rng: random.Random,
        tokens: TokenReader,
        catalogue: Callable[[], Catalogue],
        claim: Callable[[], Claim],
        master_key: bytes,
        terms: Terms,
    ) -> None:
        self.store = store
        self.link = link
        self.clock = clock
        self.rng = rng
        self.tokens = tokens
        self.terms = terms
        self._catalogue = catalogue
        self._claim = claim
        self.waiters = Waiters()
        self.refusals = RefusalMeter(terms.refusals_per_minute_max)
        self.switchboard = Switchboard(link, master_key, lambda: claim().epoch, terms.in_flight_max)
        self.pushing = Pushing(store, notifier, clock, rng, terms)
        bounds = {"items_max": terms.batch_items_max, "queue_max": terms.queue_items_max}
        self.asks: Gatherer[Ask, Verdict] = Gatherer(self._accept, **bounds)
        self._frames: Gatherer[Frame, None] = Gatherer(self._take, **bounds)
        self._ready: Gatherer[str, None] = Gatherer(self._dispatch, **bounds)
        self._fetches: Gatherer[Fetch, Request] = Gatherer(self._hand_over, **bounds)

    # ---- the way out --------------------------------------------------------------------------------

    async def _accept(self, asks: list[Ask]) -> list[Verdict | Exception]:
        """S1.01–S1.04, S2.03–S2.05: one transaction decides and records a batch; then the doors answer."""
        batch = Batch(asks, self.tokens)
        try:
            verdicts, told = await self.store.write(lambda books: self._decide(books, batch))
        except CommitUnsure:
            # Whether it went in is seen by its ids when it is tried once more.
            verdicts, told = await self.store.write(lambda books: self._decide(books, batch))
        gateways = {
            verdict.request.gateway
            for verdict in verdicts
            if isinstance(verdict, Accepted) and not verdict.repeated
        }
        self.dispatch_to(gateways)
        if told:
            self.pushing.look()
        return list(verdicts)

    async def _decide(self, books: Books, batch: Batch) -> tuple[list[Verdict], bool]:
        now_us = self.clock.now_us()
        catalogue = self._catalogue()
        facts = await batch.load(books, now_us)
        callers = batch.authenticate(facts, now_us)
        drafts = batch.validate(callers, catalogue, now_us)
        granted = batch.authorise(drafts, facts, catalogue, now_us)
        facts.logs = await books.lock_limits(batch.keys(granted))
        now_us = self.clock.now_us()
        admitted = batch.admit(granted, facts, self.terms, now_us)
        entries = batch.record(admitted, self._claim().worker, self.terms, now_us)
        entries = await self._insert(books, batch, entries, facts.logs)
        events = await self._write(books, batch, entries, facts.logs, now_us)
        return [
            Accepted(each.request, each.ticket) if isinstance(each, Entry) else each for each in entries
        ], events

    async def _insert(
        self,
        books: Books,
        batch: Batch,
        entries: "list[Entry | Declined | Accepted]",
        logs: dict[str, LimitLog],
    ) -> "list[Entry | Declined | Accepted]":
        """Insert; what is there already (same key, or an unsure commit that went in) is answered as it is there."""
        wanted = [each.request for each in entries if isinstance(each, Entry)]
        won = await books.insert_requests(wanted)
        lost = [request for request in wanted if request.id not in won]
        if not lost:
            return entries
        for request in lost:
            uncharge(logs, request, way_out.CHARGE)
        ours = await books.requests({request.id for request in lost})
        theirs = await books.requests_by_key(
            {(request.party, request.key) for request in lost if request.key}
        )
        return batch.losers(entries, won, ours, theirs)

    async def _write(
        self,
        books: Books,
        batch: Batch,
        entries: "list[Entry | Declined | Accepted]",
        logs: dict[str, LimitLog],
        now_us: int,
    ) -> bool:
        rows = [way_out.journal_of(each, now_us) for each in entries if isinstance(each, Entry)]
        warnings = []
        for ask, each in zip(batch.asks, entries, strict=True):
            if not isinstance(each, Declined):
                continue
            if self.refusals.admits(each.party or ask.source, each.refusal.reason, now_us):
                rows.append(way_out.journal_of_refusal(each, ask.received_us, now_us))
            if each.refusal.reason is Reason.LIMIT_EXCEEDED:
                warnings.append(self._limit_warning(each, ask, now_us))
        await books.write_limits(list(logs.values()))
        await books.write_journal(rows)
        if warnings:
            await books.add_events(warnings)
        return bool(warnings)

    def _limit_warning(self, declined: Declined, ask: Ask, now_us: int) -> Event:
        refusal = declined.refusal
        return way_out.warning(
            ask.id,
            declined.party,
            declined.service_point,
            declined.device,
            ask.received_us,
            refusal.reason,
            refusal.detail,
            now_us,
            self.rng,
        )

    # ---- dispatch -----------------------------------------------------------------------------------

    def dispatch_to(self, gateways: Collection[str]) -> None:
        """Something is ready for these gateways; send what they have room for."""
        for gateway in self.switchboard.ready(gateways):
            self._ready.tell(gateway)

    async def _dispatch(self, gateways: list[str]) -> list[Exception | None]:
        """S1.04b, S1.05, S2.06: SENT is durable, under our lease, before anything is published."""
        ready = self.switchboard.ready(set(gateways))
        if ready:
            try:
                sent = await self.store.write(lambda books: self._send(books, ready))
            except LeaseLost:
                return [None] * len(gateways)
            for request in sent:
                self.switchboard.dispatch(request.gateway, request.id, message_of(request))
        return [None] * len(gateways)

    async def _send(self, books: Books, gateways: set[str]) -> list[Request]:
        now_us = self.clock.now_us()
        claim = self._claim()
        ready = await books.claim_ready(gateways, now_us, self.terms.in_flight_max, CLASS_ANY)
        if not ready:
            return []
        await books.fence(claim, {request.partition for request in ready}, now_us)
        ready = await self._charge_again(books, ready, now_us)
        grants = await books.grants({pair_of(request) for request in ready})
        changed, rows, sent = [], [], []
        for request in ready:
            grant = grants.get(pair_of(request))
            if needs_grant(request) and (grant is None or grant.state != "live"):
                ended, steps = way_back.cancel(request, now_us, Actor.CCS, Reason.ACCESS_DISABLED)
                changed.append(ended)
                rows.append(way_back.journal_of(ended, steps, now_us))
                continue
            if request.cancel_asked and request.until_us <= now_us and State(request.state).is_final:
                changed.append(replace(request, ready_us=None))
                continue
            moved = self._sent(request, now_us)
            changed.append(moved)
            sent.append(moved)
            rows.append(way_back.journal_of(moved, sent_steps(moved, now_us), now_us))
        await books.update_requests(changed)
        await books.write_journal(rows)
        ended_events = [
            way_back.result_event(request, now_us, self.rng)
            for request in changed
            if request.final_us == now_us
        ]
        if ended_events:
            await books.add_events(ended_events)
        return sent

    async def _charge_again(self, books: Books, ready: list[Request], now_us: int) -> list[Request]:
        """What waited too long after its charge is settled and charged at this moment, or waits on."""
        stale = [
            request
            for request in ready
            if request.charged and not request.sent_us and now_us - request.charge_us > limits.STALE_US
        ]
        waited = {request.id for request in stale}
        if not stale:
            return ready
        places = await books.places({request.service_point for request in stale}, now_us)
        tiers = await books.tiers()
        logs = await books.lock_limits({key for request in stale for key in limit_keys(request)})
        kept, moved, rows = [], [], []
        for request in ready:
            place = places.get(request.service_point)
            if request.id not in waited:
                kept.append(request)
                continue
            if place is None:
                continue
            uncharge(logs, request, request.charged)
            held = way_out.accounts(request.party, place, tiers[request.tier], logs, self.terms)
            moment = limits.earliest(held, request.charged, now_us)
            if moment > now_us + limits.TICK_US:
                moved.append(replace(request, ready_us=moment, charge_us=0))
                continue
            ticket = limits.admit(held, request.charged, now_us)
            kept.append(replace(request, charge_us=ticket.charge_us))
            recharged = StepRecord(at_us=now_us, step=Step.RECHARGED)
            rows.append(way_back.journal_of(request, [recharged], now_us))
        await books.write_limits(list(logs.values()))
        await books.update_requests(moved)
        await books.write_journal(rows)
        return kept

    def _sent(self, request: Request, now_us: int) -> Request:
        """Return the request as SENT once more, with the time of the next try (full jitter)."""
        wait_us = min(self.terms.resend_max_us, self.terms.resend_first_us << min(request.attempt, 16))
        wait_us = int(wait_us * (0.5 + self.rng.random() / 2))
        return replace(
            request,
            state=after(State(request.state), Move.SEND) or request.state,
            attempt=request.attempt + 1,
            sent_us=request.sent_us or now_us,
            ready_us=now_us + wait_us,
        )

    # ---- the way back -------------------------------------------------------------------------------

    def receive(self, gateway: str, raw: bytes) -> None:
        """A frame came; called by the link."""
        self._frames.tell(Frame(gateway, raw))

    def presence(self, gateway: str, connected: bool) -> None:
        """A gateway connected or went away; called by the link."""
        if not connected:
            self.switchboard.lost(gateway)

    async def _take(self, frames: list[Frame]) -> list[Exception | None]:
        """S1.06–S1.11, S1.15: effects and the frames' marks in one transaction; only then acknowledge."""
        await self._learn(frame.gateway for frame in frames)
        opened, refused = self._open(frames)
        taken = await self.store.write(lambda books: self._record(books, opened, refused))
        for gateway, seqs in taken.acks.items():
            self.switchboard.post(gateway, Ack(seqs=seqs))
        self.waiters.tell(taken.ended)
        if taken.events:
            self.pushing.look({event.party for event in taken.events})
            await self._hint(taken)
        for gateway in taken.hellos:
            await self.greet(gateway)
        room = {gateway for gateway, id in taken.heard if self.switchboard.took(gateway, id)}
        self.dispatch_to(taken.room | room)
        return [None] * len(frames)

    async def _learn(self, gateways: Iterable[str]) -> None:
        unknown = self.switchboard.unknown(gateways)
        if unknown:
            self.switchboard.learn(await self.store.read(lambda books: books.gateways(unknown)))

    def _open(self, frames: Sequence[Frame]) -> tuple[list[FrameUp], list[JournalRow]]:
        """Check size, MAC and form of every frame; what fails is an unauthorised attempt (F24)."""
        opened, refused = [], []
        for frame in frames:
            try:
                opened.append(self.switchboard.open(frame.gateway, frame.raw))
            except Refused as refusal:
                refused.extend(self._attempt(frame.gateway, refusal))
        return opened, refused

    def _attempt(self, gateway: str, refusal: Refused, **where: str) -> list[JournalRow]:
        now_us = self.clock.now_us()
        if not self.refusals.admits(gateway, refusal.reason, now_us):
            return []
        return [
            attempt_row(uuid7(now_us, self.rng), gateway, refusal.reason, refusal.detail, now_us, **where)
        ]

    async def _record(self, books: Books, frames: list[FrameUp], refused: list[JournalRow]) -> Taken:
        now_us = self.clock.now_us()
        taken = Taken(rows=list(refused))
        gateways = await books.gateways({frame.gateway for frame in frames}, lock=True)
        marks = {each.id: (each.up_epoch, each.up_counter) for each in gateways.values()}
        fresh = self._fresh(frames, marks, taken)
        ids = {id for frame in fresh for message in frame.messages for id in requests_in(message)}
        taken.requests = await books.requests(ids, lock=True) if ids else {}
        for frame in fresh:
            for message in frame.messages:
                self._one(frame.gateway, message, taken, now_us)
        await self._notices(books, fresh, taken, now_us)
        rows = [way_back.journal_of(taken.requests[id], steps, now_us) for id, steps in taken.steps.items()]
        await books.mark_frames(marks, now_us)
        await books.update_requests(list(taken.changed.values()))
        await books.write_journal([*taken.rows, *rows])
        if taken.events:
            await books.add_events(taken.events)
        if taken.applied:
            await books.applied(taken.applied, now_us)
        return taken

    def _fresh(
        self, frames: Sequence[FrameUp], marks: dict[str, tuple[int, int]], taken: Taken
    ) -> list[FrameUp]:
        """Drop frames that were seen; raise the marks; record replays."""
        fresh = []
        for frame in frames:
            mark = marks.get(frame.gateway, (0, 0))
            try:
                if judge_counter(mark, (frame.epoch, frame.counter)):
                    marks[frame.gateway] = (frame.epoch, frame.counter)
                    fresh.append(frame)
            except Refused as refusal:
                taken.rows.extend(self._attempt(frame.gateway, refusal))
        return fresh

    def _one(self, gateway: str, message: object, taken: Taken, now_us: int) -> None:
        """Let one message of a gateway have its effect."""
        if isinstance(message, Hello):
            taken.hellos.append(gateway)
            return
        if isinstance(message, ReceiptMessage | ResultMessage | Applied | Attempt | Known | Notice):
            taken.acks.setdefault(gateway, []).append(message.seq)
        if isinstance(message, ReceiptMessage | ResultMessage):
            self._about(gateway, message, taken, now_us)
        elif isinstance(message, Applied):
            taken.applied[gateway] = max(message.version, taken.applied.get(gateway, 0))
        elif isinstance(message, Attempt):
            refusal = Refused(message.reason, message.detail)
            taken.rows.extend(self._attempt(gateway, refusal, party=message.party, device=message.device))
        elif isinstance(message, Known):
            for id in message.unknown:
                self._unknown_there(gateway, id, taken, now_us)

    def _about(
        self, gateway: str, message: ReceiptMessage | ResultMessage, taken: Taken, now_us: int
    ) -> None:
        request = taken.requests.get(message.id)
        if request is None or request.gateway != gateway:
            refusal = Refused(Reason.FORGED, f"speaks of request {message.id}, which is not this gateway's")
            taken.rows.extend(self._attempt(gateway, refusal))
            return
        taken.heard.append((gateway, request.id))
        was_here = bool(request.at_gateway_us)
        if isinstance(message, ReceiptMessage):
            changed, steps = way_back.take_receipt(request, message)
        else:
            changed, steps = way_back.take_result(request, message, now_us)
        if not steps:
            return
        self._keep(changed, steps, taken)
        if changed.final_us == now_us or changed.settlement != request.settlement:
            taken.ended.add(request.id)
            taken.events.append(way_back.result_event(changed, now_us, self.rng))
        elif changed.at_gateway_us and not was_here:
            taken.events.append(way_back.receipt_event(changed, now_us, self.rng))

    def _unknown_there(self, gateway: str, id: str, taken: Taken, now_us: int) -> None:
        """The gateway never had it: send it again, or settle what was unconfirmed."""
        request = taken.requests.get(id)
        if request is None or request.gateway != gateway:
            return
        state = after(State(request.state), Move.UNKNOWN_THERE)
        if state is not None:
            taken.room.add(gateway)
            back = StepRecord(
                at_us=now_us, step=Step.PASSED_TO_GATEWAY, outcome=Outcome.FAILED, detail="lost"
            )
            self._keep(replace(request, state=state, ready_us=now_us), [back], taken)
        elif request.state == State.UNCONFIRMED and not request.settlement:
            settled = StepRecord(at_us=now_us, step=Step.SETTLED, detail="NOT_DONE")
            self._keep(replace(request, settlement="NOT_DONE"), [settled], taken)

    def _keep(self, request: Request, steps: list[StepRecord], taken: Taken) -> None:
        taken.requests[request.id] = taken.changed[request.id] = request
        taken.steps.setdefault(request.id, []).extend(steps)

    async def _notices(self, books: Books, frames: Sequence[FrameUp], taken: Taken, now_us: int) -> None:
        """What devices say by themselves, under the same checks and charged one each (F38)."""
        notices = [m for frame in frames for m in frame.messages if isinstance(m, Notice)]
        if notices:
            await take_notices(books, notices, taken, self.terms, self.rng, now_us)

    async def _hint(self, taken: Taken) -> None:
        """Tell the workers on which somebody waits; a lossy word after the commit."""
        own = self._claim().worker
        others: dict[str, list[str]] = {}
        for id in taken.ended:
            worker = taken.requests[id].worker
            if worker != own:
                others.setdefault(worker, []).append(id)
        for worker, ids in others.items():
            await self.store.hint(f"ended.{worker}", " ".join(ids[:100]))

    # ---- on connect ---------------------------------------------------------------------------------

    async def greet(self, gateway: str) -> None:
        """Time → withdrawals → grants and leases → reconcile → only then dispatch (DESIGN §3)."""
        messages = await self.store.read(lambda books: greeting(books, gateway, self.clock.now_us()))
        self.switchboard.post(gateway, *messages)
        self.switchboard.greeted(gateway)
        self.dispatch_to({gateway})

    # ---- cancel -------------------------------------------------------------------------------------

    async def cancel(self, token: str, ids: Collection[str], campaign: str = "") -> list[Request]:
        """Cancel requests of the caller by id, or all of a campaign; letting go always passes.

        Raises ``not-found`` when an id is not the caller's, ``too-late`` when nothing is left to cancel.
        """
        changed = await self.store.write(lambda books: self._cancel(books, token, ids, campaign))
        self.dispatch_to({request.gateway for request in changed if request.ready_us is not None})
        self.waiters.tell([request.id for request in changed])
        self.pushing.look()
        return changed

    async def _cancel(self, books: Books, token: str, ids: Collection[str], campaign: str) -> list[Request]:
        now_us = self.clock.now_us()
        caller = await authenticate_one(books, self.tokens, token, now_us)
        if campaign:
            listed = await books.list_requests(
                caller.party.id, campaign=campaign, limit=self.terms.batch_items_max
            )
            ids = [request.id for request in listed]
        found = await books.requests(ids, lock=True)
        if any(id not in found or found[id].party != caller.party.id for id in ids):
            raise Refused(Reason.NOT_FOUND)
        changed = await cancel_requests(
            books, found.values(), now_us, Actor.THIRD_PARTY, Reason.CANCELLED, self.rng
        )
        if ids and not changed and not campaign:
            raise Refused(Reason.TOO_LATE, "it has ended; there is nothing left to cancel")
        return changed

    # ---- hand over to one who asks --------------------------------------------------------------------

    def fetch(self, token: str, request: str, channel: str = "fetch") -> "asyncio.Future[Request]":
        """Return a request as its third party may see it now.

        The result is in it only if the target was authenticated and authorised in this transaction, which
        is the moment of S1.12–S1.17; ``channel`` says in the journal how it left. Raises ``not-found`` for
        another party's or no request, ``scope-missing`` where a token that may not monitor asks by itself
        (it may ``wait`` for what it sent).
        """
        return self._fetches.ask(Fetch(token, request, channel))

    async def _hand_over(self, asked: list[Fetch]) -> list[Request | Exception]:
        return await self.store.write(lambda books: self._authorise_again(books, asked))

    async def _authorise_again(self, books: Books, asked: list[Fetch]) -> list[Request | Exception]:
        callers = await authenticate_all(
            books, self.tokens, [fetch.token for fetch in asked], self.clock.now_us()
        )
        found = await books.requests({fetch.request for fetch in asked}, lock=True)
        places, grants = await targets(books, found.values(), self.clock.now_us())
        now_us = self.clock.now_us()
        answers: list[Request | Exception] = []
        changed: dict[str, Request] = {}
        rows: list[JournalRow] = []
        for fetch, caller in zip(asked, callers, strict=True):
            request = changed.get(fetch.request) or found.get(fetch.request)
            if isinstance(caller, Refused):
                answers.append(caller)
            elif fetch.channel != "wait" and "monitor" not in caller.scopes:
                answers.append(scope_missing("monitor"))
            elif request is None or request.party != caller.party.id:
                answers.append(Refused(Reason.NOT_FOUND))
            elif not request.taken_us:
                answers.append(request)
            else:
                place, grant = places.get(request.service_point), grants.get(pair_of(request))
                after_it, steps = way_back.hand_over(
                    request, caller.party, place, grant, fetch.channel, now_us
                )
                answers.append(close_hand_over(after_it, steps, fetch.channel, now_us, changed, rows))
        await books.update_requests(list(changed.values()))
        await books.write_journal(rows)
        return answers


def requests_in(message: Up) -> Iterable[str]:
    """Return the ids of the requests that a gateway's message is about."""
    if isinstance(message, ReceiptMessage | ResultMessage):
        return (message.id,)
    return message.unknown if isinstance(message, Known) else ()


def needs_grant(request: Request) -> bool:
    """Whether a live grant is needed to send: letting go always passes."""
    return request.operation is not Operation.RELEASE and not request.cancel_asked


# ---- small pure helpers --------------------------------------------------------------------------------


def close_hand_over(
    request: Request,
    steps: list[StepRecord],
    channel: str,
    now_us: int,
    changed: dict[str, Request],
    rows: list[JournalRow],
) -> Request:
    """Finish a hand-over to one who holds the line: record it, and return what may be shown."""
    if not steps:
        return without_result(request)
    if steps[-1].step is Step.HANDING_OVER:
        request, last = way_back.handed_over(request, channel, now_us)
        steps = [*steps, last]
        shown = request
    else:
        shown = without_result(request)
    changed[request.id] = request
    rows.append(way_back.journal_of(request, steps, now_us))
    return shown


def without_result(request: Request) -> Request:
    """Return a request without the customer's data."""
    return replace(request, result=RAW_NULL)
