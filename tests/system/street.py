"""A street for small promises: four homes, three companies in three tiers, and a file that can be changed."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from doorward.client import Client
from doorward.simulate.local_utility import EMBEDDED, PRODUCTION, LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.spg.engines.store import STORE_FILE
from doorward.wire.vocabulary import DeviceClass
from tests.services import embedded_only

T = TypeVar("T")

WAIT_S_MAX = 40.0
LOOK_S = 0.2
PER_HOUR = 240
PER_DAY = 24 * PER_HOUR
ROOMY = {"per_hour": PER_HOUR, "per_day": PER_DAY}

METERED = Home("SP-10", "SPG-10", "Ada", (
    Equipment("MT-10", DeviceClass.METER, "Meter"),
    Equipment("PP-10", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
    Equipment("EV-10", DeviceClass.EV_CHARGER, "Charger", "ocpp1.6", 7400),
))  # fmt: skip
CLOSED = Home("SP-11", "SPG-11", "Bo", (Equipment("RL-11", DeviceClass.RELAY, "Relay", rated_w=2000),))
"""Nobody has access to it at first."""
QUEUED = Home("SP-12", "SPG-12", "Cleo", (Equipment("TH-12", DeviceClass.THERMOSTAT, "Thermostat"),))
COUNTED = Home("SP-13", "SPG-13", "Dan", (Equipment("WH-13", DeviceClass.WATER_HEATER, "Water heater"),))
STREET = Plan(
    homes=(METERED, CLOSED, QUEUED, COUNTED),
    parties=(
        Company("gold", "Gold", "premium", ("SP-10", "SP-12", "SP-13")),
        Company("silver", "Silver", "standard", ("SP-12", "SP-13")),
        Company("plain", "Plain", "basic", ("SP-13",)),
        Company("operations", "The utility", "basic", ("SP-12",), utility=True),
    ),
    per_hour=PER_HOUR,
    per_day=PER_DAY,
)


class Street:
    """A running utility, its companies' clients, and what tests change in it."""

    def __init__(self, utility: LocalUtility) -> None:
        self.utility = utility
        self._open = ExitStack()
        self._clients: dict[str, Client] = {}

    def close(self) -> None:
        self._open.close()

    def client(self, party: str) -> Client:
        """A company, with the SDK."""
        if party not in self._clients:
            made = Client(self.utility.url, client_id=party, client_secret=self.utility.secret(party))
            self._clients[party] = self._open.enter_context(made)
        return self._clients[party]

    def grant(self, party: str, *homes: str) -> None:
        """The customers let a company into these homes and no others; the utility applies it."""
        plan = self.utility.plan
        parties = tuple(replace(each, homes=homes) if each.id == party else each for each in plan.parties)
        self.utility.plan = replace(plan, parties=parties)
        self.utility.apply()

    def apply(self, change: Callable[[str], str]) -> str:
        """Apply the utility's file with a change; return what was said, or raise ``DidNotStart``."""
        file = self.utility.directory / "utility.toml"
        changed = self.utility.directory / "changed.toml"
        changed.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
        place = ("--dir", str(self.utility.directory / "ccs"), "--database", self.utility.database)
        return self.utility.command("apply", str(changed), *place)

    def log(self, home: Home, step: str, **fields: str) -> list[dict[str, Any]]:
        """The rows of a gateway's own log of one step, with these fields."""
        return [
            row
            for row in self.utility.gateway_log(home.gateway)
            if row["step"] == step and all(row.get(name) == value for name, value in fields.items())
        ]

    def until(self, look: Callable[[], T]) -> T:
        """Return the first thing that ``look`` finds."""
        end_s = time.monotonic() + WAIT_S_MAX
        while not (found := look()):
            assert time.monotonic() < end_s, "it did not happen in time"
            self.utility.require_alive()
            time.sleep(LOOK_S)
        return found


def with_tier(text: str, name: str, **numbers: int) -> str:
    """Return the utility's file with other numbers in a tier."""
    tables = text.split("[[tier]]")
    for at, table in enumerate(tables):
        if f'name = "{name}"' in table:
            for key, value in numbers.items():
                table = re.sub(rf"^{key} = \d+$", f"{key} = {value}", table, flags=re.MULTILINE)
            tables[at] = table
    return "[[tier]]".join(tables)


@pytest.fixture(
    scope="session",
    params=(EMBEDDED,) if embedded_only() else (EMBEDDED, PRODUCTION),
    ids=lambda pair: "+".join(pair),
)
def street(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """The street on each pair of engines; two workers on the production pair."""
    workers = 2 if request.param == PRODUCTION else 1
    place: Path = tmp_path_factory.mktemp("street")
    utility = LocalUtility(place, STREET, ROOMY, engines=request.param, workers=workers)
    running = Street(utility)
    try:
        utility.start()
        for home in STREET.homes:
            running.until((utility.directory / "gateways" / home.gateway / STORE_FILE).exists)
            running.until(partial(running.log, home, "provisioned"))
        yield running
    finally:
        running.close()
        utility.stop()
