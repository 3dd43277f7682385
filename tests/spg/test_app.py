"""The gateway as it runs: with the store's thread, a thousand in one process, and from the command line."""

import asyncio
import json
import random
from pathlib import Path

from typer.testing import CliRunner

from doorward.cli.spg import app as command
from doorward.spg.app import GatewayApp, open_store
from doorward.spg.engines.clock import GatewayClock
from doorward.spg.engines.sqlite import SqliteStore
from doorward.spg.rules.facts import Keys, Policy
from doorward.wire.messages import Result
from doorward.wire.signatures import public_jwk
from doorward.wire.vocabulary import Operation
from tests.spg.home import AUTHORITY, GATEWAY, KEY, FakeLink, Home
from tests.spg.virtual import in_virtual_time


def gateway(home: Home, store: SqliteStore) -> GatewayApp:
    home.link = FakeLink(home)
    return GatewayApp(
        keys=Keys(gateway=GATEWAY, link=KEY, authority={"ca": public_jwk(AUTHORITY.public_key())}),
        policy=Policy(sample_us=0),
        clock=GatewayClock(home.machine),
        rng=random.Random(1),
        store=store,
        uplink=home.link,
        adapters={"memory": home.adapter},
    )


async def test_it_works_on_a_real_loop_with_the_stores_own_thread_and_its_log_can_be_read(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    store = open_store(tmp_path)
    running = gateway(home, store)
    await running.start()
    try:
        await asyncio.sleep(0)
        await home.tell(home.time(), home.provision(), home.push(home.document()))
        asked = home.command(Operation.READ)
        await home.tell(asked)
        async with asyncio.timeout(20):
            while not home.results(asked.id):  # noqa: ASYNC110 - what comes up a link sets no event
                await asyncio.sleep(0.01)
    finally:
        await running.stop()
        await store.close()
    assert home.of(Result)[0].state == "DONE"
    drawn = CliRunner().invoke(command, ["log", "--dir", str(tmp_path)])
    assert drawn.exit_code == 0
    assert "granted" in drawn.output
    lines = CliRunner().invoke(command, ["log", "--dir", str(tmp_path), "--json", "--message", asked.id])
    rows = [json.loads(line) for line in lines.output.splitlines()]
    assert [row["step"] for row in rows][:2] == ["gateway_received", "gateway_checked"]
    assert all(row["at"].endswith("Z") for row in rows)


def test_without_an_identity_it_says_how_to_enrol(tmp_path: Path) -> None:
    said = CliRunner().invoke(command, ["--dir", str(tmp_path / "new")])
    assert said.exit_code == 1
    assert "--enrol CODE --ccs https://host:port" in said.output


def test_the_log_of_a_directory_without_a_gateway_says_so(tmp_path: Path) -> None:
    said = CliRunner().invoke(command, ["log", "--dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "no gateway's store" in said.output


@in_virtual_time
async def test_stopping_lets_what_runs_end(tmp_path: Path) -> None:
    home = await Home(tmp_path).start()
    await home.greet()
    asked = home.command(Operation.TURN_OFF)
    await home.tell(asked)
    await asyncio.sleep(0.1)
    assert home.adapter.acts == []
    await home.app.stop()
    assert home.adapter.acts_of(asked.id) == ["turn_off"]
    state = await home.store.inner.read(lambda books: books.seen({asked.id}, set())[0][asked.id].state)
    assert state == "DONE"
