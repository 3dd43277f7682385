"""The plan that leads from what is there to what is wanted, and what it never does."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from doorward.ccs.rules.contracts import Contract
from doorward.ccs.rules.facts import (
    Account,
    Credential,
    Device,
    Gateway,
    Grant,
    Link,
    LinkKind,
    Party,
    ServicePoint,
    Tier,
)
from doorward.ccs.setup.plan import (
    Change,
    Give,
    Present,
    Put,
    Wanted,
    WantedGrant,
    Withdraw,
    changes_only,
    plan,
)
from doorward.wire.grants import Bounds, DevicePermit
from doorward.wire.vocabulary import DeviceClass, Operation

NOW_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
replace = msgspec.structs.replace

TIER = Tier(name="basic", per_hour=24, per_day=576, response_s=60, top_priority=0)
PARTY = Party(id="brightgrid", name="BrightGrid")
POINT = ServicePoint(id="SP-1", timezone="America/Toronto")
DEVICE = Device(
    id="EV-1",
    service_point="SP-1",
    device_class=DeviceClass.EV_CHARGER,
    name="Car",
    protocol="ocpp",
    model="",
    address="CP-1",
)
PERMIT = DevicePermit(device="EV-1", device_class=DeviceClass.EV_CHARGER, operations=[Operation.READ])
GRANT = WantedGrant(
    id="file.brightgrid.SP-1",
    party="brightgrid",
    service_point="SP-1",
    purpose="save",
    tier="basic",
    permits=[PERMIT],
    expires_us=NOW_US + 30 * DAY_US,
)
AT = LinkKind.DEVICE_SERVICE_POINT
WANTED = Wanted(
    tiers=[TIER],
    parties=[PARTY],
    credentials=[Credential(id="file.brightgrid.secret", party="brightgrid", kind="secret", value="$h")],
    accounts=[Account(id="A-1")],
    service_points=[POINT, ServicePoint(id="SP-2")],
    gateways=["GW-1"],
    devices=[DEVICE],
    links=[(AT, "EV-1", "SP-1"), (LinkKind.SERVICE_POINT_GATEWAY, "SP-1", "GW-1")],
    grants=[GRANT],
)


def wanted(**more: Any) -> Wanted:
    return replace(WANTED, **more)


def carried(changes: Sequence[Change], there: Present | None = None, now_us: int = NOW_US) -> Present:
    """Play the changes into a present, as the books would hold it."""
    found: dict[str, Any] = msgspec.structs.asdict(there or Present())
    found = {name: dict(value) if isinstance(value, dict) else list(value) for name, value in found.items()}
    shelves = {
        Tier: "tiers",
        Party: "parties",
        Credential: "credentials",
        Account: "accounts",
        ServicePoint: "service_points",
        Gateway: "gateways",
        Device: "devices",
        Contract: "contracts",
    }
    for change in changes:
        if isinstance(change, Put):
            key = change.record.name if isinstance(change.record, Tier) else change.record.id
            found[shelves[type(change.record)]][key] = change.record
        elif isinstance(change, Give):
            document = change.document
            found["grants"][document.grant] = Grant(
                id=document.grant,
                party=document.party,
                service_point=document.service_point,
                version=document.version,
                state="live",
                tier=change.tier,
                document=document,
                signed="",
            )
        elif isinstance(change, Withdraw):
            gone = replace(change.grant, state="withdrawn", changed_us=now_us)
            found["grants"][gone.id] = gone
        elif hasattr(change, "link"):
            kind, a, b = change.link
            if type(change).__name__ == "Begin":
                found["links"].append(Link(kind=kind, a=a, b=b, since_us=now_us))
            else:
                found["links"] = [one for one in found["links"] if (one.kind, one.a, one.b) != change.link]
    return Present(**found)


def there() -> Present:
    return carried(plan(WANTED, Present(), NOW_US))


def words(want: Wanted, present: Present, now_us: int = NOW_US + DAY_US) -> list[str]:
    return [change.words for change in plan(want, present, now_us)]


def test_an_empty_utility_gets_everything_in_an_order_that_works() -> None:
    assert words(WANTED, Present(), NOW_US) == [
        "add tier basic",
        "add third party brightgrid",
        "set the secret of third party brightgrid",
        "add account A-1",
        "add service point SP-1",
        "add service point SP-2",
        "expect gateway GW-1",
        "add device EV-1",
        "link device EV-1 to service point SP-1 from now on",
        "link gateway GW-1 to service point SP-1 from now on",
        "put on record the contract of brightgrid at SP-1 (basic)",
        "give brightgrid at SP-1 a permission until 2027-02-14 08:00 UTC: EV-1 (read)",
    ]


def test_a_second_run_changes_nothing() -> None:
    assert words(WANTED, there()) == []


def test_a_device_that_moves_ends_one_link_before_it_begins_the_other() -> None:
    moved = wanted(
        devices=[replace(DEVICE, service_point="SP-2")],
        links=[(AT, "EV-1", "SP-2"), WANTED.links[1]],
        grants=[],
    )
    assert words(moved, there()) == [
        "withdraw the permission of brightgrid at SP-1 (no longer in the file)",
        "end the contract behind the permission of brightgrid at SP-1",
        "end the link of device EV-1 to service point SP-1",
        "link device EV-1 to service point SP-2 from now on",
    ]


def test_a_changed_field_is_said_with_both_values_and_a_secret_without() -> None:
    changed = wanted(
        devices=[replace(DEVICE, rated_w=7400.0, name="Charger")],
        credentials=[replace(WANTED.credentials[0], value="$other")],
    )
    said = words(changed, there())
    assert said == [
        "end the tokens of third party brightgrid",
        "change the secret of third party brightgrid",
        "change device EV-1: name 'Car' → 'Charger', rated_w 0.0 → 7400.0",
    ]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"permits": [replace(PERMIT, bounds=Bounds(watts_max=7000))]}, "devices"),
        ({"expires_us": NOW_US + 60 * DAY_US}, "expires_us"),
        ({"purpose": "other"}, "purpose"),
        ({"signature_required": True}, "signature_required"),
    ],
)
def test_a_changed_permission_is_a_new_version_that_begins_where_it_began(
    change: dict[str, Any], said: str
) -> None:
    *contract, give = plan(wanted(grants=[replace(GRANT, **change)]), there(), NOW_US + DAY_US)
    assert [each.words for each in contract] == (
        ["change the contract of brightgrid at SP-1 (basic)"] if said == "expires_us" else []
    )
    assert isinstance(give, Give)
    assert give.words == f"change the permission of brightgrid at SP-1 (version 2): {said}"
    assert (give.document.version, give.document.not_before_us) == (2, NOW_US)
    assert give.document.issued_us == NOW_US + DAY_US


def test_what_a_permission_is_made_of_changes_it_too() -> None:
    slower = wanted(tiers=[replace(TIER, per_hour=12)])
    assert words(slower, there())[-1].endswith("(version 2): tier_hour")
    keyed = wanted(parties=[replace(PARTY, keys={"k": {"kty": "OKP"}})])
    assert words(keyed, there()) == [
        "change third party brightgrid: keys",
        "change the permission of brightgrid at SP-1 (version 2): party_keys",
    ]


def test_a_withdrawn_permission_is_not_brought_back_by_the_same_file() -> None:
    present = there()
    gone = replace(present.grants[GRANT.id], state="withdrawn", changed_us=NOW_US)
    present = replace(present, grants={GRANT.id: gone})
    changes = plan(WANTED, present, NOW_US + DAY_US)
    assert changes_only(changes) == []
    assert "stays so" in changes[0].words
    again = wanted(grants=[replace(GRANT, id="file.brightgrid.SP-1.form-2")])
    assert words(again, present)[-1].startswith("give brightgrid at SP-1")


def test_a_permission_that_takes_another_s_place_withdraws_it_first() -> None:
    own = replace(there().grants[GRANT.id], id="portal-7")
    present = replace(there(), grants={"portal-7": own})
    said = words(WANTED, present)
    assert said[0] == "withdraw the permission of brightgrid at SP-1 (another takes its place)"
    assert said[-1].startswith("give brightgrid at SP-1")


def test_what_others_gave_is_left_alone() -> None:
    own = replace(there().grants[GRANT.id], id="portal-7")
    assert words(wanted(grants=[]), replace(there(), grants={"portal-7": own})) == []


def test_a_third_party_that_is_no_longer_there_is_suspended_and_nothing_is_deleted() -> None:
    gone = wanted(parties=[], credentials=[], grants=[])
    changes = plan(gone, there(), NOW_US)
    assert [change.words for change in changes] == [
        "withdraw the permission of brightgrid at SP-1 (no longer in the file)",
        "end the contract behind the permission of brightgrid at SP-1",
        "suspend third party brightgrid (no longer in the file)",
        "end the secret of third party brightgrid",
    ]
    after = carried(changes, there())
    assert set(after.parties) == set(there().parties)
    assert words(gone, after) == []


def test_silence_does_not_undo_a_suspension_or_turn_service_on() -> None:
    present = there()
    present = replace(
        present,
        parties={"brightgrid": replace(PARTY, state="suspended", tokens_not_before_us=7)},
        service_points=present.service_points | {"SP-1": replace(POINT, service="off")},
    )
    assert [line for line in words(WANTED, present) if line.startswith("change")] == []
    said = words(wanted(said=frozenset({("party", "brightgrid"), ("service_point", "SP-1")})), present)
    assert said == [
        "change third party brightgrid: state 'suspended' → 'active'",
        "change service point SP-1: service 'off' → 'on'",
    ]


def test_a_permission_stands_on_a_contract_that_ends_with_it() -> None:
    (contract,) = there().contracts.values()
    assert (contract.state, contract.tier, contract.ends_us) == ("approved", "basic", GRANT.expires_us)
    assert contract.agreed_us
    assert contract.signed_us
    assert contract.approved_us
    gone = carried(plan(wanted(grants=[]), there(), NOW_US + DAY_US), there())
    assert [each.state for each in gone.contracts.values()] == ["ended"]


def test_turning_service_off_ends_every_contract_there_whoever_made_it() -> None:
    theirs = replace(there().grants[GRANT.id], id="by-the-customer", party="sunfold")
    contract = replace(there().contracts[f"{GRANT.id}.contract"], id="c-9", party="sunfold")
    present = replace(
        there(),
        grants=there().grants | {theirs.id: theirs},
        contracts=there().contracts | {contract.id: contract},
    )
    off = wanted(
        service_points=[replace(POINT, service="off"), ServicePoint(id="SP-2")],
        said=frozenset({("service_point", "SP-1")}),
    )
    after = carried(plan(off, present, NOW_US + DAY_US), present)
    assert {each.state for each in after.grants.values()} == {"withdrawn"}
    assert {each.state for each in after.contracts.values()} == {"ended"}
    assert [line for line in words(off, after) if "stays" not in line] == []


def test_what_people_changed_is_not_changed_back() -> None:
    other = wanted(grants=[replace(GRANT, purpose="other")])
    kept = replace(there(), kept={GRANT.id: NOW_US})
    assert [line for line in words(other, kept) if "changed by people" not in line] == []


def test_a_permission_that_has_ended_is_not_given() -> None:
    changes = plan(wanted(grants=[replace(GRANT, expires_us=NOW_US)]), carried([], there()), NOW_US)
    late = plan(wanted(grants=[replace(GRANT, id="file.x", expires_us=NOW_US)]), there(), NOW_US)
    assert [type(change).__name__ for change in late] == ["Withdraw", "Put", "Note"]
    assert [type(change).__name__ for change in changes] == ["Give"]  # shortening a live one is a change


def test_a_code_is_made_once_and_again_only_when_it_has_run_out() -> None:
    coded = wanted(coded=frozenset({"GW-1"}))
    gateway = there().gateways["GW-1"]

    def said(**change: Any) -> list[str]:
        present = replace(there(), gateways={"GW-1": replace(gateway, **change)})
        return words(coded, present)

    assert said() == ["make a one-time enrolment code for gateway GW-1"]
    assert said(code_hash="x", code_expires_us=NOW_US + 2 * DAY_US) == []
    assert said(code_hash="x", code_expires_us=NOW_US) != []
    assert said(state="enrolled") == []
    assert said(state="revoked") == ["gateway GW-1 is revoked and stays so"]


def _jwks(*names: str) -> Credential:
    keys = [{"kid": name, "kty": "OKP", "crv": "Ed25519", "x": name} for name in names]
    value = msgspec.json.encode({"keys": keys}).decode()
    return Credential(id="file.brightgrid.jwks", party="brightgrid", kind="jwks", value=value)


@pytest.mark.parametrize(
    ("before", "after", "ended"),
    [
        (_jwks("k1"), _jwks("k1", "k2"), False),
        (_jwks("k1", "k2"), _jwks("k2"), True),
        (_jwks("k1"), replace(_jwks("k1"), id="file.brightgrid.secret", kind="secret", value="$h"), True),
        (WANTED.credentials[0], replace(WANTED.credentials[0], value="$other"), True),
        (WANTED.credentials[0], WANTED.credentials[0], False),
    ],
)
def test_tokens_end_with_the_key_or_secret_that_is_withdrawn(
    before: Credential, after: Credential, ended: bool
) -> None:
    present = carried(plan(wanted(credentials=[before]), Present(), NOW_US))
    later_us = NOW_US + DAY_US
    changed = carried(plan(wanted(credentials=[after]), present, later_us), present, later_us)
    assert changed.parties["brightgrid"].tokens_not_before_us == (later_us if ended else 0)
