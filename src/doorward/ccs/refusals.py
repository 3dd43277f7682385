"""A flood of refusals must not become a flood of durable rows."""

from collections.abc import Sequence

from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import JournalRow, StepRecord
from doorward.ccs.rules.homes import HomeNote
from doorward.wire.reasons import SENTENCES, Reason
from doorward.wire.steps import Actor, Outcome, Step

MINUTE_US = 60_000_000
SOURCES_MAX = 50_000


class RefusalMeter:
    """Counts refusals per source and minute; beyond the bound they are only counted.

    :meth:`counted` gives the counts of minutes that are over, to be written as one row each.
    """

    def __init__(self, per_minute_max: int) -> None:
        self._max = per_minute_max
        self._minute = 0
        self._counts: dict[tuple[str, Reason], int] = {}
        self._over: list[tuple[str, Reason, int]] = []

    def admits(self, source: str, reason: Reason, now_us: int) -> bool:
        """Whether this refusal gets a row of its own."""
        self._turn(now_us)
        key = (source, reason)
        if key not in self._counts and len(self._counts) >= SOURCES_MAX:
            key = ("others", reason)
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return count <= self._max

    def _turn(self, now_us: int) -> None:
        minute = now_us // MINUTE_US
        if minute != self._minute:
            self._over += [
                (source, reason, count - self._max)
                for (source, reason), count in self._counts.items()
                if count > self._max
            ]
            self._minute = minute
            self._counts = {}

    def counted(self, now_us: int) -> list[tuple[str, Reason, int]]:
        """Return (source, reason, how many beyond the bound) of past minutes, once."""
        self._turn(now_us)
        over, self._over = self._over, []
        return over


def attempt_row(
    message: str, gateway: str, reason: Reason, detail: str, now_us: int, party: str = "", device: str = ""
) -> JournalRow:
    """Return the journal row of an unauthorised attempt that came by a gateway's link, or was seen by it."""
    step = StepRecord(
        at_us=now_us,
        step=Step.REFUSED,
        outcome=Outcome.REFUSED,
        reason=reason,
        detail=detail[:500],
        by=Actor.GATEWAY,
    )
    return JournalRow(
        message=message,
        at_us=now_us,
        party=party,
        service_point="",
        gateway=gateway,
        device=device,
        steps=[step],
    )


SHOWN = frozenset(
    {
        Reason.OPERATION_NOT_PERMITTED,
        Reason.OUTSIDE_CUSTOMER_LIMITS,
        Reason.ACCESS_DISABLED,
        Reason.ACCESS_ENDED,
        Reason.ACCESS_PAUSED,
        Reason.SERVICE_OFF,
        Reason.CUSTOMER_PROTECTED,
        Reason.DEVICE_UNKNOWN,
    }
)
"""Refusals that concern a home: its people see them among what happened there."""


async def note_refusals(books: AllBooks, rows: Sequence[JournalRow]) -> None:
    """Note refused attempts of known companies at the homes that they were for; without any, nothing is asked."""
    refused = [row for row in rows if row.party and row.steps[-1].reason in SHOWN]
    if not refused:
        return
    devices = await books.devices({row.device for row in refused if row.device})
    notes = []
    for row in refused:
        device = devices.get(row.device)
        point, reason = row.service_point or (device.service_point if device else ""), row.steps[-1].reason
        if point and reason is not None:
            note = HomeNote(
                id=row.message,
                service_point=point,
                kind="refused",
                at_us=row.at_us,
                words=SENTENCES[reason],
                party=row.party,
                device=device.id if device else "",
            )
            notes.append(note)
    await books.put_notes(notes)
