"""What happened: by polling, and as server-sent events that go on where the last connection ended.

A stream is as bounded as anything else: so many per third party, as long as its token lives, and a reader
that does not keep up is let go; it comes back with ``Last-Event-ID`` and misses nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import parse_qs

import msgspec
import structlog
from fastapi import APIRouter, Query, Response

from doorward.ccs.doors.api.call import Call, ClientGone, Send
from doorward.ccs.doors.api.openapi import answers
from doorward.ccs.doors.api.parts import PRINTABLE, Cursor, Limit, Token, json_response
from doorward.ccs.journey import Journey
from doorward.ccs.reading import NOW, Reading
from doorward.ccs.rules.asking import check_name
from doorward.ccs.views import View
from doorward.wire.reasons import Reason, Refused

log = structlog.get_logger(__name__)

PAGE = 100
STREAMS_PER_PARTY_MAX = 8
STREAMS_MAX = 2_000
KEEP_ALIVE_S = 15.0
POLL_S = 1.0
"""How often a stream looks by itself where other workers may have news; a lone worker hears of all of it."""
WRITE_WAIT_S_MAX = 10.0
KINDS_MAX = 16

_encode = msgspec.json.Encoder().encode
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def events_router(reading: Reading) -> APIRouter:
    """Return the route by which events are polled."""
    router = APIRouter(prefix="/v1", tags=["events"], default_response_class=Response)

    @router.get("/events", **answers("Events", malformed=True))
    async def list_events(
        token: Token,
        after: Cursor = "",
        kind: Annotated[
            list[Annotated[str, Query(max_length=64, pattern=PRINTABLE)]], Query(max_length=KINDS_MAX)
        ] = [],  # noqa: B006
        limit: Limit = PAGE,
    ) -> Response:
        """List what happened after a cursor, oldest first; results are authorised at this moment."""
        items = await reading.events(token, after=after, kinds=kind, limit=limit, channel="poll")
        following = items[-1]["cursor"] if items else after or None
        return json_response({"items": items, "next": following})

    return router


class Streams:
    """Server-sent events. ``shared``: whether other workers write to the same books."""

    def __init__(self, journey: Journey, reading: Reading, *, shared: bool) -> None:
        self._journey = journey
        self._reading = reading
        self._look_s = POLL_S if shared else KEEP_ALIVE_S
        self._open: Counter[str] = Counter()
        self._closing = False

    def close(self) -> None:
        """End all streams, soon."""
        self._closing = True
        self._journey.pushing.news.wake_all()

    async def serve(self, call: Call, token: str, party: str, send: Send) -> None:
        """Stream until the reader leaves, falls behind, or may not have it any more."""
        after, kinds = _asked(call)
        after = await self._reading.start(token, after)
        with self._place(party):
            stream = EventStream(call.id, send)
            await stream.begin()
            gone = asyncio.ensure_future(hangs_up(call))
            try:
                await self._run(stream, token, party, after, kinds, gone)
            except (TimeoutError, ClientGone):
                log.info("stream: the reader is gone or too slow", request_id=call.id)
            except Refused as refusal:
                await stream.write(b"event: end\ndata: %s\n\n" % _encode({"reason": refusal.reason}))
            finally:
                gone.cancel()
            await stream.end()

    async def _run(
        self,
        stream: "EventStream",
        token: str,
        party: str,
        after: str,
        kinds: list[str],
        gone: "asyncio.Future[None]",
    ) -> None:
        news = self._journey.pushing.news
        woken = news.add(party)
        gone.add_done_callback(lambda _: woken.event.set())
        loop = asyncio.get_running_loop()
        spoke_s = loop.time()
        try:
            while not self._closing and not gone.done():
                woken.event.clear()
                events = await self._reading.events(
                    token, after=after, kinds=kinds, limit=PAGE, channel="stream"
                )
                if events:
                    await stream.write(b"".join(_lines(event) for event in events))
                    after = events[-1]["cursor"]
                elif loop.time() - spoke_s >= KEEP_ALIVE_S:
                    await stream.write(b": still here\n\n")
                else:
                    await woken.within(self._look_s)
                    continue
                spoke_s = loop.time()
        finally:
            news.drop(party, woken)

    @contextmanager
    def _place(self, party: str) -> Iterator[None]:
        if self._open[party] >= STREAMS_PER_PARTY_MAX or self._open.total() >= STREAMS_MAX:
            raise Refused(
                Reason.RATE_LIMITED, f"at most {STREAMS_PER_PARTY_MAX} streams at once", retry_after_s=5.0
            )
        self._open[party] += 1
        try:
            yield
        finally:
            self._open[party] -= 1
            if not self._open[party]:
                del self._open[party]


class EventStream:
    """Writes, each within the time that a write may take."""

    def __init__(self, id: str, send: Send) -> None:
        self._id = id
        self._send = send

    async def begin(self) -> None:
        """Send the head."""
        headers = [*_HEADERS, (b"x-request-id", self._id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.write(b": doorward\n\n")

    async def write(self, data: bytes) -> None:
        """Send; raise ``TimeoutError`` for a reader that is too slow."""
        async with asyncio.timeout(WRITE_WAIT_S_MAX):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Send the end."""
        async with asyncio.timeout(WRITE_WAIT_S_MAX):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def hangs_up(call: Call) -> None:
    """Return when whoever called has left."""
    while (await call.receive())["type"] != "http.disconnect":
        pass


def _asked(call: Call) -> tuple[str, list[str]]:
    """Return the cursor to go on after (from now on, when nothing says) and the kinds that are wanted."""
    query = parse_qs(call.query.decode("latin-1"), keep_blank_values=True, max_num_fields=KINDS_MAX + 1)
    kinds = query.pop("kind", [])
    after = query.pop("after", [NOW])[0]
    if query:
        name = next(iter(query))
        raise Refused(Reason.BODY_MALFORMED, "there is no such parameter", field=f"/{name}")
    for kind in kinds:
        check_name(kind, "kind")
    after = call.header(b"last-event-id") or after
    check_name(after, "after")
    return after, kinds


def _lines(event: View) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event["cursor"].encode(),
        event["type"].encode(),
        _encode(event),
    )
