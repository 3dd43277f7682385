"""Webhooks are believed only with the right signature, in time; the signer here is another implementation."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.client import WebhookRefused, verify_webhook
from doorward.wire.signatures import public_jwk
from doorward.wire.webhook_signature import public_text, secret_text, sign

NOW_S = 1_800_000_000
RAW = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(RAW).decode()
KEY = Ed25519PrivateKey.from_private_bytes(RAW)
EVENT = {"id": "e1", "type": "request.result", "request": "r1", "device": "EV-1"}
BODY = json.dumps({"type": "request.result", "timestamp": "2027-01-15T08:00:00Z", "data": EVENT}).encode()


def headers(body: bytes = BODY, at_s: int = NOW_S, raw: bytes = RAW, message: str = "e1") -> dict[str, str]:
    mac = hmac.new(raw, f"{message}.{at_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "Webhook-Id": message,
        "Webhook-Timestamp": str(at_s),
        "Webhook-Signature": "v1," + base64.b64encode(mac).decode(),
    }


def test_a_webhook_with_the_right_secret_is_read() -> None:
    event = verify_webhook(headers(), BODY, secret=SECRET, now_s=NOW_S)
    assert (event.type, event.request, event.data) == ("request.result", "r1", {})


def test_the_specification_s_own_example_verifies() -> None:
    """The test vector of the Standard Webhooks libraries."""
    said = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    with pytest.raises(WebhookRefused, match="not a webhook"):  # it verifies; it is only not one of ours
        verify_webhook(
            said, b'{"test": 2432232314}', secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now_s=1614265330
        )


@pytest.mark.parametrize("as_jwk", [False, True])
def test_a_webhook_is_verified_by_the_public_key_too(as_jwk: bool) -> None:
    said = {"webhook-id": "e1", "webhook-timestamp": str(NOW_S)}
    said["webhook-signature"] = sign("e1", NOW_S, BODY, [secret_text(b"z" * 32)], KEY)
    key = public_jwk(KEY.public_key()) if as_jwk else public_text(KEY.public_key())
    assert verify_webhook(said, BODY, public_keys=[key], now_s=NOW_S).id == "e1"
    with pytest.raises(WebhookRefused, match="no signature"):
        verify_webhook(said, BODY + b" ", public_keys=[key], now_s=NOW_S)


def test_either_of_two_secrets_is_good_while_one_replaces_the_other() -> None:
    old = "whsec_" + base64.b64encode(b"o" * 32).decode()
    assert verify_webhook(headers(raw=b"o" * 32), BODY, secret=[SECRET, old], now_s=NOW_S).id == "e1"


@pytest.mark.parametrize(
    "change, why",
    [
        ({"Webhook-Id": "e2"}, "no signature"),
        ({"Webhook-Timestamp": str(NOW_S + 1)}, "no signature"),
        ({"Webhook-Timestamp": "soon"}, "not a number"),
        ({"Webhook-Timestamp": "١٨٠"}, "not a number"),
        ({"Webhook-Signature": ""}, "missing"),
        ({"Webhook-Signature": "v1,"}, "no signature"),
        ({"Webhook-Signature": "v1,€€€"}, "no signature"),
        ({"Webhook-Signature": "v1a,AAAA"}, "no signature"),
        ({"Webhook-Signature": "v9,AAAA garbage"}, "no signature"),
        ({"Webhook-Signature": " ".join(["v1,AAAA"] * 50)}, "no signature"),
    ],
)
def test_a_changed_header_is_refused(change: dict[str, str], why: str) -> None:
    with pytest.raises(WebhookRefused, match=why):
        verify_webhook(headers() | change, BODY, secret=SECRET, now_s=NOW_S)


def test_a_changed_body_and_a_foreign_secret_are_refused() -> None:
    with pytest.raises(WebhookRefused, match="no signature"):
        verify_webhook(headers(), BODY.replace(b"r1", b"r2"), secret=SECRET, now_s=NOW_S)
    with pytest.raises(WebhookRefused, match="no signature"):
        verify_webhook(headers(raw=b"z" * 32), BODY, secret=SECRET, now_s=NOW_S)


@pytest.mark.parametrize("late_s", [-301, 301])
def test_a_replayed_webhook_is_refused(late_s: int) -> None:
    with pytest.raises(WebhookRefused, match="signed"):
        verify_webhook(headers(at_s=NOW_S - late_s), BODY, secret=SECRET, now_s=NOW_S)
    assert verify_webhook(headers(at_s=NOW_S - late_s), BODY, secret=SECRET, now_s=NOW_S, tolerance_s=302)


def test_nothing_to_verify_with_is_refused_and_so_is_a_bad_secret() -> None:
    with pytest.raises(WebhookRefused, match="give a secret"):
        verify_webhook(headers(), BODY, now_s=NOW_S)
    with pytest.raises(WebhookRefused, match="whsec_"):
        verify_webhook(headers(), BODY, secret="hush", now_s=NOW_S)


def test_what_is_signed_but_no_webhook_is_refused() -> None:
    for body in (b"[]", b"{", b'{"data": 1}'):
        with pytest.raises(WebhookRefused, match="not a webhook"):
            verify_webhook(headers(body), body, secret=SECRET, now_s=NOW_S)


def test_a_challenge_is_handed_over() -> None:
    body = b'{"type":"endpoint.challenge","challenge":"c-1"}'
    assert verify_webhook(headers(body), body, secret=SECRET, now_s=NOW_S).challenge == "c-1"
