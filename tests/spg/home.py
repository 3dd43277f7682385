"""A home for tests: devices in memory that write down what they do, a lossy link, the CCS's and the consent
authority's side of it, and a gateway made of the real parts."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.kit.ids import uuid7
from doorward.spg.app import GatewayApp
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.ports import Acted, Books, DeviceFault, DeviceNotice, HanCommand, Reading, Security
from doorward.spg.rules.facts import HOUR_US, US, JournalRow, Keys, Policy
from doorward.wire.codec import decode_up, encode_down
from doorward.wire.grants import Bounds, DevicePermit, GrantDocument, LeaseDocument, SignedCommand
from doorward.wire.messages import (
    Ack,
    Command,
    Down,
    GrantPush,
    Lease,
    Provision,
    ProvisionedDevice,
    Receipt,
    Result,
    Time,
    Up,
    Withdraw,
)
from doorward.wire.reasons import Reason
from doorward.wire.signatures import public_jwk, sign
from doorward.wire.steps import Step
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, OperatingState, Operation, Scope
from tests.spg.virtual import Wall

R = TypeVar("R")

GATEWAY = "gw-1"
KEY = b"k" * 32
START_US = 1_780_000_000 * US
SP = "sp-1"
PARTY = "acme"
OTHER = "rival"

AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
PARTY_KEY = Ed25519PrivateKey.from_private_bytes(b"p" * 32)

DEVICES = {
    "pump": DeviceClass.POOL_PUMP,
    "relay": DeviceClass.RELAY,
    "heat": DeviceClass.HEAT_PUMP,
    "ev": DeviceClass.EV_CHARGER,
    "tank": DeviceClass.WATER_HEATER,
}


class Thing:
    """A device in memory: what it holds, and how it misbehaves."""

    def __init__(self, power_w: float) -> None:
        self.full_w = power_w
        self.settings: dict[str, object] = {"on": True, "limit": None, "celsius": 20.0, "shed": 0}
        self.overridden = False
        self.lies = False
        """Says yes, and does nothing."""
        self.silent = False
        self.hangs: asyncio.Event | None = None
        """The next command does not come back until this is set."""
        self.nonsense = False
        self.reads = 0

    @property
    def power_w(self) -> float:
        if not self.settings["on"] or self.settings["shed"]:
            return 0.0
        limit = self.settings["limit"]
        return self.full_w if limit is None else min(self.full_w, float(limit))  # type: ignore[arg-type]


class MemoryAdapter:
    """A :class:`~doorward.spg.ports.HanAdapter` whose devices outlive the gateway's process."""

    protocol = "memory"
    security = Security(authenticates_device=True, encrypts=True, note="in memory, for tests")

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.things = {name: Thing(1000.0) for name in [*DEVICES, "pump2"]}
        self.acts: list[tuple[str, str, str, dict[str, object]]] = []
        """(command id, device, operation, body): the devices' own file."""
        self.dead = False
        """The gateway's process was killed: nothing more reaches the devices."""
        self.calls = 0
        self.at_once: dict[str, int] = {}
        self._now_us = now_us
        self._notices: Callable[[DeviceNotice], Awaitable[None]] | None = None

    async def start(self, notices: Callable[[DeviceNotice], Awaitable[None]]) -> None:
        self._notices = notices

    async def stop(self) -> None:
        self._notices = None

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        pass

    async def say(self, device: str, kind: str, **data: object) -> None:
        assert self._notices is not None
        await self._notices(DeviceNotice(device=device, kind=kind, at_us=self._now_us(), data=data))

    async def _on_the_wire(self, device: str) -> Thing:
        """One call for one device at a time: the port's promise."""
        assert not self.at_once.get(device), f"two calls for {device} at once"
        self.at_once[device] = 1
        try:
            self.calls += 1
            await asyncio.sleep(0.05)
            if self.dead:
                await asyncio.Event().wait()
            thing = self.things[device]
            if thing.silent:
                raise DeviceFault(Reason.DEVICE_UNAVAILABLE, "no route to the device")
            return thing
        finally:
            del self.at_once[device]

    def _reading(self, device: str, thing: Thing) -> Reading:
        power = float("nan") if thing.nonsense else thing.power_w
        state = OperatingState.RUNNING_NORMAL if thing.power_w else OperatingState.IDLE_NORMAL
        return Reading(
            device=device,
            at_us=self._now_us(),
            state=state,
            power_w=power,
            energy_wh=5.0,
            values={"on": bool(thing.settings["on"]), "celsius": float(thing.settings["celsius"])},  # type: ignore[arg-type]
            overridden=thing.overridden,
        )

    async def read(self, device: ProvisionedDevice) -> Reading:
        thing = await self._on_the_wire(device.id)
        thing.reads += 1
        return self._reading(device.id, thing)

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        return dict((await self._on_the_wire(device.id)).settings)

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        thing = await self._on_the_wire(device.id)
        self.acts.append((command.id, device.id, command.operation.value, command.body))
        if not thing.lies:
            thing.settings |= self._target(command)
        if thing.hangs is not None:
            hanging, thing.hangs = thing.hangs, None
            await hanging.wait()
        if self.dead:
            await asyncio.Event().wait()
        return Acted(
            followed=not thing.lies and not thing.overridden, reading=self._reading(device.id, thing)
        )

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        thing = await self._on_the_wire(device.id)
        return all(thing.settings[name] == value for name, value in self._target(command).items())

    @staticmethod
    def _target(command: HanCommand) -> dict[str, object]:
        baseline = command.baseline or {}
        match command.operation:
            case Operation.TURN_OFF:
                return {"on": False}
            case Operation.TURN_ON:
                return {"on": True}
            case Operation.LIMIT:
                return {"limit": command.body["watts"]}
            case Operation.SETPOINT:
                return {"celsius": command.body["celsius"]}
            case Operation.OFFSET:
                return {"celsius": float(baseline["celsius"]) + float(command.body["celsius"])}  # type: ignore[arg-type]
            case Operation.SHED:
                return {"shed": command.body["level"]}
            case Operation.RELEASE:
                return baseline
        raise DeviceFault(Reason.DEVICE_REFUSED, command.operation.value)

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        return CLASS_OPERATIONS[device.device_class]

    async def discover(self) -> list[ProvisionedDevice]:
        return []

    def acts_of(self, id: str) -> list[str]:
        return [operation for act, _, operation, _ in self.acts if act == id]


class Killed(BaseException):
    """Never caught by the gateway: what a killed process would not see either."""


COMMIT_S = 0.06
"""A commit takes longer than a device's answer, so that whoever does not wait for it is found out."""


class MortalStore:
    """The real store; after so many commits the process is dead, just before or just after the commit."""

    def __init__(self, path: Path, home: "Home", die_at: int = 0, *, after: bool = False) -> None:
        self.inner = SqliteStore(path, inline=True, synchronous="OFF")
        self.home = home
        self.commits = 0
        self._die_at = die_at
        self._after = after

    async def write(self, step: Callable[[Books], R]) -> R:
        await self._alive()
        await asyncio.sleep(COMMIT_S)
        self.commits += 1
        if self.commits == self._die_at:
            if self._after:
                await self.inner.write(step)
            self.home.kill()
        await self._alive()
        return await self.inner.write(step)

    async def read(self, step: Callable[[Books], R]) -> R:
        await self._alive()
        return await self.inner.read(step)

    async def _alive(self) -> None:
        if self.home.adapter.dead:
            await asyncio.Event().wait()

    async def close(self) -> None:
        await self.inner.close()


class FakeLink:
    """An uplink in memory. ``up`` takes frames from the gateway; the CCS's side is :class:`Home`."""

    def __init__(self, home: "Home") -> None:
        self._home = home
        self.is_up = True
        self.received: Callable[[bytes], Awaitable[None]] | None = None
        self.connected: Callable[[], Awaitable[None]] | None = None
        self.lost: Callable[[], Awaitable[None]] | None = None

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        self.received, self.connected, self.lost = received, connected, lost
        if self.is_up:
            await connected()
        await asyncio.Event().wait()

    async def send(self, frame: bytes) -> None:
        if not self.is_up:
            raise ConnectionError("no link")
        if not self._home.adapter.dead:
            self._home.heard(frame)

    async def cut(self) -> None:
        self.is_up = False
        assert self.lost is not None
        await self.lost()

    async def mend(self) -> None:
        self.is_up = True
        assert self.connected is not None
        await self.connected()


class Home:
    """Everything around one gateway. ``acks`` says whether the CCS acknowledges what it hears."""

    def __init__(self, directory: Path, policy: Policy | None = None, seed: int = 1) -> None:
        self.path = directory / "gateway.sqlite"
        self.policy = policy or Policy(sample_us=0)
        self.wall = Wall(asyncio.get_running_loop(), START_US)
        """True time: the CCS's."""
        self.machine = Wall(asyncio.get_running_loop(), START_US)
        """What the gateway's own machine believes."""
        self.rng = random.Random(seed)
        self.adapter = MemoryAdapter(self.wall.now_us)
        self.acks = True
        self.heard_messages: list[Up] = []
        self.frames: list[list[Up]] = []
        self.counter = 0
        self.epoch = 5
        self.versions: dict[str, int] = {}

    # --- the gateway's process -----------------------------------------------------------------------

    async def start(self, die_at: int = 0, *, after: bool = False) -> "Home":
        """Start the gateway's process (again, on the same file)."""
        self.adapter.dead = False
        self.adapter.at_once.clear()
        self.store = MortalStore(self.path, self, die_at, after=after)
        self.link = FakeLink(self)
        self.app = GatewayApp(
            keys=Keys(gateway=GATEWAY, link=KEY, authority={"ca": public_jwk(AUTHORITY.public_key())}),
            policy=self.policy,
            clock=GatewayClock(self.machine),
            rng=self.rng,
            store=self.store,
            uplink=self.link,
            adapters={"memory": self.adapter},
            han_call_s_max=10.0,
        )
        starting = asyncio.ensure_future(self.app.start())
        await self.settle(until=starting.done)
        if starting.done():
            starting.result()
        await self.settle(0.2)
        return self

    def kill(self) -> None:
        """kill -9: from now on nothing of the process reaches the store, the link or a device."""
        self.adapter.dead = True

    async def restart(self) -> None:
        """Kill the process (if it lives) and start a new one on the same file."""
        self.kill()
        for task in [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
            task.cancel()
        await asyncio.sleep(0)
        await self.store.close()
        await self.start()

    async def settle(self, s: float = 3.0, until: Callable[[], bool] | None = None) -> None:
        """Let time pass: ``s`` seconds, or until something holds (at most so long)."""
        end_s = asyncio.get_running_loop().time() + s
        while asyncio.get_running_loop().time() < end_s and not (until and until()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def sleep(self, s: float) -> None:
        """Let ``s`` seconds pass."""
        await asyncio.sleep(s)

    # --- the CCS's side --------------------------------------------------------------------------------

    def heard(self, raw: bytes) -> None:
        messages = decode_up(raw, GATEWAY, KEY).messages
        self.frames.append(messages)
        self.heard_messages += messages
        seqs = [m.seq for m in messages if hasattr(m, "seq")]
        if self.acks and seqs:
            asyncio.get_running_loop().call_later(
                0.01, lambda: asyncio.ensure_future(self.tell(Ack(seqs=seqs)))
            )

    def frame(self, *messages: Down) -> bytes:
        self.counter += 1
        return encode_down(GATEWAY, self.epoch, self.counter, list(messages), KEY)

    async def tell(self, *messages: Down) -> None:
        """Send one frame down."""
        await self.deliver(self.frame(*messages))

    async def deliver(self, raw: bytes) -> None:
        if self.link.is_up and not self.adapter.dead and self.link.received is not None:
            asyncio.ensure_future(self.link.received(raw))  # noqa: RUF006 - the loop keeps it until it ends
            await asyncio.sleep(0)

    def time(self) -> Time:
        return Time(at_us=self.wall.now_us())

    def provision(self, version: int = 1, *, without: str = "", grants: list[str] | None = None) -> Provision:
        return Provision(
            version=version,
            service_points=[SP, "sp-2"],
            devices=[device(name) for name in DEVICES if name != without] + [device("pump2", SP2)],
            grants=["g-1", "g-2"] if grants is None else grants,
        )

    def document(
        self, grant: str = "g-1", party: str = PARTY, version: int = 1, **changes: Any
    ) -> GrantDocument:
        permits = [
            DevicePermit(device=name, device_class=kind, operations=sorted(CLASS_OPERATIONS[kind]))
            for name, kind in DEVICES.items()
        ]
        fields: dict[str, Any] = {
            "grant": grant,
            "version": version,
            "party": party,
            "service_point": SP,
            "purpose": "energy management",
            "devices": permits,
            "not_before_us": START_US - HOUR_US,
            "expires_us": START_US + 400 * 24 * HOUR_US,
            "issued_us": self.wall.now_us(),
            "service_point_limit": True,
            "party_keys": {"k1": public_jwk(PARTY_KEY.public_key())},
        }
        return GrantDocument(**(fields | changes))

    def push(
        self, document: GrantDocument, lease_s: float = 24 * 3600, key: Ed25519PrivateKey = AUTHORITY
    ) -> GrantPush:
        signed = sign(msgspec.json.encode(document), key, "ca", "grant")
        return GrantPush(
            grant=document.grant,
            version=document.version,
            document=signed,
            lease_until_us=self.wall.now_us() + int(lease_s * US),
        )

    def lease(self, grant: str = "g-1", version: int = 1, s: float = 24 * 3600) -> Lease:
        now_us = self.wall.now_us()
        lease = LeaseDocument(grant=grant, version=version, until_us=now_us + int(s * US), issued_us=now_us)
        return Lease(grant=grant, document=sign(msgspec.json.encode(lease), AUTHORITY, "ca", "lease"))

    async def greet(self, **changes: Any) -> None:
        """What the CCS tells a gateway that connects: time, devices, the grant of ``PARTY``."""
        await self.tell(self.time(), self.provision(), self.push(self.document(**changes)))
        await self.settle(0.3)

    def command(
        self, operation: Operation, device: str = "pump", body: object = None, **changes: Any
    ) -> Command:
        now_us = self.wall.now_us()
        fields: dict[str, Any] = {
            "id": uuid7(now_us, self.rng),
            "party": PARTY,
            "party_ref": f"ref-{self.rng.getrandbits(40)}",
            "service_point": SP,
            "scope": Scope.DEVICE,
            "device": device,
            "operation": operation,
            "grant": "g-1",
            "grant_version": 1,
            "charge_us": now_us,
            "act_before_us": now_us + 55 * US,
            "body": msgspec.Raw(msgspec.json.encode(body if body is not None else {})),
        }
        return Command(**(fields | changes))

    def signed(
        self, command: Command, key: Ed25519PrivateKey = PARTY_KEY, kid: str = "k1", **changes: Any
    ) -> Command:
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
            "issued_us": self.wall.now_us(),
            "expires_us": self.wall.now_us() + 900 * US,
            "grant_version": command.grant_version,
        }
        document = SignedCommand(**(fields | changes))
        return msgspec.structs.replace(
            command, signature=sign(msgspec.json.encode(document), key, kid, "command")
        )

    async def ask(
        self, operation: Operation, device: str = "pump", body: object = None, **changes: Any
    ) -> Result:
        """Send a command and wait for its result."""
        return await self.answer(self.command(operation, device, body, **changes))

    async def answer(self, command: Command, s: float = 60.0) -> Result:
        await self.tell(command)
        await self.settle(s, until=lambda: bool(self.results(command.id)))
        results = self.results(command.id)
        assert results, f"no result; heard {self.heard_messages}"
        return results[-1]

    def withdraw(self, grant: str = "g-1", version: int = 1) -> Withdraw:
        return Withdraw(grant=grant, version=version, at_us=self.wall.now_us())

    # --- what was heard --------------------------------------------------------------------------------

    def results(self, id: str) -> list[Result]:
        return [m for m in self.heard_messages if isinstance(m, Result) and m.id == id]

    def receipts(self, id: str) -> list[Receipt]:
        return [m for m in self.heard_messages if isinstance(m, Receipt) and m.id == id]

    def steps(self, id: str) -> list[Step]:
        return [receipt.step for receipt in self.receipts(id)]

    def of(self, kind: type[R]) -> list[R]:
        return [m for m in self.heard_messages if isinstance(m, kind)]

    async def journal(self) -> list[JournalRow]:
        rows = await self.store.inner.read(lambda books: books.journal(limit=100_000))  # type: ignore[attr-defined]
        return [row for _, row in rows]


SP2 = "sp-2"


def device(name: str, service_point: str = SP) -> ProvisionedDevice:
    kind = DEVICES.get(name, DeviceClass.POOL_PUMP)
    return ProvisionedDevice(
        id=name,
        service_point=service_point,
        device_class=kind,
        protocol="memory",
        model=f"memory_{kind.value}",
        address=f"memory://{name}",
        rated_w=1000.0,
    )


def permit(name: str, *operations: Operation, **bounds: Any) -> DevicePermit:
    return DevicePermit(
        device=name, device_class=DEVICES[name], operations=list(operations), bounds=Bounds(**bounds)
    )


def data_of(result: Result) -> Any:
    return msgspec.json.decode(result.data)
