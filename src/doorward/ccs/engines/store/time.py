"""What time does: deadlines, warnings, answers that nobody took, and house-keeping."""

from typing import Any

from sqlalchemy import ColumnElement, Select, delete, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Statement, exactly, locked, number
from doorward.ccs.engines.store.accept import REQUEST
from doorward.ccs.engines.store.base import DAY_US, Part
from doorward.ccs.rules.facts import Request

_c = t.request.c
PARTITIONS_AHEAD_DAYS = 7


def _oldest(by: ColumnElement[int], *where: ColumnElement[bool]) -> Select[Any]:
    statement = select(*REQUEST.columns).where(*where).order_by(by).limit(number("limit"))
    return locked(statement, skip=True)


DUE = Statement(
    lambda _: _oldest(_c.due_us, _c.final_us == exactly(0), _c.due_us <= number("now")), "now", "limit"
)
TO_WARN = Statement(
    lambda _: _oldest(
        _c.warn_us, _c.final_us == exactly(0), _c.warn_us != exactly(0), _c.warn_us <= number("now")
    ),
    "now",
    "limit",
)
UNDELIVERED = Statement(
    lambda _: _oldest(
        _c.final_us, _c.final_us != exactly(0), _c.answer == exactly(""), _c.final_us < number("before")
    ),
    "before",
    "limit",
)
PRUNE_TOKENS = Statement(
    lambda _: delete(t.revoked_token).where(t.revoked_token.c.until_us < number("now")), "now"
)
PRUNE_PROOFS = Statement(lambda _: delete(t.proof).where(t.proof.c.until_us < number("now")), "now")
PRUNE_WORKERS = Statement(lambda _: delete(t.worker).where(t.worker.c.until_us < number("before")), "before")


class Time(Part):
    """Scans that anyone may run: what one takes, another skips."""

    async def due(self, now_us: int, limit: int) -> list[Request]:
        """Requests that are not final and whose ``due_us`` has passed, locked."""
        return [REQUEST.load(row) for row in await self._on.rows(DUE, now_us, limit)]

    async def to_warn(self, now_us: int, limit: int) -> list[Request]:
        """Requests that are not final and whose ``warn_us`` has passed, locked."""
        return [REQUEST.load(row) for row in await self._on.rows(TO_WARN, now_us, limit)]

    async def undelivered(self, before_us: int, limit: int) -> list[Request]:
        """Final requests with no answer whose ``final_us`` is before ``before_us``, locked."""
        return [REQUEST.load(row) for row in await self._on.rows(UNDELIVERED, before_us, limit)]

    async def prune_proofs(self, now_us: int) -> int:
        """Forget one-time ids that nobody could use any more; how many."""
        return await self._on.do(PRUNE_PROOFS, now_us)

    async def prune(self, now_us: int) -> int:
        """Drop what no rule can need any more, and see that the journal has room for the days to come."""
        gone = await self._on.do(PRUNE_TOKENS, now_us) + await self.prune_proofs(now_us)
        gone += await self._on.do(PRUNE_WORKERS, now_us - DAY_US)
        today = now_us // DAY_US
        await self._on.make_room(range(today, today + PARTITIONS_AHEAD_DAYS + 1))
        return gone
