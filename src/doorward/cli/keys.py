"""``doorward keys``: change the keys with which the CCS signs, without an outage."""

from pathlib import Path
from typing import Annotated

import typer

from doorward.ccs.app import KEYS_DIR
from doorward.ccs.engines.keys import Rotated, Rotation, rotate
from doorward.ccs.settings import PREFIX

app = typer.Typer(help="Change the keys with which the CCS signs.", no_args_is_help=True)

NEXT = {
    Rotation.PUBLISHED: "The next key is published. Restart the workers (SIGHUP), give those who keep a copy of "
    "our public keys time to fetch it, then run this again.",
    Rotation.SIGNS: "The next key signs from the next restart of the workers on (SIGHUP). The old one is believed. "
    "Run this again when nothing is about any more that it signed: a token's life, or three days of webhooks.",
    Rotation.RETIRED: "The old key is no longer believed from the next restart of the workers on (SIGHUP).",
}


@app.callback()
def keys() -> None:
    """Change the CCS's own keys; its authorities have theirs."""


@app.command("rotate")
def rotate_key(
    name: Annotated[Rotated, typer.Argument(help="Which key.")],
    dir: Annotated[
        Path,
        typer.Option("--dir", envvar=f"{PREFIX}DATA_DIR", help="The CCS's data directory.", file_okay=False),
    ] = Path("doorward-data"),
) -> None:
    """Do the next of three steps: publish the next key, sign with it, believe the old one no more."""
    place = dir / KEYS_DIR
    if not (place / f"{name}.key").exists():
        typer.echo(f"{place}: there are no keys yet; they are made at the CCS's first start", err=True)
        raise typer.Exit(1)
    typer.echo(NEXT[rotate(place, name)])
