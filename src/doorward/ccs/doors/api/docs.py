"""The API's description and its page, and a page for each reason: all from here, nothing from other sites."""

import gzip
from collections.abc import Callable
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from doorward.ccs.doors.problem import STATUS
from doorward.wire.reasons import SENTENCES, Reason, Refused

PLACE = Path(__file__).parent / "assets"
TYPES: MappingProxyType[str, str] = MappingProxyType(
    {
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "swagger-ui.css": "text/css; charset=utf-8",
        "docs.js": "text/javascript; charset=utf-8",
    }
)
SHA256: MappingProxyType[str, str] = MappingProxyType(
    {
        "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
        "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    }
)
"""Of the vendored files (swagger-ui-dist 5.35.0), unpacked; a test compares them."""
# Swagger UI sets styles from its script; scripts themselves come from files of ours only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
_KEPT = {"cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}


def docs_router(describe: Callable[[], dict[str, Any]]) -> APIRouter:
    """Return the routes. ``describe`` gives the OpenAPI document."""
    router = APIRouter(default_response_class=Response, include_in_schema=False)

    @router.get("/openapi.json")
    async def description() -> Response:
        return Response(msgspec.json.encode(describe()), media_type="application/json")

    @router.get("/docs")
    async def page() -> Response:
        return Response((PLACE / "docs.html").read_bytes(), media_type="text/html", headers=_PAGE)

    @router.get("/docs/assets/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in TYPES:
            raise Refused(Reason.NOT_FOUND)
        packed = PLACE / f"{name}.gz"
        if not packed.exists():
            return Response((PLACE / name).read_bytes(), media_type=TYPES[name], headers=_KEPT)
        raw, headers = packed.read_bytes(), {**_KEPT, "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
        else:
            raw = gzip.decompress(raw)
        return Response(raw, media_type=TYPES[name], headers=headers)

    @router.get("/problems/{reason}")
    async def problem(request: Request, reason: str) -> Response:
        if reason not in set(Reason):
            raise Refused(Reason.NOT_FOUND)
        return _about(Reason(reason), "text/html" in request.headers.get("accept", ""))

    return router


def _about(reason: Reason, html: bool) -> Response:
    said, status = SENTENCES[reason], STATUS[reason]
    if not html:
        view = {"type": f"/problems/{reason.value}", "reason": reason, "title": said, "status": status}
        return Response(msgspec.json.encode(view), media_type="application/json")
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(reason.value)}</title>'
        f"<h1>{escape(reason.value)}</h1><p>{escape(said)}</p><p>HTTP status {status}.</p>"
        '<p><a href="/docs">The API</a></p></html>'
    )
    return Response(text, media_type="text/html", headers=_PAGE)
