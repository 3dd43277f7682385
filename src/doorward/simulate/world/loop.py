"""An event loop whose time is virtual and whose order is a seed's, and processes that can be killed on it.

Time jumps to the next timer when nothing is ready. Callbacks that are ready together run in an order drawn
from the seed. Every callback belongs to the :class:`Process` in whose context it was scheduled: a dead
process's callbacks never run (``kill -9``: no ``finally``, no last word), a paused one's run when it goes on.
"""

import asyncio
import inspect
import random
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

R = TypeVar("R")

TURNS_MAX = 400_000
"""Rounds of the loop in one world: beyond it something runs in circles."""


class Stuck(Exception):
    """The world cannot go on: everything waits for something that never comes, or runs in circles."""


class Process:
    """What lives and dies together. Code runs inside by :meth:`call` and :meth:`start`."""

    def __init__(self, name: str, loop: "WorldLoop") -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self._loop = loop
        self._missed: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(_PROCESS.set, self)

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        """Call something inside, soon; nothing happens when the process is dead."""
        if not self.dead:
            self._loop.call_soon(callback, *args, context=self.context)

    def start(self, work: Coroutine[Any, Any, R]) -> "asyncio.Task[R]":
        """Run a coroutine inside."""
        return self._loop.create_task(work, context=self.context.copy())

    def kill(self) -> None:
        """``kill -9``: nothing of it runs any more."""
        self.dead = True
        missed, self._missed = self._missed, []
        for handle in missed:
            _drop(handle)

    def pause(self) -> None:
        """Stop it in its tracks, as a machine that is suspended."""
        self.paused = True

    def go_on(self) -> None:
        """End a pause: what it missed comes at once."""
        self.paused = False
        missed, self._missed = self._missed, []
        for handle in missed:
            self._loop.again(handle)

    def miss(self, handle: asyncio.Handle) -> None:
        """Keep a callback until the pause is over."""
        self._missed.append(handle)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def this_process() -> Process | None:
    """The process in which the caller runs (``None``: the world itself)."""
    return _PROCESS.get()


def _drop(handle: asyncio.Handle) -> None:
    """A callback never runs. Where it would have begun a coroutine, that is closed, which runs nothing of it."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    work = task.get_coro() if isinstance(task, asyncio.Task) else None
    if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


class _Never:
    """An awaitable that never is."""

    def __await__(self) -> Generator[Any, None, None]:
        yield asyncio.get_running_loop().create_future()


def never() -> Awaitable[None]:
    """Return something that is never over: for what a dead process still waits for."""
    return _Never()


class WorldLoop(asyncio.AbstractEventLoop):
    """A loop of virtual time. ``shuffled`` says whether what is ready together changes its order."""

    def __init__(self, rng: random.Random, *, shuffled: bool = True) -> None:
        self._rng = rng
        self._shuffled = shuffled
        self._now_s = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._scheduled = 0
        self._turns = 0
        self._running = False
        self._closed = False
        self.errors: list[BaseException] = []
        """What nobody caught."""
        self.on_jump: Callable[[float, float], None] | None = None
        """Called before time jumps from one moment to a later one."""

    # --- what asyncio asks of a loop -----------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._now_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after ``delay`` virtual seconds."""
        return self.call_at(self._now_s + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a moment of virtual time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._scheduled += 1
        heappush(self._timers, (when, self._scheduled, handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, R], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[R]":
        """Run a coroutine as a task."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        """Never: it is the seed that makes a failure plain."""
        return False

    def is_running(self) -> bool:
        """Whether :meth:`run` is under way."""
        return self._running

    def is_closed(self) -> bool:
        """Whether the world is over."""
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep errors that nobody caught; what a dead process leaves behind is none."""
        error = context.get("exception")
        if error is not None and not self._closed:
            self.errors.append(error)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers leave the heap when their time comes."""

    # --- running ---------------------------------------------------------------------------------------

    def again(self, handle: asyncio.Handle) -> None:
        """Put a callback back among those that are ready."""
        self._ready.append(handle)

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of the world to its end. Raises what it raises, and :class:`Stuck`."""
        events._set_running_loop(self)
        self._running = True
        task = self.create_task(work)
        try:
            while not task.done():
                self._turn()
        finally:
            self._running = False
            events._set_running_loop(None)
        return task.result()

    def close(self) -> None:
        """The world is over; what still waits is dropped without a word."""
        self._closed = True
        for handle in self._ready:
            _drop(handle)
        self._ready.clear()
        self._timers.clear()

    def _turn(self) -> None:
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Stuck(f"the world runs in circles at {self._now_s:.3f} s")
        timers = self._timers
        if not self._ready:
            self._jump()
        while timers and timers[0][0] <= self._now_s:
            self._ready.append(heappop(timers)[2])
        batch, self._ready = self._ready, []
        if self._shuffled and len(batch) > 1:
            self._rng.shuffle(batch)
        for handle in batch:
            if not handle._cancelled:
                self._run(handle)

    def _run(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
        if process is not None and (process.dead or process.paused):
            if process.dead:
                _drop(handle)
            else:
                process.miss(handle)
            return
        handle._run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if not timers:
            raise Stuck(f"everything waits for something that never comes, at {self._now_s:.3f} s")
        then_s = max(self._now_s, timers[0][0])
        if self.on_jump is not None and then_s > self._now_s:
            self.on_jump(self._now_s, then_s)
        self._now_s = then_s
