"""The token desk: which third party proves itself by what, and the access tokens that it is given for it.

Client credentials only (RFC 6749 §4.4). A party proves itself by its own profile: ``secret`` (sandbox) by
basic or in the body, ``private_key_jwt`` (RFC 7523) otherwise; never by the other party's way. A token is
bound to the key of a DPoP proof that comes with the ask (RFC 9449), or to the certificate of the connection
(RFC 8705), where the party's profile says so.
"""

import random
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet

from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.possession import Possession
from doorward.ccs.rules.facts import Credential, Party
from doorward.ccs.rules.identity import Claims, Confirmation, TokenReader, write_token
from doorward.ccs.rules.possession import certificate_thumbprint
from doorward.kit.clock import Clock
from doorward.kit.ids import uuid7
from doorward.wire.codec import NOT_JSON
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import unb64url

US = 1_000_000
ALGORITHMS = ("Ed25519", "EdDSA", "ES256", "RS256")
ASSERTION_S_MAX = 300
"""How far ahead an assertion may end: as long as its id is remembered."""
SKEW_S = 30
JTI_CHARS_MAX = 200
CREDENTIALS_MAX = 3
"""Credentials of one party that are tried; more is no rotation any more."""
FAILURES_PER_MINUTE_MAX = 20
SOURCES_MAX = 20_000
MINUTE_US = 60 * US

Matches = Callable[[str, str], Awaitable[bool]]
"""(hash, secret) → whether they belong together. ``""`` as hash costs the same and never matches."""

OAuthError = Literal[
    "invalid_request",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_dpop_proof",
    "temporarily_unavailable",
]


class OAuthRefused(Exception):
    """A refusal in the words of RFC 6749 §5.2. ``told`` is for the client, ``why`` for the journal only."""

    def __init__(
        self, error: OAuthError, told: str, *, why: str = "", party: str = "", retry_after_s: int = 0
    ) -> None:
        super().__init__(f"{error}: {why or told}")
        self.error = error
        self.told = told
        self.why = why or told
        self.party = party
        self.retry_after_s = retry_after_s


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What a client presents: its id, and one of a secret and an assertion; ``source`` is its address.

    ``proof`` is of the DPoP key, ``certificate`` of the TLS connection (DER), that its token is to be bound to.
    """

    client: str
    secret: str = ""
    assertion: str = ""
    source: str = ""
    proof: str = ""
    certificate: bytes = b""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """An access token and how long it holds."""

    token: str
    expires_in_s: int
    scope: str
    kind: Literal["Bearer", "DPoP"] = "Bearer"


class Failures:
    """Failed attempts per (client, source) and minute, for a bounded number of them."""

    def __init__(self, per_minute_max: int = FAILURES_PER_MINUTE_MAX) -> None:
        self._max = per_minute_max
        self._minute = 0
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    def require(self, client: str, source: str, now_us: int) -> None:
        """Raise when this client has failed too often from there in this minute."""
        self._turn(now_us)
        if self._counts.get((client, source), 0) >= self._max:
            wait_s = max(1, (MINUTE_US - now_us % MINUTE_US) // US)
            raise OAuthRefused(
                "temporarily_unavailable", "too many failed attempts; try later", retry_after_s=wait_s
            )

    def count(self, client: str, source: str, now_us: int) -> None:
        """One more failed."""
        self._turn(now_us)
        self._counts[client, source] = self._counts.pop((client, source), 0) + 1
        if len(self._counts) > SOURCES_MAX:
            self._counts.popitem(last=False)

    def _turn(self, now_us: int) -> None:
        if now_us // MINUTE_US != self._minute:
            self._minute = now_us // MINUTE_US
            self._counts.clear()


class TokenDesk:
    """Authenticates clients and gives them tokens; those of the utility's systems are for their own door."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        rng: random.Random,
        key: Ed25519PrivateKey,
        kid: str,
        issuer: str,
        audience: str,
        endpoint: str,
        reader: TokenReader,
        system_audience: str,
        system_reader: TokenReader,
        matches: Matches,
        possession: Possession,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._key = key
        self._kid = kid
        self._issuer = issuer
        self._audiences = {"third_party": audience, "system": system_audience}
        self._aimed_at = {endpoint, issuer}
        self._possession = possession
        self._path = urlsplit(endpoint).path.removeprefix(urlsplit(issuer).path)
        self._readers = {"third_party": reader, "system": system_reader}
        self._matches = matches
        self._failures = Failures()

    async def issue(self, attempt: Attempt, scope: str) -> Issued:
        """Return a token for a client; raise :class:`OAuthRefused`."""
        party = await self.authenticate(attempt)
        wanted = scope.split() or party.scopes
        if not set(wanted) <= set(party.scopes):
            raise OAuthRefused("invalid_scope", f"you may have: {' '.join(party.scopes)}", party=party.id)
        bound = await self._bound(party, attempt)
        now_us = self._clock.now_us()
        claims = Claims(
            iss=self._issuer,
            sub=party.id,
            aud=self._audiences[party.kind],
            # Whole seconds only: rounded up within the second in which older tokens were thrown out.
            iat=-(-now_us // US) if party.tokens_not_before_us > now_us // US * US else now_us // US,
            exp=now_us // US + party.token_s,
            jti=uuid7(now_us, self._rng),
            client_id=party.id,
            scope=" ".join(wanted),
            cnf=bound,
        )
        return Issued(
            token=write_token(claims, self._key, self._kid),
            expires_in_s=party.token_s,
            scope=claims.scope,
            kind="DPoP" if bound is not None and bound.jkt else "Bearer",
        )

    async def _bound(self, party: Party, attempt: Attempt) -> Confirmation | None:
        """Return what the token will be bound to: what the profile asks for, or the key that is offered."""
        if party.token_binding == "certificate":
            if not attempt.certificate:
                raise OAuthRefused(
                    "invalid_request", "your tokens are bound to a TLS certificate; show it", party=party.id
                )
            return Confirmation(x5t=certificate_thumbprint(attempt.certificate))
        if not attempt.proof and party.token_binding != "dpop":
            return None
        try:
            return Confirmation(jkt=await self._possession.key_of(attempt.proof, self._path))
        except Refused as refusal:
            raise OAuthRefused("invalid_dpop_proof", refusal.detail, party=party.id) from None

    async def revoke(self, attempt: Attempt, token: str) -> None:
        """Revoke a token of the client's own; any other text is ignored (RFC 7009 §2.2)."""
        party = await self.authenticate(attempt)
        try:
            claims = self._readers[party.kind].read(token)
        except Refused:
            return
        if claims.client_id == party.id:
            until_us = (claims.exp + 1) * US
            await self._store.write(lambda books: books.revoke_tokens({claims.jti: until_us}))

    async def authenticate(self, attempt: Attempt) -> Party:
        """Return the active party that the attempt proves; raise :class:`OAuthRefused`."""
        now_us = self._clock.now_us()
        self._failures.require(attempt.client, attempt.source, now_us)
        try:
            party = await self._proved(attempt)
        except OAuthRefused:
            self._failures.count(attempt.client, attempt.source, now_us)
            raise
        if party.state != "active":
            raise OAuthRefused("unauthorized_client", "the utility has suspended this client", party=party.id)
        return party

    async def _proved(self, attempt: Attempt) -> Party:
        if attempt.assertion:
            return await self._by_assertion(attempt)
        party, credentials = await self._store.read(lambda books: _client(books, attempt.client))
        hashes = [each.value for each in credentials if each.kind == "secret"][:CREDENTIALS_MAX]
        if party is None or party.auth != "secret":
            hashes = []
        right = False
        for hashed in hashes or [""]:
            right |= await self._matches(hashed, attempt.secret)
        if party is None or not right:
            raise _wrong(attempt, party, "wrong secret, or not this client's way to prove itself")
        return party

    # private_key_jwt

    async def _by_assertion(self, attempt: Attempt) -> Party:
        claims = _unverified(attempt)
        client = claims.sub
        if attempt.client and attempt.client != client:
            raise _wrong(attempt, None, "the assertion names another client")

        async def step(books: AllBooks) -> tuple[Party | None, str]:
            party, credentials = await _client(books, client)
            if party is None or party.auth != "private_key_jwt":
                return party, "not this client's way to prove itself"
            sets = [each.value for each in credentials if each.kind == "jwks"][:CREDENTIALS_MAX]
            if not _verifies(attempt.assertion, sets):
                return party, "the assertion's signature does not verify"
            why = self._wrong_claims(claims)
            if why:
                return party, why
            proof = f"{client}|{claims.jti}"
            if await books.use_proofs({proof: (int(claims.exp) + SKEW_S + 1) * US}):
                return party, "the assertion was used before"
            return party, ""

        party, why = await self._store.write(step)
        if party is None or why:
            raise _wrong(attempt, party, why)
        return party

    def _wrong_claims(self, claims: "AssertionClaims") -> str:
        now_s = self._clock.now_us() / US
        aimed = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
        if claims.iss != claims.sub:
            return "iss and sub differ"
        if not aimed & self._aimed_at:
            return "it is for another audience"
        if claims.exp <= now_s - SKEW_S:
            return "it has expired"
        if claims.exp > now_s + ASSERTION_S_MAX + SKEW_S:
            return f"it ends more than {ASSERTION_S_MAX} s ahead"
        if max(claims.nbf, claims.iat) > now_s + SKEW_S:
            return "it is from the future"
        if not 0 < len(claims.jti) <= JTI_CHARS_MAX or not claims.jti.isprintable():
            return f"it needs a jti of 1 to {JTI_CHARS_MAX} characters"
        return ""


class AssertionClaims(msgspec.Struct, frozen=True, kw_only=True):
    """Claims of a client assertion (RFC 7523 §3)."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    jti: str = ""
    iat: float = 0
    nbf: float = 0


_header = msgspec.json.Decoder(dict[str, Any])
_claims = msgspec.json.Decoder(AssertionClaims)


async def _client(books: AllBooks, client: str) -> tuple[Party | None, Sequence[Credential]]:
    party = (await books.parties([client])).get(client)
    return party, await books.credentials(client)


def _unverified(attempt: Attempt) -> AssertionClaims:
    try:
        head, payload, _ = attempt.assertion.split(".")
        if "crit" in _header.decode(unb64url(head)):
            raise ValueError("a critical header that is not known here")
        claims = _claims.decode(unb64url(payload))
    except (ValueError, *NOT_JSON) as error:
        raise OAuthRefused(
            "invalid_client", "client authentication failed", why=f"no assertion: {error}"
        ) from None
    if not claims.sub.isprintable():
        raise OAuthRefused("invalid_client", "client authentication failed", why="no client can be named so")
    return claims


def _verifies(assertion: str, sets: Sequence[str]) -> bool:
    """Whether a key of one of the JWK Sets signed it, by an algorithm that belongs to that key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # "EdDSA" is the old name of what is meant
        for text in sets:
            try:
                jws.deserialize_compact(assertion, _keys(text), algorithms=list(ALGORITHMS))
            except (JoseError, ValueError, KeyError, TypeError):
                continue
            return True
    return False


def _keys(text: str) -> KeySet:
    document: dict[str, Any] = msgspec.json.decode(text)
    keys = [key for key in document["keys"] if key.get("kty") in ("OKP", "EC", "RSA")]
    return KeySet.import_key_set({"keys": keys})


def _wrong(attempt: Attempt, party: Party | None, why: str) -> OAuthRefused:
    return OAuthRefused(
        "invalid_client", "client authentication failed", why=why, party=party.id if party else ""
    )


def as_refusal(refused: OAuthRefused) -> Refused:
    """Return what a failed attempt is in the journal."""
    return Refused(Reason.NOT_AUTHENTICATED, f"token endpoint: {refused.error}: {refused.why}")
