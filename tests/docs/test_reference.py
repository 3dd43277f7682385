"""docs/reference is made from the code, and is fresh."""

from pathlib import Path

import pytest

from tools import reference


def test_every_page_is_what_the_code_says_now() -> None:
    assert reference.stale() == [], "run 'make docs' and commit what it writes"


def test_a_page_that_was_edited_by_hand_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PLACE", tmp_path)
    assert reference.main([]) == 0
    assert reference.stale() == []
    (tmp_path / "reasons.md").write_text("none")
    assert reference.stale() == ["reasons.md"]
    assert reference.main(["--check"]) == 1


def test_nothing_else_lies_there() -> None:
    assert {file.name for file in reference.PLACE.iterdir()} == set(reference.PAGES)
