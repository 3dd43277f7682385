"""A message's journey, live: one record that each role reads in its own words (X01)."""

import msgspec
from starlette.responses import Response

from doorward.ccs.doors.portal.live import live
from doorward.ccs.doors.portal.stories import request_words
from doorward.ccs.doors.portal.visit import Page, Visit
from doorward.ccs.doors.portal.words import OUTCOMES
from doorward.ccs.homes import Home, load_home, occupant_of, points_of
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import JournalRow, Request
from doorward.ccs.rules.homes import look
from doorward.ccs.rules.journeys import Reading, Station, Stop, read_journey
from doorward.ccs.rules.people import Role
from doorward.ccs.rules.rights import Act, Reach
from doorward.wire.reasons import Reason, Refused

BODY_CHARS_MAX = 20_000
STATIONS = list(Station)
NO_STEP = Stop(number=0, name="", station=Station.COMPANY, back=False, state="waiting")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its record, and the home it was for (``None`` where it never had one)."""

    id: str
    rows: list[JournalRow]
    request: Request | None
    home: Home | None
    party: str
    device: str


async def journey(visit: Visit) -> Response:
    """Show a journey."""
    found = await _found(visit)
    return visit.render("journey/journey.html", **_about(visit, found))


async def journey_live(visit: Visit) -> Response:
    """Follow a journey until its answer is handed over; a fragment whenever a step was added."""
    await _found(visit)  # whether it may be seen; looks of staff are noted once for the stream

    async def step() -> tuple[str, bool]:
        visit.now_us = visit.parts.journey.clock.now_us()
        found = await visit.read(lambda books: _load(books, visit, visit.path("message")))
        about = _about(visit, found)
        reading: Reading = about["reading"]  # type: ignore[assignment]
        return visit.fragment("journey/steps.html", **about), reading.over

    return live(visit, step)


async def _found(visit: Visit) -> Found:
    """Return a message that this person may see; raise ``not-found`` for another's and for none alike."""
    if visit.reach is Reach.OWN:
        return await visit.read(lambda books: _load(books, visit, visit.path("message")))

    async def noted(books: AllBooks) -> Found:
        found = await _load(books, visit, visit.path("message"))
        if found.home is not None:
            note = look(
                visit.new_id(),
                visit.who,
                found.home.id,
                "a request's journey",
                visit.query("why"),
                visit.now_us,
            )
            await books.put_notes([note])
        return found

    return await visit.write(noted)


async def _load(books: AllBooks, visit: Visit, id: str) -> Found:
    request = (await books.requests([id])).get(id)
    rows = await books.journal(id)
    if not rows:
        raise Refused(Reason.NOT_FOUND)
    point = request.service_point if request else await _point_of(books, rows[0])
    party = request.party if request else rows[0].party
    await _require_own(books, visit, point, party, rows[0].at_us)
    home = None
    if point:
        occupant, since_us = await occupant_of(books, point, visit.now_us)
        home = await load_home(books, point, occupant, since_us, visit.now_us)
    return Found(
        id=id,
        rows=rows,
        request=request,
        home=home,
        party=party,
        device=request.device if request else rows[0].device,
    )


async def _point_of(books: AllBooks, row: JournalRow) -> str:
    """Return the home that a refused attempt was for: the one that it named, or its device's."""
    if row.service_point or not row.device:
        return row.service_point
    device = (await books.devices([row.device])).get(row.device)
    return device.service_point if device else ""


async def _require_own(books: AllBooks, visit: Visit, point: str, party: str, at_us: int) -> None:
    if visit.reach is Reach.ANY:
        return
    if visit.who.role is Role.CUSTOMER:
        held = (await points_of(books, visit.who, visit.now_us)).get(point)
        if held is None or at_us < held[1]:
            raise Refused(Reason.NOT_FOUND)
    elif visit.who.role is not Role.DEVELOPER or visit.who.of != party:
        raise Refused(Reason.NOT_FOUND)


def _about(visit: Visit, found: Found) -> dict[str, object]:
    role = visit.who.role
    reading = read_journey(found.rows, found.request, role, visit.now_us)
    zone = found.home.point.timezone if found.home and role is Role.CUSTOMER else visit.parts.zone
    return {
        "found": found,
        "zone": zone,
        "reading": reading,
        "stations": _stations(reading),
        "title": _title(visit, found),
        "chosen": _chosen(visit, reading),
        "outcome": OUTCOMES.get(found.request.state, ("", ""))[1] if found.request else "refused",
        "service": found.home.service(found.party) if found.home else found.party,
        "shows_all": role in (Role.OPERATOR, Role.AUDITOR),
        "body": _body(found, role),
        "answer": _answer(found, role),
        "explicit": visit.query("step") != "",
    }


def _title(visit: Visit, found: Found) -> str:
    if found.request is None or found.home is None:
        return f"A refused attempt of {found.party or 'somebody unknown'}"
    happened = found.request.state not in ("REFUSED", "FAILED", "EXPIRED", "CANCELLED", "UNCONFIRMED")
    return request_words(found.request, found.home, fahrenheit=visit.who.fahrenheit, happened=happened)


def _chosen(visit: Visit, reading: Reading) -> Stop:
    """Return the step that was chosen, or the one that matters most: where it stopped, or the last one done."""
    asked = visit.query("step")
    for stop in reading.stops:
        if asked.isdigit() and stop.number == int(asked):
            return stop
    bad = [stop for stop in reading.stops if stop.state in ("refused", "failed", "timed out", "kept back")]
    done = [stop for stop in reading.stops if stop.at_us]
    return (bad or done[-1:] or reading.stops[:1] or [NO_STEP])[0]


def _stations(reading: Reading) -> list[dict[str, object]]:
    """Return the five stations of the map: how each stands, out and back, for drawing only."""
    drawn: list[dict[str, object]] = []
    for station in STATIONS:
        here = [stop for stop in reading.stops if stop.station is station]
        out = [stop for stop in here if not stop.back]
        bad = any(stop.state in ("refused", "failed", "timed out", "kept back") for stop in here)
        done = any(stop.state in ("done", "skipped") for stop in out)
        drawn.append({"name": station.value, "bad": bad, "done": done and not bad, "here": bool(here)})
    return drawn


def _body(found: Found, role: Role) -> str:
    """Return what was asked, for those who may read it."""
    if found.request is None or role in (Role.CUSTOMER, Role.REPRESENTATIVE):
        return ""
    return _pretty(found.request.body)


def _answer(found: Found, role: Role) -> str:
    """Return the answer: to operators and auditors, and to the company once it was handed over."""
    request = found.request
    if request is None or role in (Role.CUSTOMER, Role.REPRESENTATIVE):
        return ""
    if role is Role.DEVELOPER and request.answer != "DELIVERED":
        return ""
    return _pretty(request.result)


def _pretty(raw: msgspec.Raw) -> str:
    if bytes(raw) in (b"null", b"{}"):
        return ""
    return msgspec.json.format(bytes(raw), indent=2).decode()[:BODY_CHARS_MAX]


PAGES = [
    Page("GET", "/journeys/{message}", Act.SEE_JOURNEY, journey),
    Page("GET", "/journeys/{message}/live", Act.SEE_JOURNEY, journey_live),
]
