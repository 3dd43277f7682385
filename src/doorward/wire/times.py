"""RFC 3339 at the edge, integer UTC microseconds inside."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

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
    second, rest = divmod(us, 1_000_000)
    return f"{_to_second(second)}.{rest:06d}Z"


@lru_cache(maxsize=4096)
def _to_second(second: int) -> str:
    """Return the text up to the second: of the many times in an answer most share a few."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
