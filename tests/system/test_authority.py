"""X03 and P11 over real processes: who signs is obeyed, and whoever owns the CCS is not.

The consent authority is a process of its own, as in production. ``make red-team`` sends 100,000 commands.
"""

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from doorward.client import Client, DeviceUnknown, DoorwardError, NotPermitted, ask
from doorward.client.keys import signing_key
from doorward.simulate.local_utility import DidNotStart, LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.spg.rules.checks import UNAUTHORISED
from doorward.wire.messages import Applied, ProvisionedDevice, Result, Time
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import DeviceClass, Operation
from tests.system.evil_ccs import EvilCcs, Forger, other_state, swapped

COMMANDS = int(os.environ.get("DOORWARD_RED_TEAM_COMMANDS", "2000"))
WAIT_S_MAX = 60.0
PARTY, UTILITY, GATEWAY, SERVICE_POINT = "signer", "operations", "SPG-1", "SP-1"
DEVICES = ("RL-1", "PP-1", "HP-1")

PLAN = Plan(
    homes=(
        Home(SERVICE_POINT, GATEWAY, "Ada", (
            Equipment("RL-1", DeviceClass.RELAY, "Relay", rated_w=2000),
            Equipment("PP-1", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
            Equipment("HP-1", DeviceClass.HEAT_PUMP, "Heat pump", rated_w=3500),
        )),
    ),
    parties=(
        Company(PARTY, "Signer", "premium", (SERVICE_POINT,), signs=True, must_sign=True),
        Company(UTILITY, "The utility", "premium", (SERVICE_POINT,), utility=True, signs=True),
    ),
    per_hour=100_000,
    per_day=1_000_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def utility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalUtility]:
    """A utility as in production: the authority apart, the CCS in the production profile."""
    settings = {"per_hour": PLAN.per_hour, "per_day": PLAN.per_day, "profile": "production"}
    gateway = {"attempts_report_s": 1, "rest_s": "{}"}
    built = LocalUtility(
        tmp_path_factory.mktemp("apart"), PLAN, settings, gateway_settings=gateway, apart=True
    )
    try:
        built.start()
        with signer(built, signs=False) as client:
            until(lambda: tried(lambda: client.read("RL-1").is_done))
        yield built
    finally:
        built.stop()


def until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.2)


def tried(call: Callable[[], bool]) -> bool:
    try:
        return call()
    except DoorwardError:
        return False


def signer(utility: LocalUtility, party: str = PARTY, *, signs: bool = True) -> Client:
    return Client(
        utility.url,
        client_id=party,
        client_secret=utility.secret(party),
        command_key=utility.command_key(party) if signs else None,
    )


def acts(utility: LocalUtility) -> dict[str, int]:
    """How often each device really was told something, by its own file."""
    return {device: len(utility.actuations(device)) for device in DEVICES}


def released(utility: LocalUtility, request: str) -> list[dict[str, Any]]:
    """What the gateway let go of that a request had set."""
    rows = utility.gateway_log(GATEWAY)
    return [row for row in rows if row["step"] == "released" and row.get("message") == request]


@pytest.mark.req("X03", "F03")
def test_a_signed_control_acts_and_an_unsigned_one_is_refused_at_the_door(utility: LocalUtility) -> None:
    before = acts(utility)
    with signer(utility) as client:
        done = client.turn_off("RL-1")
        assert (done.state, done.reason) == ("DONE", None)
        assert acts(utility)["RL-1"] > before["RL-1"]
        whole = client.limit(watts=4000, service_point=SERVICE_POINT)
        assert whole.state == "DONE", whole
        assert client.release("RL-1").state == "DONE"
        client.cancel(whole.id)
        told = len((whole.result or {})["readings"])
        until(lambda: len(released(utility, whole.id)) == told)
    quiet = acts(utility)
    with signer(utility, signs=False) as client:
        with pytest.raises(NotPermitted, match="signature-invalid"):
            client.turn_off("PP-1")
        assert client.read("PP-1").is_done
        listed = client.submit([_turn_off("PP-1"), _turn_off("HP-1")])
        assert [item.problem and item.problem.reason for item in listed] == ["signature-invalid"] * 2
    assert acts(utility)["PP-1"] == quiet["PP-1"]


@pytest.mark.req("X03")
def test_the_utilitys_own_control_needs_its_operations_key(utility: LocalUtility) -> None:
    """The key stands in no book of the CCS; gateways hear of it from the authority, signed."""
    keys = utility.directory / "keys" / f"{UTILITY}.jwks"
    before = acts(utility)
    with signer(utility, UTILITY) as client:
        refused = client.turn_off("PP-1")
        assert (refused.state, refused.reason) == ("REFUSED", "signature-invalid")
        utility.command("consent-authority", "--dir", str(utility.consent), "operations-keys", str(keys))
        until(lambda: tried(lambda: client.turn_off("PP-1").state == "DONE"))
        assert client.release("PP-1").state == "DONE"
    assert acts(utility)["PP-1"] > before["PP-1"]
    with signer(utility, UTILITY, signs=False) as client, pytest.raises(NotPermitted, match="signature"):
        client.turn_off("PP-1")


@pytest.mark.req("X03")
def test_a_malicious_ccs_with_all_its_keys_moves_no_device(
    utility: LocalUtility, capsys: pytest.CaptureFixture[str]
) -> None:
    """P11, P10, F25: forged, replayed, retargeted, re-timed, stale; each refusal is on the gateway's record."""
    with signer(utility) as client:
        for device in ("RL-1", "PP-1"):
            assert client.turn_off(device).state == "DONE"
            assert client.release(device).state == "DONE"
    utility.processes["ccs"].kill()
    quiet = acts(utility)
    try:
        kinds, answers, attempts = asyncio.run(own(utility))
    finally:
        utility.wait_ready(utility.start_ccs())
    told = f"red team: {sum(kinds.values())} commands of {len(kinds)} kinds, {attempts} attempts reported"
    with capsys.disabled():
        print(f"\n{told}; {dict(Counter(str(each.reason) for each in answers))}")  # noqa: T201
    others = sum(each.reason not in UNAUTHORISED for each in answers)
    assert {each.state for each in answers} <= {"REFUSED", "EXPIRED"}
    assert attempts + others == sum(kinds.values()), "every one is counted on the gateway's own record"
    assert acts(utility) == {**quiet, "HP-1": quiet["HP-1"] + 1}, (
        "nothing but what was really signed at the end"
    )
    rows = utility.gateway_log(GATEWAY)
    counted = [row for row in rows if row["step"] == "attempt"]
    assert {row["reason"] for row in counted} >= {"signature-invalid", "replayed", "forged"}
    assert len(rows) < 5_000, "a flood of attempts is no flood of rows"


async def own(utility: LocalUtility) -> tuple[Counter[str], list[Result], int]:
    """Take over; attack; and in the end show that the gateway would act, for one who may."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    evil = EvilCcs(utility, GATEWAY)
    forger = Forger(evil.loot, PARTY, UTILITY, random.Random(seed))
    grants = [grant["id"] for grant in evil.loot.grants]
    listed = swapped(evil.loot, evil.loot.version + 1, SERVICE_POINT, grants)
    async with evil.in_control():
        before = await reported(evil, forger)
        await evil.send(*other_state(evil.loot, PARTY))
        await evil.send(listed)
        elsewhere = genuine(utility, forger)
        await evil.send(elsewhere)
        await evil.until(lambda: elsewhere.id in evil.results())
        assert evil.results()[elsewhere.id].reason is Reason.DEVICE_UNLISTED
        kinds = await evil.attack(iter(forger), COMMANDS // 2)
        await evil.send(
            Time(at_us=evil.now_us()), replace(listed, version=listed.version + 1, devices=own_list(evil))
        )
        kinds += await evil.attack(iter(forger), COMMANDS - COMMANDS // 2)
        kinds += Counter({"elsewhere": 1, "state": len(other_state(evil.loot, PARTY))})
        await evil.until(lambda: evil.attempts() - before + len(_others(evil)) >= kinds.total())
        answers, attempts = list(evil.results().values()), evil.attempts() - before
        right = genuine(utility, forger)
        await evil.send(right)
        await evil.until(lambda: right.id in evil.results())
        assert evil.results()[right.id].state == "DONE", (
            "the gateway is alive, and does what is really signed"
        )
        held = [each for each in evil.heard if isinstance(each, Applied)][-1]
        assert held.grants == {grant["id"]: grant["version"] for grant in evil.loot.grants}
    return kinds, answers, attempts


async def reported(evil: EvilCcs, forger: Forger) -> int:
    """How many attempts of earlier tests there were: all are reported when the second of a new cause is."""
    of_nobody = forger.command(device="HP-1", operation=Operation.TURN_OFF, body=msgspec.Raw(b"{}"))
    for _ in range(2):
        await evil.send(replace(of_nobody, id=forger.new_id(), party="nobody"))
    await evil.until(lambda: sum(each.count for each in evil.reports() if each.party == "nobody") == 2)
    return evil.attempts()


def _others(evil: EvilCcs) -> list[Result]:
    """Refusals that are no unauthorised attempts: a deadline that has passed, a body of no use."""
    return [each for each in evil.results().values() if each.reason not in UNAUTHORISED]


def genuine(utility: LocalUtility, forger: Forger) -> Any:
    """What the third party itself would sign now: the one thing that a CCS in wrong hands may pass on."""
    key = signing_key(utility.command_key(PARTY), "")
    command = forger.command(device="HP-1", operation=Operation.TURN_OFF, body=msgspec.Raw(b"{}"))
    return replace(forger.signed(command, key.key, key.kid), id=forger.new_id())


def own_list(evil: EvilCcs) -> list[ProvisionedDevice]:
    """The devices as they really are."""
    own = {each["id"]: each for each in evil.loot.devices}
    return [
        replace(
            device,
            device_class=DeviceClass(own[device.id]["device_class"]),
            model=own[device.id]["model"],
            address=own[device.id]["address"],
        )
        for device in swapped(evil.loot, 0, SERVICE_POINT, []).devices
    ]


def _turn_off(device: str) -> Any:
    return ask.turn_off(device)


# --- the consent authority -----------------------------------------------------------------------------


def test_the_ccs_holds_no_key_of_the_authority_and_its_gateways_trust_no_other(utility: LocalUtility) -> None:
    assert not list((utility.directory / "ccs").rglob("consent*.key"))
    identity = json.loads((utility.directory / "gateways" / GATEWAY / "identity.json").read_bytes())
    code = (utility.directory / "codes" / GATEWAY).read_text().strip()
    assert list(identity["consent_keys"]) == [code.rsplit("-", 1)[1]]


def test_without_an_operators_key_nothing_wider_is_applied(utility: LocalUtility) -> None:
    file = utility.directory / "utility.toml"
    options = utility.apply_options()
    at = options.index("--operator-key")
    without = options[:at] + options[at + 2 :]
    wider = file.with_name("wider.toml")
    wider.write_text(file.read_text().replace('purpose = "energy savings"', 'purpose = "anything"'))
    with pytest.raises(DidNotStart, match="evidence is missing"):
        utility.command("apply", str(wider), *without)


@pytest.mark.req("X03")
def test_a_customer_ends_a_permission_at_the_authority_and_the_ccs_and_the_gateway_follow(
    utility: LocalUtility,
) -> None:
    """P13, threat 4: past the CCS, with the authority's own link; what it runs ends too."""
    with signer(utility) as client:
        running = client.turn_off("RL-1")
        assert running.state == "DONE"
        [grant] = [each.id for each in client.grants() if each.state == "live"]
        utility.command("consent-authority", "--dir", str(utility.consent), "withdraw", grant)
        until(lambda: not tried(lambda: client.read("RL-1").is_done))
        with pytest.raises((NotPermitted, DeviceUnknown)):
            client.turn_off("RL-1")
    until(lambda: any(row["step"] == "withdrawn" for row in utility.gateway_log(GATEWAY)))
    until(lambda: released(utility, running.id))
