"""The consent authority, in-process for the demo: an Ed25519 key in a file that only its owner reads."""

from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from doorward.kit.files import one_at_a_time, write_atomically
from doorward.wire.enrolment import PIN_DIGITS
from doorward.wire.signatures import public_jwk, sign


class LocalConsentAuthority:
    """Signs grants and leases with ``consent.key`` in ``directory``, which it makes at first use.

    Its ``kid`` is the beginning of the key's SHA-256, as enrolment codes carry it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "consent.key"
        with one_at_a_time(directory):
            if not path.exists():
                fresh = Ed25519PrivateKey.generate()
                write_atomically(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} is not an Ed25519 key")
        self._key = key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw public key, in hex."""
        return sha256(self._key.public_key().public_bytes_raw()).hexdigest()

    @property
    def kid(self) -> str:
        """The key's name in signatures."""
        return self.fingerprint[:PIN_DIGITS]

    def sign_grant(self, document: bytes) -> str:
        """Return the compact JWS (``typ`` ``grant``) over a grant document."""
        return sign(document, self._key, self.kid, "grant")

    def sign_lease(self, document: bytes) -> str:
        """Return the compact JWS (``typ`` ``lease``) over a lease document."""
        return sign(document, self._key, self.kid, "lease")

    def public_keys(self) -> dict[str, dict[str, str]]:
        """``kid`` → JWK of the keys that gateways trust."""
        return {self.kid: public_jwk(self._key.public_key())}
