"""Rows to records and back. Columns and fields have the same names, so that one mapping serves all."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from operator import attrgetter
from types import UnionType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import Column, Table

from doorward.ccs.engines.sql import Row

T = TypeVar("T", bound=msgspec.Struct)
Change = Callable[[Any], Any]

_json = msgspec.json.Encoder()
CACHED_MAX = 50_000
"""Decoded documents that are kept, each under its own text: a changed document is another key."""


class Remembered:
    """Decodes JSON text once per text; forgets everything when it is full, which is seldom and cheap."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.json.Decoder(kind).decode
        self._known: dict[str, Any] = {}

    def __call__(self, text: str) -> Any:
        """The value of a text; the same object for the same text, so it must not be changed."""
        value = self._known.get(text)
        if value is None:
            if len(self._known) >= CACHED_MAX:
                self._known.clear()
            value = self._known[text] = self._decode(text)
        return value


def to_json(value: Any) -> str:
    """JSON text of a document of ours."""
    return _json.encode(value).decode()


class RowsOf(Generic[T]):
    """How records of one kind stand in a table.

    ``columns`` are the table's columns that are fields of the record, in the table's order;
    ``leaving_out`` names fields that are made from elsewhere.
    """

    def __init__(self, record: type[T], table: Table, *, leaving_out: Iterable[str] = ()) -> None:
        # The record's own strings: msgspec matches keyword arguments by identity first, which makes a
        # record of many fields five times as fast to build.
        fields = {name: name for name in record.__struct_fields__ if name not in set(leaving_out)}
        self.columns: list[Column[Any]] = [column for column in table.columns if column.name in fields]
        self.names = tuple(fields[column.name] for column in self.columns)
        if missing := fields.keys() - set(self.names):
            raise ValueError(f"{table.name} has no columns for {sorted(missing)}")
        self._record = record
        changes = {name: _changes(hint) for name, hint in get_type_hints(record).items()}
        self._loads = [(name, load) for name in self.names if (load := changes[name][0]) is not None]
        self._changes = changes

    def load(self, row: Sequence[Any], **more: Any) -> T:
        """The record of a row that begins with ``columns``; ``more`` are fields from elsewhere."""
        values = dict(zip(self.names, row, strict=False))
        for name, change in self._loads:
            values[name] = change(values[name])
        return self._record(**values, **more)

    def dumper(self, names: Sequence[str] | None = None) -> Callable[[T], Row]:
        """A function from a record to a row of ``names`` (all columns by default)."""
        chosen = tuple(self.names if names is None else names)
        take: Callable[[T], Row] = attrgetter(*chosen)
        dumps = [(at, self._changes[name][1]) for at, name in enumerate(chosen)]
        changing = [(at, change) for at, change in dumps if change is not None]

        def dump(record: T) -> Row:
            row = list(take(record))
            for at, change in changing:
                row[at] = change(row[at])
            return tuple(row)

        return dump


def _changes(hint: Any) -> tuple[Change | None, Change | None]:
    """How a field of this type is read from a column, and how it is written."""
    if get_origin(hint) is UnionType:
        inner = next(one for one in get_args(hint) if one is not type(None))
        load, dump = _changes(inner)
        return _optional(load), _optional(dump)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {member.value: member for member in hint}.__getitem__, attrgetter("_value_")
    if hint is msgspec.Raw:
        return msgspec.Raw, bytes
    if hint is bool:
        return bool, None
    if hint in (str, int, float, bytes) or get_origin(hint) is Literal:
        return None, None
    return Remembered(hint), to_json


def _optional(change: Change | None) -> Change | None:
    return None if change is None else lambda value: None if value is None else change(value)
