"""Statements: written once with SQLAlchemy Core, compiled once per database to text and slots.

What differs between the databases is a *flavour* and stays in this file: how a list is passed as one
parameter, how many rows go in at once, how rows are locked. At run time there is no SQLAlchemy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from doorward.wire.chain import Head

Row = tuple[Any, ...]
Encode = Callable[[Any], Any]


class Sql(NamedTuple):
    """A statement as a driver takes it. A slot is the argument's place and how it is passed."""

    text: str
    slots: tuple[tuple[int, Encode | None], ...]
    as_given: bool
    """Whether the slots are the arguments as they are."""

    def bind(self, args: Row) -> Row:
        """Return the driver's parameters for arguments in declared order."""
        if self.as_given:
            return args
        return tuple(args[at] if encode is None else encode(args[at]) for at, encode in self.slots)


def words(name: str) -> BindParameter[str]:
    """A text parameter."""
    return bindparam(name, type_=Text())


def number(name: str) -> BindParameter[int]:
    """An integer parameter."""
    return bindparam(name, type_=BigInteger())


def exactly(value: str | int) -> ColumnElement[Any]:
    """A constant in the statement's text, so that partial indexes match. Never for what comes from outside."""
    return literal_column(f"'{value}'" if isinstance(value, str) else str(value))


_LIST_OF: Final[dict[str, Encode]] = {
    "json": lambda values: msgspec.json.encode(list(values)).decode(),
    "array": list,
    "first": lambda pairs: [pair[0] for pair in pairs],
    "second": lambda pairs: [pair[1] for pair in pairs],
}
"""How a list goes into one parameter, by the part of its name after ``__``."""


def _constant(value: Any, _argument: Any) -> Any:
    return value


class Flavour(ABC):
    """What differs between databases in the text of statements."""

    dialect: Dialect
    lateral: bool
    """Whether a sub-select in FROM may look at rows before it (and lock what it finds)."""
    rows_at_once: bool
    """Whether a batch is one statement over arrays; otherwise it is repeated for each row."""

    def __init__(self) -> None:
        self._compiled: dict[int, Sql] = {}

    @abstractmethod
    def any_of(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """``column`` is one of a list parameter."""

    @abstractmethod
    def any_pair(self, a: Column[Any], b: Column[Any], name: str) -> ColumnElement[bool]:
        """``(a, b)`` is one of a list parameter of pairs."""

    @abstractmethod
    def each(self, name: str) -> FromClause:
        """A list parameter of texts as a table with one column ``value``."""

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], conflict: "Conflict") -> ClauseElement:
        """Rows into a table. Parameters are the columns."""

    @abstractmethod
    def update(
        self, table: Table, key: str, columns: Sequence[str], rising: Collection[str]
    ) -> ClauseElement:
        """New values by key; those of ``rising`` only where they are greater.

        Parameters are the columns, then the key, all after ``new_``."""

    @abstractmethod
    def beyond(self, xact: Column[int], seq: Column[int]) -> ColumnElement[bool]:
        """A feed's rows after the parameters ``xact`` and ``seq``."""

    @abstractmethod
    def settled(self) -> ColumnElement[bool] | None:
        """Of a feed's rows those before which nothing can appear any more; ``None`` means all."""

    def compile(self, statement: ClauseElement, params: Sequence[str]) -> Sql:
        """Compile; raise ``ValueError`` when the statement has parameters that are not declared."""
        compiled = statement.compile(dialect=self.dialect)
        slots: list[tuple[int, Encode | None]] = []
        for name in getattr(compiled, "positiontup", None) or ():
            base, _, kind = name.partition("__")
            if base in params:
                slots.append((params.index(base), _LIST_OF[kind] if kind else None))
            elif (constant := compiled.params.get(name)) is not None:  # SQLite's OFFSET 0 after a LIMIT
                slots.append((0, partial(_constant, constant)))
            else:
                raise ValueError(f"undeclared parameter {name!r} in {compiled}")
        as_given = slots == [(at, None) for at in range(len(params))]
        return Sql(str(compiled), tuple(slots), as_given)


class Conflict(NamedTuple):
    """What to do with a row that is there already: fail, skip it, or replace the columns named."""

    on: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    skip: bool = False


FAIL = Conflict()
SKIP = Conflict(skip=True)


class Sqlite(Flavour):
    """SQLite: lists as JSON, a row at a time, no row locks (there is one writer)."""

    dialect: Dialect = sqlite.dialect(paramstyle="qmark")
    lateral = False
    rows_at_once = False

    def any_of(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """The list is one JSON text."""
        return column.in_(select(self.each(name).c.value))

    def any_pair(self, a: Column[Any], b: Column[Any], name: str) -> ColumnElement[bool]:
        """The pairs are one JSON text."""
        pair = self.each(name).c.value
        first = func.json_extract(pair, literal_column("'$[0]'"))
        second = func.json_extract(pair, literal_column("'$[1]'"))
        return tuple_(a, b).in_(select(first, second))

    def each(self, name: str) -> FromClause:
        """``json_each``."""
        return func.json_each(words(f"{name}__json")).table_valued("value")

    def insert(self, table: Table, columns: Sequence[str], conflict: Conflict) -> ClauseElement:
        """One row."""
        values = {name: bindparam(name, type_=table.c[name].type) for name in columns}
        statement = sqlite.insert(table).values(values)
        if conflict.skip:
            return statement.on_conflict_do_nothing()
        if not conflict.replace:
            return statement
        new = {name: statement.excluded[name] for name in conflict.replace}
        return statement.on_conflict_do_update(index_elements=conflict.on, set_=new)

    def update(
        self, table: Table, key: str, columns: Sequence[str], rising: Collection[str]
    ) -> ClauseElement:
        """One row."""
        # The key gets a name of its own: SQLAlchemy keeps column names for what is set.
        new = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
        values = {name: _risen(table.c[name], new[name], rising) for name in columns}
        return update(table).where(table.c[key] == words(f"new_{key}")).values(values)

    def beyond(self, xact: Column[int], seq: Column[int]) -> ColumnElement[bool]:
        """Without transactions' ids; said so that the index is used to its end."""
        return (xact == number("xact")) & (seq > number("seq"))

    def settled(self) -> ColumnElement[bool] | None:
        """One writer: what is visible is in order."""
        return None


class Postgresql(Flavour):
    """PostgreSQL: lists as arrays, batches as one statement over arrays, row locks."""

    dialect: Dialect = asyncpg.PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    lateral = True
    rows_at_once = True

    def any_of(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """The list is one array."""
        kind = (
            BigInteger() if isinstance(column.type, BigInteger) or column.type.python_type is int else Text()
        )
        return column == any_(bindparam(f"{name}__array", type_=ARRAY(kind)))

    def any_pair(self, a: Column[Any], b: Column[Any], name: str) -> ColumnElement[bool]:
        """The pairs are two arrays."""
        first = bindparam(f"{name}__first", type_=ARRAY(Text()))
        second = bindparam(f"{name}__second", type_=ARRAY(Text()))
        pairs = func.unnest(first, second).table_valued("a", "b").render_derived()
        return tuple_(a, b).in_(select(pairs.c.a, pairs.c.b))

    def each(self, name: str) -> FromClause:
        """``unnest``."""
        return (
            func.unnest(bindparam(f"{name}__array", type_=ARRAY(Text())))
            .table_valued("value")
            .render_derived()
        )

    def insert(self, table: Table, columns: Sequence[str], conflict: Conflict) -> ClauseElement:
        """All rows, an array per column."""
        rows = _arrays(table, columns)
        source = select(*(rows.c[name] for name in columns))
        if conflict.skip:
            return postgresql.insert(table).from_select(columns, source).on_conflict_do_nothing()
        if not conflict.replace:
            return insert(table).from_select(columns, source)
        statement = postgresql.insert(table).from_select(columns, source)
        new = {name: statement.excluded[name] for name in conflict.replace}
        return statement.on_conflict_do_update(index_elements=conflict.on, set_=new)

    def update(
        self, table: Table, key: str, columns: Sequence[str], rising: Collection[str]
    ) -> ClauseElement:
        """All rows, an array per column."""
        rows = _arrays(table, (*columns, key), prefix="new_")
        values = {name: _risen(table.c[name], rows.c[name], rising) for name in columns}
        return update(table).where(table.c[key] == rows.c[key]).values(values)

    def beyond(self, xact: Column[int], seq: Column[int]) -> ColumnElement[bool]:
        """In the order of (transaction, number)."""
        return tuple_(xact, seq) > tuple_(number("xact"), number("seq"))

    def settled(self) -> ColumnElement[bool] | None:
        """Older than every transaction that runs."""
        return literal_column("xact < pg_snapshot_xmin(pg_current_snapshot())::text::bigint")


def _risen(column: Column[Any], new: ColumnElement[Any], rising: Collection[str]) -> ColumnElement[Any]:
    return case((column < new, new), else_=column) if column.name in rising else new


def _arrays(table: Table, columns: Sequence[str], prefix: str = "") -> FromClause:
    """One array parameter per column, as rows."""
    arrays = [bindparam(prefix + name, type_=ARRAY(_plain(table.c[name].type))) for name in columns]
    return func.unnest(*arrays).table_valued(*columns, name="row").render_derived()


def _plain(kind: "TypeEngine[Any]") -> "TypeEngine[Any]":
    """Text without its collation, which has no place in an array's type."""
    return Text() if isinstance(kind, Text) else kind


class Statement:
    """A statement and the names of its arguments in order; ``build`` makes it for a flavour."""

    every: Final[list["Statement"]] = []

    def __init__(self, build: "Callable[[Flavour], Executable | Select[Any]]", *params: str) -> None:
        self.build = build
        self.params = params
        self.every.append(self)

    def on(self, flavour: Flavour) -> Sql:
        """The compiled statement; made once."""
        known = flavour._compiled.get(id(self))
        if known is None:
            statement = self.build(flavour)
            assert isinstance(statement, ClauseElement)
            known = flavour._compiled[id(self)] = flavour.compile(statement, self.params)
        return known


class Batch:
    """One statement for many rows: an insert, or an update by key."""

    every: Final[list["Batch"]] = []

    def __init__(
        self,
        kind: Literal["insert", "update"],
        table: Table,
        columns: Iterable[str],
        *,
        conflict: Conflict = FAIL,
        key: str = "",
        rising: Collection[str] = (),
        returning: str = "",
    ) -> None:
        self._kind = kind
        self._table = table
        self._columns = tuple(columns)
        self._conflict = conflict
        self._key = key
        self._rising = rising
        self._returning = returning
        self.every.append(self)

    def last_of_each(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Of rows with the same key only the last, as if they had been run one after the other."""
        key = (self._key,) if self._kind == "update" else self._conflict.on
        if not key:
            return rows
        names = (*self._columns, self._key)
        places = [names.index(name) for name in key]
        last = {tuple(row[at] for at in places): row for row in rows}
        return rows if len(last) == len(rows) else list(last.values())

    def on(self, flavour: Flavour) -> Sql:
        """The compiled statement; its arguments are the columns (of an update: the key last)."""
        known = flavour._compiled.get(id(self))
        if known is None:
            known = flavour._compiled[id(self)] = self._compile(flavour)
        return known

    def _compile(self, flavour: Flavour) -> Sql:
        statement: Any
        if self._kind == "insert":
            params = self._columns
            statement = flavour.insert(self._table, self._columns, self._conflict)
        else:
            params = tuple(f"new_{name}" for name in (*self._columns, self._key))
            statement = flavour.update(self._table, self._key, self._columns, self._rising)
        if self._returning and flavour.rows_at_once:
            statement = statement.returning(self._table.c[self._returning])
        return flavour.compile(statement, params)


def inserting(
    table: Table, columns: Iterable[str], conflict: Conflict = FAIL, *, returning: str = ""
) -> Batch:
    """Insert rows of these columns."""
    return Batch("insert", table, columns, conflict=conflict, returning=returning)


def putting(table: Table, columns: Iterable[str], *key: str) -> Batch:
    """Insert rows, or replace all of them that is not ``key``."""
    names = tuple(columns)
    replace = tuple(name for name in names if name not in key)
    return Batch("insert", table, names, conflict=Conflict(on=key, replace=replace))


def updating(table: Table, key: str, columns: Iterable[str], *, rising: Collection[str] = ()) -> Batch:
    """Set these columns of rows by key; a row is (*columns, key). Those of ``rising`` never go down."""
    return Batch("update", table, columns, key=key, rising=rising)


class Pen(Protocol):
    """The right to write one chain of the journal, for a transaction."""

    async def take(self, on: "Executor", now_us: int) -> tuple[Head, int]:
        """Return the link to go on from, and the epoch to write under."""
        ...

    def wrote(self, head: Head) -> None:
        """The transaction has added a link; whether it stays is seen when it ends."""
        ...


class Executor(Protocol):
    """One transaction of one database."""

    flavour: Flavour

    @property
    def pen(self) -> Pen:
        """With which this transaction writes the journal."""
        ...

    async def rows(self, statement: Statement, *args: Any) -> list[Row]:
        """Run and return all rows."""
        ...

    async def do(self, statement: Statement, *args: Any) -> int:
        """Run and return how many rows changed."""
        ...

    async def many(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Run a batch."""
        ...

    async def kept(self, batch: Batch, rows: Sequence[Row]) -> set[str]:
        """Run a batch that skips conflicts; return the first column of the rows that went in."""
        ...

    async def numbered(self, batch: Batch, rows: Sequence[Row]) -> list[int]:
        """Run an insert; return the numbers that the database gave the rows, in their order."""
        ...

    async def drop_day(self, day: int) -> None:
        """Drop the journal's rows of a day (since 1970) as a whole, where the day is a partition."""
        ...

    async def make_room(self, days: Iterable[int]) -> None:
        """See that the journal can take messages of these days (since 1970)."""
        ...


def locked(statement: "Select[Any]", *, skip: bool = False, shared: bool = False) -> "Select[Any]":
    """Lock the rows to the end of the transaction, where the database has row locks."""
    return statement.with_for_update(skip_locked=skip, read=shared)
