"""What one transaction of the gateway writes, and what may happen only after it.

Whoever decides fills a page; the journey writes it in one commit. Nothing leaves the gateway, and no
device is told anything, that is not on a page that has been written (P17).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from doorward.spg.rules.facts import Charge, Control, Held, Intent, JournalRow, Mark, Request
from doorward.wire.chain import Head, payload_digest
from doorward.wire.grants import TrustDocument
from doorward.wire.messages import Attempt, Command, ProvisionedDevice, Receipt, Result, Up
from doorward.wire.reasons import Reason
from doorward.wire.steps import Actor, Outcome, Step, actor_of

RAW_NULL = msgspec.Raw(b"null")


@dataclass(slots=True)
class Page:
    """One transaction's writing. ``follow`` runs after the commit, in order."""

    now_us: int
    mark: Mark | None = None
    born_us: int = 0
    provision: tuple[int, list[ProvisionedDevice]] | None = None
    requests: list[Request] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    settled: list[Charge] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    acted: list[tuple[str, str, int]] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    trust: TrustDocument | None = None
    grants: dict[str, Held] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    journal: list[JournalRow] = field(default_factory=list)
    out: list[Up] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    heads: Sequence[Head] = ()
    """What the CCS said of its own record with what is taken here."""
    checkpoint: str = ""
    follow: list[Callable[[], object]] = field(default_factory=list)

    def step(
        self,
        command: Command,
        step: Step,
        at_us: int,
        *,
        outcome: Outcome = Outcome.OK,
        reason: Reason | None = None,
        detail: str = "",
        device: str = "",
        tell: bool = True,
        payload: str = "",
    ) -> None:
        """Record a step of a request, and (``tell``) send the CCS its receipt."""
        self.note(
            step.value,
            at_us,
            message=command.id,
            actor=actor_of(step),
            party=command.party,
            service_point=command.service_point,
            device=device or command.device,
            outcome=outcome,
            reason=reason,
            detail=detail,
            payload=payload,
        )
        if tell:
            self.receipt(command.id, step, at_us, outcome=outcome, reason=reason, detail=detail)

    def receipt(
        self,
        id: str,
        step: Step,
        at_us: int,
        *,
        outcome: Outcome = Outcome.OK,
        reason: Reason | None = None,
        detail: str = "",
    ) -> None:
        """Send the CCS a receipt."""
        self.out.append(
            Receipt(seq=0, id=id, step=step, at_us=at_us, outcome=outcome, reason=reason, detail=detail)
        )

    def finish(
        self,
        command: Command,
        state: str,
        at_us: int,
        *,
        reason: Reason | None = None,
        detail: str = "",
        data: msgspec.Raw = RAW_NULL,
    ) -> Result:
        """End a request: result stored, recorded, and sent until it is acknowledged."""
        result = Result(
            seq=0, id=command.id, state=state, at_us=at_us, reason=reason, detail=detail, data=data
        )
        self.results[command.id] = result
        self.out.append(result)
        self.note(
            Step.PASSED_TO_CCS.value,
            at_us,
            message=command.id,
            party=command.party,
            service_point=command.service_point,
            device=command.device,
            outcome=_OUTCOMES.get(state, Outcome.FAILED),
            reason=reason,
            detail=f"{state}: {detail}" if detail else state,
            payload=payload_digest(command.salt, bytes(data)),
        )
        return result

    def note(
        self,
        step: str,
        at_us: int,
        *,
        message: str = "",
        actor: Actor = Actor.GATEWAY,
        party: str = "",
        service_point: str = "",
        device: str = "",
        outcome: Outcome = Outcome.OK,
        reason: Reason | None = None,
        detail: str = "",
        payload: str = "",
    ) -> None:
        """Record something in the gateway's journal."""
        self.journal.append(
            JournalRow(
                at_us=at_us,
                step=step,
                message=message,
                actor=actor.value,
                party=party,
                service_point=service_point,
                device=device,
                outcome=outcome.value,
                reason=reason.value if reason else "",
                detail=detail,
                payload=payload,
            )
        )

    def attempt(self, attempt: Attempt | None) -> None:
        """Record an unauthorised attempt and report it (F25, F26); ``None`` was only counted."""
        if attempt is None:
            return
        self.out.append(attempt)
        self.note(
            "attempt",
            attempt.at_us,
            message=attempt.message,
            party=attempt.party,
            device=attempt.device,
            outcome=Outcome.REFUSED,
            reason=attempt.reason,
            detail=f"{attempt.direction}, {attempt.count} times: {attempt.detail}",
        )


_OUTCOMES = {
    "DONE": Outcome.OK,
    "REFUSED": Outcome.REFUSED,
    "EXPIRED": Outcome.REFUSED,
    "CANCELLED": Outcome.REFUSED,
}
