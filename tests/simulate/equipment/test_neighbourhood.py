"""A neighbourhood in a process of its own, meddled with over HTTP, spoken to by a plain Modbus client."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pymodbus.client import AsyncModbusTcpClient

import doorward
from doorward.kit.clock import SlewingClock
from doorward.simulate.equipment import Configuration, Neighbourhood
from tests.spg.han.street import eventually

PLACES = os.pathsep.join([str(Path(doorward.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
WORLD = {**os.environ, "PYTHONPATH": PLACES}
ENTRY = [sys.executable, "-m", "doorward.simulate.equipment", "--config"]


def configuration(folder: Path, **how: object) -> Path:
    pump = {
        "name": "pump",
        "class": "pool_pump",
        "protocol": "modbus",
        "unit": 3,
        "serial": "SN-1",
        "seed": 5,
        "actuation_file": str(folder / "acts" / "pump.jsonl"),
    }
    file = folder / "street.json"
    file.write_text(json.dumps({"devices": [{**pump, **how}], "control_port": 0}))
    return file


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *ENTRY, str(configuration(tmp_path)), env=WORLD, stdout=asyncio.subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.terminate()
    await process.communicate()
    assert process.returncode == 0


async def test_devices_run_in_a_process_of_their_own(
    process: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    host, _, rest = ready["addresses"]["pump"].partition(":")
    port, _, unit = rest.partition("/")
    assert unit == "3"
    client = AsyncModbusTcpClient(host, port=int(port))
    assert await client.connect()
    await client.write_register(20, 500, device_id=3)
    registers = (await client.read_input_registers(20, count=1, device_id=3)).registers
    missing = await client.read_input_registers(500, count=1, device_id=3)
    client.close()
    assert registers == [500]
    assert missing.isError()
    (line,) = (tmp_path / "acts" / "pump.jsonl").read_text().splitlines()
    assert json.loads(line)["value"] == 500.0

    async with aiohttp.ClientSession(ready["control"]) as people:
        async with people.post("/devices/pump/override") as answer:
            assert (answer.status, (await answer.json())["moods"]) == (200, ["override"])
        async with people.post("/devices/pump/dance") as answer:
            assert (answer.status, "dance" in (await answer.json())["error"]) == (400, True)
        async with people.post("/devices/nobody/override") as answer:
            assert answer.status == 404
        async with people.get("/devices") as answer:
            assert (await answer.json())["pump"]["class"] == "pool_pump"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"class": "toaster"}, "$.devices[0].class"),
        ({"colour": "red"}, "colour"),
        ({"protocol": "ocpp1.6"}, "device 'pump': an ev_charger speaks OCPP"),
        ({"class": "meter", "behind": ["ghost"]}, "behind names unknown ghost"),
    ],
)
async def test_a_configuration_that_can_not_be_is_said_and_nothing_starts(
    tmp_path: Path, how: dict[str, object], said: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *ENTRY, str(configuration(tmp_path, **how)), env=WORLD, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    assert process.returncode == 2
    assert said in words.decode()


async def test_two_devices_can_not_have_one_unit(tmp_path: Path) -> None:
    loaded = Configuration.load(configuration(tmp_path, bus="b"))
    twin = json.loads(configuration(tmp_path, bus="b", name="twin").read_text())["devices"]
    file = tmp_path / "both.json"
    file.write_text(
        json.dumps({"devices": [*json.loads(configuration(tmp_path, bus="b").read_text())["devices"], *twin]})
    )
    assert len(loaded.devices) == 1
    world = Neighbourhood(Configuration.load(file), SlewingClock(time.time, time.monotonic))
    with pytest.raises(ValueError, match="device 'twin': unit 3 is taken by pump"):
        await world.start()


async def test_time_passes_faster_when_asked(tmp_path: Path) -> None:
    loaded = Configuration.load(configuration(tmp_path))
    fast = Configuration(devices=loaded.devices, speed=10_000.0)
    world = Neighbourhood(fast, SlewingClock(time.time, time.monotonic))
    await world.start()
    before = world.devices["pump"].energy_wh
    await eventually(lambda: world.devices["pump"].energy_wh > before + 500)
    await world.stop()
    await world.stop()
