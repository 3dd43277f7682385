"""Whoever shows a token holds its key: a DPoP proof (RFC 9449), or the TLS certificate (RFC 8705).

A stolen token is worth nothing without the key. That a proof is used once is asked in the books; all else
about it is decided here, with the time as an argument.
"""

import re
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from doorward.ccs.rules.identity import Claims
from doorward.wire.codec import NOT_JSON
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url, unb64url

US = 1_000_000
PROOF_TYP = "dpop+jwt"
PROOF_ALGORITHMS = ("ES256", "Ed25519", "EdDSA")
PROOF_CHARS_MAX = 4096
PROOF_S = 60
"""How old a proof may be."""
SKEW_S = 30
"""How far a client's clock may be from ours."""
JTI_CHARS_MAX = 200
PORTS = {"https": 443, "http": 80}

_KEYS: dict[str, tuple[type[ECKey] | type[OKPKey], str, str]] = {
    "ES256": (ECKey, "EC", "P-256"),
    "Ed25519": (OKPKey, "OKP", "Ed25519"),
    "EdDSA": (OKPKey, "OKP", "Ed25519"),
}
_MEMBERS = {"EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a call shows. ``scheme`` is that of its Authorization header, in lower case.

    ``path`` is as it came, percent-encoded; ``certificate`` the DER of the TLS client's (empty: none).
    """

    scheme: str
    token: str
    proof: str
    certificate: bytes
    method: str
    path: str


class Proof(msgspec.Struct, frozen=True):
    """A proof that verifies: its key's thumbprint, and the id under which it may be used once until a time."""

    thumbprint: str
    id: str
    until_us: int


class ProofHeader(msgspec.Struct, frozen=True):
    """The header of a proof (RFC 9449 §4.2)."""

    typ: str
    alg: str
    jwk: dict[str, Any]
    crit: list[str] = []


class ProofClaims(msgspec.Struct, frozen=True):
    """What a proof says: once, for this method and URL, at this time, with this token."""

    jti: str
    htm: str
    htu: str
    iat: float
    ath: str = ""


_header = msgspec.json.Decoder(ProofHeader)
_claims = msgspec.json.Decoder(ProofClaims)


def read_proof(text: str, method: str, url: str, now_us: int, token: str = "") -> Proof:
    """Return a proof for this call, and for ``token`` where it goes with one.

    Raises ``proof-invalid`` with what is wrong. Whether it was used before is for the books to say.
    """
    if len(text) > PROOF_CHARS_MAX:
        raise _wrong("it is too long")
    try:
        head, body, _ = text.split(".")
        header = _header.decode(unb64url(head))
        claims = _claims.decode(unb64url(body))
    except (ValueError, *NOT_JSON) as error:
        raise _wrong(f"it cannot be read: {error}") from None
    thumbprint = _signer(text, header)
    why = _why_not(claims, method, url, now_us, token)
    if why:
        raise _wrong(why)
    once = sha256(f"{thumbprint}|{claims.jti}".encode()).digest()
    return Proof(thumbprint, f"dpop|{b64url(once)}", (int(claims.iat) + PROOF_S + SKEW_S + 1) * US)


def certificate_thumbprint(der: bytes) -> str:
    """Return ``x5t#S256`` of a certificate (RFC 8705 §3.1)."""
    return b64url(sha256(der).digest())


def require_possession(claims: Claims, shown: Shown, base: str, now_us: int) -> Proof | None:
    """Return the proof that has to be used up, or ``None`` where none goes with this token.

    Raises ``proof-invalid`` for a bound token without its key, and for an unbound one that is shown as bound.
    """
    bound = claims.cnf
    key = bound.jkt if bound is not None else ""
    if (shown.scheme == "dpop") != bool(key):
        raise _wrong("the token is bound to a key" if key else "the token is not bound to a key; use Bearer")
    if bound is not None and bound.x5t and certificate_thumbprint(shown.certificate) != bound.x5t:
        raise _wrong("the token is bound to another TLS certificate")
    if not key:
        return None
    read = read_proof(shown.proof, shown.method, base + shown.path, now_us, shown.token)
    if read.thumbprint != key:
        raise _wrong("the token is bound to another key")
    return read


def _wrong(why: str) -> Refused:
    return Refused(Reason.PROOF_INVALID, f"proof of possession: {why}")


def _signer(text: str, header: ProofHeader) -> str:
    """Return the thumbprint (RFC 7638) of the key in the header that signed the proof."""
    if header.typ != PROOF_TYP or header.crit:
        raise _wrong(f"its type must be {PROOF_TYP}, with nothing critical")
    if header.alg not in PROOF_ALGORITHMS:
        raise _wrong(f"its algorithm must be one of {', '.join(PROOF_ALGORITHMS)}")
    kind, kty, curve = _KEYS[header.alg]
    if header.jwk.get("kty") != kty or header.jwk.get("crv") != curve or "d" in header.jwk:
        raise _wrong(f"{header.alg} needs a public {curve} key")
    public = {name: str(header.jwk.get(name)) for name in _MEMBERS[kty]}
    try:
        key = kind.import_key({**public})
        jws.deserialize_compact(text, key, algorithms=[header.alg])
        return key.thumbprint()
    except (JoseError, ValueError, KeyError, TypeError):
        raise _wrong("its signature does not verify") from None


def _why_not(claims: ProofClaims, method: str, url: str, now_us: int, token: str) -> str:
    now_s = now_us / US
    if not 0 < len(claims.jti) <= JTI_CHARS_MAX or not claims.jti.isprintable():
        return f"it needs a jti of 1 to {JTI_CHARS_MAX} characters"
    if claims.htm != method:
        return "it is for another method"
    if _plain(claims.htu) != _plain(url):
        return "it is for another URL"
    if not now_s - PROOF_S - SKEW_S <= claims.iat <= now_s + SKEW_S:
        return "it was not made just now"
    if claims.ath != (b64url(sha256(token.encode()).digest()) if token else ""):
        return "it is for another token"
    return ""


def _plain(url: str) -> str:
    """Return a URL in one form, without query and fragment (RFC 9449 §4.3)."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    path = re.sub(r"[^/]+", lambda part: quote(unquote(part[0]), safe=""), parts.path or "/")
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}{path}"
