"""The description of the API (OpenAPI 3.1): FastAPI's for the routes that it serves, by hand for the hot ones.

A body's and an answer's schema is that of the struct that stands for it in shapes.py.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from doorward.ccs.doors.api.shapes import ALL
from doorward.ccs.doors.problem import STATUS
from doorward.wire.reasons import SENTENCES, Reason

Spec = dict[str, Any]

SECURITY: list[dict[str, list[str]]] = [{"oauth2": ["monitor"]}]
CONTROL: list[dict[str, list[str]]] = [{"oauth2": ["monitor"]}, {"oauth2": ["control"]}]
WHO = (
    Reason.NOT_AUTHENTICATED,
    Reason.TOKEN_EXPIRED,
    Reason.TOKEN_REVOKED,
    Reason.SCOPE_MISSING,
    Reason.PARTY_SUSPENDED,
    Reason.RATE_LIMITED,
    Reason.CONGESTION,
    Reason.SYSTEM_FAILURE,
)
ASKED = (
    *WHO,
    Reason.BODY_MALFORMED,
    Reason.BODY_TOO_LARGE,
    Reason.FORMAT_INVALID,
    Reason.FORMAT_UNKNOWN,
    Reason.FORMAT_RETIRED,
    Reason.IDEMPOTENCY_CONFLICT,
    Reason.DEADLINE_PASSED,
    Reason.DEVICE_UNKNOWN,
    Reason.OPERATION_NOT_PERMITTED,
    Reason.OUTSIDE_CUSTOMER_LIMITS,
    Reason.ACCESS_DISABLED,
    Reason.ACCESS_ENDED,
    Reason.SERVICE_OFF,
    Reason.CUSTOMER_PROTECTED,
    Reason.LIMIT_EXCEEDED,
)
DESCRIPTION = """\
Ask equipment in customers' homes, with the customers' permission, through the utility.

Get an access token at `/oauth/token`, post a request, and take its result: by waiting (`Prefer: wait=20`),
by fetching it, by polling events, by server-sent events, or by a signed webhook. Times are RFC 3339 in UTC,
units are W, Wh and °C. Where a name stands twice in one JSON object, the last one counts. Errors are
problems (RFC 9457) whose `reason` is from a closed list; each has a page at `/problems/{reason}`.
"""


def ref(name: str) -> Spec:
    """Return a reference to a shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str) -> Spec:
    return {"application/json": {"schema": ref(name)}}


def body(name: str) -> Spec:
    """Return the description of a JSON body, and that a token is needed."""
    return {"requestBody": {"required": True, "content": _json(name)}}


def problems(reasons: "tuple[Reason, ...]") -> Spec:
    """Return the problems with which an endpoint may answer, by status."""
    by_status: dict[int, list[Reason]] = {}
    for reason in dict.fromkeys(reasons):
        by_status.setdefault(STATUS[reason], []).append(reason)
    return {
        str(status): {
            "description": " ".join(f"`{reason.value}`: {SENTENCES[reason]}" for reason in group),
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
        for status, group in sorted(by_status.items())
    }


def answers(
    name: str, *, missing: str = "", conflict: str = "", malformed: bool = True, body: bool = False
) -> Spec:
    """Return FastAPI's ``responses`` for a route that answers with the shape ``name``, or a problem.

    ``body``: it takes one, which may be too large or of another kind than JSON.
    """
    reasons = [*WHO]
    if malformed:
        reasons += [Reason.BODY_MALFORMED]
    reasons += [Reason(word) for word in (missing, conflict) if word]
    if body:
        reasons += [Reason.BODY_TOO_LARGE]
    found: dict[int | str, Spec] = {
        int(status): problem for status, problem in problems(tuple(reasons)).items()
    }
    if body:
        found[408] = found[415] = found[400]
    if name:
        found[200] = {"description": "As asked.", "content": _json(name)}
    return {"responses": found}


_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_LIMITS = {
    "RateLimit-Policy": {"schema": {"type": "string", "examples": ['"hour";q=24;w=3600']}},
    "RateLimit": {"schema": {"type": "string", "examples": ['"hour";r=22;t=3541']}},
}


def _headers(*names: str) -> Spec:
    return {name: {"schema": {"type": "string"}} for name in names}


def _post() -> Spec:
    one = {"description": "Accepted; not final yet.", "content": _json("Request")}
    one["headers"] = {**_headers("Location", "Preference-Applied"), **_LIMITS}
    both = {"oneOf": [ref("Request"), ref("Items")]}
    return {
        "tags": ["requests"],
        "operationId": "post_requests",
        "summary": "Send one request, or a list",
        "description": "One object is answered 202 (or 200 when it ended while you waited). A list is answered "
        "200, item by item in its order; one bad item never fails the others. A request counts two messages, "
        "itself and its result.",
        "security": CONTROL,
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "schema": {"type": "string", "pattern": "wait=[0-9]+", "examples": ["wait=20"]},
                "description": "Wait for the end, at most 60 s.",
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "maxLength": 64},
                "description": "Your own key of a single request; the same as `key` in it.",
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            ref("NewRequest"),
                            {"type": "array", "items": ref("NewRequest"), "minItems": 1, "maxItems": 1000},
                        ]
                    },
                    "examples": _EXAMPLES,
                }
            },
        },
        "responses": {
            "200": {
                "description": "The final request, or the answers to a list.",
                "content": {"application/json": {"schema": both}},
            },
            "202": one,
            **problems(ASKED),
            "408": problems((Reason.BODY_MALFORMED,))["400"],
            "415": problems((Reason.BODY_MALFORMED,))["400"],
        },
    }


_EXAMPLES: Spec = {
    "read": {"summary": "Read a thermostat", "value": {"device": "DEV-1", "operation": "read"}},
    "limit": {
        "summary": "Limit a charger",
        "value": {
            "device": "DEV-2",
            "operation": "limit",
            "body": {"watts": 3600},
            "until": "2026-01-31T18:00:00Z",
            "cause": "grid",
        },
    },
    "home": {
        "summary": "Read all of a home",
        "value": {"service_point": "SP-1", "scope": "home", "operation": "read"},
    },
}


def _get() -> Spec:
    return {
        "tags": ["requests"],
        "operationId": "get_request",
        "summary": "Show a request",
        "description": "Its result is in it only if you may have it at this moment; that it was handed over goes "
        "on record.",
        "security": SECURITY,
        "parameters": [_ID],
        "responses": {
            "200": {"description": "As asked.", "content": _json("Request")},
            **problems((*WHO, Reason.NOT_FOUND)),
        },
    }


def _delete() -> Spec:
    return {
        "tags": ["requests"],
        "operationId": "cancel_request",
        "summary": "Cancel a request",
        "security": CONTROL,
        "parameters": [_ID],
        "responses": {
            "200": {"description": "It is cancelled.", "content": _json("Request")},
            "202": {"description": "The gateway was asked to let go of it.", "content": _json("Request")},
            **problems((*WHO, Reason.NOT_FOUND, Reason.TOO_LATE)),
        },
    }


def _delete_campaign() -> Spec:
    campaign = {"name": "campaign", "in": "query", "required": True, "schema": {"type": "string"}}
    return {
        "tags": ["requests"],
        "operationId": "cancel_campaign",
        "summary": "Cancel a campaign",
        "security": CONTROL,
        "parameters": [campaign],
        "responses": {
            "200": {"description": "What was changed.", "content": _json("Cancelled")},
            **problems((*WHO, Reason.BODY_MALFORMED)),
        },
    }


def _stream() -> Spec:
    query = [
        {"name": "after", "in": "query", "schema": {"type": "string", "default": "now"}},
        {"name": "kind", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
    ]
    return {
        "tags": ["events"],
        "operationId": "stream_events",
        "summary": "Follow events as they happen",
        "description": "Server-sent events: `id` is the cursor, `event` the type, `data` an Event. Begins now, or "
        "after a cursor (`after`, `Last-Event-ID`). Ends with the token: an `end` event says the reason.",
        "security": SECURITY,
        "parameters": query,
        "responses": {
            "200": {
                "description": "A stream.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **problems((*WHO, Reason.BODY_MALFORMED)),
        },
    }


HOT: Spec = {
    "/v1/requests": {"post": _post(), "delete": _delete_campaign()},
    "/v1/requests/{id}": {"get": _get(), "delete": _delete()},
    "/v1/events/stream": {"get": _stream()},
}
"""Paths that do not go through FastAPI."""


def describe(app: FastAPI, version: str) -> Spec:
    """Return the whole description."""
    spec = get_openapi(
        title="Doorward", version=version, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    _, schemas = msgspec.json.schema_components(ALL, ref_template="#/components/schemas/{name}")
    spec["components"] = {
        "schemas": {name: _without_title(schema) for name, schema in sorted(schemas.items())},
        "securitySchemes": _SCHEMES,
    }
    for path, item in spec["paths"].items():
        for operation in item.values():
            operation["responses"].pop("422", None)  # FastAPI's own; ours are problems
            if path.startswith("/v1/"):
                operation["security"] = SECURITY
    for path, item in HOT.items():
        spec["paths"][path] = {**spec["paths"].get(path, {}), **item}
    spec["servers"] = [{"url": "/"}]
    return spec


def _without_title(schema: Spec) -> Spec:
    return {key: value for key, value in schema.items() if key != "title"}


_SCHEMES: Spec = {
    "oauth2": {
        "type": "oauth2",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth/token",
                "scopes": {
                    "monitor": "Read devices, requests, results and events.",
                    "control": "Change what devices do.",
                },
            }
        },
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Client id and secret (sandbox)."},
}
