"""One rig per link: the same tests run over all of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.engines.link.rigs import MqttRig, Rig, WebSocketRig
from tests.services import StartMosquitto, link_engines


@pytest.fixture
async def websocket_rig(tmp_path: Path) -> AsyncIterator[WebSocketRig]:
    rig = WebSocketRig(tmp_path)
    await rig.start()
    yield rig
    await rig.close()


@pytest.fixture
async def mqtt_rig(tmp_path: Path, start_mosquitto: StartMosquitto) -> AsyncIterator[MqttRig]:
    rig = MqttRig(tmp_path, start_mosquitto)
    await rig.start()
    yield rig
    await rig.close()


@pytest.fixture(params=link_engines())
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    make: dict[str, Callable[[], Rig]] = {
        "websocket": lambda: WebSocketRig(tmp_path),
        "mqtt": lambda: MqttRig(tmp_path, request.getfixturevalue("start_mosquitto")),
    }
    rig = make[request.param]()
    await rig.start()
    yield rig
    await rig.close()
