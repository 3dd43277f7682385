"""What a fault is given: dice, engines, and how long it may take."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """``quick`` is the short form, for ``make check``."""

    rng: random.Random
    engines: tuple[str, str]
    quick: bool

    def times(self, *, full: int, quick: int) -> int:
        """How often to do it."""
        return quick if self.quick else full
