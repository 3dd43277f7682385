"""An HTTP server inside a loop that others share: bounded in time and size, and stopped without refusing anybody.

uvicorn is made for a process of its own; here it leaves signals, logging and the loop to the application.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024
HEAD_WAIT_S_MAX = 10.0
"""How long the first line and the headers of a call may take to arrive."""
BODY_WAIT_S_MAX = 10.0
"""How long the rest of a call may take to arrive, also when it has been answered already."""
UNREAD_WAIT_MS_MAX = 20_000
"""How long an answer may wait for its reader to take any of it."""
KEEP_ALIVE_S = 60
CONNECTIONS_MAX = 20_000
BACKLOG = 2_048
CERTIFICATE = "doorward.certificate"
"""Where an application finds the DER of the client's certificate in the scope of its call."""


class HeadBounded(HttpToolsProtocol):
    """Hangs up on whoever sends a call without end, in bytes of the head or in time, or takes no answer."""

    _in_head = True
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _certificate = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection: its first head is due."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self._certificate = (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""
        self._timer = self.loop.call_later(HEAD_WAIT_S_MAX, self._hang_up)
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_WAIT_MS_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; start its time when it did not come whole."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX + len(data):
                self._hang_up()
                return
        super().data_received(data)
        if self._timer is not None or self.transport.is_closing():
            return
        if not self._in_head:
            self._timer = self.loop.call_later(BODY_WAIT_S_MAX, self._hang_up)
        elif self._head_bytes:
            self._timer = self.loop.call_later(HEAD_WAIT_S_MAX, self._hang_up)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._in_head = False
        self._forget_timer()
        if self._certificate:
            self.scope[CERTIFICATE] = self._certificate  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        super().on_message_complete()
        self._forget_timer()
        self._in_head, self._head_bytes = True, 0

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self) -> None:
        self._forget_timer()
        self.transport.abort()


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the application."""
        yield


class HttpServer:
    """One ASGI application on one listening socket.

    ``client_ca`` (PEM): clients are asked for a certificate of these authorities; none is as good as that.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
        trusted_proxies: str = "",
        stop_wait_s_max: float = 20.0,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=HeadBounded,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies or None,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(stop_wait_s_max)),
            limit_concurrency=CONNECTIONS_MAX,
            backlog=BACKLOG,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_ca_certs=client_ca,
            ssl_cert_reqs=ssl.CERT_NONE if client_ca is None else ssl.CERT_OPTIONAL,
        )
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server = _Quiet(config)
        self._listening = listening
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listening.getsockname()[1])

    async def start(self) -> None:
        """Serve, and return when calls are taken; raises what keeps the server from starting."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self._listening]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise OSError("the server did not start")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Take no new connections, finish the calls that run, and return; idempotent."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens on ``host:port`` (0: a free one); raises ``OSError``.

    ``shared``: other processes of ours may listen there too, and the system spreads connections over them.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=shared)
