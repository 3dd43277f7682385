"""The customer service system's routes at the utility systems' door: ``/utility/v1/css`` (I01, I02)."""

import msgspec
from fastapi import APIRouter, Request, Response

from doorward.ccs.css import CustomerService
from doorward.ccs.doors.api.call import Call
from doorward.ccs.doors.api.parts import Id, Token, json_response
from doorward.ccs.rules.asking import malformed
from doorward.ccs.rules.css import CssItem
from doorward.wire.codec import NOT_JSON
from doorward.wire.reasons import Reason, Refused

BODY_BYTES_MAX = 512 * 1024
ITEMS_MAX = 200

_items = msgspec.json.Decoder(list[msgspec.Raw])


def _schema() -> dict[str, object]:
    """Return the schema of a list of events, with what it refers to inside it."""
    (schema,), parts = msgspec.json.schema_components([list[CssItem]], ref_template="#/$defs/{name}")
    return {**schema, "$defs": parts, "maxItems": ITEMS_MAX}


def css_router(css: CustomerService) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/utility/v1/css", tags=["customer service"], default_response_class=Response)

    @router.post(
        "/events",
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}
        },
    )
    async def post_events(request: Request, token: Token) -> Response:
        """Take events and commands, answered item by item in their order. Scope `css`."""
        call: Call = request.scope["doorward.call"]
        try:
            items = _items.decode(await call.json(BODY_BYTES_MAX))
        except NOT_JSON as error:
            raise malformed(error) from None
        if len(items) > ITEMS_MAX:
            raise Refused(Reason.BODY_MALFORMED, f"at most {ITEMS_MAX} events at once")
        return json_response({"items": await css.take(token, items)})

    @router.get("/events/{id}")
    async def get_event(token: Token, id: Id) -> Response:
        """Show what became of an event, with the gateways' receipts. Scope `css`."""
        return json_response(await css.find(token, id))

    return router
