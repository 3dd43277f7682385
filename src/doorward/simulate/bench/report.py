"""What a bench found: one JSON object for machines, a table for people."""

import msgspec
from rich.console import Console
from rich.table import Table

from doorward.simulate.bench.ledger import Verdict
from doorward.simulate.bench.load import Outcome
from doorward.simulate.bench.plan import PER_HOUR, Phase, Plan

KIB = 1024


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured. ``load_before``: the system's load average just before."""

    processor: str
    cpus: int
    python: str
    system: str
    load_before: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of the CCS: without gateways, with all of them connected, after the load."""

    alone_bytes: int
    connected_bytes: int
    after_bytes: int
    per_gateway_bytes: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time by who used it: µs (user and system) per round trip, and how many cores that kept busy."""

    cpu_us: dict[str, float]
    cores: dict[str, float]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One phase: what was sent, what came of it, what it cost."""

    phase: Phase
    outcome: Outcome
    cost: Cost
    reconnected_s: float = 0.0
    """How long it took until the last gateway was back, where all had lost their links."""

    @property
    def per_s(self) -> float:
        """Round trips a second."""
        return self.outcome.round_trips / self.outcome.seconds if self.outcome.seconds else 0.0

    @property
    def own_us(self) -> float:
        """CPU time of what is measured (the CCS, or the floor) per round trip."""
        return self.cost.cpu_us.get("ccs", self.cost.cpu_us.get("floor", 0.0))

    def words(self) -> str:
        """Return it in a sentence."""
        return (
            f"{self.phase.name} by {self.phase.hand_over}: {self.per_s:.0f}/s, {self.own_us:.0f} µs, "
            f"p50 {self.outcome.p50_ms:.0f} ms, p99 {self.outcome.p99_ms:.0f} ms"
        )

    def view(self) -> dict[str, object]:
        """Return it as JSON."""
        outcome = self.outcome
        return {
            "phase": self.phase.name,
            "hand_over": self.phase.hand_over,
            "requests_per_call": self.phase.items,
            "rate_per_s": self.phase.rate_per_s or None,
            "reconnected_s": round(self.reconnected_s, 1) or None,
            "callers": None if self.phase.rate_per_s else self.phase.callers,
            "requests": outcome.requests,
            "round_trips": outcome.round_trips,
            "unanswered": outcome.unanswered,
            "reasons": outcome.reasons,
            "seconds": round(outcome.seconds, 3),
            "round_trips_per_s": round(self.per_s, 1),
            "cpu_us_per_round_trip": _rounded(self.cost.cpu_us, 1),
            "cores_busy": _rounded(self.cost.cores, 2),
            "latency_ms": {
                "p50": outcome.p50_ms,
                "p95": outcome.p95_ms,
                "p99": outcome.p99_ms,
                "max": outcome.max_ms,
            },
        }


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole bench."""

    plan: Plan
    machine: Machine
    phases: list[Measured]
    floor: list[Measured]
    memory: Memory
    verdict: Verdict
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether every request was answered once and done once."""
        return not (self.verdict.lost or self.verdict.duplicated or self.verdict.refused)

    def ratios(self) -> dict[str, float]:
        """CPU of the CCS over that of the floor, by phase, for answers that were waited for."""
        floors = {each.phase.name: each.own_us for each in self.floor}
        return {
            each.phase.name: round(each.own_us / floors[each.phase.name], 1)
            for each in self.phases
            if each.phase.hand_over == "wait" and floors.get(each.phase.name)
        }

    def view(self) -> dict[str, object]:
        """Return the one JSON object."""
        return {
            "engines": {
                "store": self.plan.store,
                "link": self.plan.link,
                "workers": self.plan.workers,
                "durability": "synchronous=FULL" if self.plan.store == "sqlite" else "fsync=on",
            },
            "machine": self.machine,
            "gateways": self.plan.gateways,
            "light_gateways": self.plan.light,
            "history_rows": self.plan.history,
            "service_points": self.plan.points,
            "limit": f"{PER_HOUR} transactions an hour at every service point, as shipped; none was raised",
            "lost": self.verdict.lost,
            "duplicated": self.verdict.duplicated,
            "ledgers": self.verdict,
            "memory": self.memory,
            "phases": [each.view() for each in self.phases],
            "floor": [each.view() for each in self.floor],
            "ratio_to_floor": self.ratios(),
            "seconds": round(self.seconds, 1),
        }


def _rounded(numbers: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(number, digits) for name, number in numbers.items()}


def draw(report: Report, console: Console) -> None:
    """Print the report for people."""
    plan, machine, verdict = report.plan, report.machine, report.verdict
    console.print(
        f"{plan.store} + {plan.link}, {plan.workers} worker(s), {plan.gateways} gateways, "
        f"{plan.points} service points\n{machine.processor}, {machine.cpus} CPUs, Python {machine.python}, "
        f"load before {machine.load_before:.2f}"
    )
    table = Table(
        "", "handed over by", "round trips", "per s", "CPU µs each", "p50 ms", "p95 ms", "p99 ms", "unanswered",
        box=None,
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for each in report.phases:
        table.add_row(each.phase.name, each.phase.hand_over, *_numbers(each))
    for each in report.floor:
        table.add_row(f"floor: {each.phase.name}", each.phase.hand_over, *_numbers(each))
    console.print(table)
    console.print(f"CPU over the floor: {', '.join(f'{k} {v}×' for k, v in report.ratios().items())}")
    console.print(
        f"memory of the CCS: {report.memory.per_gateway_bytes / KIB:.0f} KiB a connected gateway, "
        f"{report.memory.after_bytes / KIB / KIB:.0f} MiB in all after the load"
    )
    console.print(
        f"asked {verdict.asked}, done {verdict.done}, refused {verdict.refused}, lost {verdict.lost}, "
        f"duplicated {verdict.duplicated} ({report.seconds:.0f} s)"
    )


def _numbers(measured: Measured) -> list[str]:
    outcome = measured.outcome
    return [
        str(outcome.round_trips),
        f"{measured.per_s:.0f}",
        f"{measured.own_us:.0f}",
        f"{outcome.p50_ms:.1f}",
        f"{outcome.p95_ms:.1f}",
        f"{outcome.p99_ms:.1f}",
        str(outcome.unanswered),
    ]
