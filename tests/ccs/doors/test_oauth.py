"""The token endpoint: each third party by its own way of proving itself, and no other."""

import asyncio
import base64
import time
import warnings
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey
from msgspec.structs import replace

from tests.ccs.doors.service import SECRET, Reply, Service

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def ask(service: Service, **fields: str) -> Reply:
    return await service.form("/oauth/token", {"grant_type": "client_credentials", **fields})


def assertion(
    service: Service, *, key: Ed25519PrivateKey | None = None, alg: str = "Ed25519", **over: Any
) -> str:
    now = int(time.time())
    claims = {
        "iss": "keyed",
        "sub": "keyed",
        "aud": f"{service.app.url}/oauth/token",
        "exp": now + 60,
        "iat": now,
        "jti": base64.b64encode(time.perf_counter_ns().to_bytes(8, "big")).decode(),
    } | over
    pem = (key or service.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    said = {name: value for name, value in claims.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jwt.encode({"alg": alg, "kid": "k1"}, said, OKPKey.import_key(pem), algorithms=[alg])


async def by_assertion(service: Service, text: str, **fields: str) -> Reply:
    return await ask(service, client_assertion_type=ASSERTION_TYPE, client_assertion=text, **fields)


async def test_a_secret_in_the_body_gives_a_token_that_works(service: Service) -> None:
    reply = await ask(service, client_id="bright", client_secret=SECRET)

    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["token_type"] == "Bearer"
    assert reply.json["expires_in"] == 600
    assert reply.json["scope"] == "monitor control"
    assert (await service.post(token=reply.json["access_token"])).status == 202


async def test_a_secret_by_basic_gives_a_token(service: Service) -> None:
    auth = {"authorization": aiohttp.encode_basic_auth("bright", SECRET.replace(" ", "+"))}
    reply = await service.form(
        "/oauth/token", {"grant_type": "client_credentials", "scope": "monitor"}, headers=auth
    )

    assert (reply.status, reply.json["scope"]) == (200, "monitor")


async def test_the_second_token_costs_no_hash(service: Service) -> None:
    await ask(service, client_id="bright", client_secret=SECRET)
    service.app.secrets._verify = None  # type: ignore[method-assign, assignment]
    assert (await ask(service, client_id="bright", client_secret=SECRET)).status == 200


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"client_id": "bright", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody", "client_secret": SECRET}, 401, "invalid_client"),
        ({"client_id": "keyed", "client_secret": SECRET}, 401, "invalid_client"),
        ({"client_id": "br\0ight", "client_secret": SECRET}, 401, "invalid_client"),
        ({"client_id": "bright"}, 401, "invalid_client"),
        ({}, 401, "invalid_client"),
        ({"client_id": "bright", "client_secret": SECRET, "scope": "monitor admin"}, 400, "invalid_scope"),
        (
            {"client_id": "bright", "client_secret": SECRET, "grant_type": "password"},
            400,
            "unsupported_grant_type",
        ),
        ({"client_id": "bright", "client_secret": SECRET, "grant_type": ""}, 400, "invalid_request"),
        ({"client_id": "bright", "client_secret": SECRET, "client_assertion": "x"}, 400, "invalid_request"),
    ],
)
async def test_what_is_wrong_is_said_in_oauths_words_and_recorded(
    service: Service, fields: dict[str, str], status: int, error: str
) -> None:
    reply = await ask(service, **fields)

    assert (reply.status, reply.json["error"]) == (status, error)
    assert ("www-authenticate" in reply.headers) == (status == 401)
    assert "access_token" not in reply.json
    (row,) = await service.journal(reply.headers["x-request-id"])
    assert error in row.steps[-2].detail
    assert SECRET not in row.steps[-2].detail


async def test_a_wrong_secret_and_an_unknown_client_look_the_same(service: Service) -> None:
    wrong = await ask(service, client_id="bright", client_secret="wrong")
    unknown = await ask(service, client_id="nobody", client_secret="wrong")

    assert wrong.body == unknown.body


async def test_who_guesses_is_locked_out_and_others_are_not(service: Service) -> None:
    for _ in range(20):
        await ask(service, client_id="bright", client_secret="guess")
    locked = await ask(service, client_id="bright", client_secret=SECRET)
    other = await by_assertion(service, assertion(service))

    assert (locked.status, locked.json["error"]) == (429, "temporarily_unavailable")
    assert int(locked.headers["retry-after"]) >= 1
    assert other.status == 200


async def test_who_guesses_many_names_from_one_address_is_slowed_down(service: Service) -> None:
    guesses = [ask(service, client_id=f"guess-{number}", client_secret="guess") for number in range(60)]
    replies = [await guess for guess in guesses]

    assert replies[0].status == 401
    assert any(reply.status == 429 and reply.reason == "rate-limited" for reply in replies)


async def test_a_form_with_a_field_twice_or_of_another_kind_is_refused(service: Service) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    twice = await service.call(
        "POST", "/oauth/token", raw=b"grant_type=client_credentials&grant_type=x", token="", headers=form
    )
    json = await service.call("POST", "/oauth/token", json={"grant_type": "client_credentials"}, token="")
    huge = await service.call("POST", "/oauth/token", raw=b"a=" + b"b" * 20_000, token="", headers=form)

    assert (twice.status, twice.json["error"]) == (400, "invalid_request")
    assert (json.status, json.json["error"]) == (400, "invalid_request")
    assert huge.reason == "body-too-large"


async def test_a_suspended_client_is_told_so_only_after_it_proved_itself(service: Service) -> None:
    party = (await service.app.store.read(lambda books: books.parties(["bright"])))["bright"]
    await service.app.store.write(lambda books: books.put_parties([replace(party, state="suspended")]))
    wrong = await ask(service, client_id="bright", client_secret="wrong")
    right = await ask(service, client_id="bright", client_secret=SECRET)

    assert wrong.json["error"] == "invalid_client"
    assert (right.status, right.json["error"]) == (400, "unauthorized_client")


# ---- private_key_jwt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["Ed25519", "EdDSA"])
async def test_a_signed_assertion_gives_a_token_once(service: Service, alg: str) -> None:
    text = assertion(service, alg=alg)
    first = await by_assertion(service, text)
    again = await by_assertion(service, text)

    assert first.status == 200, first.body
    assert (again.status, again.json["error"]) == (401, "invalid_client")
    (row,) = await service.journal(again.headers["x-request-id"])
    assert "used before" in row.steps[-2].detail
    assert row.party == "keyed"


async def test_the_issuer_is_an_audience_too(service: Service) -> None:
    assert (await by_assertion(service, assertion(service, aud=[service.app.url]))).status == 200


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"aud": "https://elsewhere.example"}, "another audience"),
        ({"exp": 1}, "expired"),
        ({"exp": int(time.time()) + 3600}, "ahead"),
        ({"iat": int(time.time()) + 3600}, "future"),
        ({"nbf": int(time.time()) + 3600}, "future"),
        ({"jti": ""}, "jti"),
        ({"jti": None}, "jti"),
        ({"jti": "x" * 201}, "jti"),
        ({"iss": "bright"}, "differ"),
        ({"sub": "bright", "iss": "bright"}, "not this client's way"),
        ({"exp": "soon"}, "no assertion"),
    ],
)
async def test_an_assertion_that_claims_something_wrong_is_refused(
    service: Service, over: dict[str, Any], why: str
) -> None:
    reply = await by_assertion(service, assertion(service, **over))

    assert (reply.status, reply.json["error"]) == (401, "invalid_client"), reply.body
    (row,) = await service.journal(reply.headers["x-request-id"])
    assert why in row.steps[-2].detail


async def test_an_assertion_by_another_key_or_in_another_name_or_unsigned_is_refused(
    service: Service,
) -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    unsigned = ".".join([head, assertion(service).split(".")[1], ""])
    texts = [assertion(service, key=Ed25519PrivateKey.generate()), unsigned, "a.b.c", "x" * 5000]
    for text in texts:
        assert (await by_assertion(service, text)).json["error"] == "invalid_client"
    other = await by_assertion(service, assertion(service), client_id="bright")
    assert other.json["error"] == "invalid_client"


async def test_two_at_once_with_one_assertion_get_one_token(service: Service) -> None:
    text = assertion(service)
    replies = await asyncio.gather(*(by_assertion(service, text) for _ in range(4)))

    assert sorted(reply.status for reply in replies) == [200, 401, 401, 401]


# ---- revocation and metadata -----------------------------------------------------------------------------


async def test_a_revoked_token_opens_nothing_and_anothers_is_left_alone(service: Service) -> None:
    mine, anothers = service.token(), service.token("sun")
    for token in (mine, anothers, "no token at all"):
        reply = await service.form(
            "/oauth/revoke", {"client_id": "bright", "client_secret": SECRET, "token": token}
        )
        assert reply.status == 200

    assert (await service.get("/v1/devices", token=mine)).reason == "token-revoked"
    assert (await service.get("/v1/devices", token=anothers)).status == 200


async def test_the_metadata_names_what_is_there(service: Service) -> None:
    meta = (await service.get("/.well-known/oauth-authorization-server", token="")).json
    keys = (await service.get("/.well-known/jwks.json", token="")).json["keys"]
    webhook = (await service.get("/.well-known/webhook-keys.json", token="")).json["keys"]

    assert meta["issuer"] == service.app.url
    assert meta["token_endpoint"] == f"{service.app.url}/oauth/token"
    public = OKPKey.import_key(keys[0])
    assert jwt.decode(service.token(), public, algorithms=["Ed25519"]).claims["sub"] == "bright"
    assert webhook[0]["x"] != keys[0]["x"]
    assert all("d" not in key for key in keys + webhook)
