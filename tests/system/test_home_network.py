"""What devices say by themselves, who may speak at all, and what the gateway writes down about the others."""

import socket
import ssl
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from doorward.client import Client, NotAuthenticated
from doorward.simulate.local_utility import LocalUtility
from tests.system.street import METERED, Street

STRANGER = "EV-999"


def strange_charger_connects(utility: LocalUtility) -> None:
    """A charger that is on nobody's list comes to the gateway."""
    url = f"ws://127.0.0.1:{utility.ports.ocpp[METERED.gateway]}/ocpp/{STRANGER}"
    try:
        with connect(url, subprotocols=["ocpp1.6"], open_timeout=10, proxy=None) as connection:  # type: ignore[list-item]
            connection.recv(timeout=5)
    except (WebSocketException, OSError, TimeoutError):
        return
    raise AssertionError("the gateway speaks with a charger that is not on its list")


@pytest.mark.req("F22", "F25")
def test_a_listed_device_is_heard_and_an_unlisted_one_is_turned_away_and_logged(street: Street) -> None:
    gold = street.client("gold")
    street.utility.resident("PP-10", "override")
    strange_charger_connects(street.utility)

    def notices() -> list[str | None]:
        found = gold.past_events(kind="device.notice").items
        return [each.device for each in found if each.data.get("kind") == "override"]

    assert street.until(notices) == ["PP-10"]
    told = {each.device for each in gold.past_events(kind="device.notice").items}
    assert STRANGER not in told
    rows = [row for row in street.utility.gateway_log(METERED.gateway) if row.get("device") == STRANGER]
    assert {(row["outcome"], row.get("reason")) for row in rows} == {("refused", "device-unlisted")}
    street.utility.resident("PP-10", "clear")


@pytest.mark.req("F23")
def test_nobody_speaks_on_any_network_without_proving_who_it_is(street: Street) -> None:
    guessed = Client(street.utility.url, client_id="gold", client_secret="guessed")
    with guessed as stranger, pytest.raises(NotAuthenticated):
        stranger.devices()
    assert not lets_in_without_certificate(street.utility)
    strange_charger_connects(street.utility)


def lets_in_without_certificate(utility: LocalUtility) -> bool:
    """Whether the link (or its broker) speaks with a client that shows no certificate."""
    context = ssl.create_default_context(cafile=str(utility.authority / "ca.pem"))
    context.check_hostname = False
    port = urlsplit(utility.link_url).port
    try:
        with (
            socket.create_connection(("127.0.0.1", port or 0), timeout=5) as raw,
            context.wrap_socket(raw) as link,
        ):
            link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return bool(link.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.req("R06")
def test_a_meter_is_asked_and_answers(street: Street) -> None:
    answer = street.client("gold").read("MT-10")
    assert answer.is_done
    assert answer.result is not None
    itself = street.utility.device_state("MT-10")
    assert abs(answer.result["energy_wh"] - itself["energy_wh"]) < 100
