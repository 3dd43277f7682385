"""Measures with ``doorward bench`` and writes the figures and pictures of docs/performance.md from what it found.

make bench-docs                            measures everything (about half an hour on a quiet machine), then writes
make bench-docs ARGS="--only sqlite,storm" measures these runs again and keeps the others
make bench-docs ARGS="--write"             writes anew from docs/performance.json, measuring nothing
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tools.performance.figures import figures
from tools.performance.picture import picture

DOCS = Path(__file__).parent.parent.parent / "docs"
DATA = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "pictures" / "performance.svg"
BEGIN, END = "<!-- figures: made by make bench-docs -->\n", "<!-- end of figures -->\n"
RUN_S_MAX = 3_600

Data = dict[str, dict[str, Any]]


class Run(NamedTuple):
    """One bench: its name in the data, and its options."""

    name: str
    options: str


RUNS = [
    Run("sqlite", "--engines sqlite,websocket --light --gateways 200 --hand-over wait,webhook,stream"),
    Run("real", "--engines sqlite,websocket --gateways 1000 --hand-over wait,webhook"),
    Run(
        "postgresql-1",
        "--engines postgresql,mqtt --workers 1 --light --gateways 200 --hand-over wait,webhook",
    ),
    Run(
        "postgresql-2",
        "--engines postgresql,mqtt --workers 2 --light --gateways 200 --hand-over wait,webhook",
    ),
    Run(
        "history",
        "--engines sqlite,websocket --light --gateways 200 --hand-over wait --history 10000000",
    ),
    Run(
        "postgresql-history",
        "--engines postgresql,mqtt --workers 1 --light --gateways 200 --hand-over wait --history 10000000",
    ),
    Run("storm", "--engines sqlite,websocket --light --storm --gateways 10000 --rate 50 --hand-over wait"),
]


def measure(run: Run) -> dict[str, Any]:
    """Run one bench and return its report; raise ``RuntimeError`` when it found anything lost or done twice."""
    command = [sys.executable, "-m", "doorward.cli", "bench", "--json", *run.options.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=RUN_S_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"doorward bench {run.options}: ended with {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    measured = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {"options": run.options, "measured": measured, **report}


def page(data: Data, text: str) -> str:
    """Return the page with the figures that the data has."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{figures(data)}{END}{after}"


def stale() -> list[str]:
    """Return the files that are not what the data says."""
    data = read()
    text = PAGE.read_text(encoding="utf-8")
    pairs = [(PAGE, page(data, text), text), (PICTURE, picture(data), _text(PICTURE))]
    return [file.name for file, wanted, there in pairs if wanted != there]


def read() -> Data:
    """Return what was measured."""
    data: Data = json.loads(_text(DATA) or "{}")
    return data


def write(data: Data) -> None:
    """Write data, page and picture."""
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(data, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(data), encoding="utf-8")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def main(arguments: list[str]) -> int:
    """Measure what is asked for; the data is written after each run, so that nothing that was measured is lost."""
    parser = argparse.ArgumentParser(prog="python -m tools.performance")
    parser.add_argument("--write", action="store_true", help="measure nothing")
    parser.add_argument("--only", default="", help=f"of {', '.join(run.name for run in RUNS)}")
    asked = parser.parse_args(arguments)
    only = {name for name in asked.only.split(",") if name}
    if unknown := only - {run.name for run in RUNS}:
        parser.error(f"no such runs: {', '.join(sorted(unknown))}")
    data = read()
    for run in RUNS if not asked.write else []:
        if not only or run.name in only:
            print(f"{run.name}: doorward bench {run.options}", flush=True)
            data[run.name] = measure(run)
            write(data)
    write(data)
    return 0
