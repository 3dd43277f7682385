"""Devices that have gone bad: whatever they send, the adapter answers with a fault, and serves the others."""

import asyncio
import json
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from doorward.spg.han.modbus import ModbusAdapter
from doorward.spg.han.ocpp import OcppAdapter
from doorward.spg.ports import DeviceFault
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.vocabulary import DeviceClass, OperatingState
from tests.security.test_decoders import BOMBS
from tests.spg.han.street import Heard, real_clock

ROUNDS = 25
MEMORY_MAX = 64 * 2**20


def thermostat(port: int) -> ProvisionedDevice:
    return ProvisionedDevice(
        id="TH-1",
        service_point="sp-1",
        device_class=DeviceClass.THERMOSTAT,
        protocol="modbus",
        model="sim-thermostat",
        address=f"127.0.0.1:{port}/1",
    )


def replies(dice: random.Random, asked: bytes) -> bytes:
    """An answer to a Modbus request: of the right transaction as often as not, and never a right one."""
    head = asked[:2] if dice.random() < 0.7 else dice.randbytes(2)
    protocol = b"\0\0" if dice.random() < 0.8 else dice.randbytes(2)
    body = dice.choice(
        [
            b"",
            dice.randbytes(dice.randrange(1, 60)),
            b"\x01\x03" + bytes([dice.randrange(256)]) + dice.randbytes(dice.randrange(80)),
            b"\x01\x83" + dice.randbytes(1),
            b"\x01" + dice.randbytes(1) + b"\xff" * 254,
            asked[6:],
        ]
    )
    length = len(body) if dice.random() < 0.6 else dice.randrange(65536)
    return head + protocol + length.to_bytes(2, "big") + body


@asynccontextmanager
async def bad_device(seed: int) -> AsyncIterator[int]:
    """A Modbus server that answers with what it likes, or hangs up, or says nothing."""
    dice = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while asked := await reader.read(300):
                if dice.random() < 0.05:
                    break
                writer.write(replies(dice, asked))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_modbus_device_that_answers_anything_is_a_fault_and_never_more() -> None:
    adapter = ModbusAdapter(real_clock(), poll_interval_s=60.0, request_timeout_s=0.05)
    await adapter.start(Heard())
    tracemalloc.start()
    try:
        for seed in range(ROUNDS):
            async with bad_device(seed) as port:
                device = thermostat(port)
                adapter.provision([device])
                try:
                    reading = await adapter.read(device)
                except DeviceFault:
                    continue
                assert reading.state in set(OperatingState)  # by chance it was an answer
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()
        await adapter.stop()


def frames(dice: random.Random, version: str) -> list[str]:
    """Frames of a charger: not JSON, not OCPP, OCPP with wrong things in it, and bombs."""
    actions = ["BootNotification", "Heartbeat", "StatusNotification", "MeterValues", "StartTransaction"]
    actions += [
        "StopTransaction",
        "Authorize",
        "DataTransfer",
        "TransactionEvent",
        "NotifyReport",
        "Nonsense",
    ]
    odd: list[Any] = [None, True, -1, 1e308, 10**30, "", "x" * 3000, [], {}, [[]], {"a": {"b": []}}, "\x00"]
    odd.append("\ud800")
    made = []
    for _ in range(8):
        fields = {
            dice.choice(["chargePointModel", "connectorId", "meterValue", "timestamp", "status", "idTag", "evse",
                         "eventType", "seqNo", "transactionInfo", "errorCode", "x"]): dice.choice(odd)
            for _ in range(dice.randrange(6))
        }  # fmt: skip
        kind = dice.choice([2, 2, 2, 3, 4, 5, -1, "2", None])
        made.append(json.dumps([kind, dice.choice(odd), dice.choice(actions), fields]))
        made.append(json.dumps(dice.choice(odd)))
    small = [raw.decode("utf-8", "replace") for raw in BOMBS.values() if len(raw) < 60_000]
    return [*made, *(f'[2,"1","MeterValues",{text}]' for text in small)]


async def _boots(url: str, version: str) -> None:
    """A charger that speaks as it should is answered; the connection before may just be closing."""
    boot: dict[str, Any] = {"chargePointModel": "m", "chargePointVendor": "v"}
    if version == "ocpp2.0.1":
        boot = {"chargingStation": {"model": "m", "vendorName": "v"}, "reason": "PowerUp"}
    async with asyncio.timeout(60):
        while True:
            async with connect(url, subprotocols=[Subprotocol(version)], proxy=None) as charger:
                with suppress(ConnectionClosed):
                    await charger.send(json.dumps([2, "b-1", "BootNotification", boot]))
                    while (answer := json.loads(await charger.recv()))[1] != "b-1":
                        pass
                    assert answer[0] == 3, answer
                    return


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1"])
async def test_a_charger_that_says_anything_disturbs_nobody(version: str) -> None:
    adapter = OcppAdapter(real_clock(), random.Random(1), answer_s_max=1.0, settle_s_max=1.0)
    await adapter.start(Heard())
    mad = ProvisionedDevice(
        id="EV-1",
        service_point="sp-1",
        device_class=DeviceClass.EV_CHARGER,
        protocol="ocpp",
        model="",
        address="mad",
    )
    adapter.provision([mad])
    url, kind = f"ws://127.0.0.1:{adapter.port}/mad", [Subprotocol(version)]
    dice = random.Random(3)
    said = frames(dice, version)
    tracemalloc.start()
    try:
        while said:
            async with connect(url, subprotocols=kind, proxy=None) as charger:
                with suppress(ConnectionClosed):
                    while said:
                        await charger.send(said.pop())
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
        await _boots(url, version)
    finally:
        tracemalloc.stop()
        await adapter.stop()
