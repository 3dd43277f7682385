"""``doorward apply``: bring a utility's data to the state that a file describes."""

import asyncio
import random
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.consent_remote import AuthorityUnreachable, RemoteAuthority, SignedAhead
from doorward.ccs.engines.opening import open_store, sqlite_path
from doorward.ccs.engines.secrets import SecretHasher
from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.rules.facts import Credential
from doorward.ccs.settings import AUTHORITY_DIR, PREFIX, SQLITE_FILE
from doorward.ccs.setup.carrying import carry_out, read_present
from doorward.ccs.setup.plan import Change, Present, changes_only, plan
from doorward.cli.evidence import Apart, operator_of
from doorward.cli.utility.mistakes import FileWrong
from doorward.cli.utility.reading import FILE_BYTES_MAX, Read, read_utility
from doorward.kit.clock import Clock, SlewingClock
from doorward.kit.files import write_atomically
from doorward.wire.enrolment import SECRET_BYTES, code_hash, format_code
from doorward.wire.reasons import Refused

IN_MEMORY = "sqlite://"


def apply(
    file: Annotated[Path, typer.Argument(help="The utility's file.", exists=True, dir_okay=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    dir: Annotated[
        Path,
        typer.Option(
            "--dir",
            envvar=f"{PREFIX}DATA_DIR",
            help="The CCS's data directory: its authorities and its database.",
        ),
    ] = Path("doorward-data"),
    consent_url: Annotated[
        str,
        typer.Option(
            "--consent-url",
            envvar=f"{PREFIX}CONSENT_URL",
            help="The consent authority, if it is a process of its own.",
        ),
    ] = "",
    consent_credentials: Annotated[
        Path | None,
        typer.Option(
            "--consent-credentials",
            envvar=f"{PREFIX}CONSENT_CREDENTIALS",
            help="What `doorward consent-authority credentials` made.",
        ),
    ] = None,
    operator_key: Annotated[
        Path | None,
        typer.Option(
            "--operator-key",
            envvar=f"{PREFIX}OPERATOR_KEY",
            help="Your Ed25519 private key as a JWK: the evidence with which that authority signs.",
        ),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            envvar=f"{PREFIX}DATABASE",
            help="sqlite:///path or postgresql://…, if it is another.",
        ),
    ] = "",
) -> None:
    """Bring third parties, homes, gateways, equipment and permissions to the state that FILE describes.

    A second run changes nothing. Nothing is deleted: what is no longer in the file loses its links, its
    permissions are withdrawn, and a third party is suspended.
    """
    try:
        read = _read(file, must_sign=bool(consent_url))
    except FileWrong as wrong:
        for problem in wrong.problems:
            typer.echo(f"{file}:{problem.line}: {problem.field}: {problem.text}", err=True)
        raise typer.Exit(2) from None
    clock = SlewingClock(time.time, time.monotonic)
    url = database or f"sqlite:///{dir.absolute() / SQLITE_FILE}"
    try:
        if dry_run:
            url = _looked_at(url)
        else:
            dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        apart = _apart(consent_url, consent_credentials, operator_key, clock)
        changes = asyncio.run(
            apply_file(read, dir, url, clock, random.SystemRandom(), dry_run=dry_run, apart=apart)
        )
    except (OSError, ValueError, AuthorityUnreachable, Refused) as error:
        _fail(str(error))
    for change in changes:
        typer.echo(change.words)
    count = len(changes_only(changes))
    typer.echo(f"{count} change{'' if count == 1 else 's'}{' to make' if dry_run else ' made'}")


def _looked_at(url: str) -> str:
    """A database that is not there yet is not made by looking."""
    path = sqlite_path(url)
    return IN_MEMORY if path is not None and not Path(path).exists() else url


def _read(file: Path, *, must_sign: bool) -> Read:
    if file.stat().st_size > FILE_BYTES_MAX:
        _fail(f"{file} is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        _fail(f"{file} is not UTF-8: {error}")
    return read_utility(text, file.parent, must_sign=must_sign)


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)


def _apart(url: str, credentials: Path | None, operator: Path | None, clock: Clock) -> Apart | None:
    """Return the consent authority where it is a process of its own."""
    if not url:
        return None
    if credentials is None:
        raise ValueError("--consent-url needs --consent-credentials")
    signer = None if operator is None else operator_of(operator)
    return Apart(RemoteAuthority(url, credentials), signer, clock)


async def apply_file(
    read: Read,
    directory: Path,
    database: str,
    clock: Clock,
    rng: random.Random,
    *,
    dry_run: bool = False,
    apart: Apart | None = None,
) -> list[Change]:
    """Apply a file that was read to a database; return the changes (with ``dry_run`` those to make).

    ``directory`` has the CCS's authorities, made at first use, unless the consent authority is ``apart``. All
    changes are one transaction.
    """
    store = await open_store(database, clock=clock)
    try:
        return await _apply(store, read, directory, clock, rng, dry_run, apart)
    finally:
        if apart is not None:
            await apart.authority.close()
        await store.close()


async def _apply(
    store: Store,
    read: Read,
    directory: Path,
    clock: Clock,
    rng: random.Random,
    dry_run: bool,
    apart: Apart | None,
) -> list[Change]:
    now_us = clock.now_us()
    present = await store.read(lambda books: read_present(books, now_us))
    wanted = msgspec.structs.replace(read.wanted, credentials=await _hashed(read, present))
    planned = plan(wanted, present, now_us)
    if dry_run:
        return planned
    consent: LocalConsentAuthority | SignedAhead = (
        LocalConsentAuthority(directory / AUTHORITY_DIR) if apart is None else await apart.sign(planned)
    )
    codes = _Codes(read, directory, clock, consent.fingerprint)

    async def step(books: AllBooks) -> list[Change]:
        # Read again: others may have changed what is there in the meantime (what was signed ahead is of then).
        at_us = clock.now_us() if apart is None else now_us
        changes = plan(wanted, await read_present(books, at_us), at_us)
        await carry_out(books, changes, consent, codes.make, rng, at_us)
        return changes

    changes = await store.write(step)
    if apart is not None:
        await apart.tell(changes)
    return changes


async def _hashed(read: Read, present: Present) -> list[Credential]:
    """Return the credentials with their hashes; a secret that is there already keeps the hash it has."""
    hasher = SecretHasher(secrets.token_bytes(32))
    try:
        credentials = []
        for credential in read.wanted.credentials:
            secret = read.secrets.get(credential.id)
            if secret is not None:
                found = present.credentials.get(credential.id)
                same = found is not None and await hasher.matches(found.value, secret)
                value = found.value if found is not None and same else await _hash(hasher, secret)
                credential = msgspec.structs.replace(credential, value=value)
            credentials.append(credential)
        return credentials
    finally:
        hasher.close()


async def _hash(hasher: SecretHasher, secret: str) -> str:
    return await asyncio.to_thread(hasher.hash, secret)


class _Codes:
    """Makes enrolment codes and writes each to its file, which only the owner can read."""

    def __init__(self, read: Read, directory: Path, clock: Clock, consent: str) -> None:
        self._files = read.code_files
        self._authority = CertificateAuthority(directory / AUTHORITY_DIR, clock.now_us)
        self._consent = consent

    def make(self, gateway: str) -> str:
        """Make a gateway's code and return its hash."""
        secret = secrets.token_bytes(SECRET_BYTES)
        code = format_code(gateway, secret, self._authority.fingerprint, self._consent)
        write_atomically(self._files[gateway], f"{code}\n".encode())
        return code_hash(code)


app = typer.Typer(add_completion=False)
app.command()(apply)
