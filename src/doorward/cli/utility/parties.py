"""Third parties and what they prove themselves with."""

from typing import Any, Literal

import msgspec

from doorward.ccs.rules.facts import Credential, Party
from doorward.ccs.setup.plan import OWN_PREFIX
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.mistakes import Refs
from doorward.cli.utility.tables import PartyTable, SystemTable
from doorward.wire.signatures import key_from_jwk

_PROOFS = ("secret_env", "secret_file", "secret_hash", "jwks_file")


def credentials_of(refs: Refs) -> tuple[dict[str, str], list[Credential]]:
    """Return secrets in the clear by credential id, and the credentials (their ``value`` then empty)."""
    secrets: dict[str, str] = {}
    credentials = []
    for place, row in [*refs.rows["party"], *refs.rows["system"]]:
        given = [name for name in _PROOFS if getattr(row, name)]
        needed = (
            "jwks_file" if row.auth == "private_key_jwt" else "one of secret_env, secret_file, secret_hash"
        )
        right = len(given) == 1 and (given == ["jwks_file"]) == (row.auth == "private_key_jwt")
        if not right:
            refs.wrong((*place, given[-1] if given else "auth"), f"auth {row.auth!r} needs {needed}, alone")
            continue
        kind: Literal["secret", "jwks"] = "jwks" if row.jwks_file else "secret"
        id, value = f"{OWN_PREFIX}{row.id}.{kind}", ""
        if row.jwks_file:
            value = _jwks(refs, (*place, "jwks_file"), row.jwks_file)
        elif row.secret_hash:
            value = _hash(refs, (*place, "secret_hash"), row.secret_hash)
        else:
            secrets[id] = _secret(refs, place, row)
        credentials.append(Credential(id=id, party=row.id, kind=kind, value=value))
    return secrets, credentials


def _secret(refs: Refs, place: Place, row: PartyTable | SystemTable) -> str:
    if row.secret_env:
        secret = refs.environ.get(row.secret_env, "")
        if not secret:
            refs.wrong((*place, "secret_env"), f"the environment has no {row.secret_env}")
        return secret
    raw = refs.file((*place, "secret_file"), row.secret_file)
    secret = (raw or b"").decode(errors="replace").strip()
    if raw is not None and not secret:
        refs.wrong((*place, "secret_file"), f"{row.secret_file} is empty")
    return secret


def _hash(refs: Refs, place: Place, text: str) -> str:
    if not text.startswith("$argon2id$"):
        refs.wrong(place, "not an Argon2id hash; it begins with $argon2id$")
    return text


def _jwks(refs: Refs, place: Place, name: str) -> str:
    keys = _keys(refs, place, name)
    return msgspec.json.encode({"keys": keys}).decode()


def _keys(refs: Refs, place: Place, name: str) -> list[dict[str, Any]]:
    raw = refs.file(place, name)
    if raw is None:
        return []
    try:
        keys = msgspec.json.decode(raw, type=dict[str, list[dict[str, Any]]])["keys"]
    except (msgspec.DecodeError, KeyError):
        refs.wrong(place, f'{name} is not a JWK Set, {{"keys": [{{…}}]}}')
        return []
    if not keys or any("kid" not in key for key in keys):
        refs.wrong(place, f"{name}: every key needs its 'kid'")
    if any("d" in key for key in keys):
        refs.wrong(place, f"{name} has a private key ('d'); it must stay with the third party")
    return keys


def party_of(refs: Refs, place: Place, row: PartyTable) -> Party:
    """Return the third party of a table, with the keys that it signs commands with."""
    keys: dict[str, dict[str, str]] = {}
    if row.command_keys_file:
        where = (*place, "command_keys_file")
        for key in _keys(refs, where, row.command_keys_file):
            jwk: dict[str, str] = {name: str(key[name]) for name in ("kty", "crv", "x") if name in key}
            try:
                key_from_jwk(jwk)
            except (ValueError, KeyError):
                refs.wrong(where, f"{key.get('kid')!r} is not an Ed25519 key")
            keys[str(key.get("kid"))] = jwk
    return Party(
        id=row.id,
        name=row.name,
        state=row.state or "active",
        auth=row.auth,
        token_s=row.token_s,
        scopes=row.scopes,
        token_binding=row.token_binding,
        signature_required=_must_sign(refs, place, row, keys),
        keys=keys,
        calls_per_s=row.calls_per_s,
        contact=row.contact,
        utility=row.utility,
    )


def _must_sign(refs: Refs, place: Place, row: PartyTable, keys: dict[str, dict[str, str]]) -> bool:
    """Whether a third party must sign its controls: as it says, and where it says nothing as is usual here."""
    if row.signature_required is not None:
        return row.signature_required
    if not refs.must_sign or row.utility or "control" not in row.scopes:
        return False
    if not keys:
        refs.wrong(
            (*place, "command_keys_file"),
            "is missing: third parties sign their controls here; or say signature_required = false",
        )
    return True
