"""Unauthorised attempts, counted so that a flood of them is not a flood of rows (F25, F26)."""

from typing import NamedTuple

from doorward.spg.rules.facts import MINUTE_US
from doorward.wire.messages import Attempt
from doorward.wire.reasons import Reason

CAUSES_MAX = 64
"""Causes told apart at one time; what is beyond is counted under its reason alone."""


class Cause(NamedTuple):
    """What makes two attempts alike."""

    direction: str
    reason: Reason
    party: str = ""
    device: str = ""


class Tally:
    """The first attempt of a cause is told at once; the rest once per reporting time, with their number."""

    def __init__(self, every_us: int) -> None:
        self._every_us = every_us
        self._counts: dict[Cause, int] = {}
        self._due_us: dict[Cause, int] = {}

    def count(self, cause: Cause, now_us: int, *, message: str = "", detail: str = "") -> Attempt | None:
        """Count one; return the report where it is the first of its cause."""
        if cause not in self._counts and len(self._counts) >= CAUSES_MAX:
            cause = Cause(cause.direction, cause.reason)
        if cause in self._counts:
            self._counts[cause] += 1
            return None
        self._counts[cause] = 0
        self._due_us[cause] = now_us + self._every_us
        return _report(cause, 1, now_us, message, detail)

    def due_us(self) -> int | None:
        """When the next report is due."""
        return min(self._due_us.values(), default=None)

    def take(self, now_us: int) -> list[Attempt]:
        """Return the reports that are due; causes that were quiet are forgotten."""
        reports = []
        for cause in [cause for cause, due_us in self._due_us.items() if due_us <= now_us]:
            if self._counts[cause]:
                reports.append(_report(cause, self._counts[cause], now_us, "", "since the last report"))
                self._counts[cause] = 0
                self._due_us[cause] = now_us + self._every_us
            else:
                del self._counts[cause], self._due_us[cause]
        return reports


def _report(cause: Cause, count: int, now_us: int, message: str, detail: str) -> Attempt:
    return Attempt(
        seq=0,
        at_us=now_us,
        direction=cause.direction,
        reason=cause.reason,
        count=count,
        party=cause.party,
        device=cause.device,
        message=message,
        detail=detail,
    )


class RefusalBound:
    """How many refused requests of a minute get rows of their own; what is beyond is only counted."""

    def __init__(self, per_minute_max: int) -> None:
        self._per_minute_max = per_minute_max
        self._minute = -1
        self._refused = 0

    def admits(self, now_us: int) -> bool:
        """Count a refusal; whether it may have a row."""
        minute = now_us // MINUTE_US
        if minute != self._minute:
            self._minute, self._refused = minute, 0
        self._refused += 1
        return self._refused <= self._per_minute_max
