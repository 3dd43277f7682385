"""Batches without timers: what arrives while one batch is worked on becomes the next.

When it is quiet a batch is one item and nothing waits; under load one transaction serves hundreds.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypedDict, TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


class Bounds(TypedDict, total=False):
    """Options of a :class:`Gatherer`."""

    items_max: int
    queue_max: int
    of_all: tuple[type[Exception], ...]
    turn: Callable[[], Awaitable[None]] | None


class Overloaded(Exception):
    """The queue is at its bound; the caller must refuse."""


class Gatherer(Generic[T, R]):
    """Gives single items to a batch handler.

    ``handle`` takes a list and returns as many answers in the same order; an answer that is an
    exception is raised to its asker. If ``handle`` itself raises, the batch is bisected, so that one
    bad item never fails strangers; what fails alone gets the error. Errors of the kinds ``of_all`` are no
    item's fault (there is no database): all get them at once, and nothing is tried piece by piece. At most
    ``items_max`` go in one batch, at most ``queue_max`` wait (then :class:`Overloaded`). ``runners``
    batches run side by side. ``turn`` is awaited before each batch, which is what has gathered by then.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], Awaitable[list[R | Exception]]],
        *,
        items_max: int = 500,
        queue_max: int = 20_000,
        runners: int = 1,
        of_all: tuple[type[Exception], ...] = (),
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._handle = handle
        self._of_all = of_all
        self._turn = turn
        self._items_max = items_max
        self._queue_max = queue_max
        self._waiting: deque[tuple[T, asyncio.Future[R] | None]] = deque()
        self._idle = runners
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, item: T) -> "asyncio.Future[R]":
        """Queue an item and return the future of its answer."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(item, future)
        return future

    def tell(self, item: T) -> None:
        """Queue an item whose answer nobody awaits; its error is logged."""
        self._put(item, None)

    def _put(self, item: T, future: "asyncio.Future[R] | None") -> None:
        if len(self._waiting) >= self._queue_max:
            raise Overloaded(f"{self._queue_max} items wait")
        self._waiting.append((item, future))
        if self._idle:
            self._idle -= 1
            task = asyncio.get_running_loop().create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._turn is not None:
                    await self._turn()
                count = min(len(self._waiting), self._items_max)
                if count:
                    await self._serve([self._waiting.popleft() for _ in range(count)])
        finally:
            self._idle += 1

    async def _serve(self, batch: "list[tuple[T, asyncio.Future[R] | None]]") -> None:
        try:
            answers = await self._handle([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, self._of_all):
                middle = len(batch) // 2
                await self._serve(batch[:middle])
                await self._serve(batch[middle:])
                return
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future is None:
                if isinstance(answer, Exception):
                    log.error("batch item failed", exc_info=answer)
            elif not future.done():
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def drained(self) -> None:
        """Return when nothing waits and nothing runs."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
