"""The account of what is proved must itself be right: it is what people will believe."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements_plugin import catalogue

ROOT = Path(__file__).parent.parent
ROWS = {
    "A": 9,
    "S1": 19,
    "S2": 19,
    "S3": 9,
    "S4": 6,
    "S5": 6,
    "F": 44,
    "N": 7,
    "B": 3,
    "R": 6,
    "I": 2,
    "X": 7,
}


def family(one: str) -> str:
    return one[:2] if one.startswith("S") else one[0]


def run(directory: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_sample.py").write_text(source)
    command = [
        sys.executable, "-m", "pytest", "-p", "tests.requirements_plugin", "-p", "no:cacheprovider",
        "-p", "no:asyncio", "--override-ini", "asyncio_mode=", "-c", str(directory / "none.ini"),
        "test_sample.py", *options,
    ]  # fmt: skip
    (directory / "none.ini").write_text("[pytest]\nmarkers = req(*ids): rows\n")
    return subprocess.run(
        command, cwd=directory, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )


def test_the_catalogue_has_every_row() -> None:
    counted: dict[str, int] = {}
    for one in catalogue():
        counted[family(one)] = counted.get(family(one), 0) + 1
    assert counted == ROWS
    assert all(catalogue().values())


@pytest.mark.parametrize("processes", [0, 2])
def test_a_row_counts_only_with_a_pass_and_without_a_failure(tmp_path: Path, processes: int) -> None:
    done = run(
        tmp_path,
        """
import pytest
@pytest.mark.req("S1.05", "F18")
def test_passes(): pass
@pytest.mark.req("F18")
def test_fails(): assert False
@pytest.mark.req("F01")
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.req("F02")
@pytest.mark.xfail
def test_known_broken(): assert False
@pytest.fixture
def broken():
    yield
    raise RuntimeError
@pytest.mark.req("F03")
def test_fails_in_tear_down(broken): pass
""",
        f"-n{processes}",
    )
    lines = done.stdout.splitlines()
    assert f"requirements: 1 of {len(catalogue())} proved" in lines
    unproved = " ".join(line for line in lines if "not proved:" in line).split()
    assert "S1.05" not in unproved
    assert {"F18", "F01", "F02", "F03"} <= set(unproved)
    assert lines[-1].startswith("="), "the closing line is the last"
    assert "passed" in lines[-1]


def test_an_unknown_row_stops_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, 'import pytest\n@pytest.mark.req("S9.99")\ndef test_it(): pass\n')
    assert done.returncode != 0
    assert "no such requirement: S9.99" in done.stdout + done.stderr
