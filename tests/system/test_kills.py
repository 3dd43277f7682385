"""``kill -9`` of the CCS and of gateways under load: four ledgers, written independently, are compared as sets.

The third party's list, the CCS's requests, the gateways' own journals and the devices' own files. Every
control asks for a power that no other asks for, so that a device's file tells which request it acted on.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from doorward.client import Client, DoorwardError, LimitExceeded
from doorward.client.records import FINAL_STATES, Request
from doorward.simulate.local_utility import LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.wire.vocabulary import DeviceClass
from tests.system.conftest import pairs

PUMPS = ("PP-1", "PP-2")
KILLS = 5
DEADLINE_S = 25
PLENTY = 100_000

PLAN = Plan(
    homes=tuple(
        Home(f"SP-{n}", f"SPG-{n}", f"Customer {n}", (Equipment(f"PP-{n}", DeviceClass.POOL_PUMP, "Pump"),))
        for n in (1, 2)
    ),
    parties=(Company("bright", "BrightGrid", "premium", ("SP-1", "SP-2")),),
    per_hour=PLENTY,
    per_day=PLENTY,
)


@dataclass
class Ledger:
    """What the third party wrote down: request id → (pump, watts); and what it was told was refused."""

    accepted: dict[str, tuple[str, int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """A run under kills, after everything had time to end."""

    utility: LocalUtility
    ledger: Ledger
    found: dict[str, Request]


@pytest.fixture(scope="module", params=pairs(), ids=lambda pair: "+".join(pair))
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory: Path = tmp_path_factory.mktemp("kills")
    settings = {"per_hour": PLENTY, "per_day": PLENTY}
    utility = LocalUtility(directory, PLAN, settings, engines=request.param)
    try:
        utility.start()
        yield run_under_kills(utility, random.Random(11))
    finally:
        utility.stop()


def client(utility: LocalUtility) -> Client:
    return Client(utility.url, client_id="bright", client_secret=utility.secret("bright"))


def run_under_kills(utility: LocalUtility, rng: random.Random) -> Outcome:
    """Load on both homes while processes die and come back; then wait until every deadline has passed."""
    wait_until_reachable(utility)
    ledger, over = Ledger(), threading.Event()
    loads = [
        threading.Thread(target=load, args=(utility, ledger, pump, base, over))
        for base, pump in enumerate(PUMPS)
    ]
    for each in loads:
        each.start()
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.5, 2.0))
        kill_one(utility, rng.choice(["ccs", "SPG-1", "SPG-2"]), rng.uniform(0.0, 0.5))
    time.sleep(3.0)
    over.set()
    for each in loads:
        each.join()
    return Outcome(utility, ledger, ended(utility, ledger))


def wait_until_reachable(utility: LocalUtility) -> None:
    with client(utility) as asking:
        for pump in PUMPS:
            assert any(asking.read(pump).is_done for _ in range(20))


def load(utility: LocalUtility, ledger: Ledger, pump: str, base: int, over: threading.Event) -> None:
    """Ask for one unique power after the other; the pump takes 300 to 1,499 W."""
    with client(utility) as asking:
        for watts in range(300 + base, 1500, 2):
            if over.is_set():
                return
            try:
                asked = asking.request(
                    "limit",
                    pump,
                    body={"watts": watts},
                    cause="test",
                    wait_s=0,
                    deadline=timedelta(seconds=DEADLINE_S),
                )
                ledger.accepted[asked.id] = (pump, watts)
            except LimitExceeded as refusal:
                ledger.refused.append(str(refusal))
            except DoorwardError:
                pass  # the CCS is down: nothing was accepted, or the key will tell
            time.sleep(0.05)


def kill_one(utility: LocalUtility, name: str, down_s: float) -> None:
    utility.processes[name].kill()
    time.sleep(down_s)
    if name == "ccs":
        utility.wait_ready(utility.start_ccs())
    else:
        utility.start_gateway(next(home for home in PLAN.homes if home.gateway == name))


def ended(utility: LocalUtility, ledger: Ledger) -> dict[str, Request]:
    end_s = time.monotonic() + DEADLINE_S + 10
    found: dict[str, Request] = {}
    with client(utility) as asking:
        while time.monotonic() < end_s:
            found |= {id: asking.get(id) for id in ledger.accepted if id not in found}
            found = {id: request for id, request in found.items() if request.state in FINAL_STATES}
            if len(found) == len(ledger.accepted):
                break
            time.sleep(1.0)
        return {id: asking.get(id) for id in ledger.accepted}


def acts(outcome: Outcome) -> Counter[tuple[str, int]]:
    """How often each pump's own file shows that it took each power."""
    return Counter(
        (pump, int(line["value"]))
        for pump in PUMPS
        for line in outcome.utility.actuations(pump)
        if line["name"] == "limit_w"
        and not line["repeat"]
        and line["value"] is not None
        and line["value"] >= 0
    )


def test_every_accepted_request_has_one_final_state_by_its_deadline(outcome: Outcome) -> None:
    assert len(outcome.ledger.accepted) > 50
    still_open = {id: each.state for id, each in outcome.found.items() if each.state not in FINAL_STATES}
    assert still_open == {}


def test_nothing_was_refused_for_a_limit_that_was_not_reached(outcome: Outcome) -> None:
    assert outcome.ledger.refused == []
    assert not [each for each in outcome.found.values() if each.reason == "limit-exceeded"]


def test_no_device_acted_twice_on_one_request(outcome: Outcome) -> None:
    assert {power: count for power, count in acts(outcome).items() if count > 1} == {}


def test_done_means_that_the_device_acted(outcome: Outcome) -> None:
    acted = acts(outcome)
    done = {outcome.ledger.accepted[id] for id, each in outcome.found.items() if each.state == "DONE"}
    assert len(done) > 20
    assert done - set(acted) == set()


def test_what_was_not_sent_or_was_refused_did_not_act(outcome: Outcome) -> None:
    acted = acts(outcome)
    never = {
        outcome.ledger.accepted[id]
        for id, each in outcome.found.items()
        if each.state in ("EXPIRED", "CANCELLED", "REFUSED")
    }
    assert never & set(acted) == set()


def test_nothing_acted_that_was_not_asked(outcome: Outcome) -> None:
    asked = set(outcome.ledger.accepted.values())
    unasked = set(acts(outcome)) - asked
    own = [each for each in all_requests(outcome.utility) if each.id not in outcome.ledger.accepted]
    assert len(unasked) <= len(own)  # accepted, but the CCS died before its 202 was read


def all_requests(utility: LocalUtility) -> Iterator[Request]:
    """Every control that the CCS has accepted."""
    with client(utility) as asking:
        after = ""
        while True:
            page = asking.requests(after=after, limit=500)
            yield from (each for each in page.items if each.operation == "limit")
            if not page.next:
                return
            after = page.next


def test_the_gateways_own_journals_know_every_request_that_was_done(outcome: Outcome) -> None:
    known = {row.get("message") for home in PLAN.homes for row in outcome.utility.gateway_log(home.gateway)}
    assert {id for id, each in outcome.found.items() if each.state == "DONE"} - known == set()
