"""Permissions in plain words: five verbs that people choose from, and sentences of what is allowed."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from doorward.wire.grants import Bounds, DevicePermit, GrantDocument
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, Operation


class Verb(StrEnum):
    """What a service may do with a device, as people say it."""

    SEE = "see"
    SWITCH = "switch"
    LIMIT = "limit"
    SET = "set"
    SCHEDULE = "schedule"


VERB_OPERATIONS: dict[Verb, tuple[Operation, ...]] = {
    Verb.SEE: (Operation.READ,),
    Verb.SWITCH: (Operation.TURN_ON, Operation.TURN_OFF),
    Verb.LIMIT: (Operation.LIMIT, Operation.DUTY_CYCLE, Operation.SHED, Operation.LOAD_UP),
    Verb.SET: (Operation.SETPOINT, Operation.OFFSET, Operation.MODE),
    Verb.SCHEDULE: (Operation.PROGRAM,),
}
CLASS_WORDS: dict[DeviceClass, str] = {
    DeviceClass.THERMOSTAT: "thermostat",
    DeviceClass.HEAT_PUMP: "heat pump",
    DeviceClass.POOL_PUMP: "pool pump",
    DeviceClass.WATER_HEATER: "water heater",
    DeviceClass.EV_CHARGER: "car charger",
    DeviceClass.RELAY: "switched outlet",
    DeviceClass.METER: "meter",
}
OPERATION_WORDS: dict[Operation, str] = {
    Operation.READ: "read",
    Operation.TURN_ON: "turned on",
    Operation.TURN_OFF: "turned off",
    Operation.LIMIT: "limited",
    Operation.SETPOINT: "set the temperature of",
    Operation.OFFSET: "shifted the temperature of",
    Operation.MODE: "changed the mode of",
    Operation.SHED: "saved power with",
    Operation.LOAD_UP: "heated ahead with",
    Operation.DUTY_CYCLE: "ran part of the time",
    Operation.PROGRAM: "changed the schedule of",
    Operation.RELEASE: "let go of",
}
"""Operation → what a service did to a device, in the past."""


def verbs_of(device_class: DeviceClass) -> list[Verb]:
    """Return the verbs that a class of device knows, in their order."""
    known = CLASS_OPERATIONS[device_class]
    return [verb for verb, operations in VERB_OPERATIONS.items() if known.intersection(operations)]


def operations_of(device_class: DeviceClass, verbs: Collection[str]) -> list[Operation]:
    """Return the operations that verbs stand for on a class of device."""
    known = CLASS_OPERATIONS[device_class]
    return [each for verb in Verb if verb in verbs for each in VERB_OPERATIONS[verb] if each in known]


def verbs_in(operations: Collection[Operation]) -> list[Verb]:
    """Return the verbs that operations belong to, in their order."""
    return [verb for verb, own in VERB_OPERATIONS.items() if set(own).intersection(operations)]


def degrees(celsius: float, fahrenheit: bool) -> str:
    """Return a temperature as people read it."""
    if fahrenheit:
        return f"{_number(celsius * 9 / 5 + 32)} °F"
    return f"{_number(celsius)} °C"


def span(celsius: float, fahrenheit: bool) -> str:
    """Return a difference of temperatures as people read it."""
    return f"{_number(celsius * 9 / 5)} °F" if fahrenheit else f"{_number(celsius)} °C"


def watts(value: float) -> str:
    """Return a power as people read it."""
    if abs(value) >= 1000:
        return f"{value / 1000:.2f}".rstrip("0").rstrip(".") + " kW"
    return f"{_number(value)} W"


def clock(minute: int) -> str:
    """Return a minute of the day as a time."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def bounds_words(bounds: Bounds, fahrenheit: bool = False) -> list[str]:
    """Return the customer's bounds on a device as phrases."""
    said = []
    if bounds.celsius_min is not None:
        said.append(f"never below {degrees(bounds.celsius_min, fahrenheit)}")
    if bounds.celsius_max is not None:
        said.append(f"never above {degrees(bounds.celsius_max, fahrenheit)}")
    if bounds.offset_max is not None:
        said.append(f"shifted by at most {span(bounds.offset_max, fahrenheit)}")
    if bounds.watts_min is not None:
        said.append(f"never below {watts(bounds.watts_min)}")
    if bounds.watts_max is not None:
        said.append(f"never above {watts(bounds.watts_max)}")
    if bounds.times_per_day is not None:
        many = "once" if bounds.times_per_day == 1 else f"{bounds.times_per_day} times"
        said.append(f"at most {many} a day")
    if bounds.between is not None:
        said.append(f"only between {clock(bounds.between[0])} and {clock(bounds.between[1])}")
    if bounds.hours_max is not None:
        said.append(f"for at most {_number(bounds.hours_max)} h at a time")
    return said


def permit_words(permit: DevicePermit, name: str, fahrenheit: bool = False) -> str:
    """Return one device's permit as a sentence."""
    verbs = ", ".join(verbs_in(permit.operations)) or "nothing"
    said = bounds_words(permit.bounds, fahrenheit)
    return f"{name}: {verbs}{'; ' + '; '.join(said) if said else ''}"


def denied_words(permit: DevicePermit, name: str) -> str:
    """Return what a service cannot do with a device, ``""`` when it may do all that the device knows."""
    allowed = set(verbs_in(permit.operations))
    missing = [verb for verb in verbs_of(permit.device_class) if verb not in allowed]
    return f"{verbs_phrase(missing)} {name}" if missing else ""


def verbs_phrase(verbs: Sequence[str]) -> str:
    """Return verbs as a list in words: ``switch, limit or schedule``."""
    if len(verbs) < 2:
        return "".join(verbs)
    return f"{', '.join(verbs[:-1])} or {verbs[-1]}"


def document_words(document: GrantDocument, names: Mapping[str, str], fahrenheit: bool = False) -> list[str]:
    """Return all that a permission allows, a sentence a device."""
    return [permit_words(each, names.get(each.device, each.device), fahrenheit) for each in document.devices]


def difference_words(
    before: GrantDocument, after: GrantDocument, names: Mapping[str, str], fahrenheit: bool = False
) -> list[str]:
    """Return in sentences what differs between two versions of a permission."""
    said = []
    for permit in after.devices:
        name = names.get(permit.device, permit.device)
        old = before.permit(permit.device)
        if old is None:
            said.append(f"added — {permit_words(permit, name, fahrenheit)}")
        elif (old.operations, old.bounds) != (permit.operations, permit.bounds):
            said.append(
                f"{permit_words(permit, name, fahrenheit)} (was: {permit_words(old, name, fahrenheit)})"
            )
    gone = {each.device for each in before.devices} - {each.device for each in after.devices}
    return said + [f"removed — {names.get(device, device)}" for device in sorted(gone)]
