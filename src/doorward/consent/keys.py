"""The consent authority's key, and whom gateways are to believe: files in one directory of its own."""

from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from doorward.kit.files import one_at_a_time, write_atomically
from doorward.wire.enrolment import PIN_DIGITS
from doorward.wire.grants import TrustDocument
from doorward.wire.signatures import key_from_jwk, payload_of, public_jwk, sign

KEY_FILE = "consent.key"
NEXT_FILE = "consent.next.key"
TRUST_FILE = "trust.jws"
STEPS_MAX = 16
"""How many changes of keys a gateway may miss; after more it has to be enrolled anew."""


class AuthorityKey:
    """Signs grants, leases and whom to trust with ``consent.key`` in ``directory``, made at first use.

    Its ``kid`` is the beginning of the key's SHA-256, as enrolment codes carry it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with one_at_a_time(directory):
            self._key = _load(directory / KEY_FILE)

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

    # --- whom gateways are to believe ----------------------------------------------------------------

    @property
    def trust(self) -> list[str]:
        """The signed :class:`~doorward.wire.grants.TrustDocument` of every step, oldest first.

        None: gateways believe what their enrolment code named. Each step is signed by a key of the one before,
        so that a gateway which was away for several takes them one by one.
        """
        path = self._directory / TRUST_FILE
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def trusted(self) -> TrustDocument:
        """Return what :attr:`trust` says last; version 0 where there is none."""
        steps = self.trust
        if not steps:
            return TrustDocument(version=0, issued_us=0, authority=self.public_keys())
        return msgspec.json.decode(payload_of(steps[-1]), type=TrustDocument)

    def put_operations(self, keys: dict[str, dict[str, str]], now_us: int) -> TrustDocument:
        """Replace the utility-operations keys (``kid`` → JWK); raise ``ValueError`` for what is no Ed25519 key."""
        for jwk in keys.values():
            key_from_jwk(jwk)
        return self._say(self.trusted().authority, keys, now_us)

    def begin_handing_over(self, now_us: int) -> TrustDocument:
        """Make the next key, and let this one say that both are to be believed from now on."""
        with one_at_a_time(self._directory):
            after = _load(self._directory / NEXT_FILE)
        public = after.public_key()
        kid = sha256(public.public_bytes_raw()).hexdigest()[:PIN_DIGITS]
        both = self.public_keys() | {kid: public_jwk(public)}
        return self._say(both, self.trusted().operations, now_us)

    def finish_handing_over(self, now_us: int) -> TrustDocument:
        """Sign with the next key from now on; the one before is believed no more. Raises ``ValueError``."""
        path = self._directory / NEXT_FILE
        if not path.exists():
            raise ValueError(
                "there is no next key; begin first, and wait until all gateways have heard of it"
            )
        write_atomically(self._directory / KEY_FILE, path.read_bytes())
        path.unlink()
        self._key = _load(self._directory / KEY_FILE)
        return self._say(self.public_keys(), self.trusted().operations, now_us)

    def _say(
        self, authority: dict[str, dict[str, str]], operations: dict[str, dict[str, str]], now_us: int
    ) -> TrustDocument:
        version = self.trusted().version + 1
        document = TrustDocument(
            version=version, issued_us=now_us, authority=authority, operations=operations
        )
        signed = sign(msgspec.json.encode(document), self._key, self.kid, "trust")
        steps = [*self.trust, signed][-STEPS_MAX:]
        write_atomically(self._directory / TRUST_FILE, "".join(f"{step}\n" for step in steps).encode())
        return document


def _load(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        fresh = Ed25519PrivateKey.generate()
        write_atomically(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")
    return key
