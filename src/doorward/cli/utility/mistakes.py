"""The rows of a utility's file, and every mistake in it by line and field."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from doorward.cli.toml_places import Path as Place
from doorward.cli.toml_places import Places
from doorward.cli.utility.tables import TABLES

T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True, order=True):
    """A mistake in the file."""

    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.text}"


class FileWrong(Exception):
    """The file cannot be used; ``problems`` are all that was found, by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class Refs:
    """The tables of the file, and the mistakes found so far."""

    def __init__(
        self, text: str, directory: Path, environ: Mapping[str, str], *, must_sign: bool = False
    ) -> None:
        self.places = Places(text)
        self.directory = directory
        self.environ = environ
        self.must_sign = must_sign
        """Whether third parties sign their controls unless the file says otherwise."""
        self.problems: list[Problem] = []
        self.rows: dict[str, list[tuple[Place, Any]]] = {name: [] for name in TABLES}
        self.faulty: set[tuple[str, str]] = set()
        """(table, id) of tables that have mistakes: what refers to them is not one more."""

    def wrong(self, place: Place, text: str) -> None:
        """Note a mistake."""
        field = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place)
        self.problems.append(Problem(self.places.line(place), field.removeprefix("."), text))

    def ids(self, table: str) -> dict[str, Any]:
        """Return the rows of a table by their id."""
        key = "name" if table == "tier" else "id"
        return {getattr(row, key): row for _, row in self.rows[table]}

    def must_be(self, place: Place, table: str, id: str) -> bool:
        """Whether a reference leads somewhere; a mistake otherwise."""
        known = self.ids(table)
        if id in known:
            return True
        if (table, id) in self.faulty:
            return False
        self.wrong(place, f"there is no {table} {id!r}{near(id, known)}")
        return False

    def file(self, place: Place, name: str) -> bytes | None:
        """Return what stands in another file, or ``None`` after the mistake was noted."""
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            self.wrong(place, f"{name}: {error.strerror}")
            return None


def row_of(refs: Refs, place: Place, kind: type[T], entry: Mapping[str, Any]) -> T | None:
    """Return a table as its struct, or ``None`` after all that is wrong with it was noted."""
    hints = get_type_hints(kind)
    shown = {struct.encode_name: struct for struct in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    names = {name.removesuffix("_"): field for name, field in shown.items()}
    values: dict[str, Any] = {}
    before = len(refs.problems)
    for key, value in entry.items():
        if key not in names:
            refs.wrong((*place, key), f"unknown key{near(key, names)}")
            continue
        try:
            values[names[key].name] = msgspec.convert(value, hints[names[key].name])
        except msgspec.ValidationError as error:
            refs.wrong((*place, key), str(error))
    for key, field in names.items():
        if field.required and key not in entry:
            refs.wrong((*place, key), "is missing")
    return kind(**values) if len(refs.problems) == before else None


def near(word: str, known: Iterable[str]) -> str:
    """Return a hint at what may have been meant, or nothing."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def fields_of(row: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a table by name."""
    return msgspec.structs.asdict(row)
