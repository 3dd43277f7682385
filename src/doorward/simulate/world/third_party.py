"""Third parties: what they ask and what they are told, in a ledger of their own.

They repeat what was not answered under the same key, as the SDK does; their endpoints go down and come back.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from doorward.ccs.rules.asking import Ask
from doorward.ccs.rules.facts import Endpoint, Request
from doorward.ccs.way_out import Accepted, Declined, Verdict
from doorward.kit.ids import uuid7
from doorward.simulate.world import town
from doorward.simulate.world.utility import Worker
from doorward.wire.reasons import Reason, Refused

ANSWER_S_MAX = 10.0
"""How long a third party waits for an answer."""
TRIES_MAX = 30
TRY_AGAIN_S = 4.0


@dataclass(slots=True, eq=False)
class Wish:
    """One request as its third party sees it: what was asked, and everything that was said about it."""

    party: str
    key: str
    body: dict[str, object]
    raw: bytes
    asked_us: int = 0
    ids: set[str] = field(default_factory=set)
    """Ids under which it was accepted; more than one would be a breach."""
    accepted_us: int = 0
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    """(true time, refusal)."""
    tries: int = 0

    @property
    def open(self) -> bool:
        """Whether its third party still waits to be heard."""
        return not self.ids and not self.refused and self.tries < TRIES_MAX


@dataclass(slots=True)
class Seen:
    """A third party saw a request in a state, or its result, at a true time."""

    request: str
    at_us: int
    state: str
    result: bytes
    settlement: str = ""


@dataclass(slots=True)
class Hooked:
    """A webhook that arrived."""

    party: str
    id: str
    kind: str
    request: str
    at_us: int
    body: dict[str, object]


class ThirdParties:
    """All third parties of a world, and their ledger."""

    def __init__(
        self, rng: random.Random, now_us: Callable[[], int], workers: Callable[[], list[Worker]]
    ) -> None:
        self._rng = rng
        self._now_us = now_us
        self._workers = workers
        self.wishes: list[Wish] = []
        self.seen: list[Seen] = []
        self.hooks: list[Hooked] = []
        self.down: dict[str, str] = {}
        """Third party → how its endpoint misbehaves: ``refuses``, ``hangs`` or ``forgets`` (takes, and fails)."""
        self.counts: Counter[str] = Counter()
        self.answers_lost = 0.0
        self.at_request: Callable[[Wish, Worker], None] = lambda wish, worker: None

    # --- asking ----------------------------------------------------------------------------------------

    def wish(self, party: str, body: dict[str, object], key: str) -> Wish:
        """Note a request before it is sent."""
        wish = Wish(party, key, body, msgspec.json.encode(body), self._now_us())
        self.wishes.append(wish)
        return wish

    async def ask(self, wish: Wish) -> None:
        """Ask until there is an answer, or it is given up."""
        while wish.tries < TRIES_MAX:
            wish.tries += 1
            answer = await self._post(wish)
            if isinstance(answer, Accepted):
                wish.ids.add(answer.request.id)
                wish.accepted_us = wish.accepted_us or self._now_us()
                self.saw(answer.request, shown=False)
                return
            if isinstance(answer, Declined):
                wish.refused.append((self._now_us(), answer.refusal))
                return
            self.counts["asked again"] += 1
            await asyncio.sleep(self._rng.random() * TRY_AGAIN_S)

    async def _post(self, wish: Wish) -> Verdict | None:
        worker = self._any_worker()
        if worker is None:
            return None
        answer: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        worker.process.start(self._served(worker, wish, answer))
        return await self._answer(answer)

    async def _served(self, worker: Worker, wish: Wish, answer: "asyncio.Future[Verdict | None]") -> None:
        """The API's part, inside the worker (``doors/api/requests.py`` around ``journey.asks``)."""
        journey = worker.journey
        now_us = journey.clock.now_us()
        ask = Ask(
            id=uuid7(now_us, journey.rng),
            token=town.token(wish.party),
            raw=wish.raw,
            received_us=now_us,
            key=wish.key,
            source="192.0.2.1",
        )
        try:
            verdict: Verdict | None = await journey.asks.ask(ask)
        except Exception:  # the API answers 503
            verdict = None
        if not answer.done():
            answer.set_result(verdict)

    async def _answer(self, answer: "asyncio.Future[Verdict | None]") -> Verdict | None:
        """The answer's way back; it may be lost, and the one who waits gives up."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                said = await answer
        except TimeoutError:
            return None
        if said is not None and self._rng.random() < self.answers_lost:
            self.counts["answer lost"] += 1
            return None
        return said

    def _any_worker(self) -> Worker | None:
        workers = [each for each in self._workers() if each.serving and not each.process.dead]
        return self._rng.choice(workers) if workers else None

    # --- looking and cancelling --------------------------------------------------------------------------

    async def look(self, wish: Wish) -> None:
        """Fetch what became of a request, with a live token."""
        worker = self._any_worker()
        if worker is None or not wish.ids:
            return
        id = min(wish.ids)
        answer: asyncio.Future[Request | None] = asyncio.get_running_loop().create_future()

        async def serve(worker: Worker) -> None:
            try:
                found: Request | None = await worker.journey.fetch(town.token(wish.party), id)
            except Exception:
                found = None
            if not answer.done():
                answer.set_result(found)

        worker.process.start(serve(worker))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                found = await answer
        except TimeoutError:
            return
        if found is not None:
            self.saw(found, shown=True)

    async def cancel(self, wish: Wish) -> None:
        """Ask to cancel a request."""
        worker = self._any_worker()
        if worker is None or not wish.ids:
            return
        self.counts["cancel"] += 1

        async def serve(worker: Worker) -> None:
            try:
                await worker.journey.cancel(town.token(wish.party), list(wish.ids))
            except Refused as refusal:
                if refusal.reason is not Reason.TOO_LATE:
                    raise
            except Exception:
                self.counts["cancel failed"] += 1

        worker.process.start(serve(worker))

    def saw(self, request: Request, *, shown: bool) -> None:
        """Note what a third party was shown."""
        result = bytes(request.result) if shown else b"null"
        self.seen.append(Seen(request.id, self._now_us(), request.state, result, request.settlement))

    # --- endpoints (a Notifier) ----------------------------------------------------------------------------

    async def push(
        self, posts: Sequence[tuple[Endpoint, str, bytes]], now_us: int, media: str = "application/json"
    ) -> list[str]:
        """Deliver webhooks, as far as the endpoints are well."""
        await asyncio.sleep(self._rng.random() * 0.1)
        answers = []
        for endpoint, id, body in posts:
            answers.append(await self._deliver(endpoint.party, id, body))
        return answers

    async def _deliver(self, party: str, id: str, body: bytes) -> str:
        trouble = self.down.get(party, "")
        self.counts["webhook"] += 1
        if trouble:
            self.counts[f"endpoint {trouble}"] += 1
        if trouble == "hangs":
            await asyncio.sleep(10.0)
            return "no answer within 10 s"
        if trouble == "refuses":
            return "503"
        said = msgspec.json.decode(body)
        data = said["data"]
        self.hooks.append(Hooked(party, id, said["type"], str(data.get("request", "")), self._now_us(), data))
        return "connection lost" if trouble == "forgets" else ""

    async def prove(self, endpoint: Endpoint, challenge: str, now_us: int) -> str:
        """Endpoints are proved from the beginning."""
        return ""

    async def close(self) -> None:
        """Nothing is open."""
