"""The figures of docs/performance.md, as tables in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

KIB = 1024
GOALS_US = {("singles", "webhook"): 300, ("lists", "wait"): 150}
"""CPU µs of the CCS per round trip that we want to reach, by phase and way of handing over."""
NAMES = {
    "sqlite": "SQLite + WebSocket, light gateways",
    "real": "SQLite + WebSocket, real gateways",
    "postgresql-1": "PostgreSQL + MQTT, 1 worker",
    "postgresql-2": "PostgreSQL + MQTT, 2 workers",
    "history": "SQLite + WebSocket, 10 million journal rows",
    "postgresql-history": "PostgreSQL + MQTT, 10 million journal rows",
    "storm": "SQLite + WebSocket, 10,000 gateways",
}

Report = Mapping[str, Any]


def figures(data: Mapping[str, Report]) -> str:
    """Return all figures of the runs that there are."""
    runs = {name: data[name] for name in NAMES if name in data}
    if not runs:
        return "Nothing has been measured yet.\n"
    parts = [_machine(runs), _trips(runs), _memory(runs), _storm(runs), _history(runs), _missing(runs)]
    return "\n".join(part for part in parts if part)


def cpu_us(phase: Report) -> float:
    """CPU time of the CCS (or the floor) per round trip."""
    costs: Mapping[str, float] = phase["cpu_us_per_round_trip"]
    return costs.get("ccs", costs.get("floor", 0.0))


def _servers(phase: Report) -> str:
    """CPU time of database and broker per round trip, empty where there are none."""
    costs = phase["cpu_us_per_round_trip"]
    used = costs.get("database", 0.0) + costs.get("broker", 0.0)
    return f"{used:,.0f}" if used else ""


def floor_us(report: Report, phase: str) -> float:
    """What the floor of the same run needs for such a phase, 0 where it has none."""
    return next((cpu_us(each) for each in report["floor"] if each["phase"] == phase), 0.0)


def _machine(runs: Mapping[str, Report]) -> str:
    machines = {
        f"{each['machine']['processor']}, {each['machine']['cpus']} CPUs, Python {each['machine']['python']}, "
        f"{each['machine']['system']}"
        for each in runs.values()
    }
    times = sorted(each["measured"] for each in runs.values())
    loads = [each["machine"]["load_before"] for each in runs.values()]
    sums = [sum(each["ledgers"][what] for each in runs.values()) for what in ("asked", "lost", "duplicated")]
    return (
        f"Measured {times[0]} to {times[-1]} on {'; '.join(sorted(machines))}. Load average before each run: "
        f"{min(loads):.1f} to {max(loads):.1f}. Of {sums[0]:,} requests in all runs, {sums[1]} were lost and "
        f"{sums[2]} done twice.\n"
    )


def _trips(runs: Mapping[str, Report]) -> str:
    head = [
        "| run | phase | answers by | a second | CPU µs | floor | ratio | goal | servers | p50 ms | p99 ms |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*head, *(line for name, each in runs.items() for line in _rows(name, each)), ""])


def _rows(name: str, report: Report) -> Iterator[str]:
    for phase in report["phases"]:
        if phase["phase"] == "storm":
            continue
        own, bare = cpu_us(phase), floor_us(report, phase["phase"])
        by = phase["hand_over"]
        ratio = f"{own / bare:.1f}" if bare else ""
        goal = GOALS_US.get((phase["phase"], by), "")
        latency = phase["latency_ms"]
        yield (
            f"| {NAMES[name]} | {phase['phase']} | {by} | {phase['round_trips_per_s']:,.0f} | {own:,.0f} "
            f"| {f'{bare:.0f}' if bare else ''} | {ratio} | {goal} | {_servers(phase)} "
            f"| {latency['p50']:,.0f} | {latency['p99']:,.0f} |"
        )


def _memory(runs: Mapping[str, Report]) -> str:
    lines = ["| run | gateways | KiB each | CCS in all, MiB |", "|---|--:|--:|--:|"]
    for name in ("real", "storm"):
        if name in runs:
            memory = runs[name]["memory"]
            lines.append(
                f"| {NAMES[name]} | {runs[name]['gateways']:,} | {memory['per_gateway_bytes'] / KIB:.0f} "
                f"| {memory['after_bytes'] / KIB / KIB:,.0f} |"
            )
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


def _storm(runs: Mapping[str, Report]) -> str:
    for phase in runs.get("storm", {}).get("phases", ()):
        if phase["phase"] == "storm":
            latency = phase["latency_ms"]
            return (
                f"All {runs['storm']['gateways']:,} gateways lost their links at once under "
                f"{phase['rate_per_s']:.0f} round trips a second: the last was back after "
                f"{phase['reconnected_s']:.0f} s. Meanwhile {phase['round_trips']:,} of {phase['requests']:,} "
                f"requests were done, p50 {latency['p50']:,.0f} ms, p99 {latency['p99']:,.0f} ms.\n"
            )
    return ""


def _history(runs: Mapping[str, Report]) -> str:
    said = []
    for without, with_it in (("sqlite", "history"), ("postgresql-1", "postgresql-history")):
        if without in runs and with_it in runs:
            told = ", ".join(
                f"{phase} {_over(runs[with_it], phase):.1f} times the floor "
                f"instead of {_over(runs[without], phase):.1f}"
                for phase in ("singles", "lists")
            )
            said.append(f"{NAMES[with_it]}: {told}.")
    return " ".join(said) + "\n" if said else ""


def _missing(runs: Mapping[str, Report]) -> str:
    missing = [words for name, words in NAMES.items() if name not in runs]
    return f"Not measured yet: {'; '.join(missing)}.\n" if missing else ""


def _over(report: Report, phase: str) -> float:
    ratio: float = report["ratio_to_floor"].get(phase, 0.0)
    return ratio
