"""The door: every call gets its id here; what is hot goes straight to the journey, the rest to FastAPI.

No middleware stands on the hot way; refusals of both ways become problems here, and attempts go on record.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from doorward import __version__
from doorward.ccs.attempts import WHO, Attempts
from doorward.ccs.css import CustomerService
from doorward.ccs.doors.api.call import (
    Answer,
    Call,
    ClientGone,
    Message,
    Receive,
    Scope,
    Send,
    problem_answer,
    send_answer,
)
from doorward.ccs.doors.api.catalogue import catalogue_router
from doorward.ccs.doors.api.docs import docs_router
from doorward.ccs.doors.api.endpoints import endpoints_router
from doorward.ccs.doors.api.events import Streams, events_router
from doorward.ccs.doors.api.meter import CallMeter
from doorward.ccs.doors.api.oauth import oauth_router
from doorward.ccs.doors.api.openapi import Spec, describe
from doorward.ccs.doors.api.requests import Requests, congestion, out_of_reach
from doorward.ccs.doors.css import css_router
from doorward.ccs.doors.health import health_router
from doorward.ccs.doors.site import Site
from doorward.ccs.doors.systems.app import ROOT as SYSTEMS
from doorward.ccs.doors.systems.app import STREAM as SYSTEM_STREAM
from doorward.ccs.doors.systems.app import systems_app
from doorward.ccs.doors.systems.stream import SystemStreams
from doorward.ccs.endpoints import Endpoints
from doorward.ccs.journey import Journey
from doorward.ccs.ports import CommitUnsure, LeaseLost, StoreUnavailable
from doorward.ccs.possession import Possession
from doorward.ccs.reading import Reading
from doorward.ccs.rules.identity import TokenReader
from doorward.ccs.systems import Systems
from doorward.ccs.tokens import TokenDesk
from doorward.kit.gather import Overloaded
from doorward.kit.ids import uuid7
from doorward.kit.serving import CERTIFICATE
from doorward.wire.reasons import Reason, Refused

log = structlog.get_logger(__name__)

REQUESTS = "/v1/requests"
STREAM = "/v1/events/stream"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the door stands on. ``ready`` gives ``""``, or in words why no traffic should come."""

    journey: Journey
    reading: Reading
    endpoints: Endpoints
    desk: TokenDesk
    possession: Possession
    attempts: Attempts
    meter: CallMeter
    issuer: str
    token_keys: dict[str, dict[str, str]]
    webhook_keys: dict[str, dict[str, str]]
    ready: Callable[[], Awaitable[str]]
    site: Site
    systems: Systems
    system_endpoints: Endpoints
    css: CustomerService
    shared: bool = False
    takes_certificates: bool = False
    """Whether TLS asks third parties for a certificate."""


class Door:
    """The ASGI application of the third parties' API."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._journey = parts.journey
        self._requests = Requests(parts.journey)
        self._streams = Streams(parts.journey, parts.reading, shared=parts.shared)
        self._rest = build_rest(parts)
        self._system_streams = SystemStreams(parts.systems)
        utility = systems_app(parts.systems, parts.system_endpoints, __version__)
        utility.include_router(css_router(parts.css))
        self._systems = answering(utility, parts)

    def close(self) -> None:
        """Let go of whoever waits or follows, so that the server can stop; calls that run are finished."""
        self._requests.close()
        self._streams.close()
        self._system_streams.close()
        self._parts.site.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            raise RuntimeError(f"this door serves http, not {scope['type']}")
        call = self._call(scope, receive)
        sent = _Sent(send, call.id)
        try:
            await self._serve(call, scope, receive, sent)
        except ClientGone:
            return
        except Exception as error:
            if sent.begun:
                log.exception("a call failed with its answer begun", request_id=call.id)
                return
            await send_answer(failed(self._parts, error, call), call.id, send)

    def _call(self, scope: Scope, receive: Receive) -> Call:
        now_us = self._journey.clock.now_us()
        client = scope.get("client")
        return Call(
            id=uuid7(now_us, self._journey.rng),
            received_us=now_us,
            source=client[0] if client else "",
            headers=dict(scope["headers"]),
            query=scope["query_string"],
            receive=receive,
            certificate=scope.get(CERTIFICATE, b""),
        )

    async def _serve(self, call: Call, scope: Scope, receive: Receive, sent: "_Sent") -> None:
        path, method = scope["path"], scope["method"]
        if self._parts.site.serves(path):
            await self._parts.site(scope, receive, sent.with_id)
            return
        if path.startswith("/utility/"):
            await self._utility(call, scope, receive, sent)
            return
        if not path.startswith("/v1/"):
            scope["doorward.call"] = call
            await self._rest(scope, receive, sent.with_id)
            return
        raw_path = scope["raw_path"].decode("latin-1")
        token, party = await self._caller(call, method, raw_path, self._journey.tokens)
        if path == STREAM and method == "GET":
            await self._streams.serve(call, token, party, sent.send)
            return
        answer = None
        if path.startswith(REQUESTS):
            answer = await self._request(call, token, method, path[len(REQUESTS) :])
        if answer is not None:
            await send_answer(answer, call.id, sent.send)
        else:
            scope["doorward.call"] = call
            await self._rest(scope, receive, sent.with_id)

    async def _utility(self, call: Call, scope: Scope, receive: Receive, sent: "_Sent") -> None:
        """Serve the utility's other systems, whose tokens are for their part of the door alone."""
        path, method = scope["path"], scope["method"]
        if path.startswith(f"{SYSTEMS}/"):
            raw_path = scope["raw_path"].decode("latin-1")
            token, system = await self._caller(call, method, raw_path, self._parts.systems.tokens)
            if path == SYSTEM_STREAM and method == "GET":
                await self._system_streams.serve(call, token, system, sent.send)
                return
        scope["doorward.call"] = call
        await self._systems(scope, receive, sent.with_id)

    async def _caller(self, call: Call, method: str, path: str, tokens: TokenReader) -> tuple[str, str]:
        """Return the token, and whom it names by its signature, within their rate, with its key if it has one.

        All else about them is asked in a transaction.
        """
        self._parts.meter.require_source(call.source)
        shown = call.shown(method, path)
        claims = tokens.read(shown.token)
        await self._parts.meter.require(claims.sub)
        if claims.cnf is not None or shown.scheme != "bearer":
            await self._parts.possession.require(claims, shown)
        return shown.token, claims.sub

    async def _request(self, call: Call, token: str, method: str, rest: str) -> Answer | None:
        """Serve the hot ways; ``None`` for what FastAPI serves."""
        if rest == "" and method == "POST":
            answer = await self._requests.post(call, token)
            if answer.status == 401:
                self._parts.meter.failed(call.source)
            return answer
        if rest == "" and method == "DELETE":
            return await self._requests.delete_campaign(call, token)
        if rest[:1] == "/" and "/" not in rest[1:]:
            if method == "GET":
                return await self._requests.get(token, rest[1:])
            if method == "DELETE":
                return await self._requests.delete(token, rest[1:])
        return None


class _Sent:
    """Passes messages on to the server, and remembers whether an answer has begun."""

    def __init__(self, send: Send, id: str) -> None:
        self._send = send
        self._id = (b"x-request-id", id.encode())
        self.begun = False

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)

    async def with_id(self, message: Message) -> None:
        """Send, with the request id among the headers."""
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], self._id]
        await self.send(message)


# ---- refusals -------------------------------------------------------------------------------------------


def failed(parts: Parts, error: BaseException, call: Call) -> Answer:
    """Return the problem that an error is; what was an attempt goes on record (F24), bounded."""
    if isinstance(error, Refused):
        if error.reason in WHO:
            parts.meter.failed(call.source)
        parts.attempts.note(call.id, error, call.source, _named(parts, call))
        return problem_answer(error, call.id)
    if isinstance(error, Overloaded | LeaseLost):
        return problem_answer(congestion(), call.id)
    if isinstance(error, StoreUnavailable | CommitUnsure):
        log.warning("a call found no books", request_id=call.id, error=str(error))
        return problem_answer(out_of_reach(), call.id)
    log.error("a call failed", request_id=call.id, exc_info=error)
    return problem_answer(Refused(Reason.SYSTEM_FAILURE), call.id)


def _named(parts: Parts, call: Call) -> str:
    """Return the third party that a rightly signed token names, whatever else is wrong with it."""
    for tokens in (parts.journey.tokens, parts.systems.tokens):
        try:
            return tokens.read(call.bearer()).sub
        except Refused:
            continue
    return ""


# ---- what FastAPI serves --------------------------------------------------------------------------------


def build_rest(parts: Parts) -> FastAPI:
    """Return the application behind everything that is not hot."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, title="Doorward", version=__version__)
    app.include_router(
        oauth_router(
            parts.desk,
            parts.attempts,
            parts.meter,
            parts.issuer,
            parts.token_keys,
            parts.webhook_keys,
            takes_certificates=parts.takes_certificates,
        )
    )
    app.include_router(catalogue_router(parts.reading))
    app.include_router(events_router(parts.reading))
    app.include_router(endpoints_router(parts.endpoints))
    app.include_router(health_router(parts.ready))
    described: list[Spec] = []

    def description() -> Spec:
        if not described:
            described.append(describe(app, __version__))
        return described[0]

    app.include_router(docs_router(description))
    return answering(app, parts)


def answering(app: FastAPI, parts: Parts) -> FastAPI:
    """Return the application with every error of its routes as a problem."""

    async def wrong(request: Request, error: Exception) -> Response:
        return _response(failed(parts, error, request.scope["doorward.call"]))

    for kind in (Refused, Overloaded, LeaseLost, StoreUnavailable, CommitUnsure):
        app.add_exception_handler(kind, wrong)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _error: Exception) -> Response:
        # Starlette raises it again when this is sent, and the door logs it.
        call: Call = request.scope["doorward.call"]
        return _response(problem_answer(Refused(Reason.SYSTEM_FAILURE), call.id))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _response(failed(parts, _invalid(error), request.scope["doorward.call"]))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        call: Call = request.scope["doorward.call"]
        if error.status_code == 404:
            return _response(problem_answer(Refused(Reason.NOT_FOUND), call.id))
        said = Refused(Reason.BODY_MALFORMED, f"{request.method} {request.url.path}: {error.detail}")
        answer = problem_answer(said, call.id, error.status_code)
        return _response(answer, dict(error.headers or {}))

    return app


def _invalid(error: RequestValidationError) -> Refused:
    first = error.errors()[0]
    where, *rest = first["loc"]
    if where == "path":
        return Refused(Reason.NOT_FOUND)
    return Refused(Reason.BODY_MALFORMED, first["msg"], field="".join(f"/{part}" for part in rest))


def _response(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    response = Response(answer.body, answer.status, headers)
    for name, value in answer.headers:
        response.headers[name.decode()] = value.decode()
    return response
