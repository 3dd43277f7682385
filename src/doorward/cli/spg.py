"""``doorward spg``: run a gateway, enrol it, and read its journal."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from doorward.cli.logs import set_up_logs
from doorward.spg.engines.store import STORE_FILE, SqliteBooks
from doorward.spg.rules.facts import JournalRow
from doorward.spg.settings import GatewaySettings
from doorward.wire.times import to_rfc3339

app = typer.Typer(
    help="A gateway: the one door between the utility's network and a home.", no_args_is_help=False
)

ROWS_TOGETHER = 1_000

Dir = Annotated[Path | None, typer.Option("--dir", help="The gateway's directory.", file_okay=False)]


@app.callback(invoke_without_command=True)
def spg(
    context: typer.Context,
    dir: Dir = None,
    enrol_code: Annotated[str, typer.Option("--enrol", help="One-time code of the installer.")] = "",
    ccs: Annotated[str, typer.Option("--ccs", help="Where to enrol: https://host:port.")] = "",
) -> None:
    """Run the gateway until it is stopped (Ctrl-C). The first time, enrol it with --enrol and --ccs."""
    if context.invoked_subcommand is not None:
        return
    settings = _settings(dir)
    set_up_logs(settings.log_level, settings.log_json)
    from doorward.cli import running_gateway  # its drivers are slow to load, and the journal needs none
    from doorward.spg.engines.identity import EnrolmentFailed

    try:
        settings.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        asyncio.run(running_gateway.run(settings, enrol_code, ccs))
    except EnrolmentFailed as failed:
        _fail(str(failed))
    except (ValueError, OSError) as error:
        _fail(f"{settings.dir}: {error}")


@app.command()
def log(
    dir: Dir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    message: Annotated[str, typer.Option(help="Only the steps of this request.")] = "",
    last: Annotated[int | None, typer.Option(min=1, help="Only so many of the newest rows.")] = None,
) -> None:
    """Print the gateway's journal, oldest first; it may be running."""
    path = _settings(dir).dir / STORE_FILE
    if not path.is_file():
        _fail(f"{path}: there is no gateway's store")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        books = SqliteBooks(connection)
        rows = _rows(books, message, max(0, books.journal_end() - last) if last else 0)
    except sqlite3.DatabaseError as error:
        _fail(f"{path}: {error}")
    finally:
        connection.close()
    if as_json:
        for seq, row in rows:
            typer.echo(msgspec.json.encode({"seq": seq, **_readable(row)}))
    else:
        _draw(rows)


def _rows(books: SqliteBooks, message: str, after: int) -> list[tuple[int, JournalRow]]:
    rows: list[tuple[int, JournalRow]] = []
    while part := books.journal(message=message, after=after, limit=ROWS_TOGETHER):
        rows += part
        after = part[-1][0]
    return rows


def _readable(row: JournalRow) -> dict[str, str]:
    fields: dict[str, str] = {"at": to_rfc3339(row.at_us)}
    fields |= {
        name: value for name, value in msgspec.structs.asdict(row).items() if name != "at_us" and value
    }
    return fields


def _draw(rows: list[tuple[int, JournalRow]]) -> None:
    table = Table("time", "step", "request", "third party", "device", "outcome", "detail", box=None)
    for _, row in rows:
        detail = f"{row.reason} {row.detail}".strip()
        table.add_row(
            to_rfc3339(row.at_us), row.step, row.message, row.party, row.device, row.outcome, detail
        )
    Console().print(table)


def _settings(dir: Path | None) -> GatewaySettings:
    return GatewaySettings() if dir is None else GatewaySettings(dir=dir)


def _fail(words: str) -> NoReturn:
    typer.echo(words, err=True)
    raise typer.Exit(1)
