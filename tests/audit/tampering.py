"""Tampering with a record that a running system made: each way changes the database as an intruder would.

Every tampering happens in a transaction that is never committed; the audit reads on the same connection.
"""

import random
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from doorward.audit.findings import CCS, Kind, Report
from doorward.audit.records import CcsRecord, Gateway, GatewayRecord
from doorward.audit.run import Audit
from doorward.ccs.engines.postgresql import PostgresqlExecutor
from doorward.ccs.engines.sqlite import SqliteExecutor, SqlitePen
from doorward.ccs.engines.store.auditing import Auditing
from doorward.ccs.engines.store.chain import link_row, load_link
from doorward.wire.chain import Head, Link, Part, hash_of, marks_of, root_of, text_of

NOW_US = 1_790_000_000_000_000


class Sql(Protocol):
    """A connection with a transaction that is rolled back. Parameters are ``?``."""

    async def all(self, statement: str, *args: Any) -> list[tuple[Any, ...]]: ...
    async def begin(self) -> None: ...
    async def rollback(self) -> None: ...


class OnSqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        connection.isolation_level = None

    async def all(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, args).fetchall()

    async def begin(self) -> None:
        self.connection.execute("BEGIN")

    async def rollback(self) -> None:
        self.connection.execute("ROLLBACK")


class OnPostgresql:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._transaction: Any = None

    async def all(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        for at in range(len(args)):
            statement = statement.replace("?", f"${at + 1}", 1)
        return [tuple(row) for row in await self.connection.fetch(statement, *args)]

    async def begin(self) -> None:
        self._transaction = self.connection.transaction()
        await self._transaction.start()

    async def rollback(self) -> None:
        await self._transaction.rollback()


@dataclass
class Expected:
    """What an audit has to say: one of these kinds, and where."""

    kinds: set[Kind]
    record: str
    writer: int = 0
    link: int = 0
    row: int = 0
    field: str = ""
    what: str = ""
    message: str = ""

    def met_by(self, report: Report) -> bool:
        return any(
            finding.kind in self.kinds
            and finding.record == self.record
            and (not self.writer or finding.writer == self.writer)
            and (not self.link or finding.link == self.link)
            and (not self.row or finding.row == self.row)
            and (not self.message or finding.message == self.message)
            and (not self.field or self.field in finding.field.split(", "))
            for finding in report.findings
        )


@dataclass
class Lab:
    """A record to tamper with: the CCS's or a gateway's, and everything else that an audit needs."""

    ccs: Sql
    gateways: Mapping[str, Sql]
    keys: Mapping[str, Mapping[str, str]]
    record_keys: Mapping[str, Mapping[str, str]]
    reports: list[Report] = field(default_factory=list)

    async def audit(self) -> Report:
        """Look at everything as it stands now, uncommitted changes too."""
        report = Report()
        on: Any = (
            SqliteExecutor(self.ccs.connection, SqlitePen())
            if isinstance(self.ccs, OnSqlite)
            else PostgresqlExecutor(self.ccs.connection)  # type: ignore[attr-defined]
        )
        opened = [
            Gateway(GatewayRecord(name, sql.connection), {})  # type: ignore[attr-defined]
            for name, sql in self.gateways.items()
        ]
        await Audit(
            CcsRecord(Auditing(on, 0)), opened, self.record_keys, self.keys, 0, report, now_us=NOW_US
        ).run()
        return report


@dataclass
class Place:
    """One record as tables: of the CCS, or of a gateway (which has one writer, and no column for it)."""

    name: str
    sql: Sql
    columns: tuple[str, ...]
    by_writer: bool
    rng: random.Random
    unmarked: int
    heads: dict[int, int]
    """Writer → the newest of its links that somebody else holds."""

    async def links(self, writer: int) -> list[Link]:
        if self.by_writer:
            rows = await self.sql.all("SELECT * FROM chain WHERE writer = ? ORDER BY seq", writer)
            return [load_link(row) for row in rows]
        rows = await self.sql.all("SELECT * FROM chain ORDER BY seq")
        return [load_link((writer, row[1], row[0], *row[2:])) for row in rows]

    async def rows(self, writer: int, link: int) -> list[tuple[Any, ...]]:
        of = f"writer = {writer} AND " if self.by_writer else ""
        return await self.sql.all(
            f"SELECT {', '.join(self.columns)} FROM journal WHERE {of}link = ? ORDER BY seq", link
        )

    def of(self, writer: int) -> str:
        return f"writer = {writer} AND " if self.by_writer else ""

    async def some_link(self, *, rows: int = 1) -> tuple[Link, list[tuple[Any, ...]]]:
        """A link at random that covers so many rows at least, and that somebody else holds."""
        writers = [writer for writer in self.heads if self.heads[writer] > 0]
        while True:
            writer = self.rng.choice(writers)
            links = [link for link in await self.links(writer) if link.seq <= self.heads[writer]]
            fit = [link for link in links if link.rows >= rows]
            if fit:
                link = self.rng.choice(fit)
                return link, await self.rows(writer, link.seq)


def other(value: Any, rng: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 1_000))
    if isinstance(value, bytes):
        at = rng.randrange(len(value)) if value else 0
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"x"
    if not value:
        return "x"
    at = rng.randrange(len(value))
    return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]


async def edit_row(place: Place) -> Expected:
    link, rows = await place.some_link()
    row = place.rng.choice(rows)
    names = [name for name in place.columns if name not in ("seq", "day")]
    name = place.rng.choice(names)
    value = row[place.columns.index(name)]
    value_now = other(value, place.rng)
    await place.sql.all(f"UPDATE journal SET {name} = ? WHERE seq = ?", value_now, row[0])
    return Expected(
        {Kind.CHANGED}, place.name, link.writer, link.seq, row[0], name, f"{name} := {value_now!r}"
    )


async def remove_row(place: Place) -> Expected:
    link, rows = await place.some_link()
    row = place.rng.choice(rows)
    await place.sql.all("DELETE FROM journal WHERE seq = ?", row[0])
    return Expected({Kind.REMOVED}, place.name, link.writer, link.seq, what=f"row {row[0]}")


async def add_row(place: Place) -> Expected:
    link, rows = await place.some_link()
    row = place.rng.choice(rows)
    top = (await place.sql.all("SELECT max(seq) FROM journal"))[0][0]
    names = place.columns[1:]
    values = dict(zip(names, row[1:], strict=True)) | {"link": link.seq}
    if place.by_writer:
        values["writer"] = link.writer
    marks = ", ".join("?" * (len(values) + 1))
    await place.sql.all(
        f"INSERT INTO journal (seq, {', '.join(values)}) VALUES ({marks})", top + 1_000, *values.values()
    )
    return Expected({Kind.ADDED}, place.name, link.writer, link.seq, top + 1_000)


async def reorder_rows(place: Place) -> Expected:
    try:
        link, rows = await _bounded(place.some_link, 2, place)
    except LookupError:
        return await swap_between_links(place)
    one, two = place.rng.sample(rows, 2)
    await _swap(place, "seq", one[0], two[0])
    return Expected({Kind.REORDERED}, place.name, link.writer, link.seq, one[0], "seq")


async def swap_between_links(place: Place) -> Expected:
    link, rows = await place.some_link()
    while True:
        another, others = await place.some_link()
        if another.seq != link.seq:
            break
    one, two = place.rng.choice(rows), place.rng.choice(others)
    under = "writer, link" if place.by_writer else "link"
    (first,) = await place.sql.all(f"SELECT {under} FROM journal WHERE seq = ?", one[0])
    (second,) = await place.sql.all(f"SELECT {under} FROM journal WHERE seq = ?", two[0])
    for seq, values in ((one[0], second), (two[0], first)):
        sets = ", ".join(f"{name} = ?" for name in under.split(", "))
        await place.sql.all(f"UPDATE journal SET {sets} WHERE seq = ?", *values, seq)
    return Expected({Kind.CHANGED, Kind.REORDERED, Kind.ADDED}, place.name, link.writer, link.seq)


async def _bounded(some: Callable[..., Awaitable[Any]], rows: int, place: Place) -> Any:
    for writer in place.heads:
        if any(link.rows >= rows for link in await place.links(writer) if link.seq <= place.heads[writer]):
            return await some(rows=rows)
    raise LookupError


async def _swap(place: Place, column: str, one: int, two: int) -> None:
    await place.sql.all(f"UPDATE journal SET {column} = -1 WHERE seq = ?", one)
    await place.sql.all(f"UPDATE journal SET {column} = ? WHERE seq = ?", one, two)
    await place.sql.all(f"UPDATE journal SET {column} = ? WHERE seq = -1", two)


async def truncate(place: Place) -> Expected:
    """Cut off the end of a chain, up to and with something that the other side has a receipt of."""
    link, _ = await place.some_link()
    of = place.of(link.writer)
    await place.sql.all(f"DELETE FROM journal WHERE {of}link >= ?", link.seq)
    await place.sql.all(f"DELETE FROM chain WHERE {of}seq >= ?", link.seq)
    return Expected({Kind.TRUNCATED}, place.name, link.writer)


async def edit_link(place: Place) -> Expected:
    link, _ = await place.some_link()
    name = place.rng.choice(("epoch", "at_us", "prev", "parts", "marks", "peers", "hash"))
    rows = await place.sql.all(f"SELECT {name} FROM chain WHERE {place.of(link.writer)}seq = ?", link.seq)
    value = other(rows[0][0], place.rng)
    await place.sql.all(f"UPDATE chain SET {name} = ? WHERE {place.of(link.writer)}seq = ?", value, link.seq)
    return Expected({Kind.CHANGED}, place.name, link.writer, link.seq, what=f"{name} := {value!r}")


async def remove_link(place: Place) -> Expected:
    link, _ = await place.some_link()
    await place.sql.all(f"DELETE FROM chain WHERE {place.of(link.writer)}seq = ?", link.seq)
    await place.sql.all(f"DELETE FROM journal WHERE {place.of(link.writer)}link = ?", link.seq)
    last = len(await place.links(link.writer)) < link.seq
    return Expected({Kind.TRUNCATED if last else Kind.REMOVED}, place.name, link.writer, link.seq)


async def rewrite(place: Place) -> Expected:
    """Change a row and make the whole chain behind it right again, as one who knows how it is made would."""
    link, rows = await place.some_link()
    row = place.rng.choice(rows)
    await place.sql.all("UPDATE journal SET party = ? WHERE seq = ?", "somebody-else", row[0])
    before: Link | None = None
    for each in await place.links(link.writer):
        if each.seq >= link.seq:
            each = await _made_anew(place, each, before.head if before else None)
            await _put(place, each)
        before = each
    return Expected({Kind.REWRITTEN}, place.name, link.writer)


async def _made_anew(place: Place, link: Link, before: Head | None) -> Link:
    rows = await place.rows(link.writer, link.seq)
    parts, ordered = [], []
    for part in link.parts:
        mine = [row for row in rows if not place.by_writer or row[1] == part.day]
        ordered += mine
        parts.append(Part(part.day, len(mine), root_of(text_of(row) for row in mine)))
    marks = marks_of([text_of(row) for row in ordered], ordered, place.unmarked)
    prev = before.hash if before is not None else link.prev
    made = replace(link, parts=parts, marks=marks, prev=prev)
    return replace(made, hash=hash_of(made))


async def _put(place: Place, link: Link) -> None:
    row = dict(
        zip(
            ("writer", "epoch", "seq", "at_us", "prev", "parts", "marks", "peers", "hash"),
            link_row(link),
            strict=True,
        )
    )
    sets = ("prev", "parts", "marks", "hash")
    await place.sql.all(
        f"UPDATE chain SET {', '.join(f'{name} = ?' for name in sets)} WHERE {place.of(link.writer)}seq = ?",
        *(row[name] for name in sets),
        link.seq,
    )


async def edit_payload(place: Place) -> Expected:
    """What a request carries stands beside the journal, which holds its digest."""
    name = place.rng.choice(("body", "result"))
    rows = await place.sql.all(f"SELECT id, {name} FROM request WHERE salt <> '' AND final_us > 0")
    id, value = place.rng.choice([row for row in rows if bytes(row[1]) != b"null"])
    changed = bytes(value)[:-1] + b',"x":1}'
    await place.sql.all(f"UPDATE request SET {name} = ? WHERE id = ?", changed, id)
    return Expected({Kind.CHANGED}, place.name, field=name, message=id)


async def edit_permission(place: Place) -> Expected:
    name = place.rng.choice(("signed", "state", "at_us"))
    rows = await place.sql.all(f"SELECT sequence, message, {name} FROM grant_record")
    sequence, message, value = place.rng.choice(rows)
    changed = ("withdrawn" if value == "live" else "live") if name == "state" else other(value, place.rng)
    await place.sql.all(f"UPDATE grant_record SET {name} = ? WHERE sequence = ?", changed, sequence)
    return Expected({Kind.CHANGED}, place.name, field=name, message=message)


async def remove_permission(place: Place) -> Expected:
    """As if the customer had never said so."""
    rows = await place.sql.all("SELECT sequence, message FROM grant_record")
    sequence, message = place.rng.choice(rows)
    await place.sql.all("DELETE FROM grant_record WHERE sequence = ?", sequence)
    return Expected({Kind.REMOVED}, place.name, message=message)


async def edit_checkpoint(place: Place) -> Expected:
    rows = await place.sql.all("SELECT number, document FROM checkpoint")
    number, document = place.rng.choice(rows)
    changed = other(document, place.rng)
    await place.sql.all("UPDATE checkpoint SET document = ? WHERE number = ?", changed, number)
    return Expected({Kind.FORGED, Kind.CHANGED}, CCS if place.by_writer else place.name)


async def remove_checkpoint(place: Place) -> Expected:
    (last,) = (await place.sql.all("SELECT max(number) FROM checkpoint"))[0]
    number = place.rng.randrange(1, last)
    await place.sql.all("DELETE FROM checkpoint WHERE number = ?", number)
    return Expected({Kind.REMOVED}, place.name)


BESIDE: Sequence[Callable[[Place], Awaitable[Expected]]] = (
    edit_payload,
    edit_permission,
    remove_permission,
    edit_checkpoint,
    remove_checkpoint,
)
"""What can be done to what stands beside the CCS's journal."""

WAYS: Sequence[Callable[[Place], Awaitable[Expected]]] = (
    edit_row,
    remove_row,
    add_row,
    reorder_rows,
    swap_between_links,
    truncate,
    edit_link,
    remove_link,
    rewrite,
)
