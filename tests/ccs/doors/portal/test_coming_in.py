"""Coming in: right ways in, wrong ways in, and what a stolen or planted thing is worth."""

import asyncio

import pytest

from doorward.ccs.doors.portal.pages import every_page
from doorward.ccs.doors.portal.security import local_path
from doorward.ccs.rules.people import LOCKED_US, TRIES_MAX, Person, Role, may_try, tried, weak
from doorward.ccs.rules.rights import RIGHTS, Act, reach
from tests.ccs.doors.portal.site import PASSWORD, Site, person

OPEN_TO_ALL = {"/", "/sign-in", "/link", "/password", "/choose", "/choose/live", "/theme", "/help"}
"""The only pages that need no right: to come in, to choose colours, to find help."""


async def test_a_right_password_lets_in_and_signing_out_ends_it(site: Site) -> None:
    browser = await site.as_("rosa")
    held = browser.cookies()["doorward-session"]
    assert "Rosa Reyes" in (await browser.get("/portal/")).text
    await browser.post("/portal/sign-out")
    assert "doorward-session" not in browser.cookies()
    again = await browser.get("/portal/settings", headers={"cookie": f"doorward-session={held}"})
    assert again.path == "/portal/sign-in"


async def test_unknown_wrong_and_locked_look_the_same(site: Site) -> None:
    browser = site.browser()
    said = [(await browser.sign_in("nobody@example.org")).text]
    said += [(await browser.sign_in("rosa@example.org", "wrong")).text for _ in range(TRIES_MAX)]
    locked = await browser.sign_in("rosa@example.org")
    assert locked.status == 401
    assert len({*said, locked.text}) == 1


def test_too_many_wrong_passwords_lock_and_time_unlocks() -> None:
    rosa = person("rosa", Role.REPRESENTATIVE, "Rosa")
    for _ in range(TRIES_MAX):
        assert may_try(rosa, 0)
        rosa = tried(rosa, False, 0)
    assert not may_try(rosa, LOCKED_US - 1)
    assert may_try(rosa, LOCKED_US)
    assert tried(rosa, True, LOCKED_US).locked_until_us == 0


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "rosa@example.org", "x" * 300])
def test_weak_passwords_are_refused_in_words(password: str) -> None:
    assert weak(password, person("rosa", Role.REPRESENTATIVE, "Rosa"))


async def test_a_session_that_was_planted_before_is_worth_nothing_after(site: Site) -> None:
    browser = site.browser()
    planted = "planted-by-somebody-else"
    browser.session.cookie_jar.update_cookies({"doorward-session": planted})
    await browser.sign_in("rosa@example.org")
    assert browser.cookies()["doorward-session"] != planted
    attacker = await site.browser().get("/portal/settings", headers={"cookie": f"doorward-session={planted}"})
    assert attacker.path == "/portal/sign-in"


async def test_a_link_works_once_and_of_two_at_once_one_wins(site: Site) -> None:
    secret = site.service.app.sign_in.link(person("maria", Role.CUSTOMER, "Maria Lopez", "C-1"))
    maria = await _person(site, "maria")
    secret = site.service.app.sign_in.link(maria)

    async def use() -> int:
        browser = site.browser()
        await browser.get("/portal/link", params={"key": secret})
        return (await browser.post("/portal/link", {"key": secret}, allow_redirects=False)).status

    assert sorted(await asyncio.gather(use(), use())) == [303, 401]


async def test_a_link_that_was_tampered_with_is_refused(site: Site) -> None:
    secret = site.service.app.sign_in.link(await _person(site, "olga"))
    browser = site.browser()
    await browser.get("/portal/link", params={"key": secret})
    for forged in (secret[:-2] + "AA", "A" + secret[1:], secret.replace(".", ""), "", "." * 400):
        assert (await browser.post("/portal/link", {"key": forged})).status == 401


async def test_a_new_password_ends_all_sessions_and_makes_older_links_worthless(site: Site) -> None:
    before = await site.as_("maria")
    maria = await _person(site, "maria")
    older = site.service.app.sign_in.link(maria)
    secret = site.service.app.sign_in.link(maria, "reset")
    browser = site.browser()
    await browser.get("/portal/password", params={"key": secret})
    weak_one = await browser.post("/portal/password", {"key": secret, "password": "short"})
    assert weak_one.status == 422
    done = await browser.post("/portal/password", {"key": secret, "password": "quite another phrase"})
    assert done.status == 200
    assert (await before.get("/portal/settings")).path == "/portal/sign-in"
    assert (await site.browser().sign_in("maria@example.org", PASSWORD)).status == 401
    stale = site.browser()
    await stale.get("/portal/link", params={"key": older})
    assert (await stale.post("/portal/link", {"key": older})).status == 401


async def _person(site: Site, id: str) -> Person:
    return (await site.service.app.store.read(lambda books: books.people([id])))[id]


# ---- forms ------------------------------------------------------------------------------------------------


async def test_a_form_without_its_proof_is_refused_signed_in_or_not(site: Site) -> None:
    browser = await site.as_("rosa")
    for token in ("", "x" * 43):
        assert (await browser.post("/portal/settings", {"degrees": "celsius"}, token=token)).status == 403
    stranger = site.browser()
    assert (await stranger.post("/portal/sign-in", {"login": "a", "password": "b"}, token="")).status == 403


async def test_the_proof_of_another_browser_is_refused(site: Site) -> None:
    rosa, omar = await site.as_("rosa"), await site.as_("omar")
    theirs = (await omar.get("/portal/settings")).token
    assert (await rosa.post("/portal/settings", {"degrees": "celsius"}, token=theirs)).status == 403


async def test_a_form_that_a_browser_says_is_from_elsewhere_is_refused(site: Site) -> None:
    browser = await site.as_("rosa")
    token = (await browser.get("/portal/settings")).token
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        reply = await browser.post("/portal/settings", {"degrees": "celsius"}, token=token, headers=headers)
        assert reply.status == 403


ELSEWHERE = [
    "//evil.example",
    "https://evil.example",
    "/portal//evil.example",
    "/portal/\\evil",
    "/v1/x",
    "javascript:x",
]


async def test_nothing_leads_to_another_site(site: Site) -> None:
    browser = site.browser()
    for path in ELSEWHERE:
        assert local_path(path) == ""
        await browser.get("/portal/sign-in", params={"next": path})
        fields = {"login": "rosa@example.org", "password": PASSWORD, "next": path}
        reply = await browser.post("/portal/sign-in", fields, allow_redirects=False)
        assert reply.headers["location"] == "/portal/"
        await browser.get("/portal/settings")
        await browser.post("/portal/sign-out")


# ---- what every answer carries ----------------------------------------------------------------------------


async def test_every_answer_forbids_frames_and_what_is_not_ours(site: Site) -> None:
    for path in ("/portal/sign-in", "/portal/none", "/portal/help", "/portal/static/portal.css"):
        reply = await site.browser().get(path)
        policy = reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    browser = site.browser()
    await browser.get("/portal/sign-in")
    reply = await browser.post(
        "/portal/sign-in", {"login": "rosa@example.org", "password": PASSWORD}, allow_redirects=False
    )
    cookie = next(each for each in reply.headers.getall("set-cookie") if "doorward-session=" in each)
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


async def test_choosing_who_one_is_is_only_for_the_demo(site: Site) -> None:
    browser = site.browser()
    assert (await browser.get("/portal/choose")).status == 404
    assert (await browser.get("/portal/")).path == "/portal/sign-in"


# ---- the closed table -------------------------------------------------------------------------------------


def test_every_page_names_its_act_or_is_one_of_the_few_that_are_open() -> None:
    assert {page.path for page in every_page() if page.act is None} == OPEN_TO_ALL


def test_every_role_has_a_row_in_the_table_and_every_act_somebody() -> None:
    assert set(RIGHTS) == set(Role)
    assert {act for acts in RIGHTS.values() for act in acts} == set(Act)


async def test_whoever_may_not_sees_nothing_not_even_that_it_is_there(site: Site) -> None:
    """The matrix: every page that needs no id, every role, and nobody."""
    plain = [page for page in every_page() if page.method == "GET" and page.act and "{" not in page.path]
    assert plain
    for id in ("maria", "rosa", "omar", "dana", "vera", "adam"):
        browser = await site.as_(id)
        someone = await _person(site, id)
        for page in plain:
            reply = await browser.get(f"/portal{page.path}")
            assert page.act is not None
            may = reach(someone, page.act) is not None
            assert (reply.status == 404) != may, (id, page.path, reply.status)
    stranger = site.browser()
    for page in plain:
        assert (await stranger.get(f"/portal{page.path}")).path == "/portal/sign-in"
