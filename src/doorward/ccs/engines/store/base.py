"""What every part of the books stands on."""

from doorward.ccs.engines.sql import Executor

DAY_US = 86_400_000_000


class Part:
    """A part of one transaction. ``now_us`` is when it began: dated links are read at that moment."""

    def __init__(self, executor: Executor, now_us: int) -> None:
        self._on = executor
        self._now_us = now_us
