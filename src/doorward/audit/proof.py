"""That permission stood: for every answer that was handed over and every act that a gateway was told of.

Permission is what the consent authority signed, as it stood at that moment in the journal's own record of its
changes. A row of the journal that delivers something is never its own proof.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from doorward.audit.findings import CCS, Finding, Kind, Report
from doorward.audit.records import CcsRecord
from doorward.ccs.engines.store.auditing import GrantOnce
from doorward.ccs.rules.facts import StepRecord
from doorward.wire.chain import Link, Row, payload_digest
from doorward.wire.grants import GrantDocument
from doorward.wire.permission import permits_of
from doorward.wire.reasons import Refused
from doorward.wire.signatures import verify
from doorward.wire.steps import Outcome, Step
from doorward.wire.vocabulary import Operation, Scope

US = 1_000_000
RACE_US = 2 * US
"""How long before a change of permission a transaction may have begun that still saw what was before it."""
SKEW_US = 30 * US
"""How far a gateway's clock may be from the CCS's."""
LEASE_US = 24 * 3600 * US
"""How long a gateway that is out of reach may go on by a permission that has ended."""
ROWS_TOGETHER = 200
DOCUMENTS_MAX = 20_000

_OPERATIONS = {operation.value: operation for operation in Operation}
_steps = msgspec.json.Decoder(list[StepRecord])
_grant = msgspec.json.Decoder(GrantDocument)


class Entry(NamedTuple):
    """A row of the CCS's journal, read."""

    seq: int
    message: str
    at_us: int
    party: str
    service_point: str
    gateway: str
    device: str
    steps: list[StepRecord]
    payload: str

    def step(self, step: Step) -> StepRecord | None:
        """The first of its steps of this kind."""
        return next((each for each in self.steps if each.step is step), None)


_PLACES = {name: at for at, name in enumerate(CcsRecord.columns)}
_TAKEN = tuple(_PLACES[name] for name in Entry._fields)


def read(row: Row) -> Entry | None:
    """Return a row, read; ``None`` where its steps are no steps (its link says that it was changed)."""
    values = [row[at] for at in _TAKEN]
    try:
        values[7] = _steps.decode(values[7])
    except (msgspec.DecodeError, TypeError):
        return None
    return Entry(*values)


class Delivery(NamedTuple):
    """Something reached somebody: a third party (an answer, a notice) or a device (an act)."""

    link: int
    writer: int
    entry: Entry
    kind: str
    at_us: int


class Proof:
    """Follows the CCS's chains (a :class:`~doorward.audit.chains.Follower`)."""

    def __init__(self, record: CcsRecord, keys: Mapping[str, Mapping[str, str]], report: Report) -> None:
        self._books = record.books
        self._keys = {kid: dict(jwk) for kid, jwk in keys.items()}
        self._report = report
        self._waiting: list[Delivery] = []
        self._changes: list[tuple[Link, Entry]] = []
        self._documents: dict[int, GrantDocument | None] = {}

    async def follow(self, link: Link, rows: Sequence[Row]) -> None:
        """Keep what delivers something; look at it together with others."""
        for row in rows:
            entry = read(row)
            if entry is None:
                continue
            for kind, at_us in _delivered(entry):
                self._waiting.append(Delivery(link.seq, link.writer, entry, kind, at_us))
            if entry.step(Step.GRANTED) or entry.step(Step.WITHDRAWN):
                self._changes.append((link, entry))
        if len(self._waiting) + len(self._changes) >= ROWS_TOGETHER:
            await self.flush()

    async def flush(self) -> None:
        """Look at everything that waits."""
        waiting, self._waiting = self._waiting, []
        changes, self._changes = self._changes, []
        pairs = {(each.entry.service_point, each.entry.party) for each in waiting}
        pairs |= {(entry.service_point, entry.party) for _, entry in changes}
        history = await self._history(pairs)
        for link, entry in changes:
            self._stands(link, entry, history[entry.service_point, entry.party])
        asked, answered = await self._asked({each.entry.message for each in waiting if each.kind != NOTICE})
        for each in waiting:
            self._report.saw("deliveries")
            operation = Operation.READ if each.kind == NOTICE else asked.get(each.entry.message)
            if operation is Operation.RELEASE and each.kind == ACT:
                continue  # letting go always passes
            if each.kind == END:
                if answered.get(each.entry.message, each.entry.seq) < each.entry.seq:
                    self._uncovered(each, "the permission was not asked for again")
                continue
            once = history[each.entry.service_point, each.entry.party]
            await self._prove(each, once, operation)

    # ---- what permission was -------------------------------------------------------------------------

    async def _history(self, pairs: set[tuple[str, str]]) -> dict[tuple[str, str], list[GrantOnce]]:
        found: defaultdict[tuple[str, str], list[GrantOnce]] = defaultdict(list)
        if pairs:
            for once in await self._books.grants_once(pairs):
                found[once.service_point, once.party].append(once)
        return found

    def _stands(self, link: Link, entry: Entry, history: Sequence[GrantOnce]) -> None:
        """What the journal says became of a permission is still kept, word for word."""
        self._report.saw("changes of permission")
        once = next((each for each in history if each.message == entry.message), None)
        if once is None:
            says, field = "a change of permission stands in the journal, and is not kept", ""
        elif payload_digest("", once.signed.encode()) != entry.payload:
            says, field = "a permission is not the document that the journal holds the digest of", "signed"
        elif (once.state == "live") != (entry.step(Step.GRANTED) is not None):
            says, field = "a permission's state is not what the journal says", "state"
        elif once.at_us != entry.at_us:
            says, field = "a permission changed at another time than the journal says", "at_us"
        else:
            return
        kind = Kind.REMOVED if once is None else Kind.CHANGED
        self._say(kind, says, link.writer, link.seq, entry, field)

    async def _document(self, once: GrantOnce) -> GrantDocument | None:
        """The signed document, if the consent authority signed it and the journal knows of it."""
        if once.sequence not in self._documents:
            if len(self._documents) >= DOCUMENTS_MAX:
                self._documents.clear()
            self._documents[once.sequence] = await self._read_document(once)
        return self._documents[once.sequence]

    async def _read_document(self, once: GrantOnce) -> GrantDocument | None:
        try:
            document = _grant.decode(verify(once.signed, self._keys, "grant"))
        except (Refused, msgspec.DecodeError):
            self._report.add(
                Finding(
                    kind=Kind.FORGED,
                    record=CCS,
                    says=f"permission {once.grant} version {once.version} is not signed by the consent authority",
                    message=once.message,
                )
            )
            return None
        told = [entry for row in await self._books.journeys([once.message]) if (entry := read(row))]
        if not any(entry.payload == payload_digest("", once.signed.encode()) for entry in told):
            self._report.add(
                Finding(
                    kind=Kind.ADDED,
                    record=CCS,
                    says=f"the journal does not know of permission {once.grant} version {once.version}",
                    message=once.message,
                )
            )
            return None
        same = (document.grant, document.version, document.party, document.service_point)
        return document if same == (once.grant, once.version, once.party, once.service_point) else None

    # ---- what was delivered --------------------------------------------------------------------------

    async def _asked(self, messages: set[str]) -> tuple[dict[str, Operation], dict[str, int]]:
        """What each of these requests asked for, as the journal recorded it when it was accepted; and the row
        with which an answer from the home was first recorded."""
        found: dict[str, Operation] = {}
        answered: dict[str, int] = {}
        for row in await self._books.journeys(messages) if messages else []:
            entry = read(row)
            received = entry.step(Step.RECEIVED) if entry else None
            if entry and received and received.detail in _OPERATIONS:
                found.setdefault(entry.message, _OPERATIONS[received.detail])
            if entry and entry.step(Step.ANSWER_RECORDED):
                answered.setdefault(entry.message, entry.seq)
        return found, answered

    async def _prove(self, what: Delivery, history: Sequence[GrantOnce], operation: Operation | None) -> None:
        if operation is None:
            self._uncovered(what, "nothing in the journal says what was asked for")
            return
        before_us, after_us = (SKEW_US, SKEW_US) if what.kind == ACT else (RACE_US, RACE_US)
        why = await self._why_not(what, history, operation, what.at_us - before_us, what.at_us + after_us)
        if (
            why
            and what.kind == ACT
            and not await self._why_not(what, history, operation, what.at_us - LEASE_US, what.at_us)
        ):
            self._report.saw("acts within a lease after permission had ended")
            return
        if why:
            self._uncovered(what, why)

    async def _why_not(
        self, what: Delivery, history: Sequence[GrantOnce], operation: Operation, begin_us: int, end_us: int
    ) -> str:
        """Why no permission stood at any time between; nothing where one did."""
        why = "there was no permission"
        for once, until_us in _spans(history):
            if once.state != "live" or once.at_us > end_us or until_us < begin_us:
                continue
            document = await self._document(once)
            if document is None:
                why = "the permission is not proved"
            elif document.not_before_us > end_us or document.expires_us <= begin_us:
                why = "the permission did not run"
            elif document.paused_until_us > end_us:
                why = "the permission was paused"
            elif not _permits(document, what.entry.device, operation):
                why = "the permission does not allow it"
            else:
                return ""
        return why

    def _uncovered(self, what: Delivery, why: str) -> None:
        says = f"{what.kind} for {what.entry.party} at {what.entry.service_point}: {why}"
        self._say(Kind.UNCOVERED, says, what.writer, what.link, what.entry, "")

    def _say(self, kind: Kind, says: str, writer: int, link: int, entry: Entry, field: str) -> None:
        self._report.add(
            Finding(
                kind=kind,
                record=CCS,
                says=says,
                writer=writer,
                link=link,
                row=entry.seq,
                field=field,
                message=entry.message,
            )
        )


ANSWER = "an answer handed over"
NOTICE = "a notice passed on"
ACT = "an act at the home"
END = "a request's end"
"""Told without permission being asked for again: only where nothing came from the home."""


def _delivered(entry: Entry) -> list[tuple[str, int]]:
    """What a row delivers, and when. That nothing came from the home may be told without permission."""
    found = []
    authorised = entry.step(Step.TARGET_AUTHORISED)
    handed = entry.step(Step.HANDING_OVER)
    if handed is not None and authorised is not None:
        found.append((ANSWER, handed.at_us))
    elif handed is not None:
        found.append((END, handed.at_us))
    answered = entry.step(Step.DEVICE_ANSWERED)
    if handed is None and authorised is not None and answered is not None:
        found.append((NOTICE, authorised.at_us))
    passed = entry.step(Step.PASSED_TO_HAN)
    if passed is not None and passed.outcome is Outcome.OK:
        found.append((ACT, passed.at_us))
    return found


def _spans(history: Sequence[GrantOnce]) -> list[tuple[GrantOnce, int]]:
    """Every state of every permission, and until when it was so."""
    ends: dict[int, int] = {}
    last: dict[str, int] = {}
    for at, once in enumerate(history):
        if once.grant in last:
            ends[last[once.grant]] = once.at_us
        last[once.grant] = at
    return [(once, ends.get(at, 2**62)) for at, once in enumerate(history)]


def _permits(document: GrantDocument, device: str, operation: Operation) -> bool:
    scopes = (Scope.DEVICE,) if device else tuple(scope for scope in Scope if scope is not Scope.DEVICE)
    for scope in scopes:
        try:
            permits_of(document, scope, device, operation)
        except Refused:
            continue
        return True
    return False
