"""The record of a running utility: an audit finds it sound, and finds everything that is done to it."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doorward.audit import keys
from doorward.audit.findings import CCS
from doorward.audit.records import CcsRecord, GatewayRecord
from doorward.ccs.app import KEYS_DIR
from doorward.ccs.engines.opening import sqlite_path
from doorward.ccs.engines.postgresql import connected
from doorward.ccs.settings import AUTHORITY_DIR
from doorward.client import Client
from doorward.simulate.local_utility import LocalUtility
from doorward.spg.engines.store import STORE_FILE
from doorward.wire.chain import Checkpoint
from doorward.wire.signatures import payload_of
from tests.audit.tampering import BESIDE, WAYS, Lab, OnPostgresql, OnSqlite, Place, Sql

WAYS_TRIED = int(os.environ.get("DOORWARD_TAMPERINGS", "6"))
"""How often each way of tampering is tried on each record; ``make tampering`` tries many more."""
SEED = int(os.environ.get("DOORWARD_TAMPERING_SEED", "2026"))
GATEWAYS = ("SPG-1", "SPG-2")
CHECKPOINTS_WANTED = 3


def audit(utility: LocalUtility, *options: str, gateways: Sequence[Path] = ()) -> tuple[int, str, str]:
    """Run the command beside the utility; how it ended, and what it said."""
    command = [sys.executable, "-m", "doorward.cli", "audit", *options]
    command += ["--dir", str(utility.directory / "ccs"), "--database", utility.database]
    command += [word for place in gateways for word in ("--gateway-dir", str(place))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def busy(utility: LocalUtility) -> LocalUtility:
    """A utility over which something has gone: readings of two homes, controls, and some checkpoints."""
    with Client(utility.url, client_id="bright", client_secret=utility.secret("bright")) as bright:
        for device in ("TH-1", "RL-1", "TH-2", "RL-2"):
            bright.read(device)
            bright.request("turn_off" if device.startswith("RL") else "read", device)
        for device in ("TH-1", "TH-2") * 3:
            if looked_at(utility).get("checkpoints at gateways", 0) >= CHECKPOINTS_WANTED:
                break
            bright.read(device)
    return utility


def looked_at(utility: LocalUtility) -> dict[str, int]:
    """Of what an audit of all looks at how many."""
    _, said, _ = audit(
        utility, "--json", gateways=[utility.directory / "gateways" / name for name in GATEWAYS]
    )
    looked: dict[str, int] = json.loads(said)["looked_at"]
    return looked


@pytest.mark.req("X02")
def test_the_record_of_a_running_utility_is_sound(busy: LocalUtility) -> None:
    places = [busy.directory / "gateways" / name for name in GATEWAYS]
    status, said, wrong = audit(busy, "--json", gateways=places)
    report = json.loads(said)
    assert (status, report["findings"], report["sound"], wrong) == (0, [], True, "")
    looked = report["looked_at"]
    assert looked["rows"] > 20
    for what in ("heads", "deliveries", "payloads", "rows compared", "messages of gateways"):
        assert looked[what] >= 8, (what, looked)
    status, said, _ = audit(busy, "--since", "1h", gateways=places)
    assert status == 0
    assert "Both records are whole, they agree" in said


@pytest.mark.req("X02")
def test_a_row_that_somebody_changes_in_a_gateways_file_is_named(busy: LocalUtility, tmp_path: Path) -> None:
    """The file is a copy of the gateway's, changed by hand, beside the CCS that runs."""
    place, original = tmp_path / "SPG-1", busy.directory / "gateways" / "SPG-1"
    place.mkdir()
    (place / "identity.json").write_bytes((original / "identity.json").read_bytes())
    with closing(_copy(original / STORE_FILE, place / STORE_FILE)) as file:
        file.execute("DROP TRIGGER journal_is_not_changed")
        seq, link = file.execute("SELECT seq, link FROM journal WHERE step = 'passed_to_han'").fetchone()
        file.execute("UPDATE journal SET device = 'TH-9' WHERE seq = ?", (seq,))
    status, said, _ = audit(busy, gateways=[place])
    assert status == 1
    assert f"CHANGED: a row was changed (SPG-1, writer 1, link {link}, row {seq}, field device" in said
    assert "The record is NOT sound" in said


def test_what_cannot_be_audited_is_said(busy: LocalUtility, tmp_path: Path) -> None:
    status, _, wrong = audit(busy, gateways=[tmp_path])
    assert (status, wrong.startswith("cannot audit: "), "holds no gateway's record" in wrong) == (
        2,
        True,
        True,
    )
    status, _, wrong = audit(busy, "--since", "yesterday")
    assert (status, "neither a span" in wrong) == (2, True)


# ---- everything that can be done to a record ------------------------------------------------------------


@asynccontextmanager
async def laboratory(utility: LocalUtility, tmp_path: Path) -> AsyncIterator[Lab]:
    """Copies of the files, and the server's database itself, where changes are never committed."""
    files = {
        name: _copy(utility.directory / "gateways" / name / STORE_FILE, tmp_path / f"{name}.sqlite")
        for name in GATEWAYS
    }
    where = utility.directory / "ccs"
    consent = keys.consent_keys(where, where / AUTHORITY_DIR)
    record = keys.record_keys(where / KEYS_DIR)
    path = sqlite_path(utility.database)
    if path is None:
        async with connected(utility.database) as server:
            yield Lab(OnPostgresql(server), {n: OnSqlite(f) for n, f in files.items()}, consent, record)
    else:
        books = _copy(Path(path), tmp_path / "ccs.sqlite")
        # what gateways have heard since must not be ahead of the copy
        yield Lab(OnSqlite(books), {n: OnSqlite(f) for n, f in files.items()}, consent, record)
        books.close()
    for file in files.values():
        file.close()


def _copy(source: Path, target: Path) -> sqlite3.Connection:
    made = sqlite3.connect(target, isolation_level=None)
    with closing(sqlite3.connect(source)) as running:
        running.backup(made)
    return made


async def places(lab: Lab, rng: random.Random) -> Iterator[Place]:
    """The records, with the newest of their links that the other side holds."""
    held: dict[int, int] = {}
    for sql in lab.gateways.values():
        for (peers,) in await sql.all("SELECT peers FROM chain"):
            for name, writer, _, seq, _ in json.loads(peers):
                if name == "":
                    held[writer] = max(seq, held.get(writer, 0))
    for (document,) in await lab.ccs.all("SELECT document FROM checkpoint"):
        for head in msgspec.json.decode(payload_of(document), type=Checkpoint).heads:
            held[head.writer] = max(head.seq, held.get(head.writer, 0))
    told: dict[str, int] = {}
    for (peers,) in await lab.ccs.all("SELECT peers FROM chain"):
        for name, _, _, seq, _ in json.loads(peers):
            told[name] = max(seq, told.get(name, 0))
    found = [Place(CCS, lab.ccs, CcsRecord.columns, True, rng, CcsRecord.unmarked, held)]
    for name, sql in lab.gateways.items():
        found.append(
            Place(name, sql, GatewayRecord.columns, False, rng, GatewayRecord.unmarked, {1: told[name]})
        )
    return iter(found)


async def disarm(sql: Sql) -> None:
    """An intruder is not held up by triggers."""
    if isinstance(sql, OnSqlite):
        for (name,) in await sql.all("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            await sql.all(f"DROP TRIGGER {name}")


@pytest.mark.req("X02")
async def test_every_tampering_with_a_record_is_found_and_named(busy: LocalUtility, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    tried: Counter[str] = Counter()
    missed: list[Any] = []
    async with laboratory(busy, tmp_path) as lab:
        assert (await lab.audit()).findings == []
        for place in await places(lab, rng):
            for way in (*WAYS, *(BESIDE if place.name == CCS else ())):
                for _ in range(WAYS_TRIED):
                    await place.sql.begin()
                    try:
                        await disarm(place.sql)
                        expected = await way(place)
                        report = await lab.audit()
                    finally:
                        await place.sql.rollback()
                    tried[way.__name__] += 1
                    if not expected.met_by(report):
                        missed.append((way.__name__, expected, report.findings[:5]))
        assert (await lab.audit()).findings == []
    assert not missed, f"{len(missed)} of {sum(tried.values())} not named: {missed[:3]}"
