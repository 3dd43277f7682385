"""Gateways that connect and go away, told to the utility's systems: many in one transaction."""

import structlog

from doorward.ccs.ports import Store
from doorward.ccs.rules.facts import Event
from doorward.ccs.rules.feed import news
from doorward.kit.clock import Clock
from doorward.kit.gather import Gatherer, Overloaded

log = structlog.get_logger(__name__)

WAITING_MAX = 20_000


class Comings:
    """Writes ``gateway.connected`` and ``gateway.disconnected``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._told: Gatherer[Event, None] = Gatherer(self._write, queue_max=WAITING_MAX)

    def tell(self, gateway: str, connected: bool) -> None:
        """A gateway came or went; called by the way, and never blocks."""
        kind = "gateway.connected" if connected else "gateway.disconnected"
        try:
            self._told.tell(news(kind, self._clock.now_us(), gateway=gateway))
        except Overloaded:
            log.warning("not told: too many gateways come and go", gateway=gateway)

    async def _write(self, events: list[Event]) -> list[Exception | None]:
        await self._store.write(lambda books: books.add_events(events))
        return [None] * len(events)

    async def drained(self) -> None:
        """Return when all of it is written."""
        await self._told.drained()
