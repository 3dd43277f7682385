"""The caller's own keys: how a client proves who it is, and how it signs commands."""

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from doorward.wire.signatures import b64url, public_jwk, sign, unb64url

US = 1_000_000
ASSERTION_S = 60
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

PrivateKey = Ed25519PrivateKey | Mapping[str, str] | str | bytes
"""An Ed25519 private key: the object, a JWK (with its ``kid``), or PEM."""


class SigningKey(msgspec.Struct, frozen=True):
    """An Ed25519 private key and the name under which the utility knows it."""

    key: Ed25519PrivateKey
    kid: str


def signing_key(given: PrivateKey, kid: str) -> SigningKey:
    """Return the key in any of its forms; raise ``ValueError`` when it is none, or has no name."""
    if isinstance(given, Mapping):
        if given.get("crv") != "Ed25519" or "d" not in given:
            raise ValueError("the JWK is not an Ed25519 private key")
        key = Ed25519PrivateKey.from_private_bytes(unb64url(given["d"]))
        kid = kid or given.get("kid", "")
    elif isinstance(given, Ed25519PrivateKey):
        key = given
    else:
        loaded = load_pem_private_key(given.encode() if isinstance(given, str) else given, None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError("the PEM is not an Ed25519 private key")
        key = loaded
    if not kid:
        raise ValueError("say the key's id (kid) under which the utility knows it")
    return SigningKey(key, kid)


class Secret(msgspec.Struct, frozen=True):
    """Proof by a shared secret (profile ``secret``), sent by HTTP Basic."""

    client: str
    secret: str

    def headers(self) -> dict[str, str]:
        """Return the header that proves the client (RFC 6749 §2.3.1)."""
        pair = f"{quote_plus(self.client)}:{quote_plus(self.secret)}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}

    def form(self, audience: str, now_us: int, once: str) -> dict[str, str]:
        """Return nothing: all is in the header."""
        return {}


class Assertion(msgspec.Struct, frozen=True):
    """Proof by a signed statement (profile ``private_key_jwt``, RFC 7523)."""

    client: str
    key: SigningKey

    def headers(self) -> dict[str, str]:
        """Return nothing: all is in the form."""
        return {}

    def form(self, audience: str, now_us: int, once: str) -> dict[str, str]:
        """Return the statement's fields; ``once`` is its id, good for one use."""
        now_s = now_us // US
        claims: dict[str, Any] = {"iss": self.client, "sub": self.client, "aud": audience, "jti": once}
        claims |= {"iat": now_s, "exp": now_s + ASSERTION_S}
        document = sign(msgspec.json.encode(claims), self.key.key, self.key.kid, "JWT")
        return {
            "client_id": self.client,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": document,
        }


Proof = Secret | Assertion


class TokenKey(msgspec.Struct, frozen=True):
    """The key that access tokens are bound to (DPoP, RFC 9449)."""

    key: Ed25519PrivateKey

    def proof(self, method: str, url: str, token: str, now_us: int, once: str) -> str:
        """Return the proof for one call; ``once`` is its id. ``token`` is empty where a token is asked for."""
        header = {"typ": "dpop+jwt", "alg": "Ed25519", "jwk": public_jwk(self.key.public_key())}
        claims: dict[str, Any] = {
            "jti": once,
            "htm": method,
            "htu": url.partition("?")[0],
            "iat": now_us // US,
        }
        if token:
            claims["ath"] = b64url(sha256(token.encode()).digest())
        signed = f"{b64url(msgspec.json.encode(header))}.{b64url(msgspec.json.encode(claims))}"
        return f"{signed}.{b64url(self.key.sign(signed.encode()))}"


def fresh_key() -> TokenKey:
    """Return a new key: it lives as long as the client, and so do the tokens that are bound to it."""
    return TokenKey(Ed25519PrivateKey.generate())


def proof_of(client: str, secret: str | None, private_key: PrivateKey | None, key_id: str) -> Proof:
    """Return how a client proves itself; raise ``ValueError`` unless exactly one way is given."""
    if (secret is None) == (private_key is None):
        raise ValueError("give either client_secret or private_key")
    if private_key is not None:
        return Assertion(client, signing_key(private_key, key_id))
    return Secret(client, secret or "")
