"""The steps of the way back: what a gateway's messages do to a request, and whether its answer may leave.

Pure: each takes the request and returns what it becomes, with the journal steps that explain it.
"""

import random
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from doorward.ccs.rules import access
from doorward.ccs.rules.facts import RAW_NULL, Event, Grant, JournalRow, Party, Place, Request, StepRecord
from doorward.ccs.rules.lifecycle import Event as Move
from doorward.ccs.rules.lifecycle import State, after, event_of_result
from doorward.kit.ids import uuid7
from doorward.wire.chain import payload_digest
from doorward.wire.messages import ATTEMPT_ALL, Notice, Receipt, Result
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor, Outcome, Step

Steps = list[StepRecord]

RESULT_BYTES_MAX = 256 * 1024
DETAIL_CHARS_MAX = 500


class _Moving:
    """A request while a batch of messages about it is taken: read through, written once at the end."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._changes: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        changes = self._changes
        return changes[name] if name in changes else getattr(self._request, name)

    def set(self, **changes: Any) -> None:
        self._changes.update(changes)

    def done(self) -> Request:
        return replace(self._request, **self._changes) if self._changes else self._request


def take_messages(
    request: Request, messages: Iterable[Receipt | Result], now_us: int
) -> tuple[Request, Steps]:
    """S1.06–S1.11, S1.15, S2.07–S2.12, S2.16: what the gateway says of a request, in its order.

    A repeated or unknown message changes nothing and gives no steps: final states never move.
    """
    moving = _Moving(request)
    steps: Steps = []
    for message in messages:
        if isinstance(message, Receipt):
            steps += _take_receipt(moving, message)
        else:
            steps += _take_result(moving, message, now_us)
    return moving.done(), steps


_TIMES = {
    Step.GATEWAY_RECEIVED: "at_gateway_us",
    Step.GATEWAY_CHECKED: "at_gateway_us",
    Step.PASSED_TO_HAN: "to_han_us",
    Step.DEVICE_ANSWERED: "answered_us",
    Step.ANSWER_RECEIVED: "answered_us",
}
"""Where the time of a step at the gateway is kept: what has a time already was told before."""
_KEPT = (Step.GATEWAY_RECEIVED, Step.PASSED_TO_HAN, Step.ANSWER_RECEIVED)


def _take_receipt(moving: _Moving, receipt: Receipt) -> Steps:
    """S1.06, S1.07, S1.10: the gateway says what it did and when."""
    time = _TIMES.get(receipt.step)
    if time is not None and moving.get(time):
        return []
    if receipt.step is Step.RELEASED:
        moving.set(ready_us=None)
    moved = after(moving.get("state"), Move.RECEIPT)
    if moved is not None:
        moving.set(state=moved, ready_us=None, warn_us=0)
        if not moving.get("at_gateway_us"):
            moving.set(at_gateway_us=receipt.at_us)
    if time is not None and receipt.step in _KEPT:
        moving.set(**{time: receipt.at_us})
    return [
        StepRecord(
            at_us=receipt.at_us,
            step=receipt.step,
            outcome=receipt.outcome,
            reason=receipt.reason,
            detail=receipt.detail[:DETAIL_CHARS_MAX],
        )
    ]


def _take_result(moving: _Moving, result: Result, now_us: int) -> Steps:
    """S1.11, S1.15, S2.12, S2.16: the result ends the request, or settles an unconfirmed one."""
    move = event_of_result(result.state)
    if move is None:
        return []
    passed = StepRecord(
        at_us=result.at_us,
        step=Step.PASSED_TO_CCS,
        reason=result.reason,
        detail=result.detail[:DETAIL_CHARS_MAX],
    )
    state = after(moving.get("state"), move)
    if state is None:
        return _settle(moving, result, passed, now_us)
    moving.set(
        state=state,
        ready_us=None,
        warn_us=0,
        at_gateway_us=moving.get("at_gateway_us") or result.at_us,
        passed_up_us=result.at_us,
        taken_us=now_us,
        final_us=now_us,
        reason=result.reason,
        detail=result.detail[:DETAIL_CHARS_MAX],
        result=_bounded(result.data),
    )
    outcome = Outcome.OK if state is State.DONE else Outcome.FAILED
    recorded = StepRecord(
        at_us=now_us, step=Step.ANSWER_RECORDED, outcome=outcome, reason=result.reason, detail=state.value
    )
    return [passed, recorded]


def _settle(moving: _Moving, result: Result, passed: StepRecord, now_us: int) -> Steps:
    """Proof of an unconfirmed request arrived: said once, beside the state that never moves."""
    unconfirmed = moving.get("state") == State.UNCONFIRMED and not moving.get("settlement")
    if not unconfirmed or result.state == State.UNCONFIRMED:
        return []
    settlement = "DONE" if result.state == State.DONE else "NOT_DONE"
    moving.set(
        settlement=settlement,
        taken_us=now_us,
        passed_up_us=result.at_us,
        result=_bounded(result.data),
    )
    return [passed, StepRecord(at_us=now_us, step=Step.SETTLED, detail=settlement)]


def _bounded(data: msgspec.Raw) -> msgspec.Raw:
    return data if len(bytes(data)) <= RESULT_BYTES_MAX else RAW_NULL


def result_event(request: Request, now_us: int, rng: random.Random) -> Event:
    """Return the notice that a request has ended; it carries no customer data."""
    return _event(request, "request.result", now_us, rng)


def receipt_event(request: Request, now_us: int, rng: random.Random) -> Event:
    """Return the notice that the gateway has a request."""
    return _event(request, "request.receipt", now_us, rng)


def _event(request: Request, kind: str, now_us: int, rng: random.Random) -> Event:
    return Event(
        id=uuid7(now_us, rng),
        party=request.party,
        kind=kind,
        created_us=now_us,
        next_us=now_us,
        request=request.id,
        service_point=request.service_point,
        device=request.device,
        grant=request.grant,
        gateway=request.gateway,
    )


def notice_event(notice: Notice, now_us: int) -> Event:
    """Return the event of a device-originated notice."""
    return Event(
        id=notice.id,
        party=notice.party,
        kind="device.notice",
        created_us=now_us,
        next_us=now_us,
        service_point=notice.service_point,
        device=notice.device,
        grant=notice.grant,
        data=msgspec.Raw(
            msgspec.json.encode({"kind": notice.kind, "at_us": notice.at_us, "data": notice.data})
        ),
    )


def authenticate_target(party: Party | None) -> Party:
    """S1.12, S2.13: the third party exists and is in good standing at this moment."""
    if party is None:
        raise Refused(Reason.NOT_AUTHENTICATED, "there is no such third party")
    if party.state != "active":
        raise Refused(Reason.PARTY_SUSPENDED)
    return party


def hand_over(
    request: Request,
    party: Party | None,
    place: Place | None,
    grant: Grant | None,
    channel: str,
    now_us: int,
) -> tuple[Request, Steps]:
    """S1.12–S1.17, S2.13–S2.18: authenticate and authorise the target **again, now**; hand over or withhold.

    The commit of these steps is the moment of the hand-over. Once withheld, an answer stays withheld.
    """
    if request.answer == "WITHHELD" or not request.final_us:
        return request, []
    try:
        authenticate_target(party)
    except Refused as refusal:
        return _withheld(request, Step.TARGET_AUTHENTICATED, refusal, now_us)
    first = StepRecord(at_us=now_us, step=Step.TARGET_AUTHENTICATED, detail=f"by {channel}")
    if not request.taken_us:
        # Nothing came from the home: what is told is only that, and it is told once.
        return request, [] if request.answer else [first, _handing_over(channel, now_us)]
    try:
        access.authorise_answer(request, place, grant, now_us)
    except Refused as refusal:
        withheld, steps = _withheld(request, Step.TARGET_AUTHORISED, refusal, now_us)
        return withheld, [first, *steps]
    return request, [
        first,
        StepRecord(at_us=now_us, step=Step.TARGET_AUTHORISED),
        _handing_over(channel, now_us),
    ]


def _handing_over(channel: str, now_us: int) -> StepRecord:
    return StepRecord(at_us=now_us, step=Step.HANDING_OVER, detail=f"by {channel}")


def handed_over(request: Request, channel: str, now_us: int) -> tuple[Request, StepRecord]:
    """S1.17, S2.18: the data was sent."""
    step = StepRecord(at_us=now_us, step=Step.HANDED_OVER, detail=f"by {channel}")
    if request.answer == "DELIVERED":
        return request, step
    return replace(request, answer="DELIVERED", answer_us=now_us), step


def _withheld(request: Request, at: Step, refusal: Refused, now_us: int) -> tuple[Request, Steps]:
    if request.answer:
        changed = request
    else:
        changed = replace(request, answer="WITHHELD", answer_us=now_us, result=msgspec.Raw(b"null"))
    return changed, [
        StepRecord(
            at_us=now_us, step=at, outcome=Outcome.REFUSED, reason=refusal.reason, detail=refusal.detail
        ),
        StepRecord(at_us=now_us, step=Step.WITHHELD, outcome=Outcome.REFUSED, reason=refusal.reason),
    ]


def expire(request: Request, now_us: int, reason: Reason, detail: str = "") -> tuple[Request, Steps]:
    """The deadline passed: ``EXPIRED`` if it was never sent, ``UNCONFIRMED`` if there is no proof."""
    state = after(State(request.state), Move.DEADLINE)
    if state is None:
        return request, []
    why = reason if state is State.EXPIRED else Reason.NO_PROOF
    ended = replace(
        request, state=state, ready_us=None, warn_us=0, final_us=now_us, reason=why, detail=detail
    )
    return ended, [
        StepRecord(at_us=now_us, step=Step.EXPIRED, outcome=Outcome.FAILED, reason=why, detail=state.value)
    ]


def cancel(request: Request, now_us: int, by: Actor, reason: Reason) -> tuple[Request, Steps]:
    """Cancel what was not sent. Of what was sent the gateway is asked, and its receipt decides; a control
    that runs is let go. Returns no steps when there is nothing left to cancel.
    """
    state = after(State(request.state), Move.CANCEL)
    asked = StepRecord(at_us=now_us, step=Step.CANCEL_ASKED, by=by, reason=reason)
    if state is not None:
        ended = replace(
            request, state=state, ready_us=None, warn_us=0, final_us=now_us, reason=reason, cancel_asked=True
        )
        return ended, [asked]
    runs = request.state == State.DONE and request.until_us > now_us
    if request.cancel_asked or (State(request.state).is_final and not runs):
        return request, []
    return replace(request, cancel_asked=True, ready_us=now_us, attempt=0), [asked]


def last_attempt(request: Request) -> int:
    """Return up to which attempt its gateway is asked to refuse a request that it never had: the last one that
    was sent; all of them when it is to be cancelled (then ``attempt`` counts the askings for that)."""
    return ATTEMPT_ALL if request.cancel_asked else request.attempt


def journal_of(request: Request, steps: Steps, now_us: int) -> JournalRow:
    """Return the row that explains what one transaction did to a request."""
    answered = any(step.step in _BRINGS_ANSWER for step in steps)
    return JournalRow(
        message=request.id,
        at_us=now_us,
        party=request.party,
        service_point=request.service_point,
        gateway=request.gateway,
        device=request.device,
        steps=steps,
        payload=payload_digest(request.salt, bytes(request.result)) if answered else "",
    )


_BRINGS_ANSWER = (Step.ANSWER_RECORDED, Step.SETTLED)
"""Steps with which the home's answer is stored beside the journal, which holds its digest."""


def close_hand_over(
    request: Request, steps: Steps, channel: str, now_us: int
) -> tuple[Request, Steps, Request]:
    """Finish a hand-over to one who holds the line.

    Returns the request, all steps, and the request as it may be shown: without the result unless it was
    handed over just now.
    """
    if not steps or steps[-1].step is not Step.HANDING_OVER:
        return request, steps, without_result(request)
    over, last = handed_over(request, channel, now_us)
    return over, [*steps, last], over


def without_result(request: Request) -> Request:
    """Return a request without the customer's data."""
    return replace(request, result=RAW_NULL)
