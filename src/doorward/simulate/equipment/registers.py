"""The simulated products' register maps: what a vendor would print in the manual.

Independent of the gateway's device models, which are written against these maps as against any other
product's. Addresses as on the wire, counted from 0.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from doorward.simulate.equipment.appliances import Appliance, Program, Value
from doorward.wire.vocabulary import DeviceClass

Kind = Literal["input", "holding", "coil", "discrete"]
PROGRAM_ADDRESS = 100
PROGRAM_ROWS = 24
MODEL_ADDRESS = 900
SERIAL_ADDRESS = 910
SERIAL_WORDS = 8
NONE = 0xFFFF
FORMATS = {"int16": ">h", "uint16": ">H", "uint32": ">I", "float32": ">f"}
MODES = {0: "off", 1: "heat", 2: "cool", 3: "auto"}
OPERATING = {
    0: "idle",
    1: "running",
    2: "running-curtailed",
    3: "running-heightened",
    4: "idle-curtailed",
    5: "error",
    6: "idle-heightened",
    10: "idle-opted-out",
    11: "running-opted-out",
}


class Register(msgspec.Struct, frozen=True):
    """One value of the map: raw = value / ``scale``, in °F where said; ``codes`` for words."""

    kind: Kind
    address: int
    name: str
    type: str = "uint16"
    scale: float = 1.0
    little: bool = False
    fahrenheit: bool = False
    codes: dict[int, str] | None = None

    def words(self, value: Value) -> list[int]:
        """Return the registers (or the bit) that say ``value``."""
        if self.kind in ("coil", "discrete"):
            return [int(bool(value))]
        if value is None:
            return [NONE]
        if self.codes is not None:
            return [code for code, word in self.codes.items() if word == value]
        assert isinstance(value, (int, float))
        number = (value * 9 / 5 + 32 if self.fahrenheit else value) / self.scale
        packed = struct.pack(FORMATS[self.type], number if self.type == "float32" else round(number))
        words = [int.from_bytes(packed[i : i + 2], "big") for i in range(0, len(packed), 2)]
        return words[::-1] if self.little else words

    def value(self, word: int) -> Value:
        """Return what a written register means (all that is written here is one register wide)."""
        if self.kind == "coil":
            return bool(word)
        if self.codes is not None:
            return self.codes[word]
        if self.type == "uint16" and word == NONE:
            return None
        signed = word - 0x10000 if self.type == "int16" and word >= 0x8000 else word
        number = signed * self.scale
        return round((number - 32) * 5 / 9 if self.fahrenheit else number, 4)


def _both(address: int, name: str, **how: object) -> list[Register]:
    """A setting: written to (and echoed by) a holding register, shown by the same input register."""
    return [
        msgspec.convert({"kind": k, "address": address, "name": name, **how}, Register)
        for k in ("holding", "input")
    ]


COMMON = [
    Register("input", 0, "power_w"),
    Register("input", 1, "energy_wh", "uint32"),
    Register("input", 3, "fault"),
    Register("discrete", 0, "running"),
    Register("discrete", 1, "override"),
    Register("discrete", 2, "opt_out"),
]
ON = [Register("coil", 0, "on"), Register("discrete", 10, "on")]


def _setpoint(address: int, name: str) -> list[Register]:
    return _both(address, name, type="int16", scale=0.1)


MAPS: Mapping[DeviceClass, list[Register]] = {
    DeviceClass.THERMOSTAT: [
        *COMMON,
        Register("input", 10, "temperature", "int16", 0.1),
        *_setpoint(11, "heat_setpoint"),
        *_setpoint(12, "cool_setpoint"),
        *_both(13, "mode", codes=MODES),
    ],
    DeviceClass.HEAT_PUMP: [
        *COMMON[:1],
        Register("input", 1, "energy_wh", "uint32", little=True),
        *COMMON[2:],
        *ON,
        Register("input", 10, "temperature", "int16", 0.1),
        *_both(20, "limit_w", scale=10.0),
        *_both(21, "duty_percent"),
        *_both(22, "mode", codes=MODES),
        *_setpoint(23, "heat_setpoint"),
        *_setpoint(24, "cool_setpoint"),
    ],
    DeviceClass.POOL_PUMP: [
        *COMMON,
        *ON,
        Register("input", 10, "speed_percent", scale=0.1),
        *_both(20, "limit_w"),
    ],
    DeviceClass.WATER_HEATER: [
        *COMMON,
        *ON,
        Register("input", 4, "operating", codes=OPERATING),
        Register("input", 10, "tank_temperature", "int16", 0.1, fahrenheit=True),
        Register("input", 11, "present_capacity_wh"),
        *_both(20, "heat_setpoint", type="int16", scale=0.1, fahrenheit=True),
        *_both(21, "shed_level"),
        *_both(22, "load_up_level"),
    ],
    DeviceClass.RELAY: [
        *COMMON,
        *ON,
        Register("discrete", 11, "output"),
        Register("input", 10, "min_off_s"),
        *_both(20, "duty_percent"),
    ],
    DeviceClass.METER: [
        Register("input", 0, "power_w", "float32", 1000.0),
        Register("input", 2, "energy_wh", "uint32"),
        Register("input", 4, "fault"),
        Register("input", 5, "voltage", scale=0.1),
    ],
}
MODEL_CODES: Mapping[DeviceClass, int] = {
    DeviceClass.THERMOSTAT: 1101,
    DeviceClass.HEAT_PUMP: 1102,
    DeviceClass.POOL_PUMP: 1103,
    DeviceClass.WATER_HEATER: 1104,
    DeviceClass.RELAY: 1105,
    DeviceClass.METER: 1106,
}
PROGRAM_FIELDS: Mapping[DeviceClass, tuple[tuple[str, float], ...]] = {
    DeviceClass.THERMOSTAT: (("minute", 1.0), ("celsius", 0.1)),
    DeviceClass.POOL_PUMP: (("minute", 1.0), ("on", 1.0), ("speed_percent", 0.1)),
    DeviceClass.RELAY: (("minute", 1.0), ("on", 1.0)),
}
"""Columns of a programme's rows, with their scale; the number of rows stands before the first."""


class IllegalAddress(Exception):
    """There is no such register."""


class IllegalValue(Exception):
    """The register does not take this value."""


class RegisterMap:
    """One device seen through its map."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self._registers = MAPS[appliance.device_class]
        self._fields = PROGRAM_FIELDS.get(appliance.device_class, ())

    def read(self, kind: Kind, address: int, count: int) -> list[int]:
        """Return registers or bits; raise :class:`IllegalAddress`."""
        image = dict(self._image(kind))
        try:
            return [image[address + i] for i in range(count)]
        except KeyError:
            raise IllegalAddress from None

    def write(self, kind: Kind, address: int, words: list[int]) -> None:
        """Hand what was written to the device; raise :class:`IllegalAddress` or :class:`IllegalValue`."""
        if kind == "holding" and self._fields and address == PROGRAM_ADDRESS:
            self._write_program(words)
            return
        settings = {r.address: r for r in self._registers if r.kind == kind}
        if not all(address + i in settings for i in range(len(words))):
            raise IllegalAddress
        try:
            writes = [(r, r.value(w)) for i, w in enumerate(words) if (r := settings[address + i])]
        except KeyError:
            raise IllegalValue from None
        for register, value in writes:
            self._appliance.command(register.name, value, f"{kind} {register.address}")

    def _image(self, kind: Kind) -> Iterator[tuple[int, int]]:
        device = self._appliance
        for register in self._registers:
            if register.kind == kind:
                echoed = kind in ("holding", "coil")
                value = device.asked[register.name] if echoed else device.tell(register.name)
                yield from enumerate(register.words(value), register.address)
        if kind == "input":
            if "nonsense" in device.moods:
                yield from ((address, 0xFFFF) for address in range(3))
            yield MODEL_ADDRESS, MODEL_CODES[device.device_class]
            serial = device.serial.encode()[: 2 * SERIAL_WORDS].ljust(2 * SERIAL_WORDS, b"\0")
            yield from (
                (SERIAL_ADDRESS + i, int.from_bytes(serial[2 * i : 2 * i + 2], "big"))
                for i in range(SERIAL_WORDS)
            )
        if self._fields and kind in ("holding", "input"):
            settings = device.asked if kind == "holding" else device.shown
            yield from enumerate(self._program_words(settings["program"]), PROGRAM_ADDRESS)

    def _program_words(self, program: Value) -> list[int]:
        assert isinstance(program, list)
        words = [len(program)]
        for row in program:
            words += [round(row[name] / scale) & 0xFFFF for name, scale in self._fields]
        return words + [0] * (1 + PROGRAM_ROWS * len(self._fields) - len(words))

    def _write_program(self, words: list[int]) -> None:
        count, wide = words[0], len(self._fields)
        if count > PROGRAM_ROWS or len(words) < 1 + count * wide:
            raise IllegalValue
        program: Program = []
        for start in range(1, 1 + count * wide, wide):
            row = zip(self._fields, words[start : start + wide], strict=True)
            program.append({name: round(word * scale, 4) for (name, scale), word in row})
        self._appliance.command("program", program, f"holding {PROGRAM_ADDRESS}")
