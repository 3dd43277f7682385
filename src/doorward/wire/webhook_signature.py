"""Signatures of webhooks after Standard Webhooks 1.0: made by the CCS, checked by third parties.

Signed is ``{webhook-id}.{webhook-timestamp}.{body}``. ``v1`` is HMAC-SHA256 under a shared secret
(``whsec_…``); ``v1a`` is Ed25519 under the CCS's key (public as ``whpk_…`` or as a JWK). Both travel
side by side in ``webhook-signature``, and a receiver believes whichever it can check.
"""

import base64
import hmac
from collections.abc import Collection, Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from doorward.wire.signatures import key_from_jwk

SECRET_PREFIX = "whsec_"
PUBLIC_PREFIX = "whpk_"
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
SIGNATURES_MAX = 16
"""Signatures looked at in one header; more is not a webhook of ours."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"


class SignatureWrong(ValueError):
    """A webhook does not prove where it comes from, or is too old, or from the future."""


def secret_text(raw: bytes) -> str:
    """Return a shared secret of 24 to 64 random bytes in its written form, ``whsec_…``."""
    if not SECRET_BYTES_MIN <= len(raw) <= SECRET_BYTES_MAX:
        raise ValueError(f"a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not {len(raw)}")
    return SECRET_PREFIX + base64.b64encode(raw).decode()


@lru_cache(maxsize=4096)
def secret_bytes(text: str) -> bytes:
    """Return the bytes of ``whsec_…``; raise ``ValueError`` when it is not one."""
    raw = base64.b64decode(_after(SECRET_PREFIX, text), validate=True)
    secret_text(raw)
    return raw


def public_text(key: Ed25519PublicKey) -> str:
    """Return a public key in its written form, ``whpk_…``."""
    return PUBLIC_PREFIX + base64.b64encode(key.public_bytes_raw()).decode()


@lru_cache(maxsize=256)
def _public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(_after(PUBLIC_PREFIX, text), validate=True))


def _after(prefix: str, text: str) -> str:
    if not text.startswith(prefix):
        raise ValueError(f"it must begin with {prefix}")
    return text[len(prefix) :]


def sign(
    message: str, at_s: int, body: bytes, secrets: Collection[str], key: Ed25519PrivateKey | None
) -> str:
    """Return the value of ``webhook-signature``: one ``v1`` per secret, then ``v1a`` when there is a key."""
    signed = f"{message}.{at_s}.".encode() + body
    parts = [f"v1,{_mac(signed, secret)}" for secret in secrets]
    if key is not None:
        parts.append("v1a," + base64.b64encode(key.sign(signed)).decode())
    return " ".join(parts)


def _mac(signed: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret_bytes(secret), signed, "sha256")).decode()


def verify(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Collection[str],
    public_keys: Collection[str | Mapping[str, str]],
    now_s: float,
    tolerance_s: float,
) -> str:
    """Return the webhook's id when one signature is right and its time is within the tolerance.

    ``headers`` in any case; ``public_keys`` are ``whpk_…`` or Ed25519 JWKs. Every comparison takes the
    same time whatever is wrong. Raises :class:`SignatureWrong`.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message, stamp, signatures = (
        _header(found, name) for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    )
    if not secrets and not public_keys:
        raise SignatureWrong("give a secret or public keys to verify with")
    if not (stamp.isascii() and stamp.isdigit()):
        raise SignatureWrong(f"{TIMESTAMP_HEADER} is not a number of seconds: {stamp[:40]!r}")
    if abs(now_s - int(stamp)) > tolerance_s:
        raise SignatureWrong(f"signed {now_s - int(stamp):.0f} s ago; {tolerance_s:.0f} s are allowed")
    signed = f"{message}.{stamp}.".encode() + body
    if not _any_right(signed, signatures.split()[:SIGNATURES_MAX], secrets, public_keys):
        raise SignatureWrong("no signature of the webhook verifies")
    return message


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise SignatureWrong(f"the header {name} is missing")
    return value


def _any_right(
    signed: bytes,
    signatures: Collection[str],
    secrets: Collection[str],
    public_keys: Collection[str | Mapping[str, str]],
) -> bool:
    right = False
    macs = [_mac(signed, secret) for secret in secrets]
    keys = [_public_key(key) if isinstance(key, str) else key_from_jwk(dict(key)) for key in public_keys]
    for signature in signatures:
        version, _, value = signature.partition(",")
        if version == "v1":
            for mac in macs:
                right |= hmac.compare_digest(mac.encode(), value.encode())
        elif version == "v1a":
            for key in keys:
                right |= _verifies(key, value, signed)
    return right


def _verifies(key: Ed25519PublicKey, value: str, signed: bytes) -> bool:
    try:
        key.verify(base64.b64decode(value, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
