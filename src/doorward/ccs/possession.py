"""Proofs of possession are used once: many are used up in one transaction, before the calls that they go with."""

from doorward.ccs.ports import Store
from doorward.ccs.rules.identity import Claims
from doorward.ccs.rules.possession import Proof, Shown, read_proof, require_possession
from doorward.kit.clock import Clock
from doorward.kit.gather import Gatherer
from doorward.wire.reasons import Reason, Refused

WAITING_MAX = 2_000


class Possession:
    """Asks callers to prove that they hold the key of what they show. ``base`` is how they reach us."""

    def __init__(self, store: Store, clock: Clock, base: str) -> None:
        self._store = store
        self._clock = clock
        self._base = base
        self._proofs: Gatherer[Proof, None] = Gatherer(self._use, queue_max=WAITING_MAX)

    async def require(self, claims: Claims, shown: Shown) -> None:
        """Raise ``proof-invalid`` unless this call may show this token; a proof is used up by it."""
        read = require_possession(claims, shown, self._base, self._clock.now_us())
        if read is not None:
            await self._proofs.ask(read)

    async def key_of(self, proof: str, path: str) -> str:
        """Return the thumbprint of the key that a new token is to be bound to; its proof is used up."""
        read = read_proof(proof, "POST", self._base + path, self._clock.now_us())
        await self._proofs.ask(read)
        return read.thumbprint

    async def _use(self, proofs: list[Proof]) -> list[Exception | None]:
        """Of two that are the same the later one is refused, also within one batch."""
        first = {each.id: at for at, each in reversed(list(enumerate(proofs)))}
        wanted = {each.id: each.until_us for each in proofs}
        before = await self._store.write(lambda books: books.use_proofs(wanted))
        return [
            _used() if each.id in before or first[each.id] != at else None for at, each in enumerate(proofs)
        ]


def _used() -> Refused:
    return Refused(Reason.PROOF_INVALID, "proof of possession: it was used before")
