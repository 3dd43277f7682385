"""Who may call: tokens that are missing, foreign, expired, revoked; and that every attempt is on record."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from doorward.ccs.rules.identity import Claims, write_token
from doorward.wire.steps import Outcome
from tests.ccs.doors.service import Service

CALLS = [
    ("POST", "/v1/requests"),
    ("GET", "/v1/requests"),
    ("DELETE", "/v1/requests?campaign=c"),
    ("GET", "/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd"),
    ("DELETE", "/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd"),
    ("GET", "/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd/journey"),
    ("GET", "/v1/devices"),
    ("GET", "/v1/devices/TH-1"),
    ("GET", "/v1/limits?service_point=SP-1"),
    ("GET", "/v1/formats"),
    ("GET", "/v1/formats/thermostat.read/1"),
    ("GET", "/v1/grants"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/stream"),
    ("GET", "/v1/endpoints"),
    ("PUT", "/v1/endpoints/main"),
    ("DELETE", "/v1/endpoints/main"),
    ("POST", "/v1/endpoints/main/prove"),
]
"""Every endpoint that needs a token."""

BODY = {"url": "https://hooks.example/a"}


def body_of(method: str, path: str) -> object:
    if (method, path) == ("POST", "/v1/requests"):
        return {"device": "TH-1", "operation": "read"}
    return BODY if method == "PUT" else None


def foreign_token(service: Service) -> str:
    claims = Claims(
        iss=service.app.url,
        aud=service.app.url,
        sub="bright",
        client_id="bright",
        exp=2**40,
        iat=0,
        jti="j",
        scope="",
    )
    return write_token(claims, Ed25519PrivateKey.generate(), service.app.keys.token.kid)


async def test_every_endpoint_that_needs_a_token_is_in_the_matrix(service: Service) -> None:
    description = (await service.get("/openapi.json", token="")).json
    described = {
        (method.upper(), path)
        for path, item in description["paths"].items()
        if path.startswith("/v1/")
        for method in item
    }
    listed = {
        (
            method,
            path.partition("?")[0]
            .replace("/01a20d1e-449c-7293-befc-a9c57e5886fd", "/{id}")
            .replace("/endpoints/main", "/endpoints/{id}")
            .replace("/devices/TH-1", "/devices/{device}")
            .replace("/formats/thermostat.read/1", "/formats/{name}/{version}"),
        )
        for method, path in CALLS
    }

    assert described == listed


@pytest.mark.parametrize(
    "state", ["none", "foreign", "other kind", "garbage", "expired", "revoked", "suspended", "no scope"]
)
async def test_no_endpoint_serves_a_token_that_is_not_good(service: Service, state: str) -> None:
    token, status, reason = service.token(), 401, "not-authenticated"
    match state:
        case "none":
            token = ""
        case "foreign":
            token = foreign_token(service)
        case "other kind":
            token = service.app.consent.sign_grant(b"{}")
        case "garbage":
            token = "a.b.c"
        case "expired":
            token, reason = service.token(life_s=-5), "token-expired"
        case "revoked":
            claims = service.app.tokens.read(token)
            await service.app.store.write(lambda books: books.revoke_tokens({claims.jti: 2**50}))
            reason = "token-revoked"
        case "suspended":
            party = (await service.app.store.read(lambda books: books.parties(["bright"])))["bright"]
            await service.app.store.write(
                lambda books: books.put_parties([replace(party, state="suspended")])
            )
            status, reason = 403, "party-suspended"
        case "no scope":
            token, status, reason = service.token(scope="other"), 403, "scope-missing"
    for method, path in CALLS:
        if state == "no scope" and method == "DELETE" and path.startswith("/v1/requests"):
            continue  # letting go needs no scope
        reply = await service.call(method, path, token=token, json=body_of(method, path))
        assert (reply.status, reply.reason) == (status, reason), (method, path, reply.body)
        assert ("www-authenticate" in reply.headers) == (reason != "party-suspended")


async def test_a_token_that_may_only_monitor_does_not_control(service: Service) -> None:
    limit = {"device": "EV-1", "operation": "limit", "body": {"watts": 2000}}
    refused = await service.post(limit, token=service.token(scope="monitor"))
    read = await service.post(token=service.token(scope="monitor"))

    assert (refused.status, refused.reason) == (403, "scope-missing")
    assert read.status == 202


async def test_an_unauthenticated_call_tells_nothing_about_ids(service: Service) -> None:
    request = await service.done({"celsius": 21.5})
    for token in ("", foreign_token(service), service.token(life_s=-5)):
        told = set()
        for id in (request.id, "01a20d1e-449c-7293-befc-a9c57e5886fd", "x", "%00"):
            reply = await service.get(f"/v1/requests/{id}", token=token)
            told.add((reply.status, reply.body.replace(reply.headers["x-request-id"].encode(), b"")))
        assert len(told) == 1


@pytest.mark.parametrize(
    ("path", "token", "party", "reason"),
    [
        ("/v1/devices", "", "", "not-authenticated"),
        ("/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd", "expired", "bright", "token-expired"),
        ("/v1/requests/01a20d1e-449c-7293-befc-a9c57e5886fd", "good", "bright", "not-found"),
        ("/v1/devices/OTHER", "good", "bright", "device-unknown"),
    ],
)
async def test_an_attempt_is_on_record_under_the_id_that_was_told(
    service: Service, path: str, token: str, party: str, reason: str
) -> None:
    tokens = {"": "", "expired": service.token(life_s=-5), "good": service.token()}
    reply = await service.get(path, token=tokens[token])

    (row,) = await service.journal(reply.headers["x-request-id"])
    assert row.party == party
    assert row.steps[-1].outcome is Outcome.REFUSED
    assert row.steps[-1].reason == reason
    assert "127.0.0.1" in row.steps[-2].detail


async def test_a_refused_request_is_on_record_once_and_says_how_far_it_came(service: Service) -> None:
    reply = await service.post({"device": "NOT-MINE", "operation": "read"})

    (row,) = await service.journal(reply.json["request_id"])
    assert [step.step for step in row.steps] == [
        "received",
        "authenticated",
        "validated",
        "authorised",
        "recorded",
    ]
    assert row.steps[3].reason == "device-unknown"
    assert row.device == "NOT-MINE"


async def test_who_fails_again_and_again_from_one_address_is_slowed_down(service: Service) -> None:
    replies = [await service.get("/v1/devices", token="") for _ in range(40)]

    assert replies[0].status == 401
    assert replies[-1].reason == "rate-limited"
    assert "retry-after" in replies[-1].headers


async def test_a_flood_of_refusals_is_no_flood_of_rows(service: Service) -> None:
    calls = [service.post({"device": "X", "operation": "read"}) for _ in range(150)]
    replies = await asyncio.gather(*calls)
    rows = [await service.journal(reply.json["request_id"]) for reply in replies]

    assert {reply.reason for reply in replies} <= {"device-unknown", "rate-limited"}
    assert sum(1 for found in rows if found) <= 120
