"""A gateway joins over real HTTPS, and with what it was given it connects; whoever should not, does not."""

import asyncio
import itertools
import random
import socket
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import pytest
import uvicorn
from fastapi import FastAPI

from doorward.ccs.doors.enrol import BODY_BYTES_MAX, enrol_app
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.link_websocket import WebSocketLink
from doorward.ccs.engines.sqlite import SqliteStore
from doorward.ccs.engines.store.books import SqlBooks
from doorward.ccs.enrolment import REFUSED_PER_MINUTE_MAX, Enrolling, Enrolment, RefusalCounter
from doorward.ccs.rules.facts import Gateway
from doorward.kit.tls import Credentials, client_context
from doorward.spg.engines.identity import EnrolmentFailed, credentials, enrol, load
from doorward.spg.engines.uplink_websocket import WebSocketUplink
from doorward.wire.codec import gateway_key
from doorward.wire.enrolment import EnrolAnswer, LinkAddress, code_hash, format_code
from doorward.wire.reasons import Reason
from doorward.wire.steps import Outcome, Step

HOST = "127.0.0.1"
HOUR_US = 3_600_000_000
MASTER = b"m" * 32
RNG = random.Random(1)


class WallClock:
    """The wall's time, or one at which it was stopped."""

    def __init__(self) -> None:
        self.stopped_us = 0

    def now_us(self) -> int:
        return self.stopped_us or time.time_ns() // 1000


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def serve(app: FastAPI, tls: Credentials, stop: list[uvicorn.Server]) -> str:
    """Serve an application over HTTPS on a free port; return its address."""
    listening = socket.create_server((HOST, 0))
    config = uvicorn.Config(
        app, ssl_certfile=tls.certificate, ssl_keyfile=tls.key, log_config=None, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve([listening]))
    stop.append(server)
    await eventually(lambda: server.started or task.done())
    return f"https://{HOST}:{listening.getsockname()[1]}"


class Utility:
    """A CCS as far as gateways that join are concerned: store, authorities, the two doors, the link."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clock = WallClock()
        self.store = SqliteStore(place / "ccs.db", clock=self.clock)
        self.authority = CertificateAuthority(place / "ca", self.clock.now_us)
        self.consent = LocalConsentAuthority(place / "consent")
        self.joined: dict[str, Gateway] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.servers: list[uvicorn.Server] = []
        self.secrets = itertools.count()

    async def open(self) -> None:
        tls = self.authority.server("ccs", [HOST])
        self.link = WebSocketLink(HOST, 0, tls, self._accepts)
        await self.link.start(lambda gateway, frame: self.heard.append((gateway, frame)), lambda *_: None)
        address = LinkAddress(kind="websocket", urls=[f"wss://{HOST}:{self.link.port}"])

        async def sign(csr: str, gateway: str) -> tuple[str, str]:
            return await asyncio.to_thread(self.authority.sign_gateway, csr, gateway)

        self.enrolment = Enrolment(
            self.store,
            sign,
            self.consent,
            Enrolling(master=MASTER, ca=self.authority.pem, link=address),
            self.clock,
            RNG,
            lambda gateway: self.joined.__setitem__(gateway.id, gateway),
        )
        self.app = enrol_app(self.enrolment.enrol, self.authority.pem, lambda: "request-1")
        self.url = await serve(self.app, tls, self.servers)

    def _accepts(self, gateway: str, fingerprint: str) -> bool:
        return gateway in self.joined and self.joined[gateway].certificate == fingerprint

    async def close(self) -> None:
        for server in self.servers:
            server.should_exit = True
        await self.link.stop()
        await self.store.close()
        await asyncio.sleep(0.2)

    async def expect(self, gateway: str, *, expires_us: int = 0, **more: object) -> str:
        """Expect a gateway; return its code."""
        secret = next(self.secrets).to_bytes(16, "big")
        code = format_code(gateway, secret, self.authority.fingerprint, self.consent.fingerprint)
        found = await self.gateway(gateway) or Gateway(id=gateway, partition=1)
        row = msgspec.structs.replace(
            found,
            code_hash=code_hash(code),
            code_expires_us=expires_us or self.clock.now_us() + HOUR_US,
            **more,
        )
        await self.store.write(lambda books: books.put_gateways([row]))
        return code

    async def gateway(self, gateway: str) -> Gateway | None:
        return (await self.store.read(lambda books: books.gateways([gateway]))).get(gateway)

    async def attempts(self, gateway: str) -> list[tuple[Outcome, Reason | None, str]]:
        """What the journal says of a gateway's enrolments, oldest first."""
        with closing(sqlite3.connect(self.place / "ccs.db")) as sql:
            query = "SELECT message FROM journal WHERE gateway = ? ORDER BY seq"
            messages = [message for (message,) in sql.execute(query, [gateway])]
        steps = []
        for message in messages:
            rows = await self.store.read(partial(SqlBooks.journal, message=message))
            steps += [step for row in rows for step in row.steps]
        assert all(step.step is Step.ENROLLED for step in steps)
        return [(step.outcome, step.reason, step.detail) for step in steps]


@pytest.fixture
async def utility(tmp_path: Path) -> AsyncIterator[Utility]:
    place = tmp_path / "utility"
    place.mkdir()
    utility = Utility(place)
    await utility.open()
    yield utility
    await utility.close()


async def join(utility: Utility, home: Path, code: str) -> None:
    await enrol(home, utility.url, code, RNG)


async def test_a_gateway_joins_and_connects_with_what_it_was_given(utility: Utility, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = await utility.expect("gw-1")
    identity = await enrol(home, utility.url, code, RNG)
    assert identity == load(home)
    assert identity.gateway == "gw-1"
    assert identity.mac_key == gateway_key(MASTER, "gw-1", 1)
    assert identity.consent_keys == utility.consent.public_keys()
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()}
    assert files == {"gateway.key": 0o600, "gateway.pem": 0o600, "identity.json": 0o600}

    uplink = WebSocketUplink(identity.link.urls, credentials(home, identity), RNG)

    async def connected() -> None:
        await uplink.send(b"hello")

    async def nothing(_frame: bytes = b"") -> None: ...

    running = asyncio.ensure_future(uplink.run(connected, nothing, nothing))
    await eventually(lambda: utility.heard == [("gw-1", b"hello")])
    running.cancel()
    await asyncio.wait({running})
    held = await utility.gateway("gw-1")
    assert held is not None
    assert (held.state, held.key_generation) == ("enrolled", 1)
    assert held.code_hash != code_hash(code)
    assert await utility.attempts("gw-1") == [(Outcome.OK, None, "")]


async def test_a_lost_answer_costs_nothing_for_the_key_that_asked(utility: Utility, tmp_path: Path) -> None:
    code = await utility.expect("gw-1")
    home = tmp_path / "home"
    first = await enrol(home, utility.url, code, RNG)
    (home / "identity.json").unlink()  # as if the gateway had died before it wrote the answer down
    again = await enrol(home, utility.url, code, RNG)
    assert (again.mac_key, again.key_generation) == (first.mac_key, first.key_generation)
    assert [detail for _, _, detail in await utility.attempts("gw-1")] == ["", "the same code and key again"]
    client_context(again.ca, credentials(home, again))


async def test_every_code_that_is_not_good_gets_one_and_the_same_answer(
    utility: Utility, tmp_path: Path
) -> None:
    used = await utility.expect("gw-used")
    await join(utility, tmp_path / "owner", used)
    late = await utility.expect("gw-late", expires_us=1)
    revoked = await utility.expect("gw-revoked", state="revoked")
    await utility.expect("gw-1")
    pins = (utility.authority.fingerprint, utility.consent.fingerprint)
    codes = {
        "gw-used": used,
        "gw-late": late,
        "gw-revoked": revoked,
        "gw-1": format_code("gw-1", b"0123456789abcdef", *pins),
        "gw-nobody": format_code("gw-nobody", b"0123456789abcdef", *pins),
    }
    answers = set()
    for gateway, code in codes.items():
        with pytest.raises(EnrolmentFailed) as refused:
            await join(utility, tmp_path / f"thief-{gateway}", code)
        answers.add(str(refused.value))
        assert load(tmp_path / f"thief-{gateway}") is None
    assert len(answers) == 1
    assert "401" in answers.pop()
    assert {gateway: (await utility.attempts(gateway))[-1] for gateway in codes} == {
        gateway: (Outcome.REFUSED, Reason.NOT_AUTHENTICATED, why)
        for gateway, why in {
            "gw-used": "unknown gateway or wrong code",
            "gw-late": "the code has run out",
            "gw-revoked": "the gateway is revoked",
            "gw-1": "unknown gateway or wrong code",
            "gw-nobody": "unknown gateway or wrong code",
        }.items()
    }


async def test_two_who_come_at_once_with_one_code_are_one_gateway(utility: Utility, tmp_path: Path) -> None:
    code = await utility.expect("gw-1")
    results = await asyncio.gather(
        *(join(utility, tmp_path / f"home-{n}", code) for n in range(5)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["EnrolmentFailed"] * 4 + ["NoneType"]
    (winner,) = [n for n, result in enumerate(results) if result is None]
    identity = load(tmp_path / f"home-{winner}")
    held = await utility.gateway("gw-1")
    assert identity is not None
    assert held is not None
    assert utility.joined["gw-1"] == held
    assert held.key_generation == 1


async def test_a_new_code_makes_a_new_generation_and_counts_anew(utility: Utility, tmp_path: Path) -> None:
    await join(utility, tmp_path / "old", await utility.expect("gw-1"))
    before = utility.joined["gw-1"]
    code = await utility.expect("gw-1", up_epoch=7, up_counter=99, desired_version=3, applied_version=3)
    await join(utility, tmp_path / "new", code)
    after = await utility.gateway("gw-1")
    assert after is not None
    assert after.certificate != before.certificate
    assert (after.key_generation, after.up_epoch, after.up_counter, after.applied_version) == (2, 0, 0, 0)
    assert after.desired_version == 3


async def test_the_code_is_not_shown_to_another_utility(utility: Utility, tmp_path: Path) -> None:
    code = await utility.expect("gw-1")
    other = CertificateAuthority(tmp_path / "other", utility.clock.now_us)
    asked = []

    async def note(ask: object, _source: str) -> EnrolAnswer:
        asked.append(ask)
        raise AssertionError("nobody should ask here")

    honest_about_itself = enrol_app(note, other.pem, lambda: "id")
    pretending = enrol_app(note, utility.authority.pem, lambda: "id")
    tls = other.server("ccs", [HOST])
    for app, why in ((honest_about_itself, "another pin"), (pretending, "cannot be reached")):
        url = await serve(app, tls, utility.servers)
        with pytest.raises(EnrolmentFailed, match=why):
            await enrol(tmp_path / "home", url, code, RNG)
    assert asked == []
    await join(utility, tmp_path / "home", code)


async def test_a_consent_authority_that_the_code_does_not_name_is_not_believed(
    utility: Utility, tmp_path: Path
) -> None:
    other = LocalConsentAuthority(tmp_path / "other")
    secret = b"0123456789abcdef"
    code = format_code("gw-1", secret, utility.authority.fingerprint, other.fingerprint)
    row = Gateway(
        id="gw-1", partition=1, code_hash=code_hash(code), code_expires_us=utility.clock.now_us() + HOUR_US
    )
    await utility.store.write(lambda books: books.put_gateways([row]))
    with pytest.raises(EnrolmentFailed, match="consent authority"):
        await join(utility, tmp_path / "home", code)
    assert load(tmp_path / "home") is None


async def test_only_https_and_only_codes(utility: Utility, tmp_path: Path) -> None:
    code = await utility.expect("gw-1")
    with pytest.raises(EnrolmentFailed, match="https only"):
        await enrol(tmp_path, utility.url.replace("https", "http"), code, RNG)
    with pytest.raises(EnrolmentFailed, match="not an enrolment code"):
        await enrol(tmp_path, utility.url, "DW1-nonsense", RNG)


async def test_guessing_is_stopped_and_the_door_opens_again(utility: Utility, tmp_path: Path) -> None:
    pins = (utility.authority.fingerprint, utility.consent.fingerprint)
    wrong = format_code("gw-1", b"0123456789abcdef", *pins)
    utility.clock.stopped_us = now_us = utility.clock.now_us()
    words = []
    for _ in range(REFUSED_PER_MINUTE_MAX + 1):
        with pytest.raises(EnrolmentFailed) as refused:
            await join(utility, tmp_path / "thief", wrong)
        words.append(str(refused.value))
    assert ["401" in word for word in words] == [True] * REFUSED_PER_MINUTE_MAX + [False]
    assert "429" in words[-1]
    assert len(await utility.attempts("gw-1")) == REFUSED_PER_MINUTE_MAX
    utility.clock.stopped_us = now_us + 60_000_000
    await join(utility, tmp_path / "home", await utility.expect("gw-1"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"gateway": "gw-1", "code": 5, "csr": ""}', 400),
        (b'{"gateway": "gw-1", "code": "x", "csr": "nonsense"}', 400),
        (b'{"gateway": "a/b", "code": "x", "csr": ""}', 400),
        (b'{"gateway": "gw-1", "code": "x", "csr": "", "more": 1}', 400),
        (b" " * (BODY_BYTES_MAX + 1), 413),
    ],
)
async def test_what_is_malformed_is_said_to_be(utility: Utility, body: bytes, status: int) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{utility.url}/enrol", data=body, ssl=client_context(utility.authority.pem)) as answer,
    ):
        problem = await answer.json(content_type="application/problem+json")
    assert answer.status == status
    assert problem["reason"] in (Reason.BODY_MALFORMED, Reason.BODY_TOO_LARGE)


def test_refusals_are_counted_per_source_and_minute_for_so_many_sources() -> None:
    counter = RefusalCounter(per_minute_max=2, sources_max=2)
    for _ in range(2):
        assert counter.may_try("a", 0)
        counter.refused("a", 0)
    assert not counter.may_try("a", 59_999_999)
    assert counter.may_try("b", 0)
    counter.refused("b", 0)
    assert not counter.may_try("c", 0)
    assert counter.may_try("a", 60_000_000)
    assert counter.may_try("c", 60_000_000)
