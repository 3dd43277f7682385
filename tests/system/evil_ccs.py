"""A CCS in wrong hands: our own code, with every key, every book and every message class of the real one.

What it does not have is what the real CCS never had: the third party's key, the consent authority's, and the
utility-operations key.
"""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.keys import load_keys
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.kit.ids import uuid7
from doorward.simulate.local_utility import LocalUtility
from doorward.wire.codec import decode_up, encode_down, gateway_key
from doorward.wire.grants import GrantDocument, LeaseDocument, SignedCommand, TrustDocument, binding
from doorward.wire.messages import (
    Ack,
    Attempt,
    Command,
    Down,
    GrantPush,
    Known,
    Lease,
    Provision,
    ProvisionedDevice,
    Reconcile,
    Result,
    Time,
    Trust,
    Up,
)
from doorward.wire.signatures import b64url, payload_of, public_jwk, sign
from doorward.wire.vocabulary import DeviceClass, Operation, Scope

US = 1_000_000
PER_FRAME = 50
WAIT_S_MAX = 60.0
EVIL_KEY = Ed25519PrivateKey.from_private_bytes(b"e" * 32)
BODIES: dict[Operation, object] = {
    Operation.TURN_ON: {},
    Operation.TURN_OFF: {},
    Operation.LIMIT: {"watts": 100},
    Operation.DUTY_CYCLE: {"percent": 10},
}


class Loot:
    """What is found in the CCS's books: grants with their leases, devices, and what a third party signed before."""

    def __init__(self, books: Path, gateway: str) -> None:
        connection = sqlite3.connect(books)
        connection.row_factory = sqlite3.Row
        [row] = connection.execute("SELECT * FROM gateway WHERE id = ?", (gateway,))
        self.generation = int(row["key_generation"])
        self.version = int(row["desired_version"])
        self.grants = [
            dict(each) for each in connection.execute("SELECT * FROM \"grant\" WHERE state = 'live'")
        ]
        self.devices = [dict(each) for each in connection.execute("SELECT * FROM device")]
        done = "SELECT * FROM request WHERE signature <> '' AND state = 'DONE'"
        self.signed = [dict(each) for each in connection.execute(done)]
        connection.close()

    def document(self, party: str) -> GrantDocument:
        """The permission of a company."""
        [grant] = [each for each in self.grants if each["party"] == party]
        return msgspec.json.decode(payload_of(grant["signed"]), type=GrantDocument)


class EvilCcs:
    """Speaks to one gateway as its CCS."""

    def __init__(self, utility: LocalUtility, gateway: str) -> None:
        place = utility.directory / "ccs"
        self.gateway = gateway
        self.loot = Loot(place / "ccs.sqlite", gateway)
        self._mac = gateway_key(
            load_keys(place / "keys", random.SystemRandom()).link, gateway, self.loot.generation
        )
        authority = CertificateAuthority(place / "authority", self.now_us)
        credentials = authority.server("link", ["localhost", "127.0.0.1"])
        self.link = WebSocketLink("127.0.0.1", utility.ports.link, credentials, lambda _id, _print: True)
        self._epoch = int(time.time())
        self._counter = 0
        self._turn = asyncio.Lock()
        self.heard: list[Up] = []
        self._sent: set[str] = set()
        self._acks: set[asyncio.Task[None]] = set()

    @staticmethod
    def now_us() -> int:
        return int(time.time() * US)

    @asynccontextmanager
    async def in_control(self) -> AsyncIterator["EvilCcs"]:
        """Listen where the CCS did, until the gateway has come."""
        await self.link.start(self._received, lambda _gateway, _connected: None)
        try:
            await self.until(lambda: self.gateway in self.link.connected())
            await self.send(Time(at_us=self.now_us()))
            yield self
        finally:
            await self.link.stop()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for something, within a generous bound."""
        async with asyncio.timeout(WAIT_S_MAX):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def _received(self, gateway: str, raw: bytes) -> None:
        messages = decode_up(raw, gateway, self._mac).messages
        self.heard += messages
        seqs = [message.seq for message in messages if hasattr(message, "seq") and message.seq]
        if seqs:
            task = asyncio.get_running_loop().create_task(self.send(Ack(seqs=seqs)))
            self._acks.add(task)
            task.add_done_callback(self._acks.discard)

    async def send(self, *messages: Down) -> None:
        """Send one frame, with a MAC that is right and in its turn; waits while the gateway is behind."""
        async with self._turn, asyncio.timeout(WAIT_S_MAX):
            self._counter += 1
            self._sent |= {message.id for message in messages if isinstance(message, Command)}
            frame = encode_down(self.gateway, self._epoch, self._counter, list(messages), self._mac)
            while not self.link.send(self.gateway, frame):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def caught_up(self) -> None:
        """Wait until the gateway has taken everything: it answers what it is asked last."""
        id = uuid7(self.now_us(), random.SystemRandom())
        await self.send(Reconcile(ids=[id]))
        await self.until(lambda: any(isinstance(each, Known) and id in each.unknown for each in self.heard))

    async def attack(self, commands: Iterator[Command], count: int) -> Counter[str]:
        """Send so many commands; return how many of each kind."""
        kinds: Counter[str] = Counter()
        batch: list[Command] = []
        for command in commands:
            kinds[command.cause] += 1
            batch.append(command)
            if len(batch) == PER_FRAME:
                await self.send(*batch)
                batch = []
            if kinds.total() == count:
                break
        await self.send(*batch)
        await self.caught_up()
        return kinds

    def results(self) -> dict[str, Result]:
        """What the gateway answered to what we sent, by id."""
        return {each.id: each for each in self.heard if isinstance(each, Result) and each.id in self._sent}

    def reports(self) -> list[Attempt]:
        """What the gateway reported; it repeats a report until it hears that we have it."""
        return list({each.seq: each for each in self.heard if isinstance(each, Attempt)}.values())

    def attempts(self) -> int:
        """How many attempts the gateway has reported."""
        return sum(each.count for each in self.reports())


class Forger:
    """Makes commands that nobody authorised, of every kind that we could think of."""

    def __init__(self, loot: Loot, party: str, utility: str, rng: random.Random) -> None:
        self._loot = loot
        self._rng = rng
        self._grant = loot.document(party)
        self._utility = loot.document(utility)
        self._kinds: list[Callable[[], Command]] = [
            self.unsigned,
            self.signed_by_nobody,
            self.signed_by_itself,
            self.another_algorithm,
            self.flipped,
            self.replayed,
            self.retargeted,
            self.other_operation,
            self.other_body,
            self.retimed,
            self.expired,
            self.before_the_store_began,
            self.stale_version,
            self.other_party,
            self.utility_class,
            self.as_the_utility,
            self.as_a_whole,
            self.lease_as_a_command,
        ]

    def __iter__(self) -> Iterator[Command]:
        while True:
            make = self._rng.choice(self._kinds)
            yield replace(make(), id=self.new_id(), cause=make.__name__)

    def new_id(self) -> str:
        """An id as the CCS makes them."""
        return uuid7(EvilCcs.now_us(), self._rng)

    # --- what is sent ------------------------------------------------------------------------------------

    def command(self, **changes: Any) -> Command:
        """A command that is right but for the missing signature."""
        now_us = EvilCcs.now_us()
        document: GrantDocument = changes.pop("document", self._grant)
        permit = self._rng.choice([each for each in document.devices if len(each.operations) > 1])
        operation = self._rng.choice([each for each in permit.operations if each in BODIES])
        fields: dict[str, Any] = {
            "id": "",
            "party": document.party,
            "party_ref": f"evil-{self._rng.getrandbits(64):x}",
            "service_point": document.service_point,
            "scope": Scope.DEVICE,
            "device": permit.device,
            "operation": operation,
            "grant": document.grant,
            "grant_version": document.version,
            "charge_us": now_us,
            "act_before_us": now_us + 60 * US,
            "until_us": now_us + 3600 * US,
            "body": msgspec.Raw(msgspec.json.encode(BODIES[operation])),
        }
        return Command(**(fields | changes))

    def signed(
        self, command: Command, key: Ed25519PrivateKey = EVIL_KEY, kid: str = "", **changes: Any
    ) -> Command:
        """The same with a signature of somebody."""
        now_us = EvilCcs.now_us()
        fields: dict[str, Any] = {
            "id": command.party_ref,
            "party": command.party,
            "service_point": command.service_point,
            "scope": command.scope,
            "device": command.device,
            "operation": command.operation,
            "body": command.body,
            "start_us": command.start_us,
            "until_us": command.until_us,
            "issued_us": now_us,
            "expires_us": now_us + 600 * US,
            "grant_version": command.grant_version,
        }
        said = SignedCommand(**(fields | changes))
        name = kid or next(iter(self._grant.party_keys))
        return replace(command, signature=sign(msgspec.json.encode(said), key, name, "command"))

    def recorded(self) -> Command:
        """What the third party really signed once, as it crossed the CCS."""
        row = self._rng.choice(self._loot.signed)
        now_us = EvilCcs.now_us()
        return Command(
            id="",
            party=row["party"],
            party_ref=row["key"],
            service_point=row["service_point"],
            scope=Scope(row["scope"]),
            device=row["device"],
            operation=Operation(row["operation"]),
            grant=row["grant"],
            grant_version=row["grant_version"],
            charge_us=now_us,
            act_before_us=now_us + 60 * US,
            start_us=row["start_us"],
            until_us=row["until_us"],
            body=msgspec.Raw(bytes(row["body"]) if isinstance(row["body"], bytes) else row["body"].encode()),
            signature=row["signature"],
        )

    # --- every kind --------------------------------------------------------------------------------------

    def unsigned(self) -> Command:
        return self.command()

    def signed_by_nobody(self) -> Command:
        parts = [b64url(self._rng.randbytes(self._rng.randrange(1, 200))) for _ in range(3)]
        return self.command(signature=".".join(parts))

    def signed_by_itself(self) -> Command:
        return self.signed(self.command())

    def another_algorithm(self) -> Command:
        command = self.signed(self.command())
        _, payload, mac = command.signature.split(".")
        kid = next(iter(self._grant.party_keys))
        head: dict[str, Any] = {
            "alg": self._rng.choice(["none", "HS256", "EdDSA", "ES256", "ed25519"]),
            "kid": kid,
            "typ": self._rng.choice(["command", "grant", "lease", "JWT"]),
        }
        if self._rng.random() < 0.5:
            head["jwk"] = public_jwk(EVIL_KEY.public_key())
        return replace(
            command, signature=f"{b64url(msgspec.json.encode(head))}.{payload}.{self._rng.choice([mac, ''])}"
        )

    def flipped(self) -> Command:
        command = self.recorded()
        at, text = self._rng.randrange(len(command.signature)), command.signature
        changed = chr(ord(text[at]) ^ (1 << self._rng.randrange(7)))
        return replace(
            command, party_ref=f"{command.party_ref}", signature=text[:at] + changed + text[at + 1 :]
        )

    def replayed(self) -> Command:
        return self.recorded()

    def retargeted(self) -> Command:
        others = [each.device for each in self._grant.devices]
        command = self.recorded()
        device = self._rng.choice([each for each in others if each != command.device])
        return self._fresh(replace(command, device=device))

    def other_operation(self) -> Command:
        command = self.recorded()
        operation = self._rng.choice([each for each in BODIES if each is not command.operation])
        return self._fresh(replace(command, operation=operation))

    def other_body(self) -> Command:
        return self._fresh(replace(self.recorded(), body=msgspec.Raw(b'{"watts":1}')))

    def retimed(self) -> Command:
        command = self.recorded()
        return self._fresh(
            replace(
                command,
                start_us=command.start_us + self._rng.choice([0, 600 * US]),
                until_us=command.until_us + self._rng.randrange(1, 10**12),
            )
        )

    def expired(self) -> Command:
        now_us = EvilCcs.now_us()
        return self.signed(self.command(), issued_us=now_us - 7200 * US, expires_us=now_us - 3600 * US)

    def before_the_store_began(self) -> Command:
        return self.signed(self.command(), issued_us=1, expires_us=2**60)

    def stale_version(self) -> Command:
        command = self.recorded()
        return self._fresh(replace(command, grant_version=max(0, command.grant_version - 1)))

    def other_party(self) -> Command:
        return self._fresh(replace(self.recorded(), party=self._utility.party, grant=self._utility.grant))

    def utility_class(self) -> Command:
        return replace(self._rng.choice([self.unsigned, self.replayed])(), klass=self._rng.randrange(10))

    def as_the_utility(self) -> Command:
        command = self.command(document=self._utility, klass=self._rng.randrange(2))
        return self._rng.choice([command, self.signed(command, kid="ops"), self.signed(command)])

    def as_a_whole(self) -> Command:
        whole = {"scope": Scope.SERVICE_POINT, "device": "", "operation": Operation.LIMIT}
        body = msgspec.Raw(b'{"watts":100}')
        return self._rng.choice(
            [self.command(**whole, body=body), self.signed(self.command(**whole, body=body))]
        )

    def lease_as_a_command(self) -> Command:
        grant = self._rng.choice(self._loot.grants)
        return self.command(signature=self._rng.choice([grant["signed"], grant["lease_signed"]]))

    def _fresh(self, command: Command) -> Command:
        return replace(
            command, party_ref=self._rng.choice([command.party_ref, f"evil-{self._rng.getrandbits(64):x}"])
        )


def other_state(loot: Loot, party: str) -> list[Down]:
    """Grants, leases, trust and a list of devices that a CCS in wrong hands would like its gateway to hold."""
    now_us = EvilCcs.now_us()
    document = loot.document(party)
    evil_keys = {"evil": public_jwk(EVIL_KEY.public_key())}
    wider = replace(
        document,
        version=document.version + 1,
        issued_us=now_us,
        signature_required=False,
        party_keys=evil_keys,
    )
    kid = "0" * 16

    def signed(each: Any, typ: str) -> str:
        return sign(msgspec.json.encode(each), EVIL_KEY, kid, typ)

    lease = LeaseDocument(
        grant=document.grant, version=document.version, until_us=now_us + 10**15, issued_us=now_us
    )
    trust = TrustDocument(
        version=99, issued_us=now_us, authority={kid: evil_keys["evil"]}, operations=evil_keys
    )
    return [
        Trust(document=signed(trust, "trust")),
        GrantPush(
            grant=wider.grant,
            version=wider.version,
            document=signed(wider, "grant"),
            lease_until_us=now_us + 10**15,
        ),
        Lease(grant=document.grant, document=signed(lease, "lease")),
    ]


def swapped(loot: Loot, gateway_version: int, service_point: str, grants: list[str]) -> Provision:
    """The list of devices, with every name pointed at the next one's equipment."""
    at_home = loot.devices
    places = [*at_home[1:], at_home[0]]
    devices = [
        ProvisionedDevice(
            id=each["id"],
            service_point=service_point,
            device_class=DeviceClass(place["device_class"]),
            protocol=place["protocol"],
            model=place["model"],
            address=place["address"],
            serial=place["serial"],
            rated_w=place["rated_w"],
        )
        for each, place in zip(at_home, places, strict=True)
    ]
    assert len({binding(d.protocol, d.model, d.address, d.serial) for d in devices}) == len(devices)
    return Provision(version=gateway_version, service_points=[service_point], devices=devices, grants=grants)
