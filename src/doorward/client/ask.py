"""What can be asked for, as values: one builder per operation, used by both clients and for lists.

Units are in the names: ``watts``, ``celsius``, ``percent``. A time is an aware ``datetime``, or a
``timedelta`` from now. Every control ends by itself at ``until`` (4 hours when nobody says).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec

from doorward.wire.times import to_rfc3339

When = datetime | timedelta

WAIT_S_DEFAULT = 20
WAIT_S_MAX = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class How(TypedDict, total=False):
    """What every request may carry beside its operation.

    ``wait_s`` (0 to 60, default 20) is how long to wait for the result; ``key`` is your own idempotency
    key (made for you otherwise).
    """

    service_point: str
    format: str
    campaign: str
    priority: str
    deadline: When
    key: str
    wait_s: int


class Control(How, total=False):
    """What a control may carry besides: when it begins and ends, and why it is sent."""

    start: When
    until: When
    cause: str


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request, not yet sent."""

    operation: str
    scope: str = "device"
    device: str = ""
    service_point: str = ""
    body: dict[str, Any] = {}
    format: str = ""
    start: When | None = None
    until: When | None = None
    cause: str = ""
    campaign: str = ""
    priority: str = ""
    deadline: When | None = None
    key: str = ""
    wait_s: int = WAIT_S_DEFAULT

    def fields(self, now_us: int) -> dict[str, Any]:
        """Return the request as the API takes it; ``timedelta`` times count from ``now_us``."""
        texts = ("service_point", "device", "format", "cause", "campaign", "priority", "key")
        found: dict[str, Any] = {"operation": self.operation, "scope": self.scope, "body": self.body}
        found |= {name: getattr(self, name) for name in texts if getattr(self, name)}
        for name in ("start", "until", "deadline"):
            when: When | None = getattr(self, name)
            if when is not None:
                found[name] = to_rfc3339(us_of(when, now_us))
        return found


def us_of(when: When, now_us: int) -> int:
    """Return a time in UTC microseconds; raise ``ValueError`` for a datetime without a time zone."""
    if isinstance(when, timedelta):
        return now_us + when // _US
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone; use datetime(…, tzinfo=UTC)")
    return (when - _EPOCH) // _US


def request(operation: str, device: str = "", *, body: dict[str, Any] | None = None, **how: Any) -> Ask:
    """Any operation with any body; ``how`` are fields of :class:`Ask`."""
    return Ask(operation=operation, device=device, body=body or {}, **how)


def read(device: str, *, values: Sequence[str] | None = None, **how: Any) -> Ask:
    """Read a device now: all that it shows, or only ``values``."""
    return request("read", device, body=_some(values=list(values) if values else None), **how)


def read_home(
    service_point: str,
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    values: Sequence[str] | None = None,
    **how: Any,
) -> Ask:
    """Read all permitted devices of a home in one request: now, or in a past interval."""
    begin, end = (to_rfc3339(us_of(when, 0)) if when else None for when in (from_, to))
    body = _some(values=list(values) if values else None, to=end) | ({"from": begin} if begin else {})
    return request("read", scope="home", service_point=service_point, body=body, **how)


def limit(device: str = "", *, watts: float, service_point: str = "", **how: Any) -> Ask:
    """Draw at most ``watts``: a device, or without one the whole service point."""
    if not device and not service_point:
        raise ValueError("name a device or a service point")
    scope = "device" if device else "service_point"
    body = {"watts": watts}
    return request("limit", device, scope=scope, service_point=service_point, body=body, **how)


def turn_on(device: str, **how: Any) -> Ask:
    """Turn a device on."""
    return request("turn_on", device, **how)


def turn_off(device: str, **how: Any) -> Ask:
    """Turn a device off."""
    return request("turn_off", device, **how)


def setpoint(device: str, *, celsius: float, which: str | None = None, **how: Any) -> Ask:
    """Hold a temperature; ``which`` is ``heat`` or ``cool`` (default: what the mode uses)."""
    return request("setpoint", device, body=_some(celsius=celsius, which=which), **how)


def offset(device: str, *, celsius: float, **how: Any) -> Ask:
    """Shift the setpoint from the owner's own."""
    return request("offset", device, body={"celsius": celsius}, **how)


def mode(device: str, mode: str, **how: Any) -> Ask:
    """Set the mode: off, auto, heat, cool, fan_only, dry."""
    return request("mode", device, body={"mode": mode}, **how)


def shed(device: str, *, level: int = 1, **how: Any) -> Ask:
    """Draw less: 1 shed, 2 critical peak, 3 grid emergency."""
    return request("shed", device, body={"level": level}, **how)


def load_up(device: str, *, level: int = 1, **how: Any) -> Ask:
    """Store energy ahead: 1 load up, 2 advanced."""
    return request("load_up", device, body={"level": level}, **how)


def duty_cycle(device: str, *, percent: float, **how: Any) -> Ask:
    """Run so many percent of the time."""
    return request("duty_cycle", device, body={"percent": percent}, **how)


def program(device: str, intervals: Sequence[dict[str, Any]], **how: Any) -> Ask:
    """Replace the daily programme; each interval begins ``at`` "HH:MM" (UTC)."""
    return request("program", device, body={"intervals": list(intervals)}, **how)


def release(device: str, **how: Any) -> Ask:
    """Let go of what you set on a device. A limit of a whole service point ends by cancelling its request."""
    return request("release", device, **how)


def _some(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
