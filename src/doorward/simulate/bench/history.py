"""A year of history before a bench begins: rows in bulk, so that it is seen whether cost grows with them.

For ten journal rows, one request and one event are made beside them. What is hot finds what it needs by
indexes (``tests/engines/store/test_plans.py``).
"""

import asyncio
import sqlite3
from pathlib import Path

import asyncpg

DAY_US = 86_400_000_000
DAYS = 365
OTHERS = 10
"""One request and one event for so many journal rows."""

COUNTING = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
MESSAGE = """'01800000-' || substr(CAST(100000000000 + i AS TEXT), 1, 4) || '-7000-8000-'
    || substr(CAST(1000000000000 + i AS TEXT), 2)"""
PLACE = "'SP-' || substr(CAST(1000000 + i % 5000 AS TEXT), 2)"
STEPS = (
    '[{"at":1,"step":"received","detail":"read"},{"at":1,"step":"authenticated","detail":"party-0"},'
    '{"at":1,"step":"authorised"},{"at":1,"step":"recorded","detail":"accepted"}]'
)
JOURNAL = """
INSERT INTO journal (day, message, at_us, party, service_point, gateway, device, steps) {counting}
SELECT {at} / {day}, {message}, {at}, 'party-' || i % 4, {place}, 'SPG-old', 'EV-old', '{steps}' FROM n
"""
REQUESTS = """
INSERT INTO request (id, party, service_point, gateway, partition, "grant", grant_version, klass, received_us,
    charge_us, due_us, warn_us, act_before_us, ready_us, final_us, answer, state, key, body, charged, result,
    cancel_asked) {counting}
SELECT {message}, 'party-' || i % 4, {place}, 'SPG-old', i % 256, 'G-old', 1, 11, {at}, {at}, {at}, 0, {at},
    NULL, {at}, 'DELIVERED', 'DONE', 'old-' || i, '', 2, '', false FROM n
"""
EVENTS = """
INSERT INTO event (id, party, kind, created_us, request, service_point, device, "grant", data, webhook) {counting}
SELECT {message}, 'party-' || i % 4, 'request.result', {at}, {message}, {place}, 'EV-old', 'G-old', '', 'none'
FROM n
"""


def statements(rows: int, now_us: int) -> list[str]:
    """Return the statements that make ``rows`` journal rows up to yesterday, in either database's SQL."""
    begin_us = now_us - (DAYS + 1) * DAY_US

    def made(text: str, count: int) -> str:
        return text.format(
            counting=COUNTING.format(rows=count),
            at=f"({begin_us} + i * {DAYS * DAY_US // count})",
            day=DAY_US,
            message=MESSAGE,
            place=PLACE,
            steps=STEPS,
        )

    others = max(1, rows // OTHERS)
    return [made(JOURNAL, rows), made(REQUESTS, others), made(EVENTS, others)]


async def fill(database: str, rows: int, now_us: int) -> None:
    """Make the history in a store that has its tables; ``database`` is its URL."""
    made = statements(rows, now_us)
    if database.startswith("sqlite"):
        await asyncio.to_thread(_fill_sqlite, Path(database.removeprefix("sqlite:///")), made)
        return
    connection = await asyncpg.connect(database)
    try:
        for text in (*made, "ANALYZE"):
            await connection.execute(text)
    finally:
        await connection.close()


def _fill_sqlite(file: Path, made: list[str]) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        for text in made:
            connection.execute(text)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
