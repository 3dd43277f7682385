"""``doorward simulate``: the real CCS and gateways in worlds of virtual time, each the fate of one seed."""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import msgspec
import typer

from doorward.cli.simulate_swing import swing
from doorward.cli.simulate_territory import territory
from doorward.simulate.world.bugs import BUGS
from doorward.simulate.world.play import Outcome, Player
from doorward.simulate.world.report import Report, trace_lines

app = typer.Typer(help="The real CCS and gateways in worlds of virtual time.")
app.command()(swing)
app.command()(territory)

SLICE = 50
"""Seeds that one process plays before it reports."""


@app.callback(invoke_without_command=True)
def simulate(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to play.")] = 100,
    first: Annotated[int, typer.Option("--from", min=0, help="The first seed.")] = 0,
    bug: Annotated[
        str, typer.Option(help="Plant a bug by name, to see that it is found; ?: list them.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Show everything that happens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Play seeds, and judge each by four ledgers: third party, CCS, gateway, device.

    Exits with 1 when a promise was not kept; every failing seed is shown with the command that replays it.
    """
    if context.invoked_subcommand is not None:
        return
    if bug == "?":
        for name, planted in BUGS.items():
            typer.echo(f"{name:28} within {planted.seeds_max:>5} seeds  {planted.what}")
        raise typer.Exit
    if bug and bug not in BUGS:
        typer.echo(f"--bug: there is no {bug!r}; --bug ? lists them", err=True)
        raise typer.Exit(2)
    _same_order_every_time()
    began_s = time.monotonic()
    report = Report(bug)
    if jobs > 1 and not trace:
        _side_by_side(report, first, seeds, bug, jobs)
    else:
        player = Player(bug)
        for seed in range(first, first + seeds):
            outcome = player.play(seed, trace=trace)
            report.add([outcome])
            if trace and not as_json:
                typer.echo("\n".join(trace_lines(outcome)))
            if bug and outcome.breaches:
                break
    seconds = time.monotonic() - began_s
    if as_json:
        typer.echo(msgspec.json.encode(report.view(seconds, jobs)))
    else:
        typer.echo("\n".join(report.lines(seconds)))
    raise typer.Exit(0 if report.clean else 1)


def _same_order_every_time() -> None:
    """Sets of text are walked in an order that Python draws anew for each process, unless it is told not to."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        again = [sys.executable, "-m", "doorward.cli", *sys.argv[1:]]
        os.execve(sys.executable, again, environment)  # noqa: S606 - ourselves


def _side_by_side(report: Report, first: int, seeds: int, bug: str, jobs: int) -> None:
    slices = [(at, min(SLICE, first + seeds - at), bug) for at in range(first, first + seeds, SLICE)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for outcomes in pool.map(_play_slice, slices):
            report.add(outcomes)


_players: dict[str, Player] = {}


def _play_slice(part: tuple[int, int, str]) -> list[Outcome]:
    first, seeds, bug = part
    if bug not in _players:
        _players[bug] = Player(bug)
    return [_players[bug].play(seed) for seed in range(first, first + seeds)]
