"""Trying again without a stampede: full jitter, so that a restarted server meets its clients spread out."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

FIRST_WAIT_S = 1.0
WAIT_S_MAX = 30.0
"""Half of the minute within which the way is open again (P5), also when several attempts failed before."""
STEADY_S = 10.0
"""How long a connection must have stood before the next failure counts as the first again."""


class FullJitter:
    """Waits drawn evenly from 0 to a ceiling that doubles with every failure, up to ``wait_s_max``."""

    def __init__(
        self, rng: random.Random, *, first_wait_s: float = FIRST_WAIT_S, wait_s_max: float = WAIT_S_MAX
    ) -> None:
        self._rng = rng
        self._first_s = first_wait_s
        self._most_s = wait_s_max
        self._ceiling_s = first_wait_s

    def next_s(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        wait = self._rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._most_s, self._ceiling_s * 2)
        return wait

    def reset(self) -> None:
        """Begin anew: the last attempt went well."""
        self._ceiling_s = self._first_s


async def keep_up(
    session: Callable[[], Awaitable[None]],
    backoff: FullJitter,
    log: logging.Logger,
    *,
    steady_s: float = STEADY_S,
) -> None:
    """Run ``session`` again and again, with waits between; returns only by cancellation.

    ``session`` returns or raises when its connection has ended. ``OSError`` (and so ``ConnectionError``
    and ``TimeoutError``) is what links do; anything else is a fault of ours and logged with its trace.
    """
    loop = asyncio.get_running_loop()
    while True:
        began_s = loop.time()
        try:
            await session()
        except OSError as error:
            log.info("link: %s", error or type(error).__name__)
        except Exception:
            log.exception("link session failed")
        if loop.time() - began_s >= steady_s:
            backoff.reset()
        await asyncio.sleep(backoff.next_s())
