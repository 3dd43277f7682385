"""What a test of links stands on: a CCS side that writes down what it hears, gateways, and what is between.

One :class:`Rig` per link. It knows how to misbehave in its own protocol; the tests do not know which it is.
"""

import asyncio
import os
import random
import signal
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from gmqtt import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from doorward.ccs.engines.authority import CertificateAuthority, Validity
from doorward.ccs.engines.link_mqtt import MqttLink, mosquitto_acl, mosquitto_config
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.ccs.ports import Link
from doorward.kit.mqtt import Session, Unacknowledged
from doorward.kit.tls import Credentials, client_context
from doorward.simulate.services import Mosquitto
from doorward.spg.engines.uplink_mqtt import MqttUplink
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.spg.ports import Uplink
from doorward.wire import topics
from doorward.wire.codec import FRAME_BYTES_MAX

WAIT_S_MAX = 20.0
HOST = "127.0.0.1"
WORKER = "ccs-1"
ROOM_BYTES = 1024 * 1024
ALWAYS_S = 600.0


def now_us() -> int:
    return int(time.time() * 1e6)


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once ``condition`` holds; fail after the bound."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


class Late(random.Random):
    """Dice that always draw the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Desk:
    """The CCS side: what the link told it."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []
        self.presences: list[tuple[str, bool]] = []

    def received(self, gateway: str, frame: bytes) -> None:
        if frame == b"break":
            raise RuntimeError("the desk cannot take this one")
        self.frames.append((gateway, frame))

    def presence(self, gateway: str, connected: bool) -> None:
        self.presences.append((gateway, connected))

    def heard(self, gateway: str) -> list[bytes]:
        return [frame for name, frame in self.frames if name == gateway]


class Home:
    """A gateway's side: an uplink that runs, and what came by it."""

    def __init__(self, name: str, uplink: Uplink) -> None:
        self.name = name
        self.uplink = uplink
        self.frames: list[bytes] = []
        self.connects = 0
        self.losses = 0
        self._task = asyncio.ensure_future(uplink.run(self._connected, self._received, self._lost))

    async def _connected(self) -> None:
        self.connects += 1

    async def _received(self, frame: bytes) -> None:
        if frame == b"break":
            raise RuntimeError("the gateway cannot take this one")
        self.frames.append(frame)

    async def _lost(self) -> None:
        self.losses += 1

    async def leave(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


class Pipe:
    """A wire between gateway and server that can be frozen (nothing passes, nobody is told) or cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._target)
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        await self._flows.wait()
        sink.close()

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Break all connections without a word, as a dead process or a pulled plug with a reset does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


class Rig(ABC):
    """A link under test with everything around it. ``accepted``: gateway → certificate fingerprint."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = CertificateAuthority(directory / "ca", now_us)
        self.desk = Desk()
        self.accepted: dict[str, str] = {}
        self.homes: list[Home] = []
        self.pipes: list[Pipe] = []
        self._pems: dict[str, str] = {}
        self.link: Link

    # certificates

    def certify(self, gateway: str, authority: CertificateAuthority | None = None) -> Credentials:
        """Sign a certificate for a gateway; it is the one that the CCS accepts from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
        pem, fingerprint = (authority or self.authority).sign_gateway(
            csr.public_bytes(Encoding.PEM).decode(), gateway
        )
        self.accepted[gateway] = fingerprint
        self._pems[gateway] = pem
        return self._keep(gateway, pem.encode(), key)

    def _keep(self, name: str, pem: bytes, key: ec.EllipticCurvePrivateKey) -> Credentials:
        place = self.directory / f"{name}-{len(list(self.directory.iterdir()))}"
        place.mkdir()
        (place / "pem").write_bytes(pem)
        (place / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Credentials(place / "pem", place / "key", self.authority.pem)

    def from_another_authority(self, gateway: str) -> Credentials:
        return self.certify(gateway, CertificateAuthority(self.directory / "other-ca", now_us))

    def expired(self, gateway: str) -> Credentials:
        long_ago = lambda: now_us() - 30 * 86_400_000_000  # noqa: E731 - the clock of a month ago
        return self.certify(
            gateway, CertificateAuthority(self.directory / "ca", long_ago, Validity(gateway_days=1))
        )

    def for_servers_only(self, gateway: str) -> Credentials:
        """A certificate of the right authority and name, but not for clients."""
        signer = load_pem_private_key((self.directory / "ca" / "ca.key").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        good = x509.load_pem_x509_certificate(self.certify(gateway).certificate.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)]))
            .issuer_name(good.issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(good.not_valid_before_utc)
            .not_valid_after(good.not_valid_after_utc)
        )
        for extension in good.extensions:
            if extension.oid == ExtensionOID.EXTENDED_KEY_USAGE:
                usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
                builder = builder.add_extension(usage, critical=False)
            elif extension.oid != ExtensionOID.SUBJECT_KEY_IDENTIFIER:
                builder = builder.add_extension(extension.value, extension.critical)
        certificate = builder.sign(signer, SHA256())
        self.accepted[gateway] = certificate.fingerprint(SHA256()).hex()
        return self._keep(gateway, certificate.public_bytes(Encoding.PEM), key)

    # gateways

    async def home(
        self,
        gateway: str,
        *,
        credentials: Credentials | None = None,
        port: int = 0,
        rng: random.Random | None = None,
        first_wait_s: float = 0.05,
    ) -> Home:
        """A gateway that has connected and that the CCS has seen."""
        seen = self.desk.presences.count((gateway, True))
        home = Home(
            gateway,
            self.uplink(
                gateway,
                credentials or self.certify(gateway),
                port or self.port,
                rng or random.Random(gateway),
                first_wait_s,
            ),
        )
        self.homes.append(home)
        await eventually(lambda: home.connects > 0)
        await eventually(lambda: self.desk.presences.count((gateway, True)) > seen)
        return home

    async def pipe(self) -> Pipe:
        pipe = Pipe(self.port)
        await pipe.open()
        self.pipes.append(pipe)
        return pipe

    async def close(self) -> None:
        for pipe in self.pipes:
            pipe.thaw()
        for home in self.homes:
            await home.leave()
        await self.link.stop()
        for pipe in self.pipes:
            await pipe.close()

    # what each link does in its own way

    port: int
    """Where gateways connect."""

    @abstractmethod
    async def start(self) -> None:
        """Start the server (if it is another one) and the link."""

    @abstractmethod
    def uplink(
        self, gateway: str, credentials: Credentials, port: int, rng: random.Random, first_wait_s: float
    ) -> Uplink:
        """An uplink that notices a dead wire within seconds."""

    @abstractmethod
    async def crash(self) -> None:
        """Kill what gateways are connected to, with everything that it knows."""

    @abstractmethod
    async def recover(self) -> None:
        """Start it again, on the same port and empty."""

    @abstractmethod
    async def revoke(self, gateway: str) -> None:
        """Withdraw the gateway's certificate."""

    @abstractmethod
    async def is_taken(self, credentials: Credentials | None) -> bool:
        """Whether a client with these credentials (or none) gets a session."""

    @abstractmethod
    async def speak_as(self, credentials: Credentials, other: str, frame: bytes) -> None:
        """Try to say ``frame`` as another gateway, by every means that the protocol has."""

    @abstractmethod
    async def shout(self, credentials: Credentials, gateway: str, frame: bytes) -> None:
        """Say a frame in a session of one's own, without the care that an uplink takes."""

    async def scribble(self, credentials: Credentials, data: bytes) -> None:
        """Write bytes that are no protocol at all into an authenticated TLS connection."""
        tls = client_context(credentials.ca, credentials)
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=tls)
        with suppress(OSError):
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(WAIT_S_MAX):
                while await reader.read(4096):
                    pass
        writer.transport.abort()


class WebSocketRig(Rig):
    async def start(self) -> None:
        self.port = 0
        await self.recover()

    def uplink(
        self, gateway: str, credentials: Credentials, port: int, rng: random.Random, first_wait_s: float
    ) -> Uplink:
        return WebSocketUplink(
            [f"wss://{HOST}:{port}"], credentials, rng,
            ping_s=0.3, ping_wait_s_max=0.5, first_wait_s=first_wait_s, wait_s_max=max(0.5, first_wait_s),
        )  # fmt: skip

    async def crash(self) -> None:
        await self.link.stop()

    async def recover(self) -> None:
        link = WebSocketLink(
            HOST, self.port, self.authority.server("link", [HOST, "localhost"]),
            lambda gateway, fingerprint: self.accepted.get(gateway) == fingerprint,
            ping_s=0.3, ping_wait_s_max=0.5, open_wait_s_max=1.0, close_wait_s_max=0.3,
            waiting_bytes_max=ROOM_BYTES,
        )  # fmt: skip
        await link.start(self.desk.received, self.desk.presence)
        self.link, self.port = link, link.port

    async def revoke(self, gateway: str) -> None:
        del self.accepted[gateway]

    async def is_taken(self, credentials: Credentials | None) -> bool:
        try:
            connection = await self.connect(credentials)
            await connection.close()
        except (WebSocketException, OSError):
            return False
        return True

    async def speak_as(self, credentials: Credentials, other: str, frame: bytes) -> None:
        headers = {"X-Gateway": other, "Authorization": f"Bearer {other}"}
        connection = await self.connect(credentials, f"/{other}?gateway={other}", headers)
        await connection.send(frame)
        await connection.close()

    async def shout(self, credentials: Credentials, gateway: str, frame: bytes) -> None:
        connection = await self.connect(credentials)
        with suppress(ConnectionClosed):
            await connection.send(frame)
            await connection.recv()
        await connection.close()

    async def connect(
        self, credentials: Credentials | None, path: str = "", headers: dict[str, str] | None = None
    ) -> ClientConnection:
        return await connect(
            f"wss://{HOST}:{self.port}{path}", ssl=client_context(self.authority.pem, credentials),
            additional_headers=headers, compression=None, proxy=None, max_size=None, close_timeout=1,
        )  # fmt: skip


class MqttRig(Rig):
    def __init__(self, directory: Path, start_mosquitto: Callable[[str], Mosquitto]) -> None:
        super().__init__(directory)
        self._start_mosquitto = start_mosquitto

    async def start(self) -> None:
        acl, self._crl = self.directory / "acl", self.directory / "crl.pem"
        acl.write_text(mosquitto_acl([WORKER, "ccs-2"]))
        self._crl.write_text(self.authority.revocation_list())
        server = self.authority.server("broker", [HOST, "localhost"])
        self._broker = self._start_mosquitto(
            mosquitto_config(server, self.authority.path, acl, revoked=self._crl)
        )
        self.port = self._broker.port
        self.link = MqttLink(
            f"mqtts://{HOST}:{self.port}", self.authority.worker(WORKER), WORKER,
            lambda gateway: gateway in self.accepted, random.Random(1),
            keepalive_s=1, unacknowledged_bytes_max=ROOM_BYTES, first_wait_s=0.05, wait_s_max=0.5,
        )  # fmt: skip
        await self.link.own(range(topics.PARTITIONS))
        await self.link.start(self.desk.received, self.desk.presence)

    def uplink(
        self, gateway: str, credentials: Credentials, port: int, rng: random.Random, first_wait_s: float
    ) -> Uplink:
        return MqttUplink(
            gateway, [f"mqtts://{HOST}:{port}"], credentials, rng,
            keepalive_s=1, first_wait_s=first_wait_s, wait_s_max=max(0.5, first_wait_s),
        )  # fmt: skip

    async def crash(self) -> None:
        self._broker.kill()

    async def recover(self) -> None:
        self._broker.start()

    async def revoke(self, gateway: str) -> None:
        del self.accepted[gateway]
        self.authority.revoke(self._pems[gateway])
        self._crl.write_text(self.authority.revocation_list())
        os.kill(self._broker.pid, signal.SIGHUP)

    async def is_taken(self, credentials: Credentials | None) -> bool:
        client = Client("anybody", persistent_storage=Unacknowledged())
        session = Session(client)
        try:
            await self._open(session, credentials)
        except OSError:
            return False
        finally:
            await session.close(wait_s_max=1)
        return True

    async def speak_as(self, credentials: Credentials, other: str, frame: bytes) -> None:
        client = Client(other, persistent_storage=Unacknowledged())
        session = Session(client)
        await self._open(session, credentials)
        client.publish(topics.up(other), frame, qos=1)
        client.publish(topics.presence(other), b"on", qos=1, retain=True)
        client.publish(topics.down(other), frame, qos=1)
        await session.close(wait_s_max=1)

    async def shout(self, credentials: Credentials, gateway: str, frame: bytes) -> None:
        client = Client(gateway, persistent_storage=Unacknowledged())
        session = Session(client)
        await self._open(session, credentials)
        client.publish(topics.presence(gateway), b"on", qos=1, retain=True)
        client.publish(topics.up(gateway), frame, qos=1)
        if len(frame) > FRAME_BYTES_MAX:
            await session.ended(poll_s=0.5)
        await session.close(wait_s_max=1)

    async def publish(self, credentials: Credentials, topic: str, payload: bytes) -> None:
        client = Client("anybody", persistent_storage=Unacknowledged())
        session = Session(client)
        await self._open(session, credentials)
        client.publish(topic, payload, qos=1)
        await session.close(wait_s_max=1)

    async def _open(self, session: Session, credentials: Credentials | None) -> None:
        tls: ssl.SSLContext = client_context(self.authority.pem, credentials)
        await session.open(HOST, self.port, tls, keepalive_s=10, wait_s_max=WAIT_S_MAX)
