"""The portal as an ASGI application: every call passes here, in this order.

Who is it → may they (the closed table of ``rules/rights.py``) → did the form come from our own page → the
page. Whatever is refused becomes a page in the same dress.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from doorward.ccs.doors.api.call import ClientGone, Receive, Scope, Send, read_body
from doorward.ccs.doors.portal.pages import every_page
from doorward.ccs.doors.portal.security import HEADERS, STRICT_TRANSPORT, from_elsewhere
from doorward.ccs.doors.portal.streams import Streams
from doorward.ccs.doors.portal.visit import Page, Parts, Visit
from doorward.ccs.doors.problem import STATUS
from doorward.ccs.rules.rights import reach
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url

log = structlog.get_logger(__name__)

ROOT = "/portal"
FORM_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 1_000
FORM_COOKIE_BYTES = 16
TOKEN_CHARS_MAX = 64


class Portal:
    """Serves the pages of :func:`every_page` under ``/portal``, and our own files."""

    def __init__(self, parts: Parts, pages: Sequence[Page] | None = None) -> None:
        self._parts = parts
        self.pages = list(every_page() if pages is None else pages)
        self._routes = [
            (Route(ROOT + page.path, _unused, methods=[page.method]), page) for page in self.pages
        ]
        self._streams = Streams()

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is the portal's."""
        return path == "/" or path == ROOT or path.startswith(f"{ROOT}/")

    def close(self) -> None:
        """Let go of whoever follows something live."""
        self._streams.closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        request = Request(scope, receive)
        response = await self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if self._parts.cookies.secure:
            response.headers.setdefault("strict-transport-security", STRICT_TRANSPORT)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        now_us = self._parts.journey.clock.now_us()
        visit = Visit(request=request, parts=self._parts, streams=self._streams, now_us=now_us)
        try:
            return await self._serve(visit)
        except Refused as refusal:
            return self._refused(visit, refusal)
        except ClientGone:
            return Response(status_code=499)
        except Exception:
            log.exception("a page failed", path=request.url.path)
            return self._refused(visit, Refused(Reason.SYSTEM_FAILURE))

    async def _serve(self, visit: Visit) -> Response:
        path = visit.request.url.path
        if path in ("/", ROOT):
            return visit.go(f"{ROOT}/")
        if path.startswith(f"{ROOT}/static/"):
            found = self._parts.pages.file(path.removeprefix(f"{ROOT}/static/"))
            if found is None:
                raise Refused(Reason.NOT_FOUND)
            return found
        await self._recognise(visit)
        page = self._find(visit)
        self._require(visit, page)
        if page.method == "POST":
            await self._take_form(visit)
        response = await page.handler(visit)
        self._keep_form_cookie(visit, response)
        return response

    async def _recognise(self, visit: Visit) -> None:
        """Learn whose session the cookie stands for; nobody's is nobody."""
        cookies = visit.request.cookies
        token = cookies.get(self._parts.cookies.session, "")
        if token and len(token) <= TOKEN_CHARS_MAX:
            visit.person = await self._parts.sign_in.who(token)
            visit.token = token if visit.person else ""
        if not visit.token:
            held = cookies.get(self._parts.cookies.form, "")
            visit.form_cookie = held if 0 < len(held) <= TOKEN_CHARS_MAX else self._new_form_cookie()

    def _new_form_cookie(self) -> str:
        return b64url(self._parts.journey.rng.randbytes(FORM_COOKIE_BYTES))

    def _find(self, visit: Visit) -> Page:
        scope = visit.request.scope
        partial = False
        for route, page in self._routes:
            match, more = route.matches(scope)
            if match is Match.FULL or (match is Match.PARTIAL and scope["method"] == "HEAD"):
                scope.update(more)
                visit.section = page.path
                return page
            partial = partial or match is Match.PARTIAL
        raise Refused(Reason.NOT_FOUND)

    def _require(self, visit: Visit, page: Page) -> None:
        """Raise ``not-authenticated`` for nobody, ``not-found`` for somebody who may not: both look like none."""
        if page.act is None:
            return
        if visit.person is None:
            raise Refused(Reason.NOT_AUTHENTICATED)
        visit.reach = reach(visit.person, page.act)
        if visit.reach is None:
            raise Refused(Reason.NOT_FOUND)

    async def _take_form(self, visit: Visit) -> None:
        """Read a form and see that it came from a page of ours, in this browser."""
        request = visit.request
        if from_elsewhere(request):
            raise Refused(Reason.FORGED, "this form was sent by another site")
        declared = request.headers.get("content-length", "").encode()
        raw = await read_body(declared, request.receive, FORM_BYTES_MAX)
        try:
            visit.form = parse_qs(
                raw.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
            )
        except ValueError:
            raise Refused(Reason.BODY_MALFORMED, "the form could not be read") from None
        token = visit.form.get("form_token", [""])[0]
        if not self._parts.proof.holds(visit.token or visit.form_cookie, token):
            raise Refused(Reason.FORGED, "this page was open for too long; load it again and repeat")

    def _keep_form_cookie(self, visit: Visit, response: Response) -> None:
        cookies = self._parts.cookies
        if visit.form_cookie and visit.form_cookie != visit.request.cookies.get(cookies.form):
            response.set_cookie(
                cookies.form,
                visit.form_cookie,
                path="/",
                secure=cookies.secure,
                httponly=True,
                samesite="lax",
            )

    def _refused(self, visit: Visit, refusal: Refused) -> Response:
        """Return what somebody sees who may not, or asked for what is not there."""
        request = visit.request
        if refusal.reason is Reason.NOT_AUTHENTICATED and request.method == "GET":
            return visit.go(f"{ROOT}/sign-in", next=request.url.path)
        response = visit.render("refused.html", STATUS[refusal.reason], refusal=refusal)
        if refusal.retry_after_s:
            response.headers["retry-after"] = str(round(refusal.retry_after_s))
        self._keep_form_cookie(visit, response)
        return response


async def _unused(_: Request) -> Response:
    raise AssertionError("routes only match here")


Asgi = Callable[[Any, Any, Any], Awaitable[None]]
