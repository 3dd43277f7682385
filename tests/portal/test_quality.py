"""Every page × two themes × two widths: axe finds nothing, nothing overflows, nothing comes from elsewhere.

That finds what a program can find; it does not prove conformance (WCAG 2.2 AA asks for eyes too).
"""

import json
from pathlib import Path
from typing import Any

import axe_playwright_python  # type: ignore[import-untyped]
import pytest

from doorward.client import Client
from doorward.simulate.local_utility import LocalUtility
from tests.portal.conftest import Visitor

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
WHOLE = f"() => axe.run(document, {{resultTypes: ['violations'], runOnly: {RULES}}})"
COLOURS = (
    "() => axe.run(document, "
    "{resultTypes: ['violations'], runOnly: {type: 'rule', values: ['color-contrast']}})"
)
"""A theme changes colours and nothing else; a width may change anything."""
WIDTHS = (360, 1280)
THEMES = ("light", "dark")
HOME = "/portal/homes/SP-1"
OPEN = [
    "/portal/choose",
    "/portal/sign-in",
    "/portal/link?key=x",
    "/portal/password?key=x",
    "/portal/help",
    "/portal/none",
]
PAGES: dict[str, list[str]] = {
    "": OPEN,
    "Maria Lopez": [
        HOME,
        f"{HOME}/services",
        f"{HOME}/services/bright",
        f"{HOME}/services/bright/stop",
        f"{HOME}/connect",
        f"{HOME}/connect/sun",
        f"{HOME}/connect/sun/devices",
        f"{HOME}/devices",
        f"{HOME}/activity",
        f"{HOME}/receipts",
        "/portal/settings",
        "JOURNEY",
        "RECEIPT",
        "CHECK",
    ],
    "Rosa Reyes": [
        "/portal/cases",
        "/portal/cases?q=alder",
        "/portal/cases?q=x",
        "/portal/cases/SP-1",
        "/portal/cases/SP-1/service",
        f"{HOME}/services/bright",
        "JOURNEY",
    ],
    "Dana Kim": [
        "/portal/workbench",
        "/portal/workbench/credentials",
        "/portal/workbench/requests",
        "/portal/workbench/webhooks",
        "JOURNEY",
    ],
    "Omar Haddad": ["/portal/", "JOURNEY"],
}


@pytest.fixture(scope="session")
def message(company: Client) -> str:
    return company.read("TH-1").id


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_a_fault_that_a_program_can_find(
    visitor: Visitor, utility: LocalUtility, message: str, name: str
) -> None:
    if name:
        visitor.be(name)
    faults = []
    for path in PAGES[name]:
        _open(visitor, path, message)
        faults += _faults(visitor, path)
    assert faults == []
    # what is not there and whoever may not are pages of ours too, and browsers say so on their console
    assert [said for said in visitor.complaints if "404" not in said and "422" not in said] == []


def _open(visitor: Visitor, path: str, message: str) -> None:
    if path == "JOURNEY":
        visitor.go(f"/portal/journeys/{message}")
    elif path == "RECEIPT":
        visitor.go(f"{HOME}/receipts")
        visitor.page.locator("ol.story a").first.click()
        visitor.page.wait_for_load_state()
    elif path == "CHECK":
        visitor.go(f"{HOME}/connect/sun/devices")
        visitor.page.get_by_label("See").first.check()
        visitor.page.get_by_role("button", name="Check").click()
        visitor.page.wait_for_load_state()
    else:
        visitor.go(path)


def _faults(visitor: Visitor, path: str) -> list[str]:
    page, found = visitor.page, []
    for details in page.locator("details").all():
        details.evaluate("at => at.open = true")
    page.evaluate(AXE)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{path} at {width}: wider than the window")
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            result: dict[str, Any] = page.evaluate(WHOLE if theme == "light" else COLOURS)
            found += [f"{path} at {width}, {theme}: {_said(each)}" for each in result["violations"]]
    return found


def _said(violation: dict[str, Any]) -> str:
    where = [node["target"] for node in violation["nodes"][:3]]
    return f"{violation['id']} ({violation['help']}) {json.dumps(where)}"


def test_a_fault_would_be_found(visitor: Visitor) -> None:
    visitor.go("/portal/sign-in")
    visitor.page.evaluate("document.querySelector('label[for=login]').remove()")
    visitor.page.evaluate("document.querySelector('h1').style.color = '#ccc'")
    faults = " ".join(_faults(visitor, "planted"))
    assert "label" in faults
    assert "color-contrast" in faults
