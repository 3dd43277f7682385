"""docs/performance.md says what was measured, and nothing else."""

from pathlib import Path

import pytest

from tools import performance
from tools.performance.figures import NAMES
from tools.performance.picture import bars


def test_the_page_and_its_picture_are_what_the_data_says() -> None:
    assert performance.stale() == [], "run 'make bench-docs ARGS=--write' and commit what it writes"


def test_what_was_measured_lost_nothing_and_did_nothing_twice() -> None:
    data = performance.read()
    assert set(data) <= {run.name for run in performance.RUNS} == set(NAMES)
    assert {(report["lost"], report["duplicated"]) for report in data.values()} == {(0, 0)}


def test_a_figure_that_was_changed_by_hand_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    page.write_text(performance.PAGE.read_text(encoding="utf-8").replace("| singles |", "| doubles |"))
    monkeypatch.setattr(performance, "PAGE", page)
    assert performance.stale() == ["performance.md"]


def test_the_picture_has_a_bar_for_every_phase_at_saturation() -> None:
    data = performance.read()
    names = [bar.name for bar in bars(data)]
    assert (
        len(names)
        == len(set(names))
        == sum(
            phase["phase"] in ("singles", "lists") for report in data.values() for phase in report["phases"]
        )
    )
