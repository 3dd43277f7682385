"""A tiny CCS: the shapes of the API over real HTTP, with a script of what goes wrong."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NOW = "2027-01-15T08:00:00.000000Z"


def problem(status: int, reason: str, **more: Any) -> JSONResponse:
    body = {"type": f"/problems/{reason}", "title": "No.", "status": status, "detail": f"because {reason}"}
    headers = more.pop("headers", None)
    body |= {"reason": reason, "request_id": "r-1"} | more
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def resource(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "0190-1",
        "state": "DONE",
        "operation": asked["operation"],
        "scope": asked.get("scope", "device"),
        "service_point": asked.get("service_point", "SP-1"),
        "device": asked.get("device", ""),
        "format": "ev_charger.limit/1",
        "start": None,
        "until": asked.get("until"),
        "cause": "grid",
        "campaign": asked.get("campaign", ""),
        "priority": "normal",
        "key": asked.get("key", ""),
        "received": NOW,
        "deadline": NOW,
        "final": NOW,
        "reason": None,
        "detail": "",
        "answer": "DELIVERED",
        "settlement": "",
        "result": {"device": asked.get("device", ""), "power_w": 1400.0},
        "attempts": 1,
        "links": {"self": "/v1/requests/0190-1", "journey": "/v1/requests/0190-1/journey"},
    } | more


class FakeApi:
    """Answers like a CCS. ``script`` holds answers to give first; ``seen`` what was asked."""

    def __init__(self) -> None:
        self.script: list[Response] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.tokens_given: list[dict[str, str]] = []
        self.token_life_s = 600
        self.good_tokens: set[str] = set()
        self.streams: list[list[tuple[str, dict[str, Any]]]] = []
        self.stream_refusals: list[Response] = []
        self.not_final_yet = 0
        self.grants: list[dict[str, Any]] = [
            {
                "id": "G-1",
                "service_point": "SP-1",
                "version": 3,
                "state": "live",
                "devices": [],
                "sequence": 7,
            }
        ]
        self.url = ""

    def asked(self, method: str, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [
            (headers, body) for seen, where, headers, body in self.seen if (seen, where) == (method, path)
        ]

    async def token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), strict_parsing=True))
        basic = request.headers.get("authorization", "")
        if basic:
            form["basic"] = base64.b64decode(basic.removeprefix("Basic ")).decode()
        self.tokens_given.append(form)
        if form.get("basic") == "brightgrid:wrong":
            return JSONResponse({"error": "invalid_client", "error_description": "no such client"}, 401)
        token = f"token-{len(self.tokens_given)}"
        self.good_tokens.add(token)
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s})

    async def any(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        self.seen.append((request.method, path, dict(request.headers), body))
        if request.headers.get("authorization", "")[7:] not in self.good_tokens:
            return problem(401, "token-revoked")
        if self.script:
            return self.script.pop(0)
        return self.answer(request, path, body)

    def answer(self, request: Request, path: str, body: bytes) -> Response:
        if request.method == "POST" and path == "/v1/requests":
            asked = json.loads(body)
            if isinstance(asked, list):
                return JSONResponse({"items": [self.item(one) for one in asked]})
            item = self.item(asked)
            if "problem" in item:
                return problem(404, "device-unknown", field="/device")
            return JSONResponse(item["request"])
        if request.method == "DELETE":
            asked = {"operation": "limit", "campaign": request.query_params.get("campaign", "")}
            one = resource(asked, state="CANCELLED", result=None)
            return JSONResponse({"items": [one]} if path == "/v1/requests" else one)
        return self.look(request, path)

    def item(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("device") == "NOT-MINE":
            said = {
                "reason": "device-unknown",
                "status": 404,
                "title": "No.",
                "detail": "",
                "field": "/device",
            }
            return {"status": 404, "problem": said}
        return {"status": 202, "request": resource(asked)}

    def look(self, request: Request, path: str) -> Response:
        device = {
            "id": "EV-1",
            "name": "Garage",
            "class": "ev_charger",
            "service_point": "SP-1",
            "operations": ["read", "limit"],
            "bounds": {},
            "formats": ["ev_charger.read/1"],
            "grant": "G-1",
            "expires": NOW,
        }
        after = request.query_params.get("after")
        step = {"at": NOW, "step": "received", "actor": "ccs", "outcome": "ok", "sentence": "It came."}
        if path == "/v1/requests/0190-1" and self.not_final_yet:
            self.not_final_yet -= 1
            return JSONResponse(resource({"operation": "read"}, state="SENT", final=None, answer=""))
        answers: dict[str, Any] = {
            "/v1/requests": {"items": [resource({"operation": "read"})], "next": None},
            "/v1/requests/0190-1": resource({"operation": "read"}),
            "/v1/requests/0190-1/journey": {
                "request": "0190-1",
                "state": "DONE",
                "times": {"received": NOW, "pushed_to_han": None},
                "steps": [step],
            },
            "/v1/devices": {"items": [device]},
            "/v1/devices/EV-1": device,
            "/v1/grants": {
                "items": [one for one in self.grants if after is None or one["sequence"] > int(after)],
                "next": None,
            },
            "/v1/limits": {
                "service_point": "SP-1",
                "windows": [{"window_s": 3600, "limit": 24, "remaining": 22, "reset": NOW}],
                "tier": {"name": "basic", "per_hour": 24, "per_day": 576, "response_s": 60},
            },
        }
        return JSONResponse(answers[path]) if path in answers else problem(404, "not-found")

    async def stream(self, request: Request) -> Response:
        self.seen.append(("GET", request.url.path, dict(request.headers), request.url.query.encode()))
        if request.headers.get("authorization", "")[7:] not in self.good_tokens:
            return problem(401, "token-revoked")
        if self.stream_refusals:
            return self.stream_refusals.pop(0)
        events = self.streams.pop(0) if self.streams else []

        async def lines() -> AsyncIterator[str]:
            yield ": hello\n\n"
            for cursor, event in events:
                yield f"id: {cursor}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(lines(), media_type="text/event-stream")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/oauth/token", self.token, methods=["POST"]),
                Route("/v1/events/stream", self.stream),
                Route("/{path:path}", self.any, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )


@asynccontextmanager
async def serving(api: FakeApi) -> AsyncIterator[FakeApi]:
    server = uvicorn.Server(uvicorn.Config(api.app(), port=0, log_level="error", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    api.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield api
    finally:
        server.should_exit = True
        await running
