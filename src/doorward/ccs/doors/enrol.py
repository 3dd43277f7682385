"""Where gateways come in for the first time: ``GET /enrol/ca`` and ``POST /enrol``, over HTTPS only.

A gateway fetches the authority's certificate first, compares it with the pin in its code, and sends
the code only to a server that this authority vouches for.
"""

from collections.abc import Awaitable, Callable

import msgspec
from fastapi import APIRouter, Request, Response

from doorward.wire.enrolment import EnrolAnswer, EnrolAsk
from doorward.wire.reasons import Reason, Refused

BODY_BYTES_MAX = 16 * 1024

_decoder = msgspec.json.Decoder(EnrolAsk)


def enrol_router(enrol: Callable[[EnrolAsk, str], Awaitable[EnrolAnswer]], ca: str) -> APIRouter:
    """Return the routes. ``enrol`` gets what is asked and the address it comes from; ``ca`` is PEM.

    Refusals are raised as :class:`Refused`: the application turns them into problems.
    """
    router = APIRouter(tags=["gateways"])

    @router.get("/enrol/ca")
    async def authority() -> Response:
        """Give the certificate authority's certificate."""
        return Response(ca, media_type="application/pem-certificate-chain")

    @router.post("/enrol", openapi_extra=_OPENAPI)
    async def post(request: Request) -> Response:
        """Exchange a one-time code and a certificate request for everything that a gateway needs."""
        try:
            ask = _decoder.decode(await _body(request))
        except msgspec.DecodeError as error:
            raise Refused(Reason.BODY_MALFORMED, f"enrolment: {error}") from None
        answer = await enrol(ask, request.client.host if request.client else "")
        return Response(
            msgspec.json.encode(answer),
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return router


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Refused(Reason.BODY_TOO_LARGE, f"an enrolment has at most {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _schema(kind: type[msgspec.Struct]) -> dict[str, object]:
    """Return the JSON Schema of a struct with everything that it refers to inlined beside it."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {**schema, "$defs": components}


_OPENAPI: dict[str, object] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(EnrolAsk)}}},
    "responses": {"200": {"content": {"application/json": {"schema": _schema(EnrolAnswer)}}}},
}
