"""Webhooks never reach into a network that is not public, by no URL, no name and no answer of a resolver.

What counts is the connections that are begun, all of which are written down here.
"""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doorward.ccs.engines.webhook_address import DENIED, policy_of
from doorward.ccs.engines.webhooks import AiohttpNotifier, NotifierBounds
from tests.ccs.engines.test_webhook_address import HOSTILE_URLS
from tests.ccs.engines.test_webhooks import KEY, NOW_US, endpoint, names
from tests.security.world import World, running

STRICT = policy_of(())
PUBLIC = "8.8.8.8"
PUBLIC_6 = "2606:4700::1111"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses to which a connection was begun; none is ever made."""
    seen: list[str] = []

    async def sock_connect(_loop: object, _sock: object, address: Any) -> None:
        seen.append(address[0])
        raise ConnectionRefusedError("nobody is there")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "sock_connect", sock_connect, raising=False)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect)
    return seen


def inside() -> list[str]:
    """The first and last address of every network that is not public, also wrapped in IPv6."""
    found: set[IPv4Address | IPv6Address] = set()
    for network in DENIED:
        found |= {network.network_address, network.broadcast_address}
        if isinstance(network.network_address, IPv4Address):
            four = int(network.network_address)
            found |= {
                IPv6Address(f"::ffff:{network.network_address}"),
                IPv6Address(int(IPv6Address("64:ff9b::")) | four),
                IPv6Address(int(IPv6Address("2002::")) | four << 80),
                IPv6Address(int(IPv6Address("::")) | four),
            }
    return sorted(map(str, found))


async def pushed(url: str, book: dict[str, list[str]]) -> str:
    notifier = AiohttpNotifier(KEY, STRICT, lookup=names(book), bounds=NotifierBounds(post_s_max=5))
    try:
        (wrong,) = await notifier.push([(endpoint(url), "m", b"{}")], NOW_US)
        return wrong
    finally:
        await notifier.close()


def test_the_corpus_is_not_small() -> None:
    assert len(HOSTILE_URLS) >= 60
    assert len(inside()) >= 60


async def test_no_url_of_the_corpus_begins_a_connection_though_it_stands_in_the_books(
    begun: list[str],
) -> None:
    """A rule that was sharpened later holds for what was registered before."""
    book = {"exam%70le.com": [PUBLIC], "localhost": ["127.0.0.1"], "intranet": ["10.0.0.1"]}
    for url in HOSTILE_URLS:
        assert await pushed(url, book), url
    assert begun == []


async def test_no_name_that_leads_inside_begins_a_connection(begun: list[str]) -> None:
    for address in inside():
        for answer in (address, f"{PUBLIC} {address}", f"{address} {PUBLIC_6}"):
            assert await pushed("https://hook.example/", {"hook.example": [answer]}), answer
    assert begun == []


@pytest.mark.parametrize(
    "private", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "::ffff:10.0.0.1", "fd00::1"]
)
async def test_a_name_that_rebinds_is_looked_at_each_time_and_reached_only_where_it_was_public(
    begun: list[str], private: str
) -> None:
    book = {"hook.example": [PUBLIC, private, f"{PUBLIC} {private}", PUBLIC_6, private]}
    notifier = AiohttpNotifier(KEY, STRICT, lookup=names(book))
    for _ in range(6):
        (wrong,) = await notifier.push([(endpoint("https://hook.example/"), "m", b"{}")], NOW_US)
        assert wrong
    await notifier.close()
    assert [str(ip_address(address)) for address in begun] == [PUBLIC, PUBLIC_6]


# ---- through the door ------------------------------------------------------------------------------------


@pytest.fixture
async def strict_world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path, webhook_allow_networks=[]) as built:
        yield built


async def test_the_api_takes_no_url_of_the_corpus(strict_world: World) -> None:
    token = strict_world.token("bright")
    before = strict_world.books()["endpoint"]
    for url in HOSTILE_URLS:
        reply = await strict_world.call(
            "PUT", "/v1/endpoints/hook", token=token, body=msgspec.json.encode({"url": url})
        )
        assert (reply.status, reply.reason) == (400, "body-malformed"), url
        assert reply.json["field"] == "/url"
    assert strict_world.books()["endpoint"] == before
