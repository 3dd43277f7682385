"""What the utility's other systems read of everybody's, the one feed of all events, and subscriptions."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, Update, delete, select, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Flavour, Statement, exactly, number, putting, words
from doorward.ccs.engines.store.accept import REQUEST
from doorward.ccs.engines.store.agreements import CHANGE
from doorward.ccs.engines.store.back import EVENT, cursor_at, event_of, place_of
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.chain import JOURNAL
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.facts import Event, JournalRow, Request
from doorward.ccs.rules.feed import Subscription
from doorward.ccs.rules.homes import AccessChange

SUBSCRIPTION = RowsOf(Subscription, t.subscription)
_e, _j, _s = t.event.c, t.journal.c, t.subscription.c
_FEED_COLUMNS = (*EVENT.columns, _e.xact, _e.seq)


def _newest(table: Any, columns: Sequence[Any], *more: Any) -> Select[Any]:
    """Newest first between two ids: from the first on, before the second."""
    return (
        select(*columns)
        .where(table.c.id >= words("since"), table.c.id < words("before"), *more)
        .order_by(table.c.id.desc())
        .limit(number("limit"))
    )


def _all(table: Any, columns: Sequence[Any]) -> Statement:
    return Statement(lambda _: _newest(table, columns), "since", "before", "limit")


def _of_party(table: Any, columns: Sequence[Any]) -> Statement:
    mine = table.c.party == words("party")
    return Statement(lambda _: _newest(table, columns, mine), "since", "before", "limit", "party")


def _at(table: Any, columns: Sequence[Any]) -> Statement:
    return Statement(
        lambda f: _newest(table, columns, f.any_of(table.c.service_point, "points")),
        "since",
        "before",
        "limit",
        "points",
    )


ALL_REQUESTS = _all(t.request, REQUEST.columns)
REQUESTS_OF = _of_party(t.request, REQUEST.columns)
REQUESTS_AT_ALL = _at(t.request, REQUEST.columns)
ALL_CHANGES = _all(t.access_change, CHANGE.columns)
CHANGES_AT_ALL = _at(t.access_change, CHANGE.columns)
JOURNAL_OF_DAY = Statement(
    lambda _: (
        select(*JOURNAL.columns)
        .where(_j.day == number("day"), _j.message >= words("since"), _j.message < words("before"))
        .order_by(_j.message.desc(), _j.seq.desc())
        .limit(number("limit"))
    ),
    "day",
    "since",
    "before",
    "limit",
)


def _everything(flavour: Flavour) -> Select[Any]:
    settled = flavour.settled()
    bounds = [] if settled is None else [settled]
    return (
        select(*_FEED_COLUMNS)
        .where(flavour.beyond(_e.xact, _e.seq), *bounds)
        .order_by(_e.xact, _e.seq)
        .limit(number("limit"))
    )


def _end(flavour: Flavour) -> Select[Any]:
    settled = flavour.settled()
    bounds = [] if settled is None else [settled]
    newest = (_e.xact.desc(), _e.seq.desc())
    return select(_e.xact, _e.seq).where(*bounds).order_by(*newest).limit(number("limit"))


EVERYTHING = Statement(_everything, "xact", "seq", "limit")
END = Statement(_end, "limit")
FIRST_SINCE = Statement(
    lambda _: select(_e.xact, _e.seq).where(_e.id >= words("since")).order_by(_e.id).limit(exactly(1)),
    "since",
)
SUBSCRIPTIONS = Statement(lambda _: select(*SUBSCRIPTION.columns).order_by(_s.id))
DUE_SUBSCRIPTIONS = Statement(
    lambda _: (
        select(*SUBSCRIPTION.columns)
        .where(_s.state == exactly("active"), _s.endpoint != exactly(""), _s.next_us <= number("now"))
        .order_by(_s.next_us)
        .limit(number("limit"))
    ),
    "now",
    "limit",
)
PUT_SUBSCRIPTIONS = putting(t.subscription, SUBSCRIPTION.names, "id")
DELETE_SUBSCRIPTIONS = Statement(lambda f: delete(t.subscription).where(f.any_of(_s.id, "ids")), "ids")


def _moved(_: Flavour) -> Update:
    """How far one has come, unless somebody else has moved it since it was read."""
    return (
        update(t.subscription)
        .where(_s.id == words("id"), _s.next_us == number("was_us"), _s.cursor == words("was"))
        .values(
            cursor=words("place"),
            next_us=number("next"),
            attempts=number("tries"),
            failing_since_us=number("failing"),
            why=words("reason"),
        )
    )


MOVE_SUBSCRIPTION = Statement(_moved, "id", "was_us", "was", "place", "next", "tries", "failing", "reason")

_subscription_row = SUBSCRIPTION.dumper()


class Systems(Part):
    """Of everybody: what the utility's other systems read and are told."""

    async def all_requests(
        self, since: str, before: str, limit: int, *, party: str = "", points: Collection[str] | None = None
    ) -> list[Request]:
        """Requests between two ids, newest first: of all, of a party, or at some service points."""
        if points is not None:
            rows = await self._on.rows(REQUESTS_AT_ALL, since, before, limit, points)
        elif party:
            rows = await self._on.rows(REQUESTS_OF, since, before, limit, party)
        else:
            rows = await self._on.rows(ALL_REQUESTS, since, before, limit)
        return [REQUEST.load(row) for row in rows]

    async def all_changes(
        self, since: str, before: str, limit: int, *, points: Collection[str] | None = None
    ) -> list[AccessChange]:
        """Changes of access between two ids, newest first."""
        if points is not None:
            rows = await self._on.rows(CHANGES_AT_ALL, since, before, limit, points)
        else:
            rows = await self._on.rows(ALL_CHANGES, since, before, limit)
        return [CHANGE.load(row) for row in rows]

    async def journal_of_day(self, day: int, since: str, before: str, limit: int) -> list[JournalRow]:
        """Rows of messages of a day (since 1970) between two message ids, newest first."""
        return [JOURNAL.load(row) for row in await self._on.rows(JOURNAL_OF_DAY, day, since, before, limit)]

    async def everything(self, after: str, limit: int) -> list[Event]:
        """Events of all after a cursor, oldest first, never skipping one that commits late."""
        return [event_of(row) for row in await self._on.rows(EVERYTHING, *place_of(after), limit)]

    async def everything_end(self) -> str:
        """The cursor after which there is no event yet."""
        rows = await self._on.rows(END, 1)
        return cursor_at(*rows[0]) if rows else ""

    async def everything_since(self, since: str) -> str:
        """The cursor right before the first event whose id is not less; the end where there is none."""
        rows = await self._on.rows(FIRST_SINCE, since)
        if not rows:
            return await self.everything_end()
        xact, seq = rows[0]
        return cursor_at(xact, seq - 1)

    async def subscriptions(self) -> list[Subscription]:
        """All subscriptions by id."""
        return [SUBSCRIPTION.load(row) for row in await self._on.rows(SUBSCRIPTIONS)]

    async def due_subscriptions(self, now_us: int, limit: int) -> list[Subscription]:
        """Those to look at for a push."""
        return [SUBSCRIPTION.load(row) for row in await self._on.rows(DUE_SUBSCRIPTIONS, now_us, limit)]

    async def put_subscriptions(self, subscriptions: Sequence[Subscription]) -> None:
        """Insert or replace by id."""
        await self._on.many(PUT_SUBSCRIPTIONS, [_subscription_row(each) for each in subscriptions])

    async def delete_subscriptions(self, ids: Collection[str]) -> int:
        """Remove some; how many there were."""
        return await self._on.do(DELETE_SUBSCRIPTIONS, ids)

    async def move_subscription(self, was: Subscription, now: Subscription) -> bool:
        """Write how far one has come, unless it was moved or claimed since; whether it was written."""
        moved = (now.cursor, now.next_us, now.attempts, now.failing_since_us, now.why)
        return await self._on.do(MOVE_SUBSCRIPTION, was.id, was.next_us, was.cursor, *moved) > 0
