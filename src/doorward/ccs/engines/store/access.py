"""Access: grants, their leases, and what each gateway should hold because of them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Select, or_, select, update

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import (
    Flavour,
    Row,
    Statement,
    exactly,
    locked,
    number,
    putting,
    updating,
    words,
)
from doorward.ccs.engines.store.agreements import CHANGE
from doorward.ccs.engines.store.base import DAY_US
from doorward.ccs.engines.store.catalogue import COUNTER, Counting
from doorward.ccs.engines.store.dispatch import GATEWAY, Dispatching
from doorward.ccs.engines.store.facts import GRANT, Facts, live
from doorward.ccs.engines.store.record import Recording
from doorward.ccs.rules.facts import Gateway, Grant, Provisioned
from doorward.ccs.rules.homes import AccessChange

WITHDRAWN_SHOWN_US = DAY_US
"""How long before a gateway last confirmed a grant may have ended and still be named as withdrawn to it;
what ended earlier is simply no longer listed."""


def _unprovisioned(*more: Any) -> Select[Any]:
    # Those seen last come first: what is not connected must not stand before what is.
    return (
        select(t.gateway.c.id)
        .where(t.gateway.c.applied_version < t.gateway.c.desired_version)
        .where(t.gateway.c.state == exactly("enrolled"), *more)
        .order_by(t.gateway.c.seen_us.desc(), t.gateway.c.id)
        .limit(number("limit"))
    )


def _bump(flavour: Flavour) -> Any:
    link = t.at_gateway
    serving = select(link.c.b).where(flavour.any_of(link.c.a, "points"), live(link))
    return (
        update(t.gateway)
        .where(t.gateway.c.id.in_(serving))
        .values(desired_version=t.gateway.c.desired_version + exactly(1))
    )


PUT_GRANTS = putting(t.grant, (*GRANT.names, "not_before_us", "expires_us", "shares"), "id")
RENEW_LEASES = updating(t.grant, "id", ("lease_until_us", "lease_signed"))
BUMP = Statement(_bump, "points", "now")
SERVED = Statement(
    lambda f: (
        select(t.at_gateway.c.b, t.at_gateway.c.a)
        .where(f.any_of(t.at_gateway.c.b, "ids"), live(t.at_gateway))
        .order_by(t.at_gateway.c.a)
    ),
    "ids",
    "now",
)
HELD = Statement(
    lambda f: (
        select(*GRANT.columns)
        .where(f.any_of(t.grant.c.service_point, "points"))
        .where(
            or_(
                (t.grant.c.state == exactly("live")) & (t.grant.c.expires_us > number("now")),
                t.grant.c.changed_us >= number("since"),
            )
        )
        .order_by(t.grant.c.id)
    ),
    "points",
    "now",
    "since",
)
UNPROVISIONED = Statement(lambda _: _unprovisioned(), "limit")
UNPROVISIONED_OF = Statement(
    lambda f: _unprovisioned(f.any_of(t.gateway.c.partition, "partitions")), "partitions", "limit"
)
RECEIVED = Statement(
    lambda _: (
        update(t.access_change)
        .where(
            t.access_change.c.gateway == words("gateway"),
            t.access_change.c.applied_us == exactly(0),
            t.access_change.c.failed == exactly(""),
            t.access_change.c.gateway_version <= number("version"),
        )
        .values(applied_us=number("at"))
        .returning(*CHANGE.columns)
    ),
    "gateway",
    "version",
    "at",
)
FAILED = Statement(
    lambda f: (
        update(t.access_change)
        .where(
            t.access_change.c.gateway == words("gateway"),
            t.access_change.c.applied_us == exactly(0),
            t.access_change.c.failed == exactly(""),
            f.any_of(t.access_change.c.grant, "grants"),
        )
        .values(failed=words("why"))
        .returning(*CHANGE.columns)
    ),
    "gateway",
    "grants",
    "why",
)
APPLIED = updating(t.gateway, "id", ("applied_version", "applied_us"), rising=("applied_version",))
PUT_GATEWAYS = putting(t.gateway, GATEWAY.names, "id")
BY_CODE = Statement(
    lambda _: locked(
        select(*GATEWAY.columns).where(
            t.gateway.c.code_hash == words("code"), t.gateway.c.code_hash != exactly("")
        )
    ),
    "code",
)
LEASES_TO_RENEW = Statement(
    lambda _: (
        select(*GRANT.columns)
        .where(t.grant.c.state == exactly("live"), t.grant.c.lease_until_us < number("before"))
        .where(t.grant.c.lease_until_us < t.grant.c.expires_us, t.grant.c.expires_us > number("now"))
        .order_by(t.grant.c.lease_until_us)
        .limit(number("limit"))
    ),
    "before",
    "now",
    "limit",
)

LIVE = Statement(
    lambda f: (
        select(*GRANT.columns)
        .where(f.any_of(t.grant.c.id, "ids"), t.grant.c.state == exactly("live"))
        .order_by(t.grant.c.id)
    ),
    "ids",
)
WITHDRAWN = Statement(
    lambda _: (
        select(*GRANT.columns)
        .where(t.grant.c.state == exactly("withdrawn"), t.grant.c.sequence > number("after"))
        .order_by(t.grant.c.sequence)
        .limit(number("limit"))
    ),
    "after",
    "limit",
)

_grant_row = GRANT.dumper()
_gateway_row = GATEWAY.dumper()


class Access(Counting, Facts, Dispatching, Recording):
    """Grants and provisioning."""

    async def put_grants(self, grants: Sequence[Grant]) -> None:
        """Insert or replace grants by id, each with the next ``sequence``; their gateways are told."""
        if not grants:
            return
        numbers = await self._take("grant", len(grants))
        rows = [
            (
                *_grant_row(replace(grant, sequence=at)),
                grant.document.not_before_us,
                grant.document.expires_us,
                not grant.document.utility,
            )
            for grant, at in zip(grants, numbers, strict=True)
        ]
        await self._on.many(PUT_GRANTS, rows)
        await self.record_grants(grants, numbers)
        await self._outdate({grant.service_point for grant in grants})

    async def _outdate(self, service_points: Collection[str]) -> None:
        """What the gateways of these service points hold is no longer what they should."""
        await self._on.do(BUMP, service_points, self._now_us)

    async def renew_leases(self, grants: Sequence[Grant]) -> None:
        """Store the new lease of grants."""
        rows = [(grant.lease_until_us, grant.lease_signed, grant.id) for grant in grants]
        await self._on.many(RENEW_LEASES, rows)

    async def grants_live(self, ids: Collection[str]) -> list[Grant]:
        """Live grants among these ids."""
        return [GRANT.load(row) for row in await self._on.rows(LIVE, ids)]

    async def withdrawn_since(self, sequence: int, limit: int) -> list[Grant]:
        """Withdrawn grants whose last change is after ``sequence``, in that order."""
        return [GRANT.load(row) for row in await self._on.rows(WITHDRAWN, sequence, limit)]

    async def leases_to_renew(self, before_us: int, limit: int) -> list[Grant]:
        """Live grants whose lease ends before ``before_us`` and before the grant itself."""
        rows = await self._on.rows(LEASES_TO_RENEW, before_us, self._now_us, limit)
        return [GRANT.load(row) for row in rows]

    async def provisioned(self, gateways: Collection[str]) -> dict[str, Provisioned]:
        """Desired state: live service points, their devices, live grants, and those that ended lately."""
        known = await self.gateways(gateways)
        points: defaultdict[str, list[str]] = defaultdict(list)
        for gateway, point in await self._on.rows(SERVED, list(known), self._now_us):
            points[gateway].append(point)
        everywhere = [point for served in points.values() for point in served]
        devices = await self.devices_at(everywhere)
        since_us = min((gateway.applied_us for gateway in known.values()), default=0) - WITHDRAWN_SHOWN_US
        grants: defaultdict[str, list[Grant]] = defaultdict(list)
        for row in await self._on.rows(HELD, everywhere, self._now_us, since_us):
            grant = GRANT.load(row)
            grants[grant.service_point].append(grant)
        return {
            id: Provisioned(
                gateway=gateway,
                service_points=points[id],
                devices=[device for point in points[id] for device in devices.get(point, ())],
                grants=[grant for point in points[id] for grant in grants[point]],
            )
            for id, gateway in known.items()
        }

    async def unprovisioned(self, partitions: Collection[int] | None, limit: int) -> list[str]:
        """Enrolled gateways whose applied version is behind the desired one, last seen first."""
        if partitions is None:
            rows = await self._on.rows(UNPROVISIONED, limit)
        else:
            rows = await self._on.rows(UNPROVISIONED_OF, partitions, limit)
        return [row[0] for row in rows]

    async def applied(
        self,
        versions: Mapping[str, int],
        now_us: int,
        failed: Mapping[str, Mapping[str, str]] | None = None,
    ) -> list[AccessChange]:
        """Gateways have confirmed these versions; a version never goes back. What changed up to then is theirs,
        apart from the grants that they could not take (``failed``: gateway → grant → why). Return the changes
        of which that is news."""
        rows: list[Row] = []
        for gateway, causes in (failed or {}).items():
            for grant, why in causes.items():
                rows += await self._on.rows(FAILED, gateway, [grant], why)
        await self._on.many(APPLIED, [(versions[id], now_us, id) for id in sorted(versions)])
        for id in sorted(versions):
            rows += await self._on.rows(RECEIVED, id, versions[id], now_us)
        return [CHANGE.load(row) for row in rows]

    async def put_gateways(self, gateways: Sequence[Gateway]) -> None:
        """Insert or replace gateways as they were read under a lock."""
        await self._on.many(PUT_GATEWAYS, [_gateway_row(gateway) for gateway in gateways])

    async def gateways_version(self) -> int:
        """Grows with every revocation of a gateway."""
        version: int = (await self._on.rows(COUNTER, "gateway"))[0][0]
        return version

    async def turn_gateways(self) -> None:
        """Say that a gateway was revoked: whoever serves gateways looks at them anew."""
        await self._take("gateway", 1)

    async def gateway_by_code(self, code_hash: str) -> Gateway | None:
        """The gateway that an unused enrolment code belongs to, row-locked."""
        rows = await self._on.rows(BY_CODE, code_hash)
        return GATEWAY.load(rows[0]) if rows else None
