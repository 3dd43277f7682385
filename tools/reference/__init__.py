"""Writes docs/reference from the code; with ``--check`` says what is stale instead.

make docs          writes
make docs-check    checks
"""

from collections.abc import Callable
from pathlib import Path

from tools.reference.api import api_page, openapi
from tools.reference.commands import commands_page
from tools.reference.link import asyncapi
from tools.reference.settings import settings_page
from tools.reference.words import lifecycle, message_formats, reasons

PLACE = Path(__file__).parent.parent.parent / "docs" / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle,
    "reasons.md": reasons,
    "formats.md": message_formats,
    "asyncapi.json": asyncapi,
    "api.md": api_page,
    "openapi.json": openapi,
    "settings.md": settings_page,
    "commands.md": commands_page,
}
"""File in docs/reference → what makes it. Add a line here for a new page."""


def stale() -> list[str]:
    """Return the pages whose file is not what the code says now."""
    return [name for name, make in PAGES.items() if current(name) != make()]


def current(name: str) -> str:
    file = PLACE / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for name in (old := stale()):
            print(f"docs/reference/{name} is stale; run 'make docs' and commit it")
        return 1 if old else 0
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (PLACE / name).write_text(make(), encoding="utf-8")
    return 0
