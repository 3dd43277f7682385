"""Enrolment codes: what they carry, and what is none."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from doorward.wire.enrolment import (
    CODE_CHARS_MAX,
    Code,
    code_hash,
    consent_fingerprint,
    csr_key,
    format_code,
    is_gateway_id,
    key_hash,
    parse_code,
    spent_hash,
)
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import public_jwk

SECRET = bytes(range(16))
CA, CONSENT = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.mark.parametrize("gateway", ["gw-1", "a", "North.7_B-ABCDEF-0123", "g" * 64])
def test_a_code_says_what_went_into_it(gateway: str) -> None:
    code = format_code(gateway, SECRET, CA, CONSENT)
    assert len(code) <= CODE_CHARS_MAX
    assert parse_code(f" {code}\n") == Code(
        gateway=gateway, secret="AAAQEAYEAUDAOCAJBIFQYDIOB4", ca=CA[:16], consent=CONSENT[:16]
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DW1",
        "DW2-gw-1-AAAQEAYEAUDAOCAJBIFQYDIOB4-0123456789abcdef-fedcba9876543210",
        "DW1-gw-1-AAAQEAYEAUDAOCAJBIFQYDIOB-0123456789abcdef-fedcba9876543210",
        "DW1-gw-1-AAAQEAYEAUDAOCAJBIFQYDIOB4-0123456789abcde-fedcba9876543210",
        "DW1-gw-1-AAAQEAYEAUDAOCAJBIFQYDIOB4-0123456789abcdef",
        "DW1-gw/1-AAAQEAYEAUDAOCAJBIFQYDIOB4-0123456789abcdef-fedcba9876543210",
        "DW1-ccs-1-AAAQEAYEAUDAOCAJBIFQYDIOB4-0123456789abcdef-fedcba9876543210",
        "DW1-" + "g" * 100_000,
    ],
)
def test_what_is_no_code_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="not an enrolment code"):
        parse_code(text)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a+", "#", "a" * 65, "ccs-1", "ä"])
def test_a_gateway_s_name_is_safe_wherever_it_goes(name: str) -> None:
    assert not is_gateway_id(name)
    with pytest.raises(ValueError, match="cannot name a gateway"):
        format_code(name, SECRET, CA, CONSENT)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        format_code("gw-1", SECRET[:15], CA, CONSENT)


def test_a_code_s_hash_does_not_depend_on_how_it_was_pasted() -> None:
    code = format_code("gw-1", SECRET, CA, CONSENT)
    assert code_hash(code) == code_hash(f"  {code}\r\n") != code_hash(code[:-1])


def test_a_spent_code_belongs_to_one_key() -> None:
    assert spent_hash("a", "key 1") == spent_hash("a", "key 1")
    assert len({"a", spent_hash("a", "key 1"), spent_hash("a", "key 2"), spent_hash("b", "key 1")}) == 4


def test_the_consent_key_s_fingerprint_is_of_the_raw_key() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    assert len(consent_fingerprint(public_jwk(key))) == 64
    with pytest.raises(ValueError, match="not an Ed25519 key"):
        consent_fingerprint({"kty": "OKP"})


def request(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    return csr.public_bytes(Encoding.PEM).decode()


def test_the_keys_that_gateways_have_are_taken() -> None:
    p256, ed = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    assert csr_key(request(p256)) == p256.public_key()
    assert csr_key(request(ed)) == ed.public_key()
    assert key_hash(p256.public_key()) != key_hash(ed.public_key())


def test_other_keys_are_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(Refused, match="P-256 or Ed25519"):
            csr_key(request(key))


def test_a_request_for_somebody_else_s_key_is_refused() -> None:
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    der = {k: x509.load_pem_x509_csr(request(k).encode()) for k in (mine, other)}
    spki = {k: csr.tbs_certrequest_bytes for k, csr in der.items()}
    forged = der[mine].public_bytes(Encoding.DER).replace(spki[mine], spki[other])
    pem = x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(Refused, match="not signed by its own key"):
        csr_key(pem)


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"])
def test_what_is_no_request_is_malformed(text: str) -> None:
    with pytest.raises(Refused) as refused:
        csr_key(text)
    assert (refused.value.reason, refused.value.field) == (Reason.BODY_MALFORMED, "/csr")


def test_a_giant_request_is_not_even_read() -> None:
    with pytest.raises(Refused) as refused:
        csr_key("x" * 10_000)
    assert refused.value.reason is Reason.BODY_TOO_LARGE
