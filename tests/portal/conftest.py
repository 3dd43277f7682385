"""A utility on this machine with real gateways and equipment, and Chromium in front of its portal."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from doorward.client import Client
from doorward.simulate.local_utility import LocalUtility
from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan, Someone
from doorward.wire.vocabulary import DeviceClass
from tests.services import embedded_only

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS_MAX = 60_000

PLAN = Plan(
    homes=(
        Home(
            "SP-1",
            "SPG-1",
            "Maria Lopez",
            (
                Equipment("TH-1", DeviceClass.THERMOSTAT, "Thermostat (hall)"),
                Equipment("RL-1", DeviceClass.RELAY, "Workshop lamp"),
            ),
            address="14 Alder Road",
        ),
        Home("SP-2", "SPG-2", "Sam Okafor", (Equipment("RL-2", DeviceClass.RELAY, "Freezer"),)),
    ),
    parties=(
        Company("bright", "BrightGrid", "premium", ("SP-1", "SP-2"), wants={"thermostat": ["see", "set"]}),
        Company("sun", "Sunfold", "standard", (), wants={"thermostat": ["see", "set"], "relay": ["see"]}),
    ),
    people=(
        Someone("rosa", "representative", "Rosa Reyes"),
        Someone("omar", "operator", "Omar Haddad"),
        Someone("dana", "developer", "Dana Kim", "bright"),
        Someone("vera", "vendor", "Vera Novak", "Gatewell"),
        Someone("adam", "auditor", "Adam Stone"),
    ),
    per_hour=240,
    per_day=5760,
)


@pytest.fixture(scope="session")
def utility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalUtility]:
    """Two homes; one company that both let in, and one that nobody has let in yet."""
    settings = {"per_hour": PLAN.per_hour, "per_day": PLAN.per_day, "portal_choose": True}
    running = LocalUtility(tmp_path_factory.mktemp("portal"), PLAN, settings)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; for a module only, because Playwright holds the thread's event loop meanwhile."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if embedded_only():
            pytest.skip("there is no Chromium here")
        pytest.fail("there is no Chromium: make services installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


class Visitor:
    """Somebody in front of the portal, in a browser context of their own; what it complains of is kept."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS_MAX)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _said(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.complaints.append(getattr(message, "text", ""))

    def _asked(self, request: object) -> None:
        if not getattr(request, "url", "").startswith(self.url):
            self.complaints.append(f"asked {getattr(request, 'url', '')}")

    def go(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    def be(self, name: str) -> "Visitor":
        """Choose who one is, as the demo's first page offers it."""
        self.go("/portal/choose")
        self.page.get_by_role("button", name=name).click()
        self.page.wait_for_load_state()
        return self


@pytest.fixture
def visitor(chromium: Browser, utility: LocalUtility) -> Iterator[Visitor]:
    """A browser with an empty profile."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield Visitor(context.new_page(), utility.url)
    context.close()


@pytest.fixture(scope="session")
def company(utility: LocalUtility) -> Iterator[Client]:
    """The company that both homes let in."""
    with Client(utility.url, client_id="bright", client_secret=utility.secret("bright")) as client:
        yield client


@pytest.fixture(scope="session")
def newcomer(utility: LocalUtility) -> Iterator[Client]:
    """The company that nobody has let in."""
    with Client(utility.url, client_id="sun", client_secret=utility.secret("sun")) as client:
        yield client
