"""What many seeds came to: for machines as JSON, for people as text."""

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from doorward.simulate.world.play import Outcome

FAILURES_KEPT_MAX = 20


class Report:
    """Sums of many outcomes."""

    def __init__(self, bug: str = "") -> None:
        self.bug = bug
        self.seeds = 0
        self.counts: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.failed: list[Outcome] = []
        self.checks: Counter[str] = Counter()
        self._digest = sha256()

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take what came of some seeds."""
        for outcome in outcomes:
            self.seeds += 1
            self._digest.update(outcome.digest.encode())
            self.counts.update(outcome.counts)
            self.deaths.update(outcome.deaths)
            if outcome.breaches:
                self.failed.append(outcome)
                self.checks.update({breach.check for breach in outcome.breaches})

    @property
    def clean(self) -> bool:
        """Whether no seed found anything."""
        return not self.failed

    def view(self, seconds: float, jobs: int) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "seeds": self.seeds,
            "seeds_per_s": round(self.seeds / seconds, 2) if seconds else 0,
            "jobs": jobs,
            "bug": self.bug,
            "clean": self.clean,
            "failed": [
                {
                    "seed": outcome.seed,
                    "breaches": [
                        {"check": breach.check, "detail": breach.detail, "at_s": round(breach.at_s, 3)}
                        for breach in outcome.breaches
                    ],
                    "replay": replay(outcome.seed, self.bug),
                }
                for outcome in self.failed[:FAILURES_KEPT_MAX]
            ],
            "failed_seeds": len(self.failed),
            "digest": self._digest.hexdigest()[:16],
            "checks": dict(self.checks),
            "counts": dict(sorted(self.counts.items())),
            "deaths": dict(sorted(self.deaths.items())),
        }

    def lines(self, seconds: float) -> list[str]:
        """Return everything for people."""
        rate = self.seeds / seconds if seconds else 0
        lines = [f"{self.seeds} seeds in {seconds:.1f} s ({rate:.1f} a second)"]
        lines += [f"  {name:40} {count:>12,}" for name, count in sorted(self.counts.items())]
        lines += [f"  died at {place:50} {count:>6,}" for place, count in sorted(self.deaths.items())]
        for outcome in self.failed[:FAILURES_KEPT_MAX]:
            lines.append(f"seed {outcome.seed} FAILED; replay it: {replay(outcome.seed, self.bug)}")
            lines += [
                f"  {breach.at_s:10.3f} s  {breach.check}: {breach.detail}" for breach in outcome.breaches
            ]
        lines.append("all clean" if self.clean else f"{len(self.failed)} seeds failed: {dict(self.checks)}")
        return lines


def replay(seed: int, bug: str) -> str:
    """Return the command that plays a seed again and shows everything that happens in it."""
    with_bug = f" --bug {bug}" if bug else ""
    return f"doorward simulate --seeds 1 --from {seed}{with_bug} --trace"


def trace_lines(outcome: Outcome) -> list[str]:
    """Return what happened in one world, a line each."""
    return [f"{at_s:12.3f} s  {who:8} {what}" for at_s, who, what in outcome.trace or []]
