"""The real clock and the real dice of a program that uses the SDK: made here, injected everywhere else."""

import random
import time

from doorward.kit.clock import Clock, SlewingClock


def real_clock() -> Clock:
    """Return a clock over the system's."""
    return SlewingClock(time.time, time.monotonic)


def real_dice() -> random.Random:
    """Return the system's randomness."""
    return random.SystemRandom()
