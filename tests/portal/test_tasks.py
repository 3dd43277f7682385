"""What people do on the portal, in a real browser, against real gateways and equipment."""

import signal
import time

import pytest
from playwright.sync_api import Browser, expect

from doorward.client import Client, DeviceUnknown, NotPermitted, ask
from doorward.simulate.local_utility import UTILITY_FILE, LocalUtility
from tests.portal.conftest import WAIT_MS_MAX, Visitor

HOME = "/portal/homes/SP-1"
WAIT_S_MAX = 60


def until(holds: object, what: str) -> None:
    """Wait for a condition, for a long time if the machine is busy."""
    end_s = time.monotonic() + WAIT_S_MAX
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end_s, what
        time.sleep(0.1)


def tab_to(visitor: Visitor, name: str, turns_max: int = 80) -> None:
    """Press Tab until what has the focus is named so; what has it is always visible."""
    for _ in range(turns_max):
        visitor.page.keyboard.press("Tab")
        focused = visitor.page.evaluate(
            "() => { const at = document.activeElement; const box = at.getBoundingClientRect();"
            " return {name: (at.labels?.[0] || at).textContent.trim().replace(/\\s+/g, ' '),"
            " seen: box.bottom > 0 && box.top < innerHeight}; }"
        )
        if focused["name"].startswith(name):
            assert focused["seen"], f"{name} has the focus and cannot be seen"
            return
    raise AssertionError(f"{name} cannot be reached by the keyboard")


@pytest.mark.req("S3.01", "S3.02", "S3.03", "S3.05", "S3.06", "S3.07", "B01", "F31", "F21")
def test_a_customer_lets_a_company_in_by_the_keyboard_alone_and_shuts_it_out_again(
    visitor: Visitor, utility: LocalUtility, newcomer: Client
) -> None:
    with pytest.raises(DeviceUnknown):  # no contract, no permission: nothing is there
        newcomer.read("RL-1")
    visitor.be("Maria Lopez")
    visitor.go(f"{HOME}/connect/sun")
    expect(visitor.page.get_by_role("heading", name="Who is Sunfold?")).to_be_visible()
    press(visitor, "Choose devices")
    tab_to(visitor, "See — what it does now")
    visitor.page.keyboard.press("Space")
    press(visitor, "Check")
    expect(visitor.page.get_by_text("see", exact=False).first).to_be_visible()
    expect(visitor.page.get_by_text('Service level "standard"')).to_be_visible()
    tab_to(visitor, "I have read this and agree")
    visitor.page.keyboard.press("Space")
    press(visitor, "Allow")
    expect(visitor.page.get_by_text("Your gateway has it")).to_be_visible(timeout=WAIT_MS_MAX)  # live
    assert newcomer.read("RL-1").is_done

    visitor.go(f"{HOME}/services/sun")
    tab_to(visitor, "The contract")
    visitor.page.keyboard.press("Enter")
    for said in ("Company agreed", "Signed", "approved", "standard: at most"):  # all three agree to the tier
        expect(visitor.page.get_by_text(said).first).to_be_visible()
    expect(visitor.page.get_by_text("not yet", exact=True)).to_have_count(0)
    visitor.go(f"{HOME}/services/sun")
    press(visitor, "Stop access")
    began_s = time.monotonic()
    press(visitor, "Stop now")
    with pytest.raises(NotPermitted, match="access-disabled"):
        newcomer.read("RL-1")
    expect(visitor.page.get_by_text("Your gateway refuses it too")).to_be_visible(timeout=WAIT_MS_MAX)
    assert time.monotonic() - began_s < WAIT_S_MAX
    withdrawn = [row for row in utility.gateway_log("SPG-1") if row["step"] == "withdrawn"]
    assert withdrawn[-1]["party"] == "sun"
    assert visitor.complaints == []


def press(visitor: Visitor, name: str) -> None:
    tab_to(visitor, name)
    before = visitor.page.url
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url(lambda url: url != before)


@pytest.mark.req("R03", "F22")
def test_what_a_customer_did_not_tick_stays_impossible_and_limits_hold_at_the_gateway(
    visitor: Visitor, newcomer: Client
) -> None:
    visitor.be("Maria Lopez")
    visitor.go(f"{HOME}/connect/sun/devices")
    device = visitor.page.get_by_role("group", name="Thermostat (hall)")
    device.get_by_label("See").check()
    device.get_by_label("Set").check()
    device.get_by_text("Your limits for").click()
    device.get_by_label("Never above").fill("22")
    visitor.page.get_by_role("button", name="Check").click()
    expect(visitor.page.get_by_text("never above 22 °C")).to_be_visible()
    agree = visitor.page.get_by_label("I have read this and agree")
    if agree.count():
        agree.check()
    visitor.page.get_by_role("button", name="Allow", exact=True).click()
    expect(visitor.page.get_by_text("Your gateway has it")).to_be_visible(timeout=WAIT_MS_MAX)
    assert newcomer.setpoint("TH-1", celsius=21).is_done
    refused = newcomer.submit([ask.setpoint("TH-1", celsius=26)])[0]
    assert refused.problem is not None
    assert refused.problem.reason == "outside-customer-limits"
    with pytest.raises(DeviceUnknown):
        newcomer.read("RL-1")
    visitor.go(f"{HOME}/activity")
    expect(visitor.page.get_by_text("We refused a request of Sunfold").first).to_be_visible()


def test_a_pause_gives_devices_back_at_once(visitor: Visitor, utility: LocalUtility, company: Client) -> None:
    assert company.turn_on("RL-1").is_done
    before = utility.device_state("RL-1")
    assert before["power_w"] > 0
    visitor.be("Maria Lopez")
    visitor.page.get_by_role("button", name="Pause").click()
    expect(
        visitor.page.get_by_role("status").filter(has_text="Outside control is paused").first
    ).to_be_visible()
    with pytest.raises(NotPermitted, match="access-paused"):
        company.read("RL-1")
    log = lambda: [row for row in utility.gateway_log("SPG-1") if row["step"] == "released"]  # noqa: E731
    until(log, "the gateway did not let go")
    visitor.page.get_by_role("button", name="Let them go on now").click()
    visitor.page.wait_for_load_state()
    until(lambda: _may_read(company), "the pause did not end")


def _may_read(company: Client) -> bool:
    try:
        return company.read("RL-1").is_done
    except NotPermitted:
        return False


@pytest.mark.req("X01", "A05")
def test_a_journey_moves_while_one_watches_and_each_role_reads_it(
    visitor: Visitor, utility: LocalUtility, company: Client, chromium: Browser
) -> None:
    gateway = utility.processes["SPG-2"].child
    gateway.send_signal(signal.SIGSTOP)  # the message waits on the way, for as long as the page needs to open
    try:
        sent = company.submit([ask.read("RL-2")])[0].request
        assert sent is not None
        visitor.be("Omar Haddad")
        visitor.go(f"/portal/journeys/{sent.id}")
        expect(visitor.page.locator("a.step")).to_have_count(17)
        steps = visitor.page.locator("a.step .mark.ok")
        expect(steps).to_have_count(6)
        address = visitor.page.url
    finally:
        gateway.send_signal(signal.SIGCONT)
    company.wait(sent.id, timeout_s=WAIT_S_MAX)
    expect(steps).to_have_count(17, timeout=WAIT_MS_MAX)
    assert visitor.page.url == address
    assert visitor.complaints == []
    seen = {"Sam Okafor": 5, "Dana Kim": 11, "Rosa Reyes": 17, "Omar Haddad": 17}
    for name, count in seen.items():
        other = Visitor(chromium.new_context().new_page(), utility.url).be(name)
        other.go(f"/portal/journeys/{sent.id}")
        expect(other.page.locator("a.step")).to_have_count(count)
        other.page.context.close()


@pytest.mark.req("X07")
def test_the_first_page_of_the_demo_lets_one_choose_who_one_is(visitor: Visitor) -> None:
    visitor.go("/")
    expect(visitor.page.get_by_role("heading", name="Choose who you are")).to_be_visible()
    visitor.page.get_by_role("button", name="Maria Lopez").click()
    expect(visitor.page.get_by_role("heading", name="Maria")).to_be_visible()


@pytest.mark.req("B02")
def test_service_off_ends_contracts_and_all_access_at_that_home(
    utility: LocalUtility, company: Client, visitor: Visitor
) -> None:
    assert company.read("RL-2").is_done
    file = utility.directory / UTILITY_FILE
    text = file.read_text()
    at = text.index('id = "SP-2"')
    file.write_text(f'{text[:at]}service = "off"\n{text[at:]}')
    said = utility.command("apply", str(file), "--dir", str(utility.directory / "ccs"))
    assert "end the contract of bright at SP-2 (service is off)" in said
    with pytest.raises(NotPermitted, match="service-off"):
        company.read("RL-2")
    log = lambda: [row for row in utility.gateway_log("SPG-2") if row["step"] == "withdrawn"]  # noqa: E731
    until(log, "the gateway was not told")
    told = {event.type for event in company.past_events().items}
    assert {"contract.ended", "access.withdrawn"} <= told
    visitor.be("Sam Okafor")
    expect(visitor.page.get_by_text("Service at this address is off")).to_be_visible()
