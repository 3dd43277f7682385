"""The doors of the CCS as the matrix sees them: where they are described, who comes, and with what in hand.

Another door (portal, utility) joins by a :class:`Door` here and a table of its name in ``allowed.toml``.
"""

import re
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.ccs.rules.identity import write_token
from tests.security.world import HOUR_US, US, World, canary

NOBODYS_ID = "01890000-0000-7000-8000-000000000000"
ALLOWED = Path(__file__).with_name("allowed.toml")
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of ``allowed.toml``."""

    may: list[str]
    query: str = ""
    body: str = ""
    form: str = ""
    things: list[str] = []
    foreign: str = "hidden"
    answer: int = 0

    @property
    def is_of_all(self) -> bool:
        """Whether who may have an answer has it about everybody's things."""
        return self.foreign == "seen"


@dataclass(frozen=True)
class Caller:
    """One column: who comes (``tenant`` is whose things are its own) and what it shows."""

    tenant: str
    headers: Callable[[World], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Door:
    """A door: where its OpenAPI description is, and its columns."""

    name: str
    description: str
    callers: Mapping[str, Caller] = field(default_factory=dict)

    def rows(self) -> dict[str, Row]:
        """The rows of this door."""
        table = tomllib.loads(ALLOWED.read_text(encoding="utf-8"))[self.name]
        return {name: msgspec.convert(row, Row) for name, row in table.items()}


def operations(description: Mapping[str, Any]) -> set[str]:
    """``METHOD /path`` of everything that a description has."""
    return {
        f"{method.upper()} {path}"
        for path, item in description["paths"].items()
        for method in item
        if method in METHODS
    }


# ---- the third parties' API ------------------------------------------------------------------------------


def _shows(token: Callable[[World], str]) -> Callable[[World], Awaitable[Mapping[str, str]]]:
    async def headers(world: World) -> Mapping[str, str]:
        return {"authorization": f"Bearer {token(world)}"}

    return headers


def _bearer(text: str) -> Callable[[World], Awaitable[Mapping[str, str]]]:
    return _shows(lambda _: text)


async def _nothing(_: World) -> Mapping[str, str]:
    return {}


async def _basic(_: World) -> Mapping[str, str]:
    return {"authorization": "Basic YnJpZ2h0OmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU="}


async def _revoked(world: World) -> Mapping[str, str]:
    claims = world.claims("bright")
    until_us = (claims.exp + 1) * US
    await world.app.store.write(lambda books: books.revoke_tokens({claims.jti: until_us}))
    token = write_token(claims, world.app.keys.token.key, world.app.keys.token.kid)
    return {"authorization": f"Bearer {token}"}


def _forged(world: World) -> str:
    return write_token(world.claims("bright"), Ed25519PrivateKey.generate(), world.app.keys.token.kid)


def _thrown_out(world: World) -> str:
    """Issued before the time since which tokens of this party hold."""
    before_s = (world.app.clock.now_us() - 2 * HOUR_US) // US
    return world.token("bright", iat=before_s)


def _now_s(world: World) -> int:
    return world.app.clock.now_us() // US


API = Door(
    "api",
    "/openapi.json",
    {
        "nobody": Caller("bright", _nothing),
        "malformed": Caller("bright", _bearer("no.token.of-ours")),
        "garbage": Caller("bright", _bearer("\x80\xff" * 40)),
        "client secret": Caller("bright", _basic),
        "forged": Caller("bright", _shows(_forged)),
        "expired": Caller("bright", _shows(lambda w: w.token("bright", exp=_now_s(w)))),
        "other audience": Caller(
            "bright", _shows(lambda w: w.token("bright", aud="https://elsewhere.example"))
        ),
        "other issuer": Caller(
            "bright", _shows(lambda w: w.token("bright", iss="https://elsewhere.example"))
        ),
        "revoked": Caller("bright", _revoked),
        "thrown out": Caller("bright", _shows(_thrown_out)),
        "no such party": Caller("bright", _shows(lambda w: w.token("nobody"))),
        "suspended": Caller("grey", _shows(lambda w: w.token("grey"))),
        "more than it may": Caller("bright", _shows(lambda w: w.token("bright", "admin operator"))),
        "scopeless": Caller("bright", _shows(lambda w: w.token("bright", ""))),
        "monitor": Caller("bright", _shows(lambda w: w.token("bright", "monitor"))),
        "control": Caller("bright", _shows(lambda w: w.token("bright", "control"))),
        "both": Caller("bright", _shows(lambda w: w.token("bright"))),
        "stranger": Caller("sun", _shows(lambda w: w.token("sun"))),
    },
)


# ---- the utility's other systems: a tenant's is ``sys-…`` --------------------------------------------------


def _of_system(tenant: str = "bright", scope: str = "", **over: Any) -> Caller:
    """A token of a tenant's system, for the systems' part of the door."""

    def token(world: World) -> str:
        claims = {"aud": f"{world.app.url}/utility/v1", **{n: v(world) for n, v in over.items()}}
        return world.token(f"sys-{tenant}", scope, **claims)

    return Caller(tenant, _shows(token))


READS = "requests.read journals.read provisioning.read gateways.read tests.read alarms.read orders.read"
SYSTEMS = Door(
    "systems",
    "/utility/openapi.json",
    {
        "nobody": Caller("bright", _nothing),
        "malformed": Caller("bright", _bearer("no.token.of-ours")),
        "client secret": Caller("bright", _basic),
        "third party": Caller("bright", _shows(lambda w: w.token("bright"))),
        "third party, system's audience": Caller(
            "bright", _shows(lambda w: w.token("bright", READS, aud=f"{w.app.url}/utility/v1"))
        ),
        "system, third parties' audience": _of_system("bright", READS, aud=lambda w: w.app.url),
        "expired": _of_system("bright", READS, exp=_now_s),
        "suspended": _of_system("grey", READS),
        "third parties' scopes": _of_system("bright", "monitor control"),
        "scopeless": _of_system("bright"),
        "reader": _of_system("bright", READS),
        "manager": _of_system("sun", f"{READS} subscriptions.manage"),
    },
)
DOORS = (API, SYSTEMS)


# ---- what calls are about --------------------------------------------------------------------------------


async def own_things(world: World, tenant: str, row: Row) -> dict[str, str]:
    """Things of a tenant; those that a call may use up are made anew."""
    return {
        "device": f"TH-{tenant}",
        "service_point": f"SP-{tenant}",
        "campaign": canary(tenant),
        "request": await world.fresh_request(tenant) if _is_about(row, "request", "campaign") else "",
        "endpoint": await world.fresh_endpoint(tenant) if _is_about(row, "endpoint") else f"mine-{tenant}",
        "format": "thermostat.read/1",
        "place": await world.fresh_endpoint(f"sys-{tenant}")
        if _is_about(row, "place")
        else f"place-{tenant}",
        "subscription": await world.fresh_subscription(tenant) if _is_about(row, "subscription") else "",
        "system": f"sys-{tenant}",
    }


ABSENT = {
    "device": "TH-nowhere",
    "service_point": "SP-nowhere",
    "campaign": "nothing",
    "request": NOBODYS_ID,
    "endpoint": "hook-nowhere",
    "format": "nothing.read/1",
    "place": "place-nowhere",
    "subscription": "sub-nowhere",
    "system": "sys-nowhere",
}


ID_OF = {
    "/v1/requests": "request",
    "/utility/v1/requests": "request",
    "/utility/v1/messages": "request",
    "/utility/v1/endpoints": "place",
    "/utility/v1/subscriptions": "subscription",
}
"""Beginning of a path → what ``{id}`` in it stands for."""


def _is_about(row: Row, *things: str) -> bool:
    return bool(set(row.things) & set(things))


def fill(
    operation: str, row: Row, things: Mapping[str, str]
) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Method, path with query, body and headers of a call about these things."""
    method, path = operation.partition("#")[0].split(" ", 1)
    named = dict(things)
    named["name"], _, named["version"] = things["format"].partition("/")
    named["id"] = next(
        (things[thing] for begin, thing in ID_OF.items() if path.startswith(begin)), things["endpoint"]
    )
    query = f"?{_put_in(row.query, named)}" if row.query else ""
    if row.form:
        return method, path, row.form.encode(), {"content-type": "application/x-www-form-urlencoded"}
    return method, _put_in(path, named) + query, _put_in(row.body, named).encode() if row.body else None, {}


def _put_in(text: str, named: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: named[found[1]], text)
