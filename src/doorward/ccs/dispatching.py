"""What is sent to gateways: is access still there, is the charge still fresh, which try is it."""

import random
from collections.abc import Mapping

from msgspec.structs import replace

from doorward.ccs import way_back, way_out
from doorward.ccs.callers import pair_of
from doorward.ccs.ports import Books, Pair
from doorward.ccs.rules import limits
from doorward.ccs.rules.facts import Gateway, Grant, JournalRow, Request, StepRecord
from doorward.ccs.rules.lifecycle import Event as Move
from doorward.ccs.rules.lifecycle import State, after
from doorward.ccs.terms import Terms
from doorward.ccs.way_out import Entry
from doorward.wire.reasons import Reason
from doorward.wire.steps import Actor, Step
from doorward.wire.vocabulary import Operation

_TO_SEND = frozenset({State.ACCEPTED, State.QUEUED, State.SENT})

NEWS_US = 10_000_000
"""Upkeep tells gateways of changed permissions within seconds; until then whoever asks first does."""


def needs_grant(request: Request) -> bool:
    """Whether a live grant is needed to send: letting go always passes."""
    return request.operation is not Operation.RELEASE and not request.cancel_asked


async def charge_again(
    books: Books, ready: list[Request], terms: Terms, now_us: int
) -> tuple[list[Request], list[JournalRow]]:
    """Settle and charge anew what waited too long after its charge; what does not fit now waits on.

    Returns what may be sent, and journal rows for what was charged anew.
    """
    stale = {request.id: request for request in ready if is_stale(request, now_us)}
    if not stale:
        return ready, []
    places = await books.places({request.service_point for request in stale.values()}, now_us)
    tiers = await books.tiers()
    logs = await books.lock_limits({key for request in stale.values() for key in way_out.limit_keys(request)})
    fit, wait, rows = [request for request in ready if request.id not in stale], [], []
    for request in stale.values():
        place = places.get(request.service_point)
        if place is None:
            continue
        if request.state != State.SENT:  # what was sent may have arrived: then its first charge stands too
            way_out.uncharge(logs, request, request.charged)
        held = way_out.accounts(request.party, place, tiers[request.tier], logs, terms)
        moment = limits.earliest(held, request.charged, now_us)
        if moment > now_us + limits.TICK_US:
            wait.append(replace(request, ready_us=moment, charge_us=0))
            continue
        ticket = limits.admit(held, request.charged, now_us)
        fit.append(replace(request, charge_us=ticket.charge_us))
        rows.append(way_back.journal_of(request, [StepRecord(at_us=now_us, step=Step.RECHARGED)], now_us))
    await books.write_limits(list(logs.values()))
    await books.update_requests(wait)
    return fit, rows


def is_new(grant: Grant | None, now_us: int) -> bool:
    """Whether a permission changed so lately that its gateway may not have heard of it."""
    return grant is not None and now_us - grant.changed_us < NEWS_US


def is_behind(gateway: Gateway) -> bool:
    """Whether a gateway has not confirmed yet what it should hold."""
    return gateway.applied_version < gateway.desired_version


def is_stale(request: Request, now_us: int) -> bool:
    """Whether a request has waited so long that its charge no longer says when it is sent."""
    return (
        bool(request.charged)
        and request.state in _TO_SEND
        and not request.cancel_asked
        and now_us - request.charge_us > limits.STALE_US
    )


def send(
    request: Request, grants: Mapping[Pair, Grant], terms: Terms, rng: random.Random, now_us: int
) -> tuple[Request, list[StepRecord], bool]:
    """Return what a ready request becomes, why, and whether it is sent (S1.05, S2.06)."""
    grant = grants.get(pair_of(request))
    if needs_grant(request) and (grant is None or grant.state != "live"):
        return *way_back.cancel(request, now_us, Actor.CCS, Reason.ACCESS_DISABLED), False
    if request.cancel_asked and State(request.state).is_final and request.until_us <= now_us:
        return replace(request, ready_us=None), [], False
    sent = replace(
        request,
        state=after(State(request.state), Move.SEND) or request.state,
        attempt=request.attempt + 1,
        sent_us=request.sent_us or now_us,
        ready_us=now_us + _pause_us(request.attempt, terms, rng),
    )
    return sent, way_out.sent_steps(sent, now_us), True


def at_once(
    entry: Entry,
    room: dict[str, int],
    grants: Mapping[Pair, Grant],
    terms: Terms,
    rng: random.Random,
    now_us: int,
) -> Entry:
    """Return a new request as sent, if its time has come, its gateway has room and knows its permission."""
    request = entry.request
    ready = request.ready_us is not None and request.ready_us <= now_us
    if not ready or not room.get(request.gateway) or is_new(grants.get(pair_of(request)), now_us):
        return entry
    room[request.gateway] -= 1
    sent, _, _ = send(request, grants, terms, rng, now_us)
    return Entry(sent, entry.ticket)


def _pause_us(attempt: int, terms: Terms, rng: random.Random) -> int:
    """Return how long to wait for a receipt before the next try: exponential, with jitter, bounded."""
    full_us = min(terms.resend_max_us, terms.resend_first_us << min(attempt, 16))
    return int(full_us * (0.5 + rng.random() / 2))
