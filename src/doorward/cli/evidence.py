"""An operator's evidence: what the consent authority, apart from the CCS, signs what was applied on."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from doorward.ccs.engines.consent_remote import RemoteAuthority, SignedAhead
from doorward.ccs.rules.facts import Party
from doorward.ccs.setup.plan import Change, Give, Put, Withdraw
from doorward.client.keys import SigningKey, signing_key
from doorward.consent.rules import EVIDENCE_TYP, Evidence, PartyRecord
from doorward.kit.clock import Clock
from doorward.wire.signatures import sign

T = TypeVar("T")


def operator_of(path: Path) -> SigningKey:
    """Return an operator's Ed25519 key out of a JWK file; raise ``ValueError`` (or ``OSError``)."""
    try:
        return signing_key(msgspec.json.decode(path.read_bytes(), type=dict[str, str]), "")
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def evidence(kind: str, document: bytes, key: SigningKey, now_us: int) -> str:
    """Return an operator's signature over one document of one kind (``grant``, ``party``, ``contact``)."""
    said = Evidence(kind=kind, sha256=sha256(document).hexdigest(), issued_us=now_us)
    return sign(msgspec.json.encode(said), key.key, key.kid, EVIDENCE_TYP)


class Apart:
    """The consent authority apart, asked on an operator's evidence; without one, only to narrow."""

    def __init__(self, authority: RemoteAuthority, operator: SigningKey | None, clock: Clock) -> None:
        self.authority = authority
        self._operator = operator
        self._clock = clock

    async def sign(self, changes: Sequence[Change]) -> SignedAhead:
        """Have everything signed that a plan gives; its companies' keys go into the authority's register first."""
        for put in _of(changes, Put):
            if isinstance(put.record, Party) and self._operator is not None:
                await self._register(put.record)
        given = []
        for give in _of(changes, Give):
            document = msgspec.json.encode(give.document)
            given.append(await self.authority.sign(give.document, self._evidence("grant", document)))
        return SignedAhead(await self.authority.keys(), given)

    async def tell(self, changes: Sequence[Change]) -> None:
        """Tell the authority of what was withdrawn."""
        gone = {each.grant.id: each.grant.version for each in _of(changes, Withdraw)}
        if gone:
            await self.authority.tell(gone, -1)

    async def _register(self, party: Party) -> None:
        record = PartyRecord(
            id=party.id,
            name=party.name,
            keys=party.keys,
            signature_required=party.signature_required,
        )
        document = msgspec.json.encode(record)
        await self.authority.put_party(document, self._evidence("party", document))

    def _evidence(self, kind: str, document: bytes) -> str:
        if self._operator is None:
            return ""
        return evidence(kind, document, self._operator, self._clock.now_us())


def _of(changes: Sequence[Change], kind: type[T]) -> list[T]:
    return [each for each in changes if isinstance(each, kind)]
