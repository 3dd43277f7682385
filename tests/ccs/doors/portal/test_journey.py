"""One record, four readings: what each role sees of a message, live and after."""

import asyncio
import re

from doorward.wire.steps import Step
from tests.ccs.doors.portal.site import Reply, Site

ANSWER = {"device": "TH-1", "state": "RUNNING_NORMAL", "power_w": 1234.5}
STEP = re.compile(r'id="step-(\d+)"')


def steps(page: Reply) -> list[int]:
    return [int(number) for number in STEP.findall(page.html)]


READINGS = {
    "maria": list(range(1, 6)),
    "dana": [1, 2, 3, 4, 5, 6, *range(13, 18)],
    "rosa": list(range(1, 18)),
    "omar": list(range(1, 18)),
    "adam": list(range(1, 18)),
}


async def test_one_record_is_read_by_each_role_in_its_own_way(site: Site) -> None:
    request = await site.service.done(ANSWER)
    await site.service.get(f"/v1/requests/{request.id}")  # the company takes it
    for id, seen in READINGS.items():
        page = await (await site.as_(id)).get(f"/portal/journeys/{request.id}")
        assert page.status == 200
        assert steps(page) == seen
        assert page.html.count("</svg>Done") >= len(seen)


async def test_what_devices_said_is_shown_to_operators_and_the_company_and_not_to_representatives(
    site: Site,
) -> None:
    request = await site.service.done(ANSWER)
    path = f"/portal/journeys/{request.id}"
    before = await (await site.as_("dana")).get(path, params={"step": "16"})
    assert "1234.5" not in before.text  # not before it was handed over
    await site.service.get(f"/v1/requests/{request.id}")
    shown = {}
    for id in ("dana", "omar", "rosa", "maria"):
        page = await (await site.as_(id)).get(path, params={"step": "16" if id != "maria" else "5"})
        shown[id] = "1234.5" in page.text
    assert shown == {"dana": True, "omar": True, "rosa": False, "maria": False}


async def test_another_company_s_and_another_customer_s_journeys_look_like_none(site: Site) -> None:
    request = await site.service.done(ANSWER)
    for id in ("sven", "olga", "vera"):
        browser = await site.as_(id)
        for path in (f"/portal/journeys/{request.id}", f"/portal/journeys/{request.id}/live"):
            foreign, absent = await browser.get(path), await browser.get("/portal/journeys/none")
            assert (foreign.status, foreign.text) == (404, absent.text)


async def test_a_refused_attempt_says_why_and_who_can_mend_it(site: Site) -> None:
    body = {"device": "TH-1", "operation": "setpoint", "body": {"celsius": 30}}
    await site.service.post(body)
    maria = await site.as_("maria")
    activity = await maria.get("/portal/homes/SP-1/activity")
    link = re.search(r"/portal/journeys/[0-9a-f-]{36}", activity.html)
    assert link is not None
    page = await maria.get(link[0])
    assert "outside the bounds" in page.text
    assert "The company. Stay within the customer's limits" in page.text
    assert "Not reached" in page.text


async def test_a_journey_moves_on_the_open_page_until_its_answer_is_handed_over(site: Site) -> None:
    await site.service.post()
    command = await site.service.command()
    omar = await site.as_("omar")
    heard: list[str] = []

    async def follow() -> None:
        async with omar.session.get(f"{omar.url}/portal/journeys/{command.id}/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            heard.append((await answer.content.read()).decode())

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0.6)
    now = site.service.app.clock.now_us()
    await site.service.gateway.say(site.service.gateway.receipt(command.id, Step.GATEWAY_RECEIVED, now))
    await asyncio.sleep(0.6)
    await site.service.gateway.answer(command.id, ANSWER)
    await site.service.get(f"/v1/requests/{command.id}")
    await asyncio.wait_for(following, 60)
    fragments = [part for part in heard[0].split("\n\n") if part.startswith("id:")]
    assert len(fragments) >= 3
    assert "event: end" in heard[0]
    done = [part.count("</svg>Done") for part in fragments]
    assert done == sorted(done)
    assert done[-1] > done[0]


async def test_a_stream_that_comes_again_gets_only_what_is_new(site: Site) -> None:
    request = await site.service.done(ANSWER)
    await site.service.get(f"/v1/requests/{request.id}")
    omar = await site.as_("omar")
    path = f"{omar.url}/portal/journeys/{request.id}/live"
    async with omar.session.get(path) as answer:
        first = (await answer.content.read()).decode()
    id = first.partition("id: ")[2].partition("\n")[0]
    async with omar.session.get(path, headers={"last-event-id": id}) as answer:
        again = (await answer.content.read()).decode()
    assert "data: <" in first
    assert again == "event: end\ndata: over\n\n"
