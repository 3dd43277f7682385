"""Webhooks out: signed posts to third parties' endpoints, over connections that cannot be led astray.

A name is resolved once for each new connection, all its addresses are checked, and the connection goes
to one of those: a name that changes between the check and the connection has nothing to change.
"""

import asyncio
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from doorward.ccs.engines.webhook_address import (
    AddressPolicy,
    AddressRefused,
    Target,
    check_address,
    check_url,
)
from doorward.ccs.rules.facts import Endpoint
from doorward.wire.codec import NOT_JSON
from doorward.wire.webhook_signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

US = 1_000_000
JSON = "application/json"
TARGETS_KEPT_MAX = 4096
CONTEXTS_KEPT_MAX = 256
ADDRESSES_MAX = 16
"""Addresses of one name that are looked at; a name with more is refused."""
LOOKUP_THREADS = 8
IDLE_CONNECTION_S = 60.0

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → addresses in written form. Raises ``OSError`` when there are none."""


class NotifierBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one push may take, and how many go on at once."""

    connect_s_max: float = 5.0
    post_s_max: float = 10.0
    """One post from beginning to end, and also how long it may wait for its turn."""
    answer_bytes_max: int = 16 * 1024
    posts_max: int = 256
    posts_per_host_max: int = 16


class AiohttpNotifier:
    """The ``Notifier`` port over one aiohttp session that is kept warm.

    ``key`` signs every post (``v1a``); the secrets of an endpoint sign beside it (``v1``). ``lookup``
    resolves names (default: the system's resolver, on threads of its own).
    """

    def __init__(
        self,
        key: Ed25519PrivateKey,
        policy: AddressPolicy | None = None,
        *,
        bounds: NotifierBounds | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self._key = key
        self._policy = policy or AddressPolicy()
        self._bounds = bounds or NotifierBounds()
        self._threads = None if lookup else ThreadPoolExecutor(LOOKUP_THREADS, "webhook-lookup")
        self._lookup = lookup or self._ask_system
        self._session: aiohttp.ClientSession | None = None
        self._turns = _Turns(self._bounds)
        self._target = lru_cache(TARGETS_KEPT_MAX)(self._check)

    def wrong_url(self, url: str) -> str:
        """Say in words why a webhook may not go to a URL; ``""``: it may, as far as its form tells."""
        try:
            self._target(url)
        except AddressRefused as error:
            return str(error)
        return ""

    async def push(
        self, posts: Sequence[tuple[Endpoint, str, bytes]], now_us: int, media: str = JSON
    ) -> list[str]:
        """POST each (endpoint, message id, body) signed; per post ``""`` for a 2xx, or what went wrong."""
        at_s = now_us // US
        return await asyncio.gather(*(self._push_one(*post, at_s, media) for post in posts))

    async def prove(self, endpoint: Endpoint, challenge: str, now_us: int) -> str:
        """Send a challenge; ``""`` when the endpoint answered 2xx with the same, or what went wrong."""
        body = msgspec.json.encode({"type": "endpoint.challenge", "challenge": challenge})
        wrong, answer = await self._post(endpoint, f"challenge-{endpoint.id}-{now_us}", body, now_us // US)
        if wrong:
            return wrong
        try:
            said = msgspec.json.decode(answer, type=_ChallengeAnswer).challenge
        except NOT_JSON as error:
            return f'the answer is not {{"challenge": "…"}}: {error}'
        same = hmac.compare_digest(said.encode(), challenge.encode())
        return "" if same else "the answer carries another challenge than was sent"

    async def close(self) -> None:
        """Close connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, text: str) -> tuple[Target, URL]:
        target = check_url(text, self._policy)
        return target, URL(target.url, encoded=True)

    async def _push_one(self, endpoint: Endpoint, message: str, body: bytes, at_s: int, media: str) -> str:
        wrong, _ = await self._post(endpoint, message, body, at_s, media)
        return wrong

    async def _post(
        self, endpoint: Endpoint, message: str, body: bytes, at_s: int, media: str = JSON
    ) -> tuple[str, bytes]:
        """Return (what went wrong or ``""``, the answer's body)."""
        try:
            target, url = self._target(endpoint.url)
            context = _context(endpoint.ca, endpoint.pin) if target.secure else False
            if endpoint.pin and not target.secure:
                return "a pin needs https", b""
            headers = {
                "Content-Type": media,
                ID_HEADER: message,
                TIMESTAMP_HEADER: str(at_s),
                SIGNATURE_HEADER: sign(message, at_s, body, endpoint.secrets, self._key),
            }
            await self._turns.take(target.netloc)
            try:
                return await self._exchange(url, headers, body, context)
            finally:
                self._turns.give(target.netloc)
        except AddressRefused as error:
            return str(error), b""
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _in_words(error), b""

    async def _exchange(
        self, url: URL, headers: dict[str, str], body: bytes, context: ssl.SSLContext | bool
    ) -> tuple[str, bytes]:
        session = self._session or self._open()
        post = session.post(url, data=body, headers=headers, allow_redirects=False, ssl=context)
        async with post as answer:
            taken = await self._read(answer)
            if 200 <= answer.status < 300:
                return "", taken
            if 300 <= answer.status < 400:
                return f"answered {answer.status}: redirects are not followed", b""
            return f"answered {answer.status}", b""

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        room = self._bounds.answer_bytes_max
        taken = b""
        while len(taken) < room and (part := await answer.content.read(room - len(taken))):
            taken += part
        if not answer.content.at_eof():
            # Not drained, so no use for the next post; and nobody needs the rest.
            answer.close()
        return taken

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._lookup, self._policy),
            limit=0,  # bounded by turns, which one slow host cannot use up
            use_dns_cache=False,  # connections are kept; what is opened anew is looked up anew
            keepalive_timeout=IDLE_CONNECTION_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._bounds.post_s_max, connect=self._bounds.connect_s_max),
            headers={"User-Agent": "Doorward-Webhooks/1", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        return self._session

    async def _ask_system(self, host: str, port: int) -> list[str]:
        assert self._threads is not None
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _getaddrinfo, host, port)
        return [str(entry[4][0]) for entry in found]


def _getaddrinfo(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))


class _ChallengeAnswer(msgspec.Struct):
    challenge: str


class _CheckedResolver(AbstractResolver):
    """Resolves a name to addresses that were all checked; one bad address refuses the name."""

    def __init__(self, lookup: Lookup, policy: AddressPolicy) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._lookup(host, port)
        if not found:
            raise OSError(f"{host} has no address")
        if len(found) > ADDRESSES_MAX:
            raise AddressRefused(f"{host} has {len(found)} addresses; {ADDRESSES_MAX} are looked at")
        addresses = [ip_address(text) for text in found]
        for address in addresses:
            try:
                check_address(address, self._policy)
            except AddressRefused as error:
                # Without the address: what the utility's own name servers say is nobody's business.
                raise AddressRefused(f"{host} leads to an address that is refused: {error.why}") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Host:
    """The turns of one host, and how many hold or await one."""

    def __init__(self, turns: int) -> None:
        self.free = asyncio.Semaphore(turns)
        self.users = 0


class _Turns:
    """At most so many posts at once, and so many per host: a slow host waits for itself only."""

    def __init__(self, bounds: NotifierBounds) -> None:
        self._bounds = bounds
        self._all = asyncio.Semaphore(bounds.posts_max)
        self._hosts: dict[str, _Host] = {}

    async def take(self, name: str) -> None:
        """Take a turn; raise ``TimeoutError`` when none came free in time."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._bounds.posts_per_host_max)
        host.users += 1
        try:
            if host.free.locked() or self._all.locked():
                async with asyncio.timeout(self._bounds.post_s_max):
                    await self._both(host)
            else:
                await self._both(host)
        except BaseException:
            self._leave(name, host)
            raise

    def give(self, name: str) -> None:
        """Give a turn back."""
        host = self._hosts[name]
        host.free.release()
        self._all.release()
        self._leave(name, host)

    async def _both(self, host: _Host) -> None:
        await host.free.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            host.free.release()
            raise

    def _leave(self, name: str, host: _Host) -> None:
        host.users -= 1
        if not host.users:
            del self._hosts[name]


class _PinnedSSLObject(ssl.SSLObject):
    """Ends the handshake, before anything is sent, unless the certificate is the pinned one."""

    def do_handshake(self) -> None:
        super().do_handshake()
        found = sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
        wanted = getattr(self.context, "pin", "")
        if not hmac.compare_digest(found, wanted):
            raise ssl.SSLCertVerificationError(
                f"the certificate's SHA-256 is {found}, not the pinned {wanted}"
            )


class _PinnedContext(ssl.SSLContext):
    pin = ""


@lru_cache(CONTEXTS_KEPT_MAX)
def _context(ca: str, pin: str) -> ssl.SSLContext:
    """Return TLS settings that trust ``ca`` (PEM; ``""``: the system's) and, besides, only ``pin``."""
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        context.load_verify_locations(cadata=ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if pin:
        context.pin = pin.lower().replace(":", "")
        context.sslobject_class = _PinnedSSLObject
    return context


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate was not accepted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no address of {error.host} was found"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        return f"could not connect to {error.host}:{error.port}"
    return str(error) or type(error).__name__
