"""How a page of the reference looks."""

from collections.abc import Iterable, Iterator

MADE = "<!-- Made by `make docs`; do not edit. -->"


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
