"""Unauthorised attempts at the doors go on record (F24), bounded by the refusal meter."""

import structlog

from doorward.ccs.ports import Store
from doorward.ccs.refusals import RefusalMeter
from doorward.ccs.rules.facts import JournalRow
from doorward.ccs.way_out import Declined, journal_of_refusal
from doorward.kit.clock import Clock
from doorward.kit.gather import Gatherer, Overloaded
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Step

log = structlog.get_logger(__name__)

WHO = frozenset(
    {
        Reason.NOT_AUTHENTICATED,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
        Reason.PROOF_INVALID,
        Reason.PARTY_SUSPENDED,
    }
)
"""Refusals of somebody who did not prove to be welcome."""
WHAT = frozenset({Reason.SCOPE_MISSING, Reason.NOT_FOUND, Reason.DEVICE_UNKNOWN})
"""Refusals of somebody who reached for what is not theirs."""
WAITING_MAX = 2_000


class Attempts:
    """Journals refused attempts, many in one transaction; what is beyond the meter is only counted."""

    def __init__(self, store: Store, meter: RefusalMeter, clock: Clock) -> None:
        self._store = store
        self._meter = meter
        self._clock = clock
        self._rows: Gatherer[JournalRow, None] = Gatherer(self._write, queue_max=WAITING_MAX)

    def note(self, id: str, refusal: Refused, source: str, party: str = "") -> None:
        """Put an attempt on record, soon, under the id that the caller was told. ``source`` is an address."""
        if refusal.reason in WHO:
            at = Step.AUTHENTICATED
        elif refusal.reason in WHAT:
            at = Step.AUTHORISED
        else:
            return
        now_us = self._clock.now_us()
        if not self._meter.admits(party or source, refusal.reason, now_us):
            return
        told = Refused(refusal.reason, f"{refusal.detail[:400]}; from {source}")
        declined = Declined(id=id, at=at, refusal=told, party=party)
        try:
            self._rows.tell(journal_of_refusal(declined, now_us, now_us))
        except Overloaded:
            log.warning("attempt not recorded: too many wait", reason=refusal.reason)

    async def _write(self, rows: list[JournalRow]) -> list[Exception | None]:
        await self._store.write(lambda books: books.write_journal(rows))
        return [None] * len(rows)

    async def drained(self) -> None:
        """Return when everything is on record."""
        await self._rows.drained()
