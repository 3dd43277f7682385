"""Where gateways come in for the first time: ``GET /enrol/ca`` and ``POST /enrol``, over HTTPS only.

A gateway fetches the authority's certificate first, compares it with the pin in its code, and sends
the code only to a server that this authority vouches for.
"""

from collections.abc import Awaitable, Callable

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response

from doorward.ccs.doors.api.call import problem_answer, read_body
from doorward.wire.codec import NOT_JSON
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
        declared = request.headers.get("content-length", "").encode()
        try:
            body = await read_body(declared, request.receive, BODY_BYTES_MAX)
            ask = _decoder.decode(body)
        except NOT_JSON as error:
            raise Refused(Reason.BODY_MALFORMED, f"enrolment: {error}") from None
        answer = await enrol(ask, request.client.host if request.client else "")
        return Response(
            msgspec.json.encode(answer),
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return router


def enrol_app(
    enrol: Callable[[EnrolAsk, str], Awaitable[EnrolAnswer]], ca: str, new_id: Callable[[], str]
) -> FastAPI:
    """Return the routes as an application of their own, for a port that speaks HTTPS."""
    app = FastAPI(title="Doorward enrolment", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(enrol_router(enrol, ca))

    @app.exception_handler(Refused)
    async def refused(_request: Request, refusal: Refused) -> Response:
        answer = problem_answer(refusal, new_id())
        headers = {name.decode(): value.decode() for name, value in answer.headers}
        headers.pop("www-authenticate", None)  # another token would not help: there is none
        return Response(answer.body, answer.status, headers)

    return app


def _schema(kind: type[msgspec.Struct]) -> dict[str, object]:
    """Return the JSON Schema of a struct with everything that it refers to inlined beside it."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {**schema, "$defs": components}


_OPENAPI: dict[str, object] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(EnrolAsk)}}},
    "responses": {"200": {"content": {"application/json": {"schema": _schema(EnrolAnswer)}}}},
}
