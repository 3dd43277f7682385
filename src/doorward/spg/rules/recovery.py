"""What became of an intent whose result was lost in a crash. The gateway never does it again."""

from collections.abc import Sequence


def verdict(held_before: bool, holds_now: bool | None) -> str:
    """Return ``DONE`` only where the device proves it: it did not hold the target before, and holds it now.

    ``holds_now`` is ``None`` when the device does not answer.
    """
    return "DONE" if holds_now and not held_before else "UNCONFIRMED"


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict over all devices of one request: ``DONE`` only if each one is."""
    return "DONE" if verdicts and all(word == "DONE" for word in verdicts) else "UNCONFIRMED"
