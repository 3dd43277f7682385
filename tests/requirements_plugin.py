"""``@pytest.mark.req("S1.05", "F18")``: which rows of the requirements the tests have shown working.

A row counts as proved when at least one test that names it passed and none that names it failed.
An id that the catalogue does not have is an error at collection, so that a slip cannot hide a gap.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

CATALOGUE = Path(__file__).parent / "data" / "requirements.toml"
LINE_WIDTH = 100
NAMED = "requirements"


def catalogue() -> dict[str, str]:
    """Return id → short name, in the catalogue's order."""
    return tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))


class Requirements:
    """Collects outcomes by test and says at the end what they prove."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            ids = {one for mark in item.iter_markers("req") for one in mark.args}
            if unknown := sorted(str(one) for one in ids if one not in self.known):
                raise pytest.UsageError(f"{item.nodeid}: no such requirement: {', '.join(unknown)}")
            if ids:  # travels with the test's reports, from whichever process ran it
                item.user_properties.append((NAMED, " ".join(sorted(ids))))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = set(str(dict(report.user_properties).get(NAMED, "")).split())
        if report.failed:
            self.failed |= ids
        elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed |= ids

    def proved(self) -> set[str]:
        """Ids shown working by a passing test and contradicted by none."""
        return self.passed - self.failed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        proved = self.proved()
        terminalreporter.write_line("")
        terminalreporter.write_line(f"requirements: {len(proved)} of {len(self.known)} proved")
        if unproved := [one for one in self.known if one not in proved]:
            for line in wrapped(unproved):
                terminalreporter.write_line(f"  not proved: {line}")


def wrapped(ids: Iterable[str]) -> list[str]:
    """Lay ids out in lines of bounded width."""
    lines: list[str] = []
    for one in ids:
        if lines and len(lines[-1]) + len(one) < LINE_WIDTH:
            lines[-1] += f" {one}"
        else:
            lines.append(one)
    return lines


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Requirements(catalogue()), "doorward-requirements")
