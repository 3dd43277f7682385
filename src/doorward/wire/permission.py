"""Whether a grant covers a request: one rule, asked at the CCS and again at the gateway."""

from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import Operation, Scope

HOUR_US = 3_600_000_000
CONTROL_US_DEFAULT = 4 * HOUR_US
"""How long a control lasts when nobody says."""


def require_running(document: GrantDocument, now_us: int) -> None:
    """Raise ``access-ended`` or ``access-paused`` unless the grant is in force at ``now_us``."""
    if now_us < document.not_before_us:
        raise Refused(Reason.ACCESS_ENDED, "the customer's permission has not begun")
    if now_us >= document.expires_us:
        raise Refused(Reason.ACCESS_ENDED)
    if now_us < document.paused_until_us:
        raise Refused(Reason.ACCESS_PAUSED)


def permits_of(
    document: GrantDocument, scope: Scope, device: str, operation: Operation
) -> list[DevicePermit]:
    """Return the permits that a request uses: one for a device, all that allow it for a wider scope.

    Raises ``device-unknown`` for a device outside the grant (the same as for one that does not exist),
    ``operation-not-permitted`` when the operation is not among what the customer allowed.
    ``release`` is allowed wherever any control is: letting go always passes.
    """
    if scope is Scope.DEVICE:
        permit = document.permit(device)
        if permit is None:
            raise Refused(Reason.DEVICE_UNKNOWN, field="/device")
        if not _allows(permit, operation):
            raise Refused(Reason.OPERATION_NOT_PERMITTED, field="/operation")
        return [permit]
    if scope is Scope.SERVICE_POINT and operation is not Operation.READ and not document.service_point_limit:
        raise Refused(Reason.OPERATION_NOT_PERMITTED, field="/operation")
    permits = [permit for permit in document.devices if _allows(permit, operation)]
    if not permits:
        raise Refused(Reason.OPERATION_NOT_PERMITTED, field="/operation")
    return permits


def _allows(permit: DevicePermit, operation: Operation) -> bool:
    if operation is Operation.RELEASE:
        return any(allowed.is_control for allowed in permit.operations)
    return operation in permit.operations


def require_within(
    bounds: Bounds,
    operation: Operation,
    body: Mapping[str, object],
    start_us: int,
    until_us: int,
    timezone: str,
) -> None:
    """Raise ``outside-customer-limits`` with the field, unless ``body`` and times are inside ``bounds``.

    ``celsius`` of an ``offset`` is a difference and bounded by ``offset_max``, otherwise a temperature.
    """
    if operation is Operation.OFFSET:
        most = bounds.offset_max
        _between(body.get("celsius"), None if most is None else -most, most, "°C", "/body/celsius")
    else:
        _values_within(bounds, body, "/body")
    intervals = body.get("intervals")
    if isinstance(intervals, list):  # a plan for the day: what it asks for later is bounded now
        for index, interval in enumerate(intervals):
            if isinstance(interval, Mapping):
                _values_within(bounds, interval, f"/body/intervals/{index}")
    if bounds.hours_max is not None and until_us and until_us - start_us > bounds.hours_max * HOUR_US:
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"the customer allows a control to last {bounds.hours_max} h at most",
            field="/until",
        )
    if bounds.between is not None:
        _within_hours(bounds.between, start_us, timezone)


def _values_within(bounds: Bounds, values: Mapping[str, object], at: str) -> None:
    _between(values.get("watts"), bounds.watts_min, bounds.watts_max, "W", f"{at}/watts")
    _between(values.get("celsius"), bounds.celsius_min, bounds.celsius_max, "°C", f"{at}/celsius")


def _between(value: object, low: float | None, high: float | None, unit: str, field: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if low is not None and value < low:
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"{value} {unit} is below the customer's {low} {unit}",
            field=field,
        )
    if high is not None and value > high:
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"{value} {unit} is above the customer's {high} {unit}",
            field=field,
        )


def _within_hours(between: tuple[int, int], start_us: int, timezone: str) -> None:
    local = datetime.fromtimestamp(start_us / 1_000_000, tz=UTC).astimezone(ZoneInfo(timezone))
    minute = local.hour * 60 + local.minute
    begin, end = between
    inside = begin <= minute < end if begin <= end else minute >= begin or minute < end
    if not inside:
        raise Refused(
            Reason.OUTSIDE_CUSTOMER_LIMITS,
            f"the customer allows this only between {begin // 60:02}:{begin % 60:02} and "
            f"{end // 60:02}:{end % 60:02}",
            field="/start",
        )
