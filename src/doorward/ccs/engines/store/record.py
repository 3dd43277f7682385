"""The record beside its chain: what permissions have been, checkpoints, and what is no longer kept."""

from collections.abc import Sequence
from hashlib import sha256
from operator import attrgetter
from random import Random

from sqlalchemy import delete, func, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Statement, inserting, number, updating, words
from doorward.ccs.engines.store.chain import Chaining, last_of
from doorward.ccs.rules.facts import Grant, JournalRow, StepRecord
from doorward.kit.ids import uuid7
from doorward.wire.chain import Head, payload_digest
from doorward.wire.steps import Step

GRANT_RECORD = tuple(column.name for column in t.grant_record.columns)
RECORD_GRANTS = inserting(t.grant_record, GRANT_RECORD)
NEXT_WRITER = Statement(
    lambda _: (
        select(t.chain.c.writer)
        .where(t.chain.c.writer > number("after"))
        .order_by(t.chain.c.writer)
        .limit(number("one"))
    ),
    "after",
    "one",
)
LAST_CHECKPOINT = Statement(
    lambda _: (
        select(t.checkpoint.c.number, t.checkpoint.c.document)
        .order_by(t.checkpoint.c.number.desc())
        .limit(number("one"))
    ),
    "one",
)
ADD_CHECKPOINT = inserting(t.checkpoint, ("number", "at_us", "document"))
OLDEST_DAY = Statement(
    lambda _: select(t.journal.c.day).order_by(t.journal.c.day).limit(number("one")), "one"
)
ROWS_OF_DAY = Statement(
    lambda _: select(func.count()).select_from(t.journal).where(t.journal.c.day == number("day")), "day"
)
TOMBSTONE = Statement(
    lambda _: select(t.tombstone.c.document).where(t.tombstone.c.day == number("day")), "day"
)
LAST_TOMBSTONE = Statement(
    lambda _: select(t.tombstone.c.document).order_by(t.tombstone.c.day.desc()).limit(number("one")), "one"
)
ADD_TOMBSTONE = inserting(t.tombstone, ("day", "at_us", "document"))
DROP_ROWS = Statement(
    lambda _: delete(t.journal).where(
        t.journal.c.day == number("day"),
        t.journal.c.message.in_(
            select(t.journal.c.message)
            .where(t.journal.c.day == number("day"))
            .order_by(t.journal.c.message)
            .limit(number("limit"))
            .scalar_subquery()
        ),
    ),
    "day",
    "limit",
)
AGED = Statement(
    lambda _: (
        select(t.request.c.id, t.request.c.salt, t.request.c.final_us)
        .where(t.request.c.id > words("after"), t.request.c.id < words("before"))
        .order_by(t.request.c.id)
        .limit(number("limit"))
    ),
    "after",
    "before",
    "limit",
)
ERASE = updating(t.request, "id", ("body", "result", "salt", "body_hash", "signature"))
ERASED = (b"{}", b"null", "", "", "")


def _change_id(grant: Grant, sequence: int) -> str:
    """The message under which the journal holds a change of a permission: the same whenever it is told."""
    seed = int.from_bytes(sha256(f"{grant.id} {grant.version} {sequence}".encode()).digest()[:8])
    return uuid7(grant.changed_us, Random(seed))


class Recording(Chaining):
    """What keeps the record honest, and lets go of what it need not hold."""

    async def record_grants(self, grants: Sequence[Grant], numbers: Sequence[int]) -> None:
        """Keep what permissions have become, under the journal's chain: an auditor asks what held when."""
        ids = [_change_id(grant, at) for grant, at in zip(grants, numbers, strict=True)]
        await self.write_journal(
            [_change(grant, id, self._now_us) for grant, id in zip(grants, ids, strict=True)]
        )
        rows = [
            (at, *_GRANT_FACTS(grant), self._now_us, grant.signed, id)
            for grant, at, id in zip(grants, numbers, ids, strict=True)
        ]
        await self._on.many(RECORD_GRANTS, rows)

    async def heads(self) -> list[Head]:
        """The newest link of every writer."""
        found: list[Head] = []
        while rows := await self._on.rows(NEXT_WRITER, found[-1].writer if found else -1, 1):
            found.append(await last_of(self._on, rows[0][0]))
        return found

    async def last_checkpoint(self) -> tuple[int, str]:
        """Number and document of the newest checkpoint; ``(0, "")`` before the first."""
        rows = await self._on.rows(LAST_CHECKPOINT, 1)
        return (rows[0][0], rows[0][1]) if rows else (0, "")

    async def add_checkpoint(self, number: int, at_us: int, document: str) -> None:
        """Keep a checkpoint; of two that make the same one at once, the second fails."""
        await self._on.many(ADD_CHECKPOINT, [(number, at_us, document)])

    async def oldest_day(self) -> int | None:
        """The first day (since 1970) of which the journal holds rows."""
        rows = await self._on.rows(OLDEST_DAY, 1)
        return int(rows[0][0]) if rows else None

    async def rows_of_day(self, day: int) -> int:
        """How many rows the journal holds of messages of a day."""
        return int((await self._on.rows(ROWS_OF_DAY, day))[0][0])

    async def tombstone(self, day: int) -> str:
        """The signed tombstone of a day whose rows are being dropped, or nothing."""
        rows = await self._on.rows(TOMBSTONE, day)
        return str(rows[0][0]) if rows else ""

    async def last_tombstone(self) -> str:
        """The tombstone of the latest day that has one, or nothing."""
        rows = await self._on.rows(LAST_TOMBSTONE, 1)
        return str(rows[0][0]) if rows else ""

    async def add_tombstone(self, day: int, at_us: int, document: str) -> None:
        """Say that the rows of a day are no longer kept."""
        await self._on.many(ADD_TOMBSTONE, [(day, at_us, document)])

    async def drop_rows(self, day: int, limit: int) -> int:
        """Drop a slice of a day's rows, or the day as a whole where it is a partition; how many rows went."""
        await self._on.drop_day(day)
        return await self._on.do(DROP_ROWS, day, limit)

    async def erase_payloads(self, after: str, before: str, limit: int) -> str:
        """Erase what requests between two ids carried, once they are final: bodies, answers, and the salts of
        their digests. Looks at so many; returns the last id, or nothing at the end."""
        rows = await self._on.rows(AGED, after, before, limit)
        await self._on.many(ERASE, [(*ERASED, id) for id, salt, final_us in rows if salt and final_us])
        return rows[-1][0] if len(rows) == limit else ""


_GRANT_FACTS = attrgetter("id", "version", "state", "party", "service_point")


def _change(grant: Grant, message: str, now_us: int) -> JournalRow:
    step = Step.GRANTED if grant.state == "live" else Step.WITHDRAWN
    return JournalRow(
        message=message,
        at_us=now_us,
        party=grant.party,
        service_point=grant.service_point,
        gateway="",
        device="",
        steps=[StepRecord(at_us=now_us, step=step, detail=f"grant {grant.id} version {grant.version}")],
        payload=payload_digest("", grant.signed.encode()),
    )
