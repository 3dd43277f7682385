"""Coming in and going out: sign-in by password, one-time links, a new password, and "Choose who you are"."""

from itertools import groupby

from starlette.responses import Response

from doorward.ccs.doors.portal.live import live
from doorward.ccs.doors.portal.security import local_path
from doorward.ccs.doors.portal.visit import Page, Visit, problem_of
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Request
from doorward.ccs.rules.homes import ROLE_WORDS
from doorward.ccs.rules.people import Person, Role
from doorward.ccs.rules.rights import Act
from doorward.wire.reasons import Reason, Refused

PEOPLE_MAX = 50
MOVING = 3
"""Messages that the demo's first page shows."""
ROLE_TITLES: dict[Role, str] = {
    Role.CUSTOMER: "Customers",
    Role.REPRESENTATIVE: "Customer representatives",
    Role.OPERATOR: "Operators",
    Role.DEVELOPER: "Developers of companies",
    Role.VENDOR: "Gateway vendors",
    Role.AUDITOR: "Auditors",
}
STARTS: dict[Role, str] = {
    Role.CUSTOMER: "/portal/homes",
    Role.REPRESENTATIVE: "/portal/cases",
    Role.DEVELOPER: "/portal/workbench",
}
"""Where each role begins; whoever is not in it begins at the general start page."""


async def start(visit: Visit) -> Response:
    """Send people to where they begin; in the demo, let strangers choose who they are."""
    if visit.person is not None:
        if visit.person.role in STARTS:
            return visit.go(STARTS[visit.person.role])
        return visit.render("start.html")
    if visit.parts.demo:
        return visit.go("/portal/choose")
    return visit.go("/portal/sign-in")


async def sign_in(visit: Visit) -> Response:
    """Show the form."""
    return visit.render("sign_in.html", following=local_path(visit.query("next")), login="")


async def take_sign_in(visit: Visit) -> Response:
    """Let somebody in by a password."""
    login, following = visit.field("login"), local_path(visit.field("next"))
    password = visit.form.get("password", [""])[0]
    try:
        entered = await visit.parts.sign_in.by_password(login, password, _source(visit))
    except Refused as refusal:
        status = 429 if refusal.reason is Reason.RATE_LIMITED else 401
        return visit.render(
            "sign_in.html", status, following=following, login=login, problem=problem_of(refusal)
        )
    return visit.enter(entered, following or "/portal/")


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    if visit.token:
        await visit.parts.sign_in.out(visit.token)
    response = visit.go("/portal/")
    response.delete_cookie(visit.parts.cookies.session, path="/", secure=visit.parts.cookies.secure)
    return response


async def link(visit: Visit) -> Response:
    """Show whom a one-time link lets in; only the button uses it up, so that no preview of a mail does."""
    return visit.render("link.html", secret=visit.query("key"))


async def take_link(visit: Visit) -> Response:
    """Let somebody in by a one-time link."""
    return visit.enter(await visit.parts.sign_in.by_link(visit.field("key")))


async def new_password(visit: Visit) -> Response:
    """Show the form for a new password, by a link for that."""
    return visit.render("password.html", secret=visit.query("key"))


async def take_new_password(visit: Visit) -> Response:
    """Set a password."""
    secret, password = visit.field("key"), visit.form.get("password", [""])[0]
    try:
        return visit.enter(await visit.parts.sign_in.set_password(secret, password))
    except Refused as refusal:
        if refusal.reason is not Reason.BODY_MALFORMED:
            raise
        return visit.render("password.html", 422, secret=secret, problem=problem_of(refusal))


async def choose(visit: Visit) -> Response:
    """In the demo: show everybody whom one may be, by what they are."""
    _require_demo(visit)
    people = await visit.read(lambda books: books.people_from("", PEOPLE_MAX))
    order = list(Role)
    ranked = sorted(people, key=lambda each: (order.index(each.role), each.id))
    groups = [
        (ROLE_TITLES[role], [(each, _about(each)) for each in members])
        for role, members in groupby(ranked, key=lambda each: each.role)
    ]
    return visit.render("choose.html", groups=groups, moving=await visit.read(_moving))


async def choose_live(visit: Visit) -> Response:
    """In the demo: follow the newest messages, so that something moves before anybody has come in."""
    _require_demo(visit)

    async def step() -> tuple[str, bool]:
        visit.now_us = visit.parts.journey.clock.now_us()
        return visit.fragment("choose_moving.html", moving=await visit.read(_moving)), False

    return live(visit, step)


async def _moving(books: AllBooks) -> list[tuple[Request, str, str]]:
    """Return the newest messages of the companies: (request, company, device's name)."""
    offers = [offer.party for offer in await books.offers()]
    parties = await books.parties(offers)
    found = [each for party in offers for each in await books.list_requests(party, limit=MOVING)]
    newest = sorted(found, key=lambda each: each.id, reverse=True)[:MOVING]
    devices = await books.devices({each.device for each in newest if each.device})
    return [
        (
            each,
            parties[each.party].name,
            devices[each.device].name if each.device in devices else "a whole home",
        )
        for each in newest
    ]


async def take_choice(visit: Visit) -> Response:
    """Make a one-time link for whom was chosen, and use it."""
    _require_demo(visit)
    chosen = visit.field("person")
    person = (await visit.read(lambda books: books.people([chosen]))).get(chosen)
    if person is None:
        raise Refused(Reason.NOT_FOUND)
    return visit.enter(await visit.parts.sign_in.by_link(visit.parts.sign_in.link(person)))


async def theme(visit: Visit) -> Response:
    """Keep the colours that somebody chose: light, dark, or as the system has it."""
    chosen = visit.field("theme")
    back = local_path(visit.field("back")) or "/portal/"
    response = visit.go(back)
    name = visit.parts.cookies.theme
    if chosen in ("light", "dark"):
        response.set_cookie(
            name, chosen, max_age=31_536_000, path="/", samesite="lax", secure=visit.parts.cookies.secure
        )
    else:
        response.delete_cookie(name, path="/")
    return response


def _about(person: Person) -> str:
    return ROLE_WORDS[person.role] if not person.of else person.of


def _require_demo(visit: Visit) -> None:
    if not visit.parts.demo:
        raise Refused(Reason.NOT_FOUND)


def _source(visit: Visit) -> str:
    return visit.request.client.host if visit.request.client else ""


PAGES = [
    Page("GET", "/", None, start),
    Page("GET", "/sign-in", None, sign_in),
    Page("POST", "/sign-in", None, take_sign_in),
    Page("POST", "/sign-out", Act.CHANGE_OWN_SETTINGS, sign_out),
    Page("GET", "/link", None, link),
    Page("POST", "/link", None, take_link),
    Page("GET", "/password", None, new_password),
    Page("POST", "/password", None, take_new_password),
    Page("GET", "/choose", None, choose),
    Page("GET", "/choose/live", None, choose_live),
    Page("POST", "/choose", None, take_choice),
    Page("POST", "/theme", None, theme),
]
