"""The utility's certificate authority, built in for the demo: files in one directory, keys readable by the owner.

It stands beside the CCS, not in it: production puts an HSM or the utility's own PKI in its place. Of
a gateway's request only the public key is taken; every name in a certificate is ours. All keys are
P-256, which every TLS stack and broker in use accepts.
"""

import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from doorward.kit.files import one_at_a_time, write_atomically
from doorward.kit.tls import Credentials
from doorward.wire.enrolment import WORKER_PREFIX, certificate_fingerprint, csr_key, is_gateway_id

CA_DAYS = 20 * 365
GATEWAY_DAYS = 365
SERVER_DAYS = 90
CRL_DAYS = 30
STAND_IN_DAYS = 0.01
ISSUED_FILE = "issued"
"""A line for each gateway certificate: the gateway and the serial number in hex."""
BACKDATE = timedelta(minutes=5)
"""Certificates begin a little in the past, for gateways whose clock is behind."""
PUBLIC_FILE = 0o644
URN = "urn:doorward"


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """How long certificates are valid, in days. Server and worker certificates renew in their last third."""

    gateway_days: float = GATEWAY_DAYS
    server_days: int = SERVER_DAYS


class CertificateAuthority:
    """Signs certificates with the key in ``directory``, which it makes at first use.

    ``now_us`` is the clock.
    """

    def __init__(self, directory: Path, now_us: Callable[[], int], validity: Validity | None = None) -> None:
        self._directory = directory
        self._now_us = now_us
        self._validity = validity or Validity()
        key_file, certificate_file = directory / "ca.key", directory / "ca.pem"
        with one_at_a_time(directory):
            if not certificate_file.exists():
                key = ec.generate_private_key(ec.SECP256R1())
                write_atomically(key_file, _key_pem(key))
                write_atomically(certificate_file, self._root(key).public_bytes(Encoding.PEM), PUBLIC_FILE)
        loaded = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} is not an elliptic-curve key")
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())

    @property
    def pem(self) -> str:
        """The authority's certificate: what everybody trusts."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    @property
    def path(self) -> Path:
        """The file that holds :attr:`pem`."""
        return self._directory / "ca.pem"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's DER certificate, in hex."""
        return certificate_fingerprint(self._certificate)

    def sign_gateway(self, csr: str, gateway: str) -> tuple[str, str]:
        """Return a gateway's certificate (PEM) for a CSR (PEM), and its SHA-256 in hex.

        Raises :class:`doorward.wire.reasons.Refused` if the CSR does not prove its key, ``ValueError``
        if the id cannot name a gateway.
        """
        if not is_gateway_id(gateway):
            raise ValueError(f"{gateway!r} cannot name a gateway")
        key = csr_key(csr)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{URN}:gateway:{gateway}")]
        certificate = self._issue(
            key, gateway, names, ExtendedKeyUsageOID.CLIENT_AUTH, self._validity.gateway_days
        )
        with (self._directory / ISSUED_FILE).open("a", encoding="ascii") as issued:
            issued.write(f"{gateway} {certificate.serial_number:x}\n")
        return certificate.public_bytes(Encoding.PEM).decode(), certificate_fingerprint(certificate)

    def server(self, name: str, hosts: Sequence[str]) -> Credentials:
        """Return the certificate of one of our servers, for these host names and addresses.

        Kept in ``name.pem`` and ``name.key``; made anew when the hosts change or a third of its time is left.
        """
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{URN}:server:{name}")]
        names.extend(_host(host) for host in hosts)
        return self._keep(name, names, ExtendedKeyUsageOID.SERVER_AUTH)

    def worker(self, name: str) -> Credentials:
        """Return the client certificate with which a CCS worker comes to the broker; ``name`` is ``ccs-…``."""
        if not name.startswith(WORKER_PREFIX):
            raise ValueError(f"{name!r}: the certificate name of a CCS worker begins with {WORKER_PREFIX!r}")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{URN}:worker:{name}")]
        return self._keep(name, names, ExtendedKeyUsageOID.CLIENT_AUTH)

    def stand_in(self, gateway: str, directory: Path) -> tuple[Credentials, str]:
        """Return a certificate in a gateway's name for a quarter of an hour, in ``directory``, and its PEM.

        Who comes to a broker with it takes the gateway's place: so a session that must end is ended.
        """
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{URN}:gateway:{gateway}")]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            key.public_key(), gateway, names, ExtendedKeyUsageOID.CLIENT_AUTH, STAND_IN_DAYS
        )
        number = f"{certificate.serial_number:x}"
        made = Credentials(directory / f"{number}.pem", directory / f"{number}.key", self.pem)
        write_atomically(made.key, _key_pem(key))
        write_atomically(made.certificate, certificate.public_bytes(Encoding.PEM))
        return made, certificate.public_bytes(Encoding.PEM).decode()

    def revoke(self, certificate: str) -> None:
        """Put a certificate (PEM) on the revocation list."""
        self._revoke({x509.load_pem_x509_certificate(certificate.encode()).serial_number})

    def revoke_gateway(self, gateway: str) -> int:
        """Put every certificate that a gateway ever got on the revocation list; how many."""
        place = self._directory / ISSUED_FILE
        lines = place.read_text(encoding="ascii").splitlines() if place.exists() else []
        serials = {int(line.split()[1], 16) for line in lines if line.split()[0] == gateway}
        self._revoke(serials)
        return len(serials)

    def _revoke(self, serials: set[int]) -> None:
        with one_at_a_time(self._directory):
            all_of_them = sorted({*self._revoked(), *serials})
            write_atomically(
                self._directory / "revoked.json", msgspec.json.encode([f"{n:x}" for n in all_of_them])
            )

    def revocation_list(self) -> str:
        """Return the list of revoked certificates (CRL, PEM), valid for 30 days: for brokers."""
        now = self._now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATE)
            .next_update(now + timedelta(days=CRL_DAYS))
        )
        for serial in self._revoked():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATE)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode()

    def _revoked(self) -> list[int]:
        path = self._directory / "revoked.json"
        return (
            [int(n, 16) for n in msgspec.json.decode(path.read_bytes(), type=list[str])]
            if path.exists()
            else []
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_us() // 1_000_000, UTC)

    def _root(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Doorward utility CA")])
        builder = (
            self._draft(key.public_key(), name, name, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return builder.sign(key, SHA256())

    def _issue(
        self,
        key: CertificateIssuerPublicKeyTypes,
        common_name: str,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        days: float,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            self._draft(key, name, self._certificate.subject, days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
        )
        return builder.sign(self._key, SHA256())

    def _draft(
        self, key: CertificateIssuerPublicKeyTypes, subject: x509.Name, issuer: x509.Name, days: float
    ) -> x509.CertificateBuilder:
        now = self._now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + timedelta(days=days))
        )

    def _keep(self, name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier) -> Credentials:
        kept = Credentials(self._directory / f"{name}.pem", self._directory / f"{name}.key", self.pem)
        with one_at_a_time(self._directory):
            if not self._still_good(kept, names):
                key = ec.generate_private_key(ec.SECP256R1())
                certificate = self._issue(key.public_key(), name, names, usage, self._validity.server_days)
                write_atomically(kept.key, _key_pem(key))
                write_atomically(kept.certificate, certificate.public_bytes(Encoding.PEM), PUBLIC_FILE)
        return kept

    def _still_good(self, kept: Credentials, names: list[x509.GeneralName]) -> bool:
        if not (kept.certificate.exists() and kept.key.exists()):
            return False
        certificate = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        key = load_pem_private_key(kept.key.read_bytes(), None)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        left = certificate.not_valid_after_utc - self._now()
        return (
            certificate.issuer == self._certificate.subject
            and certificate.public_key() == key.public_key()
            and list(held) == names
            and left > timedelta(days=self._validity.server_days) / 3
        )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
