"""A developer begins, makes and revokes secrets, reads requests and webhooks; all of one's own company."""

import re

import pytest
from msgspec.structs import replace

from doorward.ccs.doors.portal.pages import workbench
from doorward.ccs.rules.facts import Endpoint, Event
from doorward.ccs.tokens import CREDENTIALS_MAX
from tests.ccs.doors.portal.site import Reply, Site
from tests.ccs.doors.service import SECRET

BENCH = "/portal/workbench"


def shown(page: Reply) -> str:
    """The secret that a page shows this once."""
    found = re.search(r'<div class="note ok".*?<pre[^>]*>([^<]+)</pre>', page.html, re.DOTALL)
    assert found is not None, page.text
    return found[1]


async def token_by(site: Site, secret: str, party: str = "bright") -> int:
    fields = {"grant_type": "client_credentials", "client_id": party, "client_secret": secret}
    return (await site.service.form("/oauth/token", fields)).status


def revocation(page: Reply, number: int = 0) -> str:
    found: list[str] = re.findall(rf'action="({BENCH}/credentials/[^"]+/revoke)"', page.html)
    return found[number]


# ---- start ------------------------------------------------------------------------------------------------


async def test_the_workbench_begins_with_the_first_two_commands_and_what_is_reached(site: Site) -> None:
    dana = await site.as_("dana")
    page = await dana.get("/portal/")
    assert page.path == BENCH
    assert f"{site.service.app.url}/oauth/token" in page.text
    assert '{"device":"TH-1","operation":"read"}' in page.text
    assert "Registered, with a credential Reached" in page.text
    assert "First call Not yet" in page.text
    await site.service.post()
    assert "First call Reached" in (await dana.get(BENCH)).text
    assert "First result taken Not yet" in (await dana.get(BENCH)).text


async def test_a_result_that_was_taken_is_a_milestone(site: Site) -> None:
    done = await site.service.done({"state": "NORMAL"})
    await site.service.get(f"/v1/requests/{done.id}")
    assert "First result taken Reached" in (await (await site.as_("dana")).get(BENCH)).text


# ---- credentials ------------------------------------------------------------------------------------------


async def test_a_new_secret_is_shown_once_works_and_is_kept_as_a_hash(site: Site) -> None:
    dana = await site.as_("dana")
    await dana.get(f"{BENCH}/credentials")
    page = await dana.post(f"{BENCH}/credentials")
    secret = shown(page)
    assert page.headers["cache-control"] == "no-store"
    assert await token_by(site, secret) == 200
    assert await token_by(site, SECRET) == 200
    later = await dana.get(f"{BENCH}/credentials")
    assert secret not in later.html
    assert "Dana Kim made the secret" in later.text
    held = await site.service.app.store.read(lambda books: books.credentials("bright"))
    assert all(secret not in each.value for each in held)


async def test_a_revoked_secret_and_the_tokens_by_it_end_at_once(site: Site) -> None:
    dana = await site.as_("dana")
    await dana.get(f"{BENCH}/credentials")
    page = await dana.post(f"{BENCH}/credentials")
    secret, token = shown(page), site.service.token("bright")
    (old,) = [
        each for each in re.findall(rf'{BENCH}/credentials/[^"]+/revoke', page.html) if "c-bright" in each
    ]
    said = await dana.post(old)
    assert "The secret is revoked" in said.text
    assert "Dana Kim revoked the secret" in said.text
    assert await token_by(site, SECRET) == 401
    assert await token_by(site, secret) == 200
    assert (await site.service.post(token=token)).status == 401


async def test_there_are_only_so_many_secrets_at_once(site: Site) -> None:
    dana = await site.as_("dana")
    await dana.get(f"{BENCH}/credentials")
    replies = [await dana.post(f"{BENCH}/credentials") for _ in range(CREDENTIALS_MAX)]
    assert [each.status for each in replies] == [200] * (CREDENTIALS_MAX - 1) + [409]
    assert "revoke one first" in replies[-1].text


async def test_nobody_reaches_what_another_company_has(site: Site) -> None:
    sven, dana = await site.as_("sven"), await site.as_("dana")
    mine = await dana.get(f"{BENCH}/credentials")
    await sven.get(f"{BENCH}/credentials")
    assert (await sven.post(revocation(mine))).status == 404
    assert await token_by(site, SECRET) == 200
    await site.service.post()
    assert "No requests of this kind" in (await sven.get(f"{BENCH}/requests")).text
    for id in ("maria", "rosa", "omar", "vera", "adam"):
        other = await site.as_(id)
        assert (await other.get(BENCH)).status == 404


# ---- requests ---------------------------------------------------------------------------------------------


async def test_requests_are_filtered_paged_lead_to_their_journeys_and_can_be_sent_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "REQUESTS_A_PAGE", 3)
    bodies = [{"device": "TH-1", "operation": "read"}] * 5
    ids = [(await site.service.post(body)).json["id"] for body in bodies]
    dana = await site.as_("dana")
    first = await dana.get(f"{BENCH}/requests", params={"state": "open", "device": "TH-1"})
    older = re.findall(r'href="([^"]+after=[^"]+)"', first.html)[0].replace("&amp;", "&")
    second = await dana.get(older)
    found = [re.findall(r"/portal/journeys/([0-9a-f-]+)", page.html) for page in (first, second)]
    assert [*found[0], *found[1]] == list(reversed(ids))
    assert '{"operation":"read","device":"TH-1"}' in first.text
    assert "No requests" in (await dana.get(f"{BENCH}/requests", params={"state": "refused"})).text
    assert "No requests" in (await dana.get(f"{BENCH}/requests", params={"device": "NONE"})).text
    assert (await dana.get(f"{BENCH}/requests", params={"state": "odd"})).status == 404


# ---- webhooks ---------------------------------------------------------------------------------------------

HOOK = {"url": "https://127.0.0.1:9/hook"}


async def endpoint(site: Site) -> Endpoint:
    (found,) = (await site.service.app.store.read(lambda books: books.endpoints(["bright"])))["bright"]
    return found


async def test_a_webhook_gets_a_new_secret_and_the_one_before_goes_on(site: Site) -> None:
    before = (await site.service.call("PUT", "/v1/endpoints/main", json=HOOK)).json["secret"]
    dana, sven = await site.as_("dana"), await site.as_("sven")
    page = await dana.get(f"{BENCH}/webhooks")
    assert "main Not proved" in page.text
    secret = shown(await dana.post(f"{BENCH}/webhooks/main/rotate"))
    assert (await endpoint(site)).secrets == [secret, before]
    assert secret not in (await dana.get(f"{BENCH}/webhooks")).html
    await sven.get(f"{BENCH}/webhooks")
    assert (await sven.post(f"{BENCH}/webhooks/main/rotate")).status == 404


async def test_an_endpoint_that_does_not_answer_the_challenge_stays_unproved_and_says_why(site: Site) -> None:
    await site.service.call("PUT", "/v1/endpoints/main", json=HOOK)
    dana = await site.as_("dana")
    await dana.get(f"{BENCH}/webhooks")
    page = await dana.post(f"{BENCH}/webhooks/main/prove")
    assert page.status == 409
    assert "did not prove itself" in page.text
    assert (await endpoint(site)).state == "unproved"


async def test_an_event_that_was_given_up_is_sent_again_under_its_id(site: Site) -> None:
    await site.service.call("PUT", "/v1/endpoints/main", json=HOOK)
    proved = replace(await endpoint(site), state="proved")
    store, now_us = site.service.app.store, site.service.app.clock.now_us()
    dead = Event(
        id="01900000-0000-7000-8000-000000000001",
        party="bright",
        kind="access.changed",
        created_us=now_us,
        webhook="dead",
        attempts=7,
    )
    await store.write(lambda books: books.put_endpoint(proved))
    await store.write(lambda books: books.add_events([dead]))
    dana, sven = await site.as_("dana"), await site.as_("sven")
    page = await dana.get(f"{BENCH}/webhooks")
    assert "access.changed Failed" in page.text
    await sven.get(f"{BENCH}/webhooks")
    assert (await sven.post(f"{BENCH}/events/{dead.id}/resend")).status == 404
    assert "sent again" in (await dana.post(f"{BENCH}/events/{dead.id}/resend", token=page.token)).text
    after = (await store.read(lambda books: books.events([dead.id])))[dead.id]
    assert after.webhook == "pending"
