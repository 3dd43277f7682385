"""Accepting: idempotency keys, exact limits, and the request itself."""

import sys
from array import array
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import SKIP, Flavour, Row, Statement, exactly, inserting, locked, updating
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.ports import Pair
from doorward.ccs.rules.facts import LimitLog, Request

REQUEST = RowsOf(Request, t.request)
MS = 1000

BY_KEY = Statement(
    lambda f: select(*REQUEST.columns).where(
        f.any_pair(t.request.c.party, t.request.c.key, "pairs"),
        t.request.c.key != exactly(""),  # what the unique index says of itself
    ),
    "pairs",
)
INSERT_REQUESTS = inserting(t.request, REQUEST.names, SKIP, returning="id")

MAKE_LIMITS = inserting(t.limit_log, ("key", "times"), SKIP)


def _limits(flavour: Flavour) -> Select[Any]:
    return select(t.limit_log).where(flavour.any_of(t.limit_log.c.key, "keys")).order_by(t.limit_log.c.key)


LOCK_LIMITS = Statement(lambda f: locked(_limits(f)), "keys")
READ_LIMITS = Statement(_limits, "keys")
WRITE_LIMITS = updating(t.limit_log, "key", ("last_us", "base_us", "times"))

_request_row = REQUEST.dumper()


def pack(times_us: Sequence[int]) -> tuple[int, bytes]:
    """Ascending charge times as a base and milliseconds after it in 32 bits (49 days); raise ``ValueError``
    for a time that is not a whole millisecond."""
    if not times_us:
        return 0, b""
    base = times_us[0]
    offsets = array("I", [(at - base) // MS for at in times_us])
    # Remainders are never negative: the sums agree only if there are none.
    if base % MS or sum(times_us) != base * len(times_us) + MS * sum(offsets):
        raise ValueError("charge times are whole milliseconds")
    if sys.byteorder == "big":
        offsets.byteswap()
    return base, offsets.tobytes()


def unpack(base_us: int, packed: bytes) -> list[int]:
    """Undo :func:`pack`."""
    offsets = array("I")
    offsets.frombytes(packed)
    if sys.byteorder == "big":
        offsets.byteswap()
    return [base_us + offset * MS for offset in offsets]


def _log(row: Row) -> LimitLog:
    key, last_us, base_us, packed = row
    return LimitLog(key=key, times_us=unpack(base_us, packed), last_us=last_us)


class Accepting(Part):
    """What the transaction that accepts writes."""

    async def requests_by_key(self, pairs: Collection[Pair]) -> dict[Pair, Request]:
        """Requests by (party, idempotency key)."""
        keyed = [pair for pair in pairs if pair[1]]
        if not keyed:
            return {}
        requests = [REQUEST.load(row) for row in await self._on.rows(BY_KEY, keyed)]
        return {(request.party, request.key): request for request in requests}

    async def lock_limits(self, keys: Collection[str]) -> dict[str, LimitLog]:
        """Limit logs, row-locked in sorted order. Missing rows are made, so that there is a row to lock: of
        two transactions that begin the same key, the second waits for the first."""
        ordered = sorted(keys)
        logs = _logs(await self._on.rows(LOCK_LIMITS, ordered))
        if new := [key for key in ordered if key not in logs]:
            await self._on.many(MAKE_LIMITS, [(key, b"") for key in new])
            logs |= _logs(await self._on.rows(LOCK_LIMITS, new))
        return logs

    async def limits(self, keys: Collection[str]) -> dict[str, LimitLog]:
        """Limit logs as they stand, without a lock."""
        return _logs(await self._on.rows(READ_LIMITS, keys))

    async def write_limits(self, logs: Collection[LimitLog]) -> None:
        """Replace logs that this transaction holds locked."""
        await self._on.many(WRITE_LIMITS, [(log.last_us, *pack(log.times_us), log.key) for log in logs])

    async def insert_requests(self, requests: Sequence[Request]) -> set[str]:
        """Insert; the ids that went in. Of two with one (party, key) at once the second waits, then is not in."""
        return await self._on.kept(INSERT_REQUESTS, [_request_row(request) for request in requests])


def _logs(rows: Sequence[Row]) -> dict[str, LimitLog]:
    return {
        key: LimitLog(key=key, times_us=unpack(base_us, packed), last_us=last_us)
        for key, last_us, base_us, packed in rows
    }
