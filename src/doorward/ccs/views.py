"""What third parties are shown of requests, events and grants: plain dictionaries, ready for JSON."""

from typing import Any

import msgspec

from doorward.ccs.rules.facts import Event, Grant, JournalRow, Request
from doorward.ccs.rules.limits import Ticket
from doorward.ccs.sentences import sentence
from doorward.wire.steps import SCENARIO
from doorward.wire.times import to_rfc3339
from doorward.wire.vocabulary import Operation

View = dict[str, Any]


def when(us: int) -> str | None:
    """Return a time for JSON; 0 means that it has not happened."""
    return to_rfc3339(us) if us else None


def request_view(request: Request, ticket: Ticket | None = None) -> View:
    """Return the request resource; its ``result`` is whatever the caller was authorised to see."""
    view: View = {
        "id": request.id,
        "state": request.state,
        "operation": request.operation,
        "scope": request.scope,
        "service_point": request.service_point,
        "device": request.device or None,
        "format": request.format or None,
        "start": when(request.start_us),
        "until": when(request.until_us),
        "cause": request.cause or None,
        "campaign": request.campaign or None,
        "priority": request.wish,
        "key": request.key or None,
        "received": when(request.received_us),
        "deadline": when(request.due_us),
        "final": when(request.final_us),
        "reason": request.reason,
        "detail": request.detail,
        "answer": request.answer,
        "settlement": request.settlement,
        "cancel_asked": request.cancel_asked,
        "result": request.result,
        "attempts": request.attempt,
        "links": {
            "self": f"/v1/requests/{request.id}",
            "journey": f"/v1/requests/{request.id}/journey",
        },
    }
    if ticket is not None and ticket.limit:
        view["remaining"] = {
            "limit": ticket.limit,
            "remaining": ticket.remaining,
            "window_s": ticket.window_us // 1_000_000,
            "reset": when(ticket.reset_us),
        }
    return view


def result_data(request: Request) -> View:
    """Return the data of a ``request.result`` event for a target that was authorised just now."""
    return {
        "state": request.state,
        "reason": request.reason,
        "detail": request.detail,
        "answer": request.answer,
        "settlement": request.settlement,
        "result": request.result,
    }


def event_view(event: Event) -> View:
    """Return an event without its data."""
    return {
        "id": event.id,
        "cursor": event.cursor,
        "type": event.kind,
        "created": when(event.created_us),
        "request": event.request or None,
        "service_point": event.service_point or None,
        "device": event.device or None,
        "grant": event.grant or None,
    }


def journey_view(request: Request, rows: list[JournalRow]) -> View:
    """Return every step with its time, actor and outcome, and F18's times in one answer."""
    steps = [step for row in rows for step in row.steps]
    column = 0 if request.operation is Operation.READ else 1
    handed = [step.at_us for step in steps if step.step == "handed_over"]
    return {
        "request": request.id,
        "third_party": request.party,
        "service_point": request.service_point,
        "gateway": request.gateway,
        "device": request.device or None,
        "operation": request.operation,
        "state": request.state,
        "answer": request.answer,
        "times": {
            "received": when(request.received_us),
            "pushed_to_gateway": when(request.sent_us),
            "received_at_gateway": when(request.at_gateway_us),
            "pushed_to_han": when(request.to_han_us),
            "answered": when(request.answered_us),
            "pushed_to_ccs": when(request.passed_up_us),
            "received_by_ccs": when(request.taken_us),
            "pushed_to_third_party": when(min(handed, default=0)),
        },
        "steps": [
            {
                "at": when(step.at_us),
                "step": step.step,
                "actor": step.actor,
                "outcome": step.outcome,
                "reason": step.reason,
                "detail": step.detail,
                "sentence": sentence(step),
                "scenario": list(SCENARIO[step.step][column]) if step.step in SCENARIO else [],
            }
            for step in steps  # as committed: what caused what, whatever the clocks of the hops say
        ],
    }


def grant_view(grant: Grant) -> View:
    """Return a grant as its third party sees it."""
    document = grant.document
    return {
        "id": grant.id,
        "service_point": grant.service_point,
        "version": grant.version,
        "state": grant.state,
        "purpose": document.purpose,
        "tier": grant.tier,
        "not_before": when(document.not_before_us),
        "expires": when(document.expires_us),
        "devices": [
            {
                "id": permit.device,
                "class": permit.device_class,
                "operations": permit.operations,
                "bounds": msgspec.to_builtins(permit.bounds),
            }
            for permit in document.devices
        ],
        "service_point_limit": document.service_point_limit,
        "sequence": grant.sequence,
    }
