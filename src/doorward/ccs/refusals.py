"""A flood of refusals must not become a flood of durable rows."""

from doorward.ccs.rules.facts import JournalRow, StepRecord
from doorward.wire.reasons import Reason
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
