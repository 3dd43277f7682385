"""The steps of the way out, for a whole batch each: receive → authenticate → validate → authorise → admit → record.

Each takes what the one before it made and returns something narrower (Claims → Caller → Draft → Granted →
Admitted → Entry); an item that was declined passes through untouched. Nothing here waits or writes.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from doorward.ccs.ports import Books, Pair
from doorward.ccs.rules import access, identity, limits, priority
from doorward.ccs.rules.access import Granted
from doorward.ccs.rules.asking import Ask, AskBody, Draft, draft, read_ask
from doorward.ccs.rules.facts import (
    Device,
    Event,
    Grant,
    JournalRow,
    LimitLog,
    Party,
    Place,
    Request,
    StepRecord,
    Tier,
)
from doorward.ccs.rules.formats import Catalogue
from doorward.ccs.rules.identity import Caller, Claims, TokenReader
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.rules.limits import Account, Ticket
from doorward.ccs.terms import Terms
from doorward.kit.ids import uuid7
from doorward.wire.chain import payload_digest
from doorward.wire.messages import Cancel, Command
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation, Scope

US = 1_000_000
CHARGE = 2
"""Transactions of a request: itself and its result."""
SALT_BITS = 128


@dataclass(frozen=True, slots=True)
class Declined:
    """A request that was refused, at which step, and as much as is known of it by then."""

    id: str
    at: Step
    refusal: Refused
    party: str = ""
    service_point: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is on record. ``repeated``: the same key was accepted before."""

    request: Request
    ticket: Ticket | None = None
    repeated: bool = False


Verdict = Accepted | Declined


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that fits the limits."""

    granted: Granted
    ticket: Ticket
    tier: Tier


@dataclass(frozen=True, slots=True)
class Entry:
    """A request as it goes on record."""

    request: Request
    ticket: Ticket


@dataclass(slots=True)
class Facts:
    """What the books say about a batch."""

    parties: dict[str, Party]
    revoked: set[str]
    earlier: dict[Pair, Request]
    devices: dict[str, Device]
    places: dict[str, Place]
    grants: dict[Pair, Grant]
    tiers: dict[str, Tier]
    logs: dict[str, LimitLog] = field(default_factory=dict)


A = TypeVar("A")
B = TypeVar("B")


class Batch:
    """The asks of one transaction, and where each of them stands."""

    def __init__(self, asks: Sequence[Ask], tokens: TokenReader) -> None:
        self.asks = asks
        self._claims: list[Claims | Declined | Accepted] = []
        self._texts: list[AskBody | Declined | Accepted] = []
        self._claims = self._each(asks, Step.AUTHENTICATED, lambda _, ask: tokens.read(ask.token))
        self._texts = self._each(asks, Step.VALIDATED, lambda _, ask: read_ask(ask.raw))

    def _each(
        self, items: Sequence[A | Declined | Accepted], step: Step, decide: Callable[[int, A], B]
    ) -> "list[B | Declined | Accepted]":
        """Apply one step to all that came this far; a refusal declines its own item only."""
        made: list[B | Declined | Accepted] = []
        for at, item in enumerate(items):
            if isinstance(item, (Declined, Accepted)):
                made.append(item)
                continue
            try:
                made.append(decide(at, item))
            except Refused as refusal:
                made.append(self._declined(at, step, refusal))
        return made

    def _declined(self, at: int, step: Step, refusal: Refused) -> Declined:
        claims = self._claims[at] if self._claims else None
        text = self._texts[at] if self._texts else None
        return Declined(
            id=self.asks[at].id,
            at=step,
            refusal=refusal,
            party=claims.sub if isinstance(claims, Claims) else "",
            service_point=text.service_point if isinstance(text, AskBody) else "",
            device=text.device if isinstance(text, AskBody) else "",
        )

    # load

    async def load(self, books: Books, now_us: int) -> Facts:
        """Read all facts that the steps up to ``authorise`` need, with one call per kind."""
        claims = [each for each in self._claims if isinstance(each, Claims)]
        texts = [each for each in self._texts if isinstance(each, AskBody)]
        devices = await books.devices({text.device for text in texts if text.device})
        pairs = self._pairs(devices)
        keyed = {
            (claim.sub, self._key(at))
            for at, claim in enumerate(self._claims)
            if isinstance(claim, Claims) and self._key(at)
        }
        return Facts(
            parties=await books.parties({claim.sub for claim in claims}),
            revoked=await books.revoked_tokens({claim.jti for claim in claims}),
            earlier=await books.requests_by_key(keyed) if keyed else {},
            devices=devices,
            places=await books.places({service_point for _, service_point in pairs}, now_us),
            grants=await books.grants(pairs),
            tiers=await books.tiers(),
        )

    def _pairs(self, devices: Mapping[str, Device]) -> set[Pair]:
        pairs = set()
        for claim, text in zip(self._claims, self._texts, strict=True):
            if not isinstance(claim, Claims) or not isinstance(text, AskBody):
                continue
            device = devices.get(text.device)
            service_point = device.service_point if device else text.service_point
            if service_point:
                pairs.add((claim.sub, service_point))
        return pairs

    def _key(self, at: int) -> str:
        text = self._texts[at]
        return self.asks[at].key or (text.key if isinstance(text, AskBody) else "")

    # decide

    def authenticate(self, facts: Facts, now_us: int) -> "list[Caller | Declined | Accepted]":
        """S1.02, S2.04; then the key, for what was accepted before is answered as before."""
        callers = self._each(
            self._claims,
            Step.AUTHENTICATED,
            lambda _, claims: identity.authenticate(claims, facts.parties, facts.revoked, now_us),
        )
        return [
            self._repeat(at, caller, facts) if isinstance(caller, Caller) else caller
            for at, caller in enumerate(callers)
        ]

    def _repeat(self, at: int, caller: Caller, facts: Facts) -> "Caller | Declined | Accepted":
        key = self._key(at)
        if not key:
            return caller
        before = facts.earlier.get((caller.party.id, key))
        if before is None:
            return caller
        return self._same_or_conflict(at, before)

    def _same_or_conflict(self, at: int, before: Request) -> "Declined | Accepted":
        if before.body_hash == body_hash(self._texts[at], self.asks[at]):
            return Accepted(before, repeated=True)
        return self._declined(
            at,
            Step.VALIDATED,
            Refused(Reason.IDEMPOTENCY_CONFLICT, f"the key belongs to request {before.id}", field="/key"),
        )

    def validate(
        self, callers: "list[Caller | Declined | Accepted]", catalogue: Catalogue, now_us: int
    ) -> "list[tuple[Caller, Draft] | Declined | Accepted]":
        """F08: form, times, and the format that was named."""

        def one(at: int, caller: Caller) -> tuple[Caller, Draft]:
            text = self._texts[at]
            if isinstance(text, Declined):
                raise text.refusal
            assert isinstance(text, AskBody)
            made = draft(text, self._key(at), body_hash(text, self.asks[at]), now_us)
            if text.format:
                catalogue.named(text.format).check_raw(bytes(text.body))
            return caller, made

        return self._each(callers, Step.VALIDATED, one)

    def authorise(
        self,
        drafts: "list[tuple[Caller, Draft] | Declined | Accepted]",
        facts: Facts,
        catalogue: Catalogue,
        now_us: int,
    ) -> "list[Granted | Declined | Accepted]":
        """S1.03, S2.04; then the format that belongs to the device's class."""

        def one(_: int, pair: tuple[Caller, Draft]) -> Granted:
            caller, made = pair
            service_point = access.service_point_of(made, facts.devices)
            granted = access.authorise(
                caller,
                made,
                facts.places.get(service_point),
                facts.grants.get((caller.party.id, service_point)),
                now_us,
            )
            require_format(granted, catalogue)
            return granted

        return self._each(drafts, Step.AUTHORISED, one)

    def keys(self, granted: "list[Granted | Declined | Accepted]") -> set[str]:
        """Keys of the limits that have to be locked for what came this far."""
        wanted = set()
        for each in granted:
            if isinstance(each, Granted) and is_charged(each):
                wanted.add(limits.service_point_key(each.place.service_point))
                wanted.add(limits.party_key(each.caller.party.id, each.place.service_point))
        return wanted

    def admit(
        self, granted: "list[Granted | Declined | Accepted]", facts: Facts, terms: Terms, now_us: int
    ) -> "list[Admitted | Declined | Accepted]":
        """F04, F32, N01: in sequence, so that two of one batch see each other.

        A key that stands twice in the batch is charged once; :meth:`record` decides what the second is.
        """
        admitted: dict[Pair, Admitted] = {}

        def one(_: int, each: Granted) -> Admitted:
            pair = (each.caller.party.id, each.draft.key)
            if not each.draft.key:
                return charged(each)
            if pair not in admitted:
                admitted[pair] = charged(each)
            return admitted[pair]

        def charged(each: Granted) -> Admitted:
            tier = facts.tiers[each.grant.tier]
            held = accounts(each.caller.party.id, each.place, tier, facts.logs, terms)
            if not is_charged(each):
                return Admitted(
                    each, Ticket(charge_us=now_us, limit=0, remaining=0, reset_us=0, window_us=0), tier
                )
            return Admitted(each, limits.admit(held, CHARGE, now_us, terms.grace_us), tier)

        return self._each(granted, Step.ADMITTED, one)

    def record(
        self,
        admitted: "list[Admitted | Declined | Accepted]",
        worker: str,
        terms: Terms,
        now_us: int,
        rng: random.Random,
    ) -> "list[Entry | Declined | Accepted]":
        """Make the rows. A key used twice in one batch is decided here, in sequence."""
        first: dict[Pair, Request] = {}
        made: list[Entry | Declined | Accepted] = []
        for at, each in enumerate(admitted):
            if not isinstance(each, Admitted):
                made.append(each)
                continue
            request = request_of(self.asks[at], each, worker, terms, now_us, rng)
            pair = (request.party, request.key)
            if request.key and pair in first:
                made.append(self._same_or_conflict(at, first[pair]))
                continue
            first[pair] = request
            made.append(Entry(request, each.ticket))
        return made

    def losers(
        self,
        entries: "Sequence[Entry | Declined | Accepted]",
        won: set[str],
        ours: Mapping[str, Request],
        theirs: Mapping[Pair, Request],
    ) -> "list[Entry | Declined | Accepted]":
        """Replace entries that did not go in by what is there: ours by id, or another's with the same key."""
        made: list[Entry | Declined | Accepted] = []
        for at, each in enumerate(entries):
            if not isinstance(each, Entry) or each.request.id in won:
                made.append(each)
            elif each.request.id in ours:
                made.append(Accepted(ours[each.request.id], each.ticket))
            else:
                made.append(self._same_or_conflict(at, theirs[each.request.party, each.request.key]))
        return made

    def limit_warnings(
        self, standing: "Sequence[Entry | Declined | Accepted]", now_us: int, rng: random.Random
    ) -> list[Event]:
        """F04, F38: one warning for each that was refused for exceeding a limit."""
        return [
            warning(
                ask.id,
                each.party,
                each.service_point,
                each.device,
                ask.received_us,
                each.refusal.reason,
                each.refusal.detail,
                now_us,
                rng,
            )
            for ask, each in zip(self.asks, standing, strict=True)
            if isinstance(each, Declined) and each.refusal.reason is Reason.LIMIT_EXCEEDED
        ]


def is_charged(granted: Granted) -> bool:
    """Whether the limits count a request: letting go passes always, and they hold for third parties (N01)."""
    return granted.draft.ask.operation is not Operation.RELEASE and not granted.grant.document.utility


def body_hash(text: object, ask: Ask) -> str:
    """Return the hash under which a repeated key is recognised: of the canonical body."""
    raw = msgspec.json.encode(text, order="sorted") if isinstance(text, AskBody) else ask.raw
    return hashlib.sha256(raw).hexdigest()[:32]


def require_format(granted: Granted, catalogue: Catalogue) -> None:
    """Raise ``format-invalid`` unless the body follows the format of what it is aimed at."""
    ask = granted.draft.ask
    subject = str(granted.permits[0].device_class) if ask.scope is Scope.DEVICE else str(ask.scope)
    if not ask.format:
        catalogue.newest(subject, ask.operation).check(granted.draft.body)
        return
    named = catalogue.named(ask.format).format
    if named.device_class != subject or named.operation is not ask.operation:
        raise Refused(
            Reason.FORMAT_INVALID,
            f"{ask.format} is for {named.operation} of {named.device_class}, "
            f"this is {ask.operation} of {subject}",
            field="/format",
        )


def accounts(
    party: str, place: Place, tier: Tier, logs: Mapping[str, LimitLog], terms: Terms
) -> tuple[Account, ...]:
    """Return the limits that a third party's message to a service point is charged to."""
    whole = limits.service_point_key(place.service_point)
    own = limits.party_key(party, place.service_point)
    if whole not in logs:
        return ()
    return (
        Account(logs[whole], limits.service_point_windows(terms.per_hour, terms.per_day)),
        Account(logs[own], limits.party_windows(tier, place, terms.per_hour, terms.per_day)),
    )


def request_of(
    ask: Ask, admitted: Admitted, worker: str, terms: Terms, now_us: int, rng: random.Random
) -> Request:
    """Return the row of an admitted request, with its absolute deadlines."""
    granted, ticket, tier = admitted.granted, admitted.ticket, admitted.tier
    text, made = granted.draft.ask, granted.draft
    begin_us = max(made.start_us, now_us)
    due_us = made.deadline_us or begin_us + tier.response_s * US
    charged = CHARGE if is_charged(granted) else 0
    waits = ticket.charge_us > now_us + limits.TICK_US
    return Request(
        id=ask.id,
        party=granted.caller.party.id,
        service_point=granted.place.service_point,
        gateway=granted.place.gateway,
        partition=granted.place.partition,
        scope=text.scope,
        operation=text.operation,
        grant=granted.grant.id,
        grant_version=granted.grant.version,
        tier=tier.name,
        klass=priority.class_of(granted.grant.document, tier, text.priority),
        received_us=ask.received_us,
        charge_us=ticket.charge_us,
        due_us=due_us,
        warn_us=min(due_us, ask.received_us + terms.warn_after_us),
        act_before_us=due_us - terms.skew_us,
        state=State.ACCEPTED if waits else State.QUEUED,
        ready_us=ticket.charge_us if waits else now_us,
        device=text.device,
        format=text.format,
        body=text.body,
        cause=text.cause if text.operation.is_control else "",
        start_us=made.start_us,
        until_us=made.until_us,
        campaign=text.campaign,
        wish=text.priority,
        key=made.key,
        body_hash=made.body_hash,
        signature=text.signature,
        charged=charged,
        worker=worker,
        salt=f"{rng.getrandbits(SALT_BITS):032x}",
    )


_PASSED = (Step.AUTHENTICATED, Step.VALIDATED, Step.AUTHORISED, Step.ADMITTED)


def journal_of(entry: Entry, now_us: int) -> JournalRow:
    """Return the journal row of an accepted request: S1.01–S1.04, S2.03–S2.05."""
    request = entry.request
    details = {
        Step.AUTHENTICATED: request.party,
        Step.AUTHORISED: f"grant {request.grant} version {request.grant_version}",
        Step.ADMITTED: f"{entry.ticket.remaining} of {entry.ticket.limit} remain",
    }
    return JournalRow(
        message=request.id,
        at_us=now_us,
        party=request.party,
        service_point=request.service_point,
        gateway=request.gateway,
        device=request.device,
        steps=[
            StepRecord(at_us=request.received_us, step=Step.RECEIVED, detail=f"{request.operation}"),
            *(StepRecord(at_us=now_us, step=step, detail=details.get(step, "")) for step in _PASSED),
            StepRecord(at_us=now_us, step=Step.RECORDED, detail=recorded_as(request)),
            *(_quarantined_steps(request, now_us) if request.state == State.QUARANTINED else ()),
            *(sent_steps(request, now_us) if request.sent_us else ()),
        ],
        payload=payload_digest(request.salt, bytes(request.body)),
    )


def recorded_as(request: Request) -> str:
    """Return what the journal says of an accepted request."""
    return f"accepted; begins at random within {request.spread_s} s" if request.spread_s else "accepted"


def _quarantined_steps(request: Request, now_us: int) -> list[StepRecord]:
    """X04: over a cap it waits for two operators, and its third party is warned."""
    over = request.detail[:500]
    return [
        StepRecord(
            at_us=now_us,
            step=Step.QUARANTINED,
            outcome=Outcome.WAITING,
            reason=Reason.FLEET_CAP,
            detail=over,
        ),
        StepRecord(at_us=now_us, step=Step.WARNED, reason=Reason.FLEET_CAP),
    ]


def journal_of_refusal(declined: Declined, received_us: int, now_us: int) -> JournalRow:
    """Return the journal row of a refused attempt (F24): how far it came, and why no further."""
    steps = [StepRecord(at_us=received_us, step=Step.RECEIVED)]
    for step in _PASSED:
        if step is declined.at:
            break
        steps.append(StepRecord(at_us=now_us, step=step))
    steps.append(
        StepRecord(
            at_us=now_us,
            step=declined.at,
            outcome=Outcome.REFUSED,
            reason=declined.refusal.reason,
            detail=declined.refusal.detail[:500],
        )
    )
    steps.append(
        StepRecord(at_us=now_us, step=Step.RECORDED, outcome=Outcome.REFUSED, reason=declined.refusal.reason)
    )
    return JournalRow(
        message=declined.id,
        at_us=now_us,
        party=declined.party,
        service_point=declined.service_point,
        gateway="",
        device=declined.device,
        steps=steps,
    )


def warning(
    message: str,
    party: str,
    service_point: str,
    device: str,
    received_us: int,
    reason: Reason,
    detail: str,
    now_us: int,
    rng: random.Random,
) -> Event:
    """Return the warning of F04, F20 and F38: message id, original destination, time received, reason."""
    return Event(
        id=uuid7(now_us, rng),
        party=party,
        kind="request.warning",
        created_us=now_us,
        next_us=now_us,
        request=message,
        service_point=service_point,
        device=device,
        data=msgspec.Raw(
            msgspec.json.encode(
                {
                    "message_id": message,
                    "destination_id": device or service_point,
                    "received": to_rfc3339(received_us),
                    "reason": reason,
                    "detail": detail,
                }
            )
        ),
    )


# --- on to the gateway ---------------------------------------------------------------------------


def limit_keys(request: Request) -> tuple[str, str]:
    """Return the keys of the limits that a request is charged to."""
    return (
        limits.service_point_key(request.service_point),
        limits.party_key(request.party, request.service_point),
    )


def uncharge(logs: Mapping[str, LimitLog], request: Request, unused: int) -> None:
    """Take back ``unused`` charges of a request from locked logs."""
    for key in limit_keys(request):
        if key in logs:
            limits.settle(logs[key], request.charge_us, unused)


def message_of(request: Request) -> Command | Cancel:
    """Return what is sent to the gateway: the command (S1.05, S2.06), or that it be let go."""
    if request.cancel_asked:
        return Cancel(id=request.id, by_party=request.party)
    return Command(
        id=request.id,
        party=request.party,
        service_point=request.service_point,
        scope=request.scope,
        operation=request.operation,
        grant=request.grant,
        grant_version=request.grant_version,
        charge_us=request.charge_us,
        act_before_us=request.act_before_us,
        party_ref=request.key,
        device=request.device,
        body=request.body,
        cause=request.cause,
        start_us=request.start_us,
        until_us=request.until_us,
        klass=request.klass,
        attempt=request.attempt,
        signature=request.signature,
        spread_s=request.spread_s,
        campaign=bool(request.campaign),
        salt=request.salt,
    )


def sent_steps(request: Request, now_us: int) -> list[StepRecord]:
    """Return the journal steps of a dispatch; the destination is proved once, before anything is sent."""
    passed = StepRecord(at_us=now_us, step=Step.PASSED_TO_GATEWAY, detail=f"attempt {request.attempt}")
    if request.attempt > 1:
        return [passed]
    proved = StepRecord(
        at_us=now_us, step=Step.DESTINATION_AUTHENTICATED, detail=f"gateway {request.gateway}"
    )
    return [proved, passed]
