"""The third parties' load, in a process of its own: real tokens, real endpoints, and a list of every request.

An answer counts when it was handed over: in the answer to the post (``wait``), at the third party's
endpoint (``webhook``, a full push over TLS to a pinned certificate), or on its stream of events (``stream``).
"""

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from doorward.simulate.bench import ledger
from doorward.simulate.bench.briefs import HOST, Market, Trader, sink_context
from doorward.simulate.bench.http import Line, NoAnswer, Pool, Sink, request
from doorward.simulate.bench.ledger import DONE
from doorward.simulate.bench.plan import Phase
from doorward.simulate.bench.processes import questions, read, say

ANSWER_WAIT_S_MAX = 30
"""How long after the end of a phase answers are waited for; what is missing then is unanswered."""
ENDPOINT = "bench"
READ = "read"
LIMIT = "limit"
NO_ANSWER = "no-answer"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the bench tells the load.

    ``path``: the market's file for ``start``, where the list goes for ``write``. A phase is opened (streams,
    endpoints), run, and closed.
    """

    do: Literal["start", "open", "run", "close", "write"]
    path: str = ""
    phase: Phase | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a phase. Latencies in ms; ``round_trips`` were handed over as DONE."""

    requests: int
    round_trips: int
    unanswered: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    reasons: dict[str, int]


class _Shown(msgspec.Struct, frozen=True):
    id: str
    state: str
    final: str | None = None
    reason: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    reason: str = "unreadable"
    detail: str = ""


class _Item(msgspec.Struct, frozen=True):
    status: int
    request: _Shown | None = None
    problem: _Problem | None = None


class _Items(msgspec.Struct, frozen=True):
    items: list[_Item]


class _Told(msgspec.Struct, frozen=True):
    state: str = ""
    reason: str | None = None


class _Event(msgspec.Struct, frozen=True):
    request: str | None = None
    data: _Told = _Told()


class _Push(msgspec.Struct, frozen=True):
    type: str
    data: _Event = _Event()
    challenge: str = ""


class _Token(msgspec.Struct, frozen=True):
    access_token: str


_shown = msgspec.json.Decoder(_Shown)
_problem = msgspec.json.Decoder(_Problem)
_items = msgspec.json.Decoder(_Items)
_event = msgspec.json.Decoder(_Event)
_push = msgspec.json.Decoder(_Push)
_token = msgspec.json.Decoder(_Token)


class LoadFailed(RuntimeError):
    """What the load needs before it can measure did not work; the message has the server's answer."""


class Party:
    """One third party: its token, and its devices in turn, so that limits are used up evenly."""

    def __init__(self, trader: Trader) -> None:
        self.trader = trader
        self.token = ""
        self.stream: Line | None = None
        self._devices = itertools.cycle(trader.devices)

    def take(self, count: int) -> list[str]:
        """Return the next devices."""
        return list(itertools.islice(self._devices, count))


class Desk:
    """Who waits for which answer, whichever comes first: the answer to the post, or the pushed one."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[ledger.Line, asyncio.Future[None]]] = {}
        self._early: dict[str, list[_Told]] = {}

    def expect(self, line: ledger.Line) -> "asyncio.Future[None]":
        """Wait for what is pushed about an accepted request."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[line.id] = line, future
        for told in self._early.pop(line.id, ()):
            self.told(line.id, told)
        return future

    def told(self, id: str, told: _Told) -> None:
        """Something was pushed."""
        if id not in self._waiting:
            self._early.setdefault(id, []).append(told)
            return
        line, future = self._waiting[id]
        note(line, told.state, told.reason)
        if not future.done():
            future.set_result(None)


class Load:
    """All third parties of this process."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._host = f"{market.host}:{market.port}"
        self._pool = Pool(market.host, market.port)
        self._parties = [Party(trader) for trader in market.traders]
        self._turn = itertools.cycle(self._parties)
        self._desk = Desk()
        self._sink: Sink | None = None
        self._keys = itertools.count()
        self._asked = 0
        self._calls: dict[str, Callable[[Phase, Party, list[ledger.Line]], Awaitable[None]]] = {
            "wait": self._by_wait,
            "webhook": self._by_push,
            "stream": self._by_push,
        }
        self.lines: list[ledger.Line] = []

    async def start(self) -> None:
        """Prove who we are, for real; raise :class:`LoadFailed`."""
        for party in self._parties:
            if party.trader.secret:
                party.token = await self._token(party.trader)

    async def _token(self, trader: Trader) -> str:
        basic = base64.b64encode(f"{trader.party}:{trader.secret}".encode()).decode()
        body = b"grant_type=client_credentials"
        asked = request(
            "POST", "/oauth/token", self._host, headers=(
                f"authorization: Basic {basic}",
                "content-type: application/x-www-form-urlencoded",
                f"content-length: {len(body)}",
            ),
        )  # fmt: skip
        status, answer = await self._pool.call(asked + body)
        if status != 200:
            raise LoadFailed(f"no token for {trader.party}: {status} {answer.decode(errors='replace')}")
        return _token.decode(answer).access_token

    # --- phases --------------------------------------------------------------------------------------

    async def open(self, phase: Phase) -> None:
        """Open what answers will come by."""
        if phase.hand_over == "webhook":
            self._sink = Sink(self._take_push)
            port = await self._sink.start(HOST, sink_context(self._market))
            for party in self._parties:
                await self._set_endpoint(party, port)
        elif phase.hand_over == "stream":
            for party in self._parties:
                party.stream = await self._follow(party)

    async def close(self, phase: Phase) -> None:
        """Close it again."""
        if phase.hand_over == "webhook" and self._sink is not None:
            for party in self._parties:
                await self._demand(party, "DELETE", f"/v1/endpoints/{ENDPOINT}", b"")
            self._sink.close()
        for party in self._parties:
            if party.stream is not None:
                party.stream.close()
                party.stream = None

    async def _set_endpoint(self, party: Party, port: int) -> None:
        endpoint = {
            "url": f"https://{HOST}:{port}/", "mode": "full", "pin": self._market.sink_pin,
            "ca": self._market.ca, "kinds": ["request.result"],
        }  # fmt: skip
        path = f"/v1/endpoints/{ENDPOINT}"
        await self._demand(party, "PUT", path, msgspec.json.encode(endpoint))
        await self._demand(party, "POST", f"{path}/prove", b"")

    async def _demand(self, party: Party, method: str, path: str, body: bytes) -> None:
        status, answer = await self._pool.call(self._request(party, method, path, body))
        if status >= 300:
            raise LoadFailed(f"{method} {path}: {status} {answer.decode(errors='replace')}")

    def _request(
        self, party: Party, method: str, path: str, body: bytes, headers: tuple[str, ...] = ()
    ) -> bytes:
        return request(method, path, self._host, body, (f"authorization: Bearer {party.token}", *headers))

    def _take_push(self, body: bytes) -> bytes:
        push = _push.decode(body)
        if push.challenge:
            return msgspec.json.encode({"challenge": push.challenge})
        if push.data.request:
            self._desk.told(push.data.request, push.data.data)
        return b""

    async def _follow(self, party: Party) -> Line:
        """Follow the party's stream of events, from now on."""
        line = await self._pool.open()
        begun = asyncio.Event()
        rest = bytearray()

        def part(data: bytes) -> None:
            begun.set()
            rest.extend(data)
            *whole, tail = bytes(rest).split(b"\n\n")
            rest[:] = tail
            for block in whole:
                _, found, data_line = block.partition(b"\ndata: ")
                if found:
                    event = _event.decode(data_line)
                    if event.request:
                        self._desk.told(event.request, event.data)

        line.parts = part
        line.call(self._request(party, "GET", "/v1/events/stream?kind=request.result", b""))
        async with asyncio.timeout(ANSWER_WAIT_S_MAX):
            await begun.wait()
        return line

    async def run(self, phase: Phase) -> Outcome:
        """Run a phase and return what came of it."""
        self._asked = 0
        first = len(self.lines)
        latencies: list[float] = []
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        until_s = began_s + phase.seconds_max
        if phase.rate_per_s:
            await self._by_the_clock(phase, began_s, latencies)
        else:
            callers = (self._go_on(phase, until_s, latencies) for _ in range(phase.callers))
            await asyncio.gather(*callers)
        return outcome(self.lines[first:], latencies, loop.time() - began_s)

    async def _by_the_clock(self, phase: Phase, began_s: float, latencies: list[float]) -> None:
        """Begin calls at a fixed rate; a late answer delays no other call."""
        loop = asyncio.get_running_loop()
        running = set()
        for number in range(phase.requests_max // phase.items):
            due_s = began_s + number * phase.items / phase.rate_per_s
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            running.add(loop.create_task(self._call(phase, due_s, latencies)))
        await asyncio.wait(running)

    async def _go_on(self, phase: Phase, until_s: float, latencies: list[float]) -> None:
        """Call again as soon as the last call is answered."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s and self._asked + phase.items <= phase.requests_max:
            self._asked += phase.items
            await self._call(phase, loop.time(), latencies)

    # --- one call ------------------------------------------------------------------------------------

    async def _call(self, phase: Phase, due_s: float, latencies: list[float]) -> None:
        """Make a call and wait until all of its answers are handed over, or none will be."""
        party = next(self._turn)
        lines = [
            ledger.Line(device=device, operation=READ if number % 2 else LIMIT)
            for number, device in enumerate(party.take(phase.items), len(self.lines))
        ]
        self.lines += lines
        try:
            async with asyncio.timeout(2 * ANSWER_WAIT_S_MAX):
                await self._calls[phase.hand_over](phase, party, lines)
        except (NoAnswer, OSError, TimeoutError):
            for line in lines:
                line.reason = line.reason or NO_ANSWER
        took_s = asyncio.get_running_loop().time() - due_s
        latencies += [took_s for line in lines if line.state]

    async def _by_wait(self, phase: Phase, party: Party, lines: list[ledger.Line]) -> None:
        await self._post(phase, party, lines, (f"prefer: wait={ANSWER_WAIT_S_MAX}",))

    async def _by_push(self, phase: Phase, party: Party, lines: list[ledger.Line]) -> None:
        await self._post(phase, party, lines, ())
        pushed = [self._desk.expect(line) for line in lines if line.id]
        if pushed:
            await asyncio.gather(*pushed)

    async def _post(
        self, phase: Phase, party: Party, lines: list[ledger.Line], headers: tuple[str, ...]
    ) -> None:
        bodies = [self._body(line) for line in lines]
        body = b"[" + b",".join(bodies) + b"]" if phase.items > 1 else bodies[0]
        status, answer = await self._pool.call(self._request(party, "POST", "/v1/requests", body, headers))
        if phase.items > 1 and status == 200:
            for line, item in zip(lines, _items.decode(answer).items, strict=True):
                accept(line, item.request, item.problem)
        elif status in (200, 202):
            accept(lines[0], _shown.decode(answer), None)
        else:
            for line in lines:
                accept(line, None, _refusal(status, answer))

    def _body(self, line: ledger.Line) -> bytes:
        """A request as a third party writes it, with its own key."""
        number = next(self._keys)
        watts = 1_400 + number % 5_000
        limits = b',"body":{"watts":%d}' % watts if line.operation == LIMIT else b""
        return b'{"device":"%s","operation":"%s","key":"bench-%d"%s}' % (
            line.device.encode(),
            line.operation.encode(),
            number,
            limits,
        )


def accept(line: ledger.Line, shown: _Shown | None, problem: _Problem | None) -> None:
    """Note how a post was answered."""
    if shown is None:
        line.reason = problem.reason if problem is not None else NO_ANSWER
        return
    line.id = shown.id
    if shown.final is not None:
        note(line, shown.state, shown.reason)


def note(line: ledger.Line, state: str, reason: str | None) -> None:
    """Note a final state that was handed over."""
    line.answers += 1
    line.state = state
    if state != DONE:
        line.reason = reason or state


def _refusal(status: int, answer: bytes) -> _Problem:
    try:
        return _problem.decode(answer)
    except msgspec.DecodeError:
        return _Problem(reason=f"status {status}")


def outcome(lines: Sequence[ledger.Line], latencies_s: list[float], seconds: float) -> Outcome:
    """Return the sums and percentiles of a phase."""
    ordered = sorted(latencies_s)
    reasons: dict[str, int] = {}
    for line in lines:
        if line.reason:
            reasons[line.reason] = reasons.get(line.reason, 0) + 1
    at = partial(percentile_ms, ordered)
    return Outcome(
        requests=len(lines),
        round_trips=sum(line.state == DONE for line in lines),
        unanswered=sum(not line.state for line in lines),
        seconds=seconds,
        p50_ms=at(0.50),
        p95_ms=at(0.95),
        p99_ms=at(0.99),
        max_ms=at(1.0),
        reasons=reasons,
    )


def percentile_ms(ordered_s: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile in ms of ascending seconds (0 when there are none)."""
    if not ordered_s:
        return 0.0
    rank = max(0, -(-round(share * 1e6) * len(ordered_s) // 1_000_000) - 1)
    return round(ordered_s[rank] * 1e3, 2)


async def serve() -> None:
    """Do what the bench says, until it says no more."""
    load: Load | None = None
    async for line in questions():
        order = msgspec.json.decode(line, type=Order)
        if order.do == "start":
            load = Load(read(order.path, Market))
            await load.start()
            say(True)
        elif load is not None:
            say(await _do(load, order))


async def _do(load: Load, order: Order) -> Outcome | bool:
    if order.phase is None:
        ledger.write(Path(order.path), load.lines)
        return True
    if order.do == "run":
        return await load.run(order.phase)
    if order.do == "open":
        await load.open(order.phase)
    else:
        await load.close(order.phase)
    return True
