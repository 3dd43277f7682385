"""Every statement finds what it looks for by an index, however full the tables are."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from doorward.ccs.engines.migrations import migrate_sqlite
from doorward.ccs.engines.opening import upgrade
from doorward.ccs.engines.postgresql import FLAVOUR as POSTGRESQL
from doorward.ccs.engines.postgresql import SESSION
from doorward.ccs.engines.sql import Batch, Statement
from doorward.ccs.engines.sqlite import FLAVOUR as SQLITE
from doorward.ccs.engines.store import (
    accept,
    access,
    agreements,
    back,
    chain,
    dispatch,
    facts,
    fleet,
    people,
    reading,
    searching,
    time,
    workers,
)
from tests.engines.store.records import NOW

LINKS = ("device_service_point", "service_point_gateway")
GROWING = (
    *(
        "request",
        "event",
        "journal",
        "limit_log",
        "chain",
        "revoked_token",
        "grant",
        "device",
        "gateway",
        "person",
        "session",
        "contract",
        "access_change",
        "home_note",
        "party_note",
        "search_word",
        "service_point",
        "fleet_hold",
    ),
    *LINKS,
)
"""Tables that grow with the territory or with time: nothing may read one from end to end."""
SHORT = ("ix_contract_waiting", "ix_gateway_behind", "ix_request_ready", "ix_request_ready_at")
"""Indexes that hold only what waits for something: to read one from end to end is to look at what waits."""

PARTS = (
    facts,
    accept,
    chain,
    dispatch,
    back,
    time,
    workers,
    reading,
    access,
    fleet,
    agreements,
    people,
    searching,
)
STATEMENTS = {
    f"{part.__name__.rpartition('.')[2]}.{name}": each
    for part in PARTS
    for name, each in vars(part).items()
    if isinstance(each, Statement | Batch)
} | {f"searching.FIND {count}": each for count, each in searching.FIND.items()}
EXPECTED = {
    "facts.PARTIES": "pk_party",
    "facts.REVOKED": "pk_revoked_token",
    "facts.DEVICES": "pk_device",
    "facts.PLACES": "pk_service_point_gateway",
    "facts.GRANTS": "ix_grant_place",
    "accept.BY_KEY": "uq_request_key",
    "accept.LOCK_LIMITS": "pk_limit_log",
    "accept.WRITE_LIMITS": "pk_limit_log",
    "access.APPLIED": "pk_gateway",
    "chain.LAST": "pk_chain",
    "dispatch.CLAIM_READY": "ix_request_ready_at",
    "dispatch.READY_GATEWAYS": "ix_request_ready",
    "dispatch.READY_GATEWAYS_OF": "ix_request_ready",
    "dispatch.REQUESTS": "pk_request",
    "dispatch.LOCK_REQUESTS": "pk_request",
    "dispatch.UPDATE_REQUESTS": "pk_request",
    "dispatch.FINAL_AMONG": "pk_request",
    "dispatch.FRAME_MARKS": "pk_gateway",
    "dispatch.MARK_FRAMES": "pk_gateway",
    "dispatch.OPEN_AT": "ix_request_open_at",
    "back.CLAIM_EVENTS": "ix_event_due",
    "back.ENDPOINTS": "pk_endpoint",
    "back.EVENTS_OF": "ix_event_request",
    "back.FEED": "ix_event_feed",
    "back.UPDATE_EVENTS": "uq_event_id",
    "back.PUSHED": "ix_event_feed",
    "agreements.PARTY_NOTES": "ix_party_note_party",
    "searching.DROP_WORDS": "ix_search_word_thing",
    **{f"searching.FIND {count}": "pk_search_word" for count in searching.FIND},
    "time.DUE": "ix_request_due",
    "time.TO_WARN": "ix_request_warn",
    "time.UNDELIVERED": "ix_request_unanswered",
    "reading.LIST": "ix_request_party",
    "reading.LIST_CAMPAIGN": "ix_request_campaign",
    "access.LEASES_TO_RENEW": "ix_grant_lease",
    "fleet.LOCK_LOGS": "pk_fleet_log",
    "fleet.WRITE_LOGS": "pk_fleet_log",
    "fleet.HOLDS": "pk_fleet_hold",
    "fleet.HOLDS_OF": "ix_fleet_hold_request",
}
"""By which index the hot ones go (a primary key has a name of its own on SQLite)."""
NEED_NONE = frozenset(
    {
        *("accept.INSERT_REQUESTS", "accept.MAKE_LIMITS", "back.ADD_EVENTS"),
        *("chain.WRITE_JOURNAL", "chain.WRITE_LINK"),
        *("fleet.MAKE_LOGS", "fleet.PUT_HOLDS", "fleet.PUT_QUARANTINED"),
        # Tables that do not grow: tiers, workers, their 256 partitions.
        *("facts.TIERS", "dispatch.FENCE"),
        *("workers.BEAT", "workers.HOLD", "workers.LIVING", "workers.LOCK_LEASES"),
    }
)
"""Hot ones that look for nothing that was there before, or in a table that stays small."""


class Look(NamedTuple):
    """One look of a plan at a table: by which index (``""``: from end to end), under which condition."""

    table: str
    by: str
    condition: str


# --- SQLite ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sqlite_file() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate_sqlite(connection)
    yield connection
    connection.close()


def sqlite_looks(connection: sqlite3.Connection, each: Statement | Batch) -> list[Look]:
    sql = each.on(SQLITE)
    lists = [None if encode is None else "[]" for _, encode in sql.slots]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {sql.text}", lists)
    return [look for row in plan if (look := _read(row[3])) is not None]


def _read(line: str) -> Look | None:
    verb, _, rest = line.partition(" ")
    if verb not in ("SCAN", "SEARCH") or "VIRTUAL TABLE" in line:
        return None
    table, _, how = rest.partition(" USING ")
    index = how.replace("INTEGER PRIMARY KEY", "rowid").replace("COVERING ", "").removeprefix("INDEX ")
    name, _, condition = index.partition(" (")
    name = name.replace("PRIMARY KEY", f"pk_{table.split()[0]}")
    return Look(table.split()[0].replace("ready", "request"), name, condition.rstrip(")"))


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_scanned_on_sqlite(sqlite_file: sqlite3.Connection, name: str) -> None:
    looks = sqlite_looks(sqlite_file, STATEMENTS[name])
    scans = [look for look in looks if not look.condition and look.by not in SHORT]
    assert [look for look in scans if look.table in GROWING] == []
    used = {look.by.replace("sqlite_autoindex_", "pk_").removesuffix("_1") for look in looks}
    assert any(EXPECTED.get(name, "") in index for index in used or {""})


def test_a_feed_goes_on_from_its_cursor_not_from_its_beginning(sqlite_file: sqlite3.Connection) -> None:
    for feed in (back.FEED, back.FEED_OF):
        assert [look.condition for look in sqlite_looks(sqlite_file, feed)] == [
            "party=? AND xact=? AND seq>?"
        ]


# --- PostgreSQL --------------------------------------------------------------------------------------

FILL = f"""
INSERT INTO party (id, state, token_s, scopes, keys, signature_required, calls_per_s)
  SELECT 'p' || n, 'active', 1, '[]', '{{}}', false, 1 FROM generate_series(1, 50) n;
INSERT INTO service_point (id) SELECT 's' || n FROM generate_series(1, 5000) n;
INSERT INTO gateway (id, partition, state, desired_version, applied_version)
  SELECT 'w' || n, n % 256, 'enrolled', 1, 1 FROM generate_series(1, 5000) n;
INSERT INTO device (id) SELECT 'd' || n FROM generate_series(1, 5000) n;
INSERT INTO device_service_point (a, b, since_us) SELECT 'd' || n, 's' || n, 0 FROM generate_series(1, 5000) n;
INSERT INTO service_point_gateway (a, b, since_us) SELECT 's' || n, 'w' || n, 0 FROM generate_series(1, 5000) n;
INSERT INTO "grant" (id, party, service_point, version, state, sequence, not_before_us, expires_us)
  SELECT 'g' || n, 'p' || (1 + n % 50), 's' || n, 1, 'live', n, 0, {NOW} FROM generate_series(1, 5000) n;
INSERT INTO request (id, party, service_point, gateway, partition, "grant", grant_version, klass, received_us,
    charge_us, due_us, warn_us, act_before_us, ready_us, final_us, answer, state, key, body, charged, result,
    cancel_asked, campaign)
  SELECT 'r' || n, 'p' || (1 + n % 50), 's' || n, 'w' || n % 5000, n % 256, 'g', 1, 11, n, n, n, n, n,
    CASE WHEN n % 100 = 0 THEN n END, CASE WHEN n % 100 = 0 THEN 0 ELSE n END, 'DELIVERED', 'DONE',
    CASE WHEN n % 2 = 0 THEN 'k' || n ELSE '' END, '', 2, '', false, CASE WHEN n % 9 = 0 THEN 'c' ELSE '' END
  FROM generate_series(1, 20000) n;
INSERT INTO event (id, party, kind, created_us, request, service_point, device, "grant", data, webhook)
  SELECT 'e' || n, 'p' || (1 + n % 50), 'request.result', n, 'r' || n, 's', 'd', 'g', '',
    CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'done' END FROM generate_series(1, 20000) n;
INSERT INTO limit_log (key, times) SELECT 'sp|s' || n, '' FROM generate_series(1, 5000) n;
INSERT INTO fleet_log (key) SELECT 'party|' || n FROM generate_series(1, 5000) n;
INSERT INTO fleet_hold (party, subject, request, raise_w, lower_w, at_us, until_us, let_go)
  SELECT 'p' || (1 + n % 50), 'd' || n, 'r' || n, 1, 1, n, n, n % 100 <> 0 FROM generate_series(1, 20000) n;
INSERT INTO journal (day, message, at_us, party, service_point, gateway, device)
  SELECT 1, 'r' || n, n, 'p', 's', 'w', 'd' FROM generate_series(1, 20000) n;
INSERT INTO person (id, login, "of", fahrenheit) SELECT 'h' || n, 'l' || n, 'c' || n, false
  FROM generate_series(1, 5000) n;
INSERT INTO session (id, person, created_us, until_us)
  SELECT 'i' || n, 'h' || n, n, n FROM generate_series(1, 5000) n;
INSERT INTO contract (id, party, customer, service_point, starts_us, ends_us, state, signed_us)
  SELECT 'k' || n, 'p' || (1 + n % 50), 'c', 's' || n, 0, {NOW},
    CASE WHEN n % 100 = 0 THEN 'signed' ELSE 'ended' END, n
  FROM generate_series(1, 5000) n;
INSERT INTO access_change (id, party, service_point, "grant", version, at_us, asked_us, gateway, applied_us)
  SELECT 'a' || n, 'p', 's' || n % 5000, 'g' || n, 1, n, n, 'w' || n % 5000, CASE WHEN n % 100 = 0 THEN 0 ELSE n END
  FROM generate_series(1, 20000) n;
INSERT INTO search_word (word, kind, thing)
  SELECT 'w' || n, kind, 'd' || n FROM generate_series(1, 5000) n,
    unnest(ARRAY['customer', 'account', 'service_point', 'device']) kind;
INSERT INTO party_note (id, party, at_us) SELECT 'n' || n, 'p' || n % 50, n FROM generate_series(1, 20000) n;
INSERT INTO home_note (id, service_point, at_us)
  SELECT 'n' || n, 's' || n % 5000, n FROM generate_series(1, 20000) n;
ANALYZE;
"""


def postgresql_looks(plan: Any) -> Iterator[Look]:
    """What a plan looks at."""
    index = plan.get("Index Name", "")
    condition = plan.get("Index Cond", "")
    for inner in plan.get("Plans", ()):
        for look in postgresql_looks(inner):
            if plan["Node Type"] == "Bitmap Heap Scan":
                index, condition = look.by, look.condition
            else:
                yield look
    if "Relation Name" in plan and "Scan" in plan["Node Type"]:
        yield Look(plan["Relation Name"].replace("journal_default", "journal"), index, condition)
    elif "Bitmap Index" in plan["Node Type"]:
        yield Look("", index, condition)


def test_nothing_is_scanned_on_postgresql(postgresql_dsn: str) -> None:
    upgrade(postgresql_dsn)
    wrong = asyncio.run(_look_at_all(postgresql_dsn))
    assert wrong == []


async def _look_at_all(dsn: str) -> list[tuple[str, list[Look]]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(FILL)
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(
            f"SET enable_seqscan = {SESSION['enable_seqscan']}"
        )  # as in every session of ours
        return [
            (name, looks)
            for name, each in STATEMENTS.items()
            if not _good(name, looks := list(postgresql_looks(await _plan(connection, each))))
        ]
    finally:
        await connection.close()


def _good(name: str, looks: list[Look]) -> bool:
    scans = [look for look in looks if not look.condition and look.by not in SHORT]
    used = {look.by for look in looks} or {""}
    return not any(look.table in GROWING for look in scans) and any(
        EXPECTED.get(name, "") in at for at in used
    )


async def _plan(connection: Any, each: Statement | Batch) -> Any:
    sql = each.on(POSTGRESQL)
    await connection.execute(f"PREPARE looked_at AS {sql.text}")
    nulls = ", ".join(["NULL"] * len(sql.slots))
    call = f"EXECUTE looked_at({nulls})" if nulls else "EXECUTE looked_at"
    try:
        return json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {call}"))[0]["Plan"]
    finally:
        await connection.execute("DEALLOCATE looked_at")
