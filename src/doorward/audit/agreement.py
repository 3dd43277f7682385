"""Whether both records tell the same: of each message what the CCS was told, and what the gateway did.

What a gateway tells it has recorded before (P17), so the CCS can never know more than the gateway's record
holds; and a gateway can never have had a message that the CCS did not send.
"""

from collections.abc import Mapping, Sequence

from doorward.audit.findings import CCS, Finding, Kind, Report
from doorward.audit.proof import Entry, read
from doorward.audit.records import CcsRecord, GatewayRecord
from doorward.kit.ids import time_of_us
from doorward.spg.rules.facts import JournalRow
from doorward.wire.chain import Link, Row, payload_digest
from doorward.wire.steps import Step

ROWS_TOGETHER = 200
PAGE = 500
TOLD = frozenset(
    {Step.GATEWAY_RECEIVED, Step.PASSED_TO_HAN, Step.ANSWER_RECEIVED, Step.PASSED_TO_CCS, Step.RELEASED}
)
"""Steps at a gateway that it records and tells with the same time."""
CAME = frozenset({Step.GATEWAY_RECEIVED, Step.PASSED_TO_HAN, Step.PASSED_TO_CCS})
ANSWERED = frozenset({Step.ANSWER_RECORDED, Step.SETTLED})
PLACES = ("party", "service_point", "device")


class Agreement:
    """Follows the CCS's chains, and asks the gateways' records of what gateways told."""

    def __init__(self, record: CcsRecord, gateways: Mapping[str, GatewayRecord], report: Report) -> None:
        self._books = record.books
        self._gateways = gateways
        self._report = report
        self._begins = {name: gateway.begins_us() for name, gateway in gateways.items()}
        self._waiting: list[tuple[Link, Entry]] = []

    async def follow(self, link: Link, rows: Sequence[Row]) -> None:
        """Keep what a gateway told, and what carries something; look at it together with others."""
        for row in rows:
            entry = read(row)
            if entry is not None and (entry.payload or entry.gateway in self._gateways):
                self._waiting.append((link, entry))
        if len(self._waiting) >= ROWS_TOGETHER:
            await self.flush()

    async def flush(self) -> None:
        """Look at everything that waits."""
        waiting, self._waiting = self._waiting, []
        carried = await self._books.carried({entry.message for _, entry in waiting if entry.payload})
        for link, entry in waiting:
            what = carried.get(entry.message)
            if what is not None and what.salt:
                self._carries(link, entry, what.salt, what.body, what.result, what.settlement)
            gateway = self._gateways.get(entry.gateway)
            if gateway is not None and time_of_us(entry.message) >= self._begins[entry.gateway]:
                self._told(link, entry, gateway)

    def _carries(
        self, link: Link, entry: Entry, salt: str, body: bytes, result: bytes, settlement: str
    ) -> None:
        """The body or answer that stands with the request is the one that the journal holds the digest of."""
        if any(step.step in ANSWERED for step in entry.steps):
            later = settlement and entry.step(Step.SETTLED) is None
            if result == b"null" or later:  # kept back, or replaced by proof that came later
                return
            field, right = "result", payload_digest(salt, result)
        elif entry.step(Step.RECEIVED) is not None:
            field, right = "body", payload_digest(salt, body)
        else:
            return
        self._report.saw("payloads")
        if right != entry.payload:
            self._say(Kind.CHANGED, f"the request's {field} is not what was recorded", link, entry, field)

    def _told(self, link: Link, entry: Entry, gateway: GatewayRecord) -> None:
        told = [step for step in entry.steps if step.step in TOLD]
        if not told:
            return
        self._report.saw("rows compared")
        rows = gateway.journeys([entry.message])[entry.message]
        for step in told:
            if not any(row.step == step.step.value and row.at_us == step.at_us for row in rows):
                says = f"the CCS was told of {step.step.value}, which is not in the gateway's record"
                self._report.add(
                    Finding(kind=Kind.MISSING, record=gateway.name, says=says, message=entry.message)
                )
        self._places(link, entry, rows, gateway)
        self._digests(link, entry, rows, gateway)

    def _places(self, link: Link, entry: Entry, rows: Sequence[JournalRow], gateway: GatewayRecord) -> None:
        taken = next((row for row in rows if row.step == Step.GATEWAY_RECEIVED.value), None)
        if taken is None:
            return
        for field in PLACES:
            if getattr(taken, field) != getattr(entry, field):
                says = f"the CCS and {gateway.name} name another {field.replace('_', ' ')}"
                self._say(Kind.DIFFERENT, says, link, entry, field)

    def _digests(self, link: Link, entry: Entry, rows: Sequence[JournalRow], gateway: GatewayRecord) -> None:
        if not entry.payload or not any(step.step in ANSWERED for step in entry.steps):
            return
        answers = [row.payload for row in rows if row.step == Step.PASSED_TO_CCS.value and row.payload]
        if answers and entry.payload not in answers:
            says = f"the answer that was recorded is not the one that {gateway.name} gave"
            self._say(Kind.DIFFERENT, says, link, entry, "payload")

    def _say(self, kind: Kind, says: str, link: Link, entry: Entry, field: str) -> None:
        self._report.add(
            Finding(
                kind=kind,
                record=CCS,
                says=says,
                writer=link.writer,
                link=link.seq,
                row=entry.seq,
                field=field,
                message=entry.message,
            )
        )

    # ---- the other way -------------------------------------------------------------------------------

    async def known_here(self, gateway: GatewayRecord, erased_days: "frozenset[int]") -> None:
        """Whatever a gateway's record says that it was sent, the CCS's says that it sent."""
        after = ""
        while page := gateway.messages(after, PAGE):
            after = page[-1]
            came = [message for message in page if _is_id(message) and self._came(gateway, message)]
            there = {entry.message: entry for entry in await self._entries(came)}
            for message in came:
                self._report.saw("messages of gateways")
                if message not in there and time_of_us(message) // 86_400_000_000 not in erased_days:
                    says = f"{gateway.name} has had a message that the CCS's record does not know"
                    self._report.add(Finding(kind=Kind.MISSING, record=CCS, says=says, message=message))

    def _came(self, gateway: GatewayRecord, message: str) -> bool:
        rows = gateway.journeys([message])[message]
        return any(row.step in CAME for row in rows)

    async def _entries(self, messages: Sequence[str]) -> list[Entry]:
        if not messages:
            return []
        rows = await self._books.journeys(messages)
        return [entry for row in rows if (entry := read(row)) is not None]


def _is_id(message: str) -> bool:
    try:
        time_of_us(message)
    except ValueError:
        return False
    return True
