"""Where third parties take their webhooks."""

import msgspec
from fastapi import APIRouter, Request, Response

from doorward.ccs.doors.api.call import Call
from doorward.ccs.doors.api.openapi import answers, body
from doorward.ccs.doors.api.parts import Id, Token, json_response
from doorward.ccs.endpoints import EndpointBody, Endpoints
from doorward.ccs.rules.asking import malformed
from doorward.wire.codec import NOT_JSON

BODY_BYTES_MAX = 64 * 1024

_body = msgspec.json.Decoder(EndpointBody)


def endpoints_router(endpoints: Endpoints) -> APIRouter:
    """Return the routes of webhook endpoints."""
    router = APIRouter(prefix="/v1/endpoints", tags=["webhooks"], default_response_class=Response)

    @router.get("", **answers("Endpoints"))
    async def list_endpoints(token: Token) -> Response:
        """List your webhook endpoints."""
        return json_response(await endpoints.list(token))

    @router.put("/{id}", **answers("Endpoint", body=True), openapi_extra=body("EndpointBody"))
    async def put_endpoint(request: Request, token: Token, id: Id) -> Response:
        """Set an endpoint. Its secret is shown once; a new address, pin or authority has to be proved again."""
        call: Call = request.scope["doorward.call"]
        try:
            wanted = _body.decode(await call.json(BODY_BYTES_MAX))
        except NOT_JSON as error:
            raise malformed(error) from None
        return json_response(await endpoints.put(token, id, wanted))

    @router.delete("/{id}", status_code=204, **answers("", missing="not-found"))
    async def delete_endpoint(token: Token, id: Id) -> Response:
        """Remove an endpoint."""
        await endpoints.delete(token, id)
        return Response(status_code=204)

    @router.post("/{id}/prove", **answers("Endpoint", missing="not-found", conflict="no-proof"))
    async def prove_endpoint(token: Token, id: Id) -> Response:
        """Send the endpoint a challenge; it is used once it has answered with the same."""
        return json_response(await endpoints.prove(token, id))

    return router
