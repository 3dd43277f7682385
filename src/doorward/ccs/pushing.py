"""Webhooks: what is due is claimed and recorded as *handing over*, then pushed, then recorded as sent.

At least once, retried for up to three days. Before each push the target is authenticated and authorised
again (S1.12–S1.14); a thin notice carries no customer data, a full push does.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
        self.news = Waiters()
        """Who follows a feed by a stream, by third party."""

    async def add(self, books: Books, events: list[Event]) -> list[Event]:
        """Append to the feeds; what no endpoint takes now is not claimed later. Return them as they went in."""
        if not events:
            return []
        endpoints = await books.endpoints({event.party for event in events})
        added = [
            event if endpoint_for(event, endpoints.get(event.party, [])) else replace(event, webhook="none")
            for event in events
        ]
        await books.add_events(added)
        return added

    def tell(self, events: Sequence[Event]) -> None:
        """These were committed: wake who follows their feeds, and push what is due."""
        if any(event.webhook == "pending" for event in events):
            self._wake.set()
        self.news.tell({event.party for event in events})

    def look(self, parties: Iterable[str] | None = None) -> None:
        """Something may be due, and is news to these third parties (``None``: to anybody)."""
        self._wake.set()
        if parties is None:
            self.news.wake_all()
        else:
            self.news.tell(parties)

    async def run(self, idle_s: float = 1.0) -> None:
        """Push what is due until cancelled; looks at least every ``idle_s``."""
        running: set[asyncio.Task[None]] = set()
        while True:
            posts = await self._claim_safely()
            if posts:
                task = asyncio.get_running_loop().create_task(self._push(posts))
                running.add(task)
                task.add_done_callback(running.discard)
                if len(running) >= 8:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), idle_s)

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
        facts = await self._facts(books, events, now_us)
        posts: list[Post] = []
        done: list[Event] = []
        rows: list[JournalRow] = []
        changed: dict[str, Request] = {}
        for event in events:
            post = self._decide(event, facts, changed, rows, now_us)
            if isinstance(post, Event):
                done.append(post)
            else:
                posts.append(post)
        await books.update_events(done)
        await books.update_requests(list(changed.values()))
        await books.write_journal(rows)
        return posts

    async def _facts(self, books: Books, events: list[Event], now_us: int) -> Facts:
        """Load what decides about the events that have somewhere to go; most third parties poll or wait."""
        endpoints = await books.endpoints({event.party for event in events})
        events = [event for event in events if endpoint_for(event, endpoints.get(event.party, []))]
        if not events:
            return Facts(parties={}, endpoints=endpoints, requests={}, places={}, grants={})
        requests = await books.requests({event.request for event in events if event.request})
        pairs = {pair_of(request) for request in requests.values()}
        pairs |= {(event.party, event.service_point) for event in events if event.kind in NOTICE_KINDS}
        return Facts(
            parties=await books.parties({event.party for event in events}),
            endpoints=endpoints,
            requests=requests,
            places=await books.places({place for _, place in pairs}, now_us),
            grants=await books.grants(pairs),
        )

    def _decide(
        self,
        event: Event,
        facts: Facts,
        changed: dict[str, Request],
        rows: list[JournalRow],
        now_us: int,
    ) -> Post | Event:
        endpoint = endpoint_for(event, facts.endpoints.get(event.party, []))
        if endpoint is None:
            return replace(event, webhook="none")
        full = endpoint.mode == "full" and bool(endpoint.pin)
        request = changed.get(event.request) or facts.requests.get(event.request)
        try:
            party = way_back.authenticate_target(facts.parties.get(event.party))
            if event.kind in NOTICE_KINDS:
                pair = (event.party, event.service_point)
                access.authorise_notice(
                    event.device, facts.places.get(event.service_point), facts.grants.get(pair), now_us
                )
        except Refused as refusal:
            rows.append(self._refused(event, refusal, now_us))
            return replace(event, webhook="withheld")
        if event.kind != "request.result" or request is None or not full:
            return Post(event, endpoint, self._body(event, None, full, now_us), None)
        place, grant = facts.places.get(request.service_point), facts.grants.get(pair_of(request))
        after_it, steps = way_back.hand_over(request, party, place, grant, "webhook", now_us)
        if steps:
            rows.append(way_back.journal_of(after_it, steps, now_us))
        if after_it is not request:
            changed[request.id] = after_it
        if after_it.answer == "WITHHELD" or (steps and steps[-1].step is Step.WITHHELD):
            return replace(event, webhook="withheld")
        return Post(event, endpoint, self._body(event, after_it, True, now_us), after_it)

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
