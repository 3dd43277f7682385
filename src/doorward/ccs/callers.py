"""Who calls and what they may have now, for steps that answer third parties."""

from collections.abc import Iterable, Sequence

from doorward.ccs.ports import Books, Pair
from doorward.ccs.rules import identity
from doorward.ccs.rules.facts import Grant, Place, Request
from doorward.ccs.rules.identity import Caller, Claims, TokenReader
from doorward.wire.reasons import Refused


async def authenticate_all(
    books: Books, tokens: TokenReader, presented: Sequence[str], now_us: int
) -> list[Caller | Refused]:
    """Authenticate the bearer of each token in this transaction; a refusal stands in its place."""
    claims: list[Claims | Refused] = []
    for token in presented:
        try:
            claims.append(tokens.read(token))
        except Refused as refusal:
            claims.append(refusal)
    good = [claim for claim in claims if not isinstance(claim, Refused)]
    parties = await books.parties({claim.sub for claim in good})
    revoked = await books.revoked_tokens({claim.jti for claim in good})
    callers: list[Caller | Refused] = []
    for claim in claims:
        if isinstance(claim, Refused):
            callers.append(claim)
            continue
        try:
            callers.append(identity.authenticate(claim, parties, revoked, now_us, tokens.kind))
        except Refused as refusal:
            callers.append(refusal)
    return callers


async def authenticate_one(books: Books, tokens: TokenReader, token: str, now_us: int) -> Caller:
    """Authenticate one bearer, or raise :class:`Refused`."""
    (caller,) = await authenticate_all(books, tokens, [token], now_us)
    if isinstance(caller, Refused):
        raise caller
    return caller


def pair_of(request: Request) -> Pair:
    """Return the (party, service point) whose grant covers a request."""
    return request.party, request.service_point


async def targets(
    books: Books, requests: Iterable[Request], now_us: int
) -> tuple[dict[str, Place], dict[Pair, Grant]]:
    """Return the facts for authorising answers now."""
    pairs = {pair_of(request) for request in requests}
    return await books.places({place for _, place in pairs}, now_us), await books.grants(pairs)
