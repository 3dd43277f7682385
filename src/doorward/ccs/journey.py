"""THE WAY of a message through the CCS. Read this first.

::

    out   receive → authenticate → validate → authorise → admit → record ┆ dispatch → sent → at the gateway
    back  receive → record → authenticate the target → authorise it again → deliver | withhold → record

The unit of work is a batch: while one transaction commits, what arrives gathers into the next. Every step
is load, decide, write inside one transaction; whatever has to happen outside happens after its commit.
What each step decides stands in ``way_out``, ``dispatching``, ``taking`` and ``way_back``, and the rules
below them.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from doorward.ccs import dispatching, way_back, way_out
from doorward.ccs.callers import authenticate_one, pair_of
from doorward.ccs.cancelling import cancel_requests, refund
from doorward.ccs.handing_over import Fetch, hand_over_all
from doorward.ccs.notices import take_notices
from doorward.ccs.ports import (
    AllBooks,
    Books,
    Claim,
    CommitUnsure,
    LeaseLost,
    Link,
    Notifier,
    Pair,
    Store,
    StoreUnavailable,
    Trusted,
)
from doorward.ccs.provisioning import desired_state, greeting
from doorward.ccs.pushing import Pushing
from doorward.ccs.refusals import RefusalMeter, note_refusals
from doorward.ccs.rules.asking import Ask
from doorward.ccs.rules.facts import Grant, JournalRow, LimitLog, Provisioned, Request
from doorward.ccs.rules.feed import receipt_news
from doorward.ccs.rules.formats import Catalogue
from doorward.ccs.rules.identity import TokenReader
from doorward.ccs.switchboard import Switchboard
from doorward.ccs.taking import Taken, Taking, requests_in
from doorward.ccs.terms import Terms
from doorward.ccs.waiting import Waiters
from doorward.ccs.way_out import Accepted, Batch, Declined, Entry, Verdict
from doorward.ccs.weighing import Weighing, give_back
from doorward.kit.clock import Clock
from doorward.kit.gather import Bounds, Gatherer
from doorward.wire.chain import Head
from doorward.wire.messages import Ack, FrameUp, Notice, Trust
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor

log = structlog.get_logger(__name__)

CLASS_ANY = 1_000
HINT_IDS_MAX = 100
READY = "ready"
"""Channel of the hint that something was accepted for gateways that another worker serves."""
HELLO_WAIT_S = 1.0
"""How long a gateway that is there may take to say hello. One that another worker served does not say it again."""

Standing = Entry | Declined | Accepted


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes from a gateway, as the link proved it."""

    gateway: str
    raw: bytes


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
        trust: Trusted = tuple,
    ) -> None:
        self.store = store
        self.link = link
        self.clock = clock
        self.rng = rng
        self.tokens = tokens
        self.terms = terms
        self._catalogue = catalogue
        self._claim = claim
        self._trust = trust
        self.renew: Callable[[str, str], None] = lambda _gateway, _csr: None
        """Called with a gateway's request for a new certificate; must not block."""
        self.came_or_went: Callable[[str, bool], None] = lambda _gateway, _connected: None
        """Called when a gateway connected or went away; must not block."""
        self.waiters = Waiters()
        self.refusals = RefusalMeter(terms.refusals_per_minute_max)
        self.switchboard = Switchboard(link, master_key, lambda: claim().epoch, terms.in_flight_max)
        self.pushing = Pushing(store, notifier, clock, rng, terms)
        bounds: Bounds = {
            "items_max": terms.batch_items_max,
            "queue_max": terms.queue_items_max,
            "of_all": (CommitUnsure, StoreUnavailable),
        }
        writing: Bounds = {**bounds, "turn": store.turn}
        self.asks: Gatherer[Ask, Verdict] = Gatherer(self._accept, **writing)
        self._ready: Gatherer[str, None] = Gatherer(self._dispatch, **writing)
        self._frames: Gatherer[Frame, None] = Gatherer(self._take, **writing)
        self._fetches: Gatherer[Fetch, Request] = Gatherer(self._hand_over, **writing)
        self._elsewhere: Gatherer[str, None] = Gatherer(self._call_owners, **bounds)
        self._silent: Gatherer[str, None] = Gatherer(self._greet_silent, **bounds)

    # ==== the way out ================================================================================
    # S1.01, S2.03: a third party asks. The doors put what they received into ``asks``.

    async def _accept(self, asks: list[Ask]) -> list[Verdict | Exception]:
        batch = Batch(asks, self.tokens)
        try:
            standing, told, head = await self.store.write(lambda books: self._decide(books, batch))
        except CommitUnsure:
            # Whether it went in is seen by its ids when it is tried once more.
            standing, told, head = await self.store.write(lambda books: self._decide(books, batch))
        accepted = [each.request for each in standing if isinstance(each, Entry)]
        self._publish([request for request in accepted if request.sent_us], head)
        gateways = {request.gateway for request in accepted if not request.sent_us}
        self.dispatch_to(gateways)
        for gateway in gateways - self.switchboard.greeted_among(gateways):
            self._elsewhere.tell(gateway)
        if told:
            self.pushing.look()
        return [Accepted(each.request, each.ticket) if isinstance(each, Entry) else each for each in standing]

    async def _decide(self, books: AllBooks, batch: Batch) -> tuple[list[Standing], bool, Head | None]:
        """S1.02–S1.04, S2.04–S2.05: one transaction decides and records; then the doors answer 202."""
        now_us = self.clock.now_us()
        catalogue = self._catalogue()
        facts = await batch.load(books, now_us)
        callers = batch.authenticate(facts, now_us)
        drafts = batch.validate(callers, catalogue, now_us)
        granted = batch.authorise(drafts, facts, catalogue, now_us)

        facts.logs = await books.lock_limits(batch.keys(granted))
        now_us = self.clock.now_us()  # read under the locks: the limits are defined on it
        admitted = batch.admit(granted, facts, self.terms, now_us)
        entries = batch.record(admitted, self._claim().worker, self.terms, now_us, self.rng)
        weighing = Weighing(books, facts, self.terms, now_us)
        entries = await weighing.weigh(admitted, entries)
        entries = await self._send_at_once(books, entries, facts.grants, now_us)

        standing = await self._insert(books, batch, entries, facts.logs)
        await weighing.write(standing)
        await books.write_limits(list(facts.logs.values()))
        rows = self._explain(batch, standing, now_us)
        head = await books.write_journal(rows)
        await note_refusals(books, rows)
        warnings = batch.limit_warnings(standing, now_us, self.rng) + weighing.warnings(standing, self.rng)
        await books.add_events(warnings)
        return standing, bool(warnings), head

    async def _send_at_once(
        self, books: Books, entries: list[Standing], grants: Mapping[Pair, Grant], now_us: int
    ) -> list[Standing]:
        """S1.05, S2.06: what its gateway has room for is SENT by the very commit that records it."""
        room = self.switchboard.room({each.request.gateway for each in entries if isinstance(each, Entry)})
        at_once = {
            each.request.partition
            for each in entries
            if isinstance(each, Entry) and each.request.gateway in room
        }
        if not at_once:
            return entries
        try:
            await books.fence(self._claim(), at_once, now_us)
        except LeaseLost:
            return entries
        new = [(at, each) for at, each in enumerate(entries) if isinstance(each, Entry)]
        for at, each in sorted(new, key=lambda one: (one[1].request.klass, one[1].request.due_us)):
            entries[at] = dispatching.at_once(each, room, grants, self.terms, self.rng, now_us)
        return entries

    async def _insert(
        self, books: Books, batch: Batch, entries: list[Standing], logs: dict[str, LimitLog]
    ) -> list[Standing]:
        """Insert; what is there already (same key, or an unsure commit) is answered as it is there."""
        wanted = [each.request for each in entries if isinstance(each, Entry)]
        won = await books.insert_requests(wanted)
        lost = [request for request in wanted if request.id not in won]
        if not lost:
            return entries
        for request in lost:
            way_out.uncharge(logs, request, request.charged)
        ours = await books.requests({request.id for request in lost})
        theirs = await books.requests_by_key(
            {(request.party, request.key) for request in lost if request.key}
        )
        return batch.losers(entries, won, ours, theirs)

    def _explain(self, batch: Batch, standing: list[Standing], now_us: int) -> list[JournalRow]:
        """S1.04, F24: a row for what was accepted, and for what was refused unless it comes in a flood."""
        rows = []
        for ask, each in zip(batch.asks, standing, strict=True):
            if isinstance(each, Entry):
                rows.append(way_out.journal_of(each, now_us))
            elif isinstance(each, Declined) and self.refusals.admits(
                each.party or ask.source, each.refusal.reason, now_us
            ):
                rows.append(way_out.journal_of_refusal(each, ask.received_us, now_us))
        return rows

    # ---- dispatch -----------------------------------------------------------------------------------

    def dispatch_to(self, gateways: Collection[str]) -> None:
        """Something is ready for these gateways; send what they have room for."""
        for gateway in self.switchboard.ready(gateways):
            self._ready.tell(gateway)

    async def _call_owners(self, gateways: list[str]) -> list[Exception | None]:
        """Tell whoever serves these gateways that something is ready; a lossy word after the commit."""
        named = sorted(set(gateways))
        for first in range(0, len(named), HINT_IDS_MAX):
            await self.store.hint(READY, " ".join(named[first : first + HINT_IDS_MAX]))
        return [None] * len(gateways)

    def heard(self, channel: str, payload: str) -> None:
        """A worker's hint: what was waited for here has ended, or something is ready for a gateway."""
        if channel == READY:
            self.dispatch_to(payload.split())
        elif channel == f"ended.{self._claim().worker}":
            self.waiters.tell(payload.split())

    async def _dispatch(self, gateways: list[str]) -> list[Exception | None]:
        """S1.04b, S1.05, S2.06: SENT is durable, under our lease, before anything is published."""
        ready = self.switchboard.ready(set(gateways))
        if ready:
            try:
                sent, behind, head = await self.store.write(lambda books: self._send(books, ready))
            except LeaseLost:
                # the gateways are another worker's now, and so is what waits for them
                sent, behind, head = [], [], None
            for state in behind:
                self.tell(state)
            self._publish(sent, head)
        return [None] * len(gateways)

    def _publish(self, sent: Sequence[Request], head: Head | None = None) -> None:
        """After the commit only; what the broker or the socket says of it means nothing."""
        for request in sent:
            self.switchboard.dispatch(request.gateway, request.id, way_out.message_of(request), head)

    async def _send(
        self, books: Books, gateways: set[str]
    ) -> tuple[list[Request], list[Provisioned], Head | None]:
        """Return what is sent, what gateways must be told before (that a permission is new to them), and the
        link that records it."""
        now_us = self.clock.now_us()
        ready = await books.claim_ready(gateways, now_us, self.terms.in_flight_max, CLASS_ANY)
        if not ready:
            return [], [], None
        await books.fence(self._claim(), {request.partition for request in ready}, now_us)
        ready, rows = await dispatching.charge_again(books, ready, self.terms, now_us)
        grants = await books.grants({pair_of(request) for request in ready})
        changed, sent, ended, unsent = [], [], [], []
        for request in ready:
            after_it, steps, is_sent = dispatching.send(request, grants, self.terms, self.rng, now_us)
            changed.append(after_it)
            if steps:
                rows.append(way_back.journal_of(after_it, steps, now_us))
            if is_sent:
                sent.append(after_it)
            elif after_it.final_us == now_us:
                ended.append(way_back.result_event(after_it, now_us, self.rng))
                unsent.append(after_it)
        await refund(books, unsent)
        await give_back(books, [each.id for each in unsent], now_us)
        await books.update_requests(changed)
        head = await books.write_journal(rows)
        await books.add_events(ended)
        changed_lately = {
            each.gateway for each in sent if dispatching.is_new(grants.get(pair_of(each)), now_us)
        }
        states = await books.provisioned(changed_lately) if changed_lately else {}
        return sent, [each for each in states.values() if dispatching.is_behind(each.gateway)], head

    # ==== the way back ===============================================================================
    # S1.06–S1.11, S2.07–S2.12: the gateway tells what it did, and gives the answer.

    def receive(self, gateway: str, raw: bytes) -> None:
        """A frame came; called by the link."""
        self._frames.tell(Frame(gateway, raw))

    def presence(self, gateway: str, connected: bool) -> None:
        """A gateway connected or went away; called by the link."""
        if connected:
            asyncio.get_running_loop().call_later(HELLO_WAIT_S, self._still_silent, gateway)
        else:
            self.switchboard.lost(gateway)
        self.came_or_went(gateway, connected)

    def _still_silent(self, gateway: str) -> None:
        if gateway in self.link.connected() and not self.switchboard.greeted_among({gateway}):
            self._silent.tell(gateway)

    async def _greet_silent(self, gateways: list[str]) -> list[Exception | None]:
        """Greet gateways that were connected before we served them."""
        for gateway in sorted(set(gateways)):
            await self._greet_surely(gateway)
        return [None] * len(gateways)

    async def _greet_surely(self, gateway: str) -> None:
        """Greet a gateway; while the books cannot be read it waits, and says no hello again by itself."""
        try:
            await self._learn({gateway})
            await self.greet(gateway)
        except Exception:
            log.exception("a gateway could not be greeted; it is tried again", gateway=gateway)
            self.switchboard.lost(gateway)
            asyncio.get_running_loop().call_later(HELLO_WAIT_S, self._still_silent, gateway)

    async def _take(self, frames: list[Frame]) -> list[Exception | None]:
        """S1.15, S2.16: effects and the frames' marks in one transaction; only then acknowledge."""
        await self._learn({frame.gateway for frame in frames})
        taken = await self.store.write(lambda books: self._record(books, frames))
        for gateway, seqs in taken.acks.items():
            self.switchboard.post_soon(gateway, Ack(seqs=seqs), head=taken.head)
        for wait, answer in taken.given:
            wait.answer = answer
        self.waiters.tell(taken.ended)
        if taken.events:
            self.pushing.tell(taken.pushes)
            await self._hint(taken)
        for gateway in taken.hellos:
            await self._greet_surely(gateway)
        for gateway, csr in taken.csrs.items():
            self.renew(gateway, csr)
        room = {gateway for gateway, id in taken.heard if self.switchboard.took(gateway, id)}
        self.dispatch_to(taken.room | room)
        return [None] * len(frames)

    async def _record(self, books: Books, frames: list[Frame]) -> Taken:
        now_us = self.clock.now_us()
        taking = Taking(self.refusals, self.rng, now_us)
        taken = taking.taken
        opened = self._open(frames, taking)
        marks = await books.frame_marks({frame.gateway for frame in opened})
        fresh = taking.fresh(opened, marks)
        ids = {id for frame in fresh for message in frame.messages for id in requests_in(message)}
        taken.requests = await books.requests(ids, lock=True) if ids else {}
        for frame in fresh:
            taking.take(frame.gateway, frame.messages)
        notices = [each for frame in fresh for each in frame.messages if isinstance(each, Notice)]
        await give_back(books, taken.let_go, now_us)
        if notices:
            await take_notices(books, notices, taken, self.terms, self.rng, now_us)
        await self._hand_over_here(books, taken, now_us)
        taken.push(await self.pushing.add(books, taken.events, taken.requests, now_us))
        await books.mark_frames(marks, now_us)
        await books.update_requests(list(taken.changed.values()))
        taken.head = await books.write_journal(taken.journal(now_us), taken.peers.values())
        received = await books.applied(taken.applied, now_us, taken.failed)
        if received:
            await books.add_events(receipt_news(received, now_us))
        return taken

    async def _hand_over_here(self, books: Books, taken: Taken, now_us: int) -> None:
        """S1.12–S1.17 for those who wait on this worker: the transaction that takes an answer hands it over."""
        waits = [(wait, id) for id in sorted(taken.ended) for wait in self.waiters.of(id)]
        if not waits:
            return
        asked = [Fetch(wait.token, id, "wait") for wait, id in waits]
        ended = {id: taken.requests[id] for _, id in waits}
        handed = await hand_over_all(books, self.tokens, asked, ended, now_us)
        for id, request in handed.changed.items():
            taken.keep(request, handed.steps[id])
        for (wait, _), answer in zip(waits, handed.answers, strict=True):
            wait.chosen = True
            taken.given.append((wait, answer))

    def _open(self, frames: Sequence[Frame], taking: Taking) -> list[FrameUp]:
        """F23: size, MAC and form of every frame; what fails is an unauthorised attempt (F24)."""
        opened = []
        for frame in frames:
            try:
                opened.append(self.switchboard.open(frame.gateway, frame.raw))
            except Refused as refusal:
                taking.attempt(frame.gateway, refusal)
        return opened

    async def _learn(self, gateways: Iterable[str]) -> None:
        unknown = self.switchboard.unknown(gateways)
        if unknown:
            self.switchboard.learn(await self.store.read(lambda books: books.gateways(unknown)))

    async def _hint(self, taken: Taken) -> None:
        """Tell the workers on which somebody waits; a lossy word after the commit."""
        own = self._claim().worker
        others: dict[str, list[str]] = {}
        for id in taken.ended:
            worker = taken.requests[id].worker
            if worker != own:
                others.setdefault(worker, []).append(id)
        for worker, ids in others.items():
            await self.store.hint(f"ended.{worker}", " ".join(ids[:HINT_IDS_MAX]))

    async def greet(self, gateway: str) -> None:
        """On connect: time → withdrawals → grants and leases → reconcile → only then dispatch."""
        version, messages = await self.store.read(lambda books: greeting(books, gateway, self.clock.now_us()))
        messages[1:1] = [Trust(document=document) for document in self._trust()]
        self.switchboard.tell(gateway, version, self.clock.now_us(), *messages)
        self.switchboard.greeted(gateway)
        self.dispatch_to({gateway})

    def tell_trust(self) -> None:
        """The consent authority hands over to other keys: gateways that are here hear of it now."""
        documents = [Trust(document=document) for document in self._trust()]
        for gateway in self.switchboard.greeted_among(self.link.connected()):
            self.switchboard.post(gateway, *documents)

    def tell(self, state: Provisioned) -> None:
        """S3.06: send a gateway what it should hold."""
        now_us = self.clock.now_us()
        gateway = state.gateway
        self.switchboard.tell(gateway.id, gateway.desired_version, now_us, *desired_state(state, now_us))

    # ---- the answer goes to the third party ---------------------------------------------------------
    # S1.12–S1.17, S2.13–S2.18: to one who asks, here; by webhook, in ``pushing``, by the same decisions.

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
        now_us = self.clock.now_us()
        found = await books.requests({fetch.request for fetch in asked}, lock=True)
        handed = await hand_over_all(books, self.tokens, asked, found, now_us)
        await books.update_requests(list(handed.changed.values()))
        await books.write_journal(handed.journal(now_us))
        return handed.answers

    # ==== letting go =================================================================================

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
