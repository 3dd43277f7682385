"""How many pages may follow something at a time."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from doorward.wire.reasons import Reason, Refused

PER_PERSON_MAX = 6
STREAMS_MAX = 500


class Streams:
    """The streams of one portal; ``closing`` ends all of them."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, person: str) -> Iterator[None]:
        """Hold a place among the streams."""
        self._open[person] += 1
        try:
            yield
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]

    def require_room(self, person: str) -> None:
        """Raise ``rate-limited`` beyond the bounds."""
        if self._open[person] >= PER_PERSON_MAX or self._open.total() >= STREAMS_MAX:
            raise Refused(Reason.RATE_LIMITED, "too many pages are following something", retry_after_s=5.0)
