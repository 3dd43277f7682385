"""Who waits for what: by request id or third party, on the worker that accepted.

Another worker's commit is a hint only; whoever waits also asks the books once a second.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from doorward.ccs.rules.facts import Request


@dataclass(eq=False, slots=True)
class Wait:
    """One who waits. ``token`` is what they would fetch with; ``answer`` is what a commit gave them.

    ``chosen``: a transaction has handed the answer over to them, and they must not leave before its commit.
    """

    token: str = ""
    chosen: bool = False
    answer: Request | Exception | None = None
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def within(self, seconds: float) -> bool:
        """Wait to be told, at most ``seconds``; whether it happened. The next round waits anew."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True


class Waiters:
    """Those whom a commit wakes. Bounded by the doors, which give every wait a time-out."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Wait]] = {}

    def add(self, key: str, token: str = "") -> Wait:
        """Return a wait that is told when something about ``key`` was committed."""
        wait = Wait(token)
        self._waiting.setdefault(key, set()).add(wait)
        return wait

    def drop(self, key: str, wait: Wait) -> None:
        """Forget a wait; idempotent."""
        waits = self._waiting.get(key)
        if waits is not None:
            waits.discard(wait)
            if not waits:
                del self._waiting[key]

    def of(self, key: str) -> Collection[Wait]:
        """Those who wait for ``key``."""
        return self._waiting.get(key, ())

    def tell(self, keys: Iterable[str]) -> None:
        """Wake whoever waits for ``keys``."""
        if not self._waiting:
            return
        for key in keys:
            for wait in self._waiting.get(key, ()):
                wait.event.set()

    def keys(self) -> list[str]:
        """What is waited for now."""
        return list(self._waiting)

    def wake_all(self) -> None:
        """Let everybody look again (shutdown, lost hints)."""
        self.tell(list(self._waiting))
