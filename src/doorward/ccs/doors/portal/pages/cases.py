"""A representative's pages: finding a customer, the case with its check (S4.02), contracts, service off and on."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.responses import Response

from doorward.ccs.agreeing import By, Done
from doorward.ccs.doors.portal.pages.home import PAUSES, live_grants, services_of
from doorward.ccs.doors.portal.stories import line_of
from doorward.ccs.doors.portal.visit import Page, Visit, problem_of
from doorward.ccs.homes import Home, floor_id, occupant_of, story
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.checking import Facts, ServiceFacts, check, finding
from doorward.ccs.rules.contracts import Contract
from doorward.ccs.rules.facts import LinkKind, Request
from doorward.ccs.rules.homes import ROLE_WORDS, HomeNote
from doorward.ccs.rules.rights import Act
from doorward.ccs.rules.searching import ASKED_CHARS_MAX, asked
from doorward.wire.reasons import Reason, Refused

FOUND_A_PAGE = 25
LAST_REQUESTS = 10
TIMELINE = 12
WAITING_MAX = 50

# ---- finding ---------------------------------------------------------------------------------------------


async def search(visit: Visit) -> Response:
    """Find homes by the words of what belongs to them; without words, show whose contracts wait."""
    text, after = visit.query("q").strip(), visit.query("after")
    waiting = await visit.read(_waiting)
    found: list[dict[str, str]] = []
    more = ""
    problem = None
    if text:
        try:
            words = asked(text)
        except Refused as refusal:
            problem = problem_of(refusal)
        else:
            found = await visit.read(lambda books: _found(books, words, after, visit.now_us))
            if len(found) > FOUND_A_PAGE:
                found = found[:FOUND_A_PAGE]
                more = urlencode({"q": text, "after": found[-1]["point"]})
    return visit.render(
        "cases/search.html",
        422 if problem else 200,
        text=text[:ASKED_CHARS_MAX],
        found=found,
        more=more,
        paged=bool(after),
        waiting=waiting,
        problem=problem,
    )


async def _found(books: AllBooks, words: list[str], after: str, now_us: int) -> list[dict[str, str]]:
    points = await books.find_homes(words, after=after, limit=FOUND_A_PAGE + 1)
    known = await books.service_points(points)
    places = await books.places(points, now_us)
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, b=points, live_us=now_us)
    account = {link.b: link.a for link in lived}
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, b=set(account.values()), live_us=now_us)
    customers = await books.customers({link.a for link in held})
    people: dict[str, list[str]] = {}
    for link in held:
        people.setdefault(link.b, []).append(customers[link.a].name or link.a)
    return [
        {
            "point": point,
            "address": known[point].address,
            "service": known[point].service,
            "people": ", ".join(people.get(account.get(point, ""), [])),
            "account": account.get(point, ""),
            "gateway": places[point].gateway if point in places else "",
        }
        for point in points
        if point in known
    ]


async def _waiting(books: AllBooks) -> list[dict[str, object]]:
    """Return contracts that wait for the utility's approval, longest first."""
    contracts = await books.contracts_signed(WAITING_MAX)
    parties = await books.parties({each.party for each in contracts})
    customers = await books.customers({each.customer for each in contracts})
    return [
        {
            "contract": each,
            "party": parties[each.party].name if each.party in parties else each.party,
            "customer": customers[each.customer].name if each.customer in customers else each.customer,
        }
        for each in contracts
    ]


# ---- one case --------------------------------------------------------------------------------------------


async def case(visit: Visit) -> Response:
    """Show a customer's case, with the check answered."""
    return await _case(visit, await visit.home(visit.path("point"), "this home's case"))


async def _case(visit: Visit, found: Home, status: int = 200, **more: object) -> Response:
    recent = await visit.read(
        lambda books: books.requests_at(found.id, since=floor_id(found.since_us), limit=LAST_REQUESTS)
    )
    happened = await visit.read(lambda books: story(books, found, limit=TIMELINE, kind="access"))
    facts = await visit.read(lambda books: _facts(books, visit, found, recent))
    answers = check(facts)
    lines = [line_of(each, found, visit.now_us, fahrenheit=visit.who.fahrenheit) for each in recent]
    timeline = [line_of(each, found, visit.now_us, fahrenheit=visit.who.fahrenheit) for each in happened]
    context: dict[str, object] = {
        "home": found,
        "zone": found.point.timezone,
        "people": await visit.read(lambda books: _people(books, found, visit.now_us)),
        "places": await visit.read(lambda books: _places(books, found, visit.now_us)),
        "answers": answers,
        "finding": finding(facts, answers),
        "lines": lines,
        "timeline": timeline,
        "services": services_of(found, visit.now_us),
        "controlled": bool(live_grants(found, visit.now_us)),
        "waiting": [each for each in found.contracts if each.state == "signed"],
        "pauses": PAUSES,
        "said": visit.query("done"),
    }
    return visit.render("cases/case.html", status, **(context | more))


async def _facts(books: AllBooks, visit: Visit, found: Home, recent: list[Request]) -> Facts:
    tiers = await books.tiers()
    parties = sorted({grant.party for grant in found.grants} | {each.party for each in found.contracts})
    gateway = found.gateway
    return Facts(
        point=found.point,
        gateway=gateway,
        connected=gateway is not None and bool(visit.parts.journey.switchboard.greeted_among({gateway.id})),
        devices=len(found.devices),
        services=[
            ServiceFacts(
                name=found.service(party),
                tier_known=(contract := found.contract_of(party)) is None or contract.tier in tiers,
                suspended=party in found.parties and found.parties[party].state != "active",
                grant=found.grant_of(party),
                contract=contract,
            )
            for party in parties
        ],
        recent=recent,
        names=found.names,
        now_us=visit.now_us,
    )


async def _people(books: AllBooks, found: Home, now_us: int) -> list[dict[str, str]]:
    """Return who lives at a home."""
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, b=[found.id], live_us=now_us)
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, b={link.a for link in lived}, live_us=now_us)
    customers = await books.customers({link.a for link in held})
    return [
        {"id": link.a, "name": customers[link.a].name or link.a, "contact": customers[link.a].contact}
        | {"account": link.b}
        for link in held
    ]


async def _places(books: AllBooks, found: Home, now_us: int) -> list[tuple[str, str]]:
    """Return the other homes of whoever lives at a home: (service point, address)."""
    if not found.customer:
        return []
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, a=[found.customer], live_us=now_us)
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, a={link.b for link in held}, live_us=now_us)
    known = await books.service_points({link.b for link in lived} - {found.id})
    return sorted((each.id, each.address) for each in known.values())


# ---- contracts -------------------------------------------------------------------------------------------


async def approve(visit: Visit) -> Response:
    """Approve a contract that the customer signed."""
    agreeing = visit.parts.desk.agreeing
    return await _decide(visit, agreeing.approve, "approved", visit.parts.utility)


async def refuse(visit: Visit) -> Response:
    """Refuse a contract, with the reason that the customer reads."""
    agreeing = visit.parts.desk.agreeing
    return await _decide(visit, agreeing.decline, "refused", visit.parts.utility)


Decision = Callable[[AllBooks, By, str, int], Awaitable[Contract]]


async def _decide(visit: Visit, decide: Decision, did: str, utility: str) -> Response:
    """Carry a decision out and note it for the customer; of two at once the later sees what the earlier did."""
    found = await visit.home(visit.path("point"), "a contract")
    id = visit.path("contract")
    try:
        by = visit.by()

        async def step(books: AllBooks) -> None:
            if not any(each.id == id for each in await books.contracts_at([found.id])):
                raise Refused(Reason.NOT_FOUND)
            contract = await decide(books, by, id, visit.now_us)
            words = f"{utility} {did} the contract with {found.service(contract.party)}"
            await books.put_notes([_note(visit, found, words, by.why, contract.party)])

        await visit.write(step)
    except Refused as refusal:
        if refusal.reason not in (Reason.BODY_MALFORMED, Reason.TOO_LATE, Reason.CONTRACT_MISSING):
            raise
        found = await visit.home(found.id, "a contract")
        status = 422 if refusal.reason is Reason.BODY_MALFORMED else 409
        return await _case(visit, found, status, problem=problem_of(refusal), wrong_at=id)
    return visit.go(f"/portal/cases/{found.id}", done=did)


def _note(visit: Visit, found: Home, words: str, why: str, party: str = "") -> HomeNote:
    who = visit.who
    return HomeNote(
        id=visit.new_id(),
        service_point=found.id,
        kind="act",
        at_us=visit.now_us,
        words=f"{words}: {ROLE_WORDS[who.role][:1].lower()}{ROLE_WORDS[who.role][1:]}",
        by=who.id,
        by_name=who.name,
        by_role=who.role,
        party=party,
        why=why,
    )


# ---- service off and on (B02) ----------------------------------------------------------------------------


async def ask_service(visit: Visit) -> Response:
    """Say what turning service off or on does, and ask."""
    found = await visit.home(visit.path("point"), "turning service off or on")
    return _ask_service(visit, found)


def _ask_service(visit: Visit, found: Home, status: int = 200, **more: object) -> Response:
    contracts = {each.party for each in found.contracts if each.is_open}
    reaching = {grant.party for grant in live_grants(found, visit.now_us)}
    services = sorted((found.service(party), party in contracts) for party in contracts | reaching)
    return visit.render(
        "cases/service.html", status, home=found, zone=found.point.timezone, services=services, **more
    )


async def turn_service(visit: Visit) -> Response:
    """Turn service off, which ends all contracts and access in the same transaction, or on again."""
    found = await visit.home(visit.path("point"), "turning service off or on")
    to, agreeing = visit.field("to"), visit.parts.desk.agreeing
    if to not in ("off", "on"):
        visit.wrong("to", "say off or on")
    try:
        by = visit.by()
    except Refused as refusal:
        return _ask_service(visit, found, 422, problem=problem_of(refusal))

    async def step(books: AllBooks, now_us: int) -> Done:
        occupant, _ = await occupant_of(books, found.id, now_us)
        point = (await books.service_points([found.id]))[found.id]
        if point.service == to or occupant != found.customer:
            raise Refused(Reason.TOO_LATE, "somebody was here before; open the case again")
        await books.put_notes([_note(visit, found, f"Service was turned {to}", by.why)])
        if to == "off":
            return await agreeing.service_off(books, by, [found.id], now_us)
        await agreeing.service_on(books, [found.id])
        return Done()

    await visit.parts.desk.run(step)
    return visit.go(f"/portal/cases/{found.id}", done=f"service-{to}")


PAGES = [
    Page("GET", "/cases", Act.FIND_CUSTOMERS, search),
    Page("GET", "/cases/{point}", Act.FIND_CUSTOMERS, case),
    Page("GET", "/cases/{point}/service", Act.FIND_CUSTOMERS, ask_service),
    Page("POST", "/cases/{point}/service", Act.TURN_SERVICE, turn_service),
    Page("POST", "/cases/{point}/contracts/{contract}/approve", Act.APPROVE_CONTRACT, approve),
    Page("POST", "/cases/{point}/contracts/{contract}/refuse", Act.APPROVE_CONTRACT, refuse),
]
