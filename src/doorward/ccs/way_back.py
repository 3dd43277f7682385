"""The steps of the way back: what a gateway's messages do to a request, and whether its answer may leave.

Pure: each takes the request and returns what it becomes, with the journal steps that explain it.
"""

import random

import msgspec
from msgspec.structs import replace

from doorward.ccs.rules import access
from doorward.ccs.rules.facts import RAW_NULL, Event, Grant, JournalRow, Party, Place, Request, StepRecord
from doorward.ccs.rules.lifecycle import Event as Move
from doorward.ccs.rules.lifecycle import State, after, event_of_result
from doorward.kit.ids import uuid7
from doorward.wire.messages import Notice, Receipt, Result
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor, Outcome, Step

Steps = list[StepRecord]

RESULT_BYTES_MAX = 256 * 1024


def take_receipt(request: Request, receipt: Receipt) -> tuple[Request, Steps]:
    """S1.06, S1.07, S1.10: the gateway says what it did and when. A repeated receipt changes nothing."""
    if _already(request, receipt.step):
        return request, []
    moved = after(State(request.state), Move.RECEIPT)
    times = {
        Step.GATEWAY_RECEIVED: "at_gateway_us",
        Step.PASSED_TO_HAN: "to_han_us",
        Step.ANSWER_RECEIVED: "answered_us",
    }
    changes: dict[str, object] = {}
    if receipt.step in times:
        changes[times[receipt.step]] = receipt.at_us
    if receipt.step is Step.RELEASED:
        changes["ready_us"] = None
    if moved is not None:
        changes |= {"state": moved, "ready_us": None, "warn_us": 0}
        if not request.at_gateway_us:
            changes.setdefault("at_gateway_us", receipt.at_us)
    step = StepRecord(
        at_us=receipt.at_us,
        step=receipt.step,
        outcome=receipt.outcome,
        reason=receipt.reason,
        detail=receipt.detail[:500],
    )
    return replace(request, **changes), [step]


def _already(request: Request, step: Step) -> bool:
    if step in (Step.GATEWAY_RECEIVED, Step.GATEWAY_CHECKED):
        return bool(request.at_gateway_us)
    if step is Step.PASSED_TO_HAN:
        return bool(request.to_han_us)
    if step in (Step.DEVICE_ANSWERED, Step.ANSWER_RECEIVED):
        return bool(request.answered_us)
    return False


def take_result(request: Request, result: Result, now_us: int) -> tuple[Request, Steps]:
    """S1.11, S1.15, S2.12, S2.16: the gateway's result ends the request, or settles an unconfirmed one.

    Returns the same request and no steps for a repeated or unknown result: final states never move.
    """
    move = event_of_result(result.state)
    if move is None:
        return request, []
    passed = StepRecord(
        at_us=result.at_us, step=Step.PASSED_TO_CCS, reason=result.reason, detail=result.detail[:500]
    )
    state = after(State(request.state), move)
    if state is None:
        if request.state == State.UNCONFIRMED and not request.settlement:
            return _settled(request, result, passed, now_us)
        return request, []
    data = result.data if len(bytes(result.data)) <= RESULT_BYTES_MAX else msgspec.Raw(b"null")
    done = replace(
        request,
        state=state,
        ready_us=None,
        warn_us=0,
        at_gateway_us=request.at_gateway_us or result.at_us,
        passed_up_us=result.at_us,
        taken_us=now_us,
        final_us=now_us,
        reason=result.reason,
        detail=result.detail[:500],
        result=data,
    )
    outcome = Outcome.OK if state is State.DONE else Outcome.FAILED
    recorded = StepRecord(
        at_us=now_us, step=Step.ANSWER_RECORDED, outcome=outcome, reason=result.reason, detail=state.value
    )
    return done, [passed, recorded]


def _settled(request: Request, result: Result, passed: StepRecord, now_us: int) -> tuple[Request, Steps]:
    if result.state == State.UNCONFIRMED:
        return request, []
    settlement = "DONE" if result.state == State.DONE else "NOT_DONE"
    settled = replace(
        request, settlement=settlement, taken_us=now_us, passed_up_us=result.at_us, result=result.data
    )
    return settled, [passed, StepRecord(at_us=now_us, step=Step.SETTLED, detail=settlement)]


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


def journal_of(request: Request, steps: Steps, now_us: int) -> JournalRow:
    """Return the row that explains what one transaction did to a request."""
    return JournalRow(
        message=request.id,
        at_us=now_us,
        party=request.party,
        service_point=request.service_point,
        gateway=request.gateway,
        device=request.device,
        steps=steps,
    )


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
