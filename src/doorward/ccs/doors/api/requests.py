"""``/v1/requests``: the hot way in. Bytes come from the server, go to the journey, and its verdict comes back."""

import asyncio
import re
from collections.abc import Sequence
from urllib.parse import parse_qs

import msgspec
import structlog

from doorward.ccs.doors.api.call import Answer, Call, json_answer, problem_answer
from doorward.ccs.doors.problem import Headers, problem_of, status_of
from doorward.ccs.journey import Journey
from doorward.ccs.ports import CommitUnsure, StoreUnavailable
from doorward.ccs.rules.asking import Ask, check_name, malformed
from doorward.ccs.rules.facts import Request
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.rules.limits import Ticket
from doorward.ccs.views import View, request_view
from doorward.ccs.waiting import Wait
from doorward.ccs.way_back import without_result
from doorward.ccs.way_out import Accepted, Declined, Verdict
from doorward.kit.gather import Overloaded
from doorward.kit.ids import uuid7
from doorward.wire.codec import NOT_JSON, depth_within
from doorward.wire.reasons import Reason, Refused

log = structlog.get_logger(__name__)

ITEMS_MAX = 1_000
DEPTH_MAX = 12
WAIT_S_MAX = 60
WAITS_MAX = 10_000
"""Calls that wait at once on this worker; beyond that one is answered 202 at once."""
NOBODYS = "00000000-0000-7000-8000-000000000000"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?")
_WINDOWS = {3600: "hour", 86400: "day"}
_items = msgspec.json.Decoder(list[msgspec.Raw])


class Requests:
    """Posting, fetching and cancelling requests."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey
        self._waits = 0
        self._closing = False

    def close(self) -> None:
        """Answer whoever waits, with what there is."""
        self._closing = True
        self._journey.waiters.wake_all()

    # one or a list

    async def post(self, call: Call, token: str) -> Answer:
        """Take one request or a list of them (S1.01, S2.03)."""
        raw = await call.json()
        if not depth_within(raw, DEPTH_MAX):
            raise Refused(Reason.BODY_MALFORMED, f"the body nests deeper than {DEPTH_MAX}")
        wait_s = wait_of(call.header(b"prefer"))
        if raw.lstrip()[:1] == b"[":
            return await self._post_list(call, token, raw, wait_s)
        key = call.header(b"idempotency-key")
        check_name(key, "key")
        ask = Ask(id=call.id, token=token, raw=raw, received_us=call.received_us, key=key, source=call.source)
        if wait_s:
            verdict, request = await self._ask_and_wait(ask, wait_s)
        else:
            verdict = await self._journey.asks.ask(ask)
            request = None
        if not isinstance(verdict, Accepted):
            return problem_answer(verdict.refusal, call.id)  # the journey has put it on record
        shown = request or without_result(verdict.request)
        headers = _applied(wait_s) + self._remaining(verdict.ticket)
        status = 200 if request is not None and request.final_us else 202
        location = (b"location", f"/v1/requests/{shown.id}".encode())
        return json_answer(request_view(shown, verdict.ticket), status, [location, *headers])

    async def _post_list(self, call: Call, token: str, raw: bytes, wait_s: int) -> Answer:
        if call.header(b"idempotency-key"):
            raise Refused(
                Reason.BODY_MALFORMED, "a list takes a key in each item, not in the header", field="/key"
            )
        items = _split(raw)
        asks = [
            Ask(
                id=uuid7(call.received_us, self._journey.rng),
                token=token,
                raw=bytes(item),
                received_us=call.received_us,
                source=call.source,
            )
            for item in items
        ]
        if wait_s:
            answers = await asyncio.gather(*(self._one_of_list(ask, wait_s) for ask in asks))
        else:
            answers = await self._all_of_list(asks)
        return json_answer({"items": answers}, 200, _applied(wait_s))

    async def _all_of_list(self, asks: Sequence[Ask]) -> list[View]:
        """Ask all at once: what is queued together is decided together."""
        asked: list[asyncio.Future[Verdict] | Refused] = []
        for ask in asks:
            try:
                asked.append(self._journey.asks.ask(ask))
            except Overloaded:
                asked.append(congestion())
        futures = [each for each in asked if not isinstance(each, Refused)]
        if futures:
            await asyncio.wait(futures)
        return [_item(ask.id, _outcome(each)) for ask, each in zip(asks, asked, strict=True)]

    async def _one_of_list(self, ask: Ask, wait_s: int) -> View:
        try:
            verdict, request = await self._ask_and_wait(ask, wait_s)
        except Overloaded:
            return _item(ask.id, congestion())
        except Refused as refusal:  # access ended while it waited
            return _item(ask.id, refusal)
        if isinstance(verdict, Accepted) and request is not None:
            seen = Accepted(request, verdict.ticket, verdict.repeated)
            return _item(ask.id, seen, 200 if request.final_us else 202)
        return _item(ask.id, verdict)

    # waiting

    async def _ask_and_wait(self, ask: Ask, wait_s: int) -> tuple[Verdict, Request | None]:
        """Ask, then wait for the end. The waiter stands before the request does, so no end is missed."""
        waiters = self._journey.waiters
        until_s = asyncio.get_running_loop().time() + wait_s
        wait = waiters.add(ask.id, ask.token)
        try:
            verdict = await self._journey.asks.ask(ask)
            if not isinstance(verdict, Accepted):
                return verdict, None
            if verdict.request.id != ask.id:
                return verdict, await self._wait_again(ask.token, verdict.request.id, until_s)
            return verdict, await self._wait(ask.id, wait, until_s)
        finally:
            waiters.drop(ask.id, wait)

    async def _wait_again(self, token: str, id: str, until_s: float) -> Request | None:
        """Wait for a request that was accepted earlier, under the same key."""
        wait = self._journey.waiters.add(id, token)
        wait.event.set()
        try:
            return await self._wait(id, wait, until_s)
        finally:
            self._journey.waiters.drop(id, wait)

    async def _wait(self, id: str, wait: Wait, until_s: float) -> Request | None:
        """Return the request when it is final, or ``None`` when the time is up."""
        if self._waits >= WAITS_MAX:
            return None
        self._waits += 1
        try:
            loop = asyncio.get_running_loop()
            while not self._closing and (left_s := until_s - loop.time()) > 0:
                if await wait.within(left_s):
                    request = await self._told(id, wait)
                    if request.final_us:
                        return request
            return await self._told(id, wait) if wait.chosen else None
        finally:
            self._waits -= 1

    async def _told(self, id: str, wait: Wait) -> Request:
        """Return what the commit that took the answer gave; when it gave nothing, what there is now."""
        if isinstance(wait.answer, Exception):
            raise wait.answer
        return wait.answer or await self._journey.fetch(wait.token, id, "wait")

    # one that is there

    async def get(self, token: str, id: str) -> Answer:
        """Return a request as its third party may see it now."""
        return json_answer(request_view(await self._journey.fetch(token, id_of(id))))

    async def delete(self, token: str, id: str) -> Answer:
        """Cancel: 200 when it is cancelled, 202 when the gateway was asked; 409 when it is too late."""
        try:
            (request,) = await self._journey.cancel(token, [id_of(id)])
        except Refused as refusal:
            if refusal.reason is not Reason.TOO_LATE:
                raise
            request = await self._journey.fetch(token, id_of(id))
            again = request.state == State.CANCELLED or (request.cancel_asked and not request.final_us)
            if not again:
                raise
        status = 200 if request.state == State.CANCELLED else 202
        return json_answer(request_view(without_result(request)), status)

    async def delete_campaign(self, call: Call, token: str) -> Answer:
        """Cancel whatever of a campaign can be cancelled."""
        asked = parse_qs(call.query.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
        campaign = asked.pop("campaign", [""])[0]
        if asked or not campaign:
            raise Refused(Reason.BODY_MALFORMED, "name the campaign: ?campaign=…", field="/campaign")
        check_name(campaign, "campaign")
        changed = await self._journey.cancel(token, [], campaign)
        return json_answer({"items": [request_view(without_result(request)) for request in changed]})

    def _remaining(self, ticket: Ticket | None) -> Headers:
        """Return what remains as ``RateLimit`` fields (the IETF's draft)."""
        if ticket is None or not ticket.limit:
            return []
        window_s = ticket.window_us // 1_000_000
        name = _WINDOWS.get(window_s, "window")
        left_s = max(0, -(-(ticket.reset_us - self._journey.clock.now_us()) // 1_000_000))
        return [
            (b"ratelimit-policy", f'"{name}";q={ticket.limit};w={window_s}'.encode()),
            (b"ratelimit", f'"{name}";r={ticket.remaining};t={left_s}'.encode()),
        ]


def _split(raw: bytes) -> list[msgspec.Raw]:
    try:
        items = _items.decode(raw)
    except NOT_JSON as error:
        raise malformed(error) from None
    if not 1 <= len(items) <= ITEMS_MAX:
        reason = Reason.BODY_TOO_LARGE if items else Reason.BODY_MALFORMED
        raise Refused(reason, f"a list has 1 to {ITEMS_MAX} requests, not {len(items)}")
    return items


def _outcome(asked: "asyncio.Future[Verdict] | Refused") -> Verdict | Refused:
    if isinstance(asked, Refused):
        return asked
    error = asked.exception()
    if error is None:
        return asked.result()
    if isinstance(error, StoreUnavailable | CommitUnsure):
        return out_of_reach()
    log.error("a request of a list failed", exc_info=error)
    return Refused(Reason.SYSTEM_FAILURE)


def _item(id: str, outcome: Verdict | Refused, status: int = 202) -> View:
    if isinstance(outcome, Accepted):
        shown = outcome.request if status == 200 else without_result(outcome.request)
        return {"status": status, "request": request_view(shown, outcome.ticket)}
    refusal = outcome.refusal if isinstance(outcome, Declined) else outcome
    return {"status": status_of(refusal), "problem": problem_of(refusal, id)}


def congestion() -> Refused:
    """Return the refusal when queues are at their bound."""
    return Refused(Reason.CONGESTION, retry_after_s=1.0)


def out_of_reach() -> Refused:
    """Return the refusal while the books cannot be reached or written: the same key may be used again.

    After a commit of which nobody knows whether it happened, that key finds what is there.
    """
    return Refused(Reason.SYSTEM_FAILURE, "the books cannot be reached now", retry_after_s=1.0)


def wait_of(prefer: str) -> int:
    """Return how long the caller wants to wait, in seconds (0: not); ``Prefer`` is a wish, so never wrong."""
    found = _WAIT.search(prefer)
    return min(WAIT_S_MAX, int(found.group(1))) if found else 0


def _applied(wait_s: int) -> Headers:
    return [(b"preference-applied", f"wait={wait_s}".encode())] if wait_s else []


def id_of(text: str) -> str:
    """Return a request id, or one that is nobody's for what cannot be one: both are refused alike."""
    return text if _UUID.fullmatch(text) else NOBODYS
