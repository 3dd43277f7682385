"""The third party's own endpoint: HTTPS, takes signed webhooks, and keeps those that prove themselves."""

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from doorward.client import Client, DoorwardError, Event, verify_webhook
from doorward.kit.tls import Credentials

BODY_BYTES_MAX = 1024 * 1024
POLL_S = 0.05
CHALLENGE = "endpoint.challenge"


class Callback:
    """Runs between :meth:`start` and :meth:`stop`; what came in is in the order of its coming."""

    def __init__(self, credentials: Credentials) -> None:
        self._ca = credentials.ca
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credentials.certificate, credentials.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._secret = ""
        self._keys: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def start(self, client: Client) -> Self:
        """Listen, register with the CCS, and answer its challenge; raises :class:`DoorwardError`."""
        self._thread.start()
        url = f"https://127.0.0.1:{self._server.server_address[1]}/doorward"
        self._keys = client.webhook_keys()
        self._secret = client.put_endpoint("tour", url, ca=self._ca).secret
        client.prove_endpoint("tour")
        return self

    def stop(self) -> None:
        """Close; idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> dict[str, str] | None:
        """Keep a webhook and return what to answer; ``None`` for one that does not prove itself."""
        try:
            event = verify_webhook(headers, body, secret=self._secret, public_keys=self._keys)
        except DoorwardError:
            return None
        if event.type == CHALLENGE:
            return {"challenge": event.challenge}
        with self._lock:
            self._events.append(event)
        return {}

    def events(self, kind: str) -> list[Event]:
        """Return what came of one kind."""
        with self._lock:
            return [event for event in self._events if event.type == kind]

    def wait(self, kind: str, request: str, wait_s: float) -> Event | None:
        """Return the first event of a kind about a request, or ``None`` when none came in time."""
        end_s = time.monotonic() + wait_s
        while True:
            for event in self.events(kind):
                if event.request == request:
                    return event
            if time.monotonic() > end_s:
                return None
            time.sleep(POLL_S)


def _handler_of(callback: Callback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length", 0)), BODY_BYTES_MAX)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = callback.take(headers, self.rfile.read(length))
            body = json.dumps(answer or {}).encode()
            self.send_response(400 if answer is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
