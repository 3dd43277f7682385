"""``doorward people``: who can sign in to the portal, and links for the first time."""

import asyncio
import random
import time
from pathlib import Path
from typing import Annotated

import typer

from doorward.ccs.app import KEYS_DIR, database_url, portal_key
from doorward.ccs.engines.keys import load_keys
from doorward.ccs.engines.opening import open_store
from doorward.ccs.rules.people import Person, Role
from doorward.ccs.settings import PREFIX, CcsSettings, read_settings
from doorward.ccs.signing_in import Purpose, SignIn
from doorward.kit.clock import SlewingClock

PEOPLE_MAX = 1_000

app = typer.Typer(help="Who can sign in to the portal.", no_args_is_help=True)

Dir = Annotated[Path, typer.Option("--dir", envvar=f"{PREFIX}DATA_DIR", help="The CCS's data directory.")]
Database = Annotated[
    str, typer.Option("--database", envvar=f"{PREFIX}DATABASE", help="If it is another than in --dir.")
]
PLACE = Path("doorward-data")


@app.command("list")
def show(dir: Dir = PLACE, database: Database = "") -> None:
    """List people: id, role, name, whom they act for."""
    for person in asyncio.run(_all(_settings(dir, database))):
        of = f" of {person.of}" if person.of else ""
        typer.echo(f"{person.id}\t{person.role}{of}\t{person.name}\t{person.login}\t{person.state}")


@app.command()
def add(
    id: Annotated[str, typer.Argument(help="A short name, for good.")],
    role: Annotated[Role, typer.Argument(help="What they are to the utility.")],
    name: Annotated[str, typer.Argument(help="How people call them.")],
    login: Annotated[str, typer.Option(help="What they type to sign in; their id unless said.")] = "",
    of: Annotated[str, typer.Option(help="The customer, third party or vendor that they act for.")] = "",
    dir: Dir = PLACE,
    database: Database = "",
) -> None:
    """Add somebody; they come in by a link first."""
    if (role in (Role.CUSTOMER, Role.DEVELOPER, Role.VENDOR)) != bool(of):
        typer.echo(f"a {role} {'needs' if not of else 'has no'} --of", err=True)
        raise typer.Exit(2)
    person = Person(id=id, role=role, name=name, login=(login or id).casefold(), of=of)
    if not asyncio.run(_add(_settings(dir, database), person)):
        typer.echo(f"{id} is there already", err=True)
        raise typer.Exit(2)
    typer.echo(f"{name} may come in: doorward people link {id}")


@app.command()
def link(
    id: Annotated[str, typer.Argument(help="Whom for.")],
    password: Annotated[bool, typer.Option("--password", help="For setting a password.")] = False,
    url: Annotated[str, typer.Option(help="How people reach the portal.")] = "http://127.0.0.1:8080",
    dir: Dir = PLACE,
    database: Database = "",
) -> None:
    """Make a link that lets somebody in once, or lets them set a password; give it to them by a safe way."""
    settings = _settings(dir, database)
    purpose: Purpose = "reset" if password else "sign-in"
    secret = asyncio.run(_link(settings, id, purpose))
    if not secret:
        typer.echo(f"there is nobody named {id}", err=True)
        raise typer.Exit(2)
    path = "password" if password else "link"
    typer.echo(f"{url.rstrip('/')}/portal/{path}?key={secret}")


def _settings(directory: Path, database: str) -> CcsSettings:
    return read_settings(data_dir=directory, database=database)


async def _all(settings: CcsSettings) -> list[Person]:
    store = await open_store(database_url(settings), clock=_clock())
    try:
        return await store.read(lambda books: books.people_from("", PEOPLE_MAX))
    finally:
        await store.close()


async def _add(settings: CcsSettings, person: Person) -> bool:
    store = await open_store(database_url(settings), clock=_clock())
    try:
        if await store.read(lambda books: books.people([person.id])):
            return False
        await store.write(lambda books: books.put_people([person]))
        return True
    finally:
        await store.close()


async def _link(settings: CcsSettings, id: str, purpose: Purpose) -> str:
    rng = random.SystemRandom()
    store = await open_store(database_url(settings), clock=_clock())
    try:
        person = (await store.read(lambda books: books.people([id]))).get(id)
        key = portal_key(load_keys(settings.data_dir / KEYS_DIR, rng).link)
        desk = SignIn(store, _clock(), rng, key, _never, _nothing)
        return desk.link(person, purpose) if person is not None else ""
    finally:
        await store.close()


async def _never(_hashed: str, _secret: str) -> bool:
    return False


async def _nothing(secret: str) -> str:
    raise AssertionError("a link is made without hashing anything")


def _clock() -> SlewingClock:
    return SlewingClock(time.time, time.monotonic)
