"""The token endpoint (RFC 6749, 7009, 7523, 8414): the HTTP side of the token desk (docs/adr/0007)."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from doorward.ccs.attempts import Attempts
from doorward.ccs.doors.api.call import Call
from doorward.ccs.doors.api.meter import CallMeter
from doorward.ccs.rules.possession import PROOF_ALGORITHMS
from doorward.ccs.tokens import ALGORITHMS, Attempt, Issued, OAuthRefused, TokenDesk, as_refusal

FORM_BYTES_MAX = 16 * 1024
FIELDS_MAX = 20
CLIENT_CHARS_MAX = 64
SECRET_CHARS_MAX = 256
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
STATUS = {"invalid_client": 401, "temporarily_unavailable": 429}
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]

Form = dict[str, str]
_encode = msgspec.json.Encoder().encode

_FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "grant_type": {"const": "client_credentials"},
        "scope": {"type": "string", "examples": ["monitor control"]},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string"},
        "client_assertion_type": {"const": ASSERTION_TYPE},
        "client_assertion": {"type": "string"},
    },
    "required": ["grant_type"],
}


def _form_body(schema: Mapping[str, object]) -> dict[str, object]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": schema}},
        },
        "security": [{"basic": []}, {}],
    }


_JSON_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}}


def _error(description: str) -> dict[str, object]:
    return {"description": description, "content": _JSON_ERROR}


_BUSY = "Too many failed attempts; `Retry-After` says when to come again."
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: dict[int | str, dict[str, object]] = {
    400: _error("The request is wrong (RFC 6749 §5.2)."),
    401: _error("The client did not prove who it is."),
    408: {"description": "The form did not come in time.", "content": _PROBLEM},
    413: {"description": "The form is too large.", "content": _PROBLEM},
    429: _error(_BUSY) | {"content": _JSON_ERROR | _PROBLEM},
    503: {"description": "Too much at once; come again.", "content": _PROBLEM},
}
_TOKEN = {
    "description": "An access token (a JWT after RFC 9068).",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}},
}


def oauth_router(
    desk: TokenDesk,
    attempts: Attempts,
    meter: CallMeter,
    issuer: str,
    keys: dict[str, dict[str, str]],
    webhook_keys: dict[str, dict[str, str]],
    *,
    takes_certificates: bool,
) -> APIRouter:
    """Return the routes. ``keys`` sign access tokens, ``webhook_keys`` webhooks (``kid`` → public JWK).

    ``takes_certificates``: whether tokens can be bound to the certificate of the TLS connection.
    """
    router = APIRouter(tags=["authentication"], default_response_class=Response)

    @router.post(
        "/oauth/token",
        openapi_extra=_form_body(_FORM_SCHEMA),
        responses={200: _TOKEN, **_ERRORS},
    )
    async def token(request: Request, source: Source) -> Response:
        """Give an access token to a client that proves who it is (client credentials)."""

        async def issue(form: Form) -> Response:
            if form.get("grant_type") != "client_credentials":
                said = "grant_type must be client_credentials"
                if form.get("grant_type"):
                    raise OAuthRefused("unsupported_grant_type", said)
                raise OAuthRefused("invalid_request", said)
            attempt = attempt_of(request, form, source)
            return _issued(await desk.issue(attempt, form.get("scope", "")))

        return await _answered(request, attempts, meter, source, issue)

    @router.post(
        "/oauth/revoke",
        openapi_extra=_form_body({"type": "object", "properties": {"token": {"type": "string"}}}),
        responses={200: {"description": "It is revoked, or was no token of yours."}, **_ERRORS},
    )
    async def revoke(request: Request, source: Source) -> Response:
        """Revoke an access token (RFC 7009)."""

        async def let_go(form: Form) -> Response:
            if not form.get("token"):
                raise OAuthRefused("invalid_request", "name the token")
            await desk.revoke(attempt_of(request, form, source), form["token"])
            return Response(status_code=200)

        return await _answered(request, attempts, meter, source, let_go)

    @router.get("/.well-known/oauth-authorization-server")
    async def metadata() -> Response:
        """Describe the authorization server (RFC 8414)."""
        return _public(_metadata(issuer, takes_certificates))

    @router.get("/.well-known/jwks.json")
    async def token_keys() -> Response:
        """Publish the keys that sign access tokens."""
        return _public(_jwks(keys))

    @router.get("/.well-known/webhook-keys.json", tags=["webhooks"])
    async def notice_keys() -> Response:
        """Publish the keys that sign webhooks (`v1a`)."""
        return _public(_jwks(webhook_keys))

    return router


def _source(request: Request) -> str:
    call: Call = request.scope["doorward.call"]
    return call.source


Source = Annotated[str, Depends(_source)]


async def _answered(
    request: Request,
    attempts: Attempts,
    meter: CallMeter,
    source: str,
    act: Callable[[Form], Awaitable[Response]],
) -> Response:
    """Read the form and act; a refusal is answered in OAuth's words, and goes on record.

    Raises ``rate-limited`` when too much from this address has failed: a check of a secret is dear.
    """
    call: Call = request.scope["doorward.call"]
    meter.require_source(source)
    try:
        return await act(await _form(call))
    except OAuthRefused as refused:
        if refused.error == "invalid_client":
            meter.failed(source)
        attempts.note(call.id, as_refusal(refused), source, refused.party)
        return _refused(refused)


async def _form(call: Call) -> Form:
    kind = call.header(b"content-type").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthRefused("invalid_request", "the body must be application/x-www-form-urlencoded")
    raw = await call.body(FORM_BYTES_MAX)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise OAuthRefused("invalid_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthRefused("invalid_request", "a parameter is there twice")
    return form


def attempt_of(request: Request, form: Form, source: str) -> Attempt:
    """Return what a client presents: exactly one way of proving itself (RFC 6749 §2.3)."""
    basic = _basic(request.headers.get("authorization", ""))
    ways = [basic is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise OAuthRefused("invalid_request", "prove yourself in one way only")
    if not any(ways):
        raise OAuthRefused("invalid_client", "no client authentication")
    if basic is not None:
        client, secret = basic
        if form.get("client_id", client) != client:
            raise OAuthRefused("invalid_request", "two client ids")
    else:
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
    assertion = form.get("client_assertion", "")
    if assertion and form.get("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthRefused("invalid_request", f"client_assertion_type must be {ASSERTION_TYPE}")
    if len(client) > CLIENT_CHARS_MAX or not client.isprintable() or len(secret) > SECRET_CHARS_MAX:
        raise OAuthRefused(
            "invalid_client", "client authentication failed", why="no such client id or secret"
        )
    call: Call = request.scope["doorward.call"]
    return Attempt(
        client=client,
        secret=secret,
        assertion=assertion,
        source=source,
        proof=call.header(b"dpop"),
        certificate=call.certificate,
    )


def _basic(header: str) -> tuple[str, str] | None:
    if header[:6].lower() != "basic ":
        return None
    try:
        text = base64.b64decode(header[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise OAuthRefused("invalid_client", "the basic credentials cannot be read") from None
    client, _, secret = text.partition(":")
    return unquote_plus(client), unquote_plus(secret)


def _issued(issued: Issued) -> Response:
    view = {
        "access_token": issued.token,
        "token_type": issued.kind,
        "expires_in": issued.expires_in_s,
        "scope": issued.scope,
    }
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    return Response(_encode(view), media_type="application/json", headers=headers)


def _refused(refused: OAuthRefused) -> Response:
    status = STATUS.get(refused.error, 400)
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="doorward", error="invalid_client"'
    if refused.retry_after_s:
        headers["retry-after"] = str(refused.retry_after_s)
    view = {"error": refused.error, "error_description": refused.told}
    return Response(_encode(view), status, media_type="application/json", headers=headers)


def _metadata(issuer: str, takes_certificates: bool) -> dict[str, object]:
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": ["monitor", "control"],
        "token_endpoint_auth_methods_supported": METHODS,
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": takes_certificates,
        "revocation_endpoint_auth_methods_supported": METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "service_documentation": f"{issuer}/docs",
    }


def _jwks(keys: dict[str, dict[str, str]]) -> dict[str, object]:
    return {"keys": [{**key, "kid": kid, "use": "sig", "alg": "Ed25519"} for kid, key in keys.items()]}


def _public(view: object) -> Response:
    return Response(
        _encode(view), media_type="application/json", headers={"cache-control": "public, max-age=300"}
    )
