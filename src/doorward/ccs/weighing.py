"""On the scales (X04): each control is weighed against the caps in the transaction that accepts it.

What is over a cap goes on record and waits in quarantine. Reads and letting go are not weighed, and cost nothing.
"""

import random
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from doorward.ccs import way_out
from doorward.ccs.ports import Books, Pair
from doorward.ccs.rules import fleet
from doorward.ccs.rules.facts import Device, Event, Request
from doorward.ccs.rules.feed import request_news
from doorward.ccs.rules.fleet import Hold, Load, Quarantined, Scales
from doorward.ccs.rules.lifecycle import State
from doorward.ccs.terms import Terms
from doorward.ccs.way_out import Accepted, Admitted, Declined, Entry, Facts
from doorward.wire.messages import Command
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation, Scope

US = 1_000_000
FULL_RETRY_S = 60.0

Standing = Entry | Declined | Accepted


def is_weighed(request: Request | Command) -> bool:
    """Whether a request may move load."""
    return request.operation.is_control and request.operation is not Operation.RELEASE


class Weighing:
    """What one transaction weighed. :meth:`write` follows once it is known what went on record."""

    def __init__(self, books: Books, facts: Facts, terms: Terms, now_us: int) -> None:
        self._books = books
        self._facts = facts
        self._terms = terms
        self._now_us = now_us
        self._charged: dict[str, tuple[Load, int, Hold | None]] = {}
        self._over: dict[str, Quarantined] = {}
        self._holds: dict[Pair, Hold] = {}
        self._full = 0
        self._scales = Scales({}, terms.fleet, now_us)

    async def weigh(
        self, admitted: Sequence[Admitted | Declined | Accepted], entries: list[Standing]
    ) -> list[Standing]:
        """Return the entries with those that are over a cap in quarantine (or declined, if it is full)."""
        loads = await self._loads(admitted, entries)
        if not loads:
            return entries
        self._holds = await self._books.fleet_holds({(load.party, load.subject) for load in loads.values()})
        keys = {key for load in loads.values() for key in fleet.keys_of(load.party, load.area)}
        keys |= {key for hold in self._holds.values() for key in fleet.keys_of(hold.party, hold.area)}
        self.logs = await self._books.lock_fleet(keys)
        self._scales = Scales(self.logs, self._terms.fleet, self._now_us)
        weighed: list[Standing] = list(entries)
        for at, load in loads.items():
            entry, source = entries[at], admitted[at]
            assert isinstance(entry, Entry)
            assert isinstance(source, Admitted)
            weighed[at] = await self._one(entry, load, source.granted.draft.deadline_us)
        return weighed

    async def _loads(
        self, admitted: Sequence[Admitted | Declined | Accepted], entries: Sequence[Standing]
    ) -> dict[int, Load]:
        controls = {
            at: (entry, source)
            for at, (entry, source) in enumerate(zip(entries, admitted, strict=True))
            if isinstance(entry, Entry) and isinstance(source, Admitted) and is_weighed(entry.request)
        }
        wide = {
            each.request.service_point
            for each, _ in controls.values()
            if each.request.scope is not Scope.DEVICE
        }
        at_home = await self._books.devices_at(wide) if wide else {}
        return {
            at: self._load(entry.request, source, at_home.get(entry.request.service_point, []))
            for at, (entry, source) in controls.items()
        }

    def _load(self, request: Request, source: Admitted, at_home: Sequence[Device]) -> Load:
        draft = source.granted.draft
        begin_us = max(request.start_us, self._now_us)
        devices = [self._facts.devices[request.device]] if request.device else at_home
        rated = sum(fleet.rated_w(each.rated_w, each.device_class) for each in devices)
        return Load(
            request=request.id,
            party=request.party,
            area=source.granted.place.area,
            subject=request.device or request.service_point,
            move=fleet.move_of(request.operation, draft.body, rated),
            begin_us=begin_us,
            until_us=request.until_us,
            campaign=bool(request.campaign),
            room_s=(draft.deadline_us - begin_us - source.tier.response_s * US) // US
            if draft.deadline_us
            else None,
        )

    async def _one(self, entry: Entry, load: Load, deadline_us: int) -> Standing:
        request = entry.request
        pair = (load.party, load.subject)
        before = self._holds.get(pair)
        if load.campaign and load.room_s is not None:
            span_s = self._scales.span_s(replace(load, room_s=None))
            if load.room_s < span_s:
                detail = (
                    f"controls of a campaign begin at random within {span_s} s; leave that much, and more"
                )
                return self._declined(
                    request, Step.VALIDATED, Refused(Reason.BODY_MALFORMED, detail, field="/deadline")
                )
        weighed = self._scales.weigh(load, before)
        spread = spread_over(request, weighed.spread_s, deadline_us, self._terms)
        if not weighed.over:
            self._charged[request.id] = (load, weighed.spread_s, before)
            self._holds[pair] = self._scales.hold(load, weighed.spread_s)
            return Entry(spread, entry.ticket)
        if await self._is_full():
            detail = f"over {weighed.over}, and quarantine is full"
            refusal = Refused(Reason.FLEET_CAP, detail, retry_after_s=FULL_RETRY_S)
            return self._declined(request, Step.ADMITTED, refusal)
        self._over[request.id] = quarantined(load, request.campaign, weighed.over, self._now_us)
        held = hold_back(spread, weighed.over, deadline_us, self._terms, self._now_us)
        return Entry(held, entry.ticket)

    def _declined(self, request: Request, at: Step, refusal: Refused) -> Declined:
        way_out.uncharge(self._facts.logs, request, request.charged)
        return Declined(request.id, at, refusal, request.party, request.service_point, request.device)

    async def _is_full(self) -> bool:
        if not self._over and not self._full:
            self._full = await self._books.quarantined_count()
        return self._full + len(self._over) >= self._terms.fleet.quarantine_items_max

    async def write(self, standing: Sequence[Standing]) -> None:
        """Write logs, holds and quarantine; what did not go on record is taken back."""
        if not self._charged and not self._over:
            return
        won = {each.request.id for each in standing if isinstance(each, Entry)}
        holds = {}
        for id, (load, spread_s, before) in self._charged.items():
            if id in won:
                holds[load.party, load.subject] = self._scales.hold(load, spread_s)
            else:
                self._scales.uncharge(load, spread_s, before)
        await self._books.put_fleet_holds(list(holds.values()))
        await self._books.write_fleet(list(self.logs.values()))
        await self._books.put_quarantined([each for id, each in self._over.items() if id in won])

    def warnings(self, standing: Sequence[Standing], rng: random.Random) -> list[Event]:
        """F20: whoever's request waits in quarantine is told so at once, and the utility's systems are."""
        over = [
            each.request for each in standing if isinstance(each, Entry) and each.request.id in self._over
        ]
        news = [request_news("quarantine.held", each, each.detail, self._now_us) for each in over]
        return news + [
            way_out.warning(
                each.id,
                each.party,
                each.service_point,
                each.device,
                each.received_us,
                Reason.FLEET_CAP,
                each.detail,
                self._now_us,
                rng,
            )
            for each in over
        ]


def quarantined(load: Load, campaign: str, why: str, now_us: int) -> Quarantined:
    """Return the record of a request over a cap."""
    return Quarantined(
        request=load.request,
        party=load.party,
        subject=load.subject,
        area=load.area,
        campaign=campaign,
        raise_w=load.move.raise_w,
        lower_w=load.move.lower_w,
        since_us=now_us,
        why=why,
    )


def spread_over(request: Request, spread_s: int, deadline_us: int, terms: Terms) -> Request:
    """Return a control whose start is drawn within ``spread_s``: it must be at the gateway as early as before,
    and ends later by the span, or by its own deadline."""
    if not spread_s:
        return request
    if deadline_us:
        act_before_us = deadline_us - spread_s * US - terms.skew_us
        return replace(request, spread_s=spread_s, act_before_us=act_before_us)
    return replace(request, spread_s=spread_s, due_us=request.due_us + spread_s * US)


def hold_back(request: Request, why: str, deadline_us: int, terms: Terms, now_us: int) -> Request:
    """Return a control as it waits in quarantine: until its own deadline, or the utility's; not beyond its end."""
    due_us = request.due_us
    if not deadline_us:
        due_us = min(max(due_us, now_us + terms.fleet.quarantine_us), request.until_us)
    return replace(
        request,
        state=State.QUARANTINED,
        ready_us=None,
        due_us=due_us,
        warn_us=0,
        act_before_us=due_us - request.spread_s * US - terms.skew_us,
        reason=Reason.FLEET_CAP,
        detail=why,
    )


async def give_back(books: Books, requests: Collection[str], now_us: int) -> None:
    """What these requests held is held no more: they did not act, or were let go."""
    holds = await books.fleet_holds_of(requests) if requests else []
    if not holds:
        return
    logs = await books.lock_fleet({key for hold in holds for key in fleet.keys_of(hold.party, hold.area)})
    gone = [fleet.give_back(logs, hold, now_us) for hold in holds]
    await books.write_fleet(list(logs.values()))
    await books.put_fleet_holds(gone)
