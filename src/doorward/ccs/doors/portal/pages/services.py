"""Connected services: the list, one service in detail, pausing and stopping it."""

from starlette.responses import Response

from doorward.ccs.agreeing import Done
from doorward.ccs.doors.portal.pages.home import HOUR_US, PAUSES
from doorward.ccs.doors.portal.stories import Line, line_of
from doorward.ccs.doors.portal.visit import Page, Visit
from doorward.ccs.homes import Home, floor_id, status_of
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.contracts import Contract
from doorward.ccs.rules.facts import Grant, Request
from doorward.ccs.rules.homes import AccessChange
from doorward.ccs.rules.rights import Act
from doorward.wire.reasons import Reason, Refused

LAST_ACTIONS = 20
LOOKED_AT = 400
"""Requests that a service's page looks through for its own."""
CLOSED = ("Stopped", "Ended", "New")


async def services(visit: Visit) -> Response:
    """Show the services of a home: open ones first, closed ones kept for their history."""
    found = await visit.home(visit.path("point"), "the connected services")
    recent = await visit.read(lambda books: _recent(books, found))
    rows = [_row(found, grant, recent, visit.now_us) for grant in found.grants]
    waiting = [
        each
        for each in found.contracts
        if each.state in ("drafted", "signed") and found.grant_of(each.party) is None
    ]
    return visit.render(
        "home/services.html",
        home=found,
        zone=found.point.timezone,
        open=[row for row in rows if row["status"] not in CLOSED],
        closed=[row for row in rows if row["status"] in CLOSED],
        waiting=waiting,
        done=visit.query("done"),
    )


def _row(found: Home, grant: Grant, recent: list[Request], now_us: int) -> dict[str, object]:
    offer = found.offers.get(grant.party)
    used = [each.received_us for each in recent if each.party == grant.party]
    return {
        "party": grant.party,
        "name": found.service(grant.party),
        "purpose": grant.document.purpose or (offer.purpose if offer else ""),
        "status": status_of(grant, found.contract_of(grant.party), now_us),
        "devices": [found.names.get(each.device, each.device) for each in grant.document.devices],
        "granted_us": grant.document.not_before_us,
        "ends_us": grant.document.expires_us,
        "paused_until_us": grant.document.paused_until_us,
        "changed_us": grant.changed_us,
        "used_us": max(used, default=0),
    }


async def _recent(books: AllBooks, found: Home) -> list[Request]:
    return await books.requests_at(found.id, since=floor_id(found.since_us), limit=LOOKED_AT)


async def service(visit: Visit) -> Response:
    """Show one service: what it may, what changed, what it did."""
    found, party = await visit.home(visit.path("point"), "a connected service"), visit.path("party")
    grant, contract = _theirs(found, party)

    async def step(books: AllBooks) -> tuple[list[AccessChange], list[Request]]:
        since = floor_id(found.since_us)
        changes = await books.changes_at(found.id, since=since, limit=LOOKED_AT)
        return [each for each in changes if each.party == party], await _recent(books, found)

    changes, recent = await visit.read(step)
    lines = [
        line_of(each, found, visit.now_us, fahrenheit=visit.who.fahrenheit)
        for each in recent
        if each.party == party
    ][:LAST_ACTIONS]
    return visit.render(
        "home/service.html",
        home=found,
        zone=found.point.timezone,
        party=party,
        name=found.service(party),
        offer=found.offers.get(party),
        grant=grant,
        contract=contract,
        status=status_of(grant, contract, visit.now_us),
        changes=_change_lines(changes, found, visit.now_us),
        lines=lines,
        pauses=PAUSES,
        done=visit.query("done"),
    )


def _change_lines(changes: list[AccessChange], found: Home, now_us: int) -> list[Line]:
    return [line_of(each, found, now_us, fahrenheit=False) for each in changes]


def _theirs(found: Home, party: str) -> tuple[Grant | None, Contract | None]:
    """Return a third party's permission and contract; raise ``not-found`` where there is neither."""
    grant, contract = found.grant_of(party), found.contract_of(party)
    if grant is None and contract is None:
        raise Refused(Reason.NOT_FOUND)
    return grant, contract


async def ask_stop(visit: Visit) -> Response:
    """Ask once, and say what stopping does and what it does not."""
    found, party = await visit.home(visit.path("point"), "stopping a service"), visit.path("party")
    grant, contract = _theirs(found, party)
    return visit.render(
        "home/stop.html",
        home=found,
        zone=found.point.timezone,
        party=party,
        name=found.service(party),
        grant=grant,
        contract=contract,
    )


async def stop(visit: Visit) -> Response:
    """Stop a service; with the contract, where the customer wants that too."""
    found, party = await visit.home(visit.path("point"), "stopping a service"), visit.path("party")
    _, contract = _theirs(found, party)
    by = visit.by()
    ends_contract = bool(visit.field("contract")) and contract is not None and contract.is_open
    agreeing = visit.parts.desk.agreeing

    async def step(books: AllBooks, now_us: int) -> Done:
        if ends_contract and contract is not None:
            return await agreeing.end(books, by, contract.id, now_us)
        return await agreeing.withdraw(books, by, party, found.id, now_us)

    return _receipt(visit, found, party, await visit.parts.desk.run(step))


async def pause(visit: Visit) -> Response:
    """Pause a service for a time."""
    found, party = await visit.home(visit.path("point"), "pausing a service"), visit.path("party")
    hours = visit.field("hours")
    if hours not in PAUSES:
        visit.wrong("hours", "choose one of the times")
    until_us = visit.now_us + int(hours) * HOUR_US
    by = visit.by()
    agreeing = visit.parts.desk.agreeing
    done = await visit.parts.desk.run(
        lambda books, now_us: agreeing.pause(books, by, party, found.id, until_us, now_us)
    )
    return _receipt(visit, found, party, done)


async def resume(visit: Visit) -> Response:
    """Let a paused service go on."""
    found, party = await visit.home(visit.path("point"), "letting a service go on"), visit.path("party")
    by = visit.by()
    agreeing = visit.parts.desk.agreeing
    done = await visit.parts.desk.run(
        lambda books, now_us: agreeing.resume(books, by, party, found.id, now_us)
    )
    return _receipt(visit, found, party, done)


def _receipt(visit: Visit, found: Home, party: str, done: Done) -> Response:
    if done.changes:
        return visit.go(f"/portal/homes/{found.id}/receipts/{done.changes[0].id}")
    return visit.go(f"/portal/homes/{found.id}/services/{party}")


PAGES = [
    Page("GET", "/homes/{point}/services", Act.SEE_HOME, services),
    Page("GET", "/homes/{point}/services/{party}", Act.SEE_HOME, service),
    Page("GET", "/homes/{point}/services/{party}/stop", Act.CHANGE_ACCESS, ask_stop),
    Page("POST", "/homes/{point}/services/{party}/stop", Act.CHANGE_ACCESS, stop),
    Page("POST", "/homes/{point}/services/{party}/pause", Act.CHANGE_ACCESS, pause),
    Page("POST", "/homes/{point}/services/{party}/resume", Act.CHANGE_ACCESS, resume),
]
