"""The house stands: the import contracts hold, each has been seen red, and nothing goes round in circles."""

import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
LINT_WAIT_S_MAX = 60

PLANTS = [
    ("floors", "ccs/rules/limits.py", "import doorward.spg.ports"),
    ("floors", "spg/journey.py", "import doorward.ccs.ports"),
    ("floors", "client/__init__.py", "import doorward.ccs.rules.facts"),
    ("floors", "wire/codec.py", "import doorward.spg.ports"),
    ("floors", "kit/clock.py", "import doorward.wire.reasons"),
    ("floors", "ccs/app.py", "import doorward.cli.main"),
    ("floors", "attic/__init__.py", ""),
    ("ccs", "ccs/rules/limits.py", "import doorward.ccs.ports"),
    ("ccs", "ccs/ports.py", "import doorward.ccs.journey"),
    ("ccs", "ccs/journey.py", "import doorward.ccs.engines.standard_formats"),
    ("ccs", "ccs/doors/__init__.py", "import doorward.ccs.engines"),
    ("ccs", "ccs/engines/__init__.py", "import doorward.ccs.doors"),
    ("ccs", "ccs/engines/__init__.py", "import doorward.ccs.app"),
    ("ccs", "ccs/attic.py", ""),
    ("spg", "spg/rules/__init__.py", "import doorward.spg.ports"),
    ("spg", "spg/journey.py", "import doorward.spg.han"),
    ("spg", "spg/han/__init__.py", "import doorward.spg.engines"),
    ("spg", "spg/attic.py", ""),
    ("floors", "consent/rules.py", "import doorward.ccs.ports"),
    ("consent", "consent/rules.py", "import doorward.consent.register"),
    ("pure", "consent/rules.py", "import time"),
    ("pure", "wire/codec.py", "import socket"),
    ("pure", "ccs/rules/limits.py", "import time"),
    ("pure", "ccs/journey.py", "import sqlalchemy"),
    ("pure", "ccs/way_out.py", "import asyncpg"),
    ("pure", "spg/rules/__init__.py", "import sqlite3"),
    ("pure", "spg/upkeep.py", "import aiohttp"),
    ("dice", "ccs/rules/limits.py", "import random"),
    ("dice", "wire/codec.py", "import uuid"),
    ("drivers", "kit/clock.py", "import sqlalchemy"),
    ("drivers", "client/__init__.py", "import fastapi"),
]


def lint(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--config", ROOT / "pyproject.toml", "--no-cache", *options],
        cwd=root, env={"PYTHONPATH": str(root / "src")}, capture_output=True, text=True, timeout=LINT_WAIT_S_MAX,
    )  # fmt: skip


def test_all_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "file", "line"), PLANTS)
def test_each_contract_goes_red(tmp_path: Path, contract: str, file: str, line: str) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "src" / "doorward" / file
    target.parent.mkdir(exist_ok=True)
    with target.open("a") as text:
        text.write(f"\n{line}\n")
    done = lint(tmp_path, "--contract", contract)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout or "exhaustive" in done.stdout, done.stdout


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Return one circle of imports, or nothing."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_go_in_circles() -> None:
    graph = grimp.build_graph("doorward", cache_dir=None)
    assert circle({one: graph.find_modules_directly_imported_by(one) for one in graph.modules}) == []


def test_a_circle_would_be_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
