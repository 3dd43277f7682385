"""``doorward fleet``: what load is moved and held, and the requests over a cap that wait for two operators."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer

from doorward.ccs.app import database_url
from doorward.ccs.engines.opening import open_store
from doorward.ccs.engines.secrets import SecretHasher
from doorward.ccs.quarantine import ITEMS_MAX, FleetDesk, Item
from doorward.ccs.rules.fleet import KW, LOWER, RAISE, FleetLog
from doorward.ccs.rules.people import Person
from doorward.ccs.settings import CcsSettings, read_settings
from doorward.ccs.signing_in import SignIn
from doorward.kit.clock import Clock, SlewingClock
from doorward.wire.reasons import Refused
from doorward.wire.times import to_rfc3339

app = typer.Typer(
    help="Caps on moved load: what is used of them, and what is over them.", no_args_is_help=True
)

T = TypeVar("T")
PASSWORD = "DOORWARD_OPERATOR_PASSWORD"
PAGES_MAX = 200

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The CCS's settings as TOML.", dir_okay=False, exists=True),
]
Party = Annotated[str, typer.Option("--third-party", help="Only of this third party.")]
Area = Annotated[str, typer.Option("--area", help="Only in this area.")]
Campaign = Annotated[str, typer.Option("--campaign", help="Only of this campaign.")]
Operator = Annotated[str, typer.Option("--operator", help="The operator's login.", prompt=True)]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        help=f"The operator's password; else ${PASSWORD}, else it is asked for.",
        exists=True,
        dir_okay=False,
    ),
]
Requests = Annotated[
    list[str] | None, typer.Argument(help="Requests by id; none: all that the options name.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.command("list")
def quarantined(
    party: Party = "",
    area: Area = "",
    campaign: Campaign = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List what is over a cap and waits for two operators."""
    items = _run(config, lambda desk, _: _all(desk, party, area, campaign))
    if as_json:
        typer.echo(msgspec.json.encode([_shown(item) for item in items]))
        return
    for item in items:
        record, request = item.record, item.request
        first = f"; {record.first_by} agreed" if record.first_by else ""
        typer.echo(
            f"{record.request}  {record.party}  {request.operation} {record.subject}  "
            f"{max(record.raise_w, record.lower_w) / KW:.1f} kW  until {to_rfc3339(request.due_us)}  "
            f"over {record.why}{first}"
        )
    typer.echo(f"{len(items)} in quarantine")


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """Show what each third party, each area and the fleet hold now, in kW."""
    logs = _run(config, lambda desk, _: desk.logs())
    rows = _held(logs)
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    for row in rows:
        typer.echo(f"{row['of']}: raised {row['raised_kw']:.1f} kW, lowered {row['lowered_kw']:.1f} kW")


@app.command()
def approve(
    operator: Operator,
    requests: Requests = None,
    party: Party = "",
    area: Area = "",
    campaign: Campaign = "",
    password_file: PasswordFile = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Agree to let requests through. They go when a second operator has agreed, too."""

    async def run(desk: FleetDesk, sign_in: SignIn) -> dict[str, list[str]]:
        person = await _prove(sign_in, operator, password_file)
        ids = requests or [item.record.request for item in await _all(desk, party, area, campaign)]
        came: dict[str, list[str]] = {"released": [], "first": [], "own": [], "late": []}
        for some in _slices(ids):
            approval = await desk.approve(person, some)
            came["released"] += [request.id for request in approval.released]
            came["first"] += approval.noted
            came["own"] += approval.own
            came["late"] += approval.late
        return came

    came = _run(config, run)
    if as_json:
        typer.echo(msgspec.json.encode(came))
        return
    typer.echo(f"let through: {len(came['released'])}")
    typer.echo(f"wait for another operator: {len(came['first']) + len(came['own'])}")
    if came["late"]:
        typer.echo(f"too late, or not in quarantine: {len(came['late'])}")


@app.command()
def reject(
    operator: Operator,
    requests: Requests = None,
    party: Party = "",
    area: Area = "",
    campaign: Campaign = "",
    password_file: PasswordFile = None,
    config: Config = None,
) -> None:
    """Turn requests down. One operator is enough, for it moves nothing."""

    async def run(desk: FleetDesk, sign_in: SignIn) -> int:
        person = await _prove(sign_in, operator, password_file)
        ids = requests or [item.record.request for item in await _all(desk, party, area, campaign)]
        return sum([len(await desk.reject(person, some)) for some in _slices(ids)])

    typer.echo(f"turned down: {_run(config, run)}")


async def _all(desk: FleetDesk, party: str, area: str, campaign: str) -> list[Item]:
    items: list[Item] = []
    for _ in range(PAGES_MAX):
        after = items[-1].record.request if items else ""
        page = await desk.listed(party=party, area=area, campaign=campaign, after=after, limit=ITEMS_MAX)
        items += page
        if len(page) < ITEMS_MAX:
            break
    return items


def _slices(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[at : at + ITEMS_MAX] for at in range(0, len(ids), ITEMS_MAX)]


async def _prove(sign_in: SignIn, login: str, password_file: Path | None) -> Person:
    """An operator proves who it is by its password, like at the portal; wrong ones count there, too."""
    entered = await sign_in.by_password(login, _password(password_file), "cli")
    await sign_in.out(entered.token)
    return entered.person


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    return os.environ.get(PASSWORD) or str(typer.prompt("Password", hide_input=True))


def _shown(item: Item) -> dict[str, Any]:
    record, request = item.record, item.request
    return {
        "request": record.request,
        "third_party": record.party,
        "subject": record.subject,
        "operation": request.operation,
        "area": record.area or None,
        "campaign": record.campaign or None,
        "raises_kw": record.raise_w / KW,
        "lowers_kw": record.lower_w / KW,
        "since": to_rfc3339(record.since_us),
        "deadline": to_rfc3339(request.due_us),
        "over": record.why,
        "first_by": record.first_by or None,
    }


def _held(logs: Sequence[FleetLog]) -> list[dict[str, Any]]:
    held: dict[str, dict[str, float]] = {}
    for log in logs:
        of, _, direction = log.key.rpartition("|")
        if direction in (RAISE, LOWER):
            held.setdefault(of, {})[direction] = sum(log.held.values()) / KW
    return [
        {"of": of.replace("|", " "), "raised_kw": w.get(RAISE, 0.0), "lowered_kw": w.get(LOWER, 0.0)}
        for of, w in sorted(held.items())
    ]


# --- the books ------------------------------------------------------------------------------------------


def _run(config: Path | None, work: Callable[[FleetDesk, SignIn], Awaitable[T]]) -> T:
    """Do something at the desk of a CCS whose settings these are; it may be running."""
    try:
        settings = read_settings(config)
        clock = SlewingClock(time.time, time.monotonic)
        return asyncio.run(_at_desk(settings, clock, random.SystemRandom(), work))
    except (Refused, ValueError, OSError) as error:
        _fail(error.detail if isinstance(error, Refused) else str(error))


async def _at_desk(
    settings: CcsSettings,
    clock: Clock,
    rng: random.Random,
    work: Callable[[FleetDesk, SignIn], Awaitable[T]],
) -> T:
    store = await open_store(database_url(settings), clock=clock)
    hasher = SecretHasher(rng.randbytes(32))
    try:
        sign_in = SignIn(store, clock, rng, rng.randbytes(32), hasher.matches, hasher.hashed)
        return await work(FleetDesk(store, clock, rng, settings.terms()), sign_in)
    finally:
        hasher.close()
        await store.close()


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
