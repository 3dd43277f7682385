"""A gateway's certificate is renewed in time, over its own link; the old one is worth nothing after it."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from doorward.ccs.engines.authority import CertificateAuthority, Validity
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.kit.tls import Credentials
from doorward.spg import app as gateway_app
from doorward.spg.engines.identity import Identity, certificate_request, credentials, load
from doorward.spg.engines.papers import Papers
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.spg.settings import GatewaySettings
from doorward.wire.enrolment import certificate_fingerprint
from tests.engines.link.rigs import Home
from tests.security.test_withdrawal import enrolled, within_a_minute
from tests.security.world import World, running

TWO_MINUTES = Validity(gateway_days=120 / 86_400)
"""With the time by which certificates begin in the past, such a one is old as soon as it is made."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path / "ccs") as built:
        yield built


async def old_papers(world: World, place: Path) -> Identity:
    """A gateway that was enrolled long ago: two thirds of its certificate's time are over."""
    world.app.authority._validity = TWO_MINUTES
    await enrolled(world, "SPG-one", place)
    world.app.authority._validity = Validity()
    identity = load(place)
    assert identity is not None
    return identity


def fingerprint(identity: Identity | None) -> str:
    assert identity is not None
    return certificate_fingerprint(x509.load_pem_x509_certificate(identity.certificate.encode()))


async def held(world: World) -> tuple[str, str]:
    found = (await world.app.store.read(lambda books: books.gateways(["SPG-one"])))["SPG-one"]
    return found.certificate, found.certificate_before


async def test_a_running_gateway_gets_a_new_certificate_and_shows_it(world: World, tmp_path: Path) -> None:
    place = tmp_path / "SPG-one"
    before = await old_papers(world, place)
    shutil.copytree(place, tmp_path / "copied")  # somebody took it
    store = gateway_app.open_store(place)
    gateway = gateway_app.enrolled(GatewaySettings(dir=place, ocpp_port=0), before, store)
    await gateway.start()
    try:
        await within_a_minute(lambda: fingerprint(load(place)) != fingerprint(before))
        now = fingerprint(load(place))
        async with asyncio.timeout(60):
            while await held(world) != (now, ""):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)
        link = world.app.link
        assert isinstance(link, WebSocketLink)
        await within_a_minute(lambda: "SPG-one" in link.connected())
        assert not world.app.gateways.accepts("SPG-one", fingerprint(before))
    finally:
        await gateway.stop()
        await store.close()
    left = x509.load_pem_x509_certificate(load(place).certificate.encode())  # type: ignore[union-attr]
    assert (left.not_valid_after_utc - left.not_valid_before_utc).days >= 365
    thief = WebSocketUplink(
        before.link.urls, credentials(tmp_path / "copied", before), random.Random(1), first_wait_s=0.05
    )
    home = Home("SPG-one", thief)
    await asyncio.sleep(1)
    assert home.connects == 0
    await home.leave()


async def test_the_one_before_is_good_until_the_new_one_is_used(world: World, tmp_path: Path) -> None:
    """The answer may be lost: a gateway is never locked out by asking."""
    before = await old_papers(world, tmp_path / "SPG-one")
    csr = certificate_request(tmp_path / "SPG-one", "SPG-one")
    enrolment = world.app._enrolment
    assert await enrolment.renew("SPG-one", csr)  # and nobody hears of it
    assert await enrolment.renew("SPG-one", csr) == ""  # not twice a minute
    assert world.app.gateways.accepts("SPG-one", fingerprint(before))
    enrolment._renewed.clear()
    again = await enrolment.renew("SPG-one", csr)
    assert world.app.gateways.accepts("SPG-one", fingerprint(before))
    new = certificate_fingerprint(x509.load_pem_x509_certificate(again.encode()))
    assert world.app.gateways.accepts("SPG-one", new)
    assert not world.app.gateways.accepts("SPG-one", fingerprint(before))


async def test_nobody_else_s_certificate_is_taken(world: World, tmp_path: Path) -> None:
    place = tmp_path / "SPG-one"
    identity = await old_papers(world, place)
    papers = Papers(place, identity)
    authority = world.app.authority
    other_key = tmp_path / "other"
    other_key.mkdir()
    csr = certificate_request(place, "SPG-one")
    (tmp_path / "evil").mkdir()
    evil = CertificateAuthority(tmp_path / "evil", world.app.clock.now_us)
    wrong = {
        "another authority": evil.sign_gateway(csr, "SPG-one")[0],
        "another gateway": authority.sign_gateway(csr, "SPG-two")[0],
        "another key": authority.sign_gateway(certificate_request(other_key, "SPG-one"), "SPG-one")[0],
        "no longer": identity.certificate,
        "none": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for how, pem in wrong.items():
        with pytest.raises(ValueError):
            papers.take(pem)
        assert load(place) == identity, how
    good, _ = authority.sign_gateway(csr, "SPG-one")
    papers.take(good)
    assert load(place) != identity
    assert isinstance(credentials(place, load(place)), Credentials)  # type: ignore[arg-type]
    assert papers.request(world.app.clock.now_us()) == ""
