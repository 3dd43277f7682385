"""Letting a company in, changing it, pausing it, shutting it out: what people do, and what follows from it."""

import asyncio
from typing import Any

from doorward.ccs.rules.facts import Grant
from doorward.ccs.rules.homes import AccessChange
from doorward.wire.messages import Applied, GrantPush, Withdraw
from tests.ccs.doors.portal.site import Browser, Reply, Site

HOME = "/portal/homes/SP-1"
SEE_SET = {"verb:TH-1": ["see", "set"], "low:TH-1": "16", "high:TH-1": "24", "times:TH-1": "4"}


async def grant_of(site: Site, party: str) -> Grant | None:
    grants = await site.service.app.store.read(lambda books: books.grants([(party, "SP-1")]))
    return grants.get((party, "SP-1"))


async def changes(site: Site) -> list[AccessChange]:
    return await site.service.app.store.read(lambda books: books.changes_at("SP-1"))


async def check(browser: Browser, party: str, fields: dict[str, Any]) -> Reply:
    await browser.get(f"{HOME}/connect/{party}/devices")
    return await browser.post(f"{HOME}/connect/{party}/check", fields)


def hidden(page: Reply, name: str) -> str:
    return page.html.partition(f'name="{name}" value="')[2].partition('"')[0]


async def allow(browser: Browser, party: str, fields: dict[str, Any], **more: Any) -> Reply:
    """All three steps, as somebody does who reads and agrees."""
    page = await check(browser, party, fields)
    assert page.status == 200, page.text
    kept = {
        "version": hidden(page, "version"),
        "text_hash": hidden(page, "text_hash"),
        "until": hidden(page, "until"),
    }
    kept["until"] = page.html.partition('name="until" value="')[2].partition('"')[0]
    return await browser.post(
        f"{HOME}/connect/{party}/allow",
        {**fields, **kept, "answer": "allow", "agreed": "1", "needs_contract": "1", **more},
    )


async def test_a_customer_lets_a_company_in_under_a_signed_contract_within_limits(site: Site) -> None:
    maria = await site.as_("maria")
    page = await check(maria, "sun", SEE_SET)
    assert "see, set; never below 16 °C; never above 24 °C; at most 4 times a day" in page.text
    assert "cannot" in page.text
    receipt = await allow(maria, "sun", SEE_SET)
    assert receipt.path.startswith(f"{HOME}/receipts/")
    assert "Your gateway is being told" in receipt.text

    grant = await grant_of(site, "sun")
    assert grant is not None
    (permit,) = grant.document.devices
    assert [str(each) for each in permit.operations] == ["read", "setpoint", "offset", "mode"]
    assert (permit.bounds.celsius_min, permit.bounds.celsius_max, permit.bounds.times_per_day) == (16, 24, 4)
    (contract,) = await site.service.app.store.read(lambda books: books.contracts_at(["SP-1"]))
    assert (contract.state, contract.signed_by, contract.approved_by) == ("approved", "maria", "rule")
    assert contract.agreed_us
    assert len(contract.text_hash) == 64


async def test_the_gateway_is_told_at_once_and_its_receipt_is_shown(site: Site) -> None:
    gateway = site.service.gateway
    gateway.heard()
    maria = await site.as_("maria")
    receipt = await allow(maria, "sun", SEE_SET)
    pushed = [each for each in gateway.heard() if isinstance(each, GrantPush)]
    grant = await grant_of(site, "sun")
    assert grant is not None
    assert grant.id in {each.grant for each in pushed}
    version = (await changes(site))[0].gateway_version
    await gateway.say(Applied(seq=901, version=version, at_us=site.service.app.clock.now_us()))
    assert "Your gateway has it" in (await maria.get(receipt.path)).text


async def test_what_a_gateway_could_not_take_is_shown_with_its_reason(site: Site) -> None:
    maria = await site.as_("maria")
    receipt = await allow(maria, "sun", SEE_SET)
    grant = await grant_of(site, "sun")
    assert grant is not None
    change = (await changes(site))[0]
    said = {grant.id: "signature-invalid: the signature does not verify"}
    at_us = site.service.app.clock.now_us()
    await site.service.gateway.say(Applied(seq=901, version=change.gateway_version, at_us=at_us, failed=said))
    page = await maria.get(receipt.path)
    assert "could not take it: signature-invalid" in page.text


async def test_stopping_refuses_at_once_cancels_what_waits_and_tells_gateway_and_company(site: Site) -> None:
    await site.service.gateway.disconnect()
    waiting = (await site.service.post()).json["id"]
    await site.service.gateway.connect()
    maria = await site.as_("maria")
    page = await maria.get(f"{HOME}/services/bright/stop")
    assert "Data that BrightGrid received before stays with it" in page.text
    site.service.gateway.heard()
    receipt = await maria.post(f"{HOME}/services/bright/stop")
    assert "refuses BrightGrid" in receipt.text
    refused = await site.service.post()
    assert (refused.status, refused.reason) == (403, "access-disabled")
    assert any(isinstance(each, Withdraw) for each in site.service.gateway.heard())
    assert [each.kind for each in await site.service.feed("access.withdrawn")] == ["access.withdrawn"]
    request = await site.service.request(waiting)
    assert request.state in ("CANCELLED", "SENT", "AT_GATEWAY")
    assert "Stopped" in (await maria.get(f"{HOME}/services")).text


async def test_a_pause_refuses_for_its_time_and_can_be_ended(site: Site) -> None:
    maria = await site.as_("maria")
    await maria.get(f"{HOME}/services/bright")
    await maria.post(f"{HOME}/services/bright/pause", {"hours": "4"})
    assert (await site.service.post()).reason == "access-paused"
    assert "Paused" in (await maria.get(f"{HOME}/services/bright")).text
    await maria.post(f"{HOME}/services/bright/resume")
    assert (await site.service.post()).status == 202


async def test_pausing_everything_is_one_button(site: Site) -> None:
    maria = await site.as_("maria")
    await allow(maria, "sun", SEE_SET)
    await maria.get(HOME)
    page = await maria.post(f"{HOME}/pause", {"hours": "1"})
    assert "Outside control is paused" in page.text
    for party in ("bright", "sun"):
        grant = await grant_of(site, party)
        assert grant is not None
        assert grant.document.paused_until_us > site.service.app.clock.now_us()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "Choose at least one thing"),
    ({"verb:TH-1": "see", "low:TH-1": "warm"}, "write a number from"),
    ({"verb:TH-1": "see", "low:TH-1": "25", "high:TH-1": "20"}, "the highest is below the lowest"),
    ({"verb:TH-1": "see", "from:TH-1": "25:00", "to:TH-1": "1"}, "write both times like 18:30"),
    ({"verb:TH-1": "see", "times:TH-1": "0"}, "write a number from 1 to 100"),
]


async def test_a_mistake_is_named_where_it_is_and_nothing_typed_is_lost(site: Site) -> None:
    maria = await site.as_("maria")
    for fields, said in MISTAKES:
        page = await check(maria, "sun", fields)
        assert page.status == 422
        assert said in page.text
        for name, value in fields.items():
            if not name.startswith("verb"):
                assert f'name="{name}" value="{value}"' in page.html
    assert await grant_of(site, "sun") is None


async def test_another_home_s_device_is_as_unknown_as_one_that_is_not_there(site: Site) -> None:
    maria = await site.as_("maria")
    for device in ("TH-9", "NOT-THERE"):
        page = await check(maria, "sun", {f"verb:{device}": "see"})
        assert page.status == 422
        assert "Choose at least one thing" in page.text


async def test_without_agreeing_nothing_is_signed_and_without_signing_nothing_is_possible(site: Site) -> None:
    maria = await site.as_("maria")
    page = await allow(maria, "sun", SEE_SET, agreed="")
    assert page.status == 422
    assert "tick that you agree" in page.text
    assert await grant_of(site, "sun") is None
    assert (await site.service.post(token=site.service.token("sun"))).reason == "device-unknown"


async def test_a_text_that_is_not_the_one_that_stands_is_not_signed(site: Site) -> None:
    maria = await site.as_("maria")
    page = await allow(maria, "sun", SEE_SET, text_hash="0" * 64)
    assert page.status == 409
    assert await grant_of(site, "sun") is None


async def test_a_page_that_was_open_too_long_changes_nothing(site: Site) -> None:
    maria, diego = await site.as_("maria"), await site.as_("diego")
    stale = await check(maria, "bright", {"verb:TH-1": "see"})
    await allow(diego, "bright", {"verb:TH-1": ["see", "set"]})
    fields = {"verb:TH-1": "see", "version": hidden(stale, "version"), "until": "2027-06-01"}
    late = await maria.post(f"{HOME}/connect/bright/allow", {**fields, "answer": "allow"}, token=stale.token)
    assert late.status in (409, 422)
    grant = await grant_of(site, "bright")
    assert grant is not None
    assert len(grant.document.devices[0].operations) == 4


async def test_a_double_click_gives_access_once(site: Site) -> None:
    maria = await site.as_("maria")
    page = await check(maria, "sun", SEE_SET)
    fields = {
        **SEE_SET,
        "version": "0",
        "text_hash": hidden(page, "text_hash"),
        "until": "2027-06-01",
        "answer": "allow",
        "agreed": "1",
        "needs_contract": "1",
    }
    both = await asyncio.gather(
        *(maria.post(f"{HOME}/connect/sun/allow", fields, token=page.token) for _ in range(2))
    )
    assert sorted(each.status for each in both) == [200, 409]
    assert len([each for each in await changes(site) if each.party == "sun"]) == 1


async def test_do_not_allow_changes_nothing(site: Site) -> None:
    maria = await site.as_("maria")
    page = await allow(maria, "sun", SEE_SET, answer="deny")
    assert "Nothing was allowed" in page.text
    assert await grant_of(site, "sun") is None


async def test_service_off_ends_contracts_and_access_whoever_gave_it(site: Site) -> None:
    maria = await site.as_("maria")
    await allow(maria, "sun", SEE_SET)
    desk = site.service.app.door._parts.site._parts.desk  # type: ignore[attr-defined]
    from doorward.ccs.agreeing import By

    by = By(person="css", asked_us=site.service.app.clock.now_us(), why="moved out")
    done = await desk.run(lambda books, now_us: desk.agreeing.service_off(books, by, ["SP-1"], now_us))
    assert {each.state for each in done.contracts} == {"ended"}
    for party in ("bright", "sun"):
        grant = await grant_of(site, party)
        assert grant is not None
        assert grant.state == "withdrawn"
        refused = await site.service.post(token=site.service.token(party))
        assert refused.reason == "service-off"
    assert [each.kind for each in await site.service.feed("contract.ended", "sun")] == ["contract.ended"]
    assert "Service at this address is off" in (await maria.get(HOME)).text


# ---- whose it is ------------------------------------------------------------------------------------------


PATHS = [
    "",
    "/services",
    "/services/bright",
    "/devices",
    "/activity",
    "/activity.csv",
    "/receipts",
    "/connect/sun",
]


async def test_another_customer_s_home_looks_like_none(site: Site) -> None:
    olga = await site.as_("olga")
    for path in PATHS:
        foreign = await olga.get(f"{HOME}{path}")
        absent = await olga.get(f"/portal/homes/SP-77{path}")
        assert (foreign.status, absent.status) == (404, 404)
        assert foreign.text == absent.text


async def test_two_people_of_one_account_see_what_the_other_did(site: Site) -> None:
    maria, diego = await site.as_("maria"), await site.as_("diego")
    await allow(maria, "sun", SEE_SET)
    assert "Maria Lopez allowed Sunfold" in (await diego.get(f"{HOME}/activity")).text


async def test_a_look_by_the_utility_is_shown_to_the_customer(site: Site) -> None:
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    page = await rosa.get(f"{HOME}/devices", params={"why": "she called about her heating"})
    assert "Each page that you open here is noted" in page.text
    seen = (await maria.get(f"{HOME}/activity")).text
    assert "A customer representative looked at the devices (Rosa Reyes)" in seen
    assert "she called about her heating" in seen


async def test_whoever_acts_for_a_customer_says_why_and_the_customer_reads_it(site: Site) -> None:
    rosa, maria = await site.as_("rosa"), await site.as_("maria")
    await rosa.get(f"{HOME}/services/bright")
    silent = await rosa.post(f"{HOME}/services/bright/pause", {"hours": "1"})
    assert silent.status == 400
    assert (await site.service.post()).status == 202
    await rosa.get(f"{HOME}/services/bright")
    said = await rosa.post(f"{HOME}/services/bright/pause", {"hours": "1", "why": "he asked on the phone"})
    assert "he asked on the phone" in said.text
    assert (await site.service.post()).reason == "access-paused"
    assert "Rosa Reyes, a representative, paused BrightGrid" in (await maria.get(f"{HOME}/activity")).text


async def test_an_operator_has_no_business_in_a_home(site: Site) -> None:
    for id in ("omar", "dana", "vera", "adam"):
        assert (await (await site.as_(id)).get(HOME)).status == 404


async def test_a_blocked_attempt_is_shown_to_the_customer(site: Site) -> None:
    body = {"device": "TH-1", "operation": "setpoint", "body": {"celsius": 30}}
    assert (await site.service.post(body)).reason == "outside-customer-limits"
    seen = (await (await site.as_("maria")).get(f"{HOME}/activity")).text
    assert "We refused a request of BrightGrid" in seen
    assert "outside the bounds that the customer set" in seen


async def test_names_with_any_script_are_shown_and_never_run(site: Site) -> None:
    olga = await site.as_("olga")
    page = await olga.get("/portal/settings")
    assert "Olga &lt;Other&gt;" in page.html
    assert "<Other>" not in page.html


async def test_a_csv_holds_the_activity_and_no_cell_that_a_spreadsheet_would_run(site: Site) -> None:
    maria = await site.as_("maria")
    await allow(maria, "sun", SEE_SET)
    answer = await maria.get(f"{HOME}/activity.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "Maria Lopez allowed Sunfold" in answer.html
    assert not any(cell[:1] in "=+@" for line in answer.html.splitlines() for cell in line.split(",") if cell)
