"""For whoever watches over the process: does it live, and may traffic be sent to it."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

READY_WAIT_S_MAX = 2.0


def health_router(ready: Callable[[], Awaitable[str]]) -> APIRouter:
    """Return the routes. ``ready`` gives ``""``, or in words why no traffic should come."""
    router = APIRouter(tags=["health"], default_response_class=Response)

    @router.get("/healthz")
    async def live() -> Response:
        """Say that the process runs."""
        return Response("ok\n", media_type="text/plain")

    @router.get("/readyz", responses={503: {"description": "No traffic, please; the text says why."}})
    async def may_serve() -> Response:
        """Say whether the store answers and the process is not on its way out."""
        try:
            async with asyncio.timeout(READY_WAIT_S_MAX):
                why = await ready()
        except TimeoutError:
            why = "the store does not answer"
        return Response(f"{why or 'ok'}\n", 503 if why else 200, media_type="text/plain")

    return router
