"""What the utility's other systems may read and set (F17, F39–F41, S3.08): each call in one transaction.

A system is a client of its own kind: its tokens are for this door alone, and each of its scopes opens one
part. It reads what everybody asked and what became of it, never the customers' data in an answer.

A list is a *page*: newest first, filtered, at most so many rows looked at. A page may be empty and still have
a ``next``: then what is asked for is further back.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from doorward.ccs.callers import authenticate_one
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import JournalRow, LinkKind, Request
from doorward.ccs.rules.feed import KIND_NAMES, SCOPES, Filter, Subscription, cloud_event, wanted
from doorward.ccs.rules.homes import AccessChange
from doorward.ccs.rules.identity import Caller, TokenReader, require_one_of
from doorward.ccs.sentences import sentence
from doorward.ccs.views import View, journey_view, request_view, when
from doorward.kit.ids import before_uuid7
from doorward.wire.reasons import Reason, Refused

T = TypeVar("T")

SCAN_MAX = 2_000
"""Rows that one page looks at."""
DAYS_MAX = 31
"""Days of the journal that one page goes back."""
DAY_US = 86_400_000_000
AFTER_ALL = "~"
SUBSCRIPTIONS_MAX = 500
NOW = "now"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for; empty lets everything pass. ``after`` is the ``next`` of a page."""

    since_us: int = 0
    until_us: int = 0
    service_point: str = ""
    gateway: str = ""
    party: str = ""
    kind: str = ""
    state: str = ""
    after: str = ""
    limit: int = 100

    @property
    def low(self) -> str:
        """The id from which on."""
        return before_uuid7(self.since_us) if self.since_us else ""

    @property
    def high(self) -> str:
        """The id before which."""
        until = before_uuid7(self.until_us) if self.until_us else AFTER_ALL
        return min(self.after, until) if self.after else until


class Source(Protocol):
    """A list that another part of the CCS keeps (tests, alarms, orders)."""

    def __call__(self, books: AllBooks, asked: Asked, /) -> Awaitable["Page"]:
        """Return a page of it, newest first."""
        ...


class Page(msgspec.Struct, frozen=True):
    """Views, and where to go on; ``""`` when there is no more."""

    items: list[View]
    next: str = ""


SOURCES: dict[str, tuple[str, Source]] = {}
"""Further lists by name → (scope, list): ``/utility/v1/{name}``. This is where a kind is added."""


class Systems:
    """The reads and settings of the utility's other systems. ``source`` names this CCS in CloudEvents."""

    def __init__(self, journey: Journey, tokens: TokenReader, source: str) -> None:
        self._journey = journey
        self.tokens = tokens
        self._source = source

    async def _as(self, token: str, scope: str, step: Callable[[AllBooks, Caller], Awaitable[T]]) -> T:
        """Run a read for whoever ``token`` stands for now; with ``scope`` ``""`` any scope of this door will do."""

        async def read(books: AllBooks) -> T:
            return await step(books, await self._caller(books, token, scope))

        return await self._journey.store.read(read)

    async def _caller(self, books: AllBooks, token: str, scope: str = "") -> Caller:
        caller = await authenticate_one(books, self.tokens, token, self._journey.clock.now_us())
        require_one_of(caller, (scope,) if scope else SCOPES)
        return caller

    # ---- what everybody asked ------------------------------------------------------------------------

    async def requests(self, token: str, asked: Asked) -> Page:
        """Return requests of all third parties."""

        async def read(books: AllBooks, _: Caller) -> Page:
            points = await _points(books, asked)
            found = await books.all_requests(
                asked.low, asked.high, SCAN_MAX, party=asked.party if points is None else "", points=points
            )
            return _page(found, asked, _is_asked, lambda each: each.id, request_of)

        return await self._as(token, "requests.read", read)

    async def request(self, token: str, id: str) -> View:
        """Return one request; raise ``not-found``."""

        async def read(books: AllBooks, _: Caller) -> View:
            found = (await books.requests([id])).get(id)
            if found is None:
                raise Refused(Reason.NOT_FOUND)
            return request_of(found)

        return await self._as(token, "requests.read", read)

    async def journey(self, token: str, id: str) -> View:
        """Return every step of a message, a refused attempt and a notice included; raise ``not-found``."""

        async def read(books: AllBooks, _: Caller) -> View:
            rows = await books.journal(id)
            request = (await books.requests([id])).get(id)
            if request is not None:
                return journey_view(request, rows)
            if not rows:
                raise Refused(Reason.NOT_FOUND)
            return {"request": None, "rows": [row_of(row) for row in rows]}

        return await self._as(token, "journals.read", read)

    async def journals(self, token: str, asked: Asked) -> Page:
        """Return rows of the journal (F17), newest message first; ``after`` is a message's id."""

        async def read(books: AllBooks, _: Caller) -> Page:
            now_us = self._journey.clock.now_us()
            rows, following = await _journal_rows(books, asked, now_us)
            found = [row for row in rows if _row_is_asked(row, asked)]
            if len(found) > asked.limit:
                following = found[asked.limit - 1].message
                found = [row for row in found if row.message >= following]
            return Page([row_of(row) for row in found], following)

        return await self._as(token, "journals.read", read)

    async def provisioning(self, token: str, asked: Asked) -> Page:
        """Return receipts of changes of access (S3.08), with what the gateways said of them."""

        async def read(books: AllBooks, _: Caller) -> Page:
            points = await _points(books, asked)
            found = await books.all_changes(asked.low, asked.high, SCAN_MAX, points=points)
            return _page(found, asked, _change_is_asked, lambda each: each.id, change_of)

        return await self._as(token, "provisioning.read", read)

    async def further(self, token: str, name: str, asked: Asked) -> Page:
        """Return a page of a list that another part keeps; raise ``not-found`` for one that nobody keeps."""
        scope, source = SOURCES[name]

        async def read(books: AllBooks, _: Caller) -> Page:
            return await source(books, asked)

        return await self._as(token, scope, read)

    # ---- what happened -------------------------------------------------------------------------------

    async def start(self, token: str, after: str, since_us: int = 0) -> str:
        """Return the place in the feed to go on from: a cursor, ``now``, or a time."""

        async def read(books: AllBooks, _: Caller) -> str:
            return await place(books, after, since_us)

        return await self._as(token, "", read)

    async def events(self, token: str, after: str, filter: Filter, limit: int) -> tuple[list[View], str]:
        """Return events after a cursor, oldest first, and the cursor to go on from.

        A kind that the token's scopes do not open is left out.
        """
        check_kinds(filter.kinds)

        async def read(books: AllBooks, caller: Caller) -> tuple[list[View], str]:
            scanned = await books.everything(after, SCAN_MAX)
            found = [each for each in scanned if wanted(each, filter, caller.scopes)]
            following = scanned[-1].cursor if scanned else after
            if len(found) > limit:
                found = found[:limit]
                following = found[-1].cursor
            return [cloud_event(each, self._source) for each in found], following

        return await self._as(token, "", read)

    # ---- who is told what ----------------------------------------------------------------------------

    async def subscriptions(self, token: str) -> View:
        """Return the caller's own subscriptions; all of them to one that manages them."""

        async def read(books: AllBooks, caller: Caller) -> View:
            manages = "subscriptions.manage" in caller.scopes
            listed = await books.subscriptions()
            return {
                "items": [
                    subscription_view(each) for each in listed if manages or each.system == caller.party.id
                ]
            }

        return await self._as(token, "", read)

    async def put_subscription(self, token: str, id: str, body: "SubscriptionBody") -> View:
        """Set who is told what; it goes on from where it stood, a new one from now."""
        check_kinds(body.kinds)

        async def write(books: AllBooks) -> View:
            await self._caller(books, token, "subscriptions.manage")
            return subscription_view(await put_subscription(books, id, body))

        return await self._journey.store.write(write)

    async def delete_subscription(self, token: str, id: str) -> None:
        """Remove a subscription; raise ``not-found``."""

        async def write(books: AllBooks) -> None:
            await self._caller(books, token, "subscriptions.manage")
            if not await books.delete_subscriptions([id]):
                raise Refused(Reason.NOT_FOUND)

        await self._journey.store.write(write)

    async def replay(self, token: str, id: str, after: str, since_us: int) -> View:
        """Push again from a place on (or go on to ``now``); raise ``not-found``.

        A system may do so with its own subscriptions.
        """

        async def write(books: AllBooks) -> View:
            caller = await self._caller(books, token)
            found = {each.id: each for each in await books.subscriptions()}.get(id)
            manages = "subscriptions.manage" in caller.scopes
            if found is None or not (manages or found.system == caller.party.id):
                raise Refused(Reason.NOT_FOUND)
            return subscription_view(await replay(books, found, after, since_us))

        return await self._journey.store.write(write)


class SubscriptionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription as an operator writes it; ``kinds`` are kinds or families, empty for all."""

    system: str
    kinds: list[str] = []
    party: str = ""
    service_point: str = ""
    gateway: str = ""
    failed_only: bool = False
    endpoint: str = ""
    state: Literal["active", "paused"] = "active"


async def place(books: AllBooks, after: str, since_us: int = 0) -> str:
    """Return a place in the feed: of a cursor, of ``now``, of a time (a little before it, for what came late)."""
    if since_us:
        return await books.everything_since(before_uuid7(since_us))
    return await books.everything_end() if after == NOW else after


async def put_subscription(books: AllBooks, id: str, body: SubscriptionBody) -> Subscription:
    """Insert or change a subscription; raise ``body-malformed``."""
    system = (await books.parties([body.system])).get(body.system)
    if system is None or system.kind != "system":
        raise Refused(Reason.BODY_MALFORMED, f"there is no system {body.system!r}", field="/system")
    known = {each.id: each for each in await books.subscriptions()}
    before = known.get(id)
    if before is None and len(known) >= SUBSCRIPTIONS_MAX:
        raise Refused(Reason.BODY_MALFORMED, f"there are {SUBSCRIPTIONS_MAX} subscriptions; remove one first")
    cursor = await books.everything_end() if before is None else before.cursor
    wanted_now = Subscription(id=id, cursor=cursor, **msgspec.structs.asdict(body))
    await books.put_subscriptions([wanted_now])
    return wanted_now


async def replay(books: AllBooks, found: Subscription, after: str, since_us: int) -> Subscription:
    """Move a subscription to another place of the feed; it is pushed from there at once."""
    cursor = await place(books, after, since_us)
    await books.everything(cursor, 1)  # a cursor that is none is refused
    moved = replace(found, cursor=cursor, next_us=0, attempts=0, failing_since_us=0, why="")
    await books.put_subscriptions([moved])
    return moved


def check_kinds(kinds: Collection[str]) -> None:
    """Raise ``body-malformed`` for a kind that there is not."""
    unknown = sorted(set(kinds) - KIND_NAMES)
    if unknown:
        known = ", ".join(sorted(KIND_NAMES))
        raise Refused(Reason.BODY_MALFORMED, f"no kind {unknown[0]!r}; kinds are {known}", field="/kinds")


# ---- pages -----------------------------------------------------------------------------------------------


def _page(
    scanned: Sequence[T],
    asked: Asked,
    is_asked: Callable[[T, Asked], bool],
    id_of: Callable[[T], str],
    view: Callable[[T], View],
) -> Page:
    """Return the rows that are asked for, of those that were looked at."""
    items: list[View] = []
    for each in scanned:
        if is_asked(each, asked):
            items.append(view(each))
            if len(items) == asked.limit:
                return Page(items, id_of(each))
    return Page(items, id_of(scanned[-1]) if len(scanned) == SCAN_MAX else "")


async def _points(books: AllBooks, asked: Asked) -> list[str] | None:
    """Return the service points that are asked for: the one named, or those that a gateway served, ever."""
    if asked.service_point:
        return [asked.service_point]
    if not asked.gateway:
        return None
    served = await books.links(LinkKind.SERVICE_POINT_GATEWAY, b=[asked.gateway])
    return sorted({link.a for link in served})


async def _journal_rows(books: AllBooks, asked: Asked, now_us: int) -> tuple[list[JournalRow], str]:
    """Return rows looked at, and the message before which the next page begins."""
    last = _day(asked.high, now_us)
    first = max(asked.since_us // DAY_US, last - DAYS_MAX + 1)
    rows: list[JournalRow] = []
    for day in range(last, first - 1, -1):
        room = SCAN_MAX - len(rows)
        of_day = await books.journal_of_day(day, asked.low, asked.high, room)
        if len(of_day) == room:
            return _whole_messages(rows + of_day)
        rows += of_day
        if sum(_row_is_asked(row, asked) for row in rows) >= asked.limit:
            return rows, before_uuid7(day * DAY_US)
    oldest = await books.oldest_day()
    more = oldest is not None and oldest < first and asked.since_us < first * DAY_US
    return rows, before_uuid7(first * DAY_US) if more else ""


def _whole_messages(rows: list[JournalRow]) -> tuple[list[JournalRow], str]:
    """Leave the last message, of which there may be more rows, to the next page."""
    last = rows[-1].message
    whole = [row for row in rows if row.message != last]
    return (whole, whole[-1].message) if whole else (rows, last)


def _day(high: str, now_us: int) -> int:
    """Return the day (since 1970) of the newest id that is asked for."""
    if high == AFTER_ALL:
        return now_us // DAY_US + 1
    try:
        return int(high[:8] + high[9:13], 16) * 1000 // DAY_US
    except ValueError:
        raise Refused(Reason.BODY_MALFORMED, "this is no 'next' of a page", field="/after") from None


def _is_asked(request: Request, asked: Asked) -> bool:
    return (
        (not asked.party or request.party == asked.party)
        and (not asked.gateway or request.gateway == asked.gateway)
        and (not asked.kind or request.operation == asked.kind)
        and (not asked.state or request.state == asked.state)
    )


def _change_is_asked(change: AccessChange, asked: Asked) -> bool:
    return (
        (not asked.party or change.party == asked.party)
        and (not asked.gateway or change.gateway == asked.gateway)
        and (not asked.kind or change.kind == asked.kind)
        and (not asked.state or state_of(change) == asked.state)
    )


def _row_is_asked(row: JournalRow, asked: Asked) -> bool:
    return (
        (not asked.party or row.party == asked.party)
        and (not asked.gateway or row.gateway == asked.gateway)
        and (not asked.service_point or row.service_point == asked.service_point)
        and (not asked.kind or any(step.step == asked.kind for step in row.steps))
        and (not asked.state or any(step.outcome == asked.state for step in row.steps))
    )


# ---- views -----------------------------------------------------------------------------------------------


def request_of(request: Request) -> View:
    """Return a request without what its device answered."""
    view = request_view(request)
    del view["result"], view["key"]
    view["third_party"] = request.party
    view["gateway"] = request.gateway
    view["tier"] = request.tier
    view["links"] = {
        "self": f"/utility/v1/requests/{request.id}",
        "journey": f"/utility/v1/messages/{request.id}/journey",
    }
    return view


def row_of(row: JournalRow) -> View:
    """Return a row of the journal."""
    return {
        "message": row.message,
        "at": when(row.at_us),
        "third_party": row.party or None,
        "service_point": row.service_point or None,
        "gateway": row.gateway or None,
        "device": row.device or None,
        "steps": [
            {
                "at": when(step.at_us),
                "step": step.step,
                "actor": step.actor,
                "outcome": step.outcome,
                "reason": step.reason,
                "detail": step.detail,
                "sentence": sentence(step),
            }
            for step in row.steps
        ],
    }


def state_of(change: AccessChange) -> str:
    """Return how far a change of access has come: ``pending``, ``confirmed`` by the gateway, or ``failed``."""
    if change.failed:
        return "failed"
    return "confirmed" if change.applied_us else "pending"


def change_of(change: AccessChange) -> View:
    """Return a receipt, without the name of who asked for it."""
    return {
        "id": change.id,
        "kind": change.kind,
        "state": state_of(change),
        "third_party": change.party,
        "service_point": change.service_point,
        "grant": change.grant,
        "version": change.version,
        "asked": when(change.asked_us),
        "decided": when(change.at_us),
        "by_role": change.by_role or change.by,
        "why": change.why,
        "words": change.words,
        "contract": change.contract or None,
        "gateway": change.gateway or None,
        "gateway_version": change.gateway_version,
        "confirmed": when(change.applied_us),
        "failed": change.failed,
    }


def subscription_view(subscription: Subscription) -> View:
    """Return a subscription and how it goes."""
    return {
        "id": subscription.id,
        "system": subscription.system,
        "kinds": subscription.kinds,
        "party": subscription.party,
        "service_point": subscription.service_point,
        "gateway": subscription.gateway,
        "failed_only": subscription.failed_only,
        "endpoint": subscription.endpoint,
        "state": subscription.state,
        "cursor": subscription.cursor,
        "attempts": subscription.attempts,
        "failing_since": when(subscription.failing_since_us),
        "why": subscription.why,
    }
