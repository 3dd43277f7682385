"""The facts that a decision is made on: who asks, where it goes, what is allowed."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, distinct, func, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import SKIP, Flavour, Statement, exactly, inserting, number
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.ports import Pair
from doorward.ccs.rules.facts import Device, Grant, Party, Place, Tier

PARTY = RowsOf(Party, t.party)
TIER = RowsOf(Tier, t.tier)
DEVICE = RowsOf(Device, t.device, leaving_out=("service_point",))
GRANT = RowsOf(Grant, t.grant)


def live(link: Table) -> ColumnElement[bool]:
    """A dated link is live at the parameter ``now``."""
    return (link.c.since_us <= number("now")) & (link.c.until_us > number("now"))


def _devices() -> Select[Any]:
    link = t.at_service_point
    return select(*DEVICE.columns, link.c.b).join(link, link.c.a == t.device.c.id).where(live(link))


def _places(flavour: Flavour) -> Select[Any]:
    sharers = (
        select(func.count(distinct(t.grant.c.party)))
        .where(t.grant.c.service_point == t.service_point.c.id, t.grant.c.state == exactly("live"))
        .where(t.grant.c.not_before_us <= number("now"), t.grant.c.expires_us > number("now"))
        .where(t.grant.c.shares)
        .scalar_subquery()
    )
    point = t.service_point
    return (
        select(
            point.c.id,
            t.gateway.c.id,
            t.gateway.c.partition,
            point.c.service,
            point.c.timezone,
            sharers,
            point.c.area,
            t.protected.c.service_point.is_not(None),
        )
        .outerjoin(t.protected, t.protected.c.service_point == point.c.id)
        .join(t.at_gateway, t.at_gateway.c.a == point.c.id)
        .join(t.gateway, t.gateway.c.id == t.at_gateway.c.b)
        .where(flavour.any_of(point.c.id, "ids"), live(t.at_gateway))
    )


PARTIES = Statement(lambda f: select(*PARTY.columns).where(f.any_of(t.party.c.id, "ids")), "ids")
TIERS = Statement(lambda _: select(*TIER.columns))
DEVICES = Statement(lambda f: _devices().where(f.any_of(t.device.c.id, "ids")), "ids", "now")
DEVICES_AT = Statement(
    lambda f: _devices().where(f.any_of(t.at_service_point.c.b, "points")).order_by(t.device.c.id),
    "points",
    "now",
)
PLACES = Statement(_places, "ids", "now")
GRANTS = Statement(
    lambda f: (
        select(*GRANT.columns)
        .where(f.any_pair(t.grant.c.party, t.grant.c.service_point, "pairs"))
        .order_by(t.grant.c.state == exactly("live"), t.grant.c.sequence)
    ),
    "pairs",
)
REVOKED = Statement(
    lambda f: select(t.revoked_token.c.id).where(f.any_of(t.revoked_token.c.id, "ids")), "ids"
)
REVOKE = inserting(t.revoked_token, ("id", "until_us"), SKIP)
USE_PROOFS = inserting(t.proof, ("id", "until_us"), SKIP, returning="id")


class Facts(Part):
    """Reads that the way out begins with."""

    async def parties(self, ids: Collection[str]) -> dict[str, Party]:
        """Third parties by id."""
        return {row[0]: PARTY.load(row) for row in await self._on.rows(PARTIES, ids)}

    async def tiers(self) -> dict[str, Tier]:
        """All tiers by name."""
        return {row[0]: TIER.load(row) for row in await self._on.rows(TIERS)}

    async def devices(self, ids: Collection[str]) -> dict[str, Device]:
        """Devices with a live link to a service point."""
        rows = await self._on.rows(DEVICES, ids, self._now_us)
        return {row[0]: DEVICE.load(row, service_point=row[-1]) for row in rows}

    async def devices_at(self, service_points: Collection[str]) -> dict[str, list[Device]]:
        """Live devices per service point, ordered by id."""
        found: defaultdict[str, list[Device]] = defaultdict(list)
        for row in await self._on.rows(DEVICES_AT, service_points, self._now_us):
            found[row[-1]].append(DEVICE.load(row, service_point=row[-1]))
        return dict(found)

    async def places(self, service_points: Collection[str], now_us: int) -> dict[str, Place]:
        """Service points with their live gateway."""
        return {
            point: Place(
                service_point=point,
                gateway=gateway,
                partition=partition,
                service=service,
                timezone=timezone,
                parties=sharers,
                area=area,
                protected=bool(protected),
            )
            for point, gateway, partition, service, timezone, sharers, area, protected in await self._on.rows(
                PLACES, service_points, now_us
            )
        }

    async def grants(self, pairs: Collection[Pair]) -> dict[Pair, Grant]:
        """The newest grant of each (party, service point): the live one, or the one last changed."""
        grants = [GRANT.load(row) for row in await self._on.rows(GRANTS, pairs)]
        return {(grant.party, grant.service_point): grant for grant in grants}

    async def revoked_tokens(self, token_ids: Collection[str]) -> set[str]:
        """Those of the token ids that were revoked."""
        return {row[0] for row in await self._on.rows(REVOKED, token_ids)}

    async def revoke_tokens(self, tokens: Mapping[str, int]) -> None:
        """Record revoked token ids until a time."""
        await self._on.many(REVOKE, sorted(tokens.items()))

    async def use_proofs(self, proofs: Mapping[str, int]) -> set[str]:
        """Record one-time ids until a time; return those seen before. Of two at once, one sees the other's."""
        return set(proofs) - await self._on.kept(USE_PROOFS, sorted(proofs.items()))
