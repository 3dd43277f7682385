"""Who is calling: access tokens (RFC 9068) and what a party may do with them.

Only the signature's verification is cached (by the token's bytes); expiry, revocation and the party's
state are decided anew in every transaction, with the time of that transaction.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.ccs.rules.facts import ClientKind, Party
from doorward.wire import signatures
from doorward.wire.reasons import Reason, Refused

TOKEN_TYP = "at+jwt"
TOKENS_CACHED_MAX = 20_000
US = 1_000_000


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"x5t": "x5t#S256"}):
    """What a token is bound to: the thumbprint of a DPoP key (``jkt``), or of a TLS certificate (``x5t``)."""

    jkt: str = ""
    x5t: str = ""


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Claims of an access token. Times in seconds, as RFC 7519 has them."""

    iss: str
    sub: str
    aud: str
    exp: int
    iat: int
    jti: str
    client_id: str
    scope: str = ""
    cnf: Confirmation | None = None


class Caller(msgspec.Struct, frozen=True):
    """A third party that proved who it is, and the scopes of its token."""

    party: Party
    scopes: frozenset[str]


_claims = msgspec.json.Decoder(Claims)


class TokenReader:
    """Verifies the signature of access tokens, and remembers those that verified."""

    def __init__(
        self, keys: dict[str, dict[str, str]], issuer: str, audience: str, kind: ClientKind = "third_party"
    ) -> None:
        self.kind: ClientKind = kind
        """The kind of clients whose tokens these are; another's are good for nothing here."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._seen: dict[str, Claims] = {}

    def read(self, token: str) -> Claims:
        """Return the claims of a token that this CCS signed for this API.

        Raises ``not-authenticated`` for anything else. Does not look at the time.
        """
        claims = self._seen.get(token)
        if claims is None:
            claims = self._verified(token)
            if len(self._seen) >= TOKENS_CACHED_MAX:
                self._seen.clear()
            self._seen[token] = claims
        return claims

    def _verified(self, token: str) -> Claims:
        try:
            claims = _claims.decode(signatures.verify(token, self._keys, TOKEN_TYP))
        except (Refused, msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(Reason.NOT_AUTHENTICATED, "the access token is not one of ours") from None
        if claims.iss != self._issuer or claims.aud != self._audience:
            raise Refused(Reason.NOT_AUTHENTICATED, "the access token is for another audience")
        return claims


def write_token(claims: Claims, key: Ed25519PrivateKey, kid: str) -> str:
    """Return a signed access token."""
    return signatures.sign(msgspec.json.encode(claims), key, kid, TOKEN_TYP)


def authenticate(
    claims: Claims,
    parties: Mapping[str, Party],
    revoked: Collection[str],
    now_us: int,
    kind: ClientKind = "third_party",
) -> Caller:
    """Return the caller that live claims stand for (S1.02, S1.12).

    Raises ``token-expired``, ``token-revoked``, ``party-suspended``, ``proof-invalid`` or
    ``not-authenticated``.
    """
    if now_us >= claims.exp * US:
        raise Refused(Reason.TOKEN_EXPIRED)
    party = parties.get(claims.sub)
    if party is None or party.kind != kind:
        raise Refused(Reason.NOT_AUTHENTICATED, "there is no such third party")
    if claims.jti in revoked or claims.iat * US < party.tokens_not_before_us:
        raise Refused(Reason.TOKEN_REVOKED)
    if party.state != "active":
        raise Refused(Reason.PARTY_SUSPENDED)
    _require_bound(party, claims.cnf)
    return Caller(party, frozenset(claims.scope.split()) & frozenset(party.scopes))


def _require_bound(party: Party, bound: Confirmation | None) -> None:
    """Raise ``proof-invalid`` for a token that is not bound as its party's profile says."""
    held = bound or Confirmation()
    if party.token_binding == "dpop" and not held.jkt:
        raise Refused(Reason.PROOF_INVALID, "this third party's tokens must be bound to a DPoP key")
    if party.token_binding == "certificate" and not held.x5t:
        raise Refused(Reason.PROOF_INVALID, "this third party's tokens must be bound to a TLS certificate")


def require_scope(caller: Caller, scope: str) -> None:
    """Raise ``scope-missing`` unless the caller's token carries ``scope``."""
    if scope not in caller.scopes:
        raise scope_missing(scope)


def require_one_of(caller: Caller, scopes: Sequence[str]) -> None:
    """Raise ``scope-missing`` unless the caller's token carries one of ``scopes``."""
    if caller.scopes.isdisjoint(scopes):
        raise scope_missing(" or ".join(scopes))


def scope_missing(scope: str) -> Refused:
    """Return the refusal of a token without ``scope``."""
    return Refused(Reason.SCOPE_MISSING, f"this needs the scope {scope!r}")
