"""What a third party may read, each in one transaction that authenticates its token first.

Customers' data (results, what devices say) leaves only after the target was authorised at that moment:
results through :meth:`Journey.fetch`, notices by the check of :meth:`Reading.events`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

import msgspec

from doorward.ccs.callers import authenticate_one
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks, Books
from doorward.ccs.rules import access, limits
from doorward.ccs.rules.facts import Device, Event, Grant, LimitLog, Place, Tier
from doorward.ccs.rules.formats import Catalogue, Format
from doorward.ccs.rules.identity import Caller, require_scope
from doorward.ccs.rules.limits import Account
from doorward.ccs.views import View, event_view, grant_view, journey_view, request_view, result_data, when
from doorward.wire.grants import DevicePermit
from doorward.wire.permission import require_running
from doorward.wire.reasons import Reason, Refused

R = TypeVar("R")

PAGE_MAX = 500
NOW = "now"
DEVICE_GRANTS_MAX = 5_000
"""Grants that one list of devices looks at; a third party with more asks by service point."""


class Reading:
    """The reads of third parties."""

    def __init__(self, journey: Journey, catalogue: Callable[[], Catalogue]) -> None:
        self._journey = journey
        self._catalogue = catalogue

    async def _as(self, token: str, step: Callable[[AllBooks, Caller], Awaitable[R]]) -> R:
        """Run a read for whoever ``token`` stands for now; it needs the scope ``monitor``."""

        async def read(books: AllBooks) -> R:
            now_us = self._journey.clock.now_us()
            caller = await authenticate_one(books, self._journey.tokens, token, now_us)
            require_scope(caller, "monitor")
            return await step(books, caller)

        return await self._journey.store.read(read)

    # devices

    async def devices(self, token: str, service_point: str = "") -> View:
        """Return which device this party may ask for what, with its formats."""

        async def read(books: AllBooks, caller: Caller) -> View:
            party = caller.party.id
            grants = await self._grants(books, party, service_point)
            return {"items": await self._permitted(books, grants)}

        return await self._as(token, read)

    async def device(self, token: str, device: str) -> View:
        """Return one device; raise ``device-unknown`` when it is not permitted or not there."""

        async def read(books: AllBooks, caller: Caller) -> View:
            found = (await books.devices([device])).get(device)
            grants = await self._grants(books, caller.party.id, found.service_point) if found else []
            for view in await self._permitted(books, grants):
                if view["id"] == device:
                    return view
            raise Refused(Reason.DEVICE_UNKNOWN)

        return await self._as(token, read)

    async def _grants(self, books: Books, party: str, service_point: str) -> list[Grant]:
        if service_point:
            return list((await books.grants([(party, service_point)])).values())
        grants: list[Grant] = []
        after = -1
        while len(grants) < DEVICE_GRANTS_MAX:
            page = await books.grants_of(party, after=after, limit=PAGE_MAX)
            grants += page
            if len(page) < PAGE_MAX:
                break
            after = page[-1].sequence
        return grants

    async def _permitted(self, books: Books, grants: Collection[Grant]) -> list[View]:
        now_us = self._journey.clock.now_us()
        points = {grant.service_point for grant in grants if grant.state == "live"}
        places = await books.places(points, now_us)
        live = [grant for grant in grants if _is_live(grant, places.get(grant.service_point), now_us)]
        there = await books.devices_at({grant.service_point for grant in live})
        catalogue = self._catalogue()
        views = []
        for grant in live:
            devices = {device.id: device for device in there.get(grant.service_point, ())}
            views += [
                _device_view(devices[permit.device], permit, grant, catalogue)
                for permit in grant.document.devices
                if permit.device in devices
            ]
        return views

    # limits

    async def limits(self, token: str, service_point: str) -> View:
        """Return what remains at a service point; raise ``not-found`` where this party has no live grant."""

        async def read(books: AllBooks, caller: Caller) -> View:
            now_us = self._journey.clock.now_us()
            party = caller.party.id
            place = (await books.places([service_point], now_us)).get(service_point)
            grant = (await books.grants([(party, service_point)])).get((party, service_point))
            if place is None or grant is None or grant.state != "live":
                raise Refused(Reason.NOT_FOUND, field="/service_point")
            tier = (await books.tiers())[grant.tier]
            keys = (limits.service_point_key(service_point), limits.party_key(party, service_point))
            logs = await books.limits(keys)
            return {
                "service_point": service_point,
                "windows": self._windows(
                    [logs.get(key) or LimitLog(key=key, times_us=[]) for key in keys], tier, place
                ),
                "tier": {
                    "name": tier.name,
                    "per_hour": tier.per_hour,
                    "per_day": tier.per_day,
                    "response_s": tier.response_s,
                },
            }

        return await self._as(token, read)

    def _windows(self, logs: list[LimitLog], tier: Tier, place: Place) -> list[View]:
        """Return the tightest limit of each span."""
        terms, now_us = self._journey.terms, self._journey.clock.now_us()
        shared = limits.service_point_windows(terms.per_hour, terms.per_day)
        own = limits.party_windows(tier, place, terms.per_hour, terms.per_day)
        views = []
        for both in zip(shared, own, strict=True):
            accounts = [Account(log, (window,)) for log, window in zip(logs, both, strict=True)]
            ticket = limits.remaining(accounts, now_us)
            views.append(
                {
                    "window_s": ticket.window_us // limits.US,
                    "limit": ticket.limit,
                    "remaining": ticket.remaining,
                    "reset": when(ticket.reset_us),
                }
            )
        return views

    # the catalogue and the permissions

    async def formats(self, token: str) -> View:
        """Return the active message formats."""

        async def read(_: AllBooks, __: Caller) -> View:
            return {"items": [_format_view(each, "active") for each in self._catalogue().active()]}

        return await self._as(token, read)

    async def format(self, token: str, name: str, version: int) -> View:
        """Return one format, retired ones too; raise ``not-found``."""

        async def read(_: AllBooks, __: Caller) -> View:
            catalogue = self._catalogue()
            for state, formats in (("active", catalogue.active()), ("retired", catalogue.retired())):
                for each in formats:
                    if (each.name, each.version) == (name, version):
                        return _format_view(each, state)
            raise Refused(Reason.NOT_FOUND)

        return await self._as(token, read)

    async def grants(self, token: str, after: int, limit: int) -> View:
        """Return the permissions of this party in the order of their changes, after a sequence number."""

        async def read(books: AllBooks, caller: Caller) -> View:
            found = await books.grants_of(caller.party.id, after=after, limit=limit)
            following = found[-1].sequence if len(found) == limit else None
            return {"items": [grant_view(grant) for grant in found], "next": following}

        return await self._as(token, read)

    # requests

    async def requests(
        self,
        token: str,
        *,
        after: str,
        limit: int,
        states: Collection[str],
        device: str,
        service_point: str,
        campaign: str,
    ) -> View:
        """Return this party's requests, newest first; no item carries a result."""

        async def read(books: AllBooks, caller: Caller) -> View:
            found = await books.list_requests(
                caller.party.id,
                after=after,
                limit=limit,
                states=states,
                device=device,
                service_point=service_point,
                campaign=campaign,
            )
            items = [request_view(request) | {"result": None} for request in found]
            return {"items": items, "next": found[-1].id if len(found) == limit else None}

        return await self._as(token, read)

    async def journey(self, token: str, request: str) -> View:
        """Return every step of a request; raise ``not-found`` for another party's or none."""

        async def read(books: AllBooks, caller: Caller) -> View:
            found = (await books.requests([request])).get(request)
            if found is None or found.party != caller.party.id:
                raise Refused(Reason.NOT_FOUND)
            return journey_view(found, await books.journal(request))

        return await self._as(token, read)

    # events

    async def start(self, token: str, after: str) -> str:
        """Return the cursor at which a stream begins: ``now`` is the end of the feed at this moment.

        Raises ``body-malformed`` for a cursor that is none.
        """

        async def read(books: AllBooks, caller: Caller) -> str:
            if after == NOW:
                return await books.feed_end(caller.party.id)
            await books.feed(caller.party.id, after, (), 1)
            return after

        return await self._as(token, read)

    async def events(
        self, token: str, *, after: str, kinds: Collection[str], limit: int, channel: str
    ) -> list[View]:
        """Return this party's events after a cursor, with the data that it may have at this moment."""

        async def read(books: AllBooks, caller: Caller) -> tuple[list[Event], set[str]]:
            found = await books.feed(caller.party.id, after, kinds, limit)
            return found, await self._withheld(books, found)

        events, withheld = await self._as(token, read)
        results = await self._results(token, events, channel)
        return [_with_data(event, results, event.id in withheld) for event in events]

    async def _withheld(self, books: Books, events: Iterable[Event]) -> set[str]:
        """Return the ids of notices that may not go to their third party now."""
        notices = [event for event in events if event.kind == "device.notice"]
        if not notices:
            return set()
        now_us = self._journey.clock.now_us()
        places = await books.places({event.service_point for event in notices}, now_us)
        grants = await books.grants({(event.party, event.service_point) for event in notices})
        withheld = set()
        for event in notices:
            place = places.get(event.service_point)
            grant = grants.get((event.party, event.service_point))
            try:
                access.authorise_notice(event.device, place, grant, now_us)
            except Refused:
                withheld.add(event.id)
        return withheld

    async def _results(self, token: str, events: Iterable[Event], channel: str) -> dict[str, View]:
        """Return the data of results: each authorised again, now, and its hand-over on record."""
        ids = list(dict.fromkeys(event.request for event in events if event.kind == "request.result"))
        fetched = await asyncio.gather(*(self._journey.fetch(token, id, channel) for id in ids))
        return {request.id: result_data(request) for request in fetched}


def _with_data(event: Event, results: dict[str, View], withheld: bool) -> View:
    view = event_view(event)
    if event.kind == "request.result":
        view["data"] = results[event.request]
    else:
        view["data"] = {} if withheld else event.data
    return view


def _is_live(grant: Grant, place: Place | None, now_us: int) -> bool:
    if place is None or place.service != "on" or grant.state != "live":
        return False
    try:
        require_running(grant.document, now_us)
    except Refused:
        return False
    return True


def _device_view(device: Device, permit: DevicePermit, grant: Grant, catalogue: Catalogue) -> View:
    return {
        "id": device.id,
        "name": device.name,
        "class": device.device_class,
        "service_point": device.service_point,
        "operations": permit.operations,
        "bounds": msgspec.to_builtins(permit.bounds),
        "formats": [
            each.reference
            for each in catalogue.active()
            if each.device_class == device.device_class and each.operation in permit.operations
        ],
        "grant": grant.id,
        "expires": when(grant.document.expires_us),
    }


def _format_view(format_: Format, state: str) -> View:
    return {**msgspec.to_builtins(format_), "state": state}
