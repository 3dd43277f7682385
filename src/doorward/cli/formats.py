"""``doorward formats``: list the message formats, add one of the utility's own, retire one (F14)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from doorward.ccs.engines.opening import open_store
from doorward.ccs.ports import Store
from doorward.ccs.rules.facts import FormatRow
from doorward.ccs.rules.formats import check_format
from doorward.ccs.settings import PREFIX, SQLITE_FILE
from doorward.kit.clock import SlewingClock
from doorward.wire.reasons import Refused

app = typer.Typer(help="List, add and retire message formats.", no_args_is_help=True)

R = TypeVar("R")

PLACE = Path("doorward-data")

Dir = Annotated[Path, typer.Option("--dir", envvar=f"{PREFIX}DATA_DIR", help="The CCS's data directory.")]
Database = Annotated[
    str, typer.Option("--database", envvar=f"{PREFIX}DATABASE", help="sqlite:///path or postgresql://…")
]


@app.command("list")
def list_(dir: Dir = PLACE, database: Database = "") -> None:
    """List all formats, active and retired."""
    rows = _run(dir, database, _rows)
    table = Table("format", "for", "state", "title", box=None)
    for row in rows:
        format_ = check_format(row.document)
        table.add_row(
            format_.reference, f"{format_.operation} of {format_.device_class}", row.state, format_.title
        )
    Console().print(table)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The format as JSON.", exists=True, dir_okay=False)],
    dir: Dir = PLACE,
    database: Database = "",
) -> None:
    """Add a format, or bring a retired one back. A running CCS takes it within seconds."""
    document = file.read_bytes()
    try:
        format_ = check_format(document)
    except Refused as refusal:
        _fail(f"{file}{refusal.field}: {refusal.detail}")
    row = FormatRow(name=format_.name, version=format_.version, state="active", document=document)
    known = {(each.name, each.version): each for each in _run(dir, database, _rows)}
    before = known.get((row.name, row.version))
    if before is not None and before.document != document:
        _fail(f"{format_.reference} is there with another text; a changed format needs a new version")
    _run(dir, database, lambda store: store.write(lambda books: books.put_formats([row])))
    typer.echo(f"{format_.reference} is active")


@app.command()
def retire(
    format: Annotated[str, typer.Argument(help="name/version, as thermostat.setpoint/1")],
    dir: Dir = PLACE,
    database: Database = "",
) -> None:
    """Retire a format: requests that name it are refused from then on."""
    name, _, version = format.partition("/")
    found = [row for row in _run(dir, database, _rows) if (row.name, str(row.version)) == (name, version)]
    if not found:
        _fail(f"there is no format {format}; 'doorward formats list' names them")
    retired = [replace(row, state="retired") for row in found]
    _run(dir, database, lambda store: store.write(lambda books: books.put_formats(retired)))
    typer.echo(f"{format} is retired")


async def _rows(store: Store) -> list[FormatRow]:
    _, rows = await store.read(lambda books: books.formats())
    return sorted(rows, key=lambda row: (row.name, row.version))


def _run(dir: Path, database: str, work: Callable[[Store], Awaitable[R]]) -> R:
    if not database and not (dir / SQLITE_FILE).exists():
        _fail(f"{dir} holds no books; name the CCS's directory with --dir, or its --database")
    url = database or f"sqlite:///{(dir / SQLITE_FILE).absolute()}"

    async def within() -> R:
        store = await open_store(url, clock=SlewingClock(time.time, time.monotonic))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(within())


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
