"""The certificate authority and the consent authority: whose names, whose keys, and where they are kept."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from doorward.ccs.engines.authority import CertificateAuthority, Validity
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.wire.enrolment import consent_fingerprint
from doorward.wire.reasons import Refused
from doorward.wire.signatures import verify

NOW_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000


def authority(directory: Path, now_us: int = NOW_US) -> CertificateAuthority:
    return CertificateAuthority(directory, lambda: now_us, Validity(gateway_days=10, server_days=30))


def csr(common_name: str = "", uri: str = "") -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def loaded(pem: str | bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode() if isinstance(pem, str) else pem)


def names(certificate: x509.Certificate) -> list[str]:
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in held]


def usages(certificate: x509.Certificate) -> Iterator[x509.ObjectIdentifier]:
    return iter(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_gateway_gets_our_names_whatever_it_asks_for(tmp_path: Path) -> None:
    pem, fingerprint = authority(tmp_path).sign_gateway(csr("gw-2", "urn:doorward:gateway:gw-2"), "gw-1")
    certificate = loaded(pem)
    assert certificate.subject.rfc4514_string() == "CN=gw-1"
    assert names(certificate) == ["urn:doorward:gateway:gw-1"]
    assert list(usages(certificate)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.fingerprint(SHA256()).hex() == fingerprint
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 10
    certificate.verify_directly_issued_by(loaded(authority(tmp_path).pem))


def test_no_gateway_gets_a_worker_s_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a gateway"):
        authority(tmp_path).sign_gateway(csr(), "ccs-1")
    with pytest.raises(ValueError, match="begins with 'ccs-'"):
        authority(tmp_path).worker("gw-1")


def test_nonsense_is_not_signed(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a certificate request"):
        authority(tmp_path).sign_gateway("nonsense", "gw-1")


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    authority(tmp_path).server("link", ["localhost"])
    LocalConsentAuthority(tmp_path)
    keys = sorted(tmp_path.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "consent.key", "link.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_an_authority_is_the_same_one_after_a_restart(tmp_path: Path) -> None:
    assert authority(tmp_path).fingerprint == authority(tmp_path, NOW_US + DAY_US).fingerprint
    assert LocalConsentAuthority(tmp_path).fingerprint == LocalConsentAuthority(tmp_path).fingerprint


def test_a_server_s_certificate_is_kept_until_its_hosts_change_or_its_time_runs_low(tmp_path: Path) -> None:
    def serial(hosts: list[str], day: int) -> int:
        kept = authority(tmp_path, NOW_US + day * DAY_US).server("link", hosts)
        certificate = loaded(kept.certificate.read_bytes())
        assert list(usages(certificate)) == [ExtendedKeyUsageOID.SERVER_AUTH]
        assert names(certificate) == ["urn:doorward:server:link", *hosts]
        return certificate.serial_number

    first = serial(["localhost", "127.0.0.1"], 0)
    assert serial(["localhost", "127.0.0.1"], 19) == first
    moved = serial(["ccs.example"], 19)
    assert moved != first
    assert serial(["ccs.example"], 45) != moved


def test_revoked_certificates_are_on_the_list_for_good(tmp_path: Path) -> None:
    one, two = (authority(tmp_path).sign_gateway(csr(), f"gw-{n}")[0] for n in range(2))
    authority(tmp_path).revoke(one)
    listed = x509.load_pem_x509_crl(authority(tmp_path).revocation_list().encode())
    assert [entry.serial_number for entry in listed] == [loaded(one).serial_number]
    authority(tmp_path).revoke(two)
    authority(tmp_path).revoke(two)
    listed = x509.load_pem_x509_crl(authority(tmp_path).revocation_list().encode())
    assert {entry.serial_number for entry in listed} == {loaded(pem).serial_number for pem in (one, two)}
    assert len(list(listed)) == 2


def test_a_grant_does_not_pass_for_a_lease(tmp_path: Path) -> None:
    consent = LocalConsentAuthority(tmp_path)
    keys = consent.public_keys()
    assert verify(consent.sign_grant(b"{}"), keys, "grant") == b"{}"
    assert verify(consent.sign_lease(b"{}"), keys, "lease") == b"{}"
    with pytest.raises(Refused):
        verify(consent.sign_grant(b"{}"), keys, "lease")
    assert consent_fingerprint(keys[consent.kid]) == consent.fingerprint
