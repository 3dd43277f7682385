"""Every relative link in the docs leads somewhere, its anchor too."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def links(text: str) -> Iterator[str]:
    for match in LINK.finditer(CODE.sub("", text)):
        target = match[1] or match[2]
        if not OUTSIDE.match(target):
            yield target


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings make, by the rule that code hosts use."""
    found = set()
    for heading in HEADING.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def broken(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [target for target in links(text) if not leads_somewhere(page, text, target)]


def leads_somewhere(page: Path, text: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists() or not file.is_relative_to(ROOT):
        return False
    if not anchor or file.suffix != ".md":
        return True
    return anchor in anchors(text if file == page else file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    page = ROOT / "README.md"
    text = "[a](README.md) [b](none.md) ![c](none.png) [d](#here) [e](#nowhere) `[f](none)` [g](https://x)\n# Here"
    assert [one for one in links(text) if not leads_somewhere(page, text, one)] == [
        "none.md",
        "none.png",
        "#nowhere",
    ]
