"""How the authority is reached: HTTPS. All calls need a client certificate of its own making, but ending a
permission with the code of the customer's letter, and the health check.
"""

import html
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from doorward.consent.desk import ConsentDesk
from doorward.consent.keys import AuthorityKey
from doorward.kit.serving import CERTIFICATE
from doorward.wire.codec import NOT_JSON
from doorward.wire.reasons import Reason, Refused

BODY_BYTES_MAX = 1024 * 1024
FORM_BYTES_MAX = 4096
RENEW_MAX = 2_000
_STATUS = {
    Reason.BODY_MALFORMED: 422,
    Reason.BODY_TOO_LARGE: 413,
    Reason.NOT_FOUND: 404,
    Reason.RATE_LIMITED: 429,
    Reason.NOT_AUTHENTICATED: 401,
}

B = TypeVar("B")


class DocumentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document as text, and the evidence for it."""

    document: str
    evidence: str = ""


class CodeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The customer's code."""

    code: str


class GrantsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Permissions by id, with their versions; ``sequence`` is up to where the CCS tells of its own."""

    grants: dict[str, int]
    sequence: int = -1


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Whom gateways believe: as enrolment says it, and as a signed document for those that enrolled before."""

    keys: dict[str, dict[str, str]]
    fingerprint: str
    trust: list[str]


def consent_app(desk: ConsentDesk, key: AuthorityKey) -> Starlette:
    """Return the authority as an ASGI application."""
    door = _Door(desk, key)
    routes = [
        ("/v1/keys", "GET", door.keys),
        ("/v1/grants", "POST", door.grants),
        ("/v1/proposals", "POST", door.proposals),
        ("/v1/proposals/{id}/confirmation", "POST", door.confirmation),
        ("/v1/leases", "POST", door.leases),
        ("/v1/withdrawals", "POST", door.withdrawals),
        ("/v1/withdrawals", "GET", door.withdrawn),
        ("/v1/parties", "POST", door.parties),
        ("/v1/contacts", "POST", door.contacts),
    ]
    return Starlette(
        routes=[
            *(Route(path, _known(answer), methods=[method]) for path, method, answer in routes),
            Route("/withdraw", door.withdraw_page, methods=["GET"]),
            Route("/withdraw", door.withdraw_by_code, methods=["POST"]),
            Route("/healthz", door.health, methods=["GET"]),
        ],
        exception_handlers={Refused: _problem},
    )


Answer = Callable[[Request], Awaitable[Response]]


def _known(answer: Answer) -> Answer:
    async def asked(request: Request) -> Response:
        if not request.scope.get(CERTIFICATE):
            raise Refused(Reason.NOT_AUTHENTICATED, "show the client certificate that the authority gave you")
        return await answer(request)

    return asked


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    body = {"reason": error.reason, "detail": error.detail, "field": error.field}
    return _json(body, _STATUS.get(error.reason, 403))


class _Door:
    """The calls."""

    def __init__(self, desk: ConsentDesk, key: AuthorityKey) -> None:
        self._desk = desk
        self._key = key

    async def keys(self, _request: Request) -> Response:
        """Whom gateways believe."""
        return _json(
            Keys(keys=self._key.public_keys(), fingerprint=self._key.fingerprint, trust=self._key.trust)
        )

    async def grants(self, request: Request) -> Response:
        """Sign a permission, on evidence unless it narrows."""
        body = await _body(request, DocumentBody)
        return _json(await self._desk.sign(body.document.encode(), body.evidence))

    async def proposals(self, request: Request) -> Response:
        """Ask the customer by a letter with a code."""
        body = await _body(request, DocumentBody)
        return _json(await self._desk.propose(body.document.encode()))

    async def confirmation(self, request: Request) -> Response:
        """Sign what was proposed, with the customer's code."""
        body = await _body(request, CodeBody)
        return _json(await self._desk.confirm(request.path_params["id"], body.code))

    async def leases(self, request: Request) -> Response:
        """Renew leases."""
        body = await _body(request, GrantsBody)
        if len(body.grants) > RENEW_MAX:
            raise Refused(Reason.BODY_TOO_LARGE, f"at most {RENEW_MAX} leases in a call", field="/grants")
        return _json(await self._desk.renew(body.grants))

    async def withdrawals(self, request: Request) -> Response:
        """End permissions: always believed."""
        body = await _body(request, GrantsBody)
        return _json({"ended": await self._desk.withdraw(body.grants, "ccs", body.sequence)})

    async def withdrawn(self, request: Request) -> Response:
        """What ended here after a number."""
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit()) or len(after) > 18:
            raise Refused(Reason.BODY_MALFORMED, "after is a number", field="/after")
        return _json(await self._desk.ended(int(after)))

    async def parties(self, request: Request) -> Response:
        """Take a third party into the register."""
        body = await _body(request, DocumentBody)
        await self._desk.put_party(body.document.encode(), body.evidence)
        return _json({})

    async def contacts(self, request: Request) -> Response:
        """Take a customer's address into the register."""
        body = await _body(request, DocumentBody)
        await self._desk.put_contact(body.document.encode(), body.evidence)
        return _json({})

    async def withdraw_page(self, request: Request) -> Response:
        """Ask once more, so that a link that a mail scanner follows ends nothing."""
        grant, code = (html.escape(request.query_params.get(name, "")) for name in ("grant", "code"))
        return _page(
            "<form method=post action=/withdraw><p>End this permission now?</p>"
            f'<input type=hidden name=grant value="{grant}"><input type=hidden name=code value="{code}">'
            "<button>End it</button></form>"
        )

    async def withdraw_by_code(self, request: Request) -> Response:
        """End a permission with the code of the letter."""
        form = parse_qs((await _read(request, FORM_BYTES_MAX)).decode(errors="replace"))
        grant, code = (form.get(name, [""])[0] for name in ("grant", "code"))
        if await self._desk.withdraw_by_code(grant, code):
            return _page("<p>It has ended. Nothing is done in its name from now on; at the latest in 24 hours "
                         "if your gateway cannot be reached.</p>")  # fmt: skip
        return _page("<p>This link does not belong to a permission.</p>", 404)

    async def health(self, _request: Request) -> Response:
        """Whether we are there."""
        return _json({"ok": True})


def _json(body: Any, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def _page(body: str, status: int = 200) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    text = f"<!doctype html><html lang=en><title>Permission</title><body>{body}"
    return Response(text, status, headers, media_type="text/html; charset=utf-8")


async def _body(request: Request, kind: type[B]) -> B:
    raw = await _read(request, BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=kind)
    except NOT_JSON as error:
        raise Refused(Reason.BODY_MALFORMED, str(error)) from None


async def _read(request: Request, bytes_max: int) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > bytes_max:
            raise Refused(Reason.BODY_TOO_LARGE, f"more than {bytes_max} bytes")
    return bytes(raw)
