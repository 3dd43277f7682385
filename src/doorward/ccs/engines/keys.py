"""The CCS's own keys, in files that only their owner reads; made at first use.

Keys that sign are changed without an outage, in three steps with a restart of the workers after each
(:func:`rotate`): the next key is published, then it signs, then the old one is no longer believed. So every
worker believes a key before any signs with it, and as long as something that it signed may still be about.
"""

import random
from enum import StrEnum
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


class Rotated(StrEnum):
    """The keys that :func:`rotate` changes."""

    TOKEN = "token"
    WEBHOOK = "webhook"


class Rotation(StrEnum):
    """What :func:`rotate` did."""

    PUBLISHED = "published"
    SIGNS = "signs"
    RETIRED = "retired"


class SigningKey(msgspec.Struct, frozen=True):
    """An Ed25519 key and its name; ``others`` are believed beside it: the next one, or the one before."""

    key: Ed25519PrivateKey
    kid: str
    others: tuple[Ed25519PrivateKey, ...] = ()

    @property
    def public(self) -> dict[str, dict[str, str]]:
        """``kid`` → public JWK of all that are believed."""
        return {_kid(key): public_jwk(key.public_key()) for key in (self.key, *self.others)}


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


def rotate(directory: Path, name: Rotated) -> Rotation:
    """Do the next of the three steps that change a key; restart the workers before the one after it.

    Before the last, wait as long as a token lives, or a webhook may be repeated.
    """
    current, coming, old = (directory / f"{name}{kind}.key" for kind in ("", ".next", ".old"))
    with one_at_a_time(directory):
        if old.exists():
            old.unlink()
            return Rotation.RETIRED
        if not coming.exists():
            _make(coming)
            return Rotation.PUBLISHED
        write_atomically(old, current.read_bytes())
        coming.replace(current)
        return Rotation.SIGNS


def _link_key(path: Path, rng: random.Random) -> bytes:
    if not path.exists():
        write_atomically(path, rng.randbytes(LINK_KEY_BYTES).hex().encode() + b"\n")
    key = bytes.fromhex(path.read_text("ascii").strip())
    if len(key) != LINK_KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes, not {LINK_KEY_BYTES}")
    return key


def _signing_key(path: Path) -> SigningKey:
    if not path.exists():
        _make(path)
    beside = [path.with_suffix(f".{kind}.key") for kind in ("next", "old")]
    key = _read(path)
    return SigningKey(key, _kid(key), tuple(_read(each) for each in beside if each.exists()))


def _make(path: Path) -> None:
    fresh = Ed25519PrivateKey.generate()
    write_atomically(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _read(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")
    return key


def _kid(key: Ed25519PrivateKey) -> str:
    return sha256(key.public_key().public_bytes_raw()).hexdigest()[:KID_DIGITS]
