"""The direct link, seen from the gateway: WebSocket over TLS 1.3, both sides with a certificate."""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from doorward.kit.backoff import FIRST_WAIT_S, STEADY_S, WAIT_S_MAX, FullJitter, keep_up
from doorward.kit.tls import Credentials, client_context, clock_is_behind
from doorward.wire.codec import FRAME_BYTES_MAX

PING_S = 20.0
PING_WAIT_S_MAX = 20.0
OPEN_WAIT_S_MAX = 10.0
CLOSE_WAIT_S_MAX = 2.0
SEND_WAIT_S_MAX = 30.0
RECEIVED_FRAMES_MAX = 64

log = logging.getLogger(__name__)


class WebSocketUplink:
    """The :class:`doorward.spg.ports.Uplink` to ``wss://host:port`` addresses, tried in turn."""

    def __init__(
        self,
        urls: Sequence[str],
        credentials: Credentials,
        rng: random.Random,
        *,
        ping_s: float = PING_S,
        ping_wait_s_max: float = PING_WAIT_S_MAX,
        first_wait_s: float = FIRST_WAIT_S,
        wait_s_max: float = WAIT_S_MAX,
        steady_s: float = STEADY_S,
    ) -> None:
        self._urls = cycle(urls)
        self._credentials = credentials
        self._ping_s = ping_s
        self._ping_wait_s_max = ping_wait_s_max
        self._backoff = FullJitter(rng, first_wait_s=first_wait_s, wait_s_max=wait_s_max)
        self._steady_s = steady_s
        self._connection: ClientConnection | None = None
        self._knows_time = True

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """Keep the link up; returns only by cancellation."""

        async def session() -> None:
            connection = await self._connect()
            self._connection = connection
            try:
                await connected()
                async for frame in connection:
                    await _hand_over(received, frame)
            except (ConnectionClosed, OSError) as closed:
                log.info("link: %s", closed)
            except Exception:
                log.exception("link session failed")
            finally:
                self._connection = None
                await connection.close()
            await lost()

        await keep_up(session, self._backoff, log, steady_s=self._steady_s)

    async def send(self, frame: bytes) -> None:
        """Send a frame; raise ``ConnectionError`` when there is no link, or it takes nothing any more."""
        if self._connection is None:
            raise ConnectionError("no link to the CCS")
        try:
            async with asyncio.timeout(SEND_WAIT_S_MAX):
                await self._connection.send(frame)
        except (ConnectionClosed, TimeoutError) as error:
            raise ConnectionError(f"the link broke: {error}") from error

    async def reconnect(self) -> None:
        """End the connection; the next one shows the certificate that is in our files then."""
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> ClientConnection:
        try:
            return await connect(
                next(self._urls),
                ssl=client_context(self._credentials.ca, self._credentials, knows_time=self._knows_time),
                compression=None,
                user_agent_header=None,
                proxy=None,
                open_timeout=OPEN_WAIT_S_MAX,
                ping_interval=self._ping_s,
                ping_timeout=self._ping_wait_s_max,
                close_timeout=CLOSE_WAIT_S_MAX,
                max_size=FRAME_BYTES_MAX,
                max_queue=RECEIVED_FRAMES_MAX,
                logger=log,
            )
        except ssl.SSLCertVerificationError as error:
            self._knows_time = self._knows_time and not clock_is_behind(error)
            raise
        except WebSocketException as error:
            raise ConnectionError(f"the CCS does not take the connection: {error}") from error


async def _hand_over(received: Callable[[bytes], Awaitable[None]], frame: str | bytes) -> None:
    """Give a frame to the gateway; what cannot be taken is lost, and the link goes on."""
    try:
        if isinstance(frame, str):
            raise ValueError("frames are binary")
        await received(frame)
    except Exception:
        log.exception("link: a frame from the CCS was not taken")
