"""What is set up: things, and the dated links between them."""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Select, Table, func, or_, select, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import (
    Batch,
    Conflict,
    Flavour,
    Statement,
    exactly,
    inserting,
    number,
    putting,
    words,
)
from doorward.ccs.engines.store.access import Access
from doorward.ccs.engines.store.facts import DEVICE, PARTY, TIER, live
from doorward.ccs.engines.store.reading import CREDENTIAL
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.engines.store.searching import Searching
from doorward.ccs.ports import LinkTaken, Pair
from doorward.ccs.rules.facts import (
    FAR_US,
    Account,
    Credential,
    Customer,
    Device,
    Link,
    LinkKind,
    Meter,
    Party,
    ServicePoint,
    Thing,
    Tier,
)

T = TypeVar("T", bound=msgspec.Struct)

CUSTOMER = RowsOf(Customer, t.customer)
ACCOUNT = RowsOf(Account, t.account)
SERVICE_POINT = RowsOf(ServicePoint, t.service_point)
METER = RowsOf(Meter, t.meter)


class Kept:
    """The statements of one kind of thing."""

    def __init__(self, table: Table, rows: "RowsOf[Any]", key: str = "id") -> None:
        column = table.c[key]
        self.rows = rows
        self.put: Batch = putting(table, rows.names, key)
        self.dump = rows.dumper()
        self.get = Statement(lambda f: select(*rows.columns).where(f.any_of(column, "ids")), "ids")


TIERS = Kept(t.tier, TIER, "name")
PARTIES = Kept(t.party, PARTY)
CREDENTIALS = Kept(t.credential, CREDENTIAL)
CUSTOMERS = Kept(t.customer, CUSTOMER)
ACCOUNTS = Kept(t.account, ACCOUNT)
SERVICE_POINTS = Kept(t.service_point, SERVICE_POINT)
METERS = Kept(t.meter, METER)
DEVICES = Kept(t.device, DEVICE)


def _known(table: Table, key: str) -> Statement:
    column = table.c[key]
    return Statement(
        lambda _: select(column).where(column > words("after")).order_by(column).limit(number("limit")),
        "after",
        "limit",
    )


KNOWN = {
    thing: _known(table, "name" if thing is Thing.TIER else "id")
    for thing, table in {
        Thing.TIER: t.tier,
        Thing.PARTY: t.party,
        Thing.CUSTOMER: t.customer,
        Thing.ACCOUNT: t.account,
        Thing.SERVICE_POINT: t.service_point,
        Thing.METER: t.meter,
        Thing.GATEWAY: t.gateway,
        Thing.DEVICE: t.device,
    }.items()
}


def _equipment(flavour: Flavour) -> Select[Any]:
    link = t.at_service_point
    return (
        select(*DEVICE.columns, link.c.b)
        .outerjoin(link, (link.c.a == t.device.c.id) & live(link))
        .where(flavour.any_of(t.device.c.id, "ids"))
    )


def _links(table: Table) -> Statement:
    def build(flavour: Flavour) -> Select[Any]:
        return (
            select(table)
            .where(or_(number("any_a") == exactly(1), flavour.any_of(table.c.a, "a")))
            .where(or_(number("any_b") == exactly(1), flavour.any_of(table.c.b, "b")))
            .where(or_(number("any_time") == exactly(1), live(table)))
            .order_by(table.c.a, table.c.b, table.c.since_us)
        )

    return Statement(build, "any_a", "a", "any_b", "b", "any_time", "now")


def _end(table: Table) -> Statement:
    return Statement(
        lambda f: (
            update(table)
            .where(f.any_pair(table.c.a, table.c.b, "pairs"), table.c.until_us == exactly(FAR_US))
            .values(until_us=number("end"))
        ),
        "pairs",
        "end",
    )


_COLUMNS = ("a", "b", "since_us", "until_us")
_SAME = Conflict(on=_COLUMNS[:3], replace=("until_us",))
EQUIPMENT = Statement(_equipment, "ids", "now")
LINKS = {kind: _links(table) for kind, table in t.links.items()}
OPEN = {
    kind: Statement(
        lambda f, table=table: select(table).where(  # type: ignore[misc]
            table.c.until_us == exactly(FAR_US),
            or_(f.any_of(table.c.a, "a"), f.any_of(table.c.b, "b")),
        ),
        "a",
        "b",
    )
    for kind, table in t.links.items()
}
CHANGED_BY_PEOPLE = Statement(
    lambda _: (
        select(t.access_change.c.grant, func.max(t.access_change.c.at_us))
        .where(t.access_change.c.by != words("but"))
        .group_by(t.access_change.c.grant)
    ),
    "but",
)
PUT_LINKS = {kind: inserting(table, _COLUMNS, _SAME) for kind, table in t.links.items()}
END_LINKS = {kind: _end(table) for kind, table in t.links.items()}


class Setup(Access, Searching):
    """:class:`~doorward.ccs.ports.Registry`."""

    async def known(self, thing: Thing, *, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of all things of a kind in order, after ``after``."""
        return [row[0] for row in await self._on.rows(KNOWN[thing], after, limit)]

    async def _get(self, kept: Kept, ids: Collection[str]) -> dict[str, Any]:
        return {row[0]: kept.rows.load(row) for row in await self._on.rows(kept.get, ids)}

    async def _put(self, kept: Kept, records: Sequence[Any]) -> None:
        await self._on.many(kept.put, [kept.dump(record) for record in records])

    async def put_tiers(self, tiers: Sequence[Tier]) -> None:
        """Insert or replace tiers by name."""
        await self._put(TIERS, tiers)

    async def put_parties(self, parties: Sequence[Party]) -> None:
        """Insert or replace third parties."""
        await self._put(PARTIES, parties)

    async def put_credentials(self, credentials: Sequence[Credential]) -> None:
        """Insert or replace credentials by id."""
        await self._put(CREDENTIALS, credentials)

    async def customers(self, ids: Collection[str]) -> dict[str, Customer]:
        """Customers by id."""
        return await self._get(CUSTOMERS, ids)

    async def put_customers(self, customers: Sequence[Customer]) -> None:
        """Insert or replace customers."""
        await self._put(CUSTOMERS, customers)
        await self.keep_words("customer", {each.id: (each.id, each.name, each.contact) for each in customers})

    async def accounts(self, ids: Collection[str]) -> dict[str, Account]:
        """Accounts by id."""
        return await self._get(ACCOUNTS, ids)

    async def put_accounts(self, accounts: Sequence[Account]) -> None:
        """Insert or replace accounts."""
        await self._put(ACCOUNTS, accounts)
        await self.keep_words("account", {each.id: (each.id, each.name) for each in accounts})

    async def service_points(self, ids: Collection[str]) -> dict[str, ServicePoint]:
        """Service points by id."""
        return await self._get(SERVICE_POINTS, ids)

    async def put_service_points(self, service_points: Sequence[ServicePoint]) -> None:
        """Insert or replace service points."""
        await self._put(SERVICE_POINTS, service_points)
        await self.keep_words("service_point", {each.id: (each.id, each.address) for each in service_points})
        await self._outdate({point.id for point in service_points})

    async def meters(self, ids: Collection[str]) -> dict[str, Meter]:
        """Meters by id."""
        return await self._get(METERS, ids)

    async def put_meters(self, meters: Sequence[Meter]) -> None:
        """Insert or replace meters."""
        await self._put(METERS, meters)

    async def equipment(self, ids: Collection[str]) -> dict[str, Device]:
        """Devices by id, linked or not."""
        rows = await self._on.rows(EQUIPMENT, ids, self._now_us)
        return {row[0]: DEVICE.load(row, service_point=row[-1] or "") for row in rows}

    async def put_equipment(self, devices: Sequence[Device]) -> None:
        """Insert or replace devices; their links are left as they are."""
        await self._put(DEVICES, devices)
        await self.keep_words("device", {each.id: (each.id, each.serial) for each in devices})
        linked = await self.devices([device.id for device in devices])
        await self._outdate({device.service_point for device in linked.values()})

    async def changed_by_people(self, but: str) -> dict[str, int]:
        """Grants that somebody else than ``but`` changed: grant → when last."""
        return {row[0]: row[1] for row in await self._on.rows(CHANGED_BY_PEOPLE, but)}

    async def links(
        self,
        kind: LinkKind,
        *,
        a: Collection[str] | None = None,
        b: Collection[str] | None = None,
        live_us: int | None = None,
    ) -> list[Link]:
        """Links of a kind, ordered by (a, b, since)."""
        rows = await self._on.rows(
            LINKS[kind],
            int(a is None),
            () if a is None else a,
            int(b is None),
            () if b is None else b,
            int(live_us is None),
            0 if live_us is None else live_us,
        )
        return [_link(kind, row) for row in rows]

    async def put_links(self, links: Sequence[Link]) -> None:
        """Add links, or move the end of those that are there. Raises :class:`LinkTaken`."""
        for kind in {link.kind for link in links}:
            chosen = [link for link in links if link.kind is kind]
            await self._refuse_taken(kind, chosen)
            rows = [(link.a, link.b, link.since_us, link.until_us) for link in chosen]
            await self._on.many(PUT_LINKS[kind], rows)
            await self._tell(kind, [(link.a, link.b) for link in chosen])

    async def _refuse_taken(self, kind: LinkKind, links: Sequence[Link]) -> None:
        """Say in words what the unique index would say; the index holds also against others at once."""
        single = t.one_open_per[kind]
        rows = await self._on.rows(OPEN[kind], {link.a for link in links}, {link.b for link in links})
        taken = {_single(single, link): link for link in (_link(kind, row) for row in rows)}
        for link in links:
            other = taken.setdefault(_single(single, link), link)
            if link.until_us == FAR_US and (other.a, other.b, other.since_us) != (
                link.a,
                link.b,
                link.since_us,
            ):
                raise LinkTaken(link)

    async def end_links(self, kind: LinkKind, pairs: Collection[Pair], until_us: int) -> int:
        """End the open links of these pairs; how many there were."""
        await self._tell(kind, pairs)
        return await self._on.do(END_LINKS[kind], pairs, until_us)

    async def _tell(self, kind: LinkKind, pairs: Collection[Pair]) -> None:
        """A link to or behind a gateway moves what that gateway should hold."""
        if kind is LinkKind.SERVICE_POINT_GATEWAY:
            await self._outdate({a for a, _ in pairs})
        elif kind is LinkKind.DEVICE_SERVICE_POINT:
            await self._outdate({b for _, b in pairs})


def _link(kind: LinkKind, row: Sequence[Any]) -> Link:
    return Link(kind=kind, a=row[0], b=row[1], since_us=row[2], until_us=row[3])


def _single(sides: tuple[str, ...], link: Link) -> tuple[str, ...]:
    return tuple(getattr(link, side) for side in sides)
