"""What happened in my home: everything, newest first, in pages; and the receipts of changes of access."""

import csv
import io
from itertools import groupby

from starlette.responses import Response

from doorward.ccs.doors.portal.live import live
from doorward.ccs.doors.portal.stories import line_of, receipt_word
from doorward.ccs.doors.portal.visit import Page, Visit
from doorward.ccs.doors.portal.words import day_name, iso, reference
from doorward.ccs.homes import Home, story
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.homes import AccessChange
from doorward.ccs.rules.rights import Act
from doorward.wire.reasons import Reason, Refused

PAGE_LINES = 40
CSV_LINES_MAX = 5_000
KINDS = {
    "": "Everything",
    "control": "Controls",
    "read": "Readings",
    "access": "Access",
    "staff": "Utility staff",
}


async def activity(visit: Visit) -> Response:
    """Show a page of it, in groups by day."""
    found = await visit.home(visit.path("point"), "the activity")
    kind = visit.query("kind") if visit.query("kind") in KINDS else ""
    before, zone = visit.query("before"), found.point.timezone

    async def step(books: AllBooks) -> list[object]:
        return list(await story(books, found, before=before, limit=PAGE_LINES + 1, kind=kind))

    items = await visit.read(step)
    lines = [
        line_of(item, found, visit.now_us, fahrenheit=visit.who.fahrenheit)  # type: ignore[arg-type]
        for item in items[:PAGE_LINES]
    ]
    days = [
        (day, list(group))
        for day, group in groupby(lines, key=lambda line: day_name(line.at_us, zone, visit.now_us))
    ]
    return visit.render(
        "home/activity.html",
        home=found,
        zone=zone,
        days=days,
        kinds=KINDS,
        kind=kind,
        older=lines[-1].id if len(items) > PAGE_LINES else "",
        paged=bool(before),
    )


async def as_csv(visit: Visit) -> Response:
    """Give all of it as a file; cells that a spreadsheet would run are made harmless."""
    found = await visit.home(visit.path("point"), "the activity, as a file")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["time (UTC)", "reference", "what happened", "state", "more"])
    before, left = "", CSV_LINES_MAX
    while left > 0:
        page = await visit.read(lambda books, at=before: story(books, found, before=at, limit=500))  # type: ignore[misc]
        for item in page[:left]:
            line = line_of(item, found, visit.now_us, fahrenheit=visit.who.fahrenheit)
            row = [iso(line.at_us), reference(line.id), line.title, line.word, line.more]
            writer.writerow([_harmless(cell) for cell in row])
        left -= len(page)
        if len(page) < 500:
            break
        before = page[-1].id
    headers = {"content-disposition": f'attachment; filename="activity-{found.id}.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@\t\r" and cell else cell


async def receipts(visit: Visit) -> Response:
    """Show all changes of access, newest first."""
    found = await visit.home(visit.path("point"), "the receipts")
    before = visit.query("before")

    async def step(books: AllBooks) -> list[object]:
        return list(await story(books, found, before=before, limit=PAGE_LINES + 1, kind="access"))

    items = [item for item in await visit.read(step) if isinstance(item, AccessChange)]
    lines = [line_of(item, found, visit.now_us, fahrenheit=False) for item in items[:PAGE_LINES]]
    older = lines[-1].id if len(items) > PAGE_LINES else ""
    return visit.render("home/receipts.html", home=found, zone=found.point.timezone, lines=lines, older=older)


async def receipt(visit: Visit) -> Response:
    """Show one change: what, who, why, and when each place began to obey it; live until the gateway does."""
    found = await visit.home(visit.path("point"), "a receipt")
    change = await visit.read(lambda books: _change(books, found, visit.path("change")))
    return visit.render("home/receipt.html", **_about(found, change))


async def receipt_live(visit: Visit) -> Response:
    """Follow a change until the gateway has it."""
    found = await visit.home(visit.path("point"), "a receipt")

    async def look() -> tuple[str, bool]:
        change = await visit.read(lambda books: _change(books, found, visit.path("change")))
        over = receipt_word(change) != "pending"
        return visit.fragment("home/receipt_times.html", **_about(found, change)), over

    return live(visit, look)


async def _change(books: AllBooks, found: Home, id: str) -> AccessChange:
    change = (await books.changes([id])).get(id)
    if change is None or change.service_point != found.id or change.at_us < found.since_us:
        raise Refused(Reason.NOT_FOUND)
    return change


def _about(found: Home, change: AccessChange) -> dict[str, object]:
    return {
        "home": found,
        "zone": found.point.timezone,
        "change": change,
        "name": found.service(change.party),
        "word": receipt_word(change),
        "grant": found.grant_of(change.party),
        "offer": found.offers.get(change.party),
        "contract": found.contract_of(change.party),
    }


PAGES = [
    Page("GET", "/homes/{point}/activity", Act.SEE_HOME, activity),
    Page("GET", "/homes/{point}/activity.csv", Act.SEE_HOME, as_csv),
    Page("GET", "/homes/{point}/receipts", Act.SEE_HOME, receipts),
    Page("GET", "/homes/{point}/receipts/{change}", Act.SEE_HOME, receipt),
    Page("GET", "/homes/{point}/receipts/{change}/live", Act.SEE_HOME, receipt_live),
]
