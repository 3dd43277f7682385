"""All devices of the home behind one face: the right adapter, one lock a device, one time-out a call."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TypeVar

from doorward.kit.locks import Held, UrgentLock
from doorward.spg.ports import Acted, DeviceFault, HanAdapter, HanCommand, Reading, TimedOut
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.reasons import Reason
from doorward.wire.vocabulary import Operation

R = TypeVar("R")


class AdapterHands:
    """Adapters by protocol (a :class:`~doorward.spg.ports.Hands`).

    ``call_s_max`` bounds every call; the adapters' own time-outs should be shorter.
    """

    def __init__(self, adapters: Mapping[str, HanAdapter], call_s_max: float) -> None:
        self._adapters = adapters
        self._call_s_max = call_s_max
        self._locks: dict[str, UrgentLock] = {}
        self._told: set[str] = set()

    def hold(self, devices: Collection[str], klass: int) -> Held:
        """Hold these devices' locks; taken in sorted order, so that no two holders wait for each other."""
        return Held([self._locks.setdefault(device, UrgentLock()) for device in sorted(set(devices))], klass)

    def provision(self, devices: Sequence[ProvisionedDevice]) -> dict[str, str]:
        """Give each adapter its devices; return device → why it cannot be reached."""
        failed: dict[str, str] = {}
        for protocol, adapter in self._adapters.items():
            own = [device for device in devices if device.protocol == protocol]
            try:
                adapter.provision(own)
            except (ValueError, DeviceFault) as error:
                failed |= _one_by_one(adapter, own, error)
        for device in devices:
            if device.protocol not in self._adapters:
                failed[device.id] = f"no adapter for protocol {device.protocol!r}"
        listed = {device.id for device in devices}
        for gone in [name for name, lock in self._locks.items() if name not in listed and not lock.held]:
            del self._locks[gone]
        return failed

    def capabilities(self, device: ProvisionedDevice) -> frozenset[Operation]:
        """What the adapter can carry out on this model; nothing where there is no adapter."""
        try:
            return self._adapter(device).capabilities(device)
        except (DeviceFault, ValueError, KeyError):
            return frozenset()

    def was_told(self, device: str) -> bool:
        """Whether anything was told to the device since the start."""
        return device in self._told

    async def read(self, device: ProvisionedDevice) -> Reading:
        """Read a device that the caller holds."""
        return await self._within(self._adapter(device).read(device))

    async def snapshot(self, device: ProvisionedDevice) -> dict[str, object]:
        """What a control may change, as the device has it now."""
        return await self._within(self._adapter(device).snapshot(device))

    async def command(self, device: ProvisionedDevice, command: HanCommand) -> Acted:
        """Carry out a command and read back."""
        self._told.add(device.id)
        return await self._within(self._adapter(device).command(device, command))

    async def follows(self, device: ProvisionedDevice, command: HanCommand) -> bool:
        """Whether the device has what the command would set."""
        return await self._within(self._adapter(device).follows(device, command))

    def _adapter(self, device: ProvisionedDevice) -> HanAdapter:
        adapter = self._adapters.get(device.protocol)
        if adapter is None:
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"no adapter for protocol {device.protocol!r}")
        return adapter

    async def _within(self, call: Awaitable[R]) -> R:
        try:
            async with asyncio.timeout(self._call_s_max) as limit:
                return await call
        except TimeoutError:
            if limit.expired():
                raise TimedOut(self._call_s_max) from None
            raise DeviceFault(Reason.DEVICE_UNAVAILABLE, "the adapter's wait ran out") from None
        except (DeviceFault, asyncio.CancelledError):
            raise
        except Exception as error:  # an adapter that stumbles must not take the gateway along
            raise DeviceFault(Reason.DEVICE_FAULT, f"adapter: {error!r}") from error


def _one_by_one(adapter: HanAdapter, devices: list[ProvisionedDevice], error: Exception) -> dict[str, str]:
    """Find the devices that an adapter does not take; the others are provisioned."""
    good: list[ProvisionedDevice] = []
    failed: dict[str, str] = {}
    for device in devices:
        try:
            adapter.provision([*good, device])
            good.append(device)
        except (ValueError, DeviceFault) as wrong:
            failed[device.id] = str(wrong)
    if devices and len(good) < len(devices):
        adapter.provision(good)
    elif not devices:
        raise error
    return failed
