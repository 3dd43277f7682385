"""The example of ``docs/howto/set-up-a-utility.md``: what the guide shows is what the tests apply."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "set-up-a-utility.md"
ENVIRON = {"BRIGHTGRID_SECRET": "hush"}


def example() -> str:
    """Return the file that the guide shows."""
    found = re.search(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]
