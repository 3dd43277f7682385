"""Taking what the CCS sends: desired state, commands, cancellations, reconciliation. Nothing is done here yet.

Every function looks at one message, decides, and fills the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
from msgspec.structs import replace

from doorward.spg.desk import Desk, Entry
from doorward.spg.ports import Pair
from doorward.spg.rules import checks, controls
from doorward.spg.rules.facts import Charge, Control, Held, Request
from doorward.spg.rules.page import Page
from doorward.wire.chain import payload_digest
from doorward.wire.grants import GrantDocument, LeaseDocument, TrustDocument
from doorward.wire.messages import (
    ATTEMPT_ALL,
    Ack,
    Applied,
    Cancel,
    Certificate,
    Command,
    Down,
    GrantPush,
    Known,
    Lease,
    Provision,
    Reconcile,
    Result,
    Time,
    Trust,
    Withdraw,
)
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import payload_of, verify
from doorward.wire.steps import Outcome, Step
from doorward.wire.times import to_rfc3339

UNKNOWN = "UNKNOWN"
"""State of a tombstone left by reconciliation."""

_grant = msgspec.json.Decoder(GrantDocument)
_trusted = msgspec.json.Decoder(TrustDocument)
_lease = msgspec.json.Decoder(LeaseDocument)


class Doers(Protocol):
    """What follows when a page is written."""

    def begin(self, entry: Entry) -> None:
        """Carry out a request, now or at its time."""
        ...

    def withdraw(self, grant: str, version: int) -> None:
        """End a grant, once no device is being told anything under it."""
        ...

    def trusted(self) -> None:
        """The clock may decide again."""
        ...

    def certified(self, pem: str) -> None:
        """There is a new certificate of ours."""
        ...


@dataclass(slots=True)
class Seen:
    """What the inbox knows of the ids and keys that a frame names; grows with the frame."""

    requests: dict[str, Request]
    refs: dict[Pair, str]


class Receiving:
    """Decides about messages from the CCS."""

    def __init__(self, desk: Desk, doers: Doers) -> None:
        self.desk = desk
        self.doers = doers

    # --- desired state -----------------------------------------------------------------------------

    def desired_state(self, messages: Sequence[Down], page: Page) -> None:
        """Time, devices, grants, leases and withdrawals, in the order in which they came."""
        answer = False
        for message in messages:
            match message:
                case Time():
                    self._time(message, page)
                case Certificate():
                    page.follow.append(partial(self.doers.certified, message.pem))
                case Trust():
                    self._checked("trust", lambda m=message: self._trust(m, page), page)
                case Provision():
                    answer = True
                    self._provision(message, page)
                case GrantPush():
                    answer = True
                    self._checked(message.grant, lambda m=message: self._push(m, page), page)
                case Lease():
                    answer = True
                    self._checked(message.grant, lambda m=message: self._renew(m, page), page)
                case Withdraw():
                    answer = self._withdraw(message.grant, message.version) or answer
                case _:
                    raise AssertionError(message)
        if answer and not self.desk.house.is_ending({}):  # else the last withdrawal answers
            page.out.append(applied(self.desk, page))

    def _time(self, message: Time, page: Page) -> None:
        self.desk.clock.hear(message.at_us)
        page.now_us = self.desk.clock.now_us()
        if not self.desk.house.born_us:
            page.born_us = page.now_us
        page.follow.append(self.doers.trusted)

    def _provision(self, message: Provision, page: Page) -> None:
        house = self.desk.house
        if message.version < house.provision_version:
            page.note(
                "provisioned",
                page.now_us,
                outcome=Outcome.REFUSED,
                detail=f"version {message.version} is old",
            )
            return
        page.provision = (message.version, message.devices)
        page.failed |= self.desk.hands.provision(message.devices)
        page.note(
            "provisioned", page.now_us, detail=f"version {message.version}: {len(message.devices)} devices"
        )
        for grant, held in house.grants.items():
            if grant not in message.grants:
                self._withdraw(grant, held.document.version)

    def _checked(self, grant: str, take: "_Take", page: Page) -> None:
        try:
            take()
        except Refused as refused:
            page.failed[grant] = str(refused)
            page.note(
                "granted",
                page.now_us,
                outcome=Outcome.REFUSED,
                reason=refused.reason,
                detail=f"{grant}: {refused.detail}",
            )
            if refused.reason in checks.UNAUTHORISED:
                self.desk.count_attempt(page, "in", refused, message=grant)

    def _authority(self, page: Page) -> dict[str, dict[str, str]]:
        trust = page.trust or self.desk.house.trust
        return trust.authority if trust is not None else self.desk.keys.authority

    def _trust(self, message: Trust, page: Page) -> None:
        """The authority hands over to other keys of its own, and names those of utility operations."""
        before = page.trust or self.desk.house.trust
        try:
            if before is not None and _trusted.decode(payload_of(message.document)).version <= before.version:
                return  # every step from the first is told each time; this one was taken
            trust = _trusted.decode(verify(message.document, self._authority(page), "trust"))
        except (msgspec.DecodeError, ValueError, IndexError) as error:
            raise Refused(Reason.BODY_MALFORMED, f"trust: {error}") from None
        if not trust.authority:
            raise Refused(Reason.BODY_MALFORMED, "trust: it names no key of the authority")
        page.trust = trust
        names = ", ".join(sorted(trust.authority)) + "; operations: " + ", ".join(sorted(trust.operations))
        page.note("trusted", page.now_us, detail=f"version {trust.version}: {names}")

    def _push(self, message: GrantPush, page: Page) -> None:
        payload = verify(message.document, self._authority(page), "grant")
        try:
            document = _grant.decode(payload)
        except msgspec.DecodeError as error:
            raise Refused(Reason.BODY_MALFORMED, f"grant: {error}") from None
        if (document.grant, document.version) != (message.grant, message.version):
            raise Refused(Reason.SIGNATURE_INVALID, "the signed document is another grant or version")
        if self.desk.house.is_ended(document.grant, document.version):
            raise Refused(Reason.ACCESS_DISABLED, f"version {document.version} was withdrawn")
        held = self._held(document.grant, page)
        until_us = min(message.lease_until_us, document.issued_us + self.desk.policy.lease_us_max)
        if held is not None:
            if held.document.version > document.version:
                raise Refused(
                    Reason.REPLAYED, f"version {document.version} is older than {held.document.version}"
                )
            if held.document.version == document.version:
                until_us = max(until_us, held.lease_until_us)
        page.grants[document.grant] = Held(
            document=document, signed=message.document, lease_until_us=until_us
        )
        if held is None or held.document.version < document.version:
            page.note(
                "granted",
                page.now_us,
                party=document.party,
                service_point=document.service_point,
                detail=f"{document.grant} version {document.version}, lease until {to_rfc3339(until_us)}",
            )

    def _renew(self, message: Lease, page: Page) -> None:
        payload = verify(message.document, self._authority(page), "lease")
        try:
            lease = _lease.decode(payload)
        except msgspec.DecodeError as error:
            raise Refused(Reason.BODY_MALFORMED, f"lease: {error}") from None
        held = self._held(message.grant, page)
        if lease.grant != message.grant or held is None or lease.version != held.document.version:
            raise Refused(Reason.ACCESS_DISABLED, "the lease is for a grant or version that is not held")
        if lease.issued_us > page.now_us + self.desk.policy.issued_skew_us and self.desk.clock.trusted:
            raise Refused(Reason.SIGNATURE_INVALID, "the lease was issued in the future")
        until_us = min(lease.until_us, lease.issued_us + self.desk.policy.lease_us_max)
        page.grants[message.grant] = replace(held, lease_until_us=max(until_us, held.lease_until_us))

    def _held(self, grant: str, page: Page) -> Held | None:
        return page.grants.get(grant) or self.desk.house.grants.get(grant)

    def _withdraw(self, grant: str, version: int) -> bool:
        """Narrowing is believed at once in memory, and stored when no device is being told anything.

        Return whether there was nothing to end, so that the answer need not wait.
        """
        house = self.desk.house
        if house.ended.get(grant, -1) >= version:
            return True
        if house.ending.get(grant, -1) < version:
            house.ending[grant] = version
            self._let_go_at_random(grant)
            self.doers.withdraw(grant, version)
        return False

    def _let_go_at_random(self, grant: str) -> None:
        """A withdrawal of a million permissions lets no million devices go in the same second (X04)."""
        house = self.desk.house
        for control in [c for c in house.controls.values() if c.grant == grant and c.campaign]:
            again_us = self.desk.clock.now_us() + self.desk.draw(self.desk.policy.withdraw_spread_us)
            house.controls[control.device] = replace(control, again_us=max(control.again_us, again_us))

    # --- requests ----------------------------------------------------------------------------------

    async def seen(self, messages: Sequence[Down]) -> Seen:
        """Load what the inbox knows of everything that these messages name."""
        ids: set[str] = set()
        refs: set[Pair] = set()
        for message in messages:
            match message:
                case Command():
                    ids.add(message.id)
                    if message.party_ref:
                        refs.add((message.party, message.party_ref))
                case Cancel():
                    ids.add(message.id)
                case Reconcile():
                    ids.update(message.ids)
        if not ids:
            return Seen({}, {})
        return Seen(*await self.desk.store.read(lambda books: books.seen(ids, refs)))

    def requests(self, messages: Sequence[Down], seen: Seen, page: Page) -> None:
        """Commands, cancellations, reconciliation and acknowledgements, in the order in which they came."""
        for message in messages:
            match message:
                case Command():
                    self._command(message, seen, page)
                case Cancel():
                    self._cancel(message, seen, page)
                case Reconcile():
                    self._reconcile(message, seen, page)
                case Ack():
                    page.acknowledged.extend(message.seqs)
                case _:
                    raise AssertionError(message)

    def _command(self, command: Command, seen: Seen, page: Page) -> None:
        """Taken once: a copy is answered with what became of the first (P2)."""
        known = seen.requests.get(command.id)
        if known is not None and not (known.state == UNKNOWN and command.attempt > known.attempt):
            return self._again(known, page, command.attempt)
        now_us = page.now_us
        start_us = max(command.start_us, now_us)
        start_us += self.desk.draw(controls.start_room_us(command, start_us, self.desk.policy))
        until_us = controls.until_of(command, start_us, self.desk.policy)
        try:
            self._require_new(command, seen)
            act_by_us = checks.judge(
                command,
                self.desk.house,
                self.desk.policy,
                trusted=self.desk.clock.trusted,
                start_us=start_us,
                until_us=until_us,
                log=self._charges_at(command.service_point, page),
                now_us=now_us,
            )
        except Refused as refused:
            if not self.desk.refusals.admits(now_us):
                self._only_counted(command, refused, page)
                return None
            request = self._refused(command, refused, page)
        else:
            request = self._taken(command, start_us, act_by_us, page)
        seen.requests[command.id] = request
        if request.party_ref:
            seen.refs[command.party, command.party_ref] = command.id
        return None

    def _charges_at(self, service_point: str, page: Page) -> list[Charge]:
        """What counts at a service point, with what this frame has charged there already."""
        taken = [charge for charge in page.charges if charge.service_point == service_point]
        return [*self.desk.house.charges[service_point], *taken]

    def _require_new(self, command: Command, seen: Seen) -> None:
        other = seen.refs.get((command.party, command.party_ref)) if command.party_ref else None
        if other is not None and other != command.id:
            raise Refused(Reason.REPLAYED, f"the service used this key before, for {other}")
        if len(self.desk.opened) >= self.desk.policy.open_max:
            raise Refused(Reason.CONGESTION, f"{self.desk.policy.open_max} requests are open at this gateway")

    def _taken(self, command: Command, start_us: int, act_by_us: int, page: Page) -> Request:
        """S1.06: stored, charged and recorded; the receipt leaves when that is durable."""
        now_us = page.now_us
        waits = start_us > now_us
        request = Request(
            id=command.id,
            party=command.party,
            party_ref=command.party_ref,
            state="RECEIVED",
            attempt=command.attempt,
            received_us=now_us,
            start_us=start_us,
            act_by_us=act_by_us,
            command=command,
        )
        page.requests.append(request)
        if checks.is_charged(command):
            page.charges.append(
                Charge(
                    id=command.id,
                    party=command.party,
                    service_point=command.service_point,
                    charge_us=command.charge_us,
                )
            )
        begins = begins_at(request)
        page.step(command, Step.GATEWAY_RECEIVED, now_us, detail=begins, payload=_digest(command))
        if waits:
            page.step(command, Step.GATEWAY_CHECKED, now_us, outcome=Outcome.WAITING, detail=begins)
        else:
            page.step(command, Step.GATEWAY_CHECKED, now_us, tell=False)
        page.follow.append(lambda: self.doers.begin(Entry(request, command)))
        return request

    def _refused(self, command: Command, refused: Refused, page: Page) -> Request:
        """Kept too, so that a copy gets the same answer; it does not bind the party's own key."""
        state = state_of(refused)
        page.step(
            command,
            Step.GATEWAY_CHECKED,
            page.now_us,
            outcome=Outcome.REFUSED,
            reason=refused.reason,
            detail=refused.detail,
            tell=False,
            payload=_digest(command),
        )
        result = page.finish(command, state, page.now_us, reason=refused.reason, detail=refused.detail)
        request = Request(
            id=command.id,
            party=command.party,
            party_ref="",
            state=state,
            attempt=command.attempt,
            received_us=page.now_us,
            start_us=0,
            act_by_us=command.act_before_us,
            command=command,
            result=result,
        )
        page.requests.append(request)
        if refused.reason in checks.UNAUTHORISED:
            self.desk.count_attempt(
                page, "in", refused, party=command.party, device=command.device, message=command.id
            )
        return request

    def _only_counted(self, command: Command, refused: Refused, page: Page) -> None:
        """A flood of refusals is no flood of rows: counted, reported with their number, and not answered."""
        self.desk.count_attempt(
            page, "in", refused, party=command.party, device=command.device, message=command.id
        )

    def _again(self, known: Request, page: Page, attempt: int = 0) -> None:
        """Say again what is known of a request: its result where it has one, else that it is here."""
        if known.state == UNKNOWN:
            detail = f"late copy, attempt {attempt}: the CCS was told that it never came"
            page.note(
                Step.REFUSED.value,
                page.now_us,
                message=known.id,
                outcome=Outcome.REFUSED,
                reason=Reason.REPLAYED,
                detail=detail,
            )
        elif not known.is_final:
            page.receipt(known.id, Step.GATEWAY_RECEIVED, known.received_us, detail=begins_at(known))
        elif known.id not in self.desk.post.again({known.id}) and known.id not in page.results:
            page.out.append(
                known.result
                or Result(
                    seq=0,
                    id=known.id,
                    state=known.state,
                    at_us=known.received_us,
                    detail="the answer is no longer kept",
                )
            )

    def _cancel(self, message: Cancel, seen: Seen, page: Page) -> None:
        """Not begun: cancelled. Being done: let go when it is. Done: let go now. Never seen: never to be taken."""
        known = seen.requests.get(message.id)
        entry = self.desk.opened.get(message.id)
        control = [c for c in self.desk.house.controls.values() if c.id == message.id]
        page.note(Step.CANCEL_ASKED.value, page.now_us, message=message.id, party=message.by_party)
        if known is None or known.state == UNKNOWN:
            self._bury(message, seen, page)
        elif entry is not None and (entry.acting or entry.ending):
            entry.cancelled = True
        elif known.is_final:
            page.controls.extend(
                ended_now(each, self.desk.end_us(each, page.now_us), Reason.CANCELLED) for each in control
            )
            self._again(known, page)
        elif known.command is not None and known.id not in page.results:
            if entry is not None:
                entry.cancelled = True
            page.finish(known.command, "CANCELLED", page.now_us, reason=Reason.CANCELLED)
            self.desk.settle_smaller(page, known.command)

    def _bury(self, message: Cancel, seen: Seen, page: Page) -> None:
        result = Result(
            seq=0,
            id=message.id,
            state="CANCELLED",
            at_us=page.now_us,
            reason=Reason.CANCELLED,
            detail="the gateway never had it, and will not take it",
        )
        seen.requests[message.id] = self._tombstone(message.id, "CANCELLED", ATTEMPT_ALL, page, result)
        page.out.append(result)

    def _reconcile(self, message: Reconcile, seen: Seen, page: Page) -> None:
        unknown, refused = [], []
        attempts = [*message.attempts, *([1] * len(message.ids))]
        for id, attempt in zip(message.ids, attempts, strict=False):
            known = seen.requests.get(id)
            if known is None or known.state == UNKNOWN:
                up_to = max(attempt, known.attempt) if known is not None else attempt
                unknown.append(id)
                refused.append(up_to)
                seen.requests[id] = self._tombstone(id, UNKNOWN, up_to, page)
            else:
                self._again(known, page)
        if unknown:
            page.out.append(Known(seq=0, unknown=unknown, attempts=refused))
            page.note("reconciled", page.now_us, detail=f"{len(unknown)} of {len(message.ids)} never came")

    def _tombstone(
        self, id: str, state: str, attempt: int, page: Page, result: Result | None = None
    ) -> Request:
        request = Request(
            id=id,
            party="",
            party_ref="",
            state=state,
            attempt=attempt,
            received_us=page.now_us,
            start_us=0,
            act_by_us=0,
            result=result,
        )
        page.requests.append(request)
        return request


def _digest(command: Command) -> str:
    """What the journal holds of a command's body."""
    return payload_digest(command.salt, bytes(command.body))


class _Take(Protocol):
    def __call__(self) -> None: ...


def begins_at(request: Request) -> str:
    """Return when a request begins that waits for its time, in words for its receipt."""
    return f"begins {to_rfc3339(request.start_us)}" if request.start_us > request.received_us else ""


def state_of(refused: Refused) -> str:
    """Return the final state that a refusal is."""
    if refused.reason is Reason.CANCELLED:
        return "CANCELLED"
    return "EXPIRED" if refused.reason is Reason.DEADLINE_PASSED else "REFUSED"


def ended_now(control: Control, now_us: int, reason: Reason) -> Control:
    """Return the control as one that is due to be let go, and why."""
    return replace(control, ends_us=min(control.ends_us, now_us), reason=reason.value)


def applied(desk: Desk, page: Page) -> Applied:
    """Return what the gateway will hold when this page is written."""
    house = desk.house
    version = page.provision[0] if page.provision is not None else house.provision_version
    versions = house.versions() | {grant: held.document.version for grant, held in page.grants.items()}
    held = {
        grant: number
        for grant, number in versions.items()
        if number > page.ended.get(grant, -1) and not house.is_ended(grant, number)
    }
    return Applied(seq=0, version=version, at_us=page.now_us, grants=held, failed=page.failed)
