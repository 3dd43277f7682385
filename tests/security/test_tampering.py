"""Everything that is signed: with a bit turned, another algorithm, another key, a header that points elsewhere."""

import base64
import hmac
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from doorward.wire import webhook_signature
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url, public_jwk, sign, verify
from tests.ccs.doors.service import SECRET, Reply
from tests.security.world import World, running

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {"k1": public_jwk(KEY.public_key())}
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DOCUMENT = json.dumps({"grant": "G-1", "version": 3, "party": "bright"}).encode()
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def part(value: Any) -> str:
    return b64url(json.dumps(value).encode())


def compact(header: Any, payload: bytes, signer: Callable[[bytes], bytes]) -> str:
    signed = f"{part(header)}.{b64url(payload)}"
    return f"{signed}.{b64url(signer(signed.encode()))}"


def public_bytes(key: Ed25519PrivateKey) -> list[bytes]:
    """A public key in all the forms that somebody might take for a shared secret."""
    public = key.public_key()
    return [
        public.public_bytes_raw(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public_jwk(public)).encode(),
        b"",
    ]


def _keyed(secret: bytes, text: bytes) -> bytes:
    return hmac.digest(secret, text, sha256)


def forgeries(payload: bytes, kid: str, typ: str, victim: Ed25519PrivateKey) -> dict[str, str]:
    """The ways in which a JWS is forged without its key."""
    head = {"alg": "Ed25519", "kid": kid, "typ": typ}
    own = OTHER.sign
    made = {
        "another key": compact(head, payload, own),
        "another key under the name of the right one, shown": compact(
            {**head, "jwk": public_jwk(OTHER.public_key())}, payload, own
        ),
        "another key, to be fetched": compact({**head, "jku": "https://evil.example/jwks"}, payload, own),
        "another certificate": compact(
            {**head, "x5u": "https://evil.example/cert", "x5c": ["AA=="]}, payload, own
        ),
        "a critical header": compact({**head, "crit": ["exp"], "exp": 1}, payload, victim.sign),
        "not encoded": compact({**head, "b64": False, "crit": ["b64"]}, payload, victim.sign),
        "a kid that is a path": compact({**head, "kid": "../../dev/null"}, payload, own),
        "a kid that is a question": compact({**head, "kid": "' OR 1=1 --"}, payload, own),
        "a kid that is no text": compact({**head, "kid": [kid]}, payload, victim.sign),
        "no kid": compact({"alg": "Ed25519", "typ": typ}, payload, own),
        "a header that is a list": compact([head], payload, victim.sign),
        "a header in a header": f"{part(head)}.{part(head)}.{b64url(payload)}.AA",
        "no signature": f"{part(head)}.{b64url(payload)}.",
        "two parts": f"{part(head)}.{b64url(payload)}",
        "padded": compact(head, payload, victim.sign) + "=",
        "a blank after it": compact(head, payload, victim.sign) + " ",
        "nested without end": compact(head, b"[" * 60_000, own),
        "a giant": "a" * 200_000,
    }
    for alg in ("none", "None", "NONE", "nOnE", ""):
        made[f"alg {alg!r}"] = f"{part({**head, 'alg': alg})}.{b64url(payload)}."
        made[f"alg {alg!r}, signed"] = compact({**head, "alg": alg}, payload, own)
    for at, secret in enumerate(public_bytes(victim)):
        made[f"HS256 under form {at} of the public key"] = compact(
            {**head, "alg": "HS256"}, payload, partial(_keyed, secret)
        )
    return made


# ---- documents: grants, leases, commands -----------------------------------------------------------------


def require_invalid(document: str, typ: str = "grant") -> None:
    with pytest.raises(Refused) as refused:
        verify(document, KEYS, typ)
    assert refused.value.reason is Reason.SIGNATURE_INVALID


def test_a_document_with_any_bit_turned_does_not_verify() -> None:
    document = sign(DOCUMENT, KEY, "k1", "grant").encode()
    assert verify(document.decode(), KEYS, "grant") == DOCUMENT
    for place in range(len(document) * 8):
        turned = bytearray(document)
        turned[place // 8] ^= 1 << place % 8
        require_invalid(turned.decode("latin-1"))


@pytest.mark.parametrize("how", forgeries(DOCUMENT, "k1", "grant", KEY))
def test_a_document_is_not_forged(how: str) -> None:
    require_invalid(forgeries(DOCUMENT, "k1", "grant", KEY)[how])


@pytest.mark.parametrize("typ", ["lease", "command", "JWT", "at+jwt", "Grant", ""])
def test_a_document_of_one_kind_does_not_pass_for_another(typ: str) -> None:
    require_invalid(sign(DOCUMENT, KEY, "k1", typ))
    require_invalid(sign(DOCUMENT, KEY, "k1", "grant"), typ or "lease")


# ---- access tokens and client assertions -----------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as built:
        party = (await built.app.store.read(lambda books: books.parties(["sun"])))["sun"]
        keyed = replace(party, auth="private_key_jwt")
        await built.app.store.write(lambda books: books.put_parties([keyed]))
        yield built


async def test_no_access_token_is_forged(world: World) -> None:
    keys = world.app.keys.token
    payload = msgspec.json.encode(world.claims("bright"))
    forged = forgeries(payload, keys.kid, "at+jwt", keys.key)
    del forged["a blank after it"]  # HTTP takes it away
    for typ in ("JWT", "grant", "dpop+jwt"):
        forged[f"of the kind {typ}"] = sign(payload, keys.key, keys.kid, typ)
    forged["signed by the webhook key"] = sign(payload, world.app.keys.webhook.key, keys.kid, "at+jwt")
    good = world.token("bright")
    for place in random.Random(1).sample(range(len(good) * 6), 60):
        turned = bytearray(good.encode())
        turned[place // 6] ^= 1 << place % 6
        forged[f"bit {place}"] = turned.decode("latin-1")
    assert (await world.call("GET", "/v1/devices", token=good)).status == 200
    before, rows = world.books(), await world.rows_in_journal()
    for how, token in forged.items():
        if len(token) > 60_000 or any(ord(letter) < 32 or ord(letter) == 127 for letter in token):
            continue  # no header may carry it
        reply = await world.call("GET", "/v1/devices", token=token)
        assert reply.status == 401 or good.split(".")[:2] == token.split(".")[:2], how
        assert reply.status == 401, how
    assert world.books() == before
    assert await world.rows_in_journal() > rows + len(forged) - 10


def assertion(world: World, head: Mapping[str, Any], **over: Any) -> str:
    now = int(time.time())
    claims = {"iss": "sun", "sub": "sun", "aud": f"{world.app.url}/oauth/token", "exp": now + 60, "iat": now}
    claims |= {"jti": str(uuid.uuid4())} | over
    header = {"alg": "Ed25519", "kid": "k1", "typ": "JWT"} | dict(head)
    return compact(header, json.dumps(claims).encode(), world.keys["sun"].sign)


async def prove(world: World, text: str) -> Reply:
    form = f"grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}&client_assertion={text}"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return await world.call("POST", "/oauth/token", headers=headers, body=form.encode("latin-1"))


async def test_no_client_assertion_is_forged_or_used_twice(world: World) -> None:
    good = assertion(world, {})
    assert (await prove(world, good)).status == 200
    payload = assertion(world, {}).split(".")[1]
    forged = forgeries(base64.urlsafe_b64decode(payload + "=="), "k1", "JWT", world.keys["sun"])
    del forged["a blank after it"], forged["a giant"], forged["nested without end"]
    forged |= {
        "used before": good,
        "signed by another tenant": compact(
            {"alg": "Ed25519", "kid": "k1"},
            base64.urlsafe_b64decode(payload + "=="),
            world.keys["bright"].sign,
        ),
        "for another server": assertion(world, {}, aud="https://elsewhere.example/oauth/token"),
        "run out": assertion(world, {}, exp=int(time.time()) - 3600),
    }
    rows = await world.rows_in_journal()
    for how, text in forged.items():
        reply = await prove(world, text)
        assert (reply.status, reply.json.get("error")) == (401, "invalid_client"), (how, reply.body)
    assert await world.rows_in_journal() == rows + len(forged)


async def test_a_recorded_call_does_nothing_a_second_time(world: World) -> None:
    """With its key it is the same request; another's token does not make it theirs; a revoked one ends it."""
    token, body = world.token("bright"), b'{"device": "TH-bright", "operation": "read", "key": "once"}'
    first = await world.call("POST", "/v1/requests", token=token, body=body)
    assert first.status == 202
    before = world.books()["request"]
    again = await world.call("POST", "/v1/requests", token=token, body=body)
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    other = body.replace(b"read", b"release")
    assert (await world.call("POST", "/v1/requests", token=token, body=other)).status == 422
    stranger = await world.call("POST", "/v1/requests", token=world.token("sun"), body=body)
    assert (stranger.status, stranger.reason) == (404, "device-unknown")
    form = f"token={token}&client_id=bright&client_secret={SECRET.replace(' ', '+')}".encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await world.call("POST", "/oauth/revoke", headers=headers, body=form)).status == 200
    ended = await world.call("POST", "/v1/requests", token=token, body=body)
    assert (ended.status, ended.reason) == (401, "token-revoked")
    assert world.books()["request"] == before


# ---- webhooks --------------------------------------------------------------------------------------------


def test_a_webhook_with_any_bit_turned_or_another_algorithm_is_refused() -> None:
    secret = webhook_signature.secret_text(b"s" * 32)
    body, now_s = b'{"type":"request.result"}', 1_800_000_000
    signed = webhook_signature.sign("m-1", now_s, body, [secret], KEY)
    headers = {"webhook-id": "m-1", "webhook-timestamp": str(now_s), "webhook-signature": signed}
    public = webhook_signature.public_text(KEY.public_key())
    trusts: list[tuple[list[str], list[str]]] = [([secret], []), ([], [public])]

    def taken(trust: tuple[list[str], list[str]], body: bytes = body, late_s: int = 0, **over: str) -> bool:
        shown = headers | {f"webhook-{name}": value for name, value in over.items()}
        try:
            webhook_signature.verify(
                shown, body, secrets=trust[0], public_keys=trust[1], now_s=now_s + late_s, tolerance_s=300
            )
        except webhook_signature.SignatureWrong:
            return False
        return True

    for trust in trusts:
        assert taken(trust)
        for place in range(len(body) * 8):
            turned = bytearray(body)
            turned[place // 8] ^= 1 << place % 8
            assert not taken(trust, bytes(turned))
        assert not taken(trust, id="m-2")
        assert not taken(trust, timestamp=str(now_s - 1))
        assert not taken(trust, late_s=3600)
        mac, signature = signed.split(" ")
        keyed = hmac.digest(KEY.public_key().public_bytes_raw(), f"m-1.{now_s}.".encode() + body, sha256)
        for value in (
            "none",
            "v1,",
            "v1a,",
            "v0,AAAA",
            "v1a," + "A" * 88,
            mac.replace("v1,", "v1a,"),
            signature.replace("v1a,", "v1,"),
            "v1," + base64.b64encode(keyed).decode(),
            "v1a," + base64.b64encode(keyed).decode(),
            " ".join(["v1,AAAA"] * 1000 + [signed]),
            "v1,\u00e9",
        ):
            assert not taken(trust, signature=value), value
