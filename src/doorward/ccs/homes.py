"""What people see of a home: who lives there, its devices and services, and the story of what happened.

Reads only, each in one transaction. An occupant sees what happened since the home became theirs, and nothing
from before.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from doorward.ccs.ports import AllBooks
from doorward.ccs.provisioning import is_live
from doorward.ccs.rules.contracts import Contract, Offer
from doorward.ccs.rules.facts import (
    Device,
    Gateway,
    Grant,
    LinkKind,
    Party,
    Request,
    ServicePoint,
)
from doorward.ccs.rules.homes import AccessChange, HomeNote
from doorward.ccs.rules.people import Person, Role
from doorward.wire.steps import Outcome, Step
from doorward.wire.vocabulary import Operation, Scope

RECENT = 200
"""Requests that a home's page looks at for what devices do now."""


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """A service point as its occupant has it. ``since_us`` is when the occupant moved in."""

    point: ServicePoint
    customer: str
    customer_name: str
    since_us: int
    gateway: Gateway | None
    devices: list[Device]
    grants: list[Grant]
    """The newest of each third party, live or not."""
    contracts: list[Contract]
    parties: dict[str, Party]
    offers: dict[str, Offer]
    names: dict[str, str]
    """Device → its name."""

    @property
    def id(self) -> str:
        """The service point."""
        return self.point.id

    def service(self, party: str) -> str:
        """Return a third party's name."""
        found = self.parties.get(party)
        return found.name if found else party

    def grant_of(self, party: str) -> Grant | None:
        """Return a third party's newest permission."""
        return next((grant for grant in self.grants if grant.party == party), None)

    def contract_of(self, party: str) -> Contract | None:
        """Return a third party's newest contract, an open one first."""
        theirs = [each for each in self.contracts if each.party == party]
        return next((each for each in reversed(theirs) if each.is_open), theirs[-1] if theirs else None)


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A control that runs on a device: by whom, until when."""

    request: Request

    @property
    def until_us(self) -> int:
        """When it ends by itself."""
        return self.request.until_us


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a device at this moment: its last reading (with its time), and the control on it."""

    reading: dict[str, Any] | None = None
    at_us: int = 0
    running: Running | None = None


async def points_of(books: AllBooks, person: Person, now_us: int) -> dict[str, tuple[str, int]]:
    """Return a customer's homes: service point → (customer, since when)."""
    if person.role is not Role.CUSTOMER or not person.of:
        return {}
    return await _homes(books, {person.of}, now_us)


async def _homes(books: AllBooks, customers: set[str], now_us: int) -> dict[str, tuple[str, int]]:
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, a=customers, live_us=now_us)
    owner = {link.b: (link.a, link.since_us) for link in held}
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, a=set(owner), live_us=now_us)
    return {link.b: (owner[link.a][0], max(owner[link.a][1], link.since_us)) for link in lived}


async def occupant_of(books: AllBooks, service_point: str, now_us: int) -> tuple[str, int]:
    """Return who lives at a service point: the first customer of its account, and since when the account is."""
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, b={service_point}, live_us=now_us)
    if not lived:
        return "", now_us
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, b={lived[0].a}, live_us=now_us)
    return (held[0].a if held else ""), lived[0].since_us


async def load_home(
    books: AllBooks, service_point: str, customer: str, since_us: int, now_us: int
) -> Home | None:
    """Return a home with everything that its pages stand on, ``None`` for what is no service point."""
    point = (await books.service_points([service_point])).get(service_point)
    if point is None:
        return None
    places = await books.places([service_point], now_us)
    gateways = await books.gateways([place.gateway for place in places.values()])
    devices = (await books.devices_at([service_point])).get(service_point, [])
    theirs = [grant for grant in await books.grants_at([service_point]) if grant.changed_us >= since_us]
    grants = {
        grant.party: grant for grant in sorted(theirs, key=lambda each: (each.state == "live", each.sequence))
    }
    contracts = [each for each in await books.contracts_at([service_point]) if each.drafted_us >= since_us]
    offers = await books.offers()
    named = {each.party for each in offers} | set(grants) | {each.party for each in contracts}
    customers = await books.customers([customer])
    return Home(
        point=point,
        customer=customer,
        customer_name=customers[customer].name if customer in customers else customer,
        since_us=since_us,
        gateway=next(iter(gateways.values()), None),
        devices=list(devices),
        grants=list(grants.values()),
        contracts=contracts,
        parties=await books.parties(named),
        offers={offer.party: offer for offer in offers},
        names={device.id: device.name for device in devices},
    )


async def devices_now(books: AllBooks, home: Home, now_us: int) -> dict[str, Now]:
    """Return what each device of a home does now, by its newest messages."""
    recent = await books.requests_at(home.id, since=floor_id(home.since_us), limit=RECENT)
    readings: dict[str, tuple[dict[str, Any], int]] = {}
    running: dict[str, Request] = {}
    seen: set[str] = set()
    for request in recent:  # newest first
        for device, reading in _readings(request).items():
            readings.setdefault(device, (reading, request.answered_us or request.taken_us))
        if request.operation.is_control and request.state == "DONE" and request.device:
            if request.device not in seen and request.operation is not Operation.RELEASE:
                running[request.device] = request
            seen.add(request.device)
    running = {device: each for device, each in running.items() if each.until_us > now_us}
    running = {device: each for device, each in running.items() if not await _was_let_go(books, each)}
    return {
        device.id: Now(
            reading=readings.get(device.id, (None, 0))[0],
            at_us=readings.get(device.id, (None, 0))[1],
            running=Running(request=running[device.id]) if device.id in running else None,
        )
        for device in home.devices
    }


def _readings(request: Request) -> dict[str, dict[str, Any]]:
    if request.operation is not Operation.READ or request.state != "DONE":
        return {}
    try:
        result = msgspec.json.decode(request.result)
    except msgspec.DecodeError:
        return {}
    if not isinstance(result, dict):
        return {}
    if request.scope is Scope.DEVICE:
        return {request.device: result}
    found = result.get("readings", [])
    return {
        str(each.get("device", "")): each for each in found if isinstance(each, dict) and "error" not in each
    }


async def _was_let_go(books: AllBooks, request: Request) -> bool:
    if request.cancel_asked:
        return True
    rows = await books.journal(request.id)
    return any(
        step.step is Step.RELEASED and step.outcome is Outcome.OK for row in rows for step in row.steps
    )


# ---- the story -------------------------------------------------------------------------------------------

Happening = Request | AccessChange | HomeNote


async def story(
    books: AllBooks, home: Home, *, before: str = "", limit: int, kind: str = ""
) -> list[Happening]:
    """Return what happened in a home, newest first, before an id: messages, changes of access, notes.

    ``kind`` is ``control``, ``read``, ``access`` or ``staff``; ``""`` is all.
    """
    since = floor_id(home.since_us)
    found: list[Happening] = []
    if kind in ("", "read", "control"):
        requests = await books.requests_at(
            home.id, since=since, before=before, limit=limit * (1 if not kind else 4)
        )
        wanted = [each for each in requests if not kind or each.operation.is_control == (kind == "control")]
        found += wanted
    if kind in ("", "access"):
        found += await books.changes_at(home.id, since=since, before=before, limit=limit)
    if kind in ("", "staff", "access"):
        notes = await books.notes_at(home.id, since=since, before=before, limit=limit)
        found += [each for each in notes if kind != "staff" or each.by_role not in ("", "customer")]
    return sorted(found, key=lambda each: each.id, reverse=True)[:limit]


def floor_id(at_us: int) -> str:
    """Return the least UUIDv7 of a moment: ids after it are not older."""
    digits = f"{max(0, at_us) // 1000:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def status_of(grant: Grant | None, contract: Contract | None, now_us: int) -> str:
    """Return how a service stands, in the word that people read."""
    if grant is None or not is_live(grant, now_us):
        if contract is not None and contract.state in ("drafted", "signed"):
            return "Waiting"
        if grant is not None and grant.state == "live":
            return "Ended"
        return "Stopped" if grant is not None else "New"
    if now_us < grant.document.paused_until_us:
        return "Paused"
    if grant.document.expires_us - now_us < ENDS_SOON_US:
        return "Ends soon"
    return "Active"


ENDS_SOON_US = 14 * 24 * 3600 * 1_000_000


def names_of(parties: Mapping[str, Party]) -> dict[str, str]:
    """Return third party → its name."""
    return {id: party.name for id, party in parties.items()}
