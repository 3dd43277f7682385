"""Exact sliding limits (N01, F04, F32): never more than L in any window of W, and never fewer refused wrongly.

The limit is defined on the *charge time* that a message carries. The log of a key is the ascending list
of its charge times, read and written under the key's row lock (docs/adr/0004).
"""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from doorward.ccs.rules.facts import LimitLog, Place, Tier
from doorward.wire.reasons import Reason, Refused

US = 1_000_000
HOUR_US = 3600 * US
DAY_US = 24 * HOUR_US
GRACE_US = 2 * US
"""How long a message may be held to fit, so that one who polls every five minutes may do so for ever."""
STALE_US = 60 * US
"""A message dispatched later than this after its charge time is charged again."""
TICK_US = 1000
"""Charge times are whole milliseconds, so that a log packs into 32-bit offsets."""


class Window(msgspec.Struct, frozen=True):
    """At most ``limit`` charges in any half-open span of ``span_us``."""

    limit: int
    span_us: int


class Account(msgspec.Struct, frozen=True):
    """A key's log with the windows that hold for it."""

    log: LimitLog
    windows: tuple[Window, ...]


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Admission: when the message counts, and what remains in the tightest window."""

    charge_us: int
    limit: int
    remaining: int
    reset_us: int
    """When the oldest charge of that window leaves it; equals ``charge_us`` when it is empty."""
    window_us: int


def service_point_key(service_point: str) -> str:
    """Key of the log that all third parties at a service point share."""
    return f"sp|{service_point}"


def party_key(party: str, service_point: str) -> str:
    """Key of the log of one third party at one service point."""
    return f"pt|{party}|{service_point}"


def service_point_windows(per_hour: int, per_day: int) -> tuple[Window, ...]:
    """Windows of a service point: 24 and 576 by default (N01)."""
    return Window(per_hour, HOUR_US), Window(per_day, DAY_US)


def party_windows(tier: Tier, place: Place, per_hour: int, per_day: int) -> tuple[Window, ...]:
    """Windows of one third party: its tier, within its share of the service point (none starves another)."""
    sharers = max(1, place.parties)
    return (
        Window(min(tier.per_hour, max(2, per_hour // sharers)), HOUR_US),
        Window(min(tier.per_day, max(2, per_day // sharers)), DAY_US),
    )


def earliest(accounts: Sequence[Account], need: int, now_us: int) -> int:
    """Return the first moment at which ``need`` more charges break no window of any account."""
    moment = now_us
    for account in accounts:
        times = account.log.times_us
        moment = max(moment, account.log.last_us)
        for window in account.windows:
            if need > window.limit:
                return now_us + window.span_us
            first = len(times) + need - window.limit - 1
            if first >= 0:
                moment = max(moment, times[first] + window.span_us)
    return -(-moment // TICK_US) * TICK_US


def admit(accounts: Sequence[Account], need: int, now_us: int, grace_us: int = GRACE_US) -> Ticket:
    """Charge ``need`` to every account (in place) or raise :class:`Refused` and change nothing.

    Raises ``limit-exceeded`` with ``retry_after_s`` when the earliest moment is beyond the grace.
    """
    moment = earliest(accounts, need, now_us)
    if moment - now_us > grace_us:
        wait_s = (moment - now_us) / US
        raise Refused(
            Reason.LIMIT_EXCEEDED,
            f"the limit of messages to this service point is used up; room again in {wait_s:.0f} s",
            retry_after_s=wait_s,
        )
    for account in accounts:
        forget(account.log, moment)
        account.log.times_us.extend([moment] * need)
        account.log.last_us = moment
    return remaining(accounts, moment)


def remaining(accounts: Sequence[Account], now_us: int) -> Ticket:
    """Return what remains in the tightest window at ``now_us``."""
    tightest: Ticket | None = None
    for account in accounts:
        times = account.log.times_us
        for window in account.windows:
            first = bisect_right(times, now_us - window.span_us)
            used = len(times) - first
            left = max(0, window.limit - used)
            if tightest is None or left < tightest.remaining:
                tightest = Ticket(
                    charge_us=now_us,
                    limit=window.limit,
                    remaining=left,
                    reset_us=times[first] + window.span_us if used else now_us,
                    window_us=window.span_us,
                )
    if tightest is None:
        raise ValueError("no windows")
    return tightest


def settle(log: LimitLog, charge_us: int, unused: int) -> None:
    """Take back ``unused`` charges of ``charge_us``; the log closes up, so that no hole counts."""
    for _ in range(unused):
        at = bisect_right(log.times_us, charge_us) - 1
        if at < 0 or log.times_us[at] != charge_us:
            return
        del log.times_us[at]


def forget(log: LimitLog, now_us: int) -> None:
    """Drop charges that no window can see any more."""
    gone = bisect_right(log.times_us, now_us - DAY_US)
    if gone:
        del log.times_us[:gone]
