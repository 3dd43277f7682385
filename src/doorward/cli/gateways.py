"""``doorward gateways``: withdraw gateways, and write the list of withdrawn certificates for brokers."""

import asyncio
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from doorward.ccs.app import database_url
from doorward.ccs.engines.authority import PUBLIC_FILE, CertificateAuthority
from doorward.ccs.engines.eviction import NotRead, comes_in, list_is_read
from doorward.ccs.engines.opening import open_store
from doorward.ccs.enrolment import revoke as revoke_gateways
from doorward.ccs.settings import AUTHORITY_DIR, CcsSettings, read_settings
from doorward.kit.clock import SlewingClock
from doorward.kit.files import write_atomically
from doorward.wire.reasons import Refused

app = typer.Typer(help="Withdraw gateways, for good.", no_args_is_help=True)

RELOAD_WAIT_S_MAX = 30.0

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The CCS's settings as TOML.", dir_okay=False, exists=True),
]
Dir = Annotated[
    Path | None, typer.Option("--dir", help="The CCS's data directory, if not as in the settings.")
]
Database = Annotated[str, typer.Option("--database", help="The database, if not as in the settings.")]
Crl = Annotated[
    Path | None,
    typer.Option("--crl", help="Write the list of withdrawn certificates here: the broker's `crlfile`."),
]
Reload = Annotated[
    str,
    typer.Option("--reload", help="What makes the broker read the list, as `systemctl reload mosquitto`."),
]


@app.command("revoke")
def revoke(
    gateways: Annotated[list[str], typer.Argument(help="Gateways by id.")],
    config: Config = None,
    dir: Dir = None,
    database: Database = "",
    crl: Crl = None,
    reload: Reload = "",
    broker: Annotated[
        str, typer.Option("--broker", help="`mqtts://host:port`, if not as in the settings.")
    ] = "",
) -> None:
    """Take gateways out for good: the CCS hears and serves them no more, their sessions end, none begins.

    With a broker, name the list that it reads and what makes it read it: it is made sure that it has.
    """
    settings = _settings(config, dir, database)
    url = broker or settings.mqtt_url
    if url and (crl is None or not reload):
        _fail(
            "with a broker, --crl and --reload are needed: it knows withdrawn certificates by that list only"
        )
    clock = SlewingClock(time.time, time.monotonic)
    authority = CertificateAuthority(settings.data_dir / AUTHORITY_DIR, clock.now_us)
    try:
        ended = asyncio.run(_revoke(settings, gateways, clock))
        for gateway in gateways:
            authority.revoke_gateway(gateway)
        if crl is not None:
            _write(authority, crl)
        if url:
            asyncio.run(_evict(authority, url, gateways, crl, reload))
        elif reload:
            _reload(reload)
    except (OSError, Refused, NotRead) as error:
        _fail(str(error))
    for gateway in gateways:
        typer.echo(f"{gateway} is revoked" + ("" if gateway in ended else " (it was before)"))


@app.command("crl")
def revocation_list(
    crl: Annotated[Path, typer.Argument(help="The broker's `crlfile`.")],
    config: Config = None,
    dir: Dir = None,
    reload: Reload = "",
) -> None:
    """Write the list of withdrawn certificates anew: it is good for 30 days, so do it every week."""
    settings = _settings(config, dir, "")
    clock = SlewingClock(time.time, time.monotonic)
    try:
        _write(CertificateAuthority(settings.data_dir / AUTHORITY_DIR, clock.now_us), crl)
        if reload:
            _reload(reload)
    except OSError as error:
        _fail(str(error))
    typer.echo(f"{crl} is written")


async def _revoke(settings: CcsSettings, gateways: list[str], clock: SlewingClock) -> list[str]:
    store = await open_store(database_url(settings), clock=clock)
    try:
        dice = random.SystemRandom()
        return await store.write(lambda books: revoke_gateways(books, gateways, clock.now_us(), dice))
    finally:
        await store.close()


async def _evict(
    authority: CertificateAuthority, url: str, gateways: list[str], crl: Path | None, reload: str
) -> None:
    """See that the broker has read the list, then end the sessions that stand."""
    assert crl is not None
    with tempfile.TemporaryDirectory(prefix="doorward-") as place:
        withdrawn, pem = authority.stand_in(gateways[0], Path(place))
        authority.revoke(pem)
        _write(authority, crl)
        await asyncio.to_thread(_reload, reload)
        await list_is_read(url, withdrawn, gateways[0])
        for gateway in gateways:
            stand_in, _ = authority.stand_in(gateway, Path(place))
            if not await comes_in(url, stand_in, gateway):
                raise NotRead(f"{url} does not let us end the session of {gateway}")


def _write(authority: CertificateAuthority, crl: Path) -> None:
    write_atomically(crl, authority.revocation_list().encode(), PUBLIC_FILE)


def _reload(command: str) -> None:
    done = subprocess.run(shlex.split(command), capture_output=True, timeout=RELOAD_WAIT_S_MAX, check=False)
    if done.returncode:
        raise OSError(f"{command!r} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")


def _settings(config: Path | None, dir: Path | None, database: str) -> CcsSettings:
    over = {"data_dir": dir} if dir is not None else {}
    try:
        return read_settings(config, **over, **({"database": database} if database else {}))
    except (ValidationError, ValueError) as error:
        _fail(f"the settings are wrong: {error}")


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
