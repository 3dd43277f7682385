"""A small utility in real books, with a gateway that tests play at the Link port (real frames, real MACs)."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.ccs.engines.standard_formats import standard_formats
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.rules.asking import Ask
from doorward.ccs.rules.facts import (
    Device,
    Endpoint,
    Gateway,
    Grant,
    LinkKind,
    Party,
    Request,
    ServicePoint,
    Tier,
)
from doorward.ccs.rules.facts import (
    Link as DatedLink,
)
from doorward.ccs.rules.formats import Catalogue
from doorward.ccs.rules.identity import Claims, TokenReader, write_token
from doorward.ccs.terms import Terms
from doorward.ccs.upkeep import Ownership, Upkeep
from doorward.ccs.way_out import Accepted, Declined, Verdict
from doorward.kit.ids import uuid7
from doorward.wire import codec, topics
from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.messages import Command, Down, Hello, Receipt, Result, Up
from doorward.wire.signatures import public_jwk
from doorward.wire.steps import Step
from doorward.wire.vocabulary import DeviceClass, Operation

SECOND = 1_000_000
HOUR = 3600 * SECOND
MASTER = b"m" * 32


class HandClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.us = 1_800_000_000 * SECOND

    def now_us(self) -> int:
        return self.us

    def pass_s(self, seconds: float) -> None:
        self.us += int(seconds * SECOND)


class FakeLink:
    """The Link port, with the gateways played by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.up: set[str] = set()

    async def start(self, received: object, presence: object) -> None:
        """Nothing to start."""

    def connected(self) -> Collection[str]:
        return self.up

    def send(self, gateway: str, frame: bytes) -> bool:
        self.sent.append((gateway, frame))
        return gateway in self.up

    async def own(self, partitions: Collection[int]) -> None:
        """All of them."""

    async def drop(self, gateway: str) -> None:
        self.up.discard(gateway)

    async def stop(self) -> None:
        """Nothing to stop."""


class FakeEndpoints:
    """The Notifier port: what was pushed, and what to answer."""

    def __init__(self) -> None:
        self.pushed: list[tuple[Endpoint, str, bytes]] = []
        self.failure = ""

    async def push(
        self, posts: Sequence[tuple[Endpoint, str, bytes]], now_us: int, media: str = "application/json"
    ) -> list[str]:
        self.pushed += posts
        return [self.failure] * len(posts)

    async def prove(self, endpoint: Endpoint, challenge: str, now_us: int) -> str:
        return ""

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class PlayedGateway:
    """A gateway as the test plays it."""

    name: str
    journey: Journey
    link: FakeLink
    generation: int = 1
    epoch: int = 1
    counter: int = 0
    seq: int = 0
    read: int = 0
    key: bytes = field(default=b"")

    def __post_init__(self) -> None:
        self.key = codec.gateway_key(MASTER, self.name, self.generation)

    async def say(self, *messages: Up) -> None:
        """Send messages in one frame and let the CCS take them."""
        self.counter += 1
        self.journey.receive(
            self.name, codec.encode_up(self.name, self.epoch, self.counter, list(messages), self.key)
        )
        await settle(self.journey)

    async def connect(self) -> None:
        self.link.up.add(self.name)
        self.journey.presence(self.name, True)
        await self.say(Hello(gateway=self.name, boot=self.epoch, software="test", provision_version=0))

    async def disconnect(self) -> None:
        self.link.up.discard(self.name)
        self.journey.presence(self.name, False)

    def heard(self) -> list[Down]:
        """What came since the last time, of all kinds."""
        frames = [raw for name, raw in self.link.sent[self.read :] if name == self.name]
        self.read = len(self.link.sent)
        return [message for raw in frames for message in codec.decode_down(raw, self.name, self.key).messages]

    def commands(self) -> list[Command]:
        return [message for message in self.heard() if isinstance(message, Command)]

    def receipt(self, id: str, step: Step, at_us: int) -> Receipt:
        self.seq += 1
        return Receipt(seq=self.seq, id=id, step=step, at_us=at_us)

    def result(self, id: str, state: str = "DONE", data: object = None, at_us: int = 0) -> Result:
        self.seq += 1
        return Result(
            seq=self.seq, id=id, state=state, at_us=at_us, data=msgspec.Raw(msgspec.json.encode(data))
        )

    async def answer(self, id: str, data: object) -> None:
        """Everything that a gateway says of a request that went well."""
        now = self.journey.clock.now_us()
        await self.say(
            self.receipt(id, Step.GATEWAY_RECEIVED, now),
            self.receipt(id, Step.PASSED_TO_HAN, now),
            self.receipt(id, Step.DEVICE_ANSWERED, now),
            self.receipt(id, Step.ANSWER_RECEIVED, now),
            self.result(id, "DONE", data, now),
        )


async def settle(journey: Journey) -> None:
    """Let everything that was started come to rest."""
    for _ in range(3):
        for gatherer in (journey.asks, journey._frames, journey._ready, journey._fetches):
            await gatherer.drained()
        await asyncio.sleep(0)


class Town:
    """One service point with two devices, two third parties, one gateway; all through the real books."""

    def __init__(self, store: Store, clock: HandClock) -> None:
        self.store = store
        self.clock = clock
        self.rng = random.Random(7)
        self.link = FakeLink()
        self.endpoints = FakeEndpoints()
        self.signer = Ed25519PrivateKey.generate()
        self.terms = Terms()
        self.ownership = Ownership("w-1", epoch=1)
        self.journey = self.start()
        self.gateway = PlayedGateway("SPG-1", self.journey, self.link)
        self.upkeep = Upkeep(self.journey, self.ownership, None, self.rng, shared=False)

    def start(self) -> Journey:
        return Journey(
            store=self.store,
            link=self.link,
            notifier=self.endpoints,
            clock=self.clock,
            rng=self.rng,
            tokens=TokenReader({"k": public_jwk(self.signer.public_key())}, "https://ccs", "https://ccs"),
            catalogue=lambda: self.catalogue,
            claim=lambda: self.ownership,
            master_key=MASTER,
            terms=self.terms,
        )

    catalogue = Catalogue(standard_formats())

    def restart(self) -> None:
        """The process died; another one begins on the same books."""
        self.journey = self.start()
        self.gateway.journey = self.journey
        self.link.up.clear()
        self.upkeep = Upkeep(self.journey, self.ownership, None, self.rng, shared=False)

    async def build(self) -> None:
        await self.store.write(self._build)
        await self.upkeep.partitions()
        await self.gateway.connect()
        self.gateway.heard()

    async def _build(self, books: AllBooks) -> None:
        since = self.clock.now_us() - HOUR
        await books.put_tiers([Tier(name="gold", per_hour=24, per_day=576, response_s=60, top_priority=0)])
        await books.put_parties([Party(id="bright", name="BrightGrid"), Party(id="sun", name="Sunfold")])
        await books.put_service_points([ServicePoint(id="SP-1")])
        await books.put_gateways(
            [Gateway(id="SPG-1", partition=topics.partition_of("SPG-1"), state="enrolled", key_generation=1)]
        )
        await books.put_equipment(
            [
                device("TH-1", DeviceClass.THERMOSTAT),
                device("EV-1", DeviceClass.EV_CHARGER),
            ]
        )
        await books.put_links(
            [DatedLink(kind=LinkKind.SERVICE_POINT_GATEWAY, a="SP-1", b="SPG-1", since_us=since)]
            + [
                DatedLink(kind=LinkKind.DEVICE_SERVICE_POINT, a=each, b="SP-1", since_us=since)
                for each in ("TH-1", "EV-1")
            ]
        )
        await books.put_grants([replace(self.grant("bright", 1), changed_us=since)])

    def grant(self, party: str, version: int, state: str = "live") -> Grant:
        now = self.clock.now_us()
        return Grant(
            id=f"G-{party}",
            party=party,
            service_point="SP-1",
            version=version,
            state=state,  # type: ignore[arg-type]
            tier="gold",
            document=GrantDocument(
                grant=f"G-{party}",
                version=version,
                party=party,
                service_point="SP-1",
                purpose="savings",
                devices=[
                    DevicePermit(
                        device="TH-1",
                        device_class=DeviceClass.THERMOSTAT,
                        operations=[Operation.READ, Operation.SETPOINT],
                        bounds=Bounds(celsius_min=16, celsius_max=26),
                    ),
                    DevicePermit(
                        device="EV-1",
                        device_class=DeviceClass.EV_CHARGER,
                        operations=[Operation.READ, Operation.LIMIT],
                    ),
                ],
                not_before_us=now - HOUR,
                expires_us=now + 24 * HOUR,
                issued_us=now,
            ),
            signed="signed",
            changed_us=now,
        )

    async def withdraw(self, party: str = "bright") -> None:
        grant = self.grant(party, 2, "withdrawn")
        await self.store.write(lambda books: books.put_grants([grant]))

    def token(self, party: str = "bright", scope: str = "monitor control", life_s: int = 600) -> str:
        now_s = self.clock.now_us() // SECOND
        claims = Claims(
            iss="https://ccs",
            aud="https://ccs",
            sub=party,
            client_id=party,
            exp=now_s + life_s,
            iat=now_s,
            jti=uuid7(self.clock.now_us(), self.rng),
            scope=scope,
        )
        return write_token(claims, self.signer, "k")

    def make(self, body: dict[str, object], *, token: str = "", key: str = "") -> Ask:
        return Ask(
            id=uuid7(self.clock.now_us(), self.rng),
            token=token or self.token(),
            raw=msgspec.json.encode(body),
            received_us=self.clock.now_us(),
            key=key,
            source="127.0.0.1",
        )

    async def ask(self, body: dict[str, object], *, token: str = "", key: str = "") -> Verdict:
        return await self.journey.asks.ask(self.make(body, token=token, key=key))

    async def accepted(self, body: dict[str, object], *, key: str = "") -> Request:
        verdict = await self.ask(body, key=key)
        assert isinstance(verdict, Accepted), verdict
        await settle(self.journey)
        return verdict.request

    async def declined(self, body: dict[str, object], *, token: str = "", key: str = "") -> Declined:
        verdict = await self.ask(body, token=token, key=key)
        assert isinstance(verdict, Declined), verdict
        return verdict

    async def request(self, id: str) -> Request:
        found = await self.store.read(lambda books: books.requests([id]))
        return found[id]

    async def steps(self, id: str) -> list[str]:
        rows = await self.store.read(lambda books: books.journal(id))
        return [str(step.step) for row in rows for step in row.steps]

    async def events(self, party: str = "bright", kind: str = "") -> list[str]:
        found = await self.store.read(lambda books: books.feed(party, "", [kind] if kind else [], 1000))
        return [event.request or event.id for event in found]

    async def push(self) -> int:
        """Push webhooks that are due now; how many were tried."""
        posts = await self.store.write(self.journey.pushing._claim)
        if posts:
            await self.journey.pushing._push(posts)
        return len(posts)


def device(id: str, device_class: DeviceClass) -> Device:
    return Device(
        id=id,
        service_point="SP-1",
        device_class=device_class,
        name=id,
        protocol="modbus",
        model="m",
        address="a",
    )


READ: dict[str, object] = {"device": "TH-1", "operation": "read"}
LIMIT: dict[str, object] = {"device": "EV-1", "operation": "limit", "body": {"watts": 2000}}
