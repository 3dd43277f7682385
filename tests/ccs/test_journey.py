"""The way of a message, on the real books of every engine, with the gateway played at the Link port."""

import asyncio

import pytest
from msgspec.structs import replace

from doorward.ccs import switchboard
from doorward.ccs.engines.store.books import SqlBooks
from doorward.ccs.rules.facts import Endpoint, Party, Request
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.switchboard import ACK_WAIT_S
from doorward.ccs.way_out import Accepted, Declined
from doorward.wire.messages import ATTEMPT_ALL, Ack, Cancel, Command, Known, Provision, Reconcile, Time
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import SCENARIO, Step
from tests.ccs.town import HOUR, LIMIT, READ, Town, settle

WAY = [str(step) for step in SCENARIO]


async def test_every_step_of_the_way_is_on_record_in_order(town: Town) -> None:
    request = await town.accepted(READ)
    (command,) = town.gateway.commands()
    assert command.id == request.id
    await town.gateway.answer(request.id, {"power_w": 5})
    shown = await town.journey.fetch(town.token(), request.id)
    assert shown.state == State.DONE
    assert bytes(shown.result) == b'{"power_w":5}'
    steps = await town.steps(request.id)
    assert [step for step in steps if step in WAY] == [
        "received", "authenticated", "authorised", "recorded", "destination_authenticated",
        "passed_to_gateway", "gateway_received", "passed_to_han", "device_answered", "answer_received",
        "passed_to_ccs", "answer_recorded", "target_authenticated", "target_authorised", "handing_over",
        "handed_over",
    ]  # fmt: skip
    assert (await town.request(request.id)).answer == "DELIVERED"


async def test_what_was_not_durably_sent_was_not_sent(town: Town) -> None:
    request = await town.accepted(READ)
    stored = await town.request(request.id)
    assert (stored.state, stored.attempt) == (State.SENT, 1)
    assert len(town.gateway.commands()) == 1


async def test_access_withdrawn_while_the_answer_was_on_its_way_withholds_it_for_ever(town: Town) -> None:
    request = await town.accepted(READ)
    await town.withdraw()
    await town.gateway.answer(request.id, {"power_w": 5})
    shown = await town.journey.fetch(town.token(), request.id)
    assert (shown.answer, bytes(shown.result)) == ("WITHHELD", b"null")
    assert "withheld" in await town.steps(request.id)
    await town.store.write(lambda books: books.put_grants([town.grant("bright", 3)]))
    again = await town.journey.fetch(town.token(), request.id)
    assert (again.answer, bytes(again.result)) == ("WITHHELD", b"null")


async def test_who_waits_here_is_given_the_answer_by_the_commit_that_takes_it(town: Town) -> None:
    request = await town.accepted(READ)
    wait = town.journey.waiters.add(request.id, town.token())
    await town.gateway.answer(request.id, {"power_w": 5})
    assert isinstance(wait.answer, Request)
    assert (wait.answer.state, bytes(wait.answer.result)) == (State.DONE, b'{"power_w":5}')
    assert (await town.request(request.id)).answer == "DELIVERED"
    rows = await town.store.read(lambda books: books.journal(request.id))
    assert [step.step for step in rows[-1].steps][-3:] == [
        Step.TARGET_AUTHORISED, Step.HANDING_OVER, Step.HANDED_OVER,
    ]  # fmt: skip
    assert Step.ANSWER_RECORDED in {step.step for step in rows[-1].steps}


async def test_who_waits_with_a_token_that_was_revoked_meanwhile_is_given_nothing(town: Town) -> None:
    request = await town.accepted(READ)
    token = town.token()
    wait = town.journey.waiters.add(request.id, token)
    jti = town.journey.tokens.read(token).jti
    await town.store.write(lambda books: books.revoke_tokens({jti: town.clock.now_us() + HOUR}))
    await town.gateway.answer(request.id, {"power_w": 5})
    assert isinstance(wait.answer, Refused)
    assert wait.answer.reason is Reason.TOKEN_REVOKED
    assert (await town.request(request.id)).answer == ""


async def test_what_no_endpoint_takes_is_never_due_for_a_push(town: Town) -> None:
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, {"power_w": 5})
    found = await town.store.read(lambda books: books.feed("bright", "", [], 10))
    assert {event.webhook for event in found if event.request == request.id} == {"none"}
    assert await town.push() == 0


async def test_a_full_push_of_an_answer_is_authorised_at_that_moment(town: Town) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(
            Endpoint(id="e", party="bright", url="https://x", mode="full", pin="00", state="proved")
        )
    )
    kept = await town.accepted(READ)
    await town.gateway.answer(kept.id, {"secret": "first"})
    await town.push()
    assert b"first" in town.endpoints.pushed[-1][2]
    assert (await town.request(kept.id)).answer == "DELIVERED"

    withheld = await town.accepted(READ)
    await town.gateway.answer(withheld.id, {"secret": "second"})
    await town.withdraw()
    await town.push()
    assert not any(b"second" in body for _, _, body in town.endpoints.pushed)
    assert (await town.request(withheld.id)).answer == "WITHHELD"


async def test_a_push_is_decided_by_the_commit_that_takes_the_answer_and_claimed_by_nobody(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(
            Endpoint(
                id="e", party="bright", url="https://x", mode="full", pin="00", state="proved",
                kinds=["request.result"],
            )
        )
    )  # fmt: skip
    pusher = asyncio.ensure_future(town.journey.pushing.run(idle_s=3600))
    request = await town.accepted(READ)
    claimed: list[int] = []
    monkeypatch.setattr(SqlBooks, "claim_events", lambda *_: claimed.append(1))
    await town.gateway.answer(request.id, {"power_w": 5})
    async with asyncio.timeout(30):
        while (await town.request(request.id)).answer != "DELIVERED":  # noqa: ASYNC110 - the books tell nobody
            await asyncio.sleep(0.01)
    assert len(town.endpoints.pushed) == 1
    assert claimed == []
    rows = await town.store.read(lambda books: books.journal(request.id))
    assert {Step.ANSWER_RECORDED, Step.HANDING_OVER} <= {step.step for step in rows[-2].steps}
    pusher.cancel()


async def test_a_push_that_never_happened_is_claimed_when_its_time_is_up(town: Town) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(
            Endpoint(id="e", party="bright", url="https://x", mode="full", pin="00", state="proved")
        )
    )
    town.journey.pushing._runs = True  # and then the process dies with what it was about to push
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, {"power_w": 5})
    assert await town.push() == 0
    town.clock.us += town.terms.webhook_claim_us
    assert await town.push() > 0
    assert (await town.request(request.id)).answer == "DELIVERED"


async def test_a_thin_notice_says_nothing_of_the_home(town: Town) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(Endpoint(id="e", party="bright", url="https://x", state="proved"))
    )
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, {"power_w": 4711})
    await town.push()
    (_, _, body) = town.endpoints.pushed[-1]
    assert request.id.encode() in body
    assert b"4711" not in body


async def test_a_failed_push_is_tried_again_and_told_once_it_works(town: Town) -> None:
    await town.store.write(
        lambda books: books.put_endpoint(Endpoint(id="e", party="bright", url="https://x", state="proved"))
    )
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, 1)
    town.endpoints.failure = "503"
    assert await town.push() == 1
    assert await town.push() == 0
    town.endpoints.failure = ""
    town.clock.pass_s(10)
    assert await town.push() == 1
    town.clock.pass_s(4000)
    assert await town.push() == 0


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ({"device": "TH-1", "operation": "sing"}, Reason.BODY_MALFORMED, "/operation"),
        ({"device": "TH-1"}, Reason.BODY_MALFORMED, "/operation"),
        ({**READ, "colour": "red"}, Reason.BODY_MALFORMED, "/colour"),
        ({**LIMIT, "body": {"watts": "many"}}, Reason.FORMAT_INVALID, "/body/watts"),
        ({**LIMIT, "body": {}}, Reason.FORMAT_INVALID, "/body/watts"),
        ({**READ, "device": "XX-9"}, Reason.DEVICE_UNKNOWN, "/device"),
        ({**READ, "device": ""}, Reason.BODY_MALFORMED, "/device"),
        ({**READ, "operation": "mode", "body": {"mode": "heat"}}, Reason.OPERATION_NOT_PERMITTED, "/operation"),
        ({**READ, "operation": "setpoint", "body": {"celsius": 29}}, Reason.OUTSIDE_CUSTOMER_LIMITS,
         "/body/celsius"),
        ({**READ, "format": "no.such/1"}, Reason.FORMAT_UNKNOWN, "/format"),
        ({**READ, "format": "relay.read/1"}, Reason.FORMAT_INVALID, "/format"),
        ({**READ, "deadline": "2001-01-01T00:00:00Z"}, Reason.DEADLINE_PASSED, "/deadline"),
        ({**LIMIT, "until": "tomorrow"}, Reason.BODY_MALFORMED, "/until"),
        ({"scope": "service_point", "service_point": "SP-1", "operation": "limit", "body": {"watts": 9}},
         Reason.OPERATION_NOT_PERMITTED, "/operation"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_with_its_field_and_recorded(
    town: Town, body: dict[str, object], reason: Reason, field: str
) -> None:
    declined = await town.declined(body)
    assert (declined.refusal.reason, declined.refusal.field) == (reason, field)
    assert (await town.steps(declined.id))[-1] == "recorded"
    assert town.gateway.commands() == []


async def test_a_device_without_a_grant_looks_like_one_that_does_not_exist(town: Town) -> None:
    token = town.token("sun")
    foreign = await town.declined(READ, token=token)
    absent = await town.declined({**READ, "device": "NO-1"}, token=token)
    assert (foreign.refusal.reason, foreign.refusal.detail, foreign.refusal.field) == (
        absent.refusal.reason, absent.refusal.detail, absent.refusal.field,
    )  # fmt: skip


async def test_tokens_are_judged_at_the_moment(town: Town) -> None:
    token = town.token(life_s=60)
    town.clock.pass_s(59)
    await settle(town.journey)
    assert isinstance(await town.ask(READ, token=token), Accepted)
    town.clock.pass_s(1)
    assert (await town.declined(READ, token=token)).refusal.reason is Reason.TOKEN_EXPIRED
    assert (await town.declined(READ, token="nonsense")).refusal.reason is Reason.NOT_AUTHENTICATED
    only_monitor = town.token(scope="monitor")
    assert (await town.declined(LIMIT, token=only_monitor)).refusal.reason is Reason.SCOPE_MISSING


async def test_the_same_key_is_one_request_and_another_body_is_a_conflict(town: Town) -> None:
    first = await town.accepted(READ, key="k1")
    second = await town.accepted(READ, key="k1")
    assert first.id == second.id
    conflict = await town.declined(LIMIT, key="k1")
    assert conflict.refusal.reason is Reason.IDEMPOTENCY_CONFLICT
    assert len(town.gateway.commands()) == 1


async def test_the_same_key_twice_at_once_is_one_request(town: Town) -> None:
    verdicts = await asyncio.gather(*(town.ask(READ, key="k2") for _ in range(8)))
    assert len({verdict.request.id for verdict in verdicts if isinstance(verdict, Accepted)}) == 1
    await settle(town.journey)
    assert len(town.gateway.commands()) == 1


async def test_beyond_the_limit_a_message_is_refused_and_warned_about_and_costs_nothing(town: Town) -> None:
    for _ in range(12):
        await town.accepted(READ)
        await settle(town.journey)
    declined = await town.declined(READ)
    assert declined.refusal.reason is Reason.LIMIT_EXCEEDED
    assert declined.refusal.retry_after_s == pytest.approx(3600, abs=1)
    assert declined.id in await town.events(kind="request.warning")
    town.clock.pass_s(3600)
    await town.accepted(READ)


async def test_a_burst_in_one_batch_is_admitted_to_the_limit_and_no_further(town: Town) -> None:
    verdicts = await asyncio.gather(*(town.ask(READ) for _ in range(30)))
    assert sum(isinstance(verdict, Accepted) for verdict in verdicts) == 12


async def test_the_utilitys_own_messages_are_not_limited_and_take_nothing_from_third_parties(
    town: Town,
) -> None:
    grant = town.grant("utility", 1)
    own = replace(grant, document=replace(grant.document, utility=True), changed_us=grant.changed_us - HOUR)
    await town.store.write(lambda books: books.put_parties([Party(id="utility", name="It", utility=True)]))
    await town.store.write(lambda books: books.put_grants([own]))
    token = town.token("utility")
    theirs = await asyncio.gather(*(town.ask(READ, token=token) for _ in range(30)))
    assert {type(verdict) for verdict in theirs} == {Accepted}
    assert {verdict.request.klass for verdict in theirs if isinstance(verdict, Accepted)} == {1}
    verdicts = await asyncio.gather(*(town.ask(READ) for _ in range(30)))
    assert sum(isinstance(verdict, Accepted) for verdict in verdicts) == 12


async def test_one_bad_item_never_fails_the_others(town: Town) -> None:
    asks = [town.ask(READ), town.ask({"device": 7}), town.ask(LIMIT), town.ask(READ, token="x")]
    kinds = [type(verdict) for verdict in await asyncio.gather(*asks)]
    assert kinds == [Accepted, Declined, Accepted, Declined]


async def test_a_gateway_that_is_not_there_gets_it_when_it_comes_back(town: Town) -> None:
    await town.gateway.disconnect()
    request = await town.accepted(READ)
    assert town.gateway.commands() == []
    town.clock.pass_s(20)
    await town.upkeep.partitions()
    await town.gateway.connect()
    heard = town.gateway.heard()
    await settle(town.journey)
    heard += town.gateway.heard()
    kinds = [type(message) for message in heard]
    assert kinds.index(Time) == 0
    assert kinds.index(Reconcile) < kinds.index(Command)
    assert [message.id for message in heard if isinstance(message, Command)] == [request.id]


async def test_what_never_reached_the_gateway_expires_with_a_warning_and_is_given_back(town: Town) -> None:
    await town.gateway.disconnect()
    requests = [await town.accepted(READ) for _ in range(12)]
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    for request in requests:
        ended = await town.request(request.id)
        assert (ended.state, ended.reason) == (State.EXPIRED, Reason.GATEWAY_UNREACHABLE)
        assert request.id in await town.events(kind="request.warning")
    await town.accepted(READ)


async def test_a_later_deadline_still_means_a_warning_inside_fifteen_minutes(town: Town) -> None:
    await town.gateway.disconnect()
    request = await town.accepted({**READ, "deadline": "2027-01-15T20:00:00Z"})
    assert request.due_us - request.received_us > 3600 * 1_000_000
    town.clock.pass_s(13 * 60)
    await town.upkeep.warnings()
    assert request.id not in await town.events(kind="request.warning")
    town.restart()
    town.clock.pass_s(61)
    await town.upkeep.warnings()
    await town.upkeep.warnings()
    assert (await town.events(kind="request.warning")).count(request.id) == 1
    assert (await town.request(request.id)).state == State.QUEUED


async def test_what_is_not_sent_because_permission_ended_costs_nothing(town: Town) -> None:
    await town.gateway.disconnect()
    for _ in range(12):
        await town.accepted(READ)
    await town.withdraw()
    await town.gateway.connect()
    await settle(town.journey)
    assert town.gateway.commands() == []
    await town.store.write(lambda books: books.put_grants([town.grant("bright", 3)]))
    assert isinstance(await town.ask(READ), Accepted)


async def test_a_key_that_comes_twice_at_once_is_charged_once_and_never_refused_for_its_copy(
    town: Town,
) -> None:
    fit_at_once = 12  # requests of two transactions each, in an hour of 24
    asked = [f"k{number}" for number in range(fit_at_once)]
    verdicts = await asyncio.gather(*(town.ask(READ, key=key) for key in asked for _ in range(2)))
    assert all(isinstance(each, Accepted) for each in verdicts)
    assert len({each.request.id for each in verdicts if isinstance(each, Accepted)}) == fit_at_once


async def test_a_gateway_that_never_had_it_settles_what_was_unconfirmed_and_its_third_party_is_told(
    town: Town,
) -> None:
    request = await town.accepted(READ)
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    town.gateway.seq += 1
    await town.gateway.say(Known(seq=town.gateway.seq, unknown=[request.id]))
    assert (await town.request(request.id)).settlement == "NOT_DONE"
    assert await town.events(kind="request.result") == [request.id, request.id]


async def test_that_a_gateway_never_had_it_is_no_proof_when_it_was_sent_again_since(town: Town) -> None:
    request = await town.accepted(READ)
    await town.gateway.disconnect()
    await town.gateway.connect()
    town.gateway.seq += 1
    await town.gateway.say(Known(seq=town.gateway.seq, unknown=[request.id], attempts=[1]))
    assert (await town.request(request.id)).attempt == 2
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    town.gateway.seq += 1
    await town.gateway.say(Known(seq=town.gateway.seq, unknown=[request.id], attempts=[1]))
    assert not (await town.request(request.id)).settlement, "the second try may have arrived"
    town.gateway.seq += 1
    await town.gateway.say(Known(seq=town.gateway.seq, unknown=[request.id], attempts=[2]))
    assert (await town.request(request.id)).settlement == "NOT_DONE"


async def test_a_gateway_refuses_every_try_of_what_is_to_be_cancelled_and_says_so(town: Town) -> None:
    request = await town.accepted(READ)
    await town.journey.cancel(town.token(), [request.id])
    town.gateway.heard()
    await town.gateway.disconnect()
    await town.gateway.connect()
    assert [m.attempts for m in town.gateway.heard() if isinstance(m, Reconcile)] == [[ATTEMPT_ALL]]


async def test_without_proof_by_the_deadline_it_is_unconfirmed_and_settled_when_proof_comes(
    town: Town,
) -> None:
    request = await town.accepted(LIMIT)
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    assert (await town.request(request.id)).state == State.UNCONFIRMED
    await town.gateway.answer(request.id, {"watts": 2000})
    settled = await town.request(request.id)
    assert (settled.state, settled.settlement) == (State.UNCONFIRMED, "DONE")
    await town.gateway.say(town.gateway.result(request.id, "FAILED"))
    assert (await town.request(request.id)).settlement == "DONE"


async def test_a_final_state_never_moves(town: Town) -> None:
    request = await town.accepted(READ)
    await town.gateway.answer(request.id, {"power_w": 5})
    await town.gateway.say(town.gateway.result(request.id, "FAILED", {"power_w": 6}))
    ended = await town.request(request.id)
    assert (ended.state, bytes(ended.result)) == (State.DONE, b'{"power_w":5}')
    assert len(await town.events(kind="request.result")) == 1


async def test_what_the_gateway_numbers_is_acknowledged_after_the_commit_and_again_when_repeated(
    town: Town,
) -> None:
    request = await town.accepted(READ)
    town.gateway.heard()
    result = town.gateway.result(request.id, "DONE", 1)
    for _ in range(2):
        await town.gateway.say(result)
        await asyncio.sleep(1.5 * ACK_WAIT_S)
        acks = [message for message in town.gateway.heard() if isinstance(message, Ack)]
        assert [seq for ack in acks for seq in ack.seqs] == [result.seq]


async def test_a_frame_seen_before_changes_nothing_and_an_old_one_is_recorded(town: Town) -> None:
    request = await town.accepted(READ)
    town.gateway.counter = 5000
    await town.gateway.answer(request.id, 1)
    steps = await town.steps(request.id)
    town.gateway.counter -= 1
    await town.gateway.say(town.gateway.result(request.id, "FAILED"))
    town.gateway.counter = 10
    await town.gateway.say(town.gateway.result(request.id, "FAILED"))
    assert await town.steps(request.id) == steps
    assert (await town.request(request.id)).state == State.DONE


async def test_a_gateway_cannot_speak_of_another_gateways_request(town: Town) -> None:
    request = await town.accepted(READ)
    stored = await town.request(request.id)
    await town.store.write(lambda books: books.update_requests([replace(stored, state=State.SENT)]))
    town.gateway.name = "SPG-2"
    await town.gateway.say(town.gateway.result(request.id, "DONE", "stolen"))
    assert (await town.request(request.id)).state == State.SENT


async def test_a_lost_command_is_sent_again_after_the_gateway_says_that_it_never_had_it(town: Town) -> None:
    request = await town.accepted(READ)
    town.gateway.heard()
    await town.gateway.disconnect()
    await town.gateway.connect()
    assert [m.ids for m in town.gateway.heard() if isinstance(m, Reconcile)] == [[request.id]]
    town.gateway.seq += 1
    await town.gateway.say(Known(seq=town.gateway.seq, unknown=[request.id]))
    (command,) = town.gateway.commands()
    assert (command.id, command.attempt) == (request.id, 2)


async def test_without_a_receipt_a_command_is_repeated_until_its_deadline(town: Town) -> None:
    request = await town.accepted(READ)
    town.gateway.heard()
    tries = 0
    for _ in range(60):
        town.clock.pass_s(1)
        await town.upkeep.partitions()
        await town.upkeep.ready()
        await settle(town.journey)
        tries += len(town.gateway.commands())
    assert tries >= 3
    town.clock.pass_s(1)
    await town.upkeep.deadlines()
    await town.upkeep.ready()
    await settle(town.journey)
    assert town.gateway.commands() == []
    assert (await town.request(request.id)).state == State.UNCONFIRMED


async def test_a_worker_whose_lease_ran_out_sends_nothing(town: Town) -> None:
    town.clock.pass_s(20)
    request = await town.accepted(READ)
    assert town.gateway.commands() == []
    await town.upkeep.partitions()
    await town.upkeep.ready()
    await settle(town.journey)
    assert [command.id for command in town.gateway.commands()] == [request.id]


async def test_cancelled_before_it_was_sent_it_is_never_sent_and_costs_nothing(town: Town) -> None:
    await town.gateway.disconnect()
    requests = [await town.accepted(READ) for _ in range(12)]
    await town.journey.cancel(town.token(), [request.id for request in requests])
    await town.gateway.connect()
    await settle(town.journey)
    assert town.gateway.commands() == []
    assert {(await town.request(each.id)).state for each in requests} == {State.CANCELLED}
    await town.accepted(READ)


async def test_cancelled_after_it_was_sent_the_gateways_word_decides(town: Town) -> None:
    request = await town.accepted(LIMIT)
    town.gateway.heard()
    await town.journey.cancel(town.token(), [request.id])
    await settle(town.journey)
    assert [m.id for m in town.gateway.heard() if isinstance(m, Cancel)] == [request.id]
    assert (await town.request(request.id)).state == State.SENT
    await town.gateway.say(town.gateway.result(request.id, "CANCELLED"))
    assert (await town.request(request.id)).state == State.CANCELLED


async def test_a_control_that_runs_can_be_let_go_with_its_campaign(town: Town) -> None:
    request = await town.accepted({**LIMIT, "campaign": "heat-wave"})
    await town.gateway.answer(request.id, {"watts": 2000})
    town.gateway.heard()
    await town.withdraw()
    await town.journey.cancel(town.token(), [], campaign="heat-wave")
    await settle(town.journey)
    assert [m.id for m in town.gateway.heard() if isinstance(m, Cancel)] == [request.id]
    await town.gateway.say(town.gateway.receipt(request.id, Step.RELEASED, 1))
    assert (await town.request(request.id)).ready_us is None


async def test_access_that_ended_before_dispatch_stops_what_was_queued(town: Town) -> None:
    await town.gateway.disconnect()
    request = await town.accepted(READ)
    await town.withdraw()
    await town.gateway.connect()
    await settle(town.journey)
    assert town.gateway.commands() == []
    ended = await town.request(request.id)
    assert (ended.state, ended.reason) == (State.CANCELLED, Reason.ACCESS_DISABLED)


async def test_urgent_goes_first_when_a_gateway_has_little_room(town: Town) -> None:
    await town.gateway.disconnect()
    low = await town.accepted({**READ, "priority": "low"})
    high = await town.accepted({**READ, "priority": "high"})
    await town.gateway.connect()
    await settle(town.journey)
    assert [command.id for command in town.gateway.commands()] == [high.id, low.id]


async def test_another_partys_request_is_not_found(town: Town) -> None:
    request = await town.accepted(READ)
    with pytest.raises(Exception, match="not-found"):
        await town.journey.fetch(town.token("sun"), request.id)
    with pytest.raises(Exception, match="not-found"):
        await town.journey.cancel(town.token("sun"), [request.id])


async def test_after_a_restart_everything_goes_on_from_the_books(town: Town) -> None:
    request = await town.accepted(READ)
    town.restart()
    town.gateway.epoch += 1
    await town.gateway.connect()
    await town.gateway.answer(request.id, {"power_w": 5})
    shown = await town.journey.fetch(town.token(), request.id)
    assert shown.state == State.DONE


async def test_what_is_sent_again_much_later_carries_a_fresh_charge(town: Town) -> None:
    request = await town.accepted({**READ, "deadline": "2027-01-15T20:00:00Z"})
    (first,) = town.gateway.commands()
    await town.gateway.disconnect()
    town.clock.pass_s(300)
    await town.upkeep.partitions()
    await town.gateway.connect()
    await settle(town.journey)
    (again,) = town.gateway.commands()
    assert (again.id, first.id) == (request.id, request.id)
    assert town.clock.now_us() - again.charge_us < 60 * 1_000_000


async def test_who_fetches_what_expired_has_been_told(town: Town) -> None:
    await town.gateway.disconnect()
    request = await town.accepted(READ)
    town.clock.pass_s(61)
    await town.upkeep.deadlines()
    shown = await town.journey.fetch(town.token(), request.id)
    assert (shown.state, shown.answer) == (State.EXPIRED, "DELIVERED")
    steps = await town.steps(request.id)
    await town.journey.fetch(town.token(), request.id)
    assert await town.steps(request.id) == steps


async def test_when_there_is_room_the_commit_that_records_a_request_also_sends_it(town: Town) -> None:
    verdict = await town.ask(READ)
    assert isinstance(verdict, Accepted)
    assert (verdict.request.state, verdict.request.attempt) == (State.SENT, 1)


async def test_of_a_burst_the_most_urgent_take_the_room_that_there_is(town: Town) -> None:
    town.journey.switchboard._in_flight_max = 2
    wishes = ["low", "low", "high", "normal", "high"]
    verdicts = await asyncio.gather(*(town.ask({**READ, "priority": wish}) for wish in wishes))
    await settle(town.journey)
    sent = {command.id for command in town.gateway.commands()}
    high = {
        verdict.request.id
        for verdict, wish in zip(verdicts, wishes, strict=True)
        if isinstance(verdict, Accepted) and wish == "high"
    }
    assert sent == high


async def test_what_was_lost_on_the_way_does_not_keep_the_room_for_ever(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.journey.switchboard._in_flight_max = 2
    monkeypatch.setattr(switchboard, "IN_FLIGHT_S_MAX", 0.0)
    for _ in range(3):  # and nothing comes back of any
        verdict = await town.ask(READ)
        assert isinstance(verdict, Accepted)
        assert verdict.request.state == State.SENT


async def test_a_gateway_that_is_slow_to_confirm_is_not_told_the_same_again_and_again(town: Town) -> None:
    await town.withdraw()
    told = 0
    for _ in range(10):
        town.clock.pass_s(1)
        await town.upkeep.provisioning()
        await settle(town.journey)
        told += sum(isinstance(message, Provision) for message in town.gateway.heard())
    assert told == 1
    town.clock.pass_s(16)
    await town.upkeep.provisioning()
    await settle(town.journey)
    assert any(isinstance(message, Provision) for message in town.gateway.heard())
