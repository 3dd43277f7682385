"""Webhooks: recorded as *handing over*, then pushed, then recorded as sent.

The commit that takes an answer decides about its push, if it can follow at once. What was not pushed then, or
failed, is due at a time, and claimed by whoever is free.

At least once, retried for up to three days. Before each push the target is authenticated and authorised
again (S1.12–S1.14); a thin notice carries no customer data, a full push does.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
from msgspec.structs import replace

from doorward.ccs import way_back
from doorward.ccs.callers import pair_of
from doorward.ccs.ports import Books, Notifier, Pair, Store
from doorward.ccs.rules import access
from doorward.ccs.rules.facts import Endpoint, Event, Grant, JournalRow, Party, Place, Request, StepRecord
from doorward.ccs.terms import Terms
from doorward.ccs.views import event_view, result_data
from doorward.ccs.waiting import Waiters
from doorward.kit.clock import Clock
from doorward.wire.reasons import Refused
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339

log = structlog.get_logger(__name__)

NOTICE_KINDS = ("device.notice",)
PUSHES_MAX = 8
"""Batches of webhooks that are under way at one time."""


@dataclass(frozen=True, slots=True)
class Post:
    """One push: the event, where it goes, the bytes, and the request whose data it carries, if any."""

    event: Event
    endpoint: Endpoint
    body: bytes
    carries: Request | None


@dataclass(slots=True)
class Facts:
    """What decides about a batch of pushes."""

    parties: dict[str, Party]
    endpoints: dict[str, list[Endpoint]]
    requests: dict[str, Request]
    places: dict[str, Place]
    grants: dict[Pair, Grant]


@dataclass(slots=True)
class Decided:
    """What becomes of a batch of events: each as it stands now, the pushes that follow, and why."""

    events: list[Event] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    changed: dict[str, Request] = field(default_factory=dict)
    steps: dict[str, list[StepRecord]] = field(default_factory=dict)
    rows: list[JournalRow] = field(default_factory=list)

    def push(self, post: Post) -> None:
        """Push it."""
        self.events.append(post.event)
        self.posts.append(post)

    def journal(self, requests: Mapping[str, Request], now_us: int) -> list[JournalRow]:
        """A row for each of the requests that is handed over or withheld."""
        return [
            way_back.journal_of(self.changed.get(id, requests[id]), steps, now_us)
            for id, steps in self.steps.items()
        ]


class Pushing:
    """The pusher of one worker. Wakes by :meth:`look`, and by its own timer for retries."""

    def __init__(
        self, store: Store, notifier: Notifier, clock: Clock, rng: random.Random, terms: Terms
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._rng = rng
        self._terms = terms
        self._wake = asyncio.Event()
        self._runs = False
        self._due = True
        self._running: set[asyncio.Task[None]] = set()
        self._ready: list[Post] = []
        self.news = Waiters()
        """Who follows a feed by a stream, by third party."""

    async def add(
        self, books: Books, events: Sequence[Event], requests: Mapping[str, Request], now_us: int
    ) -> Decided:
        """Append to the feeds; ``requests`` are locked. What no endpoint takes is never due. What one takes is
        decided about here, where a push can follow this commit at once; otherwise it is due, and claimed."""
        decided = Decided()
        if not events:
            return decided
        facts = await self._facts(books, events, now_us, requests)
        until_us = now_us + self._terms.webhook_claim_us
        for event in events:
            if endpoint_for(event, facts.endpoints.get(event.party, [])) is None:
                decided.events.append(replace(event, webhook="none"))
            elif self._has_room():
                self._decide(replace(event, next_us=until_us), facts, decided, now_us)
            else:
                decided.events.append(event)
        await books.add_events(decided.events)
        return decided

    def _has_room(self) -> bool:
        return self._runs and not self._ready and len(self._running) < PUSHES_MAX

    def tell(self, decided: Decided) -> None:
        """These were committed: wake who follows their feeds, and push."""
        self._ready += decided.posts
        claimed = {post.event.id for post in decided.posts}
        if any(event.webhook == "pending" and event.id not in claimed for event in decided.events):
            self._due = True
        if self._ready or self._due:
            self._wake.set()
        self.news.tell({event.party for event in decided.events})

    def look(self, parties: Iterable[str] | None = None) -> None:
        """Something may be due, and is news to these third parties (``None``: to anybody)."""
        self._due = True
        self._wake.set()
        if parties is None:
            self.news.wake_all()
        else:
            self.news.tell(parties)

    async def run(self, idle_s: float = 1.0) -> None:
        """Push what is due until cancelled; looks at least every ``idle_s``."""
        self._runs = True
        try:
            while True:
                posts = await self._next()
                if posts:
                    await self._begin(posts)
                elif not (self._due or self._ready):
                    await self._rest(idle_s)
        finally:
            self._runs = False

    async def _next(self) -> list[Post]:
        """What was decided with its commit, or else what is due."""
        if self._ready:
            posts, self._ready = self._ready, []
            return posts
        if not self._due:
            return []
        self._due = False
        posts = await self._claim_safely()
        self._due = self._due or bool(posts)
        return posts

    async def _begin(self, posts: list[Post]) -> None:
        """Push beside what runs, as soon as there is room."""
        task = asyncio.get_running_loop().create_task(self._push(posts))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if len(self._running) >= PUSHES_MAX:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def _rest(self, idle_s: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(idle_s):
                await self._wake.wait()
        except TimeoutError:
            self._due = True

    async def _claim_safely(self) -> list[Post]:
        try:
            return await self._store.write(self._claim)
        except Exception:
            log.exception("webhooks: claiming failed")
            await asyncio.sleep(1.0)
            return []

    async def _claim(self, books: Books) -> list[Post]:
        """Take what is due, decide about each target now, and record it: that commit is the moment."""
        now_us = self._clock.now_us()
        events = await books.claim_events(
            now_us, now_us + self._terms.webhook_claim_us, self._terms.webhook_batch_max
        )
        if not events:
            return []
        facts = await self._facts(books, events, now_us, {})
        decided = Decided()
        for event in events:
            self._decide(event, facts, decided, now_us)
        await books.update_events([event for event in decided.events if event.webhook != "pending"])
        await books.update_requests(list(decided.changed.values()))
        await books.write_journal([*decided.rows, *decided.journal(facts.requests, now_us)])
        return decided.posts

    async def _facts(
        self, books: Books, events: Sequence[Event], now_us: int, known: Mapping[str, Request]
    ) -> Facts:
        """Load what decides about the events that have somewhere to go; most third parties poll or wait."""
        endpoints = await books.endpoints({event.party for event in events})
        events = [event for event in events if endpoint_for(event, endpoints.get(event.party, []))]
        if not events:
            return Facts(parties={}, endpoints=endpoints, requests={}, places={}, grants={})
        named = {event.request for event in events if event.request}
        requests = {id: known[id] for id in named & known.keys()}
        if missing := named - known.keys():
            requests |= await books.requests(missing)
        pairs = {pair_of(request) for request in requests.values()}
        pairs |= {(event.party, event.service_point) for event in events if event.kind in NOTICE_KINDS}
        return Facts(
            parties=await books.parties({event.party for event in events}),
            endpoints=endpoints,
            requests=requests,
            places=await books.places({place for _, place in pairs}, now_us),
            grants=await books.grants(pairs),
        )

    def _decide(self, event: Event, facts: Facts, decided: Decided, now_us: int) -> None:
        endpoint = endpoint_for(event, facts.endpoints.get(event.party, []))
        if endpoint is None:
            decided.events.append(replace(event, webhook="none"))
            return
        full = endpoint.mode == "full" and bool(endpoint.pin)
        request = decided.changed.get(event.request) or facts.requests.get(event.request)
        try:
            party = way_back.authenticate_target(facts.parties.get(event.party))
            if event.kind in NOTICE_KINDS:
                pair = (event.party, event.service_point)
                access.authorise_notice(
                    event.device, facts.places.get(event.service_point), facts.grants.get(pair), now_us
                )
        except Refused as refusal:
            decided.rows.append(self._refused(event, refusal, now_us))
            decided.events.append(replace(event, webhook="withheld"))
            return
        if event.kind != "request.result" or request is None or not full:
            decided.push(Post(event, endpoint, self._body(event, None, full, now_us), None))
            return
        place, grant = facts.places.get(request.service_point), facts.grants.get(pair_of(request))
        after_it, steps = way_back.hand_over(request, party, place, grant, "webhook", now_us)
        if steps:
            decided.steps.setdefault(request.id, []).extend(steps)
        if after_it is not request:
            decided.changed[request.id] = after_it
        if after_it.answer == "WITHHELD" or (steps and steps[-1].step is Step.WITHHELD):
            decided.events.append(replace(event, webhook="withheld"))
        else:
            decided.push(Post(event, endpoint, self._body(event, after_it, True, now_us), after_it))

    def _body(self, event: Event, request: Request | None, full: bool, now_us: int) -> bytes:
        """Thin by default: what happened to which request, nothing of the home."""
        view = event_view(event)
        if request is not None:
            view["data"] = result_data(request)
        elif event.kind == "request.warning" or event.kind.startswith("access.") or full:
            view["data"] = event.data
        return msgspec.json.encode({"type": event.kind, "timestamp": to_rfc3339(now_us), "data": view})

    def _refused(self, event: Event, refusal: Refused, now_us: int) -> JournalRow:
        step = StepRecord(at_us=now_us, step=Step.WITHHELD, outcome=Outcome.REFUSED, reason=refusal.reason)
        return _row(event, step, now_us)

    async def _push(self, posts: list[Post]) -> None:
        now_us = self._clock.now_us()
        try:
            failures = await self._notifier.push(
                [(post.endpoint, post.event.id, post.body) for post in posts], now_us
            )
            await self._store.write(lambda books: self._close(books, posts, failures))
        except Exception:
            log.exception("webhooks: pushing failed; the claim runs out and they are tried again")

    async def _close(self, books: Books, posts: list[Post], failures: list[str]) -> None:
        now_us = self._clock.now_us()
        carried = {
            post.carries.id
            for post, failure in zip(posts, failures, strict=True)
            if post.carries and not failure
        }
        requests = await books.requests(carried, lock=True) if carried else {}
        events, rows = [], []
        changed: dict[str, Request] = {}
        for post, failure in zip(posts, failures, strict=True):
            events.append(self._after(post.event, failure, now_us))
            request = requests.get(post.event.request)
            if failure:
                step = StepRecord(
                    at_us=now_us, step=Step.UNDELIVERED, outcome=Outcome.FAILED, detail=failure[:300]
                )
                rows.append(_row(post.event, step, now_us))
            elif request is not None:
                changed[request.id], step = way_back.handed_over(request, "webhook", now_us)
                rows.append(way_back.journal_of(request, [step], now_us))
            elif post.event.kind == "request.warning":
                warned = StepRecord(at_us=now_us, step=Step.WARNED, detail="by webhook")
                rows.append(_row(post.event, warned, now_us))
        await books.update_events(events)
        await books.update_requests(list(changed.values()))
        await books.write_journal(rows)

    def _after(self, event: Event, failure: str, now_us: int) -> Event:
        if not failure:
            return replace(event, webhook="done", attempts=event.attempts + 1)
        if now_us - event.created_us >= self._terms.webhook_give_up_us:
            return replace(event, webhook="dead", attempts=event.attempts + 1)
        wait_us = min(self._terms.webhook_max_us, self._terms.webhook_first_us << min(event.attempts, 20))
        wait_us = int(wait_us * (0.5 + self._rng.random() / 2))
        return replace(event, attempts=event.attempts + 1, next_us=now_us + wait_us)


def endpoint_for(event: Event, endpoints: list[Endpoint]) -> Endpoint | None:
    """Return the proved endpoint that takes events of this kind."""
    family = event.kind.split(".")[0]
    for endpoint in endpoints:
        if endpoint.state == "proved" and (event.kind in endpoint.kinds or family in endpoint.kinds):
            return endpoint
    return None


def _row(event: Event, step: StepRecord, now_us: int) -> JournalRow:
    return JournalRow(
        message=event.request or event.id,
        at_us=now_us,
        party=event.party,
        service_point=event.service_point,
        gateway="",
        device=event.device,
        steps=[step],
    )
