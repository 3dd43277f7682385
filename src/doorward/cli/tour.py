"""``doorward tour``: walk through scenarios 1 and 2, and what is refused, on a fresh system."""

import signal
import sys
from contextlib import closing
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from doorward.simulate.local_utility import EMBEDDED, ENGINES, DidNotStart
from doorward.simulate.services import ServiceUnavailable
from doorward.simulate.tour.evidence import Chapter
from doorward.simulate.tour.run import tour as play

app = typer.Typer(add_completion=False)

TITLES: dict[int | str, str] = {"refusals": "What is refused", "record": "What is on record"}


@app.command()
def tour(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a chapter and line.")] = False,
    engines: Annotated[str, typer.Option(help="Store and link: sqlite,websocket or postgresql,mqtt.")] = (
        ",".join(EMBEDDED)
    ),
    workers: Annotated[int, typer.Option(min=1, max=16, help="CCS processes (postgresql,mqtt).")] = 1,
) -> None:
    """Play scenario 1, scenario 2 and the refusals on a fresh system, and audit what is on record of it; 0 only if
    all of it was seen."""
    store, _, link = engines.partition(",")
    if (store, link) not in ENGINES:
        known = " or ".join(",".join(pair) for pair in ENGINES)
        raise typer.BadParameter(f"{engines!r} is none of {known}", param_hint="--engines")
    # Told to end, we first end what we started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console, ok = Console(highlight=False), True
    try:
        with closing(play((store, link), workers)) as chapters:
            for chapter in chapters:
                ok = ok and chapter.ok
                if as_json:
                    typer.echo(msgspec.json.encode(chapter))
                else:
                    _draw(console, chapter)
    except (DidNotStart, ServiceUnavailable) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
    sys.exit(0 if ok else 1)


def _draw(console: Console, chapter: Chapter) -> None:
    title = TITLES.get(chapter.scenario, f"Scenario {chapter.scenario}")
    console.print(Text(title, style="bold green" if chapter.ok else "bold red"))
    for step in chapter.steps:
        line = Text("  ✓ " if step.ok else "  ✗ ", style="green" if step.ok else "red")
        line.append(f"{step.id:<7}", style="bold")
        line.append(f"{step.at[11:23]:<13}", style="dim")
        line.append(f"{step.what.replace('_', ' '):<58} ", style="default")
        line.append(step.seen_in, style="dim")
        if step.why:
            line.append(f"  {step.why}", style="red")
        console.print(line, soft_wrap=True)
