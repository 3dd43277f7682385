"""Draws docs/pictures/ask.svg: what ``doorward ask`` says of a running demo. Start ``make demo`` first.

make pictures
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PLACE = Path(__file__).parent.parent / "docs" / "pictures"
COMMANDS = {"ask.svg": ["ask", "TH-1001"]}
COLUMNS = 92
WAIT_S_MAX = 90
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich names fonts of another site; a picture of ours loads nothing."""


def draw(arguments: list[str]) -> str:
    """Run a command of the demo and return its output as SVG; raises ``CalledProcessError``."""
    done = subprocess.run(
        [sys.executable, "-m", "doorward.cli", *arguments],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=WAIT_S_MAX,
        check=True,
    )
    command = " ".join(["doorward", *arguments])
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(done.stdout))
    svg = console.export_svg(title=command, unique_id=arguments[0])
    return FONT_FACE.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def main() -> None:
    """Draw all pictures."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, arguments in COMMANDS.items():
        (PLACE / name).write_text(draw(arguments), encoding="utf-8")


if __name__ == "__main__":
    main()
