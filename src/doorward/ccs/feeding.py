"""Pushes to the utility's other systems: what an operator subscribed them to (F40, F41).

A subscription is a place in the one feed. What was taken moves it on; what was not is sent again, in its
order, with what came meanwhile behind it: at least once, never one before another. What is not taken for
three days is passed over, and that is an event of its own. A push is a batch of CloudEvents, signed after
Standard Webhooks.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec
import structlog
from msgspec.structs import replace

from doorward.ccs.ports import AllBooks, Notifier, Store
from doorward.ccs.rules.facts import Endpoint, Event, Party
from doorward.ccs.rules.feed import Subscription, cloud_event, news, wanted
from doorward.ccs.terms import Terms
from doorward.kit.clock import Clock
from doorward.wire.times import to_rfc3339

log = structlog.get_logger(__name__)

MEDIA = "application/cloudevents-batch+json"
LOOK_S = 0.5
"""How often a worker looks whether there is something to push."""
DUE_MAX = 50
"""Subscriptions in one round; all of a round are pushed side by side."""
SCAN_MAX = 500
"""Events that one step of a subscription looks at."""
BATCH_MAX = 100
"""Events in one push."""
WHY_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Page:
    """What a subscription is to be pushed next: where, what, and the place in the feed after it."""

    endpoint: Endpoint | None
    events: Sequence[Event]
    after: str
    """Where the subscription stands once these are taken."""
    why: str = ""
    """Why nothing may be pushed now."""


class Feeding:
    """The pusher of one worker. ``source`` names this CCS in CloudEvents."""

    def __init__(
        self,
        store: Store,
        notifier: Notifier,
        clock: Clock,
        rng: random.Random,
        terms: Terms,
        source: str,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._rng = rng
        self._terms = terms
        self._source = source

    async def run(self) -> None:
        """Push what is due until cancelled."""
        while True:
            more = False
            try:
                more = await self.once()
            except Exception:
                log.exception("the utility's systems could not be told; it is tried again")
            if not more:
                await asyncio.sleep(LOOK_S)

    async def once(self) -> bool:
        """Take one step with every subscription that is due; whether there may be more for one of them."""
        now_us = self._clock.now_us()
        due = await self._store.read(lambda books: books.due_subscriptions(now_us, DUE_MAX))
        return any(await asyncio.gather(*(self._step(each) for each in due)))

    async def _step(self, subscription: Subscription) -> bool:
        page = await self._store.read(lambda books: next_page(books, subscription))
        if page.why or not page.events:
            return await self._pass(subscription, page)
        claimed = replace(subscription, next_us=self._clock.now_us() + self._terms.webhook_claim_us)
        if not await self._store.write(lambda books: books.move_subscription(subscription, claimed)):
            return False
        assert page.endpoint is not None
        now_us = self._clock.now_us()
        body = msgspec.json.encode([cloud_event(each, self._source) for each in page.events])
        post = (page.endpoint, message_id(subscription, page.events), body)
        (failure,) = await self._notifier.push([post], now_us, MEDIA)
        return await self._store.write(lambda books: self._close(books, claimed, page, failure))

    async def _pass(self, subscription: Subscription, page: Page) -> bool:
        """Nothing to push: go on past what is not wanted, or say why nothing can be pushed."""
        after = replace(subscription, cursor=page.after, why=page.why or subscription.why)
        if after == subscription:
            return False
        moved = await self._store.write(lambda books: books.move_subscription(subscription, after))
        return moved and page.after != subscription.cursor

    async def _close(self, books: AllBooks, claimed: Subscription, page: Page, failure: str) -> bool:
        now_us = self._clock.now_us()
        if not failure:
            taken = replace(
                claimed, cursor=page.after, next_us=now_us, attempts=0, failing_since_us=0, why=""
            )
            return await books.move_subscription(claimed, taken)
        failed, lost = self._after_failure(claimed, page, failure[:WHY_CHARS_MAX], now_us)
        if await books.move_subscription(claimed, failed) and lost:
            log.error("a system did not take its events for three days", subscription=claimed.id)
            await books.add_events([undelivered(claimed, lost, failed.why, now_us)])
        return False

    def _after_failure(
        self, claimed: Subscription, page: Page, failure: str, now_us: int
    ) -> tuple[Subscription, list[Event]]:
        """Try again later; events of more than three days ago, tried for three days, are passed over."""
        since_us = claimed.failing_since_us or now_us
        last_us = now_us - self._terms.webhook_give_up_us
        lost: list[Event] = []
        if since_us <= last_us:
            for event in page.events:
                if event.created_us > last_us:
                    break
                lost.append(event)
        wait_us = min(self._terms.webhook_max_us, self._terms.webhook_first_us << min(claimed.attempts, 20))
        failed = replace(
            claimed,
            cursor=lost[-1].cursor if lost else claimed.cursor,
            next_us=now_us + int(wait_us * (0.5 + self._rng.random() / 2)),
            attempts=claimed.attempts + 1,
            failing_since_us=since_us,
            why=failure,
        )
        return failed, lost


async def next_page(books: AllBooks, subscription: Subscription) -> Page:
    """Return what a subscription is to be pushed next, as far as its system may have it now."""
    system = (await books.parties([subscription.system])).get(subscription.system)
    endpoints = (await books.endpoints([subscription.system])).get(subscription.system, [])
    endpoint = next((each for each in endpoints if each.id == subscription.endpoint), None)
    why = _not_now(system, endpoint, subscription)
    if system is None or why:
        return Page(endpoint, [], subscription.cursor, why)
    scanned = await books.everything(subscription.cursor, SCAN_MAX)
    found = [each for each in scanned if wanted(each, subscription.filter, system.scopes)]
    if len(found) > BATCH_MAX:
        found = found[:BATCH_MAX]
        return Page(endpoint, found, found[-1].cursor)
    return Page(endpoint, found, scanned[-1].cursor if scanned else subscription.cursor)


def _not_now(system: Party | None, endpoint: Endpoint | None, subscription: Subscription) -> str:
    if system is None or system.kind != "system" or system.state != "active":
        return f"{subscription.system} is no system that may be told now"
    if endpoint is None:
        return f"{subscription.system} has no endpoint {subscription.endpoint!r} yet"
    if endpoint.state != "proved":
        return f"the endpoint {endpoint.id!r} has not proved itself yet"
    return ""


def message_id(subscription: Subscription, events: Sequence[Event]) -> str:
    """Return the id of a push: the same batch sent again has the same."""
    named = "\0".join((subscription.id, events[0].id, events[-1].id))
    return f"batch-{sha256(named.encode()).hexdigest()[:32]}"


def undelivered(subscription: Subscription, lost: Sequence[Event], why: str, now_us: int) -> Event:
    """Return the word that a system did not get some events: it can still read them by their cursors."""
    return news(
        "subscription.undelivered",
        now_us,
        data={
            "subscription": subscription.id,
            "system": subscription.system,
            "after": subscription.cursor,
            "last": lost[-1].cursor,
            "count": len(lost),
            "from": to_rfc3339(lost[0].created_us),
            "until": to_rfc3339(lost[-1].created_us),
            "why": why,
        },
    )
