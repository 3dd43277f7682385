"""Equipment in memory behind the gateway's port to the home: what it did is on its own list."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from doorward.kit.clock import Clock
from doorward.spg.ports import Acted, DeviceFault, DeviceNotice, HanCommand, Reading, Security
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import OperatingState, Operation

PROTOCOL = "memory"
RATED_W = 7_400.0
CAN = frozenset({Operation.READ, Operation.LIMIT, Operation.RELEASE})


class Memory:
    """What the devices of all homes did, written by nobody but them."""

    def __init__(self) -> None:
        self.controls: list[str] = []
        self.reads: Counter[str] = Counter()


class MemoryHome:
    """A :class:`~doorward.spg.ports.HanAdapter` for EV chargers in memory that follow every limit.

    ``provisioned`` is called with each list of devices that the gateway is told.
    """

    protocol = PROTOCOL
    security = Security(authenticates_device=False, encrypts=False, note="in memory, for measuring")

    def __init__(self, clock: Clock, memory: Memory, provisioned: Callable[[int], None]) -> None:
        self._clock = clock
        self._memory = memory
        self._provisioned = provisioned
        self._limits: dict[str, float] = {}

    async def start(self, notices: Callable[[DeviceNotice], Awaitable[None]]) -> None:
        """Nothing to open: these devices never speak by themselves."""

    async def stop(self) -> None:
        """Nothing to close."""

    def provision(self, devices: list[ProvisionedDevice]) -> None:
        """Take the list; what a device holds stays."""
        self._limits = {device.id: self._limits.get(device.id, RATED_W) for device in devices}
        self._provisioned(len(devices))

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read the device."""
        self._memory.reads[device.id] += 1
        return self._reading(device)

    def _reading(self, device: ProvisionedDevice) -> Reading:
        watts = self._limit(device)
        values: dict[str, float | str | bool | None] = {
            "limit_w": watts, "plugged": True, "charging_state": "charging", "session_energy_wh": 1_250.0,
        }  # fmt: skip
        return Reading(
            device=device.id,
            at_us=self._clock.now_us(),
            state=OperatingState.RUNNING_NORMAL if watts == RATED_W else OperatingState.RUNNING_CURTAILED,
            power_w=watts,
            energy_wh=1_250.0,
            values=values,
        )

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, Any]:
        """What a limit changes."""
        return {"limit_w": self._limit(device)}

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Hold the limit, or what was before."""
        if command.operation is Operation.RELEASE:
            self._limits[device.id] = RATED_W
        else:
            self._memory.controls.append(command.id)
            self._limits[device.id] = _watts(command)
        return Acted(followed=True, reading=self._reading(device))

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device holds the limit of ``command``."""
        return self._limit(device) == _watts(command)

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """Reading, limiting, releasing."""
        return CAN

    async def discover(self) -> list[ProvisionedDevice]:
        """There are no others."""
        return []

    def _limit(self, device: ProvisionedDevice) -> float:
        try:
            return self._limits[device.id]
        except KeyError:
            raise DeviceFault(Reason.DEVICE_UNLISTED, device.id) from None


def _watts(command: HanCommand) -> float:
    watts = command.body.get("watts")
    return float(watts) if isinstance(watts, int | float) else RATED_W
