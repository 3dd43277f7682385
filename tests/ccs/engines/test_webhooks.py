"""Webhooks as an endpoint sees them: real sockets on loopback, and names from a made-up resolver."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from doorward.ccs.engines.webhook_address import AddressPolicy, policy_of
from doorward.ccs.engines.webhooks import AiohttpNotifier, Lookup, NotifierBounds
from doorward.ccs.rules.facts import Endpoint
from doorward.wire.webhook_signature import secret_text

NOW_US = 1_800_000_000_000_000
SECRET = secret_text(bytes(range(32)))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEMO = policy_of(["127.0.0.0/8"])


class Sink:
    """An endpoint that keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[bytes], web.Response] = lambda body: web.Response(status=204)
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.connections = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(({name.lower(): value for name, value in request.headers.items()}, body))
        self.arrived.set()
        if self.hold:
            await self.hold.wait()
        return self.answer(body)


@asynccontextmanager
async def serving(sink: Sink, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", sink.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def notifying(
    policy: AddressPolicy = DEMO, lookup: Lookup | None = None, bounds: NotifierBounds | None = None
) -> AsyncIterator[AiohttpNotifier]:
    notifier = AiohttpNotifier(KEY, policy, lookup=lookup, bounds=bounds)
    try:
        yield notifier
    finally:
        await notifier.close()


def endpoint(url: str, **more: str) -> Endpoint:
    return Endpoint(id="main", party="brightgrid", url=url, secrets=[SECRET], **more)  # type: ignore[arg-type]


def names(book: dict[str, list[str]]) -> Lookup:
    """A resolver that answers each name from its list, one entry per question (the last one stays)."""

    async def lookup(host: str, port: int) -> list[str]:
        if host not in book:
            raise OSError(f"no such name: {host}")
        entry = book[host]
        return (entry.pop(0) if len(entry) > 1 else entry[0]).split()

    return lookup


# --- signatures -------------------------------------------------------------------------------------


async def test_a_push_carries_both_signatures_and_an_independent_check_accepts_them() -> None:
    sink = Sink()
    async with serving(sink) as port, notifying() as notifier:
        assert await notifier.push(
            [(endpoint(f"http://127.0.0.1:{port}/in"), "msg-1", b'{"a":1}')], NOW_US
        ) == [""]
    headers, body = sink.seen[0]
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg-1", "1800000000")
    symmetric, asymmetric = headers["webhook-signature"].split(" ")
    signed = b"msg-1.1800000000." + body
    mac = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert symmetric == "v1," + base64.b64encode(mac).decode()
    version, _, value = asymmetric.partition(",")
    assert version == "v1a"
    KEY.public_key().verify(base64.b64decode(value), signed)


async def test_a_rotated_endpoint_gets_one_signature_per_secret() -> None:
    sink = Sink()
    async with serving(sink) as port, notifying() as notifier:
        rotated = Endpoint(
            id="main", party="p", url=f"http://127.0.0.1:{port}/", secrets=[SECRET, secret_text(b"x" * 24)]
        )
        assert await notifier.push([(rotated, "m", b"{}")], NOW_US) == [""]
    versions = [part.split(",")[0] for part in sink.seen[0][0]["webhook-signature"].split()]
    assert versions == ["v1", "v1", "v1a"]


# --- where it goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses, why",
    [
        ("127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("8.8.8.8 192.168.0.9", "private"),
        ("169.254.169.254", "link-local"),
        ("::ffff:10.0.0.1", "IPv4-mapped"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("64:ff9b::a00:1", "NAT64"),
        ("fd00::1", "unique local"),
        ("8.8.8.8 " * 17, "addresses"),
    ],
)
async def test_a_name_that_leads_inside_is_refused(addresses: str, why: str) -> None:
    async with notifying(policy_of([]), names({"hook.example.com": [addresses]})) as notifier:
        (said,) = await notifier.push([(endpoint("https://hook.example.com/"), "m", b"{}")], NOW_US)
    assert why in said
    assert addresses not in said


async def test_a_name_that_rebinds_after_the_check_leads_nowhere_else() -> None:
    """The connection goes to what was checked: the second answer is looked at only for the next one."""
    asked: list[str] = []
    sink = Sink()

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.2"] if len(asked) == 1 else ["127.0.0.1"]

    ca = trustme.CA()
    context = _server_context(ca, "hook.example.com")
    async with serving(sink, context) as port:
        only_second = policy_of(["127.0.0.2/32"], ports=[port])
        target = endpoint(f"https://hook.example.com:{port}/", ca=ca.cert_pem.bytes().decode())
        async with notifying(only_second, rebinding) as notifier:
            # The sink listens on .1: a connection to the checked .2 fails, and is not tried at .1.
            (first,) = await notifier.push([(target, "m", b"{}")], NOW_US)
            assert asked == ["hook.example.com"]
            assert "connect" in first.lower()
            (second,) = await notifier.push([(target, "m", b"{}")], NOW_US)
    assert "loopback" in second
    assert sink.seen == []


async def test_a_redirect_is_not_followed() -> None:
    inner, outer = Sink(), Sink()
    async with serving(inner) as inside, serving(outer) as port, notifying() as notifier:
        outer.answer = lambda body: web.Response(
            status=307, headers={"Location": f"http://127.0.0.1:{inside}/"}
        )
        (said,) = await notifier.push([(endpoint(f"http://127.0.0.1:{port}/"), "m", b"{}")], NOW_US)
    assert said == "answered 307: redirects are not followed"
    assert inner.seen == []


async def test_an_unknown_name_and_a_closed_port_say_so_and_do_not_fail_others() -> None:
    sink = Sink()
    async with serving(sink) as closed:
        pass
    async with serving(sink) as port, notifying(lookup=names({})) as notifier:
        said = await notifier.push(
            [
                (endpoint("https://nowhere.example.com/"), "m1", b"{}"),
                (endpoint(f"http://127.0.0.1:{closed}/"), "m2", b"{}"),
                (endpoint("https://user@example.com/"), "m3", b"{}"),
                (endpoint(f"http://127.0.0.1:{port}/"), "m4", b"{}"),
            ],
            NOW_US,
        )
    assert said[0] == "no address of nowhere.example.com was found"
    assert said[1] == f"could not connect to 127.0.0.1:{closed}"
    assert "user name" in said[2]
    assert said[3] == ""


# --- certificates -----------------------------------------------------------------------------------


def _server_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_a_pinned_endpoint_gets_the_body_only_behind_its_own_certificate() -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    der = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    right, pem = hashlib.sha256(der).hexdigest(), ca.cert_pem.bytes().decode()
    sink = Sink()
    async with serving(sink, context) as port, notifying() as notifier:
        url = f"https://127.0.0.1:{port}/"
        assert await notifier.push([(endpoint(url, pin=right, ca=pem), "m", b"{}")], NOW_US) == [""]
        (wrong,) = await notifier.push([(endpoint(url, pin="0" * 64, ca=pem), "m", b"{}")], NOW_US)
        assert "not the pinned" in wrong
        (foreign,) = await notifier.push([(endpoint(url, pin=right), "m", b"{}")], NOW_US)
        assert "certificate" in foreign
        (plain,) = await notifier.push(
            [(endpoint(url.replace("https", "http"), pin=right), "m", b"{}")], NOW_US
        )
        assert plain == "a pin needs https"
    assert len(sink.seen) == 1


async def test_a_certificate_for_another_name_is_refused() -> None:
    ca = trustme.CA()
    sink = Sink()
    async with serving(sink, _server_context(ca, "other.example.com")) as port, notifying() as notifier:
        target = endpoint(f"https://127.0.0.1:{port}/", ca=ca.cert_pem.bytes().decode())
        (said,) = await notifier.push([(target, "m", b"{}")], NOW_US)
    assert "certificate" in said
    assert sink.seen == []


# --- bounds -----------------------------------------------------------------------------------------


async def test_a_slow_endpoint_holds_up_nobody_else() -> None:
    slow, quick = Sink(), Sink()
    slow.hold = asyncio.Event()
    bounds = NotifierBounds(posts_max=8, posts_per_host_max=4)
    async with serving(slow) as slow_port, serving(quick) as port, notifying(bounds=bounds) as notifier:
        to_slow = endpoint(f"http://127.0.0.1:{slow_port}/")
        held = asyncio.create_task(
            notifier.push([(to_slow, f"slow-{number}", b"{}") for number in range(20)], NOW_US)
        )
        await slow.arrived.wait()
        assert (
            await notifier.push([(endpoint(f"http://127.0.0.1:{port}/"), "quick", b"{}")] * 10, NOW_US)
            == [""] * 10
        )
        assert not held.done()
        assert len(slow.seen) <= 4
        slow.hold.set()
        assert await held == [""] * 20


async def test_an_endpoint_that_never_answers_ends_in_words() -> None:
    slow = Sink()
    slow.hold = asyncio.Event()
    bounds = NotifierBounds(post_s_max=0.05, posts_per_host_max=1)
    async with serving(slow) as port, notifying(bounds=bounds) as notifier:
        said = await notifier.push([(endpoint(f"http://127.0.0.1:{port}/"), "m", b"{}")] * 4, NOW_US)
        slow.hold.set()
    assert said == ["no answer in time"] * 4


async def test_an_endless_answer_is_cut_off_and_the_next_post_still_works() -> None:
    sink = Sink()
    sink.answer = lambda body: web.Response(body=b"x" * 200_000)
    async with serving(sink) as port, notifying() as notifier:
        target = endpoint(f"http://127.0.0.1:{port}/")
        assert await notifier.push([(target, "m", b"{}")], NOW_US) == [""]
        sink.answer = lambda body: web.Response(status=500)
        assert await notifier.push([(target, "m", b"{}")], NOW_US) == ["answered 500"]


# --- the challenge ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda body: web.Response(body=body), ""),
        (lambda body: web.json_response({"challenge": "guess"}), "another challenge"),
        (lambda body: web.Response(text="ok"), "the answer is not"),
        (lambda body: web.Response(status=404), "answered 404"),
    ],
)
async def test_only_the_same_challenge_proves_an_endpoint(
    answer: Callable[[bytes], web.Response], said: str
) -> None:
    sink = Sink()
    sink.answer = answer
    async with serving(sink) as port, notifying() as notifier:
        result = await notifier.prove(endpoint(f"http://127.0.0.1:{port}/"), "c-123", NOW_US)
    assert said in result
    assert bool(said) == bool(result)
    headers, body = sink.seen[0]
    assert json.loads(body) == {"type": "endpoint.challenge", "challenge": "c-123"}
    assert "v1a," in headers["webhook-signature"]
