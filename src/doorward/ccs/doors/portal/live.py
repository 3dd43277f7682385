"""Pages that follow something: server-sent fragments, bounded in number, in time and in what each may cost.

A stream sends the whole fragment when it changed, under an id; a browser that comes again with that id gets
only what is new. Whoever loses the stream keeps a page that is whole, and may load it again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.responses import Response, StreamingResponse

from doorward.ccs.doors.portal.streams import Streams
from doorward.ccs.doors.portal.visit import Visit

LOOK_S = 0.25
"""How often a stream looks; what happens between two looks comes together."""
QUIET_S = 15.0
"""After so long without news a stream says that it is still there."""
LIFE_S_MAX = 300.0
"""After so long a stream ends; the browser opens another one if its page is still there."""

Look = Callable[[], Awaitable[tuple[str, bool]]]
"""Gives the fragment as it is now, and whether it is over: nothing will change any more."""


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
