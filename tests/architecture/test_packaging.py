"""What is declared in two places says the same, and no file records a download address."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD_WAIT_S_MAX = 120
NAME = re.compile(r"[A-Za-z0-9._-]+")


def lines(file: str) -> list[str]:
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pinned(file: str) -> set[str]:
    return {line.split("==")[0] for line in lines(file) if "==" in line and not line.startswith("--")}


def test_the_compiled_set_is_made_from_what_the_project_declares() -> None:
    assert lines("base.in") == PROJECT["dependencies"]
    wanted = {match[0] for line in lines("base.in") if (match := NAME.match(line))}
    assert wanted <= pinned("base.txt")


def test_the_development_set_holds_all_that_the_product_runs_on() -> None:
    assert pinned("base.txt") <= pinned("dev.txt")


def test_every_pin_has_a_hash() -> None:
    for file in ("base.txt", "dev.txt"):
        text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
        for block in re.split(r"\n(?=[a-z0-9])", text):
            assert "==" not in block or "--hash=sha256:" in block, block


def test_no_requirement_records_a_download_address() -> None:
    for file in (ROOT / "requirements").iterdir():
        assert "://" not in file.read_text(encoding="utf-8"), file


def test_everything_below_the_source_is_in_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT, check=True, capture_output=True, timeout=BUILD_WAIT_S_MAX,
    )  # fmt: skip
    (wheel,) = tmp_path.iterdir()
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("doorward/")}
    source = ROOT / "src"
    wanted = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == wanted
    # Data that nothing imports, and that is missed only when it is wanted.
    for sample in ("py.typed", "ccs/formats/relay.read.v1.json", "spg/han/models/sim_relay.toml"):
        assert f"doorward/{sample}" in held
