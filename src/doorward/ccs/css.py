"""The customer service system (CSS): who lives where, who is protected, service, gateways, and access (I01, I02).

Each event is one transaction with its record: taken once by its own id, and in the order in which it became
so. What it changes of access is confirmed by the gateways' receipts, which :meth:`CustomerService.settle` watches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from doorward.ccs.access_desk import AccessDesk
from doorward.ccs.agreeing import By, Done
from doorward.ccs.callers import authenticate_one
from doorward.ccs.cancelling import cancel_requests
from doorward.ccs.enrolment import revoke
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules import css as rule
from doorward.ccs.rules.contracts import is_running
from doorward.ccs.rules.css import CssDevice, CssEvent, CssItem, CustomerFlag, Mark
from doorward.ccs.rules.facts import (
    FAR_US,
    Account,
    Customer,
    Device,
    Event,
    Gateway,
    Link,
    LinkKind,
    Request,
)
from doorward.ccs.rules.homes import AccessChange, HomeNote
from doorward.ccs.rules.identity import TokenReader, require_scope
from doorward.ccs.views import View, when
from doorward.kit.ids import uuid7
from doorward.wire.grants import DevicePermit
from doorward.wire.reasons import Reason, Refused
from doorward.wire.steps import Actor
from doorward.wire.times import from_rfc3339
from doorward.wire.topics import partition_of

log = structlog.get_logger(__name__)

SCOPE = "css"
"""What a token must carry: given to the customer service system alone."""
CONTROLS_MAX = 1_000
"""Requests at one home that are looked at for controls that run."""
DETAIL_CHARS_MAX = 300
SETTLE_MAX = 200
SETTLE_S = 1.0
SWEEP_US = 5_000_000
"""How long after a flag its home is looked at once more, for what was accepted in the same moment."""

RunTest = Callable[[str, str], Awaitable[str]]
"""(service point, who asks) → the id under which the result of a remote test will be found."""
_item = msgspec.json.Decoder(CssItem)


class CustomerService:
    """What the CSS says and commands. ``run_test`` stays ``None`` where no remote tests are built in."""

    def __init__(self, journey: Journey, desk: AccessDesk, tokens: TokenReader) -> None:
        self._journey = journey
        self._desk = desk
        self.tokens = tokens
        self.run_test: RunTest | None = None
        self._looked_up_to = ""

    # ---- taking events -------------------------------------------------------------------------------

    async def take(self, token: str, items: Sequence[msgspec.Raw]) -> list[View]:
        """Take events one by one, in their order; one that is refused does not stop the others."""
        system = await self._journey.store.read(lambda books: self._system(books, token))
        return [await self._take_one(system, bytes(item)) for item in items]

    async def find(self, token: str, key: str) -> View:
        """Return what became of an event, with its confirmations. Raises ``not-found``."""

        async def read(books: AllBooks) -> View:
            event = await books.css_event((await self._system(books, token))[0], key)
            if event is None:
                raise Refused(Reason.NOT_FOUND)
            return _view(event, list((await books.changes(event.changes)).values()))

        return await self._journey.store.read(read)

    async def _system(self, books: AllBooks, token: str) -> tuple[str, str]:
        caller = await authenticate_one(books, self.tokens, token, self._journey.clock.now_us())
        require_scope(caller, SCOPE)
        return caller.party.id, caller.party.name

    async def _take_one(self, system: tuple[str, str], raw: bytes) -> View:
        """Take one event; what is refused is on record too, and may be sent again under the same id."""
        received_us = self._journey.clock.now_us()
        body_hash = sha256(raw).hexdigest()
        key = f"unreadable-{body_hash[:32]}"
        try:
            item = _item.decode(raw)
            at_us = rule.check_item(item, received_us)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return await self._unread(
                system[0], key, body_hash, Refused(Reason.BODY_MALFORMED, str(error)), received_us
            )
        except Refused as refusal:
            return await self._unread(
                system[0], item.id if rule.is_id(item.id) else key, body_hash, refusal, received_us
            )
        mark = Mark(at_us=at_us, sequence=item.sequence)
        taking = _Taking(self._journey, self._desk, system, item, mark, body_hash)
        try:
            test = await self._test(item, system[0]) if item.kind == "test.run" else ""
            return await taking.run(test)
        except Refused as refusal:
            await taking.record(refusal)
            return _refusal(item.id, refusal)

    async def _unread(
        self, system: str, key: str, body_hash: str, refusal: Refused, received_us: int
    ) -> View:
        """Put on record that something was refused before it was understood: under its id, or one of our own."""

        async def step(books: AllBooks) -> None:
            before = await books.css_event(system, key)
            if before is None or before.outcome == "refused":
                event = CssEvent(
                    id=before.id if before else uuid7(received_us, self._journey.rng),
                    system=system,
                    key=key,
                    body_hash=body_hash,
                    kind="unreadable",
                    account="",
                    customer="",
                    service_point="",
                    at_us=received_us,
                    sequence=0,
                    received_us=received_us,
                    outcome="refused",
                    detail=f"{refusal.reason.value}: {refusal.detail}"[:DETAIL_CHARS_MAX],
                    settled_us=received_us,
                )
                await books.put_css_events([event])

        await self._journey.store.write(step)
        return _refusal(key, refusal)

    async def _test(self, item: CssItem, system: str) -> str:
        if self.run_test is None:
            raise Refused(Reason.NOT_FOUND, "remote tests are not available here")
        return await self.run_test(item.service_point, system)

    # ---- confirmations -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell the CSS of confirmations as they come, until cancelled."""
        while True:
            await asyncio.sleep(SETTLE_S)
            try:
                while await self.settle() == SETTLE_MAX:
                    pass
            except Exception:
                log.exception("confirmations for the customer service system could not be looked at")

    async def settle(self) -> int:
        """Look at the next events that wait for confirmations; how many there were."""
        waiting, released = await self._journey.store.write(self._settle)
        self._looked_up_to = waiting[-1] if len(waiting) == SETTLE_MAX else ""
        self._journey.dispatch_to({each.gateway for each in released if each.ready_us is not None})
        if waiting:
            self._journey.pushing.look()
        return len(waiting)

    async def _settle(self, books: AllBooks) -> tuple[list[str], list[Request]]:
        now_us = self._journey.clock.now_us()
        waiting = await books.css_waiting(self._looked_up_to, SETTLE_MAX)
        changes = await books.changes({id for event in waiting for id in event.changes})
        settled, released = [], []
        for event in waiting:
            theirs = [changes[id] for id in event.changes if id in changes]
            if any(_state(change) == "waiting" for change in theirs):
                continue
            if event.kind in _SWEPT:
                if now_us < event.received_us + SWEEP_US:
                    continue
                released += await self._sweep(books, event, now_us)
            settled.append((replace(event, settled_us=now_us), theirs))
        await books.put_css_events([event for event, _ in settled])
        await books.add_events([self._confirmed(event, theirs, now_us) for event, theirs in settled])
        return [event.id for event in waiting], released

    async def _sweep(self, books: AllBooks, event: CssEvent, now_us: int) -> list[Request]:
        homes = (
            [event.service_point] if event.service_point else await homes_of_customer(books, event.customer)
        )
        kept = await books.protected(homes)
        return await let_go(books, list(kept), now_us, self._journey)

    def _confirmed(self, event: CssEvent, changes: Sequence[AccessChange], now_us: int) -> Event:
        return Event(
            id=uuid7(now_us, self._journey.rng),
            party="",
            kind="css.failed" if any(change.failed for change in changes) else "css.confirmed",
            created_us=now_us,
            service_point=event.service_point,
            data=msgspec.Raw(msgspec.json.encode(_view(event, changes))),
            webhook="none",
        )


_SWEPT = ("customer.flagged", "occupancy.began", "account.changed")
"""Kinds that may protect a home."""


class _Taking:
    """One event on its way into the books."""

    def __init__(
        self,
        journey: Journey,
        desk: AccessDesk,
        system: tuple[str, str],
        item: CssItem,
        mark: Mark,
        hash: str,
    ) -> None:
        self._journey = journey
        self._desk = desk
        self._system, self._name = system
        self._item = item
        self._mark = mark
        self._hash = hash
        self._received_us = journey.clock.now_us()

    async def run(self, test: str) -> View:
        """Take the event in one transaction, and then tell gateways and whoever waits."""
        found: list[CssEvent] = []

        async def step(books: AllBooks, now_us: int) -> Done:
            done, event = await self._step(books, test, now_us)
            found[:] = [event]
            return done

        done = await self._desk.run(step)
        self._journey.dispatch_to({each.gateway for each in done.cancelled if each.ready_us is not None})
        return _view(found[0], done.changes)

    async def _step(self, books: AllBooks, test: str, now_us: int) -> tuple[Done, CssEvent]:
        subject = rule.subject_of(self._item)
        known = await books.lock_css_mark(subject)
        before = await books.css_event(self._system, self._item.id)
        if before is not None and before.outcome != "refused":
            if before.body_hash != self._hash:
                raise Refused(Reason.IDEMPOTENCY_CONFLICT, "this id belongs to another event", field="/id")
            return Done(), before
        event = self._event(before, "superseded", now_us)
        if not rule.is_news(self._mark, known):
            event = replace(event, detail="something newer is known", settled_us=now_us)
            await books.put_css_events([event])
            return Done(), event
        done = await self._apply(books, now_us)
        changes = [change.id for change in done.changes]
        waits = changes or self._item.kind in _SWEPT
        event = replace(
            event, outcome="applied", detail=test, changes=changes, settled_us=0 if waits else now_us
        )
        await books.put_css_mark(subject, self._mark)
        await books.put_css_events([event])
        await self._note(books, now_us)
        return done, event

    async def record(self, refusal: Refused) -> None:
        """Put on record that the event was refused, and why."""

        async def step(books: AllBooks) -> None:
            before = await books.css_event(self._system, self._item.id)
            if before is None or before.outcome == "refused":
                now_us = self._journey.clock.now_us()
                event = self._event(before, "refused", now_us)
                said = f"{refusal.reason.value}: {refusal.detail}"
                await books.put_css_events([replace(event, detail=said, settled_us=now_us)])

        await self._journey.store.write(step)

    def _event(self, before: CssEvent | None, outcome: rule.Outcome, now_us: int) -> CssEvent:
        item = self._item
        return CssEvent(
            id=before.id if before else uuid7(now_us, self._journey.rng),
            system=self._system,
            key=item.id,
            body_hash=self._hash,
            kind=item.kind,
            account=item.account,
            customer=item.customer,
            service_point=item.service_point,
            at_us=self._mark.at_us,
            sequence=self._mark.sequence,
            received_us=self._received_us,
            outcome=outcome,
        )

    async def _note(self, books: AllBooks, now_us: int) -> None:
        """What the CSS said about a home stands in the home's own activity."""
        item = self._item
        homes = [item.service_point] if item.service_point else []
        if item.customer and not homes:
            homes = await homes_of_customer(books, item.customer)
        await books.put_notes(
            [
                HomeNote(
                    id=uuid7(now_us, self._journey.rng),
                    service_point=home,
                    kind="act",
                    at_us=now_us,
                    words=rule.words_of(item),
                    by=self._system,
                    by_name=self._name,
                    why=item.why,
                )
                for home in homes
            ]
        )

    # ---- what each kind does -------------------------------------------------------------------------

    async def _apply(self, books: AllBooks, now_us: int) -> Done:
        item = self._item
        if item.service_point and item.service_point not in await books.service_points([item.service_point]):
            raise Refused(Reason.NOT_FOUND, "there is no such service point", field="/service_point")
        by = By(
            person=self._system,
            name=self._name,
            why=item.why or rule.words_of(item),
            asked_us=self._mark.at_us,
        )
        agreeing = self._desk.agreeing
        match item.kind:
            case "service.off":
                return await agreeing.service_off(books, by, [item.service_point], now_us)
            case "service.on":
                await agreeing.service_on(books, [item.service_point])
            case "account.changed":
                return await self._account(books, now_us)
            case "customer.flagged" | "customer.unflagged":
                return await self._flag(books, now_us)
            case "occupancy.began":
                return await self._move_in(books, by, now_us)
            case "occupancy.ended":
                return await self._move_out(books, by, now_us)
            case "gateway.exchanged":
                return await self._exchange(books, now_us)
            case "access.disable":
                return await agreeing.withdraw(books, by, item.third_party, item.service_point, now_us)
            case "access.enable" | "access.modify":
                return await self._give(books, by, now_us)
            case "test.run":
                pass
        return Done()

    async def _account(self, books: AllBooks, now_us: int) -> Done:
        """A customer holds an account (another one may hold it too); name and contact are the CSS's."""
        item = self._item
        known = (await books.customers([item.customer])).get(item.customer, Customer(id=item.customer))
        name, contact = item.name or known.name, item.contact or known.contact
        await books.put_customers([replace(known, name=name, contact=contact)])
        if item.account not in await books.accounts([item.account]):
            await books.put_accounts([Account(id=item.account)])
        held = await books.links(LinkKind.CUSTOMER_ACCOUNT, a=[item.customer], b=[item.account])
        if not any(link.until_us == FAR_US for link in held):
            link = Link(kind=LinkKind.CUSTOMER_ACCOUNT, a=item.customer, b=item.account, since_us=now_us)
            await books.put_links([link])
        return await self._protect(books, await homes_of(books, [item.account]), now_us)

    async def _flag(self, books: AllBooks, now_us: int) -> Done:
        item = self._item
        if item.customer not in await books.customers([item.customer]):
            raise Refused(Reason.NOT_FOUND, "there is no such customer", field="/customer")
        assert item.flag is not None
        if item.kind == "customer.flagged":
            flag = CustomerFlag(customer=item.customer, kind=item.flag, since_us=now_us)
            await books.put_customer_flags([flag])
        else:
            await books.end_customer_flag(item.customer, item.flag)
        homes = await homes_of_customer(books, item.customer)
        return await self._protect(books, homes, now_us)

    async def _protect(self, books: AllBooks, homes: Collection[str], now_us: int) -> Done:
        """Protect homes as the flags of those who live there say; what runs where that is new is let go."""
        kinds = {home: await flags_at(books, home) for home in homes}
        await books.put_protected(kinds)
        kept = [home for home in homes if kinds[home]]
        return Done(cancelled=await let_go(books, kept, now_us, self._journey))

    async def _move_in(self, books: AllBooks, by: By, now_us: int) -> Done:
        """Whoever lived there before has moved out; the new account begins with nothing, its history too."""
        item = self._item
        if item.account not in await books.accounts([item.account]):
            raise Refused(Reason.NOT_FOUND, "there is no such account", field="/account")
        lived = await occupants(books, item.service_point)
        if lived == [item.account]:
            return Done()
        done = await self._empty(books, by, lived, now_us)
        link = Link(
            kind=LinkKind.ACCOUNT_SERVICE_POINT,
            a=item.account,
            b=item.service_point,
            since_us=_next_ms(now_us),
        )
        await books.put_links([link])
        more = await self._protect(books, [item.service_point], now_us)
        return replace(done, cancelled=[*done.cancelled, *more.cancelled])

    async def _move_out(self, books: AllBooks, by: By, now_us: int) -> Done:
        """The account's rights and contracts at the home end; one that does not live there is not asked to go."""
        lived = await occupants(books, self._item.service_point)
        if self._item.account not in lived:
            raise Refused(Reason.NOT_FOUND, "this account is not at this service point", field="/account")
        done = await self._empty(books, by, lived, now_us)
        await self._protect(books, [self._item.service_point], now_us)
        return done

    async def _empty(self, books: AllBooks, by: By, accounts: Sequence[str], now_us: int) -> Done:
        home = self._item.service_point
        pairs = [(account, home) for account in accounts]
        await books.end_links(LinkKind.ACCOUNT_SERVICE_POINT, pairs, now_us)
        return await self._desk.agreeing.end_all(books, by, [home], now_us)

    async def _exchange(self, books: AllBooks, now_us: int) -> Done:
        """Everything behind the old gateway moves to the new one, which is told when it comes; the old is out."""
        item, kind = self._item, LinkKind.SERVICE_POINT_GATEWAY
        new = (await books.gateways([item.gateway], lock=True)).get(item.gateway)
        if new is None:
            new = Gateway(id=item.gateway, partition=partition_of(item.gateway))
            await books.put_gateways([new])
        if new.state == "revoked":
            raise Refused(Reason.TOO_LATE, "this gateway was taken out for good", field="/gateway")
        old = {link.b for link in await books.links(kind, a=[item.service_point]) if link.until_us == FAR_US}
        old -= {new.id}
        if not old:
            there = await books.links(kind, a=[item.service_point], b=[new.id])
            if not any(link.until_us == FAR_US for link in there):
                await books.put_links([Link(kind=kind, a=item.service_point, b=new.id, since_us=now_us)])
            return Done()
        behind = {link.a for link in await books.links(kind, b=old) if link.until_us == FAR_US}
        await books.end_links(kind, [(home, gone) for home in behind for gone in old], now_us)
        await books.put_links([Link(kind=kind, a=home, b=new.id, since_us=now_us) for home in sorted(behind)])
        waiting = [each for each in await books.requests_to_send(old, CONTROLS_MAX) if not each.sent_us]
        reason = Reason.GATEWAY_UNREACHABLE
        rng = self._journey.rng
        cancelled = await cancel_requests(books, waiting, now_us, Actor.CCS, reason, rng)
        await revoke(books, old, now_us, rng)
        return Done(cancelled=cancelled)

    async def _give(self, books: AllBooks, by: By, now_us: int) -> Done:
        """Enable or modify access under the contract that runs; the customer is whoever lives there (B01)."""
        item = self._item
        live = (await books.grants([(item.third_party, item.service_point)])).values()
        is_live = any(grant.state == "live" for grant in live)
        if item.kind == "access.modify" and not is_live:
            raise Refused(Reason.NOT_FOUND, "this company has no access here", field="/third_party")
        if item.kind == "access.enable" and is_live:
            raise Refused(Reason.TOO_LATE, "this company has access here; modify it", field="/third_party")
        people = await customers_at(books, item.service_point)
        if item.customer not in people:
            raise Refused(Reason.NOT_FOUND, "this customer does not live here", field="/customer")
        running = [
            each
            for each in await books.contracts_at([item.service_point])
            if each.party == item.third_party and each.customer in people and is_running(each, now_us)
        ]
        if not running:
            raise Refused(Reason.CONTRACT_MISSING)
        devices = (await books.devices_at([item.service_point])).get(item.service_point, [])
        permits = [_permit(wanted, devices, at) for at, wanted in enumerate(item.devices)]
        until_us = from_rfc3339(item.until) if item.until else running[0].ends_us
        return await self._desk.agreeing.give(
            books, by, running[0].id, permits, until_us=until_us, now_us=now_us
        )


# ---- facts about homes -------------------------------------------------------------------------------------


async def occupants(books: AllBooks, home: str) -> list[str]:
    """Return the accounts at a home whose occupancy is open."""
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, b=[home])
    return [link.a for link in lived if link.until_us == FAR_US]


async def homes_of(books: AllBooks, accounts: Collection[str]) -> list[str]:
    """Return the homes of accounts."""
    lived = await books.links(LinkKind.ACCOUNT_SERVICE_POINT, a=accounts)
    return sorted({link.b for link in lived if link.until_us == FAR_US})


async def homes_of_customer(books: AllBooks, customer: str) -> list[str]:
    """Return the homes of a customer's accounts."""
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, a=[customer])
    return await homes_of(books, {link.b for link in held if link.until_us == FAR_US})


async def customers_at(books: AllBooks, home: str) -> list[str]:
    """Return who lives at a home."""
    held = await books.links(LinkKind.CUSTOMER_ACCOUNT, b=await occupants(books, home))
    return [link.a for link in held if link.until_us == FAR_US]


async def flags_at(books: AllBooks, home: str) -> list[str]:
    """Return the flags of those who live at a home."""
    return sorted({flag.kind for flag in await books.customer_flags(await customers_at(books, home))})


async def let_go(books: AllBooks, homes: Sequence[str], now_us: int, journey: Journey) -> list[Request]:
    """Release every control that runs or waits at homes; letting go itself is left to pass."""
    controls: list[str] = []
    for home in homes:
        recent = await books.requests_at(home, limit=CONTROLS_MAX)
        controls += [each.id for each in recent if _is_held(each, now_us)]
    found = await books.requests(controls, lock=True)
    reason = Reason.CUSTOMER_PROTECTED
    return await cancel_requests(books, found.values(), now_us, Actor.CCS, reason, journey.rng)


def _is_held(request: Request, now_us: int) -> bool:
    lets_go = request.operation.value == "release" or request.cancel_asked
    return (
        request.operation.is_control and not lets_go and (not request.final_us or request.until_us > now_us)
    )


def _permit(wanted: CssDevice, devices: Sequence[Device], at: int) -> DevicePermit:
    """Return a permit for a device that is named by its serial number or id; another home's looks like none."""
    for device in devices:
        if wanted.device in (device.id, device.serial):
            return DevicePermit(
                device=device.id,
                device_class=device.device_class,
                operations=wanted.operations,
                bounds=wanted.bounds,
            )
    raise Refused(
        Reason.DEVICE_UNKNOWN, "there is no such device at this home", field=f"/devices/{at}/device"
    )


def _next_ms(now_us: int) -> int:
    """The beginning of the next millisecond: ids carry no less, and what was before must stay before."""
    return (now_us // 1000 + 1) * 1000


# ---- what is answered --------------------------------------------------------------------------------------


def _state(change: AccessChange) -> rule.State:
    if change.failed:
        return "failed"
    return "done" if change.applied_us or not change.gateway else "waiting"


def _view(event: CssEvent, changes: Sequence[AccessChange]) -> View:
    """Return an event with what became of it; a gateway's receipt names the version that it holds."""
    receipts: list[dict[str, Any]] = [
        {
            "third_party": change.party,
            "service_point": change.service_point,
            "change": change.kind,
            "version": change.version,
            "gateway": change.gateway,
            "gateway_version": change.gateway_version,
            "state": _state(change),
            "applied": when(change.applied_us),
            "why": change.failed,
        }
        for change in changes
    ]
    states = [_state(change) for change in changes]
    state = "failed" if "failed" in states else "waiting" if "waiting" in states else "done"
    return {
        "id": event.key,
        "number": event.id,
        "kind": event.kind,
        "service_point": event.service_point,
        "outcome": event.outcome,
        "detail": event.detail,
        "received": when(event.received_us),
        "state": state,
        "receipts": receipts,
    }


def _refusal(key: str, refusal: Refused) -> View:
    return {
        "id": key,
        "outcome": "refused",
        "reason": refusal.reason.value,
        "detail": refusal.detail,
        "field": refusal.field,
    }
