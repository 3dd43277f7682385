"""A charger's connection to its central system: OCPP 1.6-J or 2.0.1, over WebSocket.

It connects, introduces itself, tells every change, and comes back with growing pauses when the link
breaks. All that the charger *is* stands in ``charger.py``, what it says in ``ocpp_16.py`` and ``ocpp_201.py``.
"""

import asyncio
import base64
import random
from contextlib import suppress

from ocpp.exceptions import OCPPError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from doorward.kit.clock import Clock
from doorward.simulate.equipment import ocpp_16, ocpp_201
from doorward.simulate.equipment.charger import EvCharger
from doorward.simulate.equipment.ocpp_point import ANSWER_S_MAX

RECONNECT_S = 0.2
RECONNECT_S_MAX = 2.0


class OcppClient:
    """One charger's link, kept up between :meth:`start` and :meth:`stop`."""

    def __init__(
        self,
        charger: EvCharger,
        *,
        url: str,
        identity: str,
        version: str,
        password: str,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._charger = charger
        self._url = url
        self._identity = identity
        self._version = version
        self._password = password
        self._clock = clock
        self._rng = rng
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Disconnect; idempotent."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        pause_s = RECONNECT_S
        while True:
            with suppress(OSError, TimeoutError, WebSocketException, OCPPError):
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol(f"ocpp{self._version}")],
                    additional_headers=self._authorization(),
                    open_timeout=ANSWER_S_MAX,
                    close_timeout=1.0,
                    proxy=None,
                ) as connection:
                    pause_s = RECONNECT_S
                    await self._serve(connection)
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, RECONNECT_S_MAX)

    def _authorization(self) -> dict[str, str]:
        if not self._password:
            return {}
        pair = base64.b64encode(f"{self._identity}:{self._password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    async def _serve(self, connection: ClientConnection) -> None:
        protocol = ocpp_16 if self._version == "1.6" else ocpp_201
        point = protocol.point(self._identity, connection, self._charger, self._clock, self._rng)
        listening = asyncio.ensure_future(point.listen())
        telling = asyncio.ensure_future(point.tell_for_ever())
        try:
            await asyncio.wait((listening, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, telling):
                task.cancel()
            for result in await asyncio.gather(listening, telling, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(
                    result, (OSError, TimeoutError, WebSocketException, OCPPError)
                ):
                    raise result
