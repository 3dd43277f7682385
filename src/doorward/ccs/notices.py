"""Device-originated notices at the CCS: authorised now, charged one, told to the third party or withheld."""

import random
from collections.abc import Sequence
from typing import Protocol

from doorward.ccs import way_back, way_out
from doorward.ccs.ports import Books
from doorward.ccs.rules import access, limits
from doorward.ccs.rules.facts import Event, Grant, JournalRow, LimitLog, Party, Place, StepRecord, Tier
from doorward.ccs.terms import Terms
from doorward.wire.messages import Notice
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor, Outcome, Step

CHARGE = 1


class Taking(Protocol):
    """Where the effects of a batch of frames gather."""

    rows: list[JournalRow]
    events: list[Event]


async def take_notices(
    books: Books, notices: Sequence[Notice], taken: Taking, terms: Terms, rng: random.Random, now_us: int
) -> None:
    """Let notices have their effect, once each: an event for the third party, or a recorded refusal."""
    seen = await books.events([notice.id for notice in notices])
    fresh = {notice.id: notice for notice in notices if notice.id not in seen}
    if not fresh:
        return
    pairs = {(notice.party, notice.service_point) for notice in fresh.values()}
    parties = await books.parties({party for party, _ in pairs})
    places = await books.places({place for _, place in pairs}, now_us)
    grants = await books.grants(pairs)
    tiers = await books.tiers()
    logs = await books.lock_limits({key for pair in pairs for key in _keys(*pair)})
    for notice in fresh.values():
        pair = (notice.party, notice.service_point)
        place, grant = places.get(notice.service_point), grants.get(pair)
        try:
            _admit(notice, parties.get(notice.party), place, grant, tiers, logs, terms, now_us)
        except Refused as refusal:
            taken.rows.append(_row(notice, place, refusal, now_us))
            if refusal.reason is Reason.LIMIT_EXCEEDED:
                taken.events.append(_warning(notice, refusal, now_us, rng))
            continue
        taken.events.append(way_back.notice_event(notice, now_us))
        taken.rows.append(_row(notice, place, None, now_us))
    await books.write_limits(list(logs.values()))


def _keys(party: str, service_point: str) -> tuple[str, str]:
    return limits.service_point_key(service_point), limits.party_key(party, service_point)


def _admit(
    notice: Notice,
    party: Party | None,
    place: Place | None,
    grant: Grant | None,
    tiers: dict[str, Tier],
    logs: dict[str, LimitLog],
    terms: Terms,
    now_us: int,
) -> None:
    way_back.authenticate_target(party)
    access.authorise_notice(notice.device, place, grant, now_us)
    assert place is not None
    assert grant is not None
    if grant.document.utility:
        return
    held = way_out.accounts(notice.party, place, tiers[grant.tier], logs, terms)
    limits.admit(held, CHARGE, now_us, terms.grace_us)


def _warning(notice: Notice, refusal: Refused, now_us: int, rng: random.Random) -> Event:
    return way_out.warning(
        notice.id,
        notice.party,
        notice.service_point,
        notice.device,
        now_us,
        refusal.reason,
        refusal.detail,
        now_us,
        rng,
    )


def _row(notice: Notice, place: Place | None, refusal: Refused | None, now_us: int) -> JournalRow:
    said = StepRecord(at_us=notice.at_us, step=Step.DEVICE_ANSWERED, by=Actor.DEVICE, detail=notice.kind)
    steps = [said, StepRecord(at_us=now_us, step=Step.ANSWER_RECORDED)]
    if refusal is None:
        steps.append(StepRecord(at_us=now_us, step=Step.TARGET_AUTHORISED))
    else:
        steps.append(
            StepRecord(
                at_us=now_us,
                step=Step.WITHHELD,
                outcome=Outcome.REFUSED,
                reason=refusal.reason,
                detail=refusal.detail,
            )
        )
    return JournalRow(
        message=notice.id,
        at_us=now_us,
        party=notice.party,
        service_point=notice.service_point,
        gateway=place.gateway if place else "",
        device=notice.device,
        steps=steps,
    )
