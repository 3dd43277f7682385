"""A representative finds a customer, sees how the home is, decides about contracts, turns service off and on."""

import asyncio

import pytest

from doorward.ccs.agreeing import By
from doorward.ccs.doors.portal.pages.cases import FOUND_A_PAGE
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.contracts import Contract
from doorward.ccs.rules.facts import Account, Customer, Link, LinkKind, ServicePoint
from tests.ccs.doors.portal.site import Browser, Site
from tests.ccs.town import HOUR

CASE = "/portal/cases/SP-1"
WHY = {"why": "she asked for it on the phone"}


async def signed(site: Site, party: str = "sun") -> str:
    """A contract that the customer signed and nobody has approved."""
    agreeing = site.service.app.access.agreeing
    agreeing._by_rule = False
    by = By(person="maria", asked_us=site.service.app.clock.now_us())

    async def step(books: AllBooks) -> str:
        now_us = site.service.app.clock.now_us()
        drafted = await agreeing.draft(
            books,
            by,
            party=party,
            customer="C-1",
            service_point="SP-1",
            ends_us=now_us + 1000 * HOUR,
            now_us=now_us,
        )
        await agreeing.sign(books, by, drafted.id, drafted.text_hash, "on the web site", now_us)
        return drafted.id

    return await site.service.app.store.write(step)


async def contract(site: Site, id: str) -> Contract:
    return (await site.service.app.store.read(lambda books: books.contracts([id])))[id]


async def find(browser: Browser, text: str, **more: str) -> str:
    return (await browser.get("/portal/cases", params={"q": text, **more})).text


# ---- finding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["lopez", "Diego", "C-1", "a-1", "SP-1", "th-1", "SPG-1"])
async def test_a_home_is_found_by_whatever_the_caller_knows(site: Site, text: str) -> None:
    rosa = await site.as_("rosa")
    page = await rosa.get("/portal/cases", params={"q": text})
    assert f'href="{CASE}"' in page.html


async def test_a_search_begins_where_a_representative_begins_and_says_how_to_mend_it(site: Site) -> None:
    rosa = await site.as_("rosa")
    assert (await rosa.get("/portal/")).path == "/portal/cases"
    short = await rosa.get("/portal/cases", params={"q": "x"})
    assert short.status == 422
    assert "at least 2 letters" in short.text
    assert "No home is found by this" in await find(rosa, "nobody-of-this-name")
    assert "Olga <Other>" in await find(rosa, "<other>")


async def test_a_long_list_comes_in_pages_and_nothing_is_missed(site: Site) -> None:
    await site.service.app.store.write(lambda books: settle_street(books, site.service.app.clock.now_us()))
    rosa = await site.as_("rosa")
    seen: list[str] = []
    path = "/portal/cases?q=elm"
    while path:
        page = await rosa.get(path)
        seen += [part.partition('"')[0] for part in page.html.split('href="/portal/cases/')[1:]]
        path = page.html.partition('href="/portal/cases?q=elm&amp;after=')[2].partition('"')[0]
        path = f"/portal/cases?q=elm&after={path}" if path else ""
    assert seen == [f"EL-{number:05}" for number in range(3 * FOUND_A_PAGE + 1)]


async def settle_street(books: AllBooks, now_us: int) -> None:
    count = 3 * FOUND_A_PAGE + 1
    await books.put_customers([Customer(id=f"CE-{n}", name=f"Elm {n}") for n in range(count)])
    await books.put_accounts([Account(id=f"AE-{n}") for n in range(count)])
    await books.put_service_points(
        [ServicePoint(id=f"EL-{n:05}", address="Elm Street") for n in range(count)]
    )
    for n in range(count):
        pairs = [
            (LinkKind.CUSTOMER_ACCOUNT, f"CE-{n}", f"AE-{n}"),
            (LinkKind.ACCOUNT_SERVICE_POINT, f"AE-{n}", f"EL-{n:05}"),
        ]
        await books.put_links([Link(kind=kind, a=a, b=b, since_us=now_us - HOUR) for kind, a, b in pairs])


async def test_only_representatives_find_customers(site: Site) -> None:
    for id in ("maria", "omar", "dana", "vera", "adam"):
        browser = await site.as_(id)
        assert (await browser.get("/portal/cases", params={"q": "lopez"})).status == 404
        assert (await browser.get(CASE)).status == 404


# ---- the case ---------------------------------------------------------------------------------------------


async def test_a_case_opens_with_its_check_answered_and_the_customer_sees_the_look(site: Site) -> None:
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    await site.service.done({"state": "NORMAL", "power_w": 100.0})
    page = await rosa.get(CASE)
    for said in (
        "Nothing is",
        "Service is on.",
        "There is no contract with BrightGrid here",
        "The permission for BrightGrid holds",
        "are known.",
        "Gateway SPG-1 is connected.",
        "Of the last 1, 1 were done",
        "Maria Lopez",
        "Diego Lopez",
    ):
        assert said in page.text, page.text
    assert "/portal/journeys/" in page.html
    assert "looked at this home's case (Rosa Reyes)" in (await maria.get("/portal/homes/SP-1/activity")).text


async def test_the_finding_names_what_is_wrong(site: Site) -> None:
    rosa = await site.as_("rosa")
    assert "Most likely: there is no gateway at this address." in (await rosa.get("/portal/cases/SP-9")).text
    await site.service.gateway.disconnect()
    by = By(person="maria", asked_us=site.service.app.clock.now_us())
    desk = site.service.app.access
    await desk.run(lambda books, now_us: desk.agreeing.withdraw(books, by, "bright", "SP-1", now_us))
    page = await rosa.get(CASE)
    assert "The customer's permission for BrightGrid was stopped." in page.text
    assert (await rosa.get("/portal/cases/NONE")).status == 404


# ---- contracts --------------------------------------------------------------------------------------------


async def test_a_signed_contract_waits_is_approved_with_a_reason_and_the_customer_reads_it(
    site: Site,
) -> None:
    id = await signed(site)
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    assert "Contracts that wait for approval (1)" in (await rosa.get("/portal/cases")).text
    await rosa.get(CASE)
    silent = await rosa.post(f"{CASE}/contracts/{id}/approve")
    assert silent.status == 422
    assert "Say why" in silent.text
    assert (await contract(site, id)).state == "signed"
    done = await rosa.post(f"{CASE}/contracts/{id}/approve", WHY)
    assert "The contract is approved" in done.text
    assert ((await contract(site, id)).state, (await contract(site, id)).approved_by) == ("approved", "rosa")
    seen = (await maria.get("/portal/homes/SP-1/activity")).text
    assert "approved the contract with Sunfold" in seen
    assert WHY["why"] in seen


async def test_a_refused_contract_is_over_and_says_why(site: Site) -> None:
    id = await signed(site)
    rosa = await site.as_("rosa")
    await rosa.get(CASE)
    await rosa.post(f"{CASE}/contracts/{id}/refuse", {"why": "the company is not ready"})
    over = await contract(site, id)
    assert (over.state, over.ended_by, over.ended_why) == ("declined", "rosa", "the company is not ready")


async def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(site: Site) -> None:
    id = await signed(site)
    rosa, other = await site.as_("rosa"), await site.as_("rosa")
    await asyncio.gather(rosa.get(CASE), other.get(CASE))
    replies = await asyncio.gather(
        rosa.post(f"{CASE}/contracts/{id}/approve", WHY), other.post(f"{CASE}/contracts/{id}/refuse", WHY)
    )
    assert sorted(reply.status for reply in replies) == [200, 409]
    late = next(reply for reply in replies if reply.status == 409)
    assert "somebody was here before" in late.text
    notes = await site.service.app.store.read(lambda books: books.notes_at("SP-1"))
    assert sum(note.kind == "act" for note in notes) == 1


async def test_a_contract_of_another_home_cannot_be_decided_from_here(site: Site) -> None:
    id = await signed(site)
    rosa = await site.as_("rosa")
    await rosa.get("/portal/cases/SP-9")
    assert (await rosa.post(f"/portal/cases/SP-9/contracts/{id}/approve", WHY)).status == 404
    assert (await contract(site, id)).state == "signed"


# ---- service (B02) ----------------------------------------------------------------------------------------


async def test_service_off_ends_everything_at_once_and_the_customer_reads_why(site: Site) -> None:
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    assert "ends" in (await rosa.get(f"{CASE}/service")).text
    assert (await rosa.post(f"{CASE}/service", {"to": "off"})).status == 422
    assert (await site.service.post()).status == 202
    await rosa.get(f"{CASE}/service")
    page = await rosa.post(f"{CASE}/service", {"to": "off", "why": "moves out today"})
    assert "Service is off" in page.text
    assert (await site.service.post()).reason == "service-off"
    assert "moves out today" in (await maria.get("/portal/homes/SP-1/activity")).text
    again = await rosa.post(f"{CASE}/service", {"to": "off", "why": "twice"})
    assert again.status == 409
    back = await rosa.post(f"{CASE}/service", {"to": "on", "why": "a mistake"}, token=page.token)
    assert "Service is on" in back.text
    assert (await site.service.post()).reason == "access-disabled"


async def test_a_representative_connects_pauses_and_stops_for_a_customer_with_a_reason(site: Site) -> None:
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    page = await rosa.get(CASE)
    paused = await rosa.post("/portal/homes/SP-1/pause", {"hours": "1", **WHY}, token=page.token)
    assert paused.status == 200
    assert (await site.service.post()).reason == "access-paused"
    await rosa.get("/portal/homes/SP-1/services/bright/stop")
    await rosa.post("/portal/homes/SP-1/services/bright/stop", WHY)
    assert (await site.service.post()).reason == "access-disabled"
    seen = (await maria.get("/portal/homes/SP-1/receipts")).text
    assert "Rosa Reyes, a representative, stopped BrightGrid" in seen
