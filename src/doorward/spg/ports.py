"""The gateway's sockets: what it needs from the home network, the link, and its store."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import OperatingState, Operation


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device says of itself at one moment. Power in W, energy (a counter) in Wh, °C.

    ``values`` holds what else the class has, by the vocabulary's names: ``temperature``,
    ``heat_setpoint``, ``cool_setpoint``, ``mode``, ``speed_percent``, ``tank_temperature``,
    ``present_capacity_wh``, ``plugged``, ``charging_state``, ``session_energy_wh``, ``soc_percent``,
    ``limit_w``, ``on``, ``duty_percent``, ``shed_level``, ``fault`` …
    ``overridden`` is true while somebody at home has chosen otherwise or opted out.
    """

    device: str
    at_us: int
    state: OperatingState
    power_w: float
    energy_wh: float
    values: dict[str, float | str | bool | None] = {}
    overridden: bool = False


class HanCommand(msgspec.Struct, frozen=True, kw_only=True):
    """An absolute command to one device.

    ``body`` by operation: ``limit`` {"watts"}, ``setpoint`` {"celsius"[, "which": "heat"|"cool"]},
    ``offset`` {"offset"}: °C relative to the owner's setpoint in the baseline, not cumulative,
    ``mode`` {"mode"}, ``shed`` {"level": 1..3}, ``load_up`` {"level": 1..2}, ``duty_cycle``
    {"percent"}, ``program`` {"intervals": [{"at": "HH:MM", …}]}, others {}.
    ``release`` restores ``baseline``, what :meth:`HanAdapter.snapshot` gave before the first control.
    """

    operation: Operation
    body: dict[str, object]
    until_us: int = 0
    baseline: dict[str, object] | None = None
    id: str = ""
    """The request's id, for protocols that can carry one (and for the device's own file)."""


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command, by reading back from the device (never assumed)."""

    followed: bool
    reading: Reading
    reason: Reason | None = None
    detail: str = ""


class DeviceFault(Exception):
    """A device did not do as asked: it does not answer, refuses, or answers nonsense."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter's protocol offers: shown to operators, recorded at provisioning."""

    authenticates_device: bool
    encrypts: bool
    note: str


class HanAdapter(Protocol):
    """One home protocol. Every call ends within the adapter's own time-outs.

    All calls raise :class:`DeviceFault` when the device does not do its part. Calls for *different*
    devices may run at the same time; the gateway never makes two calls for one device at once.
    """

    protocol: str
    security: Security

    async def start(self, notices: "Callable[[DeviceNotice], Awaitable[None]]") -> None:
        """Begin to listen or connect. ``notices`` is called for what devices say by themselves."""
        ...

    async def stop(self) -> None:
        """Close everything; idempotent."""
        ...

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Replace the list of devices that may be spoken to; others are refused and reported."""
        ...

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read the device now."""
        ...

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """Return what a control may change, as the device holds it now (JSON values only)."""
        ...

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Carry out a command and read back whether the device follows it."""
        ...

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device now holds what ``command`` would set; changes nothing (crash recovery)."""
        ...

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """Operations that this adapter can carry out on this device's model."""
        ...

    async def discover(self) -> list[ProvisionedDevice]:
        """Devices seen on the network that are not on the list (registered nowhere by this)."""
        ...


class DeviceNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A device spoke by itself.

    ``kind``: override, override_ended, opt_out, opt_in, fault, fault_cleared, plugged, unplugged, online,
    offline, unlisted (a device that is not on the list; ``device`` is its address).
    """

    device: str
    kind: str
    at_us: int
    data: dict[str, object] = {}


class Uplink(Protocol):
    """The link to the CCS. Lossy: what was sent may be lost, repeated or late; receipts decide.

    ``run`` keeps the connection up until cancelled: it connects, calls ``connected``, hands every
    frame to ``received``, calls ``lost`` when it breaks, and reconnects with full jitter.
    """

    async def run(
        self,
        connected: Callable[[], Awaitable[None]],
        received: Callable[[bytes], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """Keep the link up; returns only by cancellation."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send a frame; raise ``ConnectionError`` when there is no link. Returning proves nothing."""
        ...
