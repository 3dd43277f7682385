"""The only source of wall time.

It advances by monotonic time from where it started and *slews* towards the wall: a step of the system
clock never moves it back, and moves it forward by at most a bounded share of elapsed time.
"""

import threading
from collections.abc import Callable
from typing import Protocol

US = 1_000_000
SLEW_PER_S = 0.05
"""How much of a second the clock may gain or lose on the wall per elapsed second."""


class Clock(Protocol):
    """What the house asks the time of."""

    def now_us(self) -> int:
        """Return UTC in microseconds since 1970; never less than it returned before."""
        ...


class SlewingClock:
    """A clock over an injected wall and monotonic source (both in seconds). Threads may share it: a step
    of the store asks it on the writer's thread. With a ``slew_per_s`` of 0 the wall is looked at only once."""

    def __init__(
        self,
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        slew_per_s: float = SLEW_PER_S,
    ) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._slew_per_s = slew_per_s
        self._mono = monotonic_s()
        self._now = wall_s()
        self._lock = threading.Lock()

    def now_us(self) -> int:
        """Return UTC microseconds, monotonic, slewing towards the wall."""
        with self._lock:
            mono = self._monotonic_s()
            elapsed = mono - self._mono
            self._mono = mono
            ahead = self._wall_s() - (self._now + elapsed)
            room = elapsed * self._slew_per_s
            self._now += elapsed + max(-room, min(room, ahead))
            return int(self._now * US)
