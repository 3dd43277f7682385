"""The utility adds and retires message formats without code (F14)."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from doorward.ccs.engines.opening import upgrade
from doorward.ccs.settings import SQLITE_FILE
from doorward.cli.formats import app

BOOST = {
    "name": "water_heater.boost",
    "version": 1,
    "device_class": "water_heater",
    "operation": "load_up",
    "title": "Boost a water heater",
    "description": "Heats now, the utility's own words.",
    "units": {},
    "request": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 2, "description": "How much."}},
        "required": ["level"],
        "additionalProperties": False,
    },
    "answer": {"type": "object"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    upgrade(f"sqlite:///{tmp_path / SQLITE_FILE}")
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_a_format_is_added_listed_and_retired(directory: Path) -> None:
    file = directory / "boost.json"
    file.write_text(json.dumps(BOOST))
    where = ("--dir", str(directory))
    assert run("add", str(file), *where) == (0, "water_heater.boost/1 is active\n")
    assert "active" in next(
        line for line in run("list", *where)[1].splitlines() if "water_heater.boost/1" in line
    )
    assert run("retire", "water_heater.boost/1", *where)[0] == 0
    assert "retired" in next(
        line for line in run("list", *where)[1].splitlines() if "water_heater.boost/1" in line
    )


def test_a_changed_text_under_the_same_version_is_refused(directory: Path) -> None:
    file = directory / "boost.json"
    file.write_text(json.dumps(BOOST))
    run("add", str(file), "--dir", str(directory))
    file.write_text(json.dumps({**BOOST, "title": "Another"}))
    code, said = run("add", str(file), "--dir", str(directory))
    assert code == 1
    assert "needs a new version" in said


def test_a_broken_format_is_refused_with_its_place(directory: Path) -> None:
    file = directory / "boost.json"
    file.write_text(json.dumps({**BOOST, "request": {**BOOST["request"], "additionalProperties": True}}))  # type: ignore[dict-item]
    code, said = run("add", str(file), "--dir", str(directory))
    assert code == 1
    assert "/request/additionalProperties" in said


def test_retiring_what_is_not_there_says_so(directory: Path) -> None:
    code, said = run("retire", "no.such/1", "--dir", str(directory))
    assert code == 1
    assert "no format no.such/1" in said
