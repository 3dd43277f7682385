"""``python -m doorward.simulate.faults``: play faults on real processes, and say what the ledgers say.

Exits with 1 when a promise was broken, with 3 when nothing was broken but a fault could not be played here.
"""

import signal
import sys
from typing import Annotated

import msgspec
import typer

from doorward.simulate.faults.report import Report
from doorward.simulate.faults.suite import FAULTS, play_all
from doorward.simulate.local_utility import ENGINES

NOT_PLAYED = 3


def main(
    only: Annotated[str, typer.Option(help=f"Some of {','.join(FAULTS)}.")] = ",".join(FAULTS),
    engines: Annotated[
        str, typer.Option(help="Pairs of store and link, as sqlite+websocket,postgresql+mqtt.")
    ] = ",".join(map("+".join, ENGINES)),
    seed: Annotated[int, typer.Option(help="Which random moments.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few of each.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a fault, a line each.")] = False,
) -> None:
    """Break running processes in mid load, and compare four ledgers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
    names, pairs = _names(only), [pair for pair in ENGINES if "+".join(pair) in engines.split(",")]
    reports = []
    for report in play_all(names, engines=pairs, seed=seed, quick=quick):
        reports.append(report)
        if as_json:
            typer.echo(msgspec.json.encode(report.view()))
        else:
            typer.echo("\n".join(report.lines()))
    typer.echo(_summary(reports, seed), err=True)
    if any(not report.sound and not report.missing for report in reports):
        raise typer.Exit(1)
    raise typer.Exit(NOT_PLAYED if any(report.missing for report in reports) else 0)


def _names(only: str) -> list[str]:
    names = [word.strip() for word in only.split(",") if word.strip()]
    for name in names:
        if name not in FAULTS:
            typer.echo(f"--only: {name!r} is none of {', '.join(FAULTS)}", err=True)
            raise typer.Exit(2)
    return names


def _summary(reports: list[Report], seed: int) -> str:
    done = sum(report.did.total() for report in reports)
    accepted = sum(report.verdict.accepted for report in reports if report.verdict)
    broken = sum(not report.sound and not report.missing for report in reports)
    missing = sum(bool(report.missing) for report in reports)
    return (
        f"{len(reports)} faults (seed {seed}): {done} injections, {accepted} accepted requests; "
        f"{broken} broken, {missing} not played"
    )


if __name__ == "__main__":
    typer.run(main)
