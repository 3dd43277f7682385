"""The link through an MQTT 5 broker: each worker hears the partitions that it owns.

The broker is disposable. Its access rules guarantee that a gateway speaks under its own topic only; its
acknowledgements mean nothing; what it loses is said again, because receipts are in the frames.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gmqtt import Client, Subscription
from gmqtt.mqtt.handler import MQTTConnectError

from doorward.kit.backoff import FIRST_WAIT_S, STEADY_S, FullJitter, keep_up
from doorward.kit.mqtt import Session, Unacknowledged, quiet
from doorward.kit.tls import Credentials, client_context
from doorward.wire.codec import FRAME_BYTES_MAX
from doorward.wire.topics import ROOT, down, gateway_of, partition_filters

KEEPALIVE_S = 15
OPEN_WAIT_S_MAX = 10.0
CLOSE_WAIT_S_MAX = 2.0
UNACKNOWLEDGED_MAX = 2000
UNACKNOWLEDGED_BYTES_MAX = 16 * 1024 * 1024
STRANGERS_MAX = 10_000
"""Gateways that the broker has let in and that we do not know yet; others wait for their next connection."""
RECONNECT_WAIT_S_MAX = 5.0
"""Workers are few and make no stampede; while one is away from the broker, its gateways are away from us."""
FRAME_EXPIRY_S = 60
"""A frame that the broker could not hand over by then is thrown away: it will be said again."""
PACKET_BYTES_MAX = FRAME_BYTES_MAX + 1024

log = logging.getLogger(__name__)


class MqttLink:
    """The :class:`doorward.ccs.ports.Link` through a broker at ``mqtts://host:port``.

    ``worker`` is the name in our certificate (``ccs-…``) and our client id. ``enrolled(gateway)`` says
    whether a gateway may be spoken with now. ``send`` says no while more than ``unacknowledged_max``
    publishes are with the broker, or this many bytes.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        worker: str,
        enrolled: Callable[[str], bool],
        rng: random.Random,
        *,
        keepalive_s: int = KEEPALIVE_S,
        unacknowledged_max: int = UNACKNOWLEDGED_MAX,
        unacknowledged_bytes_max: int = UNACKNOWLEDGED_BYTES_MAX,
        first_wait_s: float = FIRST_WAIT_S,
        wait_s_max: float = RECONNECT_WAIT_S_MAX,
        steady_s: float = STEADY_S,
    ) -> None:
        self._host, self._port = broker_address(url)
        self._credentials = credentials
        self._worker = worker
        self._enrolled = enrolled
        self._keepalive_s = keepalive_s
        self._unacknowledged_max = unacknowledged_max
        self._unacknowledged_bytes_max = unacknowledged_bytes_max
        self._backoff = FullJitter(rng, first_wait_s=first_wait_s, wait_s_max=wait_s_max)
        self._steady_s = steady_s
        self._partitions: frozenset[int] = frozenset()
        self._connected: set[str] = set()
        self._strangers: set[str] = set()
        self._unacknowledged = Unacknowledged()
        self._client: Client | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(
        self,
        received: Callable[[str, bytes], None],
        presence: Callable[[str, bool], None],
    ) -> None:
        """Begin to connect, and keep at it; returns at once, whether there is a broker or not."""
        self._received = received
        self._presence = presence
        self._task = asyncio.get_running_loop().create_task(
            keep_up(self._connect, self._backoff, log, steady_s=self._steady_s)
        )

    def connected(self) -> Collection[str]:
        """Gateways of our partitions that the broker says are connected."""
        return self._connected

    def send(self, gateway: str, frame: bytes) -> bool:
        """Publish a frame; ``False`` without broker or gateway, or while too much is unacknowledged."""
        waiting = self._unacknowledged
        if (
            self._client is None
            or gateway not in self._connected
            or waiting.count >= self._unacknowledged_max
            or waiting.size_bytes >= self._unacknowledged_bytes_max
            or not self._client.is_connected
        ):
            return False
        try:
            self._client.publish(down(gateway), frame, qos=1, message_expiry_interval=FRAME_EXPIRY_S)
        except OverflowError:  # the broker takes fewer at once than we would
            return False
        return True

    async def own(self, partitions: Collection[int]) -> None:
        """Hear these partitions from now on; gateways of the others are gone for us."""
        wanted = frozenset(partitions)
        gained, given_up = wanted - self._partitions, self._partitions - wanted
        self._partitions = wanted
        for gateway in [g for g in self._connected if _partition(down(g)) not in wanted]:
            self._leave(gateway)
        self._strangers = {each for each in self._strangers if _partition(down(each)) in wanted}
        if self._session is None or self._client is None or not self._client.is_connected:
            return  # all of them are subscribed to when the broker is there
        if given_up:
            self._client.unsubscribe([s.topic for s in _subscriptions(given_up)])
        try:
            await self._session.subscribe(_subscriptions(gained), wait_s_max=OPEN_WAIT_S_MAX)
        except OSError as error:
            log.warning("link: partitions are not heard before the broker is connected anew: %s", error)

    def learned(self) -> None:
        """More gateways are enrolled now (by another worker): those that stood at the door come in."""
        for gateway in [each for each in self._strangers if self._enrolled(each)]:
            self._heard(gateway, connected=True)

    async def drop(self, gateway: str) -> None:
        """Hear the gateway no more until it connects anew; the broker keeps it out by the revocation list."""
        self._leave(gateway)

    async def stop(self) -> None:
        """Leave the broker; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _connect(self) -> None:
        """One connection to the broker, from its beginning to its end."""
        client = self._new_client()
        session = Session(client)
        tls = client_context(self._credentials.ca, self._credentials)
        try:
            await session.open(
                self._host, self._port, tls, keepalive_s=self._keepalive_s, wait_s_max=OPEN_WAIT_S_MAX
            )
            self._client, self._session = client, session
            await session.subscribe(_subscriptions(self._partitions), wait_s_max=OPEN_WAIT_S_MAX)
            log.info("link: broker %s:%s connected", self._host, self._port)
            await session.ended(poll_s=self._keepalive_s / 2)
        except MQTTConnectError as error:
            raise ConnectionError(f"the broker refuses us: {error}") from error
        finally:
            self._client = self._session = None
            for gateway in list(self._connected):
                self._leave(gateway)
            self._strangers.clear()
            await session.close(wait_s_max=CLOSE_WAIT_S_MAX)

    def _new_client(self) -> Client:
        self._unacknowledged = Unacknowledged()
        client = Client(
            self._worker,
            clean_session=True,
            persistent_storage=self._unacknowledged,
            logger=quiet(log),
            session_expiry_interval=0,
            maximum_packet_size=PACKET_BYTES_MAX,
        )
        client.on_message = self._on_message
        return client

    def _on_message(
        self, _client: Client, topic: str, payload: bytes, _qos: int, _properties: dict[str, Any]
    ) -> int:
        gateway = gateway_of(topic)
        if gateway is not None and _partition(topic) in self._partitions:
            try:
                if topic.endswith("/up"):
                    self._frame(gateway, payload)
                elif topic.endswith("/presence"):
                    self._heard(gateway, connected=payload == b"on")
            except Exception:  # the link is lossy: one frame is lost, the gateway says it again
                log.exception("link: a message of gateway %s was not taken", gateway)
        return 0

    def _frame(self, gateway: str, frame: bytes) -> None:
        if gateway in self._connected:
            self._received(gateway, frame)

    def _heard(self, gateway: str, *, connected: bool) -> None:
        self._leave(gateway)  # also before "on": it may be back before its old connection was seen to end
        self._strangers.discard(gateway)
        if connected and self._enrolled(gateway):
            self._connected.add(gateway)
            self._presence(gateway, True)
        elif connected and len(self._strangers) < STRANGERS_MAX:
            self._strangers.add(gateway)

    def _leave(self, gateway: str) -> None:
        if gateway in self._connected:
            self._connected.discard(gateway)
            self._presence(gateway, False)


def broker_address(url: str) -> tuple[str, int]:
    """Return host and port of ``mqtts://host[:port]``; raise ``ValueError`` for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "mqtts" or not parts.hostname:
        raise ValueError(f"{url!r} is not a broker's address; write mqtts://host:8883")
    return parts.hostname, parts.port or 8883


def _partition(topic: str) -> int:
    return int(topic.split("/")[2])


def _subscriptions(partitions: Iterable[int]) -> list[Subscription]:
    """Presence before frames: who is there must be known before what it says."""
    return [
        Subscription(topic, qos=1)
        for partition in sorted(partitions)
        for topic in reversed(partition_filters(partition))
    ]


# --- the broker's side --------------------------------------------------------------------------------


def mosquitto_config(
    server: Credentials,
    ca: Path,
    acl: Path,
    *,
    revoked: Path | None = None,
    queued_messages_max: int = 20_000,
    queued_bytes_max: int = 64 * 1024 * 1024,
    inflight_max: int = 4096,
) -> str:
    """Return what follows a ``listener`` line in the configuration of Mosquitto 2.0.

    Certificates are required and their common name is the user's and the client's name, so that nobody
    can take another's place. ``acl`` holds :func:`mosquitto_acl`; ``revoked`` is a CRL. Nothing is kept
    on disk: the broker may be killed and wiped at any time.
    """
    lines = [
        "allow_anonymous false",
        f"cafile {ca}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        *([f"crlfile {revoked}"] if revoked is not None else []),
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"acl_file {acl}",
        "persistence false",
        "set_tcp_nodelay true",
        f"max_packet_size {PACKET_BYTES_MAX}",
        f"max_inflight_messages {inflight_max}",
        f"max_queued_messages {queued_messages_max}",
        f"max_queued_bytes {queued_bytes_max}",
        "max_keepalive 120",
        "log_type error",
        "log_type warning",
    ]
    return "\n".join(lines) + "\n"


def mosquitto_acl(workers: Sequence[str]) -> str:
    """Return the access rules: a gateway speaks and hears as itself only, the named workers as the CCS.

    Rules for users must come before patterns; patterns hold for everybody (a worker gains nothing by
    them, because no gateway may be called ``ccs-…``).
    """
    lines = []
    for worker in workers:
        lines += [
            f"user {worker}",
            f"topic read {ROOT}/+/+/up",
            f"topic read {ROOT}/+/+/presence",
            f"topic write {ROOT}/+/+/down",
            "",
        ]
    lines += [
        f"pattern write {ROOT}/+/%u/up",
        f"pattern write {ROOT}/+/%u/presence",
        f"pattern read {ROOT}/+/%u/down",
    ]
    return "\n".join(lines) + "\n"
