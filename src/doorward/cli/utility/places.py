"""Service points, equipment, and what belongs to what."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from doorward.ccs.rules.facts import Device, LinkKind, ServicePoint
from doorward.ccs.setup.plan import LinkEnds
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.mistakes import Refs, fields_of
from doorward.cli.utility.tables import DeviceTable, ServicePointTable


def service_point_of(refs: Refs, place: Place, row: ServicePointTable) -> ServicePoint:
    """Return the service point of a table."""
    if zone_of(row.timezone) is None:
        refs.wrong(
            (*place, "timezone"), f"there is no time zone {row.timezone!r}; write like America/Toronto"
        )
    return ServicePoint(
        id=row.id, service=row.service or "on", timezone=row.timezone, address=row.address, area=row.area
    )


def zone_of(name: str) -> ZoneInfo | None:
    """Return a time zone by its name, or ``None``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def device_of(row: DeviceTable) -> Device:
    """Return the equipment of a table."""
    return Device(**fields_of(row) | {"name": row.name or row.id})


def links_of(refs: Refs) -> list[LinkEnds]:
    """Return what belongs to what, over all tables."""
    links: list[LinkEnds] = []

    def link(place: Place, table: str, id: str, ends: LinkEnds) -> None:
        if refs.must_be(place, table, id):
            links.append(ends)

    for place, row in refs.rows["account"]:
        for number, customer in enumerate(row.customers):
            ends = (LinkKind.CUSTOMER_ACCOUNT, customer, row.id)
            link((*place, "customers", number), "customer", customer, ends)
    meters: dict[str, Place] = {}
    for place, row in refs.rows["service_point"]:
        if row.account:
            ends = (LinkKind.ACCOUNT_SERVICE_POINT, row.account, row.id)
            link((*place, "account"), "account", row.account, ends)
        if row.gateway:
            ends = (LinkKind.SERVICE_POINT_GATEWAY, row.id, row.gateway)
            link((*place, "gateway"), "gateway", row.gateway, ends)
        for number, meter in enumerate(row.meters):
            where = (*place, "meters", number)
            if meters.setdefault(meter, where) != where:
                refs.wrong(where, f"meter {meter!r} is already at line {refs.places.line(meters[meter])}")
            link(where, "meter", meter, (LinkKind.SERVICE_POINT_METER, row.id, meter))
    for place, row in refs.rows["device"]:
        if row.service_point:
            ends = (LinkKind.DEVICE_SERVICE_POINT, row.id, row.service_point)
            link((*place, "service_point"), "service_point", row.service_point, ends)
    return links
