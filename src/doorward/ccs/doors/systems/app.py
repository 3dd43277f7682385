"""The routes for the utility's other systems: ``/utility/v1`` (F17, F39–F41, A07, S3.08)."""

from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi

from doorward.ccs.doors.api.call import Call
from doorward.ccs.doors.api.parts import PRINTABLE, Cursor, Id, Name, Token, json_response
from doorward.ccs.doors.systems.stream import time_of
from doorward.ccs.endpoints import EndpointBody, Endpoints
from doorward.ccs.rules.asking import malformed
from doorward.ccs.rules.feed import SCOPES, Filter
from doorward.ccs.systems import SOURCES, Asked, Page, SubscriptionBody, Systems
from doorward.ccs.views import View
from doorward.wire.codec import NOT_JSON

B = TypeVar("B", bound=msgspec.Struct)

ROOT = "/utility/v1"
STREAM = f"{ROOT}/events/stream"
BODY_BYTES_MAX = 64 * 1024
PAGE_MAX = 500
TAKES = "subscribed"
"""What an endpoint of a system takes: what an operator subscribed it to."""
DESCRIPTION = f"""\
For the utility's other systems: what third parties asked, what became of it, and a feed of what happens.

Get a token at `/oauth/token` with your client credentials; it is for this door alone. Scopes: \
{", ".join(f"`{scope}`" for scope in SCOPES)}. Lists are newest first; a page may be empty and still have a \
`next`. Events are CloudEvents 1.0: by polling, as server-sent events (`{STREAM}`), and by signed webhooks \
(`application/cloudevents-batch+json`, Standard Webhooks) to what an operator subscribed you to.
"""


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where: a ``cursor`` (``now`` for from now on), or a time ``since``."""

    cursor: str = ""
    since: str = ""


class WhereBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where pushes go. ``pin``: SHA-256 of the endpoint's certificate in hex; ``ca``: PEM."""

    url: str
    pin: str = ""
    ca: str = ""
    rotate_secret: bool = False


def _asked(
    since: Annotated[str, Query(max_length=64, description="From this time on (RFC 3339).")] = "",
    until: Annotated[str, Query(max_length=64, description="Before this time (RFC 3339).")] = "",
    service_point: Name = "",
    gateway: Name = "",
    third_party: Name = "",
    kind: Name = "",
    state: Name = "",
    after: Cursor = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> Asked:
    return Asked(
        since_us=time_of(since, "since"),
        until_us=time_of(until, "until"),
        service_point=service_point,
        gateway=gateway,
        party=third_party,
        kind=kind,
        state=state,
        after=after,
        limit=limit,
    )


Filters = Annotated[Asked, Depends(_asked)]


def systems_app(systems: Systems, endpoints: Endpoints, version: str) -> FastAPI:
    """Return the application of this door, its description included."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, title="Doorward", version=version)
    app.include_router(lists_router(systems))
    app.include_router(events_router(systems))
    app.include_router(subscriptions_router(systems))
    app.include_router(endpoints_router(endpoints))

    @app.get("/utility/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return json_response(describe(app, version))

    return app


def lists_router(systems: Systems) -> APIRouter:
    """Return the routes of lists: what was asked, what was recorded, what gateways confirmed."""
    router = APIRouter(prefix=ROOT, tags=["lists"], default_response_class=Response)

    @router.get("/requests")
    async def list_requests(token: Token, filters: Filters) -> Response:
        """List requests of all third parties; `kind` is an operation. Scope `requests.read`."""
        return _page(await systems.requests(token, filters))

    @router.get("/requests/{id}")
    async def get_request(token: Token, id: Id) -> Response:
        """Show one request. Scope `requests.read`."""
        return json_response(await systems.request(token, id))

    @router.get("/messages/{id}/journey")
    async def get_journey(token: Token, id: Id) -> Response:
        """Show every step of a message, of a refused attempt too. Scope `journals.read`."""
        return json_response(await systems.journey(token, id))

    @router.get("/journals")
    async def list_journals(token: Token, filters: Filters) -> Response:
        """List the journal; `kind` is a step, `state` an outcome. Scope `journals.read`."""
        return _page(await systems.journals(token, filters))

    @router.get("/provisioning")
    async def list_provisioning(token: Token, filters: Filters) -> Response:
        """List receipts of access: `state` pending, confirmed or failed. Scope `provisioning.read`."""
        return _page(await systems.provisioning(token, filters))

    for name in SOURCES:
        router.add_api_route(f"/{name}", _further(systems, name), name=f"list_{name}", methods=["GET"])
    return router


def _further(systems: Systems, name: str) -> Any:
    async def further(token: Token, filters: Filters) -> Response:
        return _page(await systems.further(token, name, filters))

    further.__doc__ = f"List {name}. Scope `{SOURCES[name][0]}`."
    return further


def events_router(systems: Systems) -> APIRouter:
    """Return the route by which the feed is polled."""
    router = APIRouter(prefix=ROOT, tags=["events"], default_response_class=Response)

    @router.get("/events")
    async def list_events(
        token: Token,
        after: Cursor = "",
        since: Annotated[str, Query(max_length=64)] = "",
        kind: Annotated[
            list[Annotated[str, Query(max_length=64, pattern=PRINTABLE)]], Query(max_length=16)
        ] = [],  # noqa: B006
        third_party: Name = "",
        service_point: Name = "",
        gateway: Name = "",
        failed_only: bool = False,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    ) -> Response:
        """Return what happened after a cursor (or since a time), oldest first, as CloudEvents."""
        filter = Filter(
            kinds=kind,
            party=third_party,
            service_point=service_point,
            gateway=gateway,
            failed_only=failed_only,
        )
        begin = await systems.start(token, after, time_of(since, "since"))
        items, following = await systems.events(token, begin, filter, limit)
        return json_response({"items": items, "next": following or None})

    return router


def subscriptions_router(systems: Systems) -> APIRouter:
    """Return the routes by which operators' tools say who is told what."""
    router = APIRouter(
        prefix=f"{ROOT}/subscriptions", tags=["subscriptions"], default_response_class=Response
    )

    @router.get("")
    async def list_subscriptions(token: Token) -> Response:
        """List your own subscriptions; all of them with the scope `subscriptions.manage`."""
        return json_response(await systems.subscriptions(token))

    @router.put("/{id}", openapi_extra=_takes(SubscriptionBody))
    async def put_subscription(request: Request, token: Token, id: Id) -> Response:
        """Set who is told what. Scope `subscriptions.manage`."""
        body = await _body(request, SubscriptionBody)
        return json_response(await systems.put_subscription(token, id, body))

    @router.delete("/{id}", status_code=204)
    async def delete_subscription(token: Token, id: Id) -> Response:
        """Remove a subscription. Scope `subscriptions.manage`."""
        await systems.delete_subscription(token, id)
        return Response(status_code=204)

    @router.post("/{id}/replay", openapi_extra=_takes(ReplayBody))
    async def replay(request: Request, token: Token, id: Id) -> Response:
        """Push again from a cursor or a time on. Your own, or with the scope `subscriptions.manage`."""
        body = await _body(request, ReplayBody)
        view = await systems.replay(token, id, body.cursor, time_of(body.since, "since"))
        return json_response(view)

    return router


def endpoints_router(endpoints: Endpoints) -> APIRouter:
    """Return the routes by which a system says where its pushes go."""
    router = APIRouter(prefix=f"{ROOT}/endpoints", tags=["webhooks"], default_response_class=Response)

    @router.get("")
    async def list_endpoints(token: Token) -> Response:
        """List your endpoints."""
        listed = await endpoints.list(token)
        return json_response({"items": [_where(each) for each in listed["items"]]})

    @router.put("/{id}", openapi_extra=_takes(WhereBody))
    async def put_endpoint(request: Request, token: Token, id: Id) -> Response:
        """Set an endpoint. Its secret is shown once; a new address, pin or authority has to be proved again."""
        body = await _body(request, WhereBody)
        wanted = EndpointBody(kinds=[TAKES], **msgspec.structs.asdict(body))
        return json_response(_where(await endpoints.put(token, id, wanted)))

    @router.delete("/{id}", status_code=204)
    async def delete_endpoint(token: Token, id: Id) -> Response:
        """Remove an endpoint; subscriptions that name it wait until it is there again."""
        await endpoints.delete(token, id)
        return Response(status_code=204)

    @router.post("/{id}/prove")
    async def prove_endpoint(token: Token, id: Id) -> Response:
        """Send the endpoint a challenge; it is used once it has answered with the same."""
        return json_response(_where(await endpoints.prove(token, id)))

    return router


def _where(view: View) -> View:
    return {name: value for name, value in view.items() if name not in ("mode", "kinds")}


def _page(page: Page) -> Response:
    return json_response({"items": page.items, "next": page.next or None})


async def _body(request: Request, kind: type[B]) -> B:
    call: Call = request.scope["doorward.call"]
    try:
        return msgspec.json.decode(await call.json(BODY_BYTES_MAX), type=kind)
    except NOT_JSON as error:
        raise malformed(error) from None


def _takes(kind: type[msgspec.Struct]) -> dict[str, Any]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    inline = parts[kind.__name__] if "$ref" in schema else schema
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline}}}}


def describe(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the description of this door (OpenAPI 3.1)."""
    spec: dict[str, Any] = get_openapi(
        title="Doorward for utility systems",
        version=version,
        description=DESCRIPTION,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    spec["paths"][STREAM] = {"get": _STREAM}
    for item in spec["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)  # FastAPI's own; ours are problems (RFC 9457)
            operation["security"] = [{"oauth2": []}]
    flow = {"tokenUrl": "/oauth/token", "scopes": dict.fromkeys(SCOPES, "")}
    scheme = {"type": "oauth2", "flows": {"clientCredentials": flow}}
    spec["components"] = {"securitySchemes": {"oauth2": scheme}}
    spec["servers"] = [{"url": "/"}]
    return spec


_STREAM: dict[str, Any] = {
    "tags": ["events"],
    "summary": "Stream Events",
    "description": "Follow the feed as server-sent events, from now on or after `Last-Event-ID`, `after`, `since`.",
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in ("after", "since", "kind", "third_party", "service_point", "gateway", "failed_only")
    ],
    "responses": {"200": {"description": "CloudEvents.", "content": {"text/event-stream": {}}}},
}
