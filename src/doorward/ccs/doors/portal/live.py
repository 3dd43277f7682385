"""Pages that follow something: server-sent fragments, bounded in number, in time and in what each may cost.

A stream sends the whole fragment when it changed, under an id; a browser that comes again with that id gets
only what is new. Whoever loses the stream keeps a page that is whole, and may load it again.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.responses import Response, StreamingResponse

from doorward.ccs.doors.portal.visit import Visit
from doorward.wire.reasons import Reason, Refused

LOOK_S = 0.25
"""How often a stream looks; what happens between two looks comes together."""
QUIET_S = 15.0
"""After so long without news a stream says that it is still there."""
LIFE_S_MAX = 300.0
"""After so long a stream ends; the browser opens another one if its page is still there."""
PER_PERSON_MAX = 6
STREAMS_MAX = 500

Look = Callable[[], Awaitable[tuple[str, bool]]]
"""Gives the fragment as it is now, and whether it is over: nothing will change any more."""


class Streams:
    """The streams of one portal; ``closing`` ends all of them."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, person: str) -> Iterator[None]:
        """Hold a place among the streams."""
        self._open[person] += 1
        try:
            yield
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]

    def require_room(self, person: str) -> None:
        """Raise ``rate-limited`` beyond the bounds."""
        if self._open[person] >= PER_PERSON_MAX or self._open.total() >= STREAMS_MAX:
            raise Refused(Reason.RATE_LIMITED, "too many pages are following something", retry_after_s=5.0)


def live(visit: Visit, look: Look) -> Response:
    """Return the answer that follows something. Raises ``rate-limited`` beyond the bounds."""
    person = visit.person.id if visit.person else ""
    visit.streams.require_room(person)
    seen = visit.request.headers.get("last-event-id", "")
    stream = _stream(visit.streams, person, look, seen)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _stream(streams: Streams, person: str, look: Look, seen: str) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    began_s = spoke_s = loop.time()
    with streams.place(person):
        while not streams.closing.is_set() and loop.time() - began_s < LIFE_S_MAX:
            fragment, over = await look()
            name = hashlib.sha256(fragment.encode()).hexdigest()[:16]
            if name != seen:
                seen, spoke_s = name, loop.time()
                yield _event(name, fragment)
            elif loop.time() - spoke_s > QUIET_S:
                spoke_s = loop.time()
                yield b": still here\n\n"
            if over:
                yield b"event: end\ndata: over\n\n"
                return
            await _pause(streams.closing)


async def _pause(closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_S):
            await closing.wait()
    except TimeoutError:
        return


def _event(name: str, fragment: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in fragment.splitlines() if line.strip())
    return f"id: {name}\n{lines}\n".encode()
