"""Permissions: what a customer allows whom, on which devices, within which bounds."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from doorward.ccs.setup.plan import OWN_PREFIX, WantedGrant
from doorward.cli.toml_places import Path as Place
from doorward.cli.utility.mistakes import Refs, fields_of, row_of
from doorward.cli.utility.places import zone_of
from doorward.cli.utility.tables import BoundsTable, DeviceTable, GrantTable, PermitTable
from doorward.wire.grants import Bounds, DevicePermit, binding
from doorward.wire.times import from_rfc3339
from doorward.wire.vocabulary import CLASS_OPERATIONS


def grants_of(refs: Refs) -> list[WantedGrant]:
    """Return the permissions; a pair of third party and service point has one."""
    grants = []
    first: dict[tuple[str, str], Place] = {}
    for place, row in refs.rows["grant"]:
        references = ("party", "service_point", "tier")
        whole = [refs.must_be((*place, name), name, getattr(row, name)) for name in references]
        pair = (row.party, row.service_point)
        if pair in first:
            refs.wrong(
                place, f"{row.party} has a grant there already, at line {refs.places.line(first[pair])}"
            )
        first.setdefault(pair, place)
        permits = _permits(refs, place, row)
        not_before_us, expires_us = _span(refs, place, row)
        if all(whole):
            grants.append(_grant(refs, row, permits, not_before_us, expires_us))
    return grants


def _span(refs: Refs, place: Place, row: GrantTable) -> tuple[int, int]:
    point = refs.ids("service_point").get(row.service_point)
    zone = (zone_of(point.timezone) if point else None) or ZoneInfo("UTC")
    not_before_us = _us(refs, (*place, "from"), row.from_, zone) if row.from_ is not None else 0
    expires_us = _us(refs, (*place, "until"), row.until, zone)
    if expires_us and not_before_us >= expires_us:
        refs.wrong((*place, "until"), "must be after 'from'")
    return not_before_us, expires_us


def _grant(
    refs: Refs, row: GrantTable, permits: list[DevicePermit], not_before_us: int, expires_us: int
) -> WantedGrant:
    point = refs.ids("service_point")[row.service_point]
    # Who lives there is part of the name: the next occupant's yes is never the last one's.
    parts = [row.party, row.service_point, point.account, row.consent]
    return WantedGrant(
        id=OWN_PREFIX + ".".join(part for part in parts if part),
        party=row.party,
        service_point=row.service_point,
        purpose=row.purpose,
        tier=row.tier,
        permits=permits,
        expires_us=expires_us,
        not_before_us=not_before_us,
        service_point_limit=row.service_point_limit,
        signature_required=row.signature_required,
        consent=row.consent,
    )


def _us(refs: Refs, place: Place, moment: object, zone: ZoneInfo) -> int:
    """A day begins at midnight in the service point's time zone."""
    if not isinstance(moment, date):
        refs.wrong(place, "is neither a day nor a time; write 2027-01-31 (without quotes)")
        return 0
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), zone)
    if moment.tzinfo is None:
        refs.wrong(place, "has no time zone; write 2027-01-31T18:00:00Z, or only the day")
        return 0
    return from_rfc3339(moment.astimezone(UTC).isoformat())


def _permits(refs: Refs, place: Place, row: GrantTable) -> list[DevicePermit]:
    permits: list[DevicePermit] = []
    if not row.device:
        refs.wrong((*place, "device"), "is missing: a [[grant.device]] for each device that is permitted")
    devices = refs.ids("device")
    for number, entry in enumerate(row.device):
        where = (*place, "device", number)
        permit = row_of(refs, where, PermitTable, entry)
        bounds = row_of(refs, (*where, "bounds"), BoundsTable, permit.bounds) if permit else None
        if permit is None or bounds is None or not refs.must_be((*where, "id"), "device", permit.id):
            continue
        device = devices[permit.id]
        if device.service_point != row.service_point:
            at = device.service_point or "no service point"
            refs.wrong((*where, "id"), f"{permit.id} is at {at}, not at {row.service_point}")
        if any(permit.id == other.device for other in permits):
            refs.wrong((*where, "id"), f"{permit.id} stands twice in this grant")
        _operations(refs, (*where, "operations"), permit, device)
        permits.append(
            DevicePermit(
                device=permit.id,
                device_class=device.device_class,
                operations=permit.operations,
                bounds=_bounds(refs, (*where, "bounds", "between"), bounds),
                bound_to=binding(device.protocol, device.model, device.address, device.serial),
            )
        )
    return permits


def _operations(refs: Refs, place: Place, permit: PermitTable, device: DeviceTable) -> None:
    known = CLASS_OPERATIONS[device.device_class]
    if not permit.operations:
        refs.wrong(place, "names no operation")
    for operation in permit.operations:
        if operation not in known:
            refs.wrong(place, f"a {device.device_class} knows {', '.join(sorted(known))}, not {operation}")


def _bounds(refs: Refs, place: Place, table: BoundsTable) -> Bounds:
    fields = fields_of(table)
    if table.between is not None:
        fields["between"] = tuple(_minute(refs, place, text) for text in table.between)
    return Bounds(**fields)


def _minute(refs: Refs, place: Place, text: str) -> int:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        refs.wrong(place, f"{text!r} is not a time of day like 18:30")
        return 0
    return moment.hour * 60 + moment.minute
