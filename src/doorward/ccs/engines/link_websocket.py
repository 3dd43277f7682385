"""The direct link: gateways come by WebSocket over TLS 1.3, and their certificate says who they are.

A frame is one binary message. Sending writes to the transport at once and never waits: what a slow
gateway has not read is bounded in bytes, and beyond that ``send`` says no.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from hashlib import sha256
from http import HTTPStatus
from ssl import ALERT_DESCRIPTION_INTERNAL_ERROR, SSLContext, SSLObject

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from doorward.kit.tls import Credentials, server_context
from doorward.wire.codec import FRAME_BYTES_MAX

GATEWAY_URN = "urn:doorward:gateway:"
WAITING_BYTES_MAX = 256 * 1024
PING_S = 20.0
PING_WAIT_S_MAX = 20.0
OPEN_WAIT_S_MAX = 10.0
CLOSE_WAIT_S_MAX = 2.0
HANDSHAKES_PER_S_MAX = 500.0
SESSIONS_MAX = 50_000
RECEIVED_FRAMES_MAX = 16
REPLACED = 4001
"""Close code of a session whose gateway has connected anew."""

log = logging.getLogger(__name__)


class Allowance:
    """At most ``per_s`` a second, and as many at once: a bucket filled by the loop's time."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._filled_s = 0.0

    def take(self, now_s: float) -> bool:
        """Take one; ``False`` when there is none left now."""
        self._left = min(self._per_s, self._left + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class WebSocketLink:
    """The :class:`doorward.ccs.ports.Link` that gateways connect to directly.

    ``accepts(gateway, fingerprint)`` says whether that certificate (SHA-256 of its DER, in hex) is the
    one of that gateway now; it must not block. Port 0 takes a free one: see :attr:`port`. One session
    per gateway is live: a newer one replaces the older. Handshakes beyond ``handshakes_per_s_max`` are
    refused before any cryptography; the gateway comes again with jitter.
    """

    def __init__(
        self,
        host: str,
        port: int,
        credentials: Credentials,
        accepts: Callable[[str, str], bool],
        *,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        ping_s: float = PING_S,
        ping_wait_s_max: float = PING_WAIT_S_MAX,
        open_wait_s_max: float = OPEN_WAIT_S_MAX,
        close_wait_s_max: float = CLOSE_WAIT_S_MAX,
        handshakes_per_s_max: float = HANDSHAKES_PER_S_MAX,
        sessions_max: int = SESSIONS_MAX,
    ) -> None:
        self._host = host
        self._port = port
        self._credentials = credentials
        self._accepts = accepts
        self._waiting_bytes_max = waiting_bytes_max
        self._ping_s = ping_s
        self._ping_wait_s_max = ping_wait_s_max
        self._open_wait_s_max = open_wait_s_max
        self._close_wait_s_max = close_wait_s_max
        self._handshakes = Allowance(handshakes_per_s_max)
        self._sessions_max = sessions_max
        self._sessions: dict[str, ServerConnection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the one asked for, until the link has started."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(
        self,
        received: Callable[[str, bytes], None],
        presence: Callable[[str, bool], None],
    ) -> None:
        """Listen. ``received(gateway, frame)`` and ``presence(gateway, connected)`` must not block."""
        self._received = received
        self._presence = presence
        tls = server_context(self._credentials)
        tls.sni_callback = self._admit
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            ssl=tls,
            compression=None,
            process_request=self._identify,
            server_header=None,
            open_timeout=self._open_wait_s_max,
            ping_interval=self._ping_s,
            ping_timeout=self._ping_wait_s_max,
            close_timeout=self._close_wait_s_max,
            max_size=FRAME_BYTES_MAX,
            max_queue=RECEIVED_FRAMES_MAX,
            logger=log,
        )

    def connected(self) -> Collection[str]:
        """Gateways that are connected now."""
        return self._sessions.keys()

    def send(self, gateway: str, frame: bytes) -> bool:
        """Write a frame to the gateway's connection; ``False`` when there is none, or no room."""
        session = self._sessions.get(gateway)
        if session is None or session.state is not State.OPEN:
            return False
        waiting = session.transport.get_write_buffer_size()
        if waiting and waiting + len(frame) > self._waiting_bytes_max:
            return False
        broadcast((session,), frame)  # the library's way to write without waiting for the buffer to drain
        return True

    async def own(self, partitions: Collection[int]) -> None:
        """Nothing to do: every gateway comes to this process."""

    async def drop(self, gateway: str) -> None:
        """End the session of a gateway whose certificate was withdrawn."""
        session = self._sessions.get(gateway)
        if session is not None:
            self._leave(gateway, session)
            await session.close(CloseCode.POLICY_VIOLATION, "certificate withdrawn")

    async def expel(self) -> None:
        """End the sessions whose certificate is not accepted any more."""
        for gateway, session in list(self._sessions.items()):
            if not self._accepts(*_peer(session)):
                log.warning("link: the certificate of gateway %s is not accepted any more", gateway)
                self._leave(gateway, session)
                await session.close(CloseCode.POLICY_VIOLATION, "certificate withdrawn")

    async def stop(self) -> None:
        """End all sessions; idempotent."""
        if self._server is not None:
            self._server.close(code=CloseCode.SERVICE_RESTART)
            await self._server.wait_closed()
        while self._closing:
            await asyncio.wait(set(self._closing))

    def _admit(self, _tls: SSLObject, _name: str | None, _context: SSLContext) -> int | None:
        """Answer a client hello: an alert when handshakes come faster than they may."""
        if self._handshakes.take(asyncio.get_running_loop().time()):
            return None
        return ALERT_DESCRIPTION_INTERNAL_ERROR

    def _identify(self, connection: ServerConnection, _request: Request) -> Response | None:
        """Let in whose certificate names a gateway and is the one that we know."""
        gateway, fingerprint = _peer(connection)
        if not gateway or not self._accepts(gateway, fingerprint):
            log.warning("link: certificate %s… of gateway %r is not accepted", fingerprint[:16], gateway)
            return connection.respond(HTTPStatus.FORBIDDEN, "This certificate is not accepted.\n")
        if len(self._sessions) >= self._sessions_max and gateway not in self._sessions:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many gateways.\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        gateway, _ = _peer(connection)
        self._join(gateway, connection)
        try:
            async for frame in connection:
                if isinstance(frame, str):
                    await connection.close(CloseCode.UNSUPPORTED_DATA, "frames are binary")
                elif self._sessions.get(gateway) is connection:
                    self._hand_over(gateway, frame)
        except ConnectionClosed as closed:
            log.info("link: gateway %s: %s", gateway, closed)
        finally:
            self._leave(gateway, connection)

    def _hand_over(self, gateway: str, frame: bytes) -> None:
        try:
            self._received(gateway, frame)
        except Exception:  # the link is lossy: one frame is lost, the gateway says it again
            log.exception("link: a frame of gateway %s was not taken", gateway)

    def _join(self, gateway: str, connection: ServerConnection) -> None:
        older = self._sessions.get(gateway)
        if older is not None:
            self._leave(gateway, older)
            task = asyncio.get_running_loop().create_task(older.close(REPLACED, "connected anew"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._sessions[gateway] = connection
        self._presence(gateway, True)

    def _leave(self, gateway: str, connection: ServerConnection) -> None:
        if self._sessions.get(gateway) is connection:
            del self._sessions[gateway]
            self._presence(gateway, False)


def _peer(connection: ServerConnection) -> tuple[str, str]:
    """Return the gateway that the client's certificate names (``""``: none) and its SHA-256 in hex."""
    tls = connection.transport.get_extra_info("ssl_object")
    names = [value for kind, value in tls.getpeercert().get("subjectAltName", ()) if kind == "URI"]
    fingerprint = sha256(tls.getpeercert(binary_form=True)).hexdigest()
    if len(names) != 1 or not names[0].startswith(GATEWAY_URN):
        return "", fingerprint
    return names[0][len(GATEWAY_URN) :], fingerprint
