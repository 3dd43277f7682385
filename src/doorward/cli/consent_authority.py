"""``doorward consent-authority``: run the authority that signs customers' permissions, apart from the CCS."""

import asyncio
import random
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from pydantic import ValidationError

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.cli.logs import set_up_logs
from doorward.consent.app import ConsentApp
from doorward.consent.keys import AuthorityKey
from doorward.consent.register import Register
from doorward.consent.settings import PREFIX, ConsentSettings
from doorward.kit.clock import SlewingClock
from doorward.kit.files import write_atomically
from doorward.wire.times import to_rfc3339

app = typer.Typer(help="Run the consent authority: it signs customers' permissions, apart from the CCS.")

TLS_DIR = "tls"
CLIENT = "ccs-consent"
"""Certificate name of the CCS at the authority."""

Dir = Annotated[Path, typer.Option("--dir", envvar=f"{PREFIX}DIR", help="The authority's own directory.")]


@app.callback(invoke_without_command=True)
def consent_authority(
    context: typer.Context,
    dir: Dir = Path("consent-authority"),
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run until SIGTERM or Ctrl-C; its settings are ``DOORWARD_CONSENT_…``."""
    context.obj = dir
    if context.invoked_subcommand is not None:
        return
    settings = _settings(dir, port)
    set_up_logs("info", True)
    try:
        asyncio.run(_serve(settings))
    except (OSError, ValueError) as error:
        _fail(f"the consent authority cannot start: {error}")


@app.command()
def credentials(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Directory for ca.pem, ccs.pem, ccs.key; carry it to the CCS.")],
) -> None:
    """Make what the CCS and ``doorward apply`` need to be let in."""
    authority = _authority(context.obj)
    given = authority.worker(CLIENT)
    write_atomically(out / "ca.pem", authority.pem.encode())
    write_atomically(out / "ccs.pem", given.certificate.read_bytes())
    write_atomically(out / "ccs.key", given.key.read_bytes())
    typer.echo(f"{out}: ca.pem, ccs.pem, ccs.key")
    typer.echo(f"the authority's key: {AuthorityKey(context.obj).fingerprint}")


@app.command()
def withdraw(
    context: typer.Context,
    grant: Annotated[str, typer.Argument(help="The grant.")],
    version: Annotated[int, typer.Option("--version", help="Up to which version; all, without it.")] = 2**31,
) -> None:
    """End a permission here, whoever keeps it back elsewhere: no lease of it is renewed any more."""

    async def end() -> bool:
        register = Register(context.obj)
        try:

            def step(books: Any) -> bool:
                new = bool(books.end({grant: version}))
                if new:
                    books.log(_clock().now_us(), "withdrawn", f"{grant} up to version {version}", "operator")
                return new

            return await register.write(step)
        finally:
            await register.close()

    typer.echo(f"{grant} has ended" if asyncio.run(end()) else f"{grant} had ended before")


@app.command("operations-keys")
def operations_keys(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JWK Set of the utility-operations keys.", exists=True)],
) -> None:
    """Say which keys sign the utility's own controls; gateways hear of it through the CCS, signed by us."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=dict[str, list[dict[str, str]]])["keys"]
        keys = {key["kid"]: {name: key[name] for name in ("kty", "crv", "x")} for key in found}
        said = AuthorityKey(context.obj).put_operations(keys, _clock().now_us())
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        _fail(f"{file} is not a JWK Set of Ed25519 keys with 'kid': {error}")
    typer.echo(f"version {said.version}: operations keys {', '.join(sorted(said.operations)) or 'none'}")


@app.command("rotate-key")
def rotate_key(
    context: typer.Context,
    finish: Annotated[
        bool, typer.Option("--finish", help="Sign with the next key from now on; the old one is refused.")
    ] = False,
) -> None:
    """Hand over to a new key: first both are believed, and with --finish only the new one. Restart after it."""
    key = AuthorityKey(context.obj)
    try:
        said = (key.finish_handing_over if finish else key.begin_handing_over)(_clock().now_us())
    except ValueError as error:
        _fail(str(error))
    typer.echo(f"version {said.version}: gateways believe {', '.join(sorted(said.authority))}")


@app.command()
def log(context: typer.Context) -> None:
    """Print the authority's own record, one JSON object a line."""

    async def read() -> list[tuple[int, str, str, str, str]]:
        register = Register(context.obj)
        try:
            return await register.read(lambda books: books.logged())
        finally:
            await register.close()

    for at_us, what, about, evidence, detail in asyncio.run(read()):
        row = {"at": to_rfc3339(at_us), "what": what, "about": about, "evidence": evidence, "detail": detail}
        typer.echo(msgspec.json.encode(row).decode())


async def _serve(settings: ConsentSettings) -> None:
    authority = _authority(settings.dir)
    server = authority.server("consent", settings.hosts)
    running = ConsentApp(settings, server, authority.path, random.SystemRandom())
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await running.start()
    typer.echo(f"consent authority: {running.url}, key {running.key.kid}", err=True)
    await stopped.wait()
    await running.stop()


def _authority(directory: Path) -> CertificateAuthority:
    return CertificateAuthority(directory / TLS_DIR, _clock().now_us)


def _clock() -> SlewingClock:
    return SlewingClock(time.time, time.monotonic)


def _settings(dir: Path, port: int | None) -> ConsentSettings:
    try:
        over: dict[str, Any] = {} if port is None else {"port": port}
        return ConsentSettings(dir=dir, **over)
    except ValidationError as error:
        _fail(
            "\n".join(
                f"setting {'.'.join(map(str, e['loc'])) or '(together)'}: {e['msg']}" for e in error.errors()
            )
        )


def _fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    sys.exit(2)
