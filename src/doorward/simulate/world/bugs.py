"""Bugs that are planted to see that they are found: each a small change of the real code, in this process only.

What survives its number of seeds means that the simulation is not sharp enough.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from doorward.ccs import dispatching, way_back
from doorward.ccs.engines.store.dispatch import Dispatching
from doorward.ccs.journey import Journey
from doorward.ccs.rules import access, limits
from doorward.ccs.rules.facts import LimitLog
from doorward.ccs.upkeep import Upkeep
from doorward.kit.clock import SlewingClock
from doorward.spg.desk import Desk
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.engines.hands import AdapterHands
from doorward.spg.engines.outbox import Outbox
from doorward.spg.receiving import Receiving
from doorward.spg.recovering import Recovering
from doorward.spg.rules.house import House
from doorward.wire.reasons import Reason, Refused


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug, and within how many seeds it must be found."""

    what: str
    seeds_max: int
    plant: Callable[[], None]


BUGS: dict[str, Bug] = {}


def _bug(name: str, what: str, seeds_max: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(plant: Callable[[], None]) -> Callable[[], None]:
        BUGS[name] = Bug(what, seeds_max, plant)
        return plant

    return add


def _put(owner: object, name: str, changed: object) -> None:
    """Replace a function of the real code, which must be there."""
    getattr(owner, name)
    setattr(owner, name, changed)


# --- the CCS ----------------------------------------------------------------------------------------------


@_bug("send-before-persist", "the CCS publishes what it is about to record as sent", 200)
def _() -> None:
    def publish_first(real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def send(self: Journey, books: Any, gateways: set[str]) -> Any:
            sent, behind, head = await real(self, books, gateways)
            self._publish(sent, head)
            self.switchboard._send_all()
            return sent, behind, head

        return send

    _put(Journey, "_send", publish_first(Journey._send))


@_bug("lost-receipt-believed", "what was published counts as received by the gateway", 200)
def _() -> None:
    real = dispatching.send

    def believing(*args: Any) -> Any:
        after, steps, is_sent = real(*args)
        if is_sent:
            after = replace(after, ready_us=None, at_gateway_us=after.sent_us, warn_us=0)
        return after, steps, is_sent

    _put(dispatching, "send", believing)


@_bug("warning-in-retry-loop", "warnings are given only while something is sent again", 400)
def _() -> None:
    async def never(self: Upkeep) -> bool:
        return False

    real = Upkeep._expire

    async def silent(self: Upkeep, books: Any) -> Any:
        warning, self._warning = self._warning, lambda *args: None  # type: ignore[method-assign,assignment]
        add = books.add_events
        books.add_events = lambda events: add([each for each in events if each is not None])
        try:
            return await real(self, books)
        finally:
            self._warning = warning  # type: ignore[method-assign]
            books.add_events = add

    _put(Upkeep, "warnings", never)
    _put(Upkeep, "_expire", silent)


@_bug("no-second-authorisation", "an answer leaves without asking again whether it may", 400)
def _() -> None:
    _put(access, "authorise_answer", lambda request, place, grant, now_us: None)


@_bug("hole-in-the-ordinals", "a refund empties its places in the log and does not close it up", 600)
def _() -> None:
    def hole(log: LimitLog, charge_us: int, unused: int) -> None:
        for _ in range(unused):
            if charge_us in log.times_us:
                log.times_us[log.times_us.index(charge_us)] = log.times_us[0]

    _put(limits, "settle", hole)


@_bug("no-refund", "what never went out stays charged", 400)
def _() -> None:
    _put(limits, "settle", lambda log, charge_us, unused: None)


@_bug("fixed-windows", "limits count in windows of the clock, not in sliding ones", 600)
def _() -> None:
    real = limits.earliest

    def in_windows(accounts: Sequence[limits.Account], need: int, now_us: int) -> int:
        cut = [
            limits.Account(
                LimitLog(
                    key=each.log.key,
                    times_us=[
                        t for t in each.log.times_us if t // limits.HOUR_US == now_us // limits.HOUR_US
                    ],
                    last_us=each.log.last_us,
                ),
                each.windows,
            )
            for each in accounts
        ]
        return real(cut, need, now_us)

    _put(limits, "earliest", in_windows)


@_bug("lease-epoch-not-checked", "a worker sends without looking whether the gateways are still its own", 600)
def _() -> None:
    async def believe(self: Dispatching, claim: Any, partitions: Collection[int], now_us: int) -> None:
        return None

    _put(Dispatching, "fence", believe)


@_bug("deadline-by-luck", "only what was never sent ends at its deadline", 200)
def _() -> None:
    real = way_back.expire

    def unsent_only(request: Any, now_us: int, *rest: Any) -> Any:
        return (request, []) if request.sent_us else real(request, now_us, *rest)

    _put(way_back, "expire", unsent_only)


@_bug("unconfirmed-guessed", "without proof by the deadline a request counts as expired", 400)
def _() -> None:
    real = way_back.expire

    def guess(request: Any, now_us: int, *rest: Any) -> Any:
        ended, steps = real(request, now_us, *rest)
        if steps and ended.state == "UNCONFIRMED":
            steps = [replace(step, detail="EXPIRED") for step in steps]
            ended = replace(ended, state=type(ended.state)("EXPIRED"))
        return ended, steps

    _put(way_back, "expire", guess)


@_bug("key-forgotten", "a request that comes again under its key is another request", 100)
def _() -> None:
    async def nothing(self: Any, pairs: Collection[Any]) -> dict[Any, Any]:
        return {}

    from doorward.ccs.engines.store.books import SqlBooks

    _put(SqlBooks, "requests_by_key", nothing)


@_bug("acknowledged-before-stored", "the CCS acknowledges what it has not stored yet", 400)
def _() -> None:
    real = Journey._take

    async def early(self: Journey, frames: list[Any]) -> Any:
        await self._learn({frame.gateway for frame in frames})
        for frame in frames:
            try:
                opened = self.switchboard.open(frame.gateway, frame.raw)
            except Refused:
                continue
            from doorward.wire.messages import Ack

            seqs = [message.seq for message in opened.messages if hasattr(message, "seq")]
            if seqs:
                self.switchboard.post(frame.gateway, Ack(seqs=seqs))
        return await real(self, frames)

    _put(Journey, "_take", early)


# --- the gateway ------------------------------------------------------------------------------------------


@_bug("no-dedup", "the gateway takes a command again that it has had", 200)
def _() -> None:
    real = Receiving._command

    def blind(self: Receiving, command: Any, seen: Any, page: Any) -> None:
        seen.requests.pop(command.id, None)
        seen.refs.pop((command.party, command.party_ref), None)
        return real(self, command, seen, page)

    _put(Receiving, "_command", blind)


@_bug("dedup-window-30s", "the gateway remembers what it has had for 30 s only", 2_000)
def _() -> None:
    real = Receiving._command

    def short(self: Receiving, command: Any, seen: Any, page: Any) -> None:
        known = seen.requests.get(command.id)
        if known is not None and page.now_us - known.received_us > 30_000_000:
            del seen.requests[command.id]
            seen.refs.pop((command.party, command.party_ref), None)
        return real(self, command, seen, page)

    _put(Receiving, "_command", short)


@_bug("no-device-lock", "devices are checked and told without holding them", 400)
def _() -> None:
    @asynccontextmanager
    async def nobody() -> Any:
        yield

    def hold(self: AdapterHands, devices: Collection[str], klass: int) -> AbstractAsyncContextManager[None]:
        return nobody()

    _put(AdapterHands, "hold", hold)


@_bug("act-before-intent", "the device is told before what is to be done is stored", 200)
def _() -> None:
    real = Desk.commit

    async def later(self: Desk, page: Any) -> None:
        if page.intents:
            self._remember(page)
            self.spawn(real(self, page))
            return
        await real(self, page)

    _put(Desk, "commit", later)


@_bug("reapply-after-crash", "what was begun when the gateway stopped is done again", 600)
def _() -> None:
    async def again(self: Recovering, entry: Any, intents: Any) -> None:
        self.desk.opened[entry.request.id] = entry
        await _acting[id(self.desk)].carry_out(entry)

    _acting: dict[int, Any] = {}
    from doorward.spg.acting import Acting

    real = Acting.__init__

    def known(self: Any, desk: Any, *rest: Any) -> None:
        real(self, desk, *rest)
        _acting[id(desk)] = self

    _put(Acting, "__init__", known)
    _put(Recovering, "recover", again)


@_bug("done-after-crash", "what was begun when the gateway stopped counts as done", 1_000)
def _() -> None:
    from doorward.spg.rules import recovery

    _put(recovery, "verdict", lambda held_before, holds_now: "DONE")


@_bug("withdrawal-forgotten", "a withdrawal is obeyed in memory and not stored", 600)
def _() -> None:
    from doorward.spg.engines.store import SqliteBooks

    _put(SqliteBooks, "end_grants", lambda self, versions: None)


@_bug("lease-not-checked", "the gateway does not look whether the lease has ended", 1_000)
def _() -> None:
    real = House.live

    def lax(self: House, command: Any, now_us: int) -> Any:
        try:
            return real(self, command, now_us)
        except Refused as refused:
            if refused.reason is Reason.LEASE_ENDED:
                return self.grants[command.grant]
            raise

    _put(House, "live", lax)


@_bug("clock-stepped-back", "the gateway goes by its machine's clock, wherever it is set", 2_000)
def _() -> None:
    _put(GatewayClock, "now_us", lambda self: self._base.now_us())
    _put(GatewayClock, "trusted", property(lambda self: True))
    _put(SlewingClock, "now_us", lambda self: int(self._wall_s() * 1_000_000))


@_bug("sent-once", "the gateway says everything once, and does not wait to be acknowledged", 200)
def _() -> None:
    real = Outbox._frame

    def once(self: Outbox) -> Any:
        messages = real(self)
        self.acknowledged([message.seq for message in messages if hasattr(message, "seq")])
        return messages

    _put(Outbox, "_frame", once)


@_bug("control-without-end", "a control that the store holds is forgotten when the gateway restarts", 1_000)
def _() -> None:
    from doorward.spg.journey import Journey as GatewayJourney

    real = GatewayJourney.resume

    def forget(self: Any, restart: Any) -> None:
        real(self, replace(restart, controls=[]))

    _put(GatewayJourney, "resume", forget)


@_bug("release-refused", "letting go is refused like any other control when the limit is used up", 600)
def _() -> None:
    from doorward.ccs import way_out

    _put(way_out, "is_charged", lambda granted: True)
