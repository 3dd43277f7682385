"""What the customer service system said, and which homes are protected because of it."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import delete, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import SKIP, Statement, exactly, inserting, locked, number, putting, words
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.css import CssEvent, CustomerFlag, Flag, Mark

EVENT = RowsOf(CssEvent, t.css_event)
FLAG = RowsOf(CustomerFlag, t.customer_flag)
_e = t.css_event.c

BEGIN_MARK = inserting(t.css_mark, ("subject", "at_us", "sequence"), SKIP)
LOCK_MARK = Statement(
    lambda _: locked(
        select(t.css_mark.c.at_us, t.css_mark.c.sequence).where(t.css_mark.c.subject == words("subject"))
    ),
    "subject",
)
PUT_MARK = putting(t.css_mark, ("subject", "at_us", "sequence"), "subject")
PUT_EVENTS = putting(t.css_event, EVENT.names, "id")
EVENT_BY_KEY = Statement(
    lambda _: select(*EVENT.columns).where(_e.system == words("system"), _e.key == words("key")),
    "system",
    "key",
)
WAITING = Statement(
    lambda _: locked(
        select(*EVENT.columns)
        .where(_e.settled_us == exactly(0), _e.id > words("after"))
        .order_by(_e.id)
        .limit(number("limit")),
        skip=True,
    ),
    "after",
    "limit",
)
FLAGS = Statement(
    lambda f: (
        select(*FLAG.columns)
        .where(f.any_of(t.customer_flag.c.customer, "customers"))
        .order_by(t.customer_flag.c.customer, t.customer_flag.c.kind)
    ),
    "customers",
)
PUT_FLAGS = inserting(t.customer_flag, FLAG.names, SKIP)
END_FLAG = Statement(
    lambda _: delete(t.customer_flag).where(
        t.customer_flag.c.customer == words("customer"), t.customer_flag.c.kind == words("kind")
    ),
    "customer",
    "kind",
)
PROTECTED = Statement(
    lambda f: select(t.protected.c.service_point, t.protected.c.kinds).where(
        f.any_of(t.protected.c.service_point, "points")
    ),
    "points",
)
PROTECT = putting(t.protected, ("service_point", "kinds"), "service_point")
UNPROTECT = Statement(
    lambda f: delete(t.protected).where(f.any_of(t.protected.c.service_point, "points")), "points"
)

_event_row, _flag_row = EVENT.dumper(), FLAG.dumper()


class CustomerService(Part):
    """:class:`~doorward.ccs.ports.CssBooks`."""

    async def lock_css_mark(self, subject: str) -> Mark:
        """The newest that is known of a subject, locked; an unknown one begins at nothing."""
        await self._on.many(BEGIN_MARK, [(subject, 0, 0)])
        ((at_us, sequence),) = await self._on.rows(LOCK_MARK, subject)
        return Mark(at_us=at_us, sequence=sequence)

    async def put_css_mark(self, subject: str, mark: Mark) -> None:
        """Say what is the newest of a subject now."""
        await self._on.many(PUT_MARK, [(subject, mark.at_us, mark.sequence)])

    async def css_event(self, system: str, key: str) -> CssEvent | None:
        """An event by the id that its system gave it."""
        rows = await self._on.rows(EVENT_BY_KEY, system, key)
        return EVENT.load(rows[0]) if rows else None

    async def put_css_events(self, events: Sequence[CssEvent]) -> None:
        """Insert or replace events."""
        await self._on.many(PUT_EVENTS, [_event_row(event) for event in events])

    async def css_waiting(self, after: str, limit: int) -> list[CssEvent]:
        """Events after an id that wait for confirmations, locked; those that others hold are skipped."""
        return [EVENT.load(row) for row in await self._on.rows(WAITING, after, limit)]

    async def customer_flags(self, customers: Collection[str]) -> list[CustomerFlag]:
        """Flags of customers."""
        return [FLAG.load(row) for row in await self._on.rows(FLAGS, customers)]

    async def put_customer_flags(self, flags: Sequence[CustomerFlag]) -> None:
        """Set flags; one that is set stays as it is."""
        await self._on.many(PUT_FLAGS, [_flag_row(flag) for flag in flags])

    async def end_customer_flag(self, customer: str, kind: Flag) -> None:
        """Take a flag off."""
        await self._on.do(END_FLAG, customer, kind)

    async def protected(self, service_points: Collection[str]) -> dict[str, list[str]]:
        """Protected homes among these, and the flags because of which."""
        rows = await self._on.rows(PROTECTED, service_points)
        return {point: kinds.split() for point, kinds in rows}

    async def put_protected(self, service_points: Mapping[str, Collection[str]]) -> None:
        """Say for each home by which flags it is protected; by none: not any more."""
        kept = {point: " ".join(sorted(kinds)) for point, kinds in service_points.items() if kinds}
        await self._on.many(PROTECT, sorted(kept.items()))
        await self._on.do(UNPROTECT, set(service_points) - set(kept))
