"""A limit of the whole service point: what it uses in all, and how the limit is spread (S2.09b)."""

from doorward.spg.answers import Failure
from doorward.spg.desk import Desk
from doorward.spg.monitoring import total_power_w
from doorward.spg.ports import Reading
from doorward.spg.rules import checks, plan
from doorward.wire.grants import Bounds
from doorward.wire.messages import Command
from doorward.wire.reasons import Reason, Refused
from doorward.wire.vocabulary import DeviceClass


def devices_at(desk: Desk, service_point: str) -> list[str]:
    """Return all devices that a limit of the service point is about."""
    return [d.id for d in desk.house.devices.values() if d.service_point == service_point]


def spread(
    desk: Desk, command: Command, permits: dict[str, Bounds], before: dict[str, Reading], total_w: float
) -> list[plan.Step]:
    """Return what each device that this service may control now is told, so that the whole meets the limit.

    Raises ``Refused`` where the limit is no number, or cannot be met by these devices.
    """
    house = desk.house
    held = house.live(command, desk.clock.now_us())
    candidates = []
    for device_id, reading in before.items():
        permit = held.document.permit(device_id)
        running = house.controls.get(device_id)
        foreign = running is not None and running.party != command.party and command.klass >= running.klass
        if permit is None or device_id not in permits or foreign or device_id in house.overridden:
            continue
        listed = house.devices[device_id]
        candidates.append(
            plan.Candidate(
                device=device_id,
                device_class=listed.device_class,
                power_w=max(0.0, reading.power_w),
                rated_w=listed.rated_w,
                operations=frozenset(permit.operations) & house.capabilities.get(device_id, frozenset()),
                bounds=permit.bounds,
            )
        )
    return plan.spread(watts_of(command), total_w, candidates)


def usage_w(desk: Desk, readings: dict[str, Reading], failures: list[Failure]) -> float:
    """The meter's word where there is a meter; else the sum, a silent device counting as if it ran."""
    devices = desk.house.devices
    total_w = total_power_w(list(readings.values()), devices)
    if any(devices[name].device_class is DeviceClass.METER for name in readings):
        return total_w
    silent = [devices[f.device] for f in failures if f.device in devices]
    return total_w + sum(d.rated_w for d in silent if d.device_class is not DeviceClass.METER)


def watts_of(command: Command) -> float:
    """Return the limit that a command sets; raise ``format-invalid`` where it names none."""
    watts = checks.body_of(command).get("watts")
    if not isinstance(watts, int | float) or isinstance(watts, bool):
        raise Refused(Reason.FORMAT_INVALID, "watts is missing or no number", field="/body/watts")
    return float(watts)
