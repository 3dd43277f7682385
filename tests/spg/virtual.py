"""A loop whose time is ours: it jumps to the next timer when nothing is ready, so that a day takes no time."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
IDLE_JUMPS_MAX = 2_000_000


class _Jumping(selectors.SelectSelector):
    """Never waits: tells the loop by how much time has to move."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._jumps = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self._jumps += 1
            assert self._jumps < IDLE_JUMPS_MAX, "the loop jumps for ever"
            self.now_s += timeout
        assert ready or timeout is not None, "everything waits for something that never comes"
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time is what :class:`_Jumping` says."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class Wall:
    """A clock (µs) over the loop's time; ``wrong_us`` is how far the machine's clock is off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_us: int) -> None:
        self._loop = loop
        self._start_us = start_us
        self.wrong_us = 0

    def now_us(self) -> int:
        return self._start_us + int(self._loop.time() * 1_000_000) + self.wrong_us


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own whose time is virtual."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(*args, **kwargs))
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    del run.__wrapped__
    run.__signature__ = __import__("inspect").signature(test)  # type: ignore[attr-defined]
    return run
