"""The way to the gateway: what is ready, who may send it, where each request stands."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, select, text, true

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Flavour, Statement, exactly, locked, number, updating, words
from doorward.ccs.engines.store.accept import REQUEST
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.ports import Claim, LeaseLost
from doorward.ccs.rules.facts import Gateway, Request

GATEWAY = RowsOf(Gateway, t.gateway)

FIXED = frozenset(
    {
        *("id", "party", "service_point", "scope", "operation", "grant", "grant_version", "tier", "key"),
        *("received_us", "device", "format", "body", "cause", "start_us", "until_us", "campaign", "wish"),
        *("body_hash", "signature", "spread_s"),
    }
)
"""What of a request never moves."""
MOVING = tuple(name for name in REQUEST.names if name not in FIXED)


def _ready(columns: FromClause, gateway: ColumnElement[str]) -> Select[Any]:
    """What may be sent to one gateway, most urgent first, as much as there is room for."""
    of = columns.c
    return (
        select(*(of[name] for name in REQUEST.names))
        .where(of.gateway == gateway, of.ready_us.is_not(None), of.ready_us <= number("now"))
        .where(of.klass <= number("class_max"))
        .order_by(of.klass, of.due_us)
        .limit(number("room"))
    )


def _claim(flavour: Flavour) -> Select[Any]:
    at = flavour.each("gateways")
    ready = _ready(t.request, at.c.value)
    if flavour.lateral:
        mine = locked(ready, skip=True).correlate(at).lateral("mine")
        return select(mine).select_from(at).join(mine, true()).order_by(mine.c.klass, mine.c.due_us)
    inner = t.request.alias("ready")
    ids = _ready(inner, at.c.value).with_only_columns(inner.c.id).correlate(at)
    mine_too = t.request.c.id.in_(ids.scalar_subquery())
    return (
        select(*REQUEST.columns)
        .select_from(at.join(t.request, mine_too))
        .order_by(t.request.c.klass, t.request.c.due_us)
    )


def _ready_gateways(*partitions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(t.request.c.gateway)
        .distinct()
        .where(t.request.c.ready_us.is_not(None), t.request.c.ready_us <= number("now"), *partitions)
        .limit(number("limit"))
    )


CLAIM_READY = Statement(_claim, "gateways", "now", "room", "class_max")
READY_GATEWAYS = Statement(lambda _: _ready_gateways(), "now", "limit")
READY_GATEWAYS_OF = Statement(
    lambda f: _ready_gateways(f.any_of(t.request.c.partition, "partitions")), "partitions", "now", "limit"
)
FENCE = Statement(
    lambda f: locked(
        select(t.lease.c.partition)
        .where(f.any_of(t.lease.c.partition, "partitions"), t.lease.c.worker == words("worker"))
        .where(t.lease.c.epoch == number("epoch"), t.lease.c.until_us > number("now"))
        .order_by(t.lease.c.partition),
        shared=True,
    ),
    "partitions",
    "worker",
    "epoch",
    "now",
)
REQUESTS = Statement(lambda f: select(*REQUEST.columns).where(f.any_of(t.request.c.id, "ids")), "ids")
FINAL_AMONG = Statement(
    lambda f: select(t.request.c.id).where(
        f.any_of(t.request.c.id, "ids"), t.request.c.final_us > exactly(0)
    ),
    "ids",
)
LOCK_REQUESTS = Statement(
    lambda f: locked(
        select(*REQUEST.columns).where(f.any_of(t.request.c.id, "ids")).order_by(t.request.c.id)
    ),
    "ids",
)
UPDATE_REQUESTS = updating(t.request, "id", MOVING)
OPEN_AT = Statement(
    lambda _: (
        select(t.request.c.id)
        .where(t.request.c.gateway == words("gateway"), text("state IN ('SENT', 'AT_GATEWAY')"))
        .order_by(t.request.c.id)
    ),
    "gateway",
)

GATEWAYS = Statement(lambda f: select(*GATEWAY.columns).where(f.any_of(t.gateway.c.id, "ids")), "ids")
LOCK_GATEWAYS = Statement(
    lambda f: locked(
        select(*GATEWAY.columns).where(f.any_of(t.gateway.c.id, "ids")).order_by(t.gateway.c.id)
    ),
    "ids",
)
FRAME_MARKS = Statement(
    lambda f: locked(
        select(t.gateway.c.id, t.gateway.c.up_epoch, t.gateway.c.up_counter)
        .where(f.any_of(t.gateway.c.id, "ids"))
        .order_by(t.gateway.c.id)
    ),
    "ids",
)
MARK_FRAMES = updating(t.gateway, "id", ("up_epoch", "up_counter", "seen_us"))

_moving_row = REQUEST.dumper((*MOVING, "id"))


class Dispatching(Part):
    """What the transactions that send, and those that take receipts, read and write."""

    async def fence(self, claim: Claim, partitions: Collection[int], now_us: int) -> None:
        """Raise :class:`LeaseLost` unless ``claim`` holds all ``partitions``. The lease rows stay locked for
        sharing: who wants to take one over waits until this transaction has ended."""
        held = await self._on.rows(FENCE, partitions, claim.worker, claim.epoch, now_us)
        if len(held) != len(set(partitions)):
            lost = sorted(set(partitions) - {row[0] for row in held})
            raise LeaseLost(f"worker {claim.worker} no longer holds partitions {lost}")

    async def claim_ready(
        self, gateways: Collection[str], now_us: int, room: int, class_max: int
    ) -> list[Request]:
        """Requests to send, at most ``room`` per gateway, locked, skipping what others hold."""
        rows = await self._on.rows(CLAIM_READY, gateways, now_us, room, class_max)
        return [REQUEST.load(row) for row in rows]

    async def ready_gateways(self, partitions: Collection[int] | None, now_us: int, limit: int) -> set[str]:
        """Gateways for which something is ready."""
        if partitions is None:
            rows = await self._on.rows(READY_GATEWAYS, now_us, limit)
        else:
            rows = await self._on.rows(READY_GATEWAYS_OF, partitions, now_us, limit)
        return {row[0] for row in rows}

    async def requests(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Request]:
        """Requests by id; ``lock`` takes row locks in sorted order."""
        rows = await self._on.rows(LOCK_REQUESTS if lock else REQUESTS, ids)
        return {row[0]: REQUEST.load(row) for row in rows}

    async def final_among(self, ids: Collection[str]) -> set[str]:
        """Those of the ids whose requests are final."""
        return {row[0] for row in await self._on.rows(FINAL_AMONG, ids)}

    async def update_requests(self, requests: Sequence[Request]) -> None:
        """Write everything that moves in a request."""
        await self._on.many(UPDATE_REQUESTS, [_moving_row(request) for request in requests])

    async def open_at(self, gateway: str) -> list[str]:
        """Ids of requests of a gateway in SENT or AT_GATEWAY."""
        return [row[0] for row in await self._on.rows(OPEN_AT, gateway)]

    async def gateways(self, ids: Collection[str], *, lock: bool = False) -> dict[str, Gateway]:
        """Gateways by id."""
        rows = await self._on.rows(LOCK_GATEWAYS if lock else GATEWAYS, ids)
        return {row[0]: GATEWAY.load(row) for row in rows}

    async def frame_marks(self, ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """The highest (epoch, counter) of frames from gateways, whose rows stay locked."""
        return {row[0]: (row[1], row[2]) for row in await self._on.rows(FRAME_MARKS, ids)}

    async def mark_frames(self, marks: Mapping[str, tuple[int, int]], now_us: int) -> None:
        """Store the high-water (epoch, counter) of frames from gateways, and that they were seen."""
        await self._on.many(MARK_FRAMES, [(*marks[at], now_us, at) for at in sorted(marks)])
