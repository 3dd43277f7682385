"""Permission at the gateway: granted, renewed, narrowed, withdrawn, run out, forged."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.spg.rules.facts import DAY_US, HOUR_US, MINUTE_US, US
from doorward.wire.messages import Applied, Attempt, Notice
from doorward.wire.reasons import Reason
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation
from tests.spg.home import OTHER, Home, permit
from tests.spg.virtual import in_virtual_time

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


async def ready(directory: Path, **grant: object) -> Home:
    home = await Home(directory).start()
    await home.greet(**grant)
    return home


@in_virtual_time
async def test_zero_parties_nobody_reaches_a_device(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    await home.tell(home.time(), home.provision(grants=[]))
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_DISABLED


@in_virtual_time
async def test_two_parties_each_have_their_own(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[permit("pump", Operation.READ)])
    await home.tell(home.push(home.document("g-2", OTHER, devices=[permit("ev", Operation.READ)])))
    assert (await home.ask(Operation.READ, "pump")).state == "DONE"
    assert (await home.ask(Operation.READ, "ev", party=OTHER, grant="g-2")).state == "DONE"
    assert (await home.ask(Operation.READ, "ev")).reason is Reason.DEVICE_UNKNOWN


@in_virtual_time
async def test_what_was_applied_is_told(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    assert home.of(Applied)[-1].grants == {"g-1": 1}
    assert home.of(Applied)[-1].version == 1


@in_virtual_time
async def test_a_device_without_an_adapter_is_said_and_disturbs_no_other(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    provision = home.provision()
    strange = replace(provision.devices[0], id="strange", protocol="telepathy")
    await home.tell(home.time(), replace(provision, devices=[*provision.devices, strange]))
    await home.tell(home.push(home.document()))
    await home.settle(0.2)
    assert "telepathy" in home.of(Applied)[0].failed["strange"]
    assert (await home.ask(Operation.READ)).state == "DONE"


@in_virtual_time
async def test_only_the_consent_authority_can_grant(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    await home.tell(home.time(), home.provision(), home.push(home.document(), key=STRANGER))
    await home.settle(0.2)
    applied = home.of(Applied)[-1]
    assert applied.grants == {}
    assert "signature-invalid" in applied.failed["g-1"]
    assert [a.reason for a in home.of(Attempt)] == [Reason.SIGNATURE_INVALID]
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_DISABLED


@in_virtual_time
async def test_a_grant_cannot_pass_for_another_or_a_lease_for_a_grant(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    await home.tell(home.time(), home.provision())
    renamed = replace(home.push(home.document()), version=9)
    as_lease = replace(home.push(home.document()), document=home.lease().document)
    await home.tell(renamed, as_lease)
    await home.settle(0.2)
    assert home.of(Applied)[-1].grants == {}


@in_virtual_time
async def test_only_a_higher_version_replaces(tmp_path: Path) -> None:
    home = await ready(tmp_path, version=3)
    await home.tell(home.push(home.document(version=2)))
    await home.settle(0.2)
    assert home.of(Applied)[-1].grants == {"g-1": 3}
    await home.tell(home.push(home.document(version=4, devices=[permit("ev", Operation.READ)])))
    assert (await home.ask(Operation.READ, "pump", grant_version=4)).reason is Reason.DEVICE_UNKNOWN


@in_virtual_time
async def test_a_narrower_version_lets_go_of_what_it_no_longer_covers(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500})
    await home.tell(home.push(home.document(version=2, devices=[permit("pump", Operation.READ)])))
    await home.settle(2)
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_a_withdrawal_refuses_at_once_and_lets_go(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    done = await home.ask(Operation.LIMIT, body={"watts": 500})
    await home.tell(home.withdraw())
    await home.settle(2)
    assert home.adapter.things["pump"].power_w == 1000
    assert [r.reason for r in home.receipts(done.id) if r.step is Step.RELEASED] == [Reason.ACCESS_DISABLED]
    assert home.of(Applied)[-1].grants == {}
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_DISABLED


@in_virtual_time
async def test_a_withdrawn_version_never_comes_back_and_the_next_one_does(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    old = home.push(home.document())
    await home.tell(home.withdraw())
    await home.tell(old)
    await home.settle(0.5)
    await home.restart()
    await home.tell(home.time(), old)
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_DISABLED
    await home.tell(home.push(home.document(version=2)))
    assert (await home.ask(Operation.READ, grant_version=2)).state == "DONE"


@in_virtual_time
async def test_a_withdrawal_waits_for_the_device_that_is_being_told_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    """P13: no act after the gateway has stored the withdrawal, and it acknowledges only then."""
    home = await ready(tmp_path)
    pump = home.adapter.things["pump"]
    pump.hangs = hanging = asyncio.Event()
    under_way = home.command(Operation.TURN_OFF)
    behind = home.command(Operation.LIMIT, body={"watts": 5})
    await home.tell(under_way)
    await home.settle(1)
    await home.tell(behind)
    applied = len(home.of(Applied))
    await home.tell(home.withdraw())
    after = home.command(Operation.TURN_OFF, "ev")
    await home.tell(after)
    await home.settle(1)
    assert len(home.of(Applied)) == applied, "not acknowledged while the device is being told"
    assert home.results(after.id)[-1].reason is Reason.ACCESS_DISABLED, "dead for every check at once"
    hanging.set()
    await home.settle(3)
    assert len(home.of(Applied)) == applied + 1
    assert home.results(under_way.id)[-1].state == "DONE"
    assert home.results(behind.id)[-1].reason is Reason.ACCESS_DISABLED
    stored = next(row.at_us for row in await home.journal() if row.step == "withdrawn")
    assert [act[2] for act in home.adapter.acts] == ["turn_off", "release"]
    assert stored >= home.results(under_way.id)[-1].at_us


@pytest.mark.parametrize("delay_ms", range(0, 400, 23))
@in_virtual_time
async def test_a_withdrawal_at_any_moment_of_an_act_leaves_no_act_after_it(
    tmp_path: Path, delay_ms: int
) -> None:
    home = await ready(tmp_path)
    command = home.command(Operation.TURN_OFF)
    await home.tell(command)
    await asyncio.sleep(delay_ms / 1000)
    await home.tell(home.withdraw())
    await home.settle(5)
    told = home.adapter.acts_of(command.id)
    assert home.results(command.id)[-1].state == ("DONE" if told else "REFUSED")
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_a_grant_that_is_not_listed_any_more_is_withdrawn(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.tell(home.provision(2, grants=[]))
    await home.settle(0.5)
    assert home.of(Applied)[-1].grants == {}
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_DISABLED


@in_virtual_time
async def test_when_the_lease_has_run_out_traffic_is_refused_and_controls_are_let_go(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.tell(home.lease(s=0))
    until_us = home.wall.now_us() + 60 * HOUR_US
    done = await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=until_us)
    await home.sleep(24 * 3600 - 60)
    assert home.adapter.things["pump"].power_w == 500
    await home.sleep(120)
    assert home.adapter.things["pump"].power_w == 1000
    assert [r.reason for r in home.receipts(done.id) if r.step is Step.RELEASED] == [Reason.LEASE_ENDED]
    assert (await home.ask(Operation.READ)).reason is Reason.LEASE_ENDED


@in_virtual_time
async def test_a_renewed_lease_keeps_everything_going(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500}, until_us=home.wall.now_us() + 60 * HOUR_US)
    for _ in range(4):
        await home.sleep(12 * 3600)
        await home.tell(home.lease())
    assert home.adapter.things["pump"].power_w == 500
    assert (await home.ask(Operation.READ)).state == "DONE"


@in_virtual_time
async def test_a_push_cannot_stretch_the_lease_beyond_a_day_of_the_authoritys_word(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    old = home.document()
    await home.sleep(25 * 3600)
    await home.tell(home.push(old, lease_s=7 * 24 * 3600))
    assert (await home.ask(Operation.READ)).reason is Reason.LEASE_ENDED


@in_virtual_time
async def test_at_the_grants_end_controls_are_let_go(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    await home.greet(expires_us=home.wall.now_us() + 30 * MINUTE_US)
    await home.ask(Operation.LIMIT, body={"watts": 500})
    await home.sleep(31 * 60)
    assert home.adapter.things["pump"].power_w == 1000
    assert (await home.ask(Operation.READ)).reason is Reason.ACCESS_ENDED


# --- the third party's own signature -------------------------------------------------------------------


@in_virtual_time
async def test_a_signed_command_is_carried_out(tmp_path: Path) -> None:
    home = await ready(tmp_path, signature_required=True)
    command = home.signed(home.command(Operation.LIMIT, body={"watts": 500}))
    assert (await home.answer(command)).state == "DONE"


@in_virtual_time
async def test_where_the_grant_asks_for_a_signature_nothing_is_done_without_it(tmp_path: Path) -> None:
    home = await ready(tmp_path, signature_required=True)
    refused = await home.ask(Operation.TURN_OFF)
    assert (refused.state, refused.reason) == ("REFUSED", Reason.SIGNATURE_INVALID)
    assert (await home.ask(Operation.READ)).state == "DONE"


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "ev"},
        {"operation": Operation.TURN_ON},
        {"until_us": 5},
        {"id": "another"},
        {"grant_version": 2},
        {"party": OTHER},
        {"issued_us": 1},
        {"issued_us": 2**60},
        {"expires_us": 1},
    ],
)
@in_virtual_time
async def test_a_signature_for_something_else_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    home = await ready(tmp_path)
    result = await home.answer(home.signed(home.command(Operation.TURN_OFF), **changes))
    assert (result.state, result.reason) == ("REFUSED", Reason.SIGNATURE_INVALID)
    assert home.adapter.acts == []


@in_virtual_time
async def test_another_body_than_the_signed_one_is_refused(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.signed(home.command(Operation.LIMIT, body={"watts": 500}))
    changed = replace(command, body=home.command(Operation.LIMIT, body={"watts": 5}).body)
    assert (await home.answer(changed)).reason is Reason.SIGNATURE_INVALID


@in_virtual_time
async def test_a_strangers_signature_is_refused(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    result = await home.answer(home.signed(home.command(Operation.TURN_OFF), key=STRANGER))
    assert result.reason is Reason.SIGNATURE_INVALID


# --- what devices say by themselves --------------------------------------------------------------------


@in_virtual_time
async def test_a_notice_goes_to_whom_the_customer_lets_read_and_to_nobody_else(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[permit("pump", Operation.READ)])
    await home.tell(home.push(home.document("g-2", OTHER, devices=[permit("pump", Operation.TURN_OFF)])))
    await home.settle(0.1)
    await home.adapter.say("pump", "fault", code="dry running")
    await home.settle(0.5)
    assert [(n.party, n.kind, n.device, n.grant) for n in home.of(Notice)] == [
        ("acme", "fault", "pump", "g-1")
    ]


@in_virtual_time
async def test_a_chattering_device_is_heard_once_a_minute_per_kind(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    for _ in range(90):
        await home.adapter.say("pump", "fault")
        await home.adapter.say("ev", "plugged")
        await home.sleep(1)
    assert len(home.of(Notice)) == 4


@in_virtual_time
async def test_an_unlisted_device_is_reported_and_not_forwarded(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    for _ in range(30):
        await home.adapter.say("cp-evil", "unlisted")
    await home.settle(0.5)
    assert home.of(Notice) == []
    attempts = home.of(Attempt)
    assert [(a.direction, a.reason, a.device, a.count) for a in attempts] == [
        ("out", Reason.DEVICE_UNLISTED, "cp-evil", 1)
    ]
    await home.sleep(61)
    assert sum(a.count for a in home.of(Attempt)) == 30, "the rest is counted, not multiplied"
    assert len(home.of(Attempt)) == 2


@in_virtual_time
async def test_a_notice_does_not_leave_the_home_when_the_lease_has_run_out(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.sleep(DAY_US / US + 1)
    await home.adapter.say("pump", "fault")
    await home.settle(0.5)
    assert home.of(Notice) == []


@in_virtual_time
async def test_a_device_that_leaves_the_list_is_let_go_first_and_then_never_spoken_to(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await home.ask(Operation.LIMIT, body={"watts": 500})
    await home.tell(home.provision(2, without="pump"))
    await home.settle(2)
    assert home.adapter.things["pump"].power_w == 1000
    calls = home.adapter.calls
    assert (await home.ask(Operation.READ)).reason is Reason.DEVICE_UNLISTED
    assert home.adapter.calls == calls
