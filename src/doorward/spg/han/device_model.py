"""Device models: what the Modbus adapter knows of a product, as a TOML file that anybody can write.

A model names the product's registers (``points``), says how the operating state follows from them, and
gives a recipe per operation. It is checked as a whole when it is loaded; an error names the file, the
key and the rule that it breaks. ``docs/howto/add-a-device-model.md`` is the guide.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, OperatingState, Operation

BUILT_IN = Path(__file__).parent / "models"
ADDRESS_MAX = 65_535
SPAN_WORDS_MAX = 120
"""Largest block written or read in one request (the protocol's own bound is 123 to write)."""
MODEL_BYTES_MAX = 64 * 1024

Kind = Literal["input", "holding", "coil", "discrete"]
DataType = Literal["int16", "uint16", "int32", "uint32", "float32", "bool"]
Scalar = float | str | bool | None

WORDS: Mapping[str, int] = MappingProxyType(
    {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "bool": 1}
)
UNITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "": (1.0, 0.0),
        "W": (1.0, 0.0),
        "kW": (1000.0, 0.0),
        "Wh": (1.0, 0.0),
        "kWh": (1000.0, 0.0),
        "C": (1.0, 0.0),
        "F": (5 / 9, -160 / 9),
        "percent": (1.0, 0.0),
        "V": (1.0, 0.0),
        "A": (1.0, 0.0),
        "s": (1.0, 0.0),
        "min": (60.0, 0.0),
    }
)
"""The product's unit → (factor, shift) to Doorward's: W, Wh, °C, percent, V, A, s."""

BODY_KEYS: Mapping[Operation, frozenset[str]] = MappingProxyType(
    {
        Operation.LIMIT: frozenset({"watts"}),
        Operation.SETPOINT: frozenset({"celsius", "which"}),
        Operation.OFFSET: frozenset({"celsius"}),
        Operation.MODE: frozenset({"mode"}),
        Operation.SHED: frozenset({"level"}),
        Operation.LOAD_UP: frozenset({"level"}),
        Operation.DUTY_CYCLE: frozenset({"percent"}),
        Operation.PROGRAM: frozenset({"intervals"}),
    }
)
NOTICE_PAIRS: Mapping[str, str] = MappingProxyType(
    {"override": "override_ended", "opt_out": "opt_in", "fault": "fault_cleared", "plugged": "unplugged"}
)
"""Kinds of notice that a condition may begin → the kind that its end is."""


class ModelError(Exception):
    """A model file breaks a rule; the text names file, key and rule."""

    def __init__(self, file: str, key: str, rule: str) -> None:
        super().__init__(f"{file}: {key}: {rule}")
        self.file = file
        self.key = key
        self.rule = rule


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a model: an unknown key is an error, so that a typing error is seen."""


class Place(_Part, frozen=True, kw_only=True):
    """Where a value stands."""

    kind: Kind
    address: int


class Point(_Part, frozen=True, kw_only=True):
    """One value of the product: value = raw × ``scale`` + ``offset``, in ``unit``.

    ``kind``/``address`` is where it is *read*; ``write`` is where it is written, when that is another
    register (what a product echoes there proves nothing). ``enum`` maps raw numbers to words or
    true/false, ``none`` is the raw number for "no value". ``min``/``max`` (in Doorward's unit) are what is
    plausible to read and allowed to write. ``shown`` false keeps it out of the reading's values.
    """

    kind: Kind
    address: int
    type: DataType = "uint16"
    scale: float = 1.0
    offset: float = 0.0
    word_order: Literal["big", "little"] = "big"
    unit: str = ""
    min: float | None = None
    max: float | None = None
    enum: dict[str, str | bool] | None = None
    none: int | None = None
    write: Place | None = None
    writable: bool = False
    tolerance: float | None = None
    shown: bool = True

    @property
    def target(self) -> Place | None:
        """Where the point is written, or None for a point that is only read."""
        if self.write is not None:
            return self.write
        return Place(kind=self.kind, address=self.address) if self.writable else None


class Condition(_Part, frozen=True, kw_only=True, rename={"is_": "is", "not_": "not"}):
    """Something that is so or is not: exactly one of ``is``, ``not``, ``above`` and ``below``."""

    point: str
    is_: Scalar | msgspec.UnsetType = msgspec.UNSET
    not_: Scalar | msgspec.UnsetType = msgspec.UNSET
    above: float | msgspec.UnsetType = msgspec.UNSET
    below: float | msgspec.UnsetType = msgspec.UNSET

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Whether it is so in ``values`` (by point name)."""
        value = values[self.point]
        if self.is_ is not msgspec.UNSET:
            return value == self.is_
        if self.not_ is not msgspec.UNSET:
            return value != self.not_
        if not isinstance(value, (int, float)):
            return False
        if self.above is not msgspec.UNSET:
            return value > self.above
        return self.below is not msgspec.UNSET and value < self.below


class Write(_Part, frozen=True, kw_only=True, rename={"from_": "from"}):
    """One register to write: a key of the body (``from``) or a constant (``value``).

    ``plus_baseline`` adds what that point was before the first control. ``when`` limits it to bodies
    that have these words.
    """

    point: str
    from_: str = ""
    value: Scalar = None
    plus_baseline: str = ""
    when: dict[str, str] = {}


class Check(_Part, frozen=True, kw_only=True):
    """What else must be seen before a command counts as followed: a bound by body key or number."""

    point: str
    at_most: str | float | None = None
    at_least: str | float | None = None
    tolerance: float = 0.0


class Default(_Part, frozen=True, kw_only=True):
    """How a key that the body leaves out is found: from a point's word by ``map``, else ``otherwise``."""

    key: str
    point: str
    map: dict[str, str] = {}
    otherwise: str


class Recipe(_Part, frozen=True, kw_only=True):
    """What one operation writes, and what shows that it is followed beyond reading the points back."""

    writes: list[Write] = []
    checks: list[Check] = []
    default: Default | None = None
    program: Literal["set", "clear"] | None = None


class StateRules(_Part, frozen=True, kw_only=True):
    """How the operating state is found: ``point`` + ``map``, or from conditions (any of a list)."""

    point: str = ""
    map: dict[str, OperatingState] = {}
    fault: list[Condition] = []
    running: list[Condition] = []
    opted_out: list[Condition] = []
    curtailed: list[Condition] = []
    heightened: list[Condition] = []


class Field(_Part, frozen=True, kw_only=True):
    """One column of a programme's table; ``at`` is written as minutes of the day (UTC)."""

    key: str
    type: Literal["int16", "uint16"] = "uint16"
    scale: float = 1.0
    min: float | None = None
    max: float | None = None
    default: float | bool | None = None


class ProgramTable(_Part, frozen=True, kw_only=True):
    """A daily programme: the number of rows, then the rows, in one block that is written at once."""

    address: int
    rows: int
    fields: list[Field]
    read: Place | None = None
    """Where the programme in force is read, when not from the table itself."""

    @property
    def words(self) -> int:
        """Registers of the whole block."""
        return 1 + self.rows * len(self.fields)

    @property
    def target(self) -> Place:
        """Where the programme is written."""
        return Place(kind="holding", address=self.address)

    @property
    def source(self) -> Place:
        """Where the programme in force is read."""
        return self.read or self.target


class Text(_Part, frozen=True, kw_only=True):
    """An ASCII text of ``words`` registers, padded with zeros or blanks (the serial number)."""

    kind: Literal["input", "holding"]
    address: int
    words: int


class Identity(_Part, frozen=True, kw_only=True):
    """A register whose value tells the product (for discovery)."""

    kind: Literal["input", "holding"]
    address: int
    value: int


class NoticeRule(_Part, frozen=True, kw_only=True):
    """A condition whose beginning is a notice, and whose end is the notice's counterpart."""

    begins: str
    when: Condition


class DeviceModel(_Part, frozen=True, kw_only=True):
    """A product's model; see the module's docstring."""

    name: str
    device_class: DeviceClass
    description: str = ""
    settle_s: float = 2.0
    """How long the product may take to show that it follows."""
    points: dict[str, Point]
    state: StateRules
    overridden: list[Condition] = []
    operations: dict[Operation, Recipe] = {}
    program: ProgramTable | None = None
    snapshot: list[str] = []
    """Points (and ``program``) that a control may change: kept before the first, restored by release."""
    serial: Text | None = None
    identity: Identity | None = None
    notices: list[NoticeRule] = []

    @property
    def capabilities(self) -> frozenset[Operation]:
        """Operations that the adapter can carry out on this product."""
        releasable = {Operation.RELEASE} if self.operations else set()
        return frozenset({Operation.READ, *self.operations, *releasable})


def load_models(*directories: Path) -> dict[str, DeviceModel]:
    """Read the built-in models and those of ``directories`` by name; raise :class:`ModelError`."""
    models: dict[str, DeviceModel] = {}
    origin: dict[str, Path] = {}
    for directory in (BUILT_IN, *directories):
        if not directory.is_dir():
            raise ModelError(str(directory), "(directory)", "there is no such directory of device models")
        for file in sorted(directory.glob("*.toml")):
            model = load_model(file)
            if model.name in models:
                raise ModelError(str(file), "name", f"'{model.name}' is already in {origin[model.name]}")
            models[model.name], origin[model.name] = model, file
    return models


def load_model(file: Path) -> DeviceModel:
    """Read and check one model file; raise :class:`ModelError`."""
    if file.stat().st_size > MODEL_BYTES_MAX:
        raise ModelError(str(file), "(file)", f"is larger than {MODEL_BYTES_MAX} bytes")
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(str(file), "(file)", f"is not TOML: {error}") from None
    return parse_model(raw, str(file))


def parse_model(raw: dict[str, object], file: str) -> DeviceModel:
    """Turn a parsed file into a model; raise :class:`ModelError` naming the first rule broken."""
    try:
        model = msgspec.convert(raw, DeviceModel)
    except msgspec.ValidationError as error:
        rule, _, path = str(error).partition(" - at `$")
        key = _named(path.rstrip("`").lstrip("."), raw)
        raise ModelError(file, key or "(file)", rule) from None
    for key, rule in _broken(model):
        raise ModelError(file, key, rule)
    return model


def _named(path: str, raw: dict[str, object]) -> str:
    """Replace msgspec's ``[...]`` (any key of a table) by the keys that it may be."""
    if "[...]" not in path:
        return path
    table, _, rest = path.partition("[...]")
    inner = raw.get(table)
    names = ", ".join(sorted(inner)) if isinstance(inner, dict) else ""
    return f"{table}.<one of {names}>{rest}"


def _broken(model: DeviceModel) -> Iterator[tuple[str, str]]:
    """Yield (key, rule) for every rule that the model breaks."""
    if not model.name:
        yield "name", "must not be empty"
    if model.settle_s <= 0 or model.settle_s > 30:
        yield "settle_s", "must be above 0 and at most 30"
    for name, point in model.points.items():
        yield from _broken_point(f"points.{name}", point)
    yield from _broken_state(model)
    yield from _broken_references(model)
    for operation, recipe in model.operations.items():
        yield from _broken_recipe(model, operation, recipe)
    if model.program is not None:
        yield from _broken_program(model.program)


def _broken_point(key: str, point: Point) -> Iterator[tuple[str, str]]:
    if (point.kind in ("coil", "discrete")) != (point.type == "bool"):
        yield f"{key}.type", "a coil or discrete input has type bool, and only they have"
    if not 0 <= point.address <= ADDRESS_MAX - WORDS[point.type] + 1:
        yield f"{key}.address", f"must be 0 to {ADDRESS_MAX}"
    if point.scale == 0:
        yield f"{key}.scale", "must not be 0"
    if point.unit not in UNITS:
        yield f"{key}.unit", f"'{point.unit}' is not one of {', '.join(u for u in UNITS if u)}"
    if point.min is not None and point.max is not None and point.min > point.max:
        yield f"{key}.min", "must not be above max"
    if point.enum is not None and not all(k.lstrip("-").isdigit() for k in point.enum):
        yield f"{key}.enum", "keys are the raw numbers"
    target = point.target
    if target is not None and target.kind not in ("holding", "coil"):
        yield f"{key}.write.kind", "only holding registers and coils can be written"
    if target is not None and (target.kind == "coil") != (point.type == "bool"):
        yield f"{key}.write.kind", "a bool is written to a coil, everything else to holding registers"


def _broken_state(model: DeviceModel) -> Iterator[tuple[str, str]]:
    rules = model.state
    if rules.point:
        point = model.points.get(rules.point)
        if point is None:
            yield "state.point", f"there is no point '{rules.point}'"
        elif point.enum is None:
            yield "state.point", f"point '{rules.point}' needs an enum, whose words state.map translates"
        else:
            for word in sorted({str(word) for word in point.enum.values()} - set(rules.map)):
                yield "state.map", f"does not say what '{word}' is"
    elif not rules.running:
        yield "state", "needs point and map, or conditions (at least running)"


def _conditions(model: DeviceModel) -> Iterator[tuple[str, Condition]]:
    state = model.state
    for name in ("fault", "running", "opted_out", "curtailed", "heightened"):
        for index, condition in enumerate(getattr(state, name)):
            yield f"state.{name}[{index}]", condition
    for index, condition in enumerate(model.overridden):
        yield f"overridden[{index}]", condition
    for index, rule in enumerate(model.notices):
        yield f"notices[{index}].when", rule.when


def _broken_references(model: DeviceModel) -> Iterator[tuple[str, str]]:
    for key, condition in _conditions(model):
        if condition.point not in model.points:
            yield f"{key}.point", f"there is no point '{condition.point}'"
        tests = (condition.is_, condition.not_, condition.above, condition.below)
        if sum(test is not msgspec.UNSET for test in tests) != 1:
            yield key, "needs exactly one of is, not, above, below"
    for index, rule in enumerate(model.notices):
        if rule.begins not in NOTICE_PAIRS:
            yield f"notices[{index}].begins", f"'{rule.begins}' is not one of {', '.join(NOTICE_PAIRS)}"
    for name in model.snapshot:
        if name == "program":
            if model.program is None:
                yield "snapshot", "names program, and the model has no [program]"
        elif name not in model.points or model.points[name].target is None:
            yield "snapshot", f"'{name}' is not a point that can be written"


def _broken_recipe(model: DeviceModel, operation: Operation, recipe: Recipe) -> Iterator[tuple[str, str]]:
    key = f"operations.{operation.value}"
    if operation in (Operation.READ, Operation.RELEASE):
        yield key, "is the adapter's own: read reads the points, release restores the snapshot"
    elif operation not in CLASS_OPERATIONS[model.device_class]:
        yield key, f"is not an operation of class {model.device_class.value}"
    if not recipe.writes and recipe.program != "set":
        yield key, "writes nothing"
    if recipe.program is not None and (model.program is None or "program" not in model.snapshot):
        yield f"{key}.program", "needs [program], and program in snapshot"
    keys = BODY_KEYS.get(operation, frozenset())
    for index, write in enumerate(recipe.writes):
        yield from _broken_write(model, f"{key}.writes[{index}]", write, keys)
    for index, check in enumerate(recipe.checks):
        yield from _broken_check(model, f"{key}.checks[{index}]", check, keys)
    if recipe.default is not None and recipe.default.key not in keys:
        yield f"{key}.default.key", f"the body of {operation.value} has no '{recipe.default.key}'"
    if recipe.default is not None and recipe.default.point not in model.points:
        yield f"{key}.default.point", f"there is no point '{recipe.default.point}'"


def _broken_write(
    model: DeviceModel, key: str, write: Write, keys: Iterable[str]
) -> Iterator[tuple[str, str]]:
    point = model.points.get(write.point)
    if point is None:
        yield f"{key}.point", f"there is no point '{write.point}'"
    elif point.target is None:
        yield f"{key}.point", f"'{write.point}' can not be written: give it write or writable"
    elif write.point not in model.snapshot:
        yield f"{key}.point", f"'{write.point}' is missing in snapshot, so release could not restore it"
    if write.from_ and write.from_ not in keys:
        yield (
            f"{key}.from",
            f"the body has no '{write.from_}' (it has: {', '.join(sorted(keys)) or 'nothing'})",
        )
    if write.plus_baseline and write.plus_baseline not in model.snapshot:
        yield f"{key}.plus_baseline", f"'{write.plus_baseline}' is not in snapshot"
    for word in write.when:
        if word not in keys:
            yield f"{key}.when", f"the body has no '{word}'"


def _broken_check(
    model: DeviceModel, key: str, check: Check, keys: Iterable[str]
) -> Iterator[tuple[str, str]]:
    if check.point not in model.points:
        yield f"{key}.point", f"there is no point '{check.point}'"
    bounds = [bound for bound in (check.at_most, check.at_least) if bound is not None]
    if not bounds:
        yield key, "needs at_most or at_least"
    for bound in bounds:
        if isinstance(bound, str) and bound not in keys:
            yield key, f"the body has no '{bound}'"


def _broken_program(table: ProgramTable) -> Iterator[tuple[str, str]]:
    if table.rows < 1 or table.words > SPAN_WORDS_MAX:
        yield "program.rows", f"rows × fields + 1 must be 2 to {SPAN_WORDS_MAX} registers"
    if not table.fields or table.fields[0].key != "at":
        yield "program.fields", "the first field is 'at'"
    if table.source.kind not in ("holding", "input"):
        yield "program.read.kind", "must be holding or input"
    if not 0 <= table.address <= ADDRESS_MAX - table.words:
        yield "program.address", f"must be 0 to {ADDRESS_MAX}"
