"""The gateway's certificate gets old: a request for a new one in time, and what is done with the answer.

The key stays the same, so that one file, written whole, changes from one certificate to the next.
"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from doorward.kit.files import write_atomically
from doorward.spg.engines.identity import Identity, certificate_request, credentials

RENEW_AT = 2 / 3
"""A new certificate is asked for when so much of the time of the old one is over."""


class Papers:
    """What an enrolled gateway shows of itself, in ``directory``."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._directory = directory
        self._identity = identity
        self._held = x509.load_pem_x509_certificate(identity.certificate.encode())

    def request(self, now_us: int) -> str:
        """Return a certificate request (PEM) when it is time for a new certificate, or ``""``."""
        began, ends = self._held.not_valid_before_utc, self._held.not_valid_after_utc
        if datetime.fromtimestamp(now_us // 1_000_000, UTC) < began + (ends - began) * RENEW_AT:
            return ""
        return certificate_request(self._directory, self._identity.gateway)

    def take(self, pem: str) -> None:
        """Keep a new certificate: from the next connection on it is what we show.

        Raises ``ValueError`` for one that is not of our authority, key and name, or that ends no later.
        """
        fresh = x509.load_pem_x509_certificate(pem.encode())
        authority = x509.load_pem_x509_certificate(self._identity.ca.encode())
        try:
            fresh.verify_directly_issued_by(authority)
        except (InvalidSignature, TypeError) as error:
            raise ValueError(f"the certificate is not of our authority: {error!r}") from None
        names = fresh.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        held = self._held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if fresh.public_key() != self._held.public_key() or list(names) != list(held):
            raise ValueError("the certificate is for another key or another gateway")
        if fresh.not_valid_after_utc <= self._held.not_valid_after_utc:
            raise ValueError("the certificate ends no later than the one that we have")
        identity = msgspec.structs.replace(self._identity, certificate=pem)
        write_atomically(self._directory / "identity.json", msgspec.json.encode(identity))
        credentials(self._directory, identity)
        self._identity, self._held = identity, fresh
