"""Who waits for what: futures by request id, on the worker that accepted.

Another worker's commit is a hint only; whoever waits also asks the books once a second.
"""

import asyncio
from collections.abc import Iterable


class Waiters:
    """Futures that a commit resolves. Bounded by the doors, which give every wait a time-out."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def add(self, key: str) -> asyncio.Event:
        """Return an event that is set when something about ``key`` was committed."""
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        return event

    def drop(self, key: str, event: asyncio.Event) -> None:
        """Forget a wait; idempotent."""
        events = self._waiting.get(key)
        if events is not None:
            events.discard(event)
            if not events:
                del self._waiting[key]

    def tell(self, keys: Iterable[str]) -> None:
        """Wake whoever waits for ``keys``."""
        if not self._waiting:
            return
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    def keys(self) -> list[str]:
        """What is waited for now."""
        return list(self._waiting)

    def wake_all(self) -> None:
        """Let everybody look again (shutdown, lost hints)."""
        self.tell(list(self._waiting))


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event`` at most ``seconds``; whether it was set. The event is cleared for the next round."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    event.clear()
    return True
