"""What keeps the record honest over time: signed checkpoints; and what lets go of what it need not hold.

One worker does it, the owner of the first partition; all of them pass the newest checkpoint on to gateways.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from doorward.ccs.journey import Journey
from doorward.ccs.ports import Books, Claim
from doorward.kit.ids import uuid7
from doorward.wire.chain import CHECKPOINT, NOTHING, TOMBSTONE, Checkpoint, Tombstone, digest_of
from doorward.wire.signatures import payload_of

log = structlog.get_logger(__name__)

US = 1_000_000
DAY_US = 86_400 * US
FIRST_PARTITION = 0
RETENTION_S = 3_600.0
BETWEEN_SLICES_S = 0.05
ROWS_TOGETHER_MAX = 500

Sign = Callable[[bytes, str], str]
"""(payload, ``typ``) → a compact JWS of the CCS's record key."""

_checkpoint = msgspec.json.Decoder(Checkpoint)


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How often there is a checkpoint, and how long what is kept."""

    checkpoint_s: float = 60.0
    journal_us: int = 1_096 * DAY_US
    payload_us: int = 396 * DAY_US


class Recording:
    """The duties of one worker about the record."""

    def __init__(
        self, journey: Journey, claim: Callable[[], Claim], sign: Sign, rng: random.Random, keep: Keep
    ) -> None:
        self._journey = journey
        self._claim = claim
        self._sign = sign
        self._rng = rng
        self._keep = keep
        self._erased = ("", "")
        """Before which request all is erased, and how far the round comes that goes on."""

    async def run(self) -> None:
        """Do all duties until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self.checkpoint, self._keep.checkpoint_s))
            group.create_task(self._again(self.retain, RETENTION_S))

    async def _again(self, duty: Callable[[], Awaitable[bool]], pace_s: float) -> None:
        while True:
            more = False
            try:
                more = await duty()
            except Exception:
                log.exception("a duty of the record failed; it is tried again", duty=duty.__name__)
            await asyncio.sleep(BETWEEN_SLICES_S if more else pace_s)

    # ---- checkpoints ---------------------------------------------------------------------------------

    async def checkpoint(self) -> bool:
        """Sign where every writer stands, unless nothing was written since; and let gateways have it."""
        if FIRST_PARTITION in self._claim().partitions:
            number, document = await self._journey.store.write(self._check)
        else:
            number, document = await self._journey.store.read(lambda books: books.last_checkpoint())
        if number:
            self._journey.switchboard.checkpointed(number, document)
        return False

    async def _check(self, books: Books) -> tuple[int, str]:
        number, last = await books.last_checkpoint()
        heads = await books.heads()
        if not heads or (last and _checkpoint.decode(payload_of(last)).heads == heads):
            return number, last
        now_us = self._journey.clock.now_us()
        prev = digest_of(last) if last else NOTHING
        made = Checkpoint(number=number + 1, at_us=now_us, prev=prev, heads=heads)
        document = self._sign(msgspec.json.encode(made), CHECKPOINT)
        await books.add_checkpoint(made.number, now_us, document)
        return made.number, document

    # ---- what is no longer kept ----------------------------------------------------------------------

    async def retain(self) -> bool:
        """Drop what is older than it is kept, a slice at a time; whether there may be more."""
        if FIRST_PARTITION not in self._claim().partitions:
            return False
        dropped = await self._journey.store.write(self._drop)
        return await self._journey.store.write(self._erase) or dropped

    async def _drop(self, books: Books) -> bool:
        """A day's tombstone is signed before the first of its rows goes."""
        now_us = self._journey.clock.now_us()
        day = await books.oldest_day()
        if day is None or (day + 1) * DAY_US > now_us - self._keep.journal_us:
            return False
        if not await books.tombstone(day):
            last = await books.last_tombstone()
            rows = await books.rows_of_day(day)
            prev = digest_of(last) if last else NOTHING
            made = Tombstone(day=day, rows=rows, at_us=now_us, prev=prev)
            await books.add_tombstone(day, now_us, self._sign(msgspec.json.encode(made), TOMBSTONE))
        await books.drop_rows(day, ROWS_TOGETHER_MAX)
        return True

    async def _erase(self, books: Books) -> bool:
        """What requests carried, of the home and its people, goes; that they were, and its digests, stay."""
        before_us = self._journey.clock.now_us() - self._keep.payload_us
        before = uuid7(max(0, before_us), self._rng)
        begun, at = self._erased
        at = await books.erase_payloads(max(begun, at), before, ROWS_TOGETHER_MAX)
        self._erased = (begun, at) if at else (max(begun, before), "")
        return bool(at)
