"""One HTTP call as the door sees it, and its answer; nothing here knows what it is about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from doorward.ccs.doors.problem import Headers, problem_headers, problem_of
from doorward.ccs.rules.possession import Shown
from doorward.wire.reasons import Reason, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES_MAX = 1024 * 1024
BODY_WAIT_S_MAX = 8.0
SCHEMES = (b"bearer", b"dpop")
JSON: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]

_encode = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """Whoever called has hung up: there is nobody to answer."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back."""

    status: int
    headers: Headers
    body: bytes


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call: ``id`` is new, ``source`` the address that it came from.

    ``certificate`` is the DER of the TLS client's certificate, empty without one.
    """

    id: str
    received_us: int
    source: str
    headers: Mapping[bytes, bytes]
    query: bytes
    receive: Receive
    certificate: bytes = b""

    def header(self, name: bytes) -> str:
        """Return a header, ``""`` when it is not there."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    def bearer(self) -> str:
        """Return the access token; raise ``not-authenticated``."""
        return bearer_of(self.headers.get(b"authorization", b""))

    def shown(self, method: str, path: str) -> Shown:
        """Return the token with all that goes with it; raise ``not-authenticated``."""
        return Shown(
            scheme=self.header(b"authorization").partition(" ")[0].lower(),
            token=self.bearer(),
            proof=self.header(b"dpop"),
            certificate=self.certificate,
            method=method,
            path=path,
        )

    async def json(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Return the body of a call that says that it is JSON."""
        kind = self.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        if kind != b"application/json":
            raise Unsupported("the body must be application/json")
        return await self.body(bytes_max)

    async def body(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Return the body; raise ``body-too-large``, or ``body-malformed`` when it does not come in time."""
        return await read_body(self.headers.get(b"content-length", b""), self.receive, bytes_max)


class Unsupported(Refused):
    """A body of another media type (HTTP 415)."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.BODY_MALFORMED, detail)


class TooSlow(Refused):
    """A body that does not come (HTTP 408)."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.BODY_MALFORMED, detail)


def bearer_of(header: bytes) -> str:
    """Return the token of an ``Authorization`` header (Bearer or DPoP); raise ``not-authenticated``."""
    scheme, _, token = header.partition(b" ")
    if scheme.lower() not in SCHEMES:
        raise Refused(Reason.NOT_AUTHENTICATED, "send an access token: Authorization: Bearer …")
    return token.decode("latin-1").strip()


async def read_body(declared: bytes, receive: Receive, bytes_max: int) -> bytes:
    """Read a body of at most ``bytes_max``, chunked or not, within the time that a body may take."""
    if declared.isdigit() and int(declared[:20]) > bytes_max:
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(BODY_WAIT_S_MAX):
            first = await _part(receive)
            body = first.get("body", b"")
            if not first.get("more_body") and len(body) <= bytes_max:
                return bytes(body)
            return await _rest(bytearray(body), receive, bytes_max)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {BODY_WAIT_S_MAX:.0f} s") from None


async def _rest(body: bytearray, receive: Receive, bytes_max: int) -> bytes:
    more = True
    while more:
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        part = await _part(receive)
        body += part.get("body", b"")
        more = part.get("more_body", False)
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    return bytes(body)


async def _part(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _too_large(bytes_max: int) -> Refused:
    return Refused(Reason.BODY_TOO_LARGE, f"a body has at most {bytes_max} bytes")


def json_answer(view: object, status: int = 200, headers: Headers | None = None) -> Answer:
    """Return an answer with a JSON body."""
    return Answer(status, [*JSON, *headers] if headers else JSON, _encode(view))


def problem_answer(refusal: Refused, id: str, status: int = 0) -> Answer:
    """Return the problem that a refusal is."""
    if isinstance(refusal, Unsupported):
        status = 415
    if isinstance(refusal, TooSlow):
        status = 408
    problem = problem_of(refusal, id, status)
    headers = problem_headers(problem, refusal.reason)
    if refusal.reason is Reason.BODY_TOO_LARGE or problem.status == 408:
        headers.append((b"connection", b"close"))  # what is still coming is not read
    return Answer(problem.status, headers, _encode(problem))


async def send_answer(answer: Answer, id: str, send: Send) -> None:
    """Send an answer with its request id and its length."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                *answer.headers,
                (b"content-length", str(len(answer.body)).encode()),
                (b"x-request-id", id.encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})
