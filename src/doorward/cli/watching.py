"""Sends a request and draws its journey in the terminal as it happens: for ``doorward ask`` and ``set``."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from doorward.cli.demo import STATE_FILE
from doorward.client import Client, DoorwardError, Request
from doorward.client.records import Step

LOOK_S = 0.15
WAIT_S_MAX = 75.0
MARKS = {"ok": ("✓", "green"), "refused": ("✗", "red"), "failed": ("✗", "red"), "waiting": ("…", "yellow")}

Dir = Annotated[Path, typer.Option("--dir", help="Directory of the running demo.")]
Url = Annotated[str, typer.Option("--url", envvar="DOORWARD_URL", help="Another CCS than the demo's.")]
Party = Annotated[str, typer.Option("--client-id", envvar="DOORWARD_CLIENT_ID", help="Who asks.")]
SecretFile = Annotated[Path | None, typer.Option("--secret-file", help="File with the client secret.")]


def client_of(dir: Path, url: str, client_id: str, secret_file: Path | None) -> Client:
    """Return a client of the running demo, or of the CCS that is named; exits with what is missing."""
    if not url:
        try:
            state = json.loads((dir / STATE_FILE).read_text())
        except OSError:
            fail(f"no demo runs in {dir}; start one with 'doorward demo', or name a CCS with --url")
        url, client_id = state["url"], client_id or state["party"]
        secret_file = secret_file or dir / "secrets" / client_id
    if secret_file is None or not client_id:
        fail("--url needs --client-id and --secret-file")
    return Client(url, client_id=client_id, client_secret=secret_file.read_text().strip())


def watch(client: Client, send: Callable[[Client], Request]) -> None:
    """Send, then draw every step as it comes on record, then the answer."""
    console = Console(highlight=False)
    with client:
        try:
            request = send(client)
            console.print(f"request {request.id}")
            shown = 0
            end_s = time.monotonic() + WAIT_S_MAX
            while not request.is_final and time.monotonic() < end_s:
                shown = _draw(console, client.journey(request.id).steps, shown)
                time.sleep(LOOK_S)
                request = client.get(request.id)
            _draw(console, client.journey(request.id).steps, shown)
        except DoorwardError as error:
            fail(str(error))
    _outcome(console, request)


def _draw(console: Console, steps: list[Step], shown: int) -> int:
    for step in steps[shown:]:
        mark, colour = MARKS.get(step.outcome, ("·", "white"))
        line = Text(f"  {mark} ", style=colour)
        line.append(f"{step.at:%H:%M:%S.%f}"[:-3], style="dim")
        line.append(f"  {step.actor:<12}")
        line.append(step.sentence)
        if step.scenario:
            line.append(f"  {' '.join(step.scenario)}", style="dim")
        console.print(line, soft_wrap=True)
    return max(shown, len(steps))


def _outcome(console: Console, request: Request) -> None:
    colour = "green" if request.state == "DONE" else "red"
    console.print(
        Text(f"{request.state}", style=f"bold {colour}"), request.reason or "", request.detail or ""
    )
    if request.result:
        console.print_json(data=request.result)
    if request.state != "DONE":
        raise typer.Exit(1)


def fail(text: str) -> NoReturn:
    """Say what is wrong, and end."""
    typer.echo(text, err=True)
    raise typer.Exit(2)
