"""What a result carries: readings and failures as JSON, by the names of the message formats."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from doorward.spg.ports import DeviceFault, Reading
from doorward.wire.reasons import Reason
from doorward.wire.times import to_rfc3339

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one device did not do its part."""

    device: str
    reason: Reason
    detail: str

    def data(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"device": self.device, "reason": self.reason.value, "detail": self.detail}


def require_sound(reading: Reading, device: str) -> None:
    """Raise ``device-fault`` for an answer that cannot be true: another device's, or no number."""
    numbers = [
        reading.power_w,
        reading.energy_wh,
        *(v for v in reading.values.values() if isinstance(v, float)),
    ]
    if reading.device != device:
        raise DeviceFault(Reason.DEVICE_FAULT, f"the answer is of {reading.device!r}")
    if not all(math.isfinite(number) for number in numbers):
        raise DeviceFault(Reason.DEVICE_FAULT, "the device answers with what is no number")


def reading_data(reading: Reading, wanted: Iterable[str] | None = None) -> dict[str, object]:
    """Return a reading as JSON; ``wanted`` names the values to keep (``None``: all)."""
    names = None if wanted is None else set(wanted)
    values = {name: value for name, value in reading.values.items() if names is None or name in names}
    return {
        "device": reading.device,
        "at": to_rfc3339(reading.at_us),
        "state": reading.state.value,
        "power_w": reading.power_w,
        "energy_wh": reading.energy_wh,
        "values": values,
        "overridden": reading.overridden,
    }


def wanted_of(body: Mapping[str, object]) -> list[str] | None:
    """Return the names of values that a read asks for, or ``None`` for all."""
    values = body.get("values")
    return [str(name) for name in values] if isinstance(values, list) else None


def is_on(reading: Reading) -> bool:
    """Whether the device is on: as it says, else by its power."""
    on = reading.values.get("on")
    return on if isinstance(on, bool) else reading.power_w > 5.0


def raw(data: object) -> msgspec.Raw:
    """Return data as JSON that goes into a message as it is."""
    return msgspec.Raw(_encode(data))
