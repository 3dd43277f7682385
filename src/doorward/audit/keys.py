"""Whose signatures an audit believes: the CCS's record key, and the consent authority's keys."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from doorward.ccs.engines.consent_remote import KEYS_FILE, AuthorityKeys
from doorward.ccs.engines.keys import KID_DIGITS, RECORD_KEY
from doorward.consent.keys import KEY_FILE, TRUST_FILE
from doorward.wire.enrolment import PIN_DIGITS
from doorward.wire.grants import TrustDocument
from doorward.wire.signatures import payload_of, public_jwk

Jwks = dict[str, dict[str, str]]

_trust = msgspec.json.Decoder(TrustDocument)


def record_keys(directory: Path) -> Jwks:
    """Return the record key of the CCS whose keys lie in ``directory``, and those that it had before
    (``record*.key``)."""
    found: Jwks = {}
    for path in sorted(directory.glob(f"{RECORD_KEY.removesuffix('.key')}*.key")):
        found |= _public(path, KID_DIGITS)
    return found


def consent_keys(data_dir: Path, authority: Path) -> Jwks:
    """Return the consent authority's keys, those before it too: built in, or as the CCS last heard of them."""
    found: Jwks = {}
    built_in, steps, heard = authority / KEY_FILE, authority / TRUST_FILE, data_dir / KEYS_FILE
    if built_in.exists():
        found |= _public(built_in, PIN_DIGITS)
    if steps.exists():
        found |= _believed(steps.read_text(encoding="utf-8").split())
    if heard.exists():
        said = msgspec.json.decode(heard.read_bytes(), type=AuthorityKeys)
        found |= said.keys | _believed(said.trust)
    return found


def given(file: Path) -> Jwks:
    """Return the keys of a JSON file: kid → JWK. Raises ``ValueError``, ``OSError``."""
    return msgspec.json.decode(file.read_bytes(), type=Jwks)


def _believed(steps: Sequence[str]) -> Jwks:
    found: Jwks = {}
    for step in steps:
        found |= _trust.decode(payload_of(step)).authority
    return found


def _public(path: Path, digits: int) -> Jwks:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is not an Ed25519 key")
    public = key.public_key()
    return {sha256(public.public_bytes_raw()).hexdigest()[:digits]: public_jwk(public)}
