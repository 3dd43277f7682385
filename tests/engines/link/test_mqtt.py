"""What only the link through a broker does: partitions, access rules, and the broker's quirks."""

import random
from pathlib import Path

import pytest

from doorward.ccs.engines.link_mqtt import MqttLink, broker_address, mosquitto_acl, mosquitto_config
from doorward.kit.tls import Credentials
from doorward.wire import topics
from tests.engines.link.rigs import HOST, WORKER, Desk, Home, MqttRig, eventually


async def test_partitions_are_heard_while_they_are_owned(mqtt_rig: MqttRig) -> None:
    home, other = await mqtt_rig.home("gw-1"), await mqtt_rig.home("gw-2")
    rest = set(range(topics.PARTITIONS)) - {topics.partition_of("gw-1")}
    await mqtt_rig.link.own(rest)
    assert list(mqtt_rig.link.connected()) == ["gw-2"]
    await home.uplink.send(b"not for this worker")
    await other.uplink.send(b"for this worker")
    await eventually(lambda: mqtt_rig.desk.heard("gw-2") == [b"for this worker"])
    assert mqtt_rig.desk.heard("gw-1") == []
    await mqtt_rig.link.own(range(topics.PARTITIONS))
    await eventually(lambda: "gw-1" in mqtt_rig.link.connected())
    await home.uplink.send(b"for this worker again")
    await eventually(lambda: mqtt_rig.desk.heard("gw-1") == [b"for this worker again"])
    assert mqtt_rig.desk.presences.count(("gw-2", True)) == 1


async def test_two_workers_share_the_gateways(mqtt_rig: MqttRig) -> None:
    desk, mine = Desk(), topics.partition_of("gw-1")
    other = MqttLink(
        f"mqtts://{HOST}:{mqtt_rig.port}", mqtt_rig.authority.worker("ccs-2"), "ccs-2", lambda _: True,
        random.Random(2), first_wait_s=0.05,
    )  # fmt: skip
    await mqtt_rig.link.own(set(range(topics.PARTITIONS)) - {mine})
    await other.own({mine})
    await other.start(desk.received, desk.presence)
    two = await mqtt_rig.home("gw-2")
    one = mqtt_rig.uplink("gw-1", mqtt_rig.certify("gw-1"), mqtt_rig.port, random.Random(1), 0.05)
    home = Home("gw-1", one)
    mqtt_rig.homes.append(home)
    await eventually(lambda: "gw-1" in other.connected())
    assert list(mqtt_rig.link.connected()) == ["gw-2"]
    assert other.send("gw-1", b"from ccs-2")
    assert mqtt_rig.link.send("gw-2", b"from ccs-1")
    await eventually(lambda: home.frames == [b"from ccs-2"] and two.frames == [b"from ccs-1"])
    await other.stop()


async def test_a_gateway_that_enrolled_elsewhere_comes_in_once_it_is_known(mqtt_rig: MqttRig) -> None:
    desk = Desk()
    known: set[str] = set()
    other = MqttLink(
        f"mqtts://{HOST}:{mqtt_rig.port}", mqtt_rig.authority.worker("ccs-2"), "ccs-2", known.__contains__,
        random.Random(2), first_wait_s=0.05,
    )  # fmt: skip
    await other.own(range(topics.PARTITIONS))
    await other.start(desk.received, desk.presence)
    one, two = await mqtt_rig.home("gw-1"), await mqtt_rig.home("gw-2")
    known.add("gw-2")
    other.learned()
    await eventually(lambda: list(other.connected()) == ["gw-2"])
    known.add("gw-1")
    await one.leave()
    await eventually(lambda: "gw-1" not in mqtt_rig.link.connected())
    other.learned()
    await two.uplink.send(b"after it")
    await eventually(lambda: desk.heard("gw-2") == [b"after it"])
    assert list(other.connected()) == ["gw-2"]  # who has gone again does not come in
    await other.stop()


async def test_a_link_waits_for_a_broker_that_is_not_there_yet(mqtt_rig: MqttRig) -> None:
    await mqtt_rig.crash()
    desk = Desk()
    late = MqttLink(
        f"mqtts://{HOST}:{mqtt_rig.port}", mqtt_rig.authority.worker("ccs-2"), "ccs-2", lambda _: True,
        random.Random(2), first_wait_s=0.05, wait_s_max=0.2,
    )  # fmt: skip
    await late.own(range(topics.PARTITIONS))
    await late.start(desk.received, desk.presence)
    assert not late.send("gw-1", b"nobody is there")
    await mqtt_rig.recover()
    await mqtt_rig.home("gw-1")
    await eventually(lambda: "gw-1" in late.connected())
    await late.stop()


async def test_a_gateway_at_a_wrong_partition_is_not_heard(mqtt_rig: MqttRig) -> None:
    wrong = (topics.partition_of("gw-1") + 1) % topics.PARTITIONS
    good = await mqtt_rig.home("gw-2")
    await mqtt_rig.publish(mqtt_rig.certify("gw-1"), f"{topics.ROOT}/{wrong}/gw-1/presence", b"on")
    await mqtt_rig.publish(mqtt_rig.certify("gw-1"), f"{topics.ROOT}/{wrong}/gw-1/up", b"lost")
    await good.uplink.send(b"after it")
    await eventually(lambda: mqtt_rig.desk.heard("gw-2") == [b"after it"])
    assert list(mqtt_rig.link.connected()) == ["gw-2"]


@pytest.mark.parametrize("url", ["mqtt://host:1883", "mqtts://", "host:8883"])
def test_only_a_broker_s_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="mqtts://host:8883"):
        broker_address(url)


def test_a_broker_s_port_may_be_left_out() -> None:
    assert broker_address("mqtts://broker.example") == ("broker.example", 8883)


def test_the_guide_shows_what_is_generated() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "howto" / "mqtt.md").read_text()
    place = Path("/etc/mosquitto/doorward")
    server = Credentials(place / "broker.pem", place / "broker.key", "")
    config = mosquitto_config(server, place / "ca.pem", place / "acl", revoked=place / "revoked.pem")
    assert config in guide
    assert mosquitto_acl([WORKER, "ccs-2"]) in guide
