"""Who may publish and hear what on a real broker, under the rules that the CCS's tooling writes for it."""

import inspect
import json
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gmqtt import Client, Message, Subscription

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.link_mqtt import mosquitto_acl, mosquitto_config
from doorward.kit.mqtt import Session, Unacknowledged
from doorward.kit.tls import Credentials, client_context
from doorward.simulate.services import Mosquitto
from doorward.wire import topics
from tests.engines.link.rigs import HOST, MqttRig, eventually
from tests.services import StartMosquitto

ROWS: dict[str, dict[str, list[str]]] = tomllib.loads(
    Path(__file__).with_name("topics.toml").read_text(encoding="utf-8")
)
TOPICS: dict[str, Callable[[str], str]] = {
    name: function
    for name, function in vars(topics).items()
    if inspect.isfunction(function) and inspect.signature(function).return_annotation is str
}
"""Every topic of the link: the functions of ``wire.topics`` that make one."""
WIDE = [
    "#",
    "+/+/+/+/+",
    "doorward/#",
    "doorward/v1/+/+/down",
    "doorward/v1/+/+/up",
    "doorward/v1/+/+/presence",
    "doorward/v1/+/gw-b/#",
    "$share/thieves/doorward/v1/+/+/down",
    "$share/thieves/#",
    "$SYS/#",
]
OBSERVER = "ccs-observer"
"""A worker to the authority; to the broker, somebody who hears everything and may say nothing."""


class Voice:
    """A client of the broker that says and hears what it likes, as far as it is let."""

    def __init__(self, name: str, will: Message | None = None) -> None:
        more: dict[str, Any] = {"will_message": will} if will is not None else {}
        self._client = Client(name, persistent_storage=Unacknowledged(), **more)
        self._session = Session(self._client)
        self._client.on_message = self._on_message
        self.heard: list[tuple[str, bytes]] = []

    def _on_message(self, _client: object, topic: str, payload: bytes, *_: object) -> int:
        self.heard.append((topic, payload))
        return 0

    async def open(self, port: int, credentials: Credentials) -> None:
        tls = client_context(credentials.ca, credentials)
        await self._session.open(HOST, port, tls, keepalive_s=10, wait_s_max=20)

    async def hear(self, topic: str) -> None:
        """Subscribe; that the broker says no is as good as that nothing comes."""
        with suppress(ConnectionError):
            await self._session.subscribe([Subscription(topic, qos=1)], wait_s_max=20)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    async def leave(self, reason_code: int = 0) -> None:
        await self._session.close(reason_code=reason_code, wait_s_max=2)


class Broker:
    """A broker with the rules that are tested, one who hears everything, and certificates for all."""

    def __init__(self, place: Path, start: Callable[[str], Mosquitto]) -> None:
        self.rig = MqttRig(place, start)  # for its certificates
        authority: CertificateAuthority = self.rig.authority
        acl = place / "acl"
        acl.write_text(f"user {OBSERVER}\ntopic read #\n\n{mosquitto_acl(['ccs-1'])}")
        config = mosquitto_config(authority.server("broker", [HOST]), authority.path, acl)
        self.port = start(config).port
        self.credentials = {
            "gw-a": self.rig.certify("gw-a"),
            "gw-b": self.rig.certify("gw-b"),
            "ccs-1": authority.worker("ccs-1"),
            OBSERVER: authority.worker(OBSERVER),
        }
        self.voices: list[Voice] = []

    async def voice(self, who: str, name: str = "", will: Message | None = None) -> Voice:
        voice = Voice(name or who, will)
        await voice.open(self.port, self.credentials[who])
        self.voices.append(voice)
        return voice


@pytest.fixture
async def broker(tmp_path: Path, start_mosquitto: StartMosquitto) -> AsyncIterator[Broker]:
    made = Broker(tmp_path, start_mosquitto)
    yield made
    for voice in made.voices:
        await voice.leave()


def test_no_topic_of_the_link_is_without_a_row() -> None:
    described = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "asyncapi.json").read_text())
    addresses = {channel["address"].rpartition("/")[2] for channel in described["channels"].values()}

    assert set(TOPICS) == set(ROWS)
    assert addresses <= set(ROWS)


async def test_a_gateway_publishes_its_own_only_and_the_ccs_what_is_for_gateways(broker: Broker) -> None:
    observer, rogue, worker = [await broker.voice(who) for who in (OBSERVER, "gw-a", "ccs-1")]
    await observer.hear("#")
    for kind, topic in TOPICS.items():
        for gateway in ("gw-a", "gw-b"):
            rogue.say(topic(gateway), f"a gateway says {kind} of {gateway}".encode())
            worker.say(topic(gateway), f"the ccs says {kind} of {gateway}".encode())
    for odd in ("doorward/v1/7/gw-b/up", "doorward/v2/7/gw-a/up", "$SYS/broker/load", "elsewhere", "gw-a"):
        rogue.say(odd, b"an odd place")
        worker.say(odd, b"an odd place")
    rogue.say(topics.up("gw-a"), b"the last of the gateway")
    worker.say(topics.down("gw-b"), b"the last of the ccs")
    await eventually(lambda: {b"the last of the gateway", b"the last of the ccs"} <= _payloads(observer))

    heard = {payload for payload in _payloads(observer) if b"the last" not in payload}
    assert heard == {
        f"{'a gateway' if who == 'gateway' else 'the ccs'} says {kind} of {gateway}".encode()
        for kind, row in ROWS.items()
        for who in row["publish"]
        for gateway in (("gw-a",) if who == "gateway" else ("gw-a", "gw-b"))
    }


async def test_a_gateway_hears_its_own_only_whatever_it_subscribes_to(broker: Broker) -> None:
    rogue, other, worker = [await broker.voice(who) for who in ("gw-a", "gw-b", "ccs-1")]
    for topic in [*WIDE, *(topic(gateway) for topic in TOPICS.values() for gateway in ("gw-a", "gw-b"))]:
        await rogue.hear(topic)
    for kind in ("up", "presence"):
        await worker.hear(f"doorward/v1/+/+/{kind}")
    other.say(topics.presence("gw-b"), b"on", retain=True)
    other.say(topics.up("gw-b"), b"from B")
    await eventually(lambda: b"from B" in _payloads(worker))
    worker.say(topics.down("gw-b"), b"for B")
    worker.say(topics.down("gw-a"), b"for A")
    await eventually(lambda: (topics.down("gw-a"), b"for A") in rogue.heard)

    assert {topic for topic, _ in rogue.heard} == {topics.down("gw-a")}
    assert {payload for _, payload in worker.heard} >= {b"on", b"from B"}
    late = await broker.voice("gw-a", "again")  # what is retained is for the CCS, too
    await late.hear("doorward/v1/+/+/presence")
    worker.say(topics.down("gw-a"), b"for A again")
    await late.hear(topics.down("gw-a"))
    worker.say(topics.down("gw-a"), b"for A at last")
    await eventually(lambda: b"for A at last" in _payloads(late))
    assert b"on" not in _payloads(late)


async def test_a_gateway_takes_nobodys_place_and_leaves_no_will_in_anothers_name(broker: Broker) -> None:
    observer, other = await broker.voice(OBSERVER), await broker.voice("gw-b")
    await observer.hear("#")
    await other.hear(topics.down("gw-b"))
    will = Message(topics.presence("gw-b"), b"off", qos=1, retain=True)
    try:
        thief = await broker.voice("gw-a", name="gw-b", will=will)
        await thief.leave(reason_code=4)  # so that the broker carries the will out
    except OSError:
        pass  # the broker refuses such a will at once
    again = await broker.voice("gw-a", name="ccs-1")
    again.say(topics.down("gw-b"), b"as the CCS")
    again.say(topics.up("gw-a"), b"as itself")
    await eventually(lambda: b"as itself" in _payloads(observer))
    worker = await broker.voice("ccs-1")
    worker.say(topics.down("gw-b"), b"from the CCS")
    await eventually(lambda: b"from the CCS" in _payloads(other))  # it is still there

    assert b"off" not in _payloads(observer)
    assert b"as the CCS" not in _payloads(observer)


def _payloads(voice: Voice) -> set[bytes]:
    return {payload for _, payload in voice.heard}
