"""Who this gateway is: its key, its certificate, and what it was given when it enrolled.

The private key is made here and never leaves. Three files in one directory: ``gateway.key`` (first of
all, so that a repeated enrolment shows the same key), ``identity.json`` (everything that the CCS gave:
written whole, and the gateway is enrolled once it is there) and ``gateway.pem`` (the certificate out
of it, because TLS wants a file).
"""

import asyncio
import hmac
import random
import ssl
from pathlib import Path

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from doorward.kit.backoff import FullJitter
from doorward.kit.files import write_atomically
from doorward.kit.tls import Credentials, client_context
from doorward.wire.codec import MAC_BYTES
from doorward.wire.enrolment import (
    PIN_DIGITS,
    Code,
    EnrolAnswer,
    EnrolAsk,
    LinkAddress,
    certificate_fingerprint,
    consent_fingerprint,
    parse_code,
)
from doorward.wire.signatures import unb64url

US = 1_000_000
ASK_WAIT_S_MAX = 20.0
ANSWER_BYTES_MAX = 64 * 1024
TRIES_MAX = 8
TRY_WAIT_S_MAX = 10.0


class EnrolmentFailed(Exception):
    """The gateway could not be enrolled; the message says why, in words for the installer."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What an enrolled gateway knows. ``consent_keys``: ``kid`` → JWK, only those that the code pinned.

    ``enrolled_us`` is when it enrolled, by the CCS's word, and not before its certificate: time was never
    earlier. (The certificate authority is not the CCS, which could otherwise make an old signed command new.)
    """

    gateway: str
    certificate: str
    ca: str
    link: LinkAddress
    mac_key: bytes
    key_generation: int
    consent_keys: dict[str, dict[str, str]]
    enrolled_us: int


def load(directory: Path) -> Identity | None:
    """Return the identity kept in ``directory``, or ``None`` if the gateway is not enrolled.

    Raises ``ValueError`` (which file, and what is wrong) when the file cannot be read as one.
    """
    path = directory / "identity.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from None


def credentials(directory: Path, identity: Identity) -> Credentials:
    """Return the TLS credentials of an enrolled gateway."""
    certificate = directory / "gateway.pem"
    pem = identity.certificate.encode()
    if not certificate.exists() or certificate.read_bytes() != pem:
        write_atomically(certificate, pem)
    return Credentials(certificate, directory / "gateway.key", identity.ca)


async def enrol(directory: Path, url: str, code: str, rng: random.Random) -> Identity:
    """Enrol at ``url`` (``https://host:port``) with a one-time code; keep and return the identity.

    Tries again, with jitter, while the CCS cannot be reached. Raises :class:`EnrolmentFailed` when it
    says no, when it is not the one that the code names, or after the last try.
    """
    said = _parsed(code)
    if not url.startswith("https://"):
        raise EnrolmentFailed(f"{url}: gateways enrol over https only")
    csr = certificate_request(directory, said.gateway)
    ask = EnrolAsk(gateway=said.gateway, code=code.strip(), csr=csr)
    backoff = FullJitter(rng, wait_s_max=TRY_WAIT_S_MAX)
    for left in reversed(range(TRIES_MAX)):
        try:
            answer = await _ask(url, said, ask)
            break
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            if not left or isinstance(error, aiohttp.ClientSSLError):
                raise EnrolmentFailed(f"{url} cannot be reached: {error}") from error
            await asyncio.sleep(backoff.next_s())
    identity = _checked(answer, said)
    try:
        client_context(identity.ca, credentials(directory, identity))
    except ssl.SSLError as error:
        raise EnrolmentFailed(f"the certificate is not for this gateway's key: {error}") from None
    write_atomically(directory / "identity.json", msgspec.json.encode(identity))
    return identity


def _parsed(code: str) -> Code:
    try:
        return parse_code(code)
    except ValueError as error:
        raise EnrolmentFailed(str(error)) from None


def certificate_request(directory: Path, gateway: str) -> str:
    """Return a certificate request under the gateway's own key, which is made if there is none."""
    path = directory / "gateway.key"
    if not path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_atomically(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnrolmentFailed(f"{path} is not an elliptic-curve key")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, gateway)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    return csr.public_bytes(Encoding.PEM).decode()


async def _ask(url: str, said: Code, ask: EnrolAsk) -> EnrolAnswer:
    """Fetch the authority, check it against the pin, and only then send the code over verified TLS."""
    base = url.rstrip("/")
    limit = aiohttp.ClientTimeout(total=ASK_WAIT_S_MAX)
    async with aiohttp.ClientSession(timeout=limit) as http:
        async with http.get(f"{base}/enrol/ca", ssl=_unverified(), allow_redirects=False) as response:
            ca = (await _read(response)).decode(errors="replace")
        _check_pin(ca, said)
        async with http.post(
            f"{base}/enrol", data=msgspec.json.encode(ask), ssl=client_context(ca), allow_redirects=False
        ) as response:
            body = await _read(response)
    try:
        return msgspec.json.decode(body, type=EnrolAnswer)
    except msgspec.DecodeError as error:
        raise EnrolmentFailed(f"{url} gives an answer that cannot be read: {error}") from None


def _unverified() -> ssl.SSLContext:
    """A context for the one question whose answer the pin decides about: nothing secret goes over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise EnrolmentFailed(f"{response.url.path}: the answer is too long")
    if response.status != 200:
        words = body.decode(errors="replace")
        raise EnrolmentFailed(f"{response.url.path}: the CCS answers {response.status}: {words}")
    return bytes(body)


def _check_pin(ca: str, said: Code) -> None:
    try:
        fingerprint = certificate_fingerprint(x509.load_pem_x509_certificate(ca.encode()))
    except ValueError:
        fingerprint = ""
    if not hmac.compare_digest(fingerprint[:PIN_DIGITS], said.ca):
        raise EnrolmentFailed("this is not the utility that the code is for: its authority has another pin")


def _checked(answer: EnrolAnswer, said: Code) -> Identity:
    """Return what is kept of an answer; only the authority and the consent keys in the code are believed."""
    _check_pin(answer.ca, said)
    keys = {kid: jwk for kid, jwk in answer.consent_keys.items() if _is_pinned(jwk, said)}
    if not keys:
        raise EnrolmentFailed("the CCS does not give the consent authority's key that the code names")
    mac_key = unb64url(answer.mac_key)
    if len(mac_key) != MAC_BYTES:
        raise EnrolmentFailed(f"the CCS gives a MAC key of {len(mac_key)} bytes")
    return Identity(
        gateway=said.gateway,
        certificate=answer.certificate,
        ca=answer.ca,
        link=answer.link,
        mac_key=mac_key,
        key_generation=answer.key_generation,
        consent_keys=keys,
        enrolled_us=max(answer.ccs_time_us, _valid_from_us(answer.certificate)),
    )


def _valid_from_us(certificate: str) -> int:
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise EnrolmentFailed(f"the CCS gives a certificate that cannot be read: {error}") from None
    return int(found.not_valid_before_utc.timestamp()) * US


def _is_pinned(jwk: dict[str, str], said: Code) -> bool:
    try:
        return hmac.compare_digest(consent_fingerprint(jwk)[:PIN_DIGITS], said.consent)
    except ValueError:
        return False
