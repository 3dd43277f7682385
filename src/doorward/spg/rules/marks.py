"""Whether a frame is new, a duplicate, or a replay."""

from doorward.spg.rules.facts import Mark
from doorward.wire.reasons import Reason, Refused

DUPLICATES_WITHIN = 1024
"""An old frame this close below the high-water mark is a duplicate of the link, not an attack."""


def is_new(frame: Mark, high: Mark) -> bool:
    """Return whether to read ``frame``; ``False`` for a duplicate. Raises ``replayed`` for older ones."""
    if frame > high:
        return True
    if frame.epoch == high.epoch and high.counter - frame.counter < DUPLICATES_WITHIN:
        return False
    raise Refused(
        Reason.REPLAYED,
        f"frame {frame.epoch}/{frame.counter} is older than {high.epoch}/{high.counter}",
    )
