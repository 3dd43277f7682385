"""A Modbus TCP server that many simulated units stand behind (one port, several unit numbers)."""

import asyncio
from typing import cast

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simcore import SimCore

from doorward.simulate.equipment.appliances import Appliance
from doorward.simulate.equipment.registers import IllegalAddress, IllegalValue, Kind, RegisterMap

KIND_OF: dict[int, Kind] = {
    1: "coil",
    2: "discrete",
    3: "holding",
    4: "input",
    5: "coil",
    6: "holding",
    15: "coil",
    16: "holding",
}


class Units(SimCore):
    """What the server asks: each unit's registers as they are at that moment."""

    def __init__(self) -> None:
        super().__init__(SimDevice(0, SimData(0, datatype=DataType.REGISTERS)))
        self._units: dict[int, tuple[Appliance, RegisterMap]] = {}

    def add(self, number: int, appliance: Appliance) -> None:
        """Put a device at a unit number; raise ``ValueError`` when it is taken."""
        if number in self._units:
            raise ValueError(f"unit {number} is taken by {self._units[number][0].name}")
        self._units[number] = (appliance, RegisterMap(appliance))

    async def async_getValues(
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Answer a read; a unit that hangs or is not there stays silent."""
        registers = self._registers(device_id)
        try:
            words = registers.read(KIND_OF[func_code], address, count)
        except KeyError:
            return ExcCodes.ILLEGAL_FUNCTION
        except IllegalAddress:
            return ExcCodes.ILLEGAL_ADDRESS
        return [bool(w) for w in words] if KIND_OF[func_code] in ("coil", "discrete") else words

    async def async_setValues(
        self, device_id: int, func_code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        """Take a write."""
        registers = self._registers(device_id)
        try:
            registers.write(KIND_OF[func_code], address, [int(value) for value in values])
        except KeyError:
            return ExcCodes.ILLEGAL_FUNCTION
        except IllegalAddress:
            return ExcCodes.ILLEGAL_ADDRESS
        except IllegalValue:
            return ExcCodes.ILLEGAL_VALUE
        return None

    def _registers(self, number: int) -> RegisterMap:
        if number not in self._units or "hang" in self._units[number][0].moods:
            # The server takes this as "do not answer": the caller runs into its time-out.
            raise NoSuchIdException
        return self._units[number][1]


class ModbusServer:
    """One listening port."""

    def __init__(self, host: str, port: int) -> None:
        self.units = Units()
        self.host = host
        self.port = port
        self._server: ModbusTcpServer | None = None

    async def start(self) -> None:
        """Listen; ``port`` is the real one afterwards. Raises ``RuntimeError`` when it can not."""
        server = ModbusTcpServer(
            SimDevice(0, SimData(0, datatype=DataType.REGISTERS)),
            address=(self.host, self.port),
            ignore_missing_devices=True,
        )
        server.context = self.units
        await server.serve_forever(background=True)
        # What pymodbus calls its transport is the listening server of asyncio.
        listener = cast("asyncio.Server", server.transport)
        self.port = listener.sockets[0].getsockname()[1]
        self._server = server

    async def stop(self) -> None:
        """Close the port and all connections; idempotent."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None
