"""Where people's changes of access are carried out: one transaction, and then whom it concerns is told."""

from collections.abc import Awaitable, Callable

import structlog

from doorward.ccs.agreeing import Agreeing, Done
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks

log = structlog.get_logger(__name__)


class AccessDesk:
    """Runs steps of :class:`Agreeing` and follows them up: gateways at once, third parties, who waits."""

    def __init__(self, journey: Journey, agreeing: Agreeing) -> None:
        self._journey = journey
        self.agreeing = agreeing

    async def run(self, step: Callable[[AllBooks, int], Awaitable[Done]]) -> Done:
        """Run a step (given the books and the time of its transaction), and tell whom it concerns."""
        done = await self._journey.store.write(lambda books: step(books, self._journey.clock.now_us()))
        self._journey.waiters.tell([request.id for request in done.cancelled])
        self._journey.pushing.look()
        await self._push(done)
        return done

    async def _push(self, done: Done) -> None:
        """S3.06: gateways that are here hear of it now; upkeep tells the others, and repeats what gets lost."""
        here = self._journey.switchboard.greeted_among(done.gateways)
        if not here:
            return
        states = await self._journey.store.read(lambda books: books.provisioned(here))
        for state in states.values():
            self._journey.tell(state)
