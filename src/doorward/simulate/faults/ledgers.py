"""Reading the ledgers of a running utility: the CCS's books, the gateways' stores, the devices' files."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from doorward.ccs.engines.opening import open_store
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.facts import Request
from doorward.client.defaults import real_clock
from doorward.simulate.faults.judge import Booked, Ledgers, Power, Told
from doorward.simulate.local_utility import LocalUtility
from doorward.spg.engines.store import STORE_FILE
from doorward.wire.steps import Step
from doorward.wire.vocabulary import Operation

PAGE = 500
BUSY_WAIT_S = 10.0


async def read_books(database: str, party: str) -> list[Booked]:
    """Return a third party's requests in the CCS's books, each with its journal."""

    async def read(books: AllBooks) -> list[Booked]:
        found: list[Booked] = []
        after = ""
        while page := await books.list_requests(party, after=after, limit=PAGE):
            found += [await _booked(books, each) for each in page]
            after = page[-1].id
        return found

    store = await open_store(database, clock=real_clock())
    try:
        return await store.read(read)
    finally:
        await store.close()


async def _booked(books: AllBooks, request: Request) -> Booked:
    rows = await books.journal(request.id)
    return Booked(
        id=request.id,
        control=request.operation is Operation.LIMIT,
        key=request.key,
        state=request.state,
        settlement=request.settlement,
        due_us=request.due_us,
        final_us=request.final_us,
        steps=tuple((step.step.value, step.detail) for row in rows for step in row.steps),
    )


def read_gateway(directory: Path) -> tuple[dict[str, str], dict[str, int], int]:
    """Return what a gateway's store says: states by request, how often each went to the home, and how many
    messages still wait for the CCS.
    """
    file = directory / STORE_FILE
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_WAIT_S)) as connection:
        states = dict(
            connection.execute("SELECT id, state FROM inbox WHERE party <> '' OR state <> 'UNKNOWN'")
        )
        passed = connection.execute(
            "SELECT message, count(*) FROM journal WHERE step = ? GROUP BY message",
            (Step.PASSED_TO_HAN.value,),
        )
        told = dict(passed)
        (waiting,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    return states, told, waiting


def acts_of(utility: LocalUtility, devices: Iterable[str]) -> dict[Power, list[int]]:
    """When each device's own file says that it was set to each power, also when it was so before."""
    acts: dict[Power, list[int]] = {}
    for device in devices:
        for line in utility.actuations(device):
            if line["name"] == "limit_w" and line["value"] is not None and line["value"] >= 0:
                acts.setdefault((device, int(line["value"])), []).append(line["at_us"])
    return acts


async def gather(utility: LocalUtility, party: str, third_party: list[Told]) -> Ledgers:
    """Read all four ledgers of a utility whose equipment are pool pumps."""
    states: dict[str, str] = {}
    told: Counter[str] = Counter()
    for home in utility.plan.homes:
        there, passed, _ = read_gateway(utility.directory / "gateways" / home.gateway)
        states |= there
        told.update(passed)
    devices = [device.id for home in utility.plan.homes for device in home.equipment]
    return Ledgers(
        third_party=third_party,
        books=await read_books(utility.database, party),
        gateways=states,
        told_devices=told,
        acts=acts_of(utility, devices),
    )
