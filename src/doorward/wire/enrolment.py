"""How a gateway joins: the one-time code, and what is asked and answered over HTTPS.

A code is ``DW1-<gateway>-<secret>-<authority>-<consent>``: the secret is 26 characters of base32 (128
bits), the other two are the first 16 hex digits of the SHA-256 of the certificate authority's DER
certificate and of the consent authority's raw public key. They reach the gateway in the code, by a way
of its own, and not through the CCS.
"""

import base64
import re
from hashlib import sha256
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import unb64url

PREFIX = "DW1"
SECRET_BYTES = 16
PIN_DIGITS = 16
CODE_CHARS_MAX = 160
CSR_CHARS_MAX = 8192

WORKER_PREFIX = "ccs-"
"""Certificate names of CCS workers begin so; no gateway may."""

DeviceKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CODE = re.compile(
    rf"{PREFIX}-(?P<gateway>{_GATEWAY.pattern})-(?P<secret>[A-Z2-7]{{26}})"
    rf"-(?P<ca>[0-9a-f]{{{PIN_DIGITS}}})-(?P<consent>[0-9a-f]{{{PIN_DIGITS}}})"
)


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What an enrolment code says."""

    gateway: str
    secret: str
    ca: str
    consent: str


class LinkAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway connects: ``wss://host:port`` or ``mqtts://host:port``, tried in turn."""

    kind: Literal["websocket", "mqtt"]
    urls: list[str]


class EnrolAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gateway asks: ``code`` as it was handed over, ``csr`` in PEM."""

    gateway: str
    code: str
    csr: str


class EnrolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is given. ``mac_key`` is base64url; certificates are PEM."""

    certificate: str
    ca: str
    link: LinkAddress
    mac_key: str
    key_generation: int
    consent_keys: dict[str, dict[str, str]]
    ccs_time_us: int


def is_gateway_id(text: str) -> bool:
    """Whether ``text`` can name a gateway: safe in topics, URNs, files and certificates."""
    return _GATEWAY.fullmatch(text) is not None and not text.startswith(WORKER_PREFIX)


def format_code(gateway: str, secret: bytes, ca: str, consent: str) -> str:
    """Return the code for 16 secret bytes and the two full SHA-256 fingerprints in hex.

    Raises ``ValueError`` when the gateway's id or the secret's length cannot be used.
    """
    if not is_gateway_id(gateway):
        raise ValueError(f"{gateway!r} cannot name a gateway (letters, digits, '.', '_', '-'; not 'ccs-…')")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"an enrolment secret has {SECRET_BYTES} bytes, not {len(secret)}")
    word = base64.b32encode(secret).decode().rstrip("=")
    return f"{PREFIX}-{gateway}-{word}-{ca[:PIN_DIGITS]}-{consent[:PIN_DIGITS]}"


def parse_code(text: str) -> Code:
    """Return what a code says; raise ``ValueError`` if it is none."""
    found = _CODE.fullmatch(text.strip()) if len(text) <= CODE_CHARS_MAX else None
    if found is None or not is_gateway_id(found["gateway"]):
        raise ValueError("not an enrolment code; it looks like DW1-gateway-SECRET-authority-consent")
    return Code(gateway=found["gateway"], secret=found["secret"], ca=found["ca"], consent=found["consent"])


def code_hash(code: str) -> str:
    """Return what the CCS keeps of a code: SHA-256 in hex (128 random bits need no salt)."""
    return sha256(code.strip().encode()).hexdigest()


def spent_hash(hashed: str, key: str) -> str:
    """Return what replaces a code's hash once ``key`` has used it: only that key may come again."""
    return sha256(f"spent|{hashed}|{key}".encode()).hexdigest()


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Return SHA-256 over the DER certificate, in hex."""
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def consent_fingerprint(jwk: dict[str, str]) -> str:
    """Return SHA-256 over an Ed25519 JWK's raw public key, in hex; raise ``ValueError`` if it is none."""
    try:
        return sha256(unb64url(jwk["x"])).hexdigest()
    except KeyError:
        raise ValueError("not an Ed25519 key") from None


def csr_key(pem: str) -> DeviceKey:
    """Return the public key of a certificate request (PEM) that this key itself has signed.

    Raises :class:`Refused` (``body-malformed``) for anything else, and for keys other than P-256 and
    Ed25519. Nothing but the public key is to be believed of it.
    """
    if len(pem) > CSR_CHARS_MAX:
        raise Refused(Reason.BODY_TOO_LARGE, "certificate request too large", field="/csr")
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        key = csr.public_key()
        proved = csr.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Refused(Reason.BODY_MALFORMED, f"not a certificate request: {error}", field="/csr") from None
    if not proved:
        raise Refused(Reason.BODY_MALFORMED, "the request is not signed by its own key", field="/csr")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise Refused(Reason.BODY_MALFORMED, "the key must be P-256 or Ed25519", field="/csr")


def key_hash(key: DeviceKey) -> str:
    """Return SHA-256 over a public key (SubjectPublicKeyInfo, DER), in hex."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
