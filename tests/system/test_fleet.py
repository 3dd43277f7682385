"""X04 from outside: caps, quarantine, two operators, and random times, on the real processes."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from doorward.ccs.engines.opening import open_store
from doorward.ccs.engines.secrets import SecretHasher
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.people import Person, Role
from doorward.client import Client
from doorward.client.records import Request
from doorward.kit.clock import SlewingClock
from doorward.simulate.local_utility import EMBEDDED, PRODUCTION, LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.wire.vocabulary import DeviceClass
from tests.services import embedded_only

T = TypeVar("T")

WAIT_S_MAX = 60.0
RELAY_W = 2_000
HOMES = tuple(
    Home(f"SP-2{n}", f"SPG-2{n}", name, (Equipment(f"RL-2{n}", DeviceClass.RELAY, "Relay", rated_w=RELAY_W),))
    for n, name in enumerate(("Ada", "Bo"))
)
PLAN = Plan(homes=HOMES, parties=(Company("bright", "BrightGrid", "premium", ("SP-20", "SP-21")),))
PASSWORD = "a password for the test only"
CAPS = {"party_kw_per_minute": RELAY_W // 1000, "campaign_spread_s": 2}
"""One relay in a minute; and the random start, ten minutes otherwise, fits into a test."""
SPANS = {"campaign_spread_s": 2}


class Fleet:
    """A running utility with two operators, and its one company."""

    def __init__(self, utility: LocalUtility, client: Client) -> None:
        self.utility = utility
        self.client = client
        self._config = utility.directory / "ccs-settings.toml"
        self._password = utility.directory / "operator-password"
        self._password.write_text(PASSWORD)
        settings = {"data_dir": str(utility.directory / "ccs"), "database": utility.database, **CAPS}
        self._config.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items()))

    def cli(self, *words: str) -> str:
        return self.utility.command("fleet", *words, "--config", str(self._config))

    def approve(self, operator: str, request: str) -> dict[str, list[str]]:
        word = ("approve", "--operator", operator, "--password-file", str(self._password), request, "--json")
        came: dict[str, list[str]] = json.loads(self.cli(*word))
        return came

    def steps(self, request: Request) -> list[str]:
        return [str(step.step) for step in self.client.journey(request.id).steps]

    def until(self, look: Callable[[], T]) -> T:
        end_s = time.monotonic() + WAIT_S_MAX
        while not (found := look()):
            assert time.monotonic() < end_s, "it did not happen in time"
            self.utility.require_alive()
            time.sleep(0.2)
        return found


async def hire(database: str) -> None:
    """Two operators, with passwords."""
    hasher = SecretHasher(b"k" * 32)
    hashed = hasher.hash(PASSWORD)
    hasher.close()
    people = [
        Person(id=f"p-{name}", role=Role.OPERATOR, name=name.title(), login=name, password=hashed)
        for name in ("ada", "ben")
    ]

    async def put(books: AllBooks) -> None:
        await books.put_people(people)

    store = await open_store(database, clock=SlewingClock(time.time, time.monotonic))
    try:
        await store.write(put)
    finally:
        await store.close()


@pytest.fixture(
    scope="module",
    params=(EMBEDDED,) if embedded_only() else (EMBEDDED, PRODUCTION),
    ids=lambda pair: "+".join(pair),
)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two homes with a relay each, on each pair of engines; two workers on the production pair."""
    workers = 2 if request.param == PRODUCTION else 1
    place: Path = tmp_path_factory.mktemp("fleet")
    utility = LocalUtility(
        place, PLAN, CAPS, engines=request.param, workers=workers, gateway_settings=SPANS | {"rest_s": "{}"}
    )
    try:
        utility.start()
        asyncio.run(hire(utility.database))
        secret = utility.secret("bright")
        with Client(utility.url, client_id="bright", client_secret=secret) as client:
            running = Fleet(utility, client)
            for home in HOMES:
                read = running.until(lambda home=home: client.read(home.equipment[0].id))  # type: ignore[misc]
                assert read.state == "DONE", read
            yield running
    finally:
        utility.stop()


@pytest.mark.req("X04")
def test_what_is_over_a_cap_waits_for_two_operators_and_letting_go_does_not(fleet: Fleet) -> None:
    until = timedelta(hours=1)
    first = fleet.client.turn_off("RL-20", until=until, cause="grid")
    assert first.state == "DONE"
    over = fleet.client.turn_off("RL-21", until=until, cause="grid", wait_s=0)
    assert (over.state, over.reason) == ("QUARANTINED", "fleet-cap")
    (waiting,) = json.loads(fleet.cli("list", "--json"))
    assert (waiting["request"], waiting["lowers_kw"], waiting["first_by"]) == (over.id, 2.0, None)
    assert fleet.approve("ada", over.id)["first"] == [over.id]
    assert fleet.approve("ada", over.id)["own"] == [over.id], "one and the same is not two"
    assert fleet.client.release("RL-20").state == "DONE", "letting go passes"
    assert fleet.utility.actuations("RL-21") == []
    assert fleet.approve("ben", over.id)["released"] == [over.id]
    fleet.until(lambda: fleet.client.get(over.id).is_final)
    assert fleet.client.get(over.id).state == "DONE"
    assert [act["name"] for act in fleet.utility.actuations("RL-21")].count("on") == 1
    steps = fleet.steps(over)
    assert steps.count("quarantine_decided") == 2
    assert steps.index("quarantined") < steps.index("quarantine_decided") < steps.index("passed_to_gateway")
    held = json.loads(fleet.cli("status", "--json"))
    assert {"of": "party bright", "raised_kw": 0.0, "lowered_kw": 2.0} in held
    fleet.client.release("RL-21")
    fleet.until(lambda: all(not row["lowered_kw"] for row in json.loads(fleet.cli("status", "--json"))))


@pytest.mark.req("X04")
def test_a_campaign_begins_and_ends_at_drawn_times_that_its_journey_tells(fleet: Fleet) -> None:
    over = fleet.client.turn_off("RL-21", until=timedelta(hours=1), campaign="evening", wait_s=30)
    while over.state == "QUARANTINED":  # the minute of the test before is not over
        fleet.client.cancel(over.id)
        time.sleep(1)
        over = fleet.client.turn_off("RL-21", until=timedelta(hours=1), campaign="evening", wait_s=30)
    assert over.state == "DONE"
    told = [step.detail or "" for step in fleet.client.journey(over.id).steps]
    assert [detail for detail in told if detail.startswith("accepted; begins at random within 2 s")]
    assert [detail for detail in told if detail.startswith("begins 20")]
    assert [detail for detail in told if detail.startswith("ends 20")]
    released = fleet.client.release("RL-21")
    assert released.state == "DONE"
    assert (released.detail or "").startswith("RL-21 ends 20"), "stored, and let go at a drawn time"
    fleet.until(lambda: "released" in fleet.steps(over))
