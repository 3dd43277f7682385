"""Who says what: the third parties' list, the CCS's answers and the devices' acts, compared as sets."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

DONE = "DONE"


class Line(msgspec.Struct, kw_only=True, array_like=True):
    """One request in the third parties' own list. ``id`` is ``""`` until the CCS has accepted it."""

    device: str
    operation: str
    id: str = ""
    state: str = ""
    """The final state as it was handed over; ``""`` while there is none."""
    reason: str = ""
    answers: int = 0
    """How many times an answer was handed over (webhooks come at least once)."""


class Acts(msgspec.Struct, kw_only=True):
    """What the devices really did: ids of controls in order, and how often each was read."""

    controls: list[str]
    reads: dict[str, int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison. All but ``asked``, ``accepted``, ``done`` and ``handed_over_again`` must be 0."""

    asked: int
    accepted: int
    done: int
    refused: int
    """Not accepted, or answered by anything but DONE."""
    lost: int
    """Accepted and never answered, or DONE without an act of the device."""
    duplicated: int
    """Done by a device more than once, or without having been asked."""
    handed_over_again: int
    """Webhooks repeat until they are acknowledged, so this may be more than 0."""
    reasons: dict[str, int]


def write(path: Path, record: object) -> None:
    """Write a ledger as JSON."""
    path.write_bytes(msgspec.json.encode(record))


def read_lines(path: Path) -> list[Line]:
    """Read what :func:`write` wrote of the load."""
    return msgspec.json.decode(path.read_bytes(), type=list[Line])


def read_acts(path: Path) -> Acts:
    """Read what :func:`write` wrote of the homes."""
    return msgspec.json.decode(path.read_bytes(), type=Acts)


def compare(lines: Iterable[Line], acts: Acts) -> Verdict:
    """Compare the ledgers. A device is read once for a read, and once before a control."""
    lines = list(lines)
    accepted = [line for line in lines if line.id]
    done = [line for line in accepted if line.state == DONE]
    known = {line.id for line in accepted}
    acted, read = Counter(acts.controls), Counter(acts.reads)
    controls = {line.id for line in done if line.operation != "read"}
    unread = Counter(line.device for line in done) - read
    overread = read - Counter(line.device for line in accepted)
    return Verdict(
        asked=len(lines),
        accepted=len(accepted),
        done=len(done),
        refused=sum(not line.id or line.state not in ("", DONE) for line in lines),
        lost=sum(not line.state for line in accepted) + len(controls - acted.keys()) + unread.total(),
        duplicated=acted.total() - len(acted.keys() & known) + overread.total() + len(accepted) - len(known),
        handed_over_again=sum(max(0, line.answers - 1) for line in accepted),
        reasons=dict(Counter(line.reason for line in lines if line.reason)),
    )
