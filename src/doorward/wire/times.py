"""RFC 3339 at the edge, integer UTC microseconds inside."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def from_rfc3339(text: str) -> int:
    """Return UTC microseconds; raise ``ValueError`` for anything without an explicit offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write 2026-01-31T18:00:00Z")
    return (moment - _EPOCH) // _US


def to_rfc3339(us: int) -> str:
    """Return a time as RFC 3339 in UTC with microseconds, ending in ``Z``."""
    return (_EPOCH + us * _US).isoformat(timespec="microseconds").replace("+00:00", "Z")
