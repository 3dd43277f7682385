"""An audit from beginning to end: both records by themselves, then against each other, then permission."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from doorward.audit.agreement import Agreement
from doorward.audit.chains import Source, Walk, first_since, rows_beyond, verify_heads
from doorward.audit.findings import CCS, Finding, Kind, Report
from doorward.audit.proof import Proof
from doorward.audit.records import CcsRecord, Gateway, GatewayRecord, open_ccs, open_gateway
from doorward.spg.engines.record import CCS as SAID_BY_CCS
from doorward.spg.engines.record import NOTED
from doorward.wire.chain import (
    CHECKPOINT,
    NOTHING,
    TOMBSTONE,
    Checkpoint,
    Head,
    Link,
    PeerHead,
    Row,
    Tombstone,
    beginning,
    digest_of,
)
from doorward.wire.reasons import Refused
from doorward.wire.signatures import verify

PAGE = 500
HEADS_TOGETHER = 500
KEPT_US_MIN = 31 * 86_400_000_000
"""No part of a gateway's record may go before it is so old."""

Jwks = Mapping[str, Mapping[str, str]]

_checkpoint = msgspec.json.Decoder(Checkpoint)
_tombstone = msgspec.json.Decoder(Tombstone)


class Peers:
    """Follows a chain, and checks what it holds of other records against those."""

    def __init__(
        self, by: str, others: Mapping[str, Source], report: Report, *, kept_since_us: int = 0
    ) -> None:
        self._by = by
        self._others = others
        self._report = report
        self._kept_since_us = kept_since_us
        self._gone = {name: other.gone() for name, other in others.items()}
        self._waiting: dict[str, list[Head]] = {}
        self._count = 0

    async def follow(self, link: Link, rows: Sequence[Row]) -> None:
        """Gather heads; check them together. Link 0 stands for a record in which nothing stood yet."""
        for peer in link.peers:
            if peer.name in self._others:
                if 0 < peer.seq <= self._gone[peer.name] and link.at_us >= self._kept_since_us:
                    self._too_soon(peer)
                self._waiting.setdefault(peer.name, []).append(peer.head)
                self._count += 1
        if self._count >= HEADS_TOGETHER:
            await self.flush()

    def _too_soon(self, peer: PeerHead) -> None:
        """A record may say of itself that its oldest part is no longer kept, but not of what is young."""
        self._report.add(
            Finding(
                kind=Kind.TRUNCATED,
                record=self._others[peer.name].name,
                says=f"a link that {self._by} heard of lately is said to be no longer kept",
                writer=peer.writer,
                link=peer.seq,
            )
        )

    async def flush(self) -> None:
        """Check what was gathered."""
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for name, heads in waiting.items():
            await verify_heads(self._others[name], heads, self._by, self._report)


async def audit(
    url: str,
    gateways: Sequence[Path],
    *,
    record_keys: Jwks,
    consent_keys: Jwks,
    now_us: int,
    since_us: int = 0,
) -> Report:
    """Audit the CCS's database and gateways' directories. Raises
    :class:`~doorward.audit.records.NotAuditable` when one of them cannot be read."""
    report = Report()
    with ExitStack() as open_files:
        opened = [open_files.enter_context(open_gateway(place)) for place in gateways]
        async with open_ccs(url) as record:
            look = Audit(record, opened, record_keys, consent_keys, since_us, report, now_us=now_us)
            await look.run()
    return report


class Audit:
    """One audit, over records that are open."""

    def __init__(
        self,
        ccs: CcsRecord,
        gateways: Sequence[Gateway],
        record_keys: Jwks,
        consent_keys: Jwks,
        since_us: int,
        report: Report,
        *,
        now_us: int,
    ) -> None:
        self._kept_since_us = now_us - KEPT_US_MIN
        self._ccs = ccs
        self._gateways = {each.record.name: each.record for each in gateways}
        self._record_keys = {kid: dict(jwk) for kid, jwk in record_keys.items()}
        pinned = {kid: jwk for each in gateways for kid, jwk in each.keys.items()}
        self._consent_keys = {**pinned, **consent_keys}
        self._since_us = since_us
        self._report = report
        self._heads: list[Head] = []

    async def run(self) -> None:
        """Look at everything."""
        erased = await self._tombstones()
        await self._checkpoints()
        # Gateways first: what the CCS knows of them can only be older than what is read of them now.
        ends = {name: await each.last(1) for name, each in self._gateways.items()}
        await self._ccs_chains(erased)
        for name, gateway in self._gateways.items():
            await self._gateway(gateway, ends[name])
        agreement = Agreement(self._ccs, self._gateways, self._report)
        for gateway in self._gateways.values():
            await agreement.known_here(gateway, frozenset(erased))

    # ---- the CCS -------------------------------------------------------------------------------------

    async def _ccs_chains(self, erased: Collection[int]) -> None:
        proof = Proof(self._ccs, self._consent_keys, self._report)
        agreement = Agreement(self._ccs, self._gateways, self._report)
        peers = Peers(CCS, self._gateways, self._report, kept_since_us=self._kept_since_us)
        for writer in await self._ccs.writers():
            end = await self._ccs.last(writer)
            begin = beginning(writer)
            if self._since_us:
                begin = await first_since(self._ccs, writer, self._since_us)
            walk = Walk(self._ccs, writer, self._report, erased)
            await walk.run(begin, end.seq, (proof, agreement, peers))
            await rows_beyond(self._ccs, writer, self._report)
        for each in (proof, agreement, peers):
            await each.flush()

    async def _checkpoints(self) -> None:
        """Every checkpoint is signed, follows the one before it, and names links that stand."""
        after, prev = 0, NOTHING
        while page := await self._ccs.books.checkpoints(after, PAGE):
            for number, document in page:
                self._report.saw("checkpoints")
                if number != after + 1:
                    self._fault(Kind.REMOVED, f"checkpoints {after + 1} … {number - 1} are missing")
                    prev = b""
                after = number
                made = self._signed(document, CHECKPOINT, f"checkpoint {number}")
                if made is None:
                    prev = b""
                    continue
                if made.number != number or (prev and made.prev != prev):
                    self._fault(Kind.REWRITTEN, f"checkpoint {number} does not follow the one before it")
                prev = digest_of(document)
                await verify_heads(self._ccs, made.heads, f"checkpoint {number}", self._report)

    def _signed(self, document: str, typ: str, what: str) -> Checkpoint | None:
        try:
            return _checkpoint.decode(verify(document, self._record_keys, typ))
        except (Refused, msgspec.DecodeError):
            self._fault(Kind.FORGED, f"{what} is not signed by the CCS's record key")
            return None

    async def _tombstones(self) -> set[int]:
        """Days whose rows may be missing: those that a tombstone of ours names."""
        erased: set[int] = set()
        after = -(2**31)
        while page := await self._ccs.books.tombstones(after, PAGE):
            for day, document in page:
                after = day
                self._report.saw("tombstones")
                try:
                    made = _tombstone.decode(verify(document, self._record_keys, TOMBSTONE))
                except (Refused, msgspec.DecodeError):
                    self._fault(
                        Kind.FORGED, f"the tombstone of day {day} is not signed by the CCS's record key"
                    )
                    continue
                if made.day == day:
                    erased.add(day)
                else:
                    self._fault(Kind.FORGED, f"the tombstone of day {day} was signed for day {made.day}")
        return erased

    # ---- a gateway -----------------------------------------------------------------------------------

    async def _gateway(self, gateway: GatewayRecord, end: Head) -> None:
        peers = Peers(gateway.name, {SAID_BY_CCS: self._ccs}, self._report)
        noted = Noted(gateway, self._report)
        begin, _ = gateway.behind()
        if self._since_us:
            begin = await first_since(gateway, begin.writer, self._since_us)
            begin = begin if begin.seq else gateway.behind()[0]
        await Walk(gateway, begin.writer, self._report, ()).run(begin, end.seq, (peers, noted))
        await rows_beyond(gateway, begin.writer, self._report)
        await peers.flush()
        await self._held_checkpoints(gateway)

    async def _held_checkpoints(self, gateway: GatewayRecord) -> None:
        """The checkpoints that a gateway holds are signed, and the links that they name stand."""
        after = 0
        while page := gateway.checkpoints(after, PAGE):
            for number, document in page:
                after = number
                made = self._signed(document, CHECKPOINT, f"a checkpoint that {gateway.name} holds")
                if made is None:
                    continue
                self._report.saw("checkpoints at gateways")
                by = f"checkpoint {made.number}, which {gateway.name} holds,"
                await verify_heads(self._ccs, made.heads, by, self._report)
                kept = await self._ccs.books.checkpoints(made.number - 1, 1)
                if not kept or kept[0] != (made.number, document):
                    says = f"{by} is not among the CCS's checkpoints (any more)"
                    self._fault(Kind.TRUNCATED, says)

    def _fault(self, kind: Kind, says: str) -> None:
        self._report.add(Finding(kind=kind, record=CCS, says=says))


class Noted:
    """Follows a gateway's chain: the checkpoints that its links name are those that it keeps."""

    def __init__(self, gateway: GatewayRecord, report: Report) -> None:
        self._gateway = gateway
        self._report = report

    async def follow(self, link: Link, rows: Sequence[Row]) -> None:
        """Look at the checkpoints of a link."""
        for peer in link.peers:
            if peer.name != NOTED:
                continue
            kept = self._gateway.checkpoints(peer.seq - 1, 1)
            if kept and kept[0][0] == peer.seq and digest_of(kept[0][1]) != peer.hash:
                self._report.add(
                    Finding(
                        kind=Kind.CHANGED,
                        record=self._gateway.name,
                        says=f"checkpoint {peer.seq} is not the one that came",
                        writer=link.writer,
                        link=link.seq,
                        field="document",
                    )
                )
