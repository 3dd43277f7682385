"""Somebody at the broker who sees every frame on its way to a gateway, and changes nothing."""

import asyncio
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from gmqtt import Client, Subscription

from doorward.ccs.engines.authority import CertificateAuthority
from doorward.client.defaults import real_clock
from doorward.kit.tls import client_context
from doorward.simulate.services import Server
from doorward.wire.codec import MAC_BYTES
from doorward.wire.messages import Command, FrameDown
from doorward.wire.topics import ROOT

NAME = "ccs-spy"
START_WAIT_S_MAX = 20.0
KEEPALIVE_S = 30

_frames = msgspec.json.Decoder(FrameDown)


def let_in(broker: Server) -> None:
    """Add the spy to the broker's rules: it may read all that goes down."""
    acl = broker.directory / "acl"
    acl.write_text(f"user {NAME}\ntopic read {ROOT}/+/+/down\n\n" + acl.read_text())
    broker.stop()
    broker.start()


class Spy:
    """Listens in a thread of its own until :meth:`stop`. ``sent`` has (time in s, epoch, commands) by gateway."""

    def __init__(self, url: str, authority: Path) -> None:
        self._url = urlsplit(url)
        self._credentials = CertificateAuthority(authority, real_clock().now_us).worker(NAME)
        self.sent: dict[str, list[tuple[float, int, list[str]]]] = defaultdict(list)
        self._listening = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="spy", daemon=True)

    def start(self) -> None:
        """Return when it listens; raise ``TimeoutError``."""
        self._thread.start()
        if not self._listening.wait(START_WAIT_S_MAX):
            raise TimeoutError("the spy was not let in by the broker")

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        client = Client(NAME, clean_session=True)
        client.on_message = self._heard
        client.on_subscribe = lambda *_: self._listening.set()
        tls = client_context(self._credentials.ca, self._credentials)
        await client.connect(self._url.hostname, self._url.port, ssl=tls, keepalive=KEEPALIVE_S)
        client.subscribe([Subscription(f"{ROOT}/+/+/down", qos=1)])
        await asyncio.to_thread(self._over.wait)
        await client.disconnect()

    def _heard(self, _client: Client, _topic: str, payload: bytes, _qos: int, _rest: dict[str, Any]) -> int:
        frame = _frames.decode(payload[MAC_BYTES:])
        commands = [message.id for message in frame.messages if isinstance(message, Command)]
        self.sent[frame.gateway].append((time.monotonic(), frame.epoch, commands))
        return 0

    def commands(self) -> int:
        """How many commands were seen."""
        return sum(len(commands) for frames in self.sent.values() for _, _, commands in frames)

    def stale(self) -> list[str]:
        """Commands that were sent under an epoch after a newer one had been used for the same gateway."""
        found = []
        for frames in self.sent.values():
            newest = 0
            for _, epoch, commands in frames:
                newest = max(newest, epoch)
                found += commands if epoch < newest else []
        return found
