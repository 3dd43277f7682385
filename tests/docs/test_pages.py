"""What the docs list is complete: folders, choices, guides."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "doorward"
DOCS = ROOT / "docs"
NAMED_FOLDER = re.compile(r"`src/(doorward/[a-z_/]*)/`")
TARGET = re.compile(r"`make ([a-z-]+)")
CHOICE = re.compile(r"docs/adr/(\d{4})")
DEEP_FOLDERS = {"ccs/engines/migrations/versions", "ccs/doors/api/assets"}
"""Not worth a line: what is in them belongs to the folder above."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_every_folder_has_its_line_in_the_architecture() -> None:
    named = set(NAMED_FOLDER.findall(text_of("docs/ARCHITECTURE.md")))
    folders = {
        file.parent.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert named == {f"doorward/{folder}" for folder in folders - DEEP_FOLDERS - {"."}}


def test_every_choice_is_in_the_index_and_has_its_parts() -> None:
    pages = sorted(page for page in (DOCS / "adr").glob("*.md") if page.name != "README.md")
    index = text_of("docs/adr/README.md")
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix(f"# {page.name[:4]} · ")
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in index
        assert "**Decided.**" in page.read_text(encoding="utf-8")


def test_every_choice_that_the_source_speaks_of_is_there() -> None:
    numbers = {
        number
        for file in [*SOURCE.rglob("*.py"), ROOT / "pyproject.toml"]
        for number in CHOICE.findall(file.read_text(encoding="utf-8"))
    }
    assert numbers <= {page.name[:4] for page in (DOCS / "adr").glob("*.md")}


def test_the_readme_leads_to_every_guide_and_reference() -> None:
    readme = text_of("README.md")
    pages = [
        *(DOCS / "howto").glob("*.md"),
        *(DOCS / "flows").glob("*.md"),
        *(DOCS / "reference").glob("*.md"),
    ]
    assert [page.name for page in pages if f"({page.relative_to(ROOT).as_posix()})" not in readme] == []


def test_every_make_target_that_a_page_or_the_source_names_is_there() -> None:
    there = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    files = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    named = {target for file in files for target in TARGET.findall(file.read_text(encoding="utf-8"))}
    assert named - there == set()
    assert "check" in named
