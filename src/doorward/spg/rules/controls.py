"""Who owns a device that a control runs on, and how long a control lasts."""

from doorward.spg.rules.facts import US, Control, Policy
from doorward.wire.messages import Command
from doorward.wire.permission import HOUR_US
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation


def require_free(running: Control | None, command: Command) -> None:
    """Raise ``superseded`` when another party's control keeps the device.

    A party replaces its own control. Between parties the earlier control keeps the device unless the
    later one is of a more urgent class. The baseline is always the one of the first.
    """
    if running is None or running.party == command.party or command.klass < running.klass:
        return
    raise Refused(
        Reason.SUPERSEDED,
        "another service's control runs on this device until "
        f"{to_rfc3339(running.until_us)}; it keeps the device unless the later is more urgent",
        field="/device",
    )


def start_room_us(command: Command, start_us: int, policy: Policy) -> int:
    """Return within what time after ``start_us`` a control begins at random (0: at once).

    A campaign's is never shorter than the gateway's own span, whoever sent the command; half of a short
    control is left to it.
    """
    if command.operation in (Operation.READ, Operation.RELEASE):
        return 0
    room = max(0, min(command.spread_s * US, policy.start_spread_us_max))
    if command.campaign:
        room = max(room, policy.campaign_spread_us)
    return min(room, max(0, until_of(command, start_us, policy) - start_us) // 2)


def until_of(command: Command, start_us: int, policy: Policy) -> int:
    """Return when a control ends: as asked, or the default time after its start."""
    return command.until_us or start_us + policy.control_us_default


def end_window_us(start_us: int, until_us: int, latest_us: int, policy: Policy) -> tuple[int, int]:
    """Return (earliest, latest): within these a control ends at random, around ``until_us``.

    All homes that end a control at the same minute must not come back at the same second. The end is drawn
    after ``until_us``; where the customer's bound or the end of the permission (``latest_us``) leaves no room
    for that, before it.
    """
    until_us = min(until_us, latest_us)
    lasts_us = max(0, until_us - start_us)
    spread_us = min(policy.end_spread_us_max, lasts_us)
    after_us = min(spread_us, latest_us - until_us)
    before_us = min(spread_us - after_us, lasts_us // 2)
    return until_us - before_us, until_us + after_us


def latest_end_us(start_us: int, hours_max: float | None, expires_us: int) -> int:
    """Return when a control must have ended: by the customer's bound, and by the permission's end."""
    return expires_us if hours_max is None else min(expires_us, start_us + int(hours_max * HOUR_US))
