"""What a fault was, how often it was done, and what the ledgers say."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from doorward.simulate.faults.judge import Verdict


class ToolMissing(RuntimeError):
    """A fault needs something that this machine does not have; the message names it."""


@dataclass
class Report:
    """One fault on one pair of engines. ``did``: what was done → how often; ``figures``: what was measured.

    ``wrong`` are promises that the fault itself saw broken, besides those of the ledgers; ``missing`` says
    why it was not played at all.
    """

    fault: str
    engines: str
    did: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    wrong: list[str] = field(default_factory=list)
    missing: str = ""
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether it was played and every promise held."""
        return not self.missing and not self.wrong and (self.verdict is None or self.verdict.sound)

    def require(self, holds: object, promise: str) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.wrong.append(promise)

    def view(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {**asdict(self), "did": dict(self.did), "sound": self.sound}

    def lines(self) -> list[str]:
        """The report for people."""
        word = "NOT PLAYED" if self.missing else "ok" if self.sound else "BROKEN"
        found = [f"{word:10} {self.fault} ({self.engines}, {self.seconds:.0f} s)"]
        if self.missing:
            return [*found, f"           {self.missing}"]
        if self.did:
            found.append(
                "           did: " + ", ".join(f"{count} × {what}" for what, count in self.did.items())
            )
        if self.figures:
            found.append("           measured: " + ", ".join(f"{k} {v:g}" for k, v in self.figures.items()))
        if self.verdict is not None:
            found.append(f"           ledgers: {self.verdict.words()}")
        return found + [f"           wrong: {each}" for each in self.wrong]
