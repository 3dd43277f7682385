"""Who is let in where: provisioned from afar, for nobody, one or many, and only what is energy equipment."""

import pytest

from doorward.client import DeviceUnknown, NotPermitted, ask
from doorward.simulate.local_utility import DidNotStart
from tests.system.street import CLOSED, METERED, Street

DEVICE = CLOSED.equipment[0].id


@pytest.mark.req("F07", "F21", "F06")
def test_a_gateway_serves_nobody_then_one_then_many_as_the_utility_provisions_it(street: Street) -> None:
    gold, silver = street.client("gold"), street.client("silver")
    street.until(lambda: served(street) == set())
    with pytest.raises((DeviceUnknown, NotPermitted)):
        gold.read(DEVICE)

    street.grant("gold", "SP-10", "SP-11", "SP-12", "SP-13")
    assert gold.read(DEVICE).is_done  # from the moment at which it is given
    assert served(street) == {"gold"}
    with pytest.raises(DeviceUnknown):
        silver.read(DEVICE)

    street.grant("silver", "SP-11", "SP-12", "SP-13")
    assert [gold.read(DEVICE).state, silver.read(DEVICE).state] == ["DONE", "DONE"]

    street.grant("gold", "SP-10", "SP-12", "SP-13")
    street.until(lambda: served(street) == {"silver"})
    with pytest.raises(NotPermitted, match="access-disabled"):
        gold.read(DEVICE)
    assert silver.read(DEVICE).is_done
    street.grant("silver", "SP-12", "SP-13")


def served(street: Street) -> set[str]:
    """The companies that the home's gateway serves, by its own log."""
    found: set[str] = set()
    for row in street.utility.gateway_log(CLOSED.gateway):
        if row["step"] == "granted" and row["outcome"] == "ok":
            found.add(row["party"])
        elif row["step"] == "withdrawn":
            found.discard(row["party"])
    return found


@pytest.mark.req("R03")
def test_nothing_reaches_a_device_without_its_customers_permission(street: Street) -> None:
    with pytest.raises(DeviceUnknown):
        street.client("plain").turn_off("PP-10")
    assert street.log(METERED, "gateway_received", party="plain") == []
    assert street.utility.actuations("PP-10") == []


@pytest.mark.req("R03")
def test_what_the_customer_did_not_permit_on_a_device_is_refused(street: Street) -> None:
    def no_controls(text: str) -> str:
        permitted = 'id = "PP-10"\noperations = ["limit", "program", "read", "turn_off", "turn_on"]'
        assert permitted in text
        return text.replace(permitted, 'id = "PP-10"\noperations = ["read"]')

    street.apply(no_controls)
    try:
        known = street.client("gold").read("PP-10")
        assert known.is_done, known
        item = street.client("gold").submit([_turn_off()])[0]
        assert item.problem is not None
        assert item.problem.reason == "operation-not-permitted"
        assert street.utility.actuations("PP-10") == []
    finally:
        street.apply(lambda text: text)


def _turn_off() -> ask.Ask:
    return ask.turn_off("PP-10")


def device(id: str, kind: str) -> str:
    """A piece of equipment in the utility's file, at the metered home."""
    return (
        f'\n[[device]]\nid = "{id}"\nclass = "{kind}"\nservice_point = "SP-10"\n'
        'protocol = "modbus"\naddress = "127.0.0.1:502/1"\nmodel = "sim-relay"\n'
    )


@pytest.mark.req("F42")
def test_an_equipment_id_that_another_home_has_is_refused_and_nothing_is_changed(street: Street) -> None:
    with pytest.raises(DidNotStart, match=DEVICE):
        street.apply(lambda text: text + device(DEVICE, "relay"))
    found = {each.id: each.service_point for each in street.client("gold").devices()}
    assert found["PP-10"] == "SP-10"
    assert DEVICE not in found


@pytest.mark.req("R02")
def test_only_energy_equipment_can_be_set_up(street: Street) -> None:
    with pytest.raises(DidNotStart, match="camera"):
        street.apply(lambda text: text + device("CAM-1", "camera"))
    assert "add device RL-99" in street.apply(lambda text: text + device("RL-99", "relay"))
    street.apply(lambda text: text)
