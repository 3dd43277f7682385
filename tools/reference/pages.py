"""How a page of the reference looks."""

from collections.abc import Iterable, Iterator, Mapping
from inspect import cleandoc
from typing import Any

import msgspec

MADE = "<!-- Made by `make docs`; do not edit. -->"


def json_page(document: object) -> str:
    """Return a document as JSON that reads well and is the same each time."""
    encoded = msgspec.json.encode(clean(document), order="deterministic")
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def clean(value: Any) -> Any:
    """Return a document whose descriptions have no indentation: newer Pythons take it away themselves."""
    if isinstance(value, Mapping):
        return {
            key: cleandoc(each) if key == "description" and isinstance(each, str) else clean(each)
            for key, each in value.items()
        }
    return [clean(each) for each in value] if isinstance(value, list) else value


def page(title: str, lead: str, body: Iterable[str]) -> str:
    """Return a page in Markdown."""
    return "\n".join([MADE, "", f"# {title}", "", lead, "", *body]).rstrip() + "\n"


def table(heads: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of a table; a bar in a cell is escaped."""
    yield row(heads)
    yield "|" + "---|" * len(heads)
    yield from map(row, rows)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def words(docstring: str) -> str:
    """Return a docstring as one line of Markdown."""
    return " ".join(docstring.replace("``", "`").split())
