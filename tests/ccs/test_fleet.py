"""What moves load is weighed on the way out; what is over a cap waits for two operators."""

from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from doorward.ccs.quarantine import FleetDesk
from doorward.ccs.rules.facts import Request
from doorward.ccs.rules.fleet import Caps, FleetTerms
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.rules.people import Person, Role
from doorward.ccs.way_out import Accepted
from doorward.wire.messages import Cancel
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Step
from doorward.wire.times import to_rfc3339
from tests.ccs.town import LIMIT, READ, SECOND, Town, settle

LOWERS_W = 7_400 - 2_000
ADA = Person(id="p-ada", role=Role.OPERATOR, name="Ada", login="ada")
BEN = Person(id="p-ben", role=Role.OPERATOR, name="Ben", login="ben")


def capped(town: Town, **changes: object) -> Town:
    """The town with room for one limit of its charger in a minute."""
    facts: dict[str, object] = {"party": Caps(LOWERS_W, 10**9), "opposing_w": 10**9, "campaign_w": 10**9}
    town.terms = replace(town.terms, fleet=FleetTerms(**(facts | changes)))  # type: ignore[arg-type]
    town.journey.terms = town.terms
    return town


def desk(town: Town) -> FleetDesk:
    return FleetDesk(town.store, town.clock, town.rng, town.terms)


async def held_w(town: Town, key: str = "party|bright|lower") -> int:
    logs = await town.store.read(lambda books: books.fleet_logs(100))
    return sum(sum(log.held.values()) for log in logs if log.key == key)


async def warnings(town: Town) -> Sequence[object]:
    found = await town.store.read(lambda books: books.feed("bright", "", ["request.warning"], 100))
    return [msgspec.json.decode(event.data)["reason"] for event in found]


async def full(town: Town) -> Request:
    """Fill the minute, then ask for more; return what is over."""
    await town.accepted(LIMIT)
    return await town.accepted(LIMIT)


async def test_what_is_over_a_cap_is_accepted_and_waits_and_its_third_party_is_told(town: Town) -> None:
    over = await full(capped(town))
    assert (over.state, over.reason) == (State.QUARANTINED, Reason.FLEET_CAP)
    assert "the cap of bright" in over.detail
    assert over.id not in [command.id for command in town.gateway.commands()]
    assert (await town.steps(over.id))[-2:] == [Step.QUARANTINED, Step.WARNED]
    assert await warnings(town) == ["fleet-cap"]
    town.clock.pass_s(300)
    await town.upkeep.ready()
    await settle(town.journey)
    assert over.id not in [command.id for command in town.gateway.commands()]


async def test_it_goes_when_two_different_operators_agree(town: Town) -> None:
    over = await full(capped(town))
    town.gateway.heard()
    assert (await desk(town).approve(ADA, [over.id])).noted == [over.id]
    assert (await desk(town).approve(ADA, [over.id])).own == [over.id]
    assert (await town.request(over.id)).state == State.QUARANTINED
    released = (await desk(town).approve(BEN, [over.id])).released
    assert [each.id for each in released] == [over.id]
    await town.upkeep.ready()
    await settle(town.journey)
    assert [command.id for command in town.gateway.commands()] == [over.id]
    decided = [step for step in await town.steps(over.id) if step == Step.QUARANTINE_DECIDED]
    assert len(decided) == 2
    assert await desk(town).listed() == []
    await town.gateway.answer(over.id, {})
    assert (await town.request(over.id)).state == State.DONE


async def test_what_was_let_through_counts_for_what_comes_after(town: Town) -> None:
    over = await full(capped(town))
    for operator in (ADA, BEN):
        await desk(town).approve(operator, [over.id])
    town.clock.pass_s(60)
    assert (await town.accepted(LIMIT)).state == State.QUARANTINED, "its minute is used up twice over"
    town.clock.pass_s(75)
    assert (await town.accepted(LIMIT)).state != State.QUARANTINED


async def test_only_operators_decide(town: Town) -> None:
    over = await full(capped(town))
    for role in set(Role) - {Role.OPERATOR}:
        with pytest.raises(Refused, match="no operator"):
            await desk(town).approve(replace(ADA, role=role), [over.id])
    with pytest.raises(Refused, match="no operator"):
        await desk(town).reject(replace(ADA, state="disabled"), [over.id])


async def test_one_operator_turns_down(town: Town) -> None:
    over = await full(capped(town))
    await desk(town).reject(ADA, [over.id])
    found = await town.request(over.id)
    assert (found.state, found.reason) == (State.CANCELLED, Reason.FLEET_CAP)
    assert await desk(town).listed() == []
    assert (await desk(town).approve(BEN, [over.id])).late == [over.id]


async def test_what_nobody_lets_through_expires_by_its_deadline_and_is_warned_about(town: Town) -> None:
    over = await full(capped(town))
    town.clock.pass_s(1_790)
    await town.upkeep.deadlines()
    assert (await town.request(over.id)).state == State.QUARANTINED
    town.clock.pass_s(11)
    await town.upkeep.deadlines()
    found = await town.request(over.id)
    assert (found.state, found.reason) == (State.EXPIRED, Reason.FLEET_CAP)
    assert over.id in await town.events(kind="request.result")
    assert (await warnings(town)).count("fleet-cap") == 2
    assert await desk(town).listed() == []
    assert (await desk(town).approve(ADA, [over.id])).late == [over.id]


async def test_its_own_deadline_comes_first(town: Town) -> None:
    await capped(town).accepted(LIMIT)
    deadline = to_rfc3339(town.clock.now_us() + 90 * SECOND)
    over = await town.accepted(LIMIT | {"deadline": deadline})
    assert over.state == State.QUARANTINED
    town.clock.pass_s(91)
    await town.upkeep.deadlines()
    assert (await town.request(over.id)).state == State.EXPIRED


async def test_letting_go_passes_caps_and_quarantine(town: Town) -> None:
    over = await full(capped(town))
    release = await town.accepted({"device": "EV-1", "operation": "release"})
    assert release.id in [command.id for command in town.gateway.commands()]
    await town.journey.cancel(town.token(), [over.id])
    found = await town.request(over.id)
    assert (found.state, found.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert await desk(town).listed() == []


async def test_a_request_in_quarantine_costs_no_message_of_the_limit_when_it_never_goes(town: Town) -> None:
    over = await full(capped(town))
    key = "sp|SP-1"
    used = (await town.store.read(lambda books: books.limits([key])))[key].times_us
    await town.journey.cancel(town.token(), [over.id])
    left = (await town.store.read(lambda books: books.limits([key])))[key].times_us
    assert len(used) - len(left) == 2


async def test_when_quarantine_is_full_it_is_refused(town: Town) -> None:
    await full(capped(town, quarantine_items_max=1))
    declined = await town.declined(LIMIT)
    assert (declined.refusal.reason, declined.refusal.retry_after_s) == (Reason.FLEET_CAP, 60.0)


async def test_the_same_key_again_weighs_nothing_more(town: Town) -> None:
    capped(town)
    first = await town.accepted(LIMIT, key="k")
    again = await town.ask(LIMIT, key="k")
    assert isinstance(again, Accepted)
    assert again.repeated
    assert again.request.id == first.id
    assert await held_w(town) == LOWERS_W


async def test_one_batch_is_weighed_in_sequence(town: Town) -> None:
    capped(town)
    asks = [town.journey.asks.ask(town.make(LIMIT)) for _ in range(3)]
    verdicts = [await ask for ask in asks]
    states = [each.request.state for each in verdicts if isinstance(each, Accepted)]
    assert states.count(State.QUARANTINED) == 2


@pytest.mark.parametrize("state", ["REFUSED", "EXPIRED", "CANCELLED"])
async def test_what_did_not_act_is_held_no_more(town: Town, state: str) -> None:
    request = await capped(town).accepted(LIMIT)
    assert await held_w(town) == LOWERS_W
    await town.gateway.say(town.gateway.result(request.id, state))
    assert await held_w(town) == 0


async def test_what_was_done_is_held_until_it_is_let_go(town: Town) -> None:
    request = await capped(town).accepted(LIMIT)
    await town.gateway.answer(request.id, {})
    assert await held_w(town) == LOWERS_W
    await town.gateway.say(town.gateway.receipt(request.id, Step.RELEASED, town.clock.now_us()))
    assert await held_w(town) == 0


async def test_what_never_reached_its_gateway_is_held_no_more(town: Town) -> None:
    await capped(town).gateway.disconnect()
    town.journey.switchboard.lost("SPG-1")
    request = await town.accepted(LIMIT)
    assert request.state == State.QUEUED
    assert await held_w(town) == LOWERS_W
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    assert (await town.request(request.id)).state == State.EXPIRED
    assert await held_w(town) == 0


async def test_reads_and_letting_go_are_not_weighed(town: Town) -> None:
    await town.accepted(READ)
    await town.accepted({"device": "EV-1", "operation": "release"})
    assert await town.store.read(lambda books: books.fleet_logs(100)) == []


async def test_a_control_of_a_campaign_tells_the_gateway_to_begin_at_random(town: Town) -> None:
    request = await town.accepted(LIMIT | {"campaign": "evening"})
    (command,) = town.gateway.commands()
    assert (command.spread_s, command.campaign) == (600, True)
    assert request.due_us - town.clock.now_us() == 660 * SECOND, "the tier's time, and the span"
    assert command.act_before_us - town.clock.now_us() == 55 * SECOND, "it must be there as early as ever"


async def test_a_single_control_begins_at_once(town: Town) -> None:
    await town.accepted(LIMIT)
    (command,) = town.gateway.commands()
    assert (command.spread_s, command.campaign) == (0, False)


async def test_a_campaign_says_so_where_its_deadline_is_too_near(town: Town) -> None:
    deadline = to_rfc3339(town.clock.now_us() + 120 * SECOND)
    declined = await town.declined(LIMIT | {"campaign": "evening", "deadline": deadline})
    assert (declined.refusal.reason, declined.refusal.field) == (Reason.BODY_MALFORMED, "/deadline")
    assert "600 s" in declined.refusal.detail
    used = await town.store.read(lambda books: books.limits(["sp|SP-1"]))
    assert all(not log.times_us for log in used.values())


async def test_cancelling_on_the_gateway_frees_what_was_held_when_it_says_so(town: Town) -> None:
    request = await capped(town).accepted(LIMIT)
    await town.gateway.answer(request.id, {})
    await town.journey.cancel(town.token(), [request.id])
    await settle(town.journey)
    assert [each.id for each in town.gateway.heard() if isinstance(each, Cancel)] == [request.id]
    assert await held_w(town) == LOWERS_W, "the gateway has not let go yet"
    await town.gateway.say(town.gateway.receipt(request.id, Step.RELEASED, town.clock.now_us()))
    assert await held_w(town) == 0
