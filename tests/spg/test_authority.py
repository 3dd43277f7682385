"""End-to-end authority at the gateway (X03): whoever owns the CCS and the link still cannot switch a device."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.spg.rules.checks import _signed_until
from doorward.spg.rules.facts import DAY_US, HOUR_US, US, Policy
from doorward.spg.rules.house import House
from doorward.wire.grants import TrustDocument, binding
from doorward.wire.messages import Applied, Attempt, Command, Time, Trust
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url, public_jwk, sign
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation, Scope
from tests.spg.home import AUTHORITY, DEVICES, PARTY_KEY, START_US, Home, device, permit
from tests.spg.virtual import in_virtual_time

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
OPERATIONS = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
NEXT_AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"n" * 32)


async def ready(directory: Path, **grant: object) -> Home:
    home = await Home(directory).start()
    await home.greet(**({"signature_required": True} | grant))
    return home


async def refused(home: Home, command: Command, why: str = "") -> None:
    """The gateway says no, its record says so, and nothing was told to any device."""
    result = await home.answer(command)
    assert (result.state, result.reason) == ("REFUSED", Reason.SIGNATURE_INVALID), result
    assert why in result.detail
    rows = [row for row in await home.journal() if row.message == command.id and row.outcome == "refused"]
    assert rows
    assert rows[0].reason == "signature-invalid"
    assert home.adapter.acts == []


def bound(name: str = "pump", *operations: Operation) -> Any:
    """A permit for the equipment that is on the list now."""
    listed = device(name)
    place = binding(listed.protocol, listed.model, listed.address, listed.serial)
    return replace(permit(name, *(operations or (Operation.READ, Operation.TURN_OFF))), bound_to=place)


# --- the third party's signature -----------------------------------------------------------------------


@in_virtual_time
async def test_a_signed_command_acts_once_and_under_no_second_id(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.signed(home.command(Operation.TURN_OFF))
    assert (await home.answer(command)).state == "DONE"
    again = await home.answer(replace(command, id=home.command(Operation.READ).id))
    assert (again.state, again.reason) == ("REFUSED", Reason.REPLAYED)
    await home.restart()
    await home.tell(home.time())
    much_later = await home.answer(replace(command, id=home.command(Operation.READ).id))
    assert much_later.reason is Reason.REPLAYED
    assert len(home.adapter.acts) == 1


@in_virtual_time
async def test_a_signature_without_an_id_of_its_own_is_none(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    await refused(home, home.signed(home.command(Operation.TURN_OFF, party_ref="")), "an id of its own")


@pytest.mark.parametrize("versions", [(2, 1), (1, 2)])
@in_virtual_time
async def test_what_was_signed_for_another_version_of_the_permission_is_refused(
    tmp_path: Path, versions: tuple[int, int]
) -> None:
    held, signed = versions
    home = await ready(tmp_path, version=held)
    command = home.signed(home.command(Operation.TURN_OFF, grant_version=signed))
    result = await home.answer(command)
    assert result.reason in (Reason.SIGNATURE_INVALID, Reason.ACCESS_DISABLED)
    assert f"version {held}" in result.detail
    assert home.adapter.acts == []


@pytest.mark.parametrize(
    ("issued_s", "expires_s", "why"),
    [
        (-7200, 7200, "before this gateway's store began"),
        (60, 600, "in the future"),
        (-1800, -1, "expired"),
    ],
)
@in_virtual_time
async def test_a_signature_has_its_time(tmp_path: Path, issued_s: int, expires_s: int, why: str) -> None:
    home = await ready(tmp_path)
    await home.sleep(3600)
    now_us = home.wall.now_us()
    issued_us, expires_us = now_us + issued_s * US, now_us + expires_s * US
    command = home.command(Operation.TURN_OFF)
    await refused(home, home.signed(command, issued_us=issued_us, expires_us=expires_us), why)


@in_virtual_time
async def test_a_signature_that_is_good_for_ever_is_not_accepted(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    for_ever = home.signed(home.command(Operation.TURN_OFF), expires_us=home.wall.now_us() + 400 * DAY_US)
    await refused(home, for_ever, "3 days at most")


@in_virtual_time
async def test_the_types_of_a_body_are_signed_too(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    command = home.signed(home.command(Operation.LIMIT, body={"watts": 1}))
    await refused(home, replace(command, body=msgspec.Raw(b'{"watts":true}')), "another body")
    new = home.command(Operation.READ).id
    same = replace(command, id=new, body=msgspec.Raw(b'{ "watts" : 1 }'))
    assert (await home.answer(same)).state == "DONE"


@in_virtual_time
async def test_a_limit_of_the_whole_service_point_is_signed_as_such(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    whole = home.command(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    await refused(home, home.signed(whole, scope=Scope.DEVICE, device="pump"), "another scope, device")
    whole = home.command(Operation.LIMIT, "", {"watts": 2500}, scope=Scope.SERVICE_POINT)
    assert (await home.answer(home.signed(whole))).state == "DONE"


@in_virtual_time
async def test_a_control_of_all_devices_needs_a_signature_over_all_devices(tmp_path: Path) -> None:
    home = await ready(
        tmp_path, devices=[permit("pump", Operation.TURN_OFF), permit("relay", Operation.TURN_OFF)]
    )
    one = home.signed(home.command(Operation.TURN_OFF))
    await refused(home, replace(one, scope=Scope.HOME, device=""), "another scope, device")
    everything = home.signed(home.command(Operation.TURN_OFF, "", scope=Scope.HOME))
    assert (await home.answer(everything)).state == "DONE"
    assert sorted(act[1] for act in home.adapter.acts) == ["pump", "relay"]


@in_virtual_time
async def test_reading_and_letting_go_need_no_signature(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    assert (await home.ask(Operation.READ)).state == "DONE"
    await home.answer(home.signed(home.command(Operation.LIMIT, body={"watts": 500})))
    assert (await home.ask(Operation.RELEASE)).state == "DONE"
    assert home.adapter.things["pump"].power_w == 1000


@in_virtual_time
async def test_what_waits_is_begun_before_its_signature_expires_or_never(tmp_path: Path) -> None:
    """A CCS that names a late deadline moves nothing past what was signed."""
    home = await ready(tmp_path)
    home.adapter.things["pump"].hangs = hanging = asyncio.Event()
    now_us = home.wall.now_us()
    busy = home.signed(home.command(Operation.TURN_OFF))
    late = home.command(Operation.LIMIT, body={"watts": 5}, act_before_us=now_us + DAY_US)
    await home.tell(busy)
    await home.settle(1)
    await home.tell(home.signed(late, expires_us=now_us + 4 * US))
    await home.sleep(5)
    hanging.set()
    await home.settle(5)
    assert home.results(busy.id)[-1].state == "DONE"
    assert home.results(late.id)[-1].state == "EXPIRED"
    assert home.adapter.acts_of(late.id) == []


@in_virtual_time
async def test_a_key_that_the_customer_no_longer_trusts_does_not_act_later_either(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    start_us = home.wall.now_us() + HOUR_US
    waiting = home.signed(
        home.command(Operation.TURN_OFF, start_us=start_us, act_before_us=start_us + 55 * US),
        expires_us=start_us + HOUR_US,
    )
    await home.tell(waiting)
    await home.settle(1)
    other = {"k2": public_jwk(STRANGER.public_key())}
    await home.tell(home.push(home.document(version=2, party_keys=other, signature_required=True)))
    await home.sleep(3700)
    result = home.results(waiting.id)[-1]
    assert (result.state, result.reason) == ("REFUSED", Reason.SIGNATURE_INVALID)
    assert home.adapter.acts == []


@in_virtual_time
async def test_keys_overlap_and_the_old_one_is_refused_after_the_cut_off(tmp_path: Path) -> None:
    """P25: the third party's key is exchanged with no time at which it cannot act."""
    new = Ed25519PrivateKey.from_private_bytes(b"2" * 32)
    keys = {"k1": public_jwk(PARTY_KEY.public_key()), "k2": public_jwk(new.public_key())}
    home = await ready(tmp_path, version=2, party_keys=keys)

    def command(key: Ed25519PrivateKey, kid: str, version: int) -> Command:
        return home.signed(home.command(Operation.TURN_OFF, grant_version=version), key, kid)

    assert (await home.answer(command(PARTY_KEY, "k1", 2))).state == "DONE"
    assert (await home.answer(command(new, "k2", 2))).state == "DONE"
    only_new = {"k2": keys["k2"]}
    await home.tell(home.push(home.document(version=3, party_keys=only_new, signature_required=True)))
    assert (await home.answer(command(PARTY_KEY, "k1", 3))).reason is Reason.SIGNATURE_INVALID
    assert (await home.answer(command(new, "k2", 3))).state == "DONE"


def test_no_bit_of_a_signed_command_can_be_changed() -> None:
    """P10: every bit of several signed commands, headers and signatures too."""
    house, policy, document = House(), Policy(), _document()
    for command in _commands():
        good = command.signature
        assert _signed_until(command, document, house, policy, START_US) is not None
        for at in range(len(good)):
            for bit in range(7):
                changed = good[:at] + chr(ord(good[at]) ^ (1 << bit)) + good[at + 1 :]
                with pytest.raises(Refused) as no:
                    _signed_until(replace(command, signature=changed), document, house, policy, START_US)
                assert no.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1", "typ": "command"},
        {"alg": "HS256", "kid": "k1", "typ": "command"},
        {"alg": "EdDSA", "kid": "k1", "typ": "command"},
        {"alg": "Ed25519", "kid": "k1", "typ": "lease"},
        {"alg": "Ed25519", "kid": "k9", "typ": "command"},
        {"alg": "Ed25519", "kid": "k1", "typ": "command", "crit": ["b64"], "b64": False},
        {"alg": "Ed25519", "kid": "k1", "typ": "command", "jwk": public_jwk(STRANGER.public_key())},
    ],
)
def test_no_other_algorithm_type_key_or_header_is_accepted(header: dict[str, Any]) -> None:
    command = _commands()[0]
    payload = command.signature.split(".")[1]
    head = b64url(msgspec.json.encode(header))
    signed = f"{head}.{payload}.{b64url(PARTY_KEY.sign(f'{head}.{payload}'.encode()))}"
    by_mac = f"{head}.{payload}.{b64url(PARTY_KEY.public_key().public_bytes_raw())}"
    for signature in (signed, by_mac, f"{head}.{payload}."):
        with pytest.raises(Refused):
            _signed_until(replace(command, signature=signature), _document(), House(), Policy(), START_US)


def _document() -> Any:
    class Still:
        def now_us(self) -> int:
            return START_US

    home = Home.__new__(Home)
    home.wall = Still()  # type: ignore[assignment]
    return home.document(signature_required=True)


def _commands() -> list[Command]:
    import random

    class Still:
        def now_us(self) -> int:
            return START_US

    home = Home.__new__(Home)
    home.wall, home.rng = Still(), random.Random(3)  # type: ignore[assignment]
    whole = home.command(Operation.LIMIT, "", {"watts": 900}, scope=Scope.SERVICE_POINT)
    return [home.signed(home.command(Operation.TURN_OFF)), home.signed(whole)]


# --- the list of devices, which the CCS writes ---------------------------------------------------------


@in_virtual_time
async def test_a_permitted_name_cannot_be_pointed_at_other_equipment(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[bound("pump")])
    swapped = [replace(device("heat"), id="pump")]
    await home.tell(replace(home.provision(2), devices=swapped))
    result = await home.answer(home.signed(home.command(Operation.TURN_OFF)))
    assert (result.state, result.reason) == ("REFUSED", Reason.DEVICE_UNLISTED)
    assert (await home.ask(Operation.READ)).reason is Reason.DEVICE_UNLISTED
    assert home.adapter.acts == []


@in_virtual_time
async def test_a_control_is_let_go_where_it_was_set_and_nowhere_else(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[bound("pump")])
    await home.answer(home.signed(home.command(Operation.TURN_OFF)))
    await home.tell(replace(home.provision(2), devices=[replace(device("pump"), address="memory://heat")]))
    await home.settle(2)
    assert [act[2] for act in home.adapter.acts] == ["turn_off", "release"]
    assert home.adapter.things["pump"].power_w == 1000, "let go before the list changed"


@in_virtual_time
async def test_what_could_not_be_let_go_is_not_let_go_elsewhere(tmp_path: Path) -> None:
    home = await ready(tmp_path, devices=[bound("pump")])
    await home.answer(home.signed(home.command(Operation.TURN_OFF)))
    home.adapter.things["pump"].silent = True
    moved = replace(device("pump"), address="memory://elsewhere")
    await home.tell(replace(home.provision(2), devices=[moved]))
    await home.settle(2)
    home.adapter.things["pump"].silent = False
    await home.sleep(2000)
    assert [act[2] for act in home.adapter.acts] == ["turn_off"]
    place = binding(moved.protocol, moved.model, moved.address, moved.serial)
    widened = replace(bound("pump"), bound_to=place)
    await home.tell(home.push(home.document(version=2, devices=[widened], signature_required=True)))
    await home.sleep(2000)
    assert [act[2] for act in home.adapter.acts] == ["turn_off", "release"], "once the authority says so"


# --- the utility ---------------------------------------------------------------------------------------


def trust(
    version: int, key: Ed25519PrivateKey, kid: str, authority: dict[str, Ed25519PrivateKey], **operations: Any
) -> Trust:
    document = TrustDocument(
        version=version,
        issued_us=START_US,
        authority={name: public_jwk(each.public_key()) for name, each in authority.items()},
        operations={name: public_jwk(each.public_key()) for name, each in operations.items()},
    )
    return Trust(document=sign(msgspec.json.encode(document), key, kid, "trust"))


@in_virtual_time
async def test_nobody_but_the_utility_speaks_in_the_utilitys_classes(tmp_path: Path) -> None:
    home = await ready(tmp_path, signature_required=False)
    for klass in (0, 1, 9):
        result = await home.ask(Operation.TURN_OFF, klass=klass)
        assert (result.state, result.reason) == ("REFUSED", Reason.FORGED)
    assert {attempt.reason for attempt in home.of(Attempt)} == {Reason.FORGED}
    assert home.adapter.acts == []


@in_virtual_time
async def test_the_utilitys_control_needs_its_operations_key_and_a_grant(tmp_path: Path) -> None:
    home = await ready(tmp_path, utility=True, signature_required=False)
    await refused(home, home.command(Operation.TURN_OFF, klass=0), "asks for")
    await refused(home, home.signed(home.command(Operation.TURN_OFF, klass=0)), "verify")
    await home.tell(trust(1, AUTHORITY, "ca", {"ca": AUTHORITY}, ops=OPERATIONS))
    await refused(home, home.signed(home.command(Operation.TURN_OFF, klass=0)), "verify")
    done = home.signed(home.command(Operation.TURN_OFF, klass=0), OPERATIONS, "ops")
    assert (await home.answer(done)).state == "DONE"
    await home.restart()
    await home.tell(home.time())
    after = home.signed(home.command(Operation.TURN_ON, klass=0), OPERATIONS, "ops")
    assert (await home.answer(after)).state == "DONE", "kept over a restart"
    await home.tell(home.withdraw())
    await home.settle(1)
    late = home.signed(home.command(Operation.TURN_OFF, klass=0), OPERATIONS, "ops")
    assert (await home.answer(late)).reason is Reason.ACCESS_DISABLED


@in_virtual_time
async def test_only_the_authority_says_whom_to_believe_and_it_can_hand_over(tmp_path: Path) -> None:
    """P25: the authority's own key is exchanged with an overlap, and the old one is refused after it."""
    home = await ready(tmp_path)
    both = {"ca": AUTHORITY, "cb": NEXT_AUTHORITY}
    await home.tell(trust(1, STRANGER, "ca", {"ca": STRANGER}, ops=STRANGER))
    await home.tell(trust(1, STRANGER, "evil", {"evil": STRANGER}))
    await home.settle(0.3)
    assert home.app.desk.house.trust is None
    await home.tell(trust(2, AUTHORITY, "ca", both))
    await home.tell(trust(1, AUTHORITY, "ca", both, ops=STRANGER))
    await home.settle(0.3)
    assert home.app.desk.house.operations_keys == {}, "what was replaced does not come back"
    await home.tell(home.push(home.document(version=2), key=AUTHORITY))
    await home.settle(0.3)
    assert home.of(Applied)[-1].grants == {"g-1": 2}
    await home.tell(trust(3, NEXT_AUTHORITY, "cb", {"cb": NEXT_AUTHORITY}))
    await home.tell(trust(2, AUTHORITY, "ca", both))
    await home.tell(home.push(home.document(version=3), key=AUTHORITY))
    await home.settle(0.3)
    assert home.of(Applied)[-1].grants == {"g-1": 2}
    assert home.app.journey.hello().trust_version == 3


# --- floods and time -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_flood_of_forged_commands_is_counted_and_is_no_flood_of_rows(tmp_path: Path) -> None:
    home = await ready(tmp_path)
    before = len(await home.journal())
    for _ in range(10):
        await home.tell(*(home.command(Operation.TURN_OFF) for _ in range(100)))
    await home.sleep(61)
    await home.settle(2)
    assert sum(attempt.count for attempt in home.of(Attempt)) == 1000
    assert len(await home.journal()) - before < 300
    assert home.adapter.acts == []


@in_virtual_time
async def test_a_ccs_that_holds_the_clock_back_cannot_stretch_a_lease_by_much(tmp_path: Path) -> None:
    """P13, P23: leases end by the gateway's clock, and the CCS can slow that down by a sixtieth only."""
    home = await ready(tmp_path, signature_required=False)
    frozen = Time(at_us=home.wall.now_us())
    for _ in range(26 * 12):
        await home.tell(frozen)
        await home.sleep(300)
    result = await home.ask(Operation.TURN_OFF)
    assert result.reason in (Reason.LEASE_ENDED, Reason.LIMIT_EXCEEDED), result
    assert result.reason is Reason.LEASE_ENDED


@in_virtual_time
async def test_after_the_withdrawal_is_stored_nothing_acts_whatever_is_signed(tmp_path: Path) -> None:
    """P13: signed commands that were on their way, sent again, and sent under the old grant pushed anew."""
    home = await ready(tmp_path)
    old = home.push(home.document(signature_required=True))
    signed = [home.signed(home.command(Operation.TURN_OFF, name)) for name in DEVICES]
    assert (await home.answer(signed[0])).state == "DONE"
    await home.tell(home.withdraw())
    await home.settle(2)
    acts = len(home.adapter.acts)
    for _ in range(3):
        await home.tell(old, home.lease(), home.provision(3))
        await home.tell(*signed)
        await home.settle(3)
    assert len(home.adapter.acts) == acts
    assert all(home.results(each.id)[-1].reason is Reason.ACCESS_DISABLED for each in signed[1:])


@in_virtual_time
async def test_a_suppressed_withdrawal_ends_with_the_lease_and_what_runs_is_let_go(tmp_path: Path) -> None:
    """P13: the CCS keeps the withdrawal back; the authority no longer renews; the old leases help nobody."""
    home = await ready(tmp_path)
    leases = [home.lease()]
    control = home.signed(
        home.command(Operation.TURN_OFF, until_us=home.wall.now_us() + 60 * HOUR_US),
        expires_us=home.wall.now_us() + DAY_US,
    )
    assert (await home.answer(control)).state == "DONE"
    for _ in range(25):
        await home.sleep(3600)
        await home.tell(
            home.time(), *leases, home.push(home.document(issued_us=START_US, signature_required=True))
        )
    assert [r.reason for r in home.receipts(control.id) if r.step is Step.RELEASED] == [Reason.LEASE_ENDED]
    acts = len(home.adapter.acts)
    result = await home.answer(home.signed(home.command(Operation.TURN_OFF)))
    assert result.reason is Reason.LEASE_ENDED
    assert len(home.adapter.acts) == acts
