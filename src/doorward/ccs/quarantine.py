"""The operators' desk for what is over a cap (X04): seen, let through by two of them, or turned down by one."""

import random
from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace

from doorward.ccs import way_back
from doorward.ccs.cancelling import cancel_requests
from doorward.ccs.ports import AllBooks, Books, Store
from doorward.ccs.rules import fleet
from doorward.ccs.rules.facts import JournalRow, Request, StepRecord, Tier
from doorward.ccs.rules.fleet import FleetLog, Load, Move, Quarantined, Scales
from doorward.ccs.rules.lifecycle import Event as Moved
from doorward.ccs.rules.lifecycle import State, after
from doorward.ccs.rules.people import Person
from doorward.ccs.rules.rights import Act, reach
from doorward.ccs.terms import Terms
from doorward.kit.clock import Clock
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor, Step

US = 1_000_000
ITEMS_MAX = 500
"""Requests in one transaction of an operator."""
LOGS_MAX = 10_000


class Item(msgspec.Struct, frozen=True):
    """What waits: the record and the request."""

    record: Quarantined
    request: Request


class Approval(msgspec.Struct, frozen=True):
    """What came of an operator's word: by request."""

    noted: list[str]
    """It is the first of two."""
    own: list[str]
    """The same operator was the first: another one is needed."""
    released: list[Request]
    late: list[str]
    """It is not in quarantine any more, or there is no time left."""


class FleetDesk:
    """For operators; who they are was proved by whoever calls."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random, terms: Terms) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._terms = terms

    async def listed(
        self, *, party: str = "", area: str = "", campaign: str = "", after: str = "", limit: int = 100
    ) -> list[Item]:
        """Return what waits, oldest first, after the id of a request; ``""`` means any."""

        async def read(books: AllBooks) -> list[Item]:
            records = await books.list_quarantined(
                party=party, area=area, campaign=campaign, after=after, limit=limit
            )
            found = await books.requests([record.request for record in records])
            return [Item(record, found[record.request]) for record in records]

        return await self._store.read(read)

    async def logs(self) -> list[FleetLog]:
        """Return what is moved and held now, per key."""
        now_us = self._clock.now_us()
        logs = await self._store.read(lambda books: books.fleet_logs(LOGS_MAX))
        for log in logs:
            fleet.forget(log, now_us, self._terms.fleet)
        return logs

    async def approve(self, operator: Person, requests: Collection[str]) -> Approval:
        """Note an operator's word for requests; with the word of a second one they go.

        Raises ``operation-not-permitted`` for somebody who may not.
        """
        _require(operator)
        return await self._store.write(lambda books: self._approve(books, operator, requests))

    async def _approve(self, books: AllBooks, operator: Person, requests: Collection[str]) -> Approval:
        found = await books.requests(requests, lock=True)
        records = await books.lock_quarantined(requests)
        now_us = self._clock.now_us()
        open_ones = [
            records[id]
            for id in dict.fromkeys(requests)
            if id in records and _has_time(found[id], self._terms, now_us)
        ]
        noted = [
            replace(each, first_by=operator.id, first_us=now_us) for each in open_ones if not each.first_by
        ]
        own = [each.request for each in open_ones if each.first_by == operator.id]
        second = [each for each in open_ones if each.first_by not in ("", operator.id)]
        await books.put_quarantined(noted)
        released = await self._let_through(books, second, found, now_us)
        rows = [
            _row(found[each.request], operator, "let it through: the first of two", now_us) for each in noted
        ]
        rows += [_row(request, operator, "let it through: the second of two", now_us) for request in released]
        await books.write_journal(rows)
        seen = {each.request for each in open_ones}
        return Approval(
            [each.request for each in noted], own, released, [id for id in requests if id not in seen]
        )

    async def _let_through(
        self, books: Books, records: Sequence[Quarantined], found: dict[str, Request], now_us: int
    ) -> list[Request]:
        """Charge them whatever the caps say, and send them."""
        if not records:
            return []
        tiers = await books.tiers()
        holds = await books.fleet_holds({(each.party, each.subject) for each in records})
        keys = {key for each in records for key in fleet.keys_of(each.party, each.area)}
        keys |= {key for hold in holds.values() for key in fleet.keys_of(hold.party, hold.area)}
        logs = await books.lock_fleet(keys)
        scales = Scales(logs, self._terms.fleet, now_us)
        released = []
        for record in records:
            pair = (record.party, record.subject)
            if pair in holds:
                fleet.give_back(logs, holds[pair], now_us)
            request = found[record.request]
            load = _load(record, request, now_us)
            scales.charge(load, request.spread_s)
            holds[pair] = scales.hold(load, request.spread_s)
            released.append(_through(request, tiers[request.tier], self._terms, now_us))
        await books.put_fleet_holds(list(holds.values()))
        await books.write_fleet(list(logs.values()))
        await books.update_requests(released)
        await books.end_quarantine([record.request for record in records])
        return released

    async def reject(self, operator: Person, requests: Collection[str]) -> list[Request]:
        """Turn requests down that are in quarantine: one operator is enough, for it moves nothing.

        Raises ``operation-not-permitted`` for somebody who may not.
        """
        _require(operator)

        async def write(books: AllBooks) -> list[Request]:
            now_us = self._clock.now_us()
            found = await books.requests(requests, lock=True)
            waiting = [each for each in found.values() if each.state == State.QUARANTINED]
            await books.write_journal([_row(each, operator, "turned it down", now_us) for each in waiting])
            return await cancel_requests(books, waiting, now_us, Actor.UTILITY, Reason.FLEET_CAP, self._rng)

        return await self._store.write(write)


def _require(operator: Person) -> None:
    if reach(operator, Act.CHANGE_FLEET) is None or operator.state != "active":
        raise Refused(Reason.OPERATION_NOT_PERMITTED, f"{operator.login} is no operator")


def _has_time(request: Request, terms: Terms, now_us: int) -> bool:
    spare_us = request.spread_s * US + terms.skew_us
    return request.state == State.QUARANTINED and request.due_us - spare_us > now_us


def _load(record: Quarantined, request: Request, now_us: int) -> Load:
    return Load(
        request=request.id,
        party=record.party,
        area=record.area,
        subject=record.subject,
        move=Move(record.raise_w, record.lower_w),
        begin_us=max(request.start_us, now_us),
        until_us=request.until_us,
    )


def _through(request: Request, tier: Tier, terms: Terms, now_us: int) -> Request:
    """Return a request as it goes on: its tier's time runs from now, inside the deadline that it has."""
    begin_us = max(request.start_us, now_us)
    due_us = min(request.due_us, begin_us + (tier.response_s + request.spread_s) * US)
    return replace(
        request,
        state=after(State(request.state), Moved.LET_THROUGH) or request.state,
        ready_us=now_us,
        due_us=due_us,
        act_before_us=due_us - request.spread_s * US - terms.skew_us,
        reason=None,
        detail="",
    )


def _row(request: Request, operator: Person, word: str, now_us: int) -> JournalRow:
    step = StepRecord(
        at_us=now_us, step=Step.QUARANTINE_DECIDED, by=Actor.UTILITY, detail=f"{operator.login} {word}"
    )
    return way_back.journal_of(request, [step], now_us)
