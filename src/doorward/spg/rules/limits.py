"""The limits again, over the charge times that messages carry (any subset of a valid log is valid)."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from doorward.spg.rules.facts import DAY_US, HOUR_US, US, Charge, Policy
from doorward.wire.grants import GrantDocument
from doorward.wire.messages import Command
from doorward.wire.reasons import Reason, Refused

NEED = 2
"""A request and its result are two transactions."""


def require_room(
    command: Command, document: GrantDocument, log: Sequence[Charge], policy: Policy, now_us: int
) -> None:
    """Raise ``limit-exceeded`` unless the command's charge breaks no window of its service point or party.

    ``log`` holds all charges of the service point within a day of ``command.charge_us``, on either side.
    """
    away_us = abs(command.charge_us - now_us)
    if away_us > policy.charge_skew_us:
        raise Refused(
            Reason.LIMIT_EXCEEDED, f"the charge time is {away_us / US:.0f} s away from the gateway's clock"
        )
    everyone = [(charge.charge_us, charge.count) for charge in log]
    own = [(charge.charge_us, charge.count) for charge in log if charge.party == command.party]
    _fits(everyone, command.charge_us, policy.per_hour, HOUR_US, "service point")
    _fits(everyone, command.charge_us, policy.per_day, DAY_US, "service point")
    _fits(own, command.charge_us, document.tier_hour, HOUR_US, "party")
    _fits(own, command.charge_us, document.tier_day, DAY_US, "party")


def _fits(log: list[tuple[int, int]], charge_us: int, limit: int, span_us: int, whose: str) -> None:
    """Every half-open window of ``span_us`` that holds the new charge must hold at most ``limit``."""
    near = sorted((t, count) for t, count in log if abs(t - charge_us) < span_us)
    times = [t for t, _ in near]
    before = [0, *accumulate(count for _, count in near)]
    starts = {t for t in times if t <= charge_us} | {charge_us}
    for start in starts:
        inside = before[bisect_left(times, start + span_us)] - before[bisect_left(times, start)]
        if inside + NEED > limit:
            raise Refused(
                Reason.LIMIT_EXCEEDED,
                f"more than {limit} transactions of the {whose} in {span_us // HOUR_US} h",
            )
