"""Cancel requests in one transaction: by a third party, by the end of access, by the utility."""

import random
from collections.abc import Iterable

from doorward.ccs import way_back, way_out
from doorward.ccs.ports import Books
from doorward.ccs.rules.facts import Request
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.weighing import give_back, is_weighed
from doorward.wire.reasons import Reason
from doorward.wire.steps import Actor


async def cancel_requests(
    books: Books, requests: Iterable[Request], now_us: int, by: Actor, reason: Reason, rng: random.Random
) -> list[Request]:
    """Cancel locked requests, give back what they were charged if they were never sent; return the changed."""
    changed, rows, events, unsent, quarantined = [], [], [], [], []
    for request in requests:
        after_it, steps = way_back.cancel(request, now_us, by, reason)
        if not steps:
            continue
        changed.append(after_it)
        if request.state == State.QUARANTINED:
            quarantined.append(request.id)
        rows.append(way_back.journal_of(after_it, steps, now_us))
        if after_it.final_us == now_us:
            unsent.append(after_it)
            events.append(way_back.result_event(after_it, now_us, rng))
    await refund(books, unsent)
    never = [each.id for each in unsent if each.state == State.CANCELLED and is_weighed(each)]
    await give_back(books, never, now_us)
    if quarantined:
        await books.end_quarantine(quarantined)
    await books.update_requests(changed)
    await books.write_journal(rows)
    await books.add_events(events)
    return changed


async def refund(books: Books, requests: Iterable[Request]) -> None:
    """Settle requests that were never sent: nothing was used of what they were charged."""
    charged = [request for request in requests if request.charged and not request.sent_us]
    if not charged:
        return
    logs = await books.lock_limits({key for each in charged for key in way_out.limit_keys(each)})
    for request in charged:
        way_out.uncharge(logs, request, request.charged)
    await books.write_limits(list(logs.values()))
