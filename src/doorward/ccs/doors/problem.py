"""The one place where a reason becomes an HTTP status, and a refusal an answer (RFC 9457)."""

import math
from types import MappingProxyType

import msgspec

from doorward.wire.reasons import SENTENCES, Reason, Refused

Headers = list[tuple[bytes, bytes]]

STATUS: MappingProxyType[Reason, int] = MappingProxyType(
    {
        Reason.NOT_AUTHENTICATED: 401,
        Reason.TOKEN_EXPIRED: 401,
        Reason.TOKEN_REVOKED: 401,
        Reason.PROOF_INVALID: 401,
        Reason.SCOPE_MISSING: 403,
        Reason.PARTY_SUSPENDED: 403,
        Reason.BODY_MALFORMED: 400,
        Reason.BODY_TOO_LARGE: 413,
        Reason.FORMAT_INVALID: 422,
        Reason.FORMAT_UNKNOWN: 422,
        Reason.FORMAT_RETIRED: 422,
        Reason.IDEMPOTENCY_CONFLICT: 422,
        Reason.NOT_FOUND: 404,
        Reason.TOO_LATE: 409,
        Reason.DEVICE_UNKNOWN: 404,
        Reason.OPERATION_NOT_PERMITTED: 403,
        Reason.OUTSIDE_CUSTOMER_LIMITS: 403,
        Reason.ACCESS_DISABLED: 403,
        Reason.ACCESS_ENDED: 403,
        Reason.ACCESS_PAUSED: 403,
        Reason.CONTRACT_MISSING: 403,
        Reason.LEASE_ENDED: 403,
        Reason.SERVICE_OFF: 403,
        Reason.CUSTOMER_PROTECTED: 403,
        Reason.SIGNATURE_INVALID: 403,
        Reason.UTILITY_HOLD: 503,
        Reason.LIMIT_EXCEEDED: 429,
        Reason.RATE_LIMITED: 429,
        Reason.FLEET_CAP: 429,
        Reason.CONGESTION: 503,
        Reason.GATEWAY_UNREACHABLE: 503,
        Reason.POWER_OUTAGE: 503,
        Reason.SYSTEM_FAILURE: 500,
        Reason.DEADLINE_PASSED: 422,
        Reason.CANCELLED: 409,
        Reason.NO_PROOF: 409,
        Reason.REPLAYED: 409,
        Reason.FORGED: 403,
        Reason.CLOCK_UNTRUSTED: 503,
        Reason.DEVICE_UNAVAILABLE: 503,
        Reason.DEVICE_REFUSED: 502,
        Reason.DEVICE_NOT_FOLLOWING: 502,
        Reason.DEVICE_FAULT: 502,
        Reason.DEVICE_UNLISTED: 502,
        Reason.CUSTOMER_OVERRIDE: 409,
        Reason.SUPERSEDED: 409,
    }
)
"""Reason → HTTP status. A test says that none is missing."""

CHALLENGE: MappingProxyType[Reason, bytes] = MappingProxyType(
    {
        Reason.NOT_AUTHENTICATED: b'Bearer error="invalid_token"',
        Reason.TOKEN_EXPIRED: b'Bearer error="invalid_token", error_description="the token has expired"',
        Reason.TOKEN_REVOKED: b'Bearer error="invalid_token", error_description="the token was revoked"',
        Reason.PROOF_INVALID: b'DPoP error="invalid_dpop_proof", algs="ES256 Ed25519 EdDSA"',
        Reason.SCOPE_MISSING: b'Bearer error="insufficient_scope"',
    }
)
"""``WWW-Authenticate`` of refusals that another token or proof would cure (RFC 6750, RFC 9449)."""

MEDIA_TYPE = b"application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error. ``reason`` is from the closed list, ``field`` a JSON pointer into the body or the query."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    field: str = ""
    request_id: str
    retry_after_s: int | None = None


PASSING = 503
"""A system failure of which we know that it passes (the books cannot be reached): come again."""


def status_of(refusal: Refused) -> int:
    """Return the HTTP status of a refusal."""
    if refusal.reason is Reason.SYSTEM_FAILURE and refusal.retry_after_s is not None:
        return PASSING
    return STATUS[refusal.reason]


def problem_of(refusal: Refused, request_id: str, status: int = 0) -> Problem:
    """Return the problem that a refusal is; ``status`` where HTTP itself knows a better one (404, 405, 415)."""
    wait_s = refusal.retry_after_s
    return Problem(
        type=f"/problems/{refusal.reason.value}",
        title=SENTENCES[refusal.reason],
        status=status or status_of(refusal),
        detail=refusal.detail,
        reason=refusal.reason.value,
        field=refusal.field,
        request_id=request_id,
        retry_after_s=None if wait_s is None else max(1, math.ceil(wait_s)),
    )


def problem_headers(problem: Problem, reason: Reason) -> Headers:
    """Return the headers that go with a problem."""
    headers: Headers = [(b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store")]
    if reason in CHALLENGE:
        headers.append((b"www-authenticate", CHALLENGE[reason]))
    if problem.retry_after_s is not None:
        wait = str(problem.retry_after_s).encode()
        headers.append((b"retry-after", wait))
        if reason is Reason.LIMIT_EXCEEDED:
            window = b"hour" if problem.retry_after_s <= 3600 else b"day"
            headers.append((b"ratelimit", b'"%s";r=0;t=%s' % (window, wait)))
    return headers
