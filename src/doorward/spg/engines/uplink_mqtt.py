"""The link through an MQTT 5 broker, seen from the gateway: it hears ``down`` and speaks on ``up``."""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from gmqtt import Client, Message, Subscription
from gmqtt.mqtt.handler import MQTTConnectError

from doorward.kit.backoff import FIRST_WAIT_S, STEADY_S, WAIT_S_MAX, FullJitter, keep_up
from doorward.kit.mqtt import Session, Unacknowledged, quiet
from doorward.kit.tls import Credentials, client_context, clock_is_behind
from doorward.wire import topics
from doorward.wire.codec import FRAME_BYTES_MAX

KEEPALIVE_S = 15
OPEN_WAIT_S_MAX = 10.0
CLOSE_WAIT_S_MAX = 2.0
SEND_WAIT_S_MAX = 30.0
UNACKNOWLEDGED_MAX = 64
RECEIVED_FRAMES_MAX = 64
FRAME_EXPIRY_S = 60
PACKET_BYTES_MAX = FRAME_BYTES_MAX + 1024
DISCONNECT_WITH_WILL = 4
"""MQTT 5 reason code: leave, and let the broker say that we are off."""

log = logging.getLogger(__name__)


class MqttUplink:
    """The :class:`doorward.spg.ports.Uplink` through brokers at ``mqtts://host:port``, tried in turn.

    ``gateway`` is the name in our certificate; the broker lets us use no other.
    """

    def __init__(
        self,
        gateway: str,
        urls: Sequence[str],
        credentials: Credentials,
        rng: random.Random,
        *,
        keepalive_s: int = KEEPALIVE_S,
        first_wait_s: float = FIRST_WAIT_S,
        wait_s_max: float = WAIT_S_MAX,
        steady_s: float = STEADY_S,
    ) -> None:
        self._gateway = gateway
        self._urls = cycle(urls)
        self._credentials = credentials
        self._keepalive_s = keepalive_s
        self._backoff = FullJitter(rng, first_wait_s=first_wait_s, wait_s_max=wait_s_max)
        self._steady_s = steady_s
        self._unacknowledged = Unacknowledged()
        self._client: Client | None = None
        self._knows_time = True

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """Keep the link up; returns only by cancellation."""

        async def once() -> None:
            frames: asyncio.Queue[bytes] = asyncio.Queue(RECEIVED_FRAMES_MAX)
            client = self._new_client(frames)
            session = Session(client)
            try:
                await self._open(session, client)
                self._client = client
                await self._serve(session, frames, connected, received)
            finally:
                self._client = None
                self._unacknowledged.clear()
                await session.close(reason_code=DISCONNECT_WITH_WILL, wait_s_max=CLOSE_WAIT_S_MAX)
            await lost()

        await keep_up(once, self._backoff, log, steady_s=self._steady_s)

    async def send(self, frame: bytes) -> None:
        """Publish a frame; raise ``ConnectionError`` when there is no link, or it takes nothing any more."""
        try:
            async with asyncio.timeout(SEND_WAIT_S_MAX):
                while self._client is not None and self._unacknowledged.count >= UNACKNOWLEDGED_MAX:
                    await self._unacknowledged.wait_fewer()
        except TimeoutError as error:
            raise ConnectionError("the broker acknowledges nothing any more") from error
        if self._client is None or not self._client.is_connected:
            raise ConnectionError("no link to the CCS")
        try:
            self._client.publish(
                topics.up(self._gateway), frame, qos=1, message_expiry_interval=FRAME_EXPIRY_S
            )
        except OverflowError as error:
            raise ConnectionError("the broker takes no more for now") from error

    async def reconnect(self) -> None:
        """End the connection; the next one shows the certificate that is in our files then."""
        if self._client is not None:
            await self._client.disconnect(reason_code=DISCONNECT_WITH_WILL)

    def _new_client(self, frames: "asyncio.Queue[bytes]") -> Client:
        self._unacknowledged = Unacknowledged()
        client = Client(
            self._gateway,
            clean_session=True,
            will_message=Message(topics.presence(self._gateway), b"off", qos=1, retain=True),
            persistent_storage=self._unacknowledged,
            logger=quiet(log),
            session_expiry_interval=0,
            maximum_packet_size=PACKET_BYTES_MAX,
        )

        def on_message(_client: Client, _topic: str, payload: bytes, _qos: int, _rest: dict[str, Any]) -> int:
            try:
                frames.put_nowait(payload)
            except asyncio.QueueFull:
                log.warning("link: a frame from the CCS was dropped, %s are waiting", frames.qsize())
            return 0

        client.on_message = on_message
        return client

    async def _open(self, session: Session, client: Client) -> None:
        """Connect, listen, and only then say that we are there."""
        address = urlsplit(next(self._urls))
        tls = client_context(self._credentials.ca, self._credentials, knows_time=self._knows_time)
        try:
            await session.open(
                address.hostname or "",
                address.port or 8883,
                tls,
                keepalive_s=self._keepalive_s,
                wait_s_max=OPEN_WAIT_S_MAX,
            )
        except ssl.SSLCertVerificationError as error:
            self._knows_time = self._knows_time and not clock_is_behind(error)
            raise
        except MQTTConnectError as error:
            raise ConnectionError(f"the broker refuses us: {error}") from error
        listening = [Subscription(topics.down(self._gateway), qos=1)]
        await session.subscribe(listening, wait_s_max=OPEN_WAIT_S_MAX)
        client.publish(topics.presence(self._gateway), b"on", qos=1, retain=True)

    async def _serve(
        self,
        session: Session,
        frames: "asyncio.Queue[bytes]",
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
    ) -> None:
        handing = None
        try:
            await connected()
            handing = asyncio.get_running_loop().create_task(_hand_over(received, frames))
            await session.ended(poll_s=self._keepalive_s / 2)
        except OSError as error:
            log.info("link: %s", error)
        except Exception:
            log.exception("link session failed")
        finally:
            if handing is not None:
                handing.cancel()


async def _hand_over(received: Callable[[bytes], Awaitable[None]], frames: "asyncio.Queue[bytes]") -> None:
    """Give frames to the gateway in order; what cannot be taken is lost, and the link goes on."""
    while True:
        frame = await frames.get()
        try:
            await received(frame)
        except Exception:
            log.exception("link: a frame from the CCS was not taken")
