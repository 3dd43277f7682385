"""What moves load (X04): logs per key, the last control on each device, and what waits for two operators."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, delete, func, or_, select, text

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import (
    SKIP,
    Flavour,
    Statement,
    exactly,
    inserting,
    locked,
    number,
    putting,
    updating,
    words,
)
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf, to_json
from doorward.ccs.ports import Pair
from doorward.ccs.rules.fleet import FleetLog, Hold, Quarantined

HOLD = RowsOf(Hold, t.fleet_hold)
QUARANTINED = RowsOf(Quarantined, t.quarantine)

MAKE_LOGS = inserting(t.fleet_log, ("key",), SKIP)


def _logs(flavour: Flavour) -> Select[Any]:
    return select(t.fleet_log).where(flavour.any_of(t.fleet_log.c.key, "keys")).order_by(t.fleet_log.c.key)


LOCK_LOGS = Statement(lambda f: locked(_logs(f)), "keys")
READ_LOGS = Statement(
    lambda _: select(t.fleet_log).order_by(t.fleet_log.c.key).limit(number("limit")),
    "limit",
)
WRITE_LOGS = updating(t.fleet_log, "key", ("moved", "held"))
HOLDS = Statement(
    lambda f: locked(
        select(*HOLD.columns)
        .where(f.any_pair(t.fleet_hold.c.party, t.fleet_hold.c.subject, "pairs"))
        .order_by(t.fleet_hold.c.party, t.fleet_hold.c.subject)
    ),
    "pairs",
)
HOLDS_OF = Statement(
    lambda f: locked(
        select(*HOLD.columns)
        .where(f.any_of(t.fleet_hold.c.request, "requests"), text("NOT let_go"))
        .order_by(t.fleet_hold.c.party, t.fleet_hold.c.subject)
    ),
    "requests",
)
PUT_HOLDS = putting(t.fleet_hold, HOLD.names, "party", "subject")
PUT_QUARANTINED = putting(t.quarantine, QUARANTINED.names, "request")
QUARANTINED_ARE = Statement(lambda _: select(func.count()).select_from(t.quarantine))
END_QUARANTINE = Statement(
    lambda f: delete(t.quarantine).where(f.any_of(t.quarantine.c.request, "requests")), "requests"
)


def _quarantined(flavour: Flavour) -> Select[Any]:
    of = t.quarantine.c
    return (
        select(*QUARANTINED.columns)
        .where(or_(words("party") == exactly(""), of.party == words("party")))
        .where(or_(words("area") == exactly(""), of.area == words("area")))
        .where(or_(words("campaign") == exactly(""), of.campaign == words("campaign")))
        .where(of.request > words("after"))
        .order_by(of.request)
        .limit(number("limit"))
    )


LIST_QUARANTINED = Statement(_quarantined, "party", "area", "campaign", "after", "limit")
LOCK_QUARANTINED = Statement(
    lambda f: locked(
        select(*QUARANTINED.columns)
        .where(f.any_of(t.quarantine.c.request, "requests"))
        .order_by(t.quarantine.c.request)
    ),
    "requests",
)

_slots = msgspec.json.Decoder(dict[int, int])
_hold_row = HOLD.dumper()
_quarantined_row = QUARANTINED.dumper()


def _log(row: Sequence[Any]) -> FleetLog:
    key, moved, held = row
    return FleetLog(key=key, moved=_read(moved), held=_read(held))


def _read(text: str) -> dict[int, int]:
    return _slots.decode(text) if text else {}


class Fleet(Part):
    """:class:`~doorward.ccs.ports.FleetBooks`."""

    async def fleet_holds(self, pairs: Collection[Pair]) -> dict[Pair, Hold]:
        """The last control of each (party, subject), row-locked in order."""
        holds = [HOLD.load(row) for row in await self._on.rows(HOLDS, pairs)]
        return {(hold.party, hold.subject): hold for hold in holds}

    async def fleet_holds_of(self, requests: Collection[str]) -> list[Hold]:
        """What these requests hold, row-locked in order."""
        return [HOLD.load(row) for row in await self._on.rows(HOLDS_OF, requests)]

    async def put_fleet_holds(self, holds: Sequence[Hold]) -> None:
        """Insert or replace by (party, subject)."""
        await self._on.many(PUT_HOLDS, [_hold_row(hold) for hold in holds])

    async def lock_fleet(self, keys: Collection[str]) -> dict[str, FleetLog]:
        """Logs, row-locked in sorted order; missing rows are made, so that there is a row to lock."""
        ordered = sorted(keys)
        logs = {row[0]: _log(row) for row in await self._on.rows(LOCK_LOGS, ordered)}
        if new := [key for key in ordered if key not in logs]:
            await self._on.many(MAKE_LOGS, [(key,) for key in new])
            logs |= {row[0]: _log(row) for row in await self._on.rows(LOCK_LOGS, new)}
        return logs

    async def write_fleet(self, logs: Collection[FleetLog]) -> None:
        """Replace logs that this transaction holds locked."""
        await self._on.many(WRITE_LOGS, [(to_json(log.moved), to_json(log.held), log.key) for log in logs])

    async def fleet_logs(self, limit: int) -> list[FleetLog]:
        """Logs as they stand, by key."""
        return [_log(row) for row in await self._on.rows(READ_LOGS, limit)]

    async def put_quarantined(self, items: Sequence[Quarantined]) -> None:
        """Insert or replace by request."""
        await self._on.many(PUT_QUARANTINED, [_quarantined_row(item) for item in items])

    async def quarantined_count(self) -> int:
        """How many requests are in quarantine."""
        return int((await self._on.rows(QUARANTINED_ARE))[0][0])

    async def list_quarantined(
        self, *, party: str = "", area: str = "", campaign: str = "", after: str = "", limit: int = 100
    ) -> list[Quarantined]:
        """What is in quarantine, oldest first, after a request's id."""
        rows = await self._on.rows(LIST_QUARANTINED, party, area, campaign, after, limit)
        return [QUARANTINED.load(row) for row in rows]

    async def lock_quarantined(self, requests: Collection[str]) -> dict[str, Quarantined]:
        """What is in quarantine of these requests, row-locked in sorted order."""
        return {row[0]: QUARANTINED.load(row) for row in await self._on.rows(LOCK_QUARANTINED, requests)}

    async def end_quarantine(self, requests: Collection[str]) -> None:
        """These requests left quarantine."""
        await self._on.do(END_QUARANTINE, requests)
