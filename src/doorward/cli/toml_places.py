"""Where things stand in a TOML file: ``tomllib`` reads the values, this finds their lines.

A path is a tuple of keys and, for arrays of tables, numbers from 0: ``("grant", 1, "device", 0, "id")``.
What stands inside a value (an inline table, an array) is found at the line where the value begins.
"""

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_KEY = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*((?:{_KEY.pattern})(?:\s*\.\s*(?:{_KEY.pattern}))*)\s*=(.*)$", re.DOTALL)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")


class Places:
    """The line of every table and key of a file that ``tomllib`` has accepted."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        table: Path = ()
        for number, line in _statements(text):
            if header := _HEADER.match(line):
                table = self._table(_keys(header[2]), many=header[1] == "[[")
                self._lines.setdefault(table, number)
                if header[1] == "[[":
                    self._lines.setdefault(table[:-1], number)  # of the array: where its first table is
            elif assignment := _ASSIGNMENT.match(line):
                self._lines.setdefault((*table, *_keys(assignment[1])), number)

    def line(self, path: Path) -> int:
        """Return the line of a path, or of what holds it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _table(self, keys: list[str], *, many: bool) -> Path:
        path: Path = ()
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            if many and depth == len(keys):
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path


def _keys(text: str) -> list[str]:
    return [key.strip("\"'") if key[0] in "\"'" else key for key in _KEY.findall(text)]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of every statement, with the lines that it goes on for left out."""
    closing = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        begins = not closing and depth == 0
        rest = line
        if closing:
            _, closed, rest = line.partition(closing)
            closing = "" if closed else closing
        if not closing:
            opened, closing = _brackets(rest if not begins else _value(rest))
            depth = max(0, depth + opened)
        if begins:
            yield number, line


def _value(line: str) -> str:
    """Return what stands right of the ``=``: the brackets of a header open nothing."""
    found = _ASSIGNMENT.match(line)
    return found[2] if found else ""


def _brackets(text: str) -> tuple[int, str]:
    """Return how many brackets stay open, and the delimiter of a long string that does."""
    for delimiter in ('"""', "'''"):
        before, opened, after = text.partition(delimiter)
        if opened and "#" not in _STRING.sub("", before):
            _, closed, rest = after.partition(delimiter)
            inner, closing = _brackets(rest) if closed else (0, delimiter)
            return _brackets(before)[0] + inner, closing
    bare = _STRING.sub("", text).partition("#")[0]
    return sum(bare.count(one) for one in "[{") - sum(bare.count(one) for one in "]}"), ""
