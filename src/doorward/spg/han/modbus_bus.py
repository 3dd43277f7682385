"""One Modbus TCP connection, shared by the units behind it.

Each request has a time-out and a bounded number of tries. The retries are ours and not the client's:
between two tries the connection is free, so a unit that hangs delays its neighbours by one time-out only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from doorward.spg.han.device_model import SPAN_WORDS_MAX, WORDS, Kind, Place, Point
from doorward.spg.ports import DeviceFault
from doorward.wire.reasons import Reason

TRIES_MAX = 2
NO_ANSWER_CODES = (ExcCodes.GATEWAY_NO_RESPONSE, ExcCodes.GATEWAY_PATH_UNAVIABLE, ExcCodes.DEVICE_BUSY)
REFUSED_CODES = (ExcCodes.ILLEGAL_FUNCTION, ExcCodes.ILLEGAL_ADDRESS, ExcCodes.ILLEGAL_VALUE)

Words = list[int] | list[bool]
Request = Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]]


class Bus:
    """A connection to ``host:port``, made on demand and again after it broke."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host = host
        self.port = port
        self._timeout_s = timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._lock = asyncio.Lock()
        self._over = False

    async def read(self, unit: int, kind: Kind, address: int, count: int, tries: int = TRIES_MAX) -> Words:
        """Read registers or bits; raise ``DeviceFault``."""

        def ask(client: AsyncModbusTcpClient) -> Awaitable[ModbusPDU]:
            calls = {
                "input": client.read_input_registers,
                "holding": client.read_holding_registers,
                "coil": client.read_coils,
                "discrete": client.read_discrete_inputs,
            }
            return calls[kind](address, count=count, device_id=unit)

        answer = await self._ask(unit, f"read of {kind} {address}", ask, tries)
        words: Words = list(answer.bits) if kind in ("coil", "discrete") else list(answer.registers)
        if len(words) < count:
            raise DeviceFault(Reason.DEVICE_FAULT, f"{len(words)} of {count} registers at {kind} {address}")
        return words[:count]

    async def write(self, unit: int, place: Place, words: Sequence[int]) -> None:
        """Write a coil or registers; raise ``DeviceFault``. What is written is absolute, so a retry is safe."""

        def ask(client: AsyncModbusTcpClient) -> Awaitable[ModbusPDU]:
            if place.kind == "coil":
                return client.write_coil(place.address, bool(words[0]), device_id=unit)
            if len(words) == 1:
                return client.write_register(place.address, words[0], device_id=unit)
            return client.write_registers(place.address, list(words), device_id=unit)

        await self._ask(unit, f"write of {place.kind} {place.address}", ask, TRIES_MAX)

    def close(self) -> None:
        """Close for good; requests still waiting fail as unavailable."""
        self._over = True
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _ask(self, unit: int, what: str, request: Request, tries: int) -> ModbusPDU:
        said = ""
        for _ in range(tries):
            try:
                async with self._lock:
                    answer = await request(await self._connected())
            except (ModbusException, OSError) as error:
                said = str(error)
                continue
            if answer.isError():
                raise self._refusal(unit, what, answer)
            return answer
        raise DeviceFault(Reason.DEVICE_UNAVAILABLE, f"{self.host}:{self.port}/{unit}: {what}: {said}")

    def _refusal(self, unit: int, what: str, answer: ModbusPDU) -> DeviceFault:
        code = getattr(answer, "exception_code", 0)
        reason = Reason.DEVICE_FAULT
        if code in NO_ANSWER_CODES:
            reason = Reason.DEVICE_UNAVAILABLE
        elif code in REFUSED_CODES:
            reason = Reason.DEVICE_REFUSED
        return DeviceFault(reason, f"{self.host}:{self.port}/{unit}: {what}: exception {code}")

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        self._drop()
        if self._over:
            raise ConnectionError("the connection was closed")
        client = AsyncModbusTcpClient(
            self.host, port=self.port, timeout=self._timeout_s, retries=0, reconnect_delay=0
        )
        if not await client.connect():
            raise ConnectionError("can not connect")
        self._client = client
        return client


def spans(points: Sequence[Point]) -> list[tuple[Kind, int, int]]:
    """Join what is adjacent into (kind, address, count) blocks, each within one request."""
    places = sorted((point.kind, point.address, WORDS[point.type]) for point in points)
    blocks: list[tuple[Kind, int, int]] = []
    for kind, address, wide in places:
        if blocks:
            last, start, count = blocks[-1]
            fits = address + wide - start <= SPAN_WORDS_MAX
            if last == kind and address <= start + count and fits:
                blocks[-1] = (kind, start, max(count, address + wide - start))
                continue
        blocks.append((kind, address, wide))
    return blocks
