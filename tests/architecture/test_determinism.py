"""Wall time and randomness come in by injection only, so that a run can be replayed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src" / "doorward"
FORBIDDEN = {
    "time": {"time", "time_ns", "localtime", "gmtime"},
    "datetime.datetime": {"now", "utcnow", "today"},
    "datetime.date": {"today"},
    "uuid": {"uuid1", "uuid4", "uuid6", "uuid7"},
    "secrets": {"token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow", "randbits"},
}
RANDOM_ALLOWED = {"Random"}
"""Of the module ``random`` only the type that is injected may be named."""
ENTRIES = (
    *("ccs/app.py", "spg/app.py", "consent/app.py", "cli/", "client/", "__main__.py"),
    "simulate/faults/",
)
"""Where a real clock and real dice are made. The SDK runs in a third party's own process, and faults are
played on real processes from outside."""


def is_entry(file: Path) -> bool:
    name = file.relative_to(SOURCE).as_posix()
    return any(name.startswith(entry) or name.endswith(f"/{entry}") for entry in ENTRIES)


def breaches(source: str) -> Iterator[str]:
    """Yield ``line: name`` for every wall clock or die that the source names."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (full := dotted(node, names)):
            module, _, name = full.rpartition(".")
            if name in FORBIDDEN.get(module, ()) or (module == "random" and name not in RANDOM_ALLOWED):
                yield f"{node.lineno}: {full}"


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full name that an expression stands for, as far as imports tell."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (front := dotted(node.value, names)):
        return f"{front}.{node.attr}"
    return ""


def test_the_source_names_no_wall_clock_and_no_dice() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{breach}"
        for file in sorted(SOURCE.rglob("*.py"))
        if not is_entry(file)
        for breach in breaches(file.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\nx = time.time()",
        "from time import time\nx = time()",
        "import time as t\nclock = Clock(t.time_ns)",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "import datetime\ndatetime.datetime.utcnow()",
        "import random\nrandom.random()",
        "from random import shuffle\nshuffle(x)",
        "import random\nrng = random.SystemRandom()",
        "import uuid\nuuid.uuid4()",
        "import secrets\nsecrets.token_hex()",
    ],
)
def test_each_way_to_break_the_rule_is_seen(source: str) -> None:
    assert list(breaches(source))


def test_an_injected_generator_and_the_monotonic_clock_are_fine() -> None:
    assert not list(
        breaches("import random, time\ndef f(rng: random.Random): return rng.random(), time.monotonic()")
    )
