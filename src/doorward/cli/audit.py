"""``doorward audit``: whether the record is whole, agrees with gateways' records, and shows permission."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from pydantic import ValidationError

from doorward.audit import keys
from doorward.audit.findings import Report
from doorward.audit.records import NotAuditable
from doorward.audit.run import audit as run
from doorward.ccs.app import KEYS_DIR, database_url
from doorward.ccs.settings import AUTHORITY_DIR, CcsSettings, read_settings
from doorward.wire.times import from_rfc3339

app = typer.Typer(add_completion=False)

UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}
SOUND, NOT_SOUND, NOT_AUDITED = 0, 1, 2


@app.command()
def audit(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings of the CCS as TOML.", dir_okay=False, exists=True),
    ] = None,
    dir: Annotated[Path | None, typer.Option("--dir", help="The CCS's data directory.")] = None,
    database: Annotated[str, typer.Option("--database", help="The CCS's database.")] = "",
    gateway_dir: Annotated[
        list[Path] | None,
        typer.Option("--gateway-dir", help="Directory of a gateway, whose record is compared; repeatable."),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", help="Chains only from then on: 24h, 7d, or 2026-05-01T00:00:00Z.")
    ] = "",
    record_keys: Annotated[
        Path | None,
        typer.Option("--record-keys", help="JSON file: kid → public JWK, instead of the CCS's own."),
    ] = None,
    consent_keys: Annotated[
        Path | None,
        typer.Option("--consent-keys", help="JSON file: kid → public JWK of the consent authority."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Verify both records, compare them, and prove that permission stood for all that was delivered.

    Changes nothing, and may run beside a running system. Exits with 0 when all is sound, with 1 when
    something was found, with 2 when the record could not be audited.
    """
    settings = _settings(config, dir, database)
    try:
        report = asyncio.run(
            run(
                database_url(settings),
                gateway_dir or [],
                record_keys=keys.given(record_keys)
                if record_keys
                else keys.record_keys(settings.data_dir / KEYS_DIR),
                consent_keys=keys.given(consent_keys)
                if consent_keys
                else keys.consent_keys(settings.data_dir, settings.data_dir / AUTHORITY_DIR),
                now_us=int(time.time() * 1_000_000),
                since_us=_since_us(since),
            )
        )
    except (NotAuditable, OSError, ValueError) as error:
        _fail(str(error))
    _say(report, as_json)
    raise typer.Exit(SOUND if report.sound else NOT_SOUND)


def _say(report: Report, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(report.view()))
    else:
        for sentence in report.sentences():
            typer.echo(sentence)


def _since_us(text: str) -> int:
    """Raises ``ValueError`` for what is neither a span nor a time."""
    if not text:
        return 0
    if text[-1] in UNITS_S and text[:-1].isdigit():
        return int((time.time() - int(text[:-1]) * UNITS_S[text[-1]]) * 1_000_000)
    try:
        return from_rfc3339(text)
    except ValueError:
        raise ValueError(f"--since: {text!r} is neither a span (24h, 7d) nor a time (RFC 3339)") from None


def _settings(config: Path | None, directory: Path | None, database: str) -> CcsSettings:
    over: dict[str, object] = {"database": database} if database else {}
    if directory is not None:
        over["data_dir"] = directory
    try:
        return read_settings(config, **over)
    except (ValidationError, ValueError) as error:
        _fail(f"settings: {error}")


def _fail(words: str) -> NoReturn:
    typer.echo(f"cannot audit: {words}", err=True)
    raise typer.Exit(NOT_AUDITED)
