"""The CCS's own keys, in files that only their owner reads; made at first use."""

import random
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
from doorward.wire.signatures import public_jwk

LINK_KEY_BYTES = 32
KID_DIGITS = 16
RECORD_KEY = "record.key"


class SigningKey(msgspec.Struct, frozen=True):
    """An Ed25519 key and its name."""

    key: Ed25519PrivateKey
    kid: str

    @property
    def public(self) -> dict[str, dict[str, str]]:
        """``kid`` → public JWK."""
        return {self.kid: public_jwk(self.key.public_key())}


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """``link`` is the secret behind the gateways' MAC keys; ``token`` signs access tokens,
    ``webhook`` webhooks, ``record`` checkpoints of the journal."""

    link: bytes
    token: SigningKey
    webhook: SigningKey
    record: SigningKey


def load_keys(directory: Path, rng: random.Random) -> Keys:
    """Return the keys of ``directory``; what is missing is made.

    Raises ``ValueError`` for a file that is no such key.
    """
    with one_at_a_time(directory):
        return Keys(
            link=_link_key(directory / "link.key", rng),
            token=_signing_key(directory / "token.key"),
            webhook=_signing_key(directory / "webhook.key"),
            record=_signing_key(directory / RECORD_KEY),
        )


def _link_key(path: Path, rng: random.Random) -> bytes:
    if not path.exists():
        write_atomically(path, rng.randbytes(LINK_KEY_BYTES).hex().encode() + b"\n")
    key = bytes.fromhex(path.read_text("ascii").strip())
    if len(key) != LINK_KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes, not {LINK_KEY_BYTES}")
    return key


def _signing_key(path: Path) -> SigningKey:
    if not path.exists():
        fresh = Ed25519PrivateKey.generate()
        write_atomically(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")
    return SigningKey(key, sha256(key.public_key().public_bytes_raw()).hexdigest()[:KID_DIGITS])
