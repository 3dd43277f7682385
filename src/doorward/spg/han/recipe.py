"""Pure half of the Modbus adapter: registers to values, commands to writes and expectations.

Raises :class:`~doorward.spg.ports.DeviceFault` for nonsense from a device and for commands that a
device can not carry out. No I/O.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from doorward.spg.han.device_model import (
    UNITS,
    WORDS,
    Check,
    DeviceModel,
    Field,
    Point,
    ProgramTable,
    Recipe,
    Scalar,
    Write,
)
from doorward.spg.ports import DeviceFault, HanCommand
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import OperatingState, Operation

FORMATS = {"int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f"}
Interval = dict[str, object]


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """A point that must read ``value`` (within ``tolerance``) for a command to count as followed."""

    point: str
    value: Scalar
    tolerance: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a command comes to on one product: what to write, and what must be seen after it."""

    writes: list[tuple[str, Scalar]]
    expectations: list[Expectation]
    checks: list[tuple[Check, Mapping[str, object]]]
    program: list[Interval] | None = None

    def unmet(self, values: Mapping[str, Scalar], program: list[Interval] | None) -> str:
        """Say in words what is not as expected; empty when the command is followed."""
        for want in self.expectations:
            have = values[want.point]
            if not _equal(have, want.value, want.tolerance):
                return f"{want.point} is {have}, asked for {want.value}"
        if self.program is not None and program != self.program:
            return f"the programme in force is {program}, asked for {self.program}"
        for check, body in self.checks:
            said = _outside(check, values[check.point], body)
            if said:
                return said
        return ""


# --- registers and values -------------------------------------------------------------------------


def decode(name: str, point: Point, raw: Sequence[int | bool]) -> Scalar:
    """Return the point's value in Doorward's unit; raise ``DeviceFault`` for nonsense."""
    if point.type == "bool":
        return bool(raw[0])
    words = [int(word) for word in raw]
    if point.word_order == "little":
        words.reverse()
    packed = b"".join(word.to_bytes(2, "big") for word in words)
    number: float = struct.unpack(FORMATS[point.type], packed)[0]
    if point.none is not None and number == point.none:
        return None
    if point.enum is not None:
        word = point.enum.get(str(int(number)))
        if word is None:
            raise DeviceFault(Reason.DEVICE_FAULT, f"{name} reads {int(number)}, which has no meaning")
        return word
    factor, shift = UNITS[point.unit]
    value = (number * point.scale + point.offset) * factor + shift
    if not math.isfinite(value):
        raise DeviceFault(Reason.DEVICE_FAULT, f"{name} reads {value}, which is not a number")
    if not _plausible(point, value):
        raise DeviceFault(
            Reason.DEVICE_FAULT, f"{name} reads {value:g}, plausible is {point.min} to {point.max}"
        )
    return round(value, 6)


def encode(name: str, point: Point, value: Scalar) -> list[int]:
    """Return the registers (or one bit) of a value; raise ``DeviceFault`` when it does not fit."""
    if point.type == "bool":
        return [int(bool(value))]
    number: float
    if value is None:
        if point.none is None:
            raise DeviceFault(Reason.DEVICE_REFUSED, f"{name} can not be without a value")
        number = point.none
    elif point.enum is not None:
        number = _raw_of(name, point.enum, value)
    else:
        number = _raw_number(name, point, value)
    packed = struct.pack(FORMATS[point.type], number if point.type == "float32" else int(number))
    words = [int.from_bytes(packed[i : i + 2], "big") for i in range(0, 2 * WORDS[point.type], 2)]
    return words[::-1] if point.word_order == "little" else words


def _raw_of(name: str, enum: Mapping[str, str | bool], value: Scalar) -> int:
    for raw, word in enum.items():
        if word == value:
            return int(raw)
    raise DeviceFault(
        Reason.DEVICE_REFUSED, f"{name} has no '{value}', only {', '.join(map(str, enum.values()))}"
    )


def _raw_number(name: str, point: Point, value: Scalar) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DeviceFault(Reason.DEVICE_REFUSED, f"{name} takes a number, not {value!r}")
    if not _plausible(point, value):
        raise DeviceFault(
            Reason.DEVICE_REFUSED, f"{name} {value:g} is outside {point.min} to {point.max} of this device"
        )
    factor, shift = UNITS[point.unit]
    raw = ((value - shift) / factor - point.offset) / point.scale
    if point.type == "float32":
        return raw
    low, high = _integer_range(point.type)
    if not low <= round(raw) <= high:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"{name} {value:g} does not fit the device's register")
    return round(raw)


def _integer_range(kind: str) -> tuple[int, int]:
    bits = 16 * WORDS[kind]
    return (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _plausible(point: Point, value: float) -> bool:
    return (point.min is None or value >= point.min) and (point.max is None or value <= point.max)


def resolution(point: Point) -> float:
    """How far a value read back may be from the one written: half a step of the register, or as given."""
    if point.tolerance is not None:
        return point.tolerance
    if point.type == "float32":
        return 1e-3
    return abs(point.scale * UNITS[point.unit][0]) * 0.51


# --- programmes -----------------------------------------------------------------------------------


def encode_program(table: ProgramTable, intervals: Sequence[Interval]) -> list[int]:
    """Return the whole block: count, rows, and zeros for rows that are not used."""
    words = [len(intervals)]
    for interval in intervals:
        words += [_field_word(field, interval) for field in table.fields]
    return words + [0] * (table.words - len(words))


def decode_program(table: ProgramTable, words: Sequence[int]) -> list[Interval]:
    """Return the intervals of a block; raise ``DeviceFault`` for nonsense."""
    count, wide = words[0], len(table.fields)
    if count > table.rows:
        raise DeviceFault(Reason.DEVICE_FAULT, f"the programme reads {count} rows of {table.rows}")
    rows = [words[1 + i * wide : 1 + (i + 1) * wide] for i in range(count)]
    return [{f.key: _field_value(f, w) for f, w in zip(table.fields, row, strict=True)} for row in rows]


def normal_program(table: ProgramTable, intervals: object) -> list[Interval]:
    """Return a body's intervals in order and as the device will show them; raise ``DeviceFault``."""
    if not isinstance(intervals, list) or len(intervals) > table.rows:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"a programme is a list of at most {table.rows} intervals")
    known = {field.key for field in table.fields}
    for index, interval in enumerate(intervals):
        odd = set(interval) - known if isinstance(interval, dict) else {"?"}
        if odd:
            raise DeviceFault(
                Reason.DEVICE_REFUSED, f"interval {index}: this device has no {', '.join(sorted(odd))}"
            )
    decoded = decode_program(table, encode_program(table, intervals))
    return sorted(decoded, key=lambda interval: str(interval["at"]))


def _field_word(field: Field, interval: Interval) -> int:
    value = interval.get(field.key, field.default)
    if field.key == "at":
        return minutes_of(value)
    if not isinstance(value, (int, float)):
        raise DeviceFault(Reason.DEVICE_REFUSED, f"an interval lacks '{field.key}', a number")
    if (field.min is not None and value < field.min) or (field.max is not None and value > field.max):
        raise DeviceFault(
            Reason.DEVICE_REFUSED, f"{field.key} {value:g} is outside {field.min} to {field.max}"
        )
    return round(value / field.scale) & 0xFFFF


def _field_value(field: Field, word: int) -> object:
    if field.key == "at":
        if word >= 24 * 60:
            raise DeviceFault(Reason.DEVICE_FAULT, f"the programme reads minute {word} of the day")
        return f"{word // 60:02d}:{word % 60:02d}"
    if isinstance(field.default, bool):
        return bool(word)
    signed = word - 0x10000 if field.type == "int16" and word >= 0x8000 else word
    return round(signed * field.scale, 6)


def minutes_of(text: object) -> int:
    """Return the minute of the day of ``HH:MM``; raise ``DeviceFault`` when it is none."""
    hours, _, minutes = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise DeviceFault(Reason.DEVICE_REFUSED, f"'at' is HH:MM, not {text!r}")
    return int(hours) * 60 + int(minutes)


# --- commands -------------------------------------------------------------------------------------


def plan_of(model: DeviceModel, command: HanCommand, values: Mapping[str, Scalar]) -> Plan:
    """Return what ``command`` comes to, ``values`` being what the device holds now."""
    if command.operation is Operation.RELEASE:
        return _release(model, command.baseline)
    recipe = model.operations.get(command.operation)
    if recipe is None:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"model {model.name} has no {command.operation.value}")
    body = _with_default(recipe, command.body, values)
    baseline = command.baseline or {}
    writes = [
        (write.point, _value_of(write, body, baseline, values))
        for write in recipe.writes
        if all(body.get(key) == word for key, word in write.when.items())
    ]
    if not writes and recipe.program is None:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"nothing to do for {dict(body)}")
    return Plan(
        writes=writes,
        expectations=_expect(model, writes),
        checks=[(check, body) for check in recipe.checks],
        program=_program_of(model, recipe, body),
    )


def _release(model: DeviceModel, baseline: Mapping[str, object] | None) -> Plan:
    if not model.snapshot or baseline is None:
        raise DeviceFault(Reason.DEVICE_REFUSED, "there is nothing to restore: no baseline")
    names = [name for name in model.snapshot if name in baseline and name != "program"]
    writes = [(name, _scalar(baseline[name])) for name in names]
    program = None
    if model.program is not None and "program" in baseline:
        program = normal_program(model.program, baseline["program"])
    return Plan(writes=writes, expectations=_expect(model, writes), checks=[], program=program)


def _expect(model: DeviceModel, writes: Iterable[tuple[str, Scalar]]) -> list[Expectation]:
    return [
        Expectation(point=name, value=value, tolerance=resolution(model.points[name]))
        for name, value in writes
    ]


def _program_of(model: DeviceModel, recipe: Recipe, body: Mapping[str, object]) -> list[Interval] | None:
    if model.program is None or recipe.program is None:
        return None
    return [] if recipe.program == "clear" else normal_program(model.program, body.get("intervals"))


def _with_default(
    recipe: Recipe, body: Mapping[str, object], values: Mapping[str, Scalar]
) -> Mapping[str, object]:
    default = recipe.default
    if default is None or body.get(default.key) is not None:
        return body
    return {**body, default.key: default.map.get(str(values[default.point]), default.otherwise)}


def _value_of(
    write: Write, body: Mapping[str, object], baseline: Mapping[str, object], values: Mapping[str, Scalar]
) -> Scalar:
    if not write.from_:
        return write.value
    value = _scalar(body.get(write.from_))
    if value is None:
        raise DeviceFault(Reason.DEVICE_REFUSED, f"the command lacks '{write.from_}'")
    if not write.plus_baseline:
        return value
    # The owner's setpoint: kept before the first control; before any control it is what stands now.
    owner = baseline.get(write.plus_baseline, values[write.plus_baseline])
    if not isinstance(owner, (int, float)) or not isinstance(value, (int, float)):
        raise DeviceFault(Reason.DEVICE_REFUSED, f"{write.plus_baseline} has no value to be relative to")
    return owner + value


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DeviceFault(Reason.DEVICE_REFUSED, f"expected a number or a word, not {value!r}")


def _equal(have: Scalar, want: Scalar, tolerance: float) -> bool:
    if isinstance(have, bool) or isinstance(want, bool) or have is None or want is None:
        return have == want
    if isinstance(have, str) or isinstance(want, str):
        return have == want
    return abs(have - want) <= tolerance


def _outside(check: Check, value: Scalar, body: Mapping[str, object]) -> str:
    if not isinstance(value, (int, float)):
        return ""
    for bound, sign in ((check.at_most, 1), (check.at_least, -1)):
        limit = body.get(bound) if isinstance(bound, str) else bound
        if isinstance(limit, (int, float)) and sign * (value - limit) > check.tolerance:
            return f"{check.point} is {value:g}, should be at {'most' if sign > 0 else 'least'} {limit:g}"
    return ""


def state_of(model: DeviceModel, values: Mapping[str, Scalar]) -> OperatingState:
    """Return the operating state that ``values`` show by the model's rules."""
    rules = model.state

    def any_of(name: str) -> bool:
        return any(condition.holds(values) for condition in getattr(rules, name))

    if any_of("fault"):
        return OperatingState.ERROR
    if rules.point:
        return rules.map[str(values[rules.point])]
    running = "RUNNING" if any_of("running") else "IDLE"
    for name in ("opted_out", "curtailed", "heightened"):
        if any_of(name):
            return OperatingState(f"{running}_{name.upper()}")
    return OperatingState(f"{running}_NORMAL")
