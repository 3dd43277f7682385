"""What gmqtt must be told so that a broker is nothing but a lossy wire.

Left alone it reconnects by itself at a fixed pace, repeats what was not acknowledged, and sets no bound
to that. Here every connection is a new client without a memory, and what is not acknowledged is
counted, not kept: receipts inside the frames decide what has to be said again, never the broker.
The client is handed in, so that drivers stay with the engines.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

NEVER_RECONNECT = -2
"""gmqtt compares the number of failures with this (-1 would mean: for ever)."""
SUBSCRIPTIONS_MAX = 64
"""How many topics go in one packet."""
REFUSED_CODE = 128
"""Reason codes from here on are refusals (MQTT 5, §2.4)."""


class Client(Protocol):
    """The part of gmqtt's client that is used."""

    on_disconnect: Any
    on_subscribe: Any

    @property
    def is_connected(self) -> bool:
        """Whether the broker has taken the connection and it stands."""
        ...

    def set_config(self, config: dict[str, Any]) -> None:
        """Change gmqtt's own settings."""
        ...

    async def connect(self, host: str, port: int, ssl: Any, keepalive: int) -> None:
        """Connect, and wait for the broker's answer without a bound."""
        ...

    async def disconnect(self, reason_code: int = 0) -> None:
        """Say goodbye and close."""
        ...

    def subscribe(self, subscription_or_topic: Any) -> int:
        """Subscribe to a list of gmqtt's subscriptions in one packet; return the packet's id."""
        ...


def quiet(log: logging.Logger) -> logging.Logger:
    """Return gmqtt's own logger below ours, without its complaint that it may not reconnect."""
    own = log.getChild("gmqtt")
    own.addFilter(_not_about_reconnecting)
    return own


def _not_about_reconnecting(record: logging.LogRecord) -> bool:
    return "max number of failed connection attempts" not in str(record.msg)


class Unacknowledged:
    """Counts publishes that the broker has not acknowledged; stands where gmqtt would keep them.

    Never falsy (so no ``__len__``): gmqtt would put its own in its place.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._fewer = asyncio.Event()
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._sizes)

    async def wait_fewer(self) -> None:
        """Return when one more has been acknowledged."""
        self._fewer.clear()
        await self._fewer.wait()

    # what gmqtt calls

    def push_message(self, mid: int, raw_package: bytes) -> None:
        """A publish has gone out."""
        self._sizes[mid] = len(raw_package)
        self.size_bytes += len(raw_package)

    def remove_message_by_mid(self, mid: int) -> None:
        """The broker has acknowledged it (or refused it: that is the same to us)."""
        self.size_bytes -= self._sizes.pop(mid, 0)
        self._fewer.set()

    @property
    def is_empty(self) -> bool:
        """Nothing is ever to be repeated."""
        return True

    def get_all(self) -> list[tuple[int, bytes]]:
        """Nothing is ever to be repeated."""
        return []

    async def wait_empty(self) -> None:
        """Nothing is ever to be waited for."""

    def clear(self) -> None:
        """The session is over, or a new one begins: nothing is outstanding."""
        self._sizes.clear()
        self.size_bytes = 0
        self._fewer.set()


class Session:
    """One connection of one client, from :meth:`open` to :meth:`close`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lost = asyncio.Event()
        self._asked: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        client.set_config({"reconnect_retries": NEVER_RECONNECT})
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe

    def _on_disconnect(self, *_: object) -> None:
        self._lost.set()

    def _on_subscribe(self, _client: object, mid: int, codes: tuple[int, ...], _properties: object) -> None:
        asked = self._asked.get(mid)
        if asked is not None and not asked.done():
            asked.set_result(codes)

    async def open(
        self, host: str, port: int, tls: ssl.SSLContext, *, keepalive_s: int, wait_s_max: float
    ) -> None:
        """Connect; raise ``ConnectionError`` or ``TimeoutError`` if the broker does not take us in time."""
        connecting = asyncio.ensure_future(self._client.connect(host, port, ssl=tls, keepalive=keepalive_s))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            async with asyncio.timeout(wait_s_max):
                await asyncio.wait({connecting, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise ConnectionError("the broker closed the connection")
            connecting.result()
        finally:
            connecting.cancel()
            lost.cancel()

    async def subscribe(self, subscriptions: Sequence[Any], *, wait_s_max: float) -> None:
        """Subscribe and wait for the broker's word; raise ``ConnectionError`` if it is no.

        Many go in one packet: gmqtt has no more packet ids than the broker takes publishes at once.
        """
        mids = [
            self._client.subscribe(list(subscriptions[i : i + SUBSCRIPTIONS_MAX]))
            for i in range(0, len(subscriptions), SUBSCRIPTIONS_MAX)
        ]
        loop = asyncio.get_running_loop()
        futures = {mid: loop.create_future() for mid in mids}
        self._asked |= futures
        try:
            async with asyncio.timeout(wait_s_max):
                granted = await asyncio.gather(*futures.values())
        finally:
            for mid in mids:
                self._asked.pop(mid, None)
        if any(code >= REFUSED_CODE for codes in granted for code in codes):
            raise ConnectionError("the broker refuses a subscription")

    async def ended(self, *, poll_s: float) -> None:
        """Return when the connection is gone.

        gmqtt does not say so when it gives a silent connection up, hence the look every ``poll_s``.
        """
        while self._client.is_connected and not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(poll_s):
                    await self._lost.wait()

    async def close(self, *, reason_code: int = 0, wait_s_max: float) -> None:
        """Say goodbye where there is somebody left, and close."""
        if self._lost.is_set() and not self._client.is_connected:
            return
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(wait_s_max):
                await self._client.disconnect(reason_code=reason_code)
