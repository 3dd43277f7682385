"""A customer's home: how it is, what happened today, and pausing everything."""

from starlette.responses import Response

from doorward.ccs.agreeing import Done
from doorward.ccs.cancelling import cancel_requests
from doorward.ccs.doors.portal.stories import line_of
from doorward.ccs.doors.portal.visit import Page, Visit
from doorward.ccs.homes import Home, Now, devices_now, status_of, story
from doorward.ccs.ports import AllBooks
from doorward.ccs.provisioning import is_live
from doorward.ccs.rules.facts import Grant, Request
from doorward.ccs.rules.rights import Act
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor
from doorward.wire.vocabulary import CLASS_OPERATIONS

STORY_LINES = 6
HOUR_US = 3_600_000_000
PAUSES = {"1": "1 hour", "4": "4 hours", "24": "1 day", "168": "1 week"}
"""Hours that one may pause for → how they are called."""


async def homes(visit: Visit) -> Response:
    """Send on to the only home, or show the list."""
    points = await visit.points()
    if len(points) == 1:
        return visit.go(f"/portal/homes/{points[0]}")

    async def step(books: AllBooks) -> list[str]:
        found = await books.service_points(points)
        return [found[point].address or point for point in points]

    return visit.render("home/choose.html", homes=list(zip(points, await visit.read(step), strict=True)))


async def home(visit: Visit) -> Response:
    """Show how a home is."""
    found = await visit.home(visit.path("point"), "this home's first page")

    async def step(books: AllBooks) -> tuple[dict[str, Now], list[object]]:
        now = await devices_now(books, found, visit.now_us)
        return now, list(await story(books, found, limit=STORY_LINES))

    now, items = await visit.read(step)
    fahrenheit = visit.who.fahrenheit
    lines = [
        line_of(item, found, visit.now_us, fahrenheit=fahrenheit, undoable=True)  # type: ignore[arg-type]
        for item in items
    ]
    return visit.render(
        "home/home.html",
        home=found,
        zone=found.point.timezone,
        now=now,
        lines=lines,
        services=services_of(found, visit.now_us),
        trouble=trouble_of(found, visit.now_us),
        power=power_of(now),
        pauses=PAUSES,
        done=visit.query("done"),
    )


def services_of(found: Home, now_us: int) -> list[tuple[str, str, str]]:
    """Return the services that a home knows: (third party, name, status)."""
    known = [
        (grant.party, found.service(grant.party), status_of(grant, found.contract_of(grant.party), now_us))
        for grant in found.grants
    ]
    return sorted(known, key=lambda each: (each[2] in ("Stopped", "Ended"), each[1]))


def power_of(now: dict[str, Now]) -> tuple[float, int] | None:
    """Return the power that devices drew when they were read last, W, and when the oldest of that was read."""
    read = [
        (each.reading["power_w"], each.at_us)
        for each in now.values()
        if each.reading and "power_w" in each.reading
    ]
    return (sum(watts for watts, _ in read), min(at for _, at in read)) if read else None


def trouble_of(found: Home, now_us: int) -> str:
    """Return in words what is not as it should be, ``""`` when all is normal."""
    if found.point.service != "on":
        return "Service at this address is off. No company can reach your devices."
    if found.gateway is None:
        return "There is no gateway at this address yet."
    if found.gateway.state != "enrolled":
        return "Your gateway has not come to us yet."
    return ""


def live_grants(found: Home, now_us: int) -> list[Grant]:
    """Return the permissions of a home that hold now, paused ones too."""
    return [grant for grant in found.grants if is_live(grant, now_us)]


async def pause_all(visit: Visit) -> Response:
    """Pause all outside control for a time; devices go back to local control at once."""
    found = await visit.home(visit.path("point"), "pausing all services")
    hours = visit.field("hours")
    if hours not in PAUSES:
        visit.wrong("hours", "choose one of the times")
    until_us = visit.now_us + int(hours) * HOUR_US
    by = visit.by()
    agreeing = visit.parts.desk.agreeing

    async def step(books: AllBooks, now_us: int) -> Done:
        each = [
            await agreeing.pause(books, by, grant.party, found.id, until_us, now_us)
            for grant in live_grants(found, now_us)
        ]
        return Done(
            changes=[change for one in each for change in one.changes],
            cancelled=[request for one in each for request in one.cancelled],
        )

    await visit.parts.desk.run(step)
    return visit.go(f"/portal/homes/{found.id}", done="paused")


async def resume_all(visit: Visit) -> Response:
    """Let all paused services go on."""
    found = await visit.home(visit.path("point"), "letting all services go on")
    by = visit.by()
    agreeing = visit.parts.desk.agreeing

    async def step(books: AllBooks, now_us: int) -> Done:
        paused = [grant for grant in live_grants(found, now_us) if grant.document.paused_until_us > now_us]
        each = [await agreeing.resume(books, by, grant.party, found.id, now_us) for grant in paused]
        return Done(changes=[change for one in each for change in one.changes])

    await visit.parts.desk.run(step)
    return visit.go(f"/portal/homes/{found.id}", done="resumed")


async def undo(visit: Visit) -> Response:
    """Let go of a control that runs: the device goes back to the customer's own setting."""
    found = await visit.home(visit.path("point"), "undoing a control")
    id = visit.field("request")

    async def step(books: AllBooks, now_us: int) -> Done:
        request = (await books.requests([id], lock=True)).get(id)
        if request is None or request.service_point != found.id or request.id < "" or _before(request, found):
            raise Refused(Reason.NOT_FOUND)
        changed = await cancel_requests(
            books, [request], now_us, Actor.CUSTOMER, Reason.CUSTOMER_OVERRIDE, visit.parts.journey.rng
        )
        return Done(cancelled=changed)

    done = await visit.parts.desk.run(step)
    visit.parts.journey.dispatch_to({request.gateway for request in done.cancelled})
    return visit.go(f"/portal/homes/{found.id}", done="undone" if done.cancelled else "over")


def _before(request: Request, found: Home) -> bool:
    return request.received_us < found.since_us


async def devices(visit: Visit) -> Response:
    """Show every device: how it is, and who may do what with it."""
    found = await visit.home(visit.path("point"), "the devices")
    now = await visit.read(lambda books: devices_now(books, found, visit.now_us))
    allowed = {
        device.id: [
            (grant.party, found.service(grant.party), permit)
            for grant in live_grants(found, visit.now_us)
            if (permit := grant.document.permit(device.id)) is not None
        ]
        for device in found.devices
    }
    can = {device.id: CLASS_OPERATIONS[device.device_class] for device in found.devices}
    return visit.render(
        "home/devices.html", home=found, zone=found.point.timezone, now=now, allowed=allowed, can=can
    )


PAGES = [
    Page("GET", "/homes", Act.CHANGE_ACCESS, homes),
    Page("GET", "/homes/{point}", Act.SEE_HOME, home),
    Page("POST", "/homes/{point}/pause", Act.CHANGE_ACCESS, pause_all),
    Page("POST", "/homes/{point}/resume", Act.CHANGE_ACCESS, resume_all),
    Page("POST", "/homes/{point}/undo", Act.CHANGE_ACCESS, undo),
    Page("GET", "/homes/{point}/devices", Act.SEE_HOME, devices),
]
