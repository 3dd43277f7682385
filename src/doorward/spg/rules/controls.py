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


def start_room_us(command: Command, policy: Policy) -> int:
    """Return within what time after its start a control may begin at random (0: at once)."""
    if command.operation is Operation.RELEASE:
        return 0
    return max(0, min(command.spread_s * US, policy.start_spread_us_max))


def until_of(command: Command, start_us: int, policy: Policy) -> int:
    """Return when a control ends: as asked, or the default time after its start."""
    return command.until_us or start_us + policy.control_us_default


def end_room_us(start_us: int, until_us: int, hours_max: float | None, policy: Policy) -> int:
    """Return within what time after ``until_us`` the gateway lets go at random, inside the customer's bound.

    All homes that end a control at the same minute must not come back at the same second.
    """
    room = min(policy.end_spread_us_max, int((until_us - start_us) * policy.end_spread_share_max))
    if hours_max is not None:
        room = min(room, start_us + int(hours_max * HOUR_US) - until_us)
    return max(0, room)
