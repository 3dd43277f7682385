"""The feed of everything, live: CloudEvents as server-sent events that go on where the last connection ended."""

import asyncio
from collections import Counter
from urllib.parse import parse_qs

import msgspec
import structlog

from doorward.ccs.doors.api.call import Call, ClientGone, Send
from doorward.ccs.doors.api.events import EventStream, hangs_up
from doorward.ccs.rules.asking import check_name
from doorward.ccs.rules.feed import Filter
from doorward.ccs.systems import NOW, Systems
from doorward.ccs.views import View
from doorward.wire.reasons import Reason, Refused
from doorward.wire.times import from_rfc3339

log = structlog.get_logger(__name__)

PAGE = 100
STREAMS_PER_SYSTEM_MAX = 8
STREAMS_MAX = 200
KEEP_ALIVE_S = 15.0
LOOK_S = 0.5
"""How often a stream looks for news."""
FIELDS_MAX = 32
_FILTERS = {"third_party": "party", "service_point": "service_point", "gateway": "gateway"}
"""Name in the query → field of the filter."""
_encode = msgspec.json.Encoder().encode


class SystemStreams:
    """Server-sent events for the utility's systems: so many per system, as long as its token lives."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._open: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams, soon."""
        self._closing.set()

    async def serve(self, call: Call, token: str, system: str, send: Send) -> None:
        """Stream until the reader leaves, falls behind, or may not have it any more."""
        after, since_us, filter = asked(call)
        after = await self._systems.start(token, after, since_us)
        await self._systems.events(token, after, filter, 1)  # what is wrong with the question is said before
        if self._open[system] >= STREAMS_PER_SYSTEM_MAX or self._open.total() >= STREAMS_MAX:
            raise Refused(
                Reason.RATE_LIMITED, f"at most {STREAMS_PER_SYSTEM_MAX} streams at once", retry_after_s=5.0
            )
        self._open[system] += 1
        try:
            await self._stream(call, EventStream(call.id, send), token, after, filter)
        finally:
            self._open[system] -= 1

    async def _stream(self, call: Call, stream: EventStream, token: str, after: str, filter: Filter) -> None:
        await stream.begin()
        gone = asyncio.ensure_future(hangs_up(call))
        try:
            await self._run(stream, token, after, filter, gone)
        except (TimeoutError, ClientGone):
            log.info("stream: the reader is gone or too slow", request_id=call.id)
        except Refused as refusal:
            await stream.write(b"event: end\ndata: %s\n\n" % _encode({"reason": refusal.reason}))
        finally:
            gone.cancel()
        await stream.end()

    async def _run(
        self, stream: EventStream, token: str, after: str, filter: Filter, gone: "asyncio.Future[None]"
    ) -> None:
        loop = asyncio.get_running_loop()
        spoke_s = loop.time()
        while not self._closing.is_set() and not gone.done():
            events, following = await self._systems.events(token, after, filter, PAGE)
            if events:
                await stream.write(b"".join(_lines(each) for each in events))
                spoke_s = loop.time()
            elif loop.time() - spoke_s >= KEEP_ALIVE_S:
                await stream.write(b": still here\n\n")
                spoke_s = loop.time()
            if following == after:
                await asyncio.wait([gone], timeout=LOOK_S)
            after = following


def asked(call: Call) -> tuple[str, int, Filter]:
    """Return where to go on from (now, when nothing says), and what is wanted; raise ``body-malformed``."""
    query = parse_qs(call.query.decode("latin-1"), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    kinds = query.pop("kind", [])
    failed = query.pop("failed_only", ["false"])[0]
    since = query.pop("since", [""])[0]
    after = call.header(b"last-event-id") or query.pop("after", [NOW])[0]
    query.pop("after", None)
    named = {field: query.pop(name, [""])[0] for name, field in _FILTERS.items()}
    if query:
        raise Refused(Reason.BODY_MALFORMED, "there is no such parameter", field=f"/{next(iter(query))}")
    for name, value in {**named, "after": after}.items():
        check_name(value, name)
    filter = Filter(kinds=kinds, failed_only=failed == "true", **named)
    return after, 0 if call.header(b"last-event-id") else time_of(since, "since"), filter


def time_of(text: str, field: str) -> int:
    """Return a time of a query, 0 for none; raise ``body-malformed``."""
    if not text:
        return 0
    try:
        return max(1, from_rfc3339(text))
    except (ValueError, OverflowError) as error:
        raise Refused(Reason.BODY_MALFORMED, f"no time: {error}", field=f"/{field}") from None


def _lines(event: View) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event["cursor"].encode(),
        event["type"].encode(),
        _encode(event),
    )
