"""What a contract's tier decides: how much, how soon, and who goes first."""

from datetime import timedelta

import pytest

from doorward.client import DoorwardError, ask
from tests.system.street import COUNTED, PER_HOUR, QUEUED, Street, with_tier

TIERS = {"gold": ("premium", 12), "silver": ("standard", 8), "plain": ("basic", 4)}


@pytest.mark.req("F31")
def test_a_tiers_response_time_is_the_deadline_and_can_be_set(street: Street) -> None:
    assert promised(street) == timedelta(seconds=60)
    street.apply(lambda text: with_tier(text, "basic", response_s=40))
    assert promised(street) == timedelta(seconds=40)


def promised(street: Street) -> timedelta:
    """How soon an answer to the basic tier must be there."""
    (item,) = street.client("plain").submit([ask.read("WH-13", priority="low")])
    assert item.request is not None
    assert item.request.deadline is not None
    assert item.request.received is not None
    # it counts from the moment at which it was accepted, a little after it came in
    return timedelta(seconds=(item.request.deadline - item.request.received).total_seconds() // 1)


@pytest.mark.req("F32")
def test_three_tiers_let_a_company_say_as_much_as_each_allows(street: Street) -> None:
    def tiers(text: str) -> str:
        for name, per_hour in TIERS.values():
            text = with_tier(text, name, per_hour=per_hour)
        return text

    street.apply(tiers)
    try:
        require_as_much_as_each_allows(street)
    finally:
        street.apply(lambda text: text)


def require_as_much_as_each_allows(street: Street) -> None:
    for party, (name, per_hour) in TIERS.items():
        client = street.client(party)
        limits = client.limits(COUNTED.service_point)
        assert limits.tier is not None
        assert (limits.tier.name, limits.tier.per_hour) == (name, per_hour)
        left = limits.windows[0].remaining
        items = client.submit([ask.read("WH-13")] * 8)
        accepted = [item for item in items if item.request is not None]
        assert len(accepted) == left // 2
        assert {item.problem.reason for item in items if item.problem} == {"limit-exceeded"}


@pytest.mark.req("F19")
def test_a_companys_own_priority_decides_what_goes_first(street: Street) -> None:
    """With the gateway away they queue; when it is back, its own log shows the order in which they came."""
    silver = street.client("silver")
    gateway = street.utility.processes.pop(QUEUED.gateway)
    gateway.kill()
    wishes = ["low"] * 4 + ["normal"] * 2 + ["high"]
    items = silver.submit([ask.read("TH-12", priority=wish) for wish in wishes])
    queued = {item.request.id: item.request.priority for item in items if item.request}
    assert len(queued) == len(wishes)
    street.utility.start_gateway(QUEUED)
    street.until(lambda: all(silver.get(id).is_final for id in queued))
    came = [
        queued[row["message"]] for row in street.log(QUEUED, "gateway_received") if row["message"] in queued
    ]
    assert came == ["high", "normal", "normal", "low", "low", "low", "low"]


@pytest.mark.req("B03", "F05")
def test_the_utilitys_messages_overtake_third_parties_by_their_urgency(street: Street) -> None:
    """It asks last, in the lowest tier, and still goes first: its own log shows what the gateway had when."""
    gateway = street.utility.processes.pop(QUEUED.gateway)
    gateway.kill()
    queued: dict[str, str] = {}
    for party, wish in (
        ("silver", "high"),
        ("gold", "high"),
        ("operations", "normal"),
        ("operations", "high"),
    ):
        (item,) = street.client(party).submit([ask.read("TH-12", priority=wish)])
        assert item.request is not None, item.problem
        queued[item.request.id] = f"{party} {wish}"
    street.utility.start_gateway(QUEUED)
    operations, silver = street.client("operations"), street.client("silver")
    (first, *_, last) = queued
    street.until(lambda: silver.get(first).is_final and operations.get(last).is_final)
    came = [
        queued[row["message"]] for row in street.log(QUEUED, "gateway_received") if row["message"] in queued
    ]
    assert came == ["operations high", "operations normal", "gold high", "silver high"]


@pytest.mark.req("B03")
def test_the_utilitys_permission_takes_no_share_of_what_third_parties_may_say(street: Street) -> None:
    assert street.client("operations").read("TH-12").state == "DONE"
    assert street.client("gold").limits("SP-12").windows[0].limit == PER_HOUR // 2


def test_a_control_of_the_utility_without_its_operations_key_is_refused(street: Street) -> None:
    with pytest.raises(DoorwardError) as refused:
        street.client("operations").setpoint("TH-12", celsius=20, which="heat")
    assert refused.value.reason == "signature-invalid"
