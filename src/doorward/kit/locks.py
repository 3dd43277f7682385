"""A lock whose most urgent waiter goes first."""

import asyncio
from heapq import heappop, heappush
from types import TracebackType


class UrgentLock:
    """An asyncio lock with ranks: among those who wait, the smallest rank goes first, then the earliest."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self._held

    async def acquire(self, rank: int) -> None:
        """Take the lock, waiting behind those of smaller rank."""
        if not self._held:
            self._held = True
            return
        self._arrivals += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (rank, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn already: pass it on
                self.release()
            raise

    def release(self) -> None:
        """Hand the lock to the next who waits."""
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._held = False


class Held:
    """Holds several locks, taken in the order given; an async context manager."""

    def __init__(self, locks: list[UrgentLock], rank: int) -> None:
        self._locks = locks
        self._rank = rank
        self._taken: list[UrgentLock] = []

    async def __aenter__(self) -> None:
        try:
            for lock in self._locks:
                await lock.acquire(self._rank)
                self._taken.append(lock)
        except BaseException:
            self._let_go()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        while self._taken:
            self._taken.pop().release()
