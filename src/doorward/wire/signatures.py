"""Compact JWS with Ed25519, and keys as JWKs. One algorithm, so there is none to confuse."""

import base64
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from doorward.wire.reasons import Reason, Refused

ALGORITHM = "Ed25519"
DOCUMENT_BYTES_MAX = 64 * 1024


def b64url(raw: bytes) -> str:
    """Encode as unpadded base64url (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Decode unpadded base64url; raise ``ValueError`` for anything not canonical."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """Return the JWK of a public key (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_bytes_raw())}


def key_from_jwk(jwk: dict[str, str]) -> Ed25519PublicKey:
    """Return the public key of a JWK; raise ``ValueError`` if it is not an Ed25519 one."""
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        raise ValueError("not an Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(unb64url(jwk["x"]))


def sign(payload: bytes, key: Ed25519PrivateKey, kid: str, typ: str) -> str:
    """Return the compact JWS over ``payload``; ``typ`` keeps one kind of document from passing for another."""
    header = json.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ}, separators=(",", ":")).encode()
    signed = f"{b64url(header)}.{b64url(payload)}"
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


def verify(document: str, keys: dict[str, dict[str, str]], typ: str) -> bytes:
    """Return the payload of a compact JWS signed by one of ``keys`` (``kid`` → JWK).

    Raises :class:`Refused` with ``signature-invalid`` for anything else: another algorithm, another
    ``typ``, an unknown key, a critical header, a changed bit.
    """
    try:
        if len(document) > DOCUMENT_BYTES_MAX:
            raise ValueError("document too large")
        head, body, mac = document.split(".")
        header = json.loads(unb64url(head))
        if not isinstance(header, dict) or set(header) != {"alg", "kid", "typ"}:
            raise ValueError("unexpected header")
        if header["alg"] != ALGORITHM or header["typ"] != typ:
            raise ValueError("wrong algorithm or type")
        key = key_from_jwk(keys[header["kid"]])
        key.verify(unb64url(mac), f"{head}.{body}".encode())
        return unb64url(body)
    except (ValueError, KeyError, TypeError, RecursionError, InvalidSignature) as error:
        raise Refused(Reason.SIGNATURE_INVALID, f"signature does not verify: {error!r}") from None


def kid_of(document: str) -> str:
    """Return the name of the key that a verified compact JWS carries in its header."""
    return str(json.loads(unb64url(document.split(".")[0]))["kid"])


def payload_of(document: str) -> bytes:
    """Return the payload of a compact JWS whose signer is not in question (it comes from ourselves)."""
    return unb64url(document.split(".")[1])
