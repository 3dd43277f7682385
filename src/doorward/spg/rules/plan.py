"""A limit for the whole service point, met across the permitted devices (S2.09b).

The plan is what the devices are told; whether the limit was met is decided by reading back.
"""

from collections.abc import Sequence

import msgspec

from doorward.wire.grants import Bounds
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import DeviceClass, Operation

LIMITED_FIRST = (DeviceClass.EV_CHARGER, DeviceClass.POOL_PUMP, DeviceClass.HEAT_PUMP)
"""Devices whose power is cut first: the ones that a home misses least."""
OFF_FIRST = (
    DeviceClass.POOL_PUMP,
    DeviceClass.EV_CHARGER,
    DeviceClass.WATER_HEATER,
    DeviceClass.RELAY,
    DeviceClass.HEAT_PUMP,
)
SHED_LEVEL = 3
NOISE_SHARE = 0.02
NOISE_W = 25.0
"""A total this little over the limit still is within what meters tell apart."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A device that may be told something, what it draws now, and what it may be told."""

    device: str
    device_class: DeviceClass
    power_w: float
    rated_w: float
    operations: frozenset[Operation]
    bounds: Bounds


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one device is told, and what it then draws at most."""

    device: str
    operation: Operation
    body: dict[str, object]
    expected_w: float


def spread(limit_w: float, total_w: float, candidates: Sequence[Candidate]) -> list[Step]:
    """Return what to tell which device so that ``total_w`` falls to ``limit_w`` and stays there.

    ``total_w`` is the whole service point, ``candidates`` the part of it that may be told something.
    Raises ``outside-customer-limits`` when the permitted devices cannot bring it so far down.
    """
    allowed = {c.device: c.power_w for c in candidates}
    off: set[str] = set()
    excess = total_w - limit_w
    limited = _ordered([c for c in candidates if Operation.LIMIT in c.operations], LIMITED_FIRST)
    for candidate in limited:
        cut = min(max(excess, 0.0), max(0.0, candidate.power_w - _floor(candidate)))
        allowed[candidate.device] -= cut
        excess -= cut
    for candidate in _ordered([c for c in candidates if _off_operation(c)], OFF_FIRST):
        if excess > 0 and allowed[candidate.device] > 0:
            excess -= allowed[candidate.device]
            allowed[candidate.device] = 0.0
            off.add(candidate.device)
    if excess > 0:
        reached_w = limit_w + excess
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"the permitted devices can bring the service point to {reached_w:.0f} W, not to {limit_w:.0f} W",
            field="/body/watts",
        )
    steps = [_switch_off(c) for c in candidates if c.device in off]
    return steps + _caps([c for c in limited if c.device not in off], allowed, -excess)


def is_met(limit_w: float, total_w: float) -> bool:
    """Whether a total that was read back honours the limit, within what meters tell apart."""
    return total_w <= limit_w + max(NOISE_W, limit_w * NOISE_SHARE)


def _caps(limited: Sequence[Candidate], allowed: dict[str, float], slack_w: float) -> list[Step]:
    """A cap for every device that can have one, idle ones too, so that none of them rises over the limit."""
    steps = []
    for candidate in limited:
        ceiling = max(candidate.rated_w, candidate.power_w)
        if candidate.bounds.watts_max is not None:
            ceiling = min(ceiling, candidate.bounds.watts_max)
        room = min(slack_w, max(0.0, ceiling - allowed[candidate.device]))
        slack_w -= room
        watts = max(_floor(candidate), allowed[candidate.device] + room)
        steps.append(
            Step(
                device=candidate.device,
                operation=Operation.LIMIT,
                body={"watts": round(watts, 1)},
                expected_w=watts,
            )
        )
    return steps


def _switch_off(candidate: Candidate) -> Step:
    operation = _off_operation(candidate)
    assert operation is not None
    body: dict[str, object] = {"level": SHED_LEVEL} if operation is Operation.SHED else {}
    return Step(device=candidate.device, operation=operation, body=body, expected_w=0.0)


def _off_operation(candidate: Candidate) -> Operation | None:
    for operation in (Operation.TURN_OFF, Operation.SHED):
        if operation in candidate.operations:
            return operation
    return None


def _floor(candidate: Candidate) -> float:
    return candidate.bounds.watts_min or 0.0


def _ordered(candidates: Sequence[Candidate], first: Sequence[DeviceClass]) -> list[Candidate]:
    rank = {device_class: place for place, device_class in enumerate(first)}
    return sorted(candidates, key=lambda c: (rank.get(c.device_class, len(first)), c.device))
