"""Several workers: who lives, and who owns which partition under which fencing epoch."""

from collections.abc import Collection

from sqlalchemy import or_, select, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Statement, locked, number, putting, words
from doorward.ccs.engines.store.base import Part

US = 1_000_000

BEAT = putting(t.worker, ("name", "until_us"), "name")
LIVING = Statement(
    lambda _: select(t.worker.c.name).where(t.worker.c.until_us > number("now")).order_by(t.worker.c.name),
    "now",
)
LOCK_LEASES = Statement(
    lambda f: locked(
        select(t.lease)
        .where(or_(f.any_of(t.lease.c.partition, "wanted"), t.lease.c.worker == words("worker")))
        .order_by(t.lease.c.partition)
    ),
    "wanted",
    "worker",
)
HOLD = Statement(
    lambda f: (
        update(t.lease)
        .where(f.any_of(t.lease.c.partition, "partitions"))
        .values(worker=words("holder"), epoch=number("term"), until_us=number("until"))
    ),
    "holder",
    "term",
    "until",
    "partitions",
)
GIVE_UP = Statement(
    lambda f: (
        update(t.lease)
        .where(f.any_of(t.lease.c.partition, "partitions"))
        .values(worker=words("holder"), until_us=number("until"))
    ),
    "holder",
    "until",
    "partitions",
)


class Workers(Part):
    """Leases. A taker's lock waits for every transaction that was fenced under the old lease."""

    async def beat(self, worker: str, now_us: int, until_us: int) -> list[str]:
        """Say that ``worker`` lives until ``until_us``; all living workers, sorted."""
        await self._on.many(BEAT, [(worker, until_us)])
        return [row[0] for row in await self._on.rows(LIVING, now_us)]

    async def take_leases(
        self, worker: str, wanted: Collection[int], now_us: int, until_us: int
    ) -> tuple[int, set[int]]:
        """Renew or take those of ``wanted`` that are free, expired or ours; give up ours that are not wanted."""
        rows = await self._on.rows(LOCK_LEASES, wanted, worker)
        ours = {partition for partition, owner, _, _ in rows if owner == worker}
        free = {partition for partition, owner, _, until in rows if owner == "" or until <= now_us}
        held = (ours | free).intersection(wanted)
        newest = max((epoch for _, _, epoch, _ in rows), default=0)
        current = max((epoch for partition, _, epoch, _ in rows if partition in ours), default=0)
        epoch = current if held <= ours else max(newest + 1, now_us // US)
        if held:
            await self._on.do(HOLD, worker, epoch, until_us, held)
        if left := ours - held:
            await self._on.do(GIVE_UP, "", 0, left)
        return epoch, held
