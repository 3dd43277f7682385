"""Everything that both clients do, without input or output: tokens, retries, signatures, waiting, resuming."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from doorward.client.ask import WAIT_S_MAX, Ask, us_of
from doorward.client.errors import DoorwardError, Unreachable, error_of, problem_of
from doorward.client.keys import Proof, SigningKey, TokenKey
from doorward.client.records import (
    Device,
    Event,
    Grant,
    Grants,
    Item,
    Items,
    Problem,
    Request,
    Token,
)
from doorward.client.talk import Broken, Conversation, HttpAnswer, HttpRequest, Pause, Renew, Send
from doorward.kit.clock import Clock
from doorward.kit.ids import uuid7
from doorward.wire.grants import SignedCommand
from doorward.wire.permission import CONTROL_US_DEFAULT
from doorward.wire.signatures import sign
from doorward.wire.times import from_rfc3339, to_rfc3339
from doorward.wire.vocabulary import Operation, Scope

T = TypeVar("T")

US = 1_000_000
TRIES_MAX = 4
PAUSE_S_FIRST = 0.2
PAUSE_S_MAX = 10.0
"""The longest pause between tries; a longer Retry-After is the caller's to decide about."""
TOKEN_EARLY_S = 30.0
"""A token is renewed so long before it ends, or in the last tenth of its life if that is shorter."""
POLL_S = 1.0
END_OF_STREAM = "end"
PAGES_MAX = 1000
STREAM_PAUSE_S_MAX = 60.0
SIGNED_S = 3600
"""How long a signed command may be acted on when it has no deadline."""
TRY_AGAIN = frozenset({429, 502, 503, 504})


Shows = Callable[[str, str, str], dict[str, str]]
"""(method, URL, token) → the headers that show the token."""


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One call of the API, and what its answer is."""

    method: str
    path: str
    answer: type[T]
    params: dict[str, str] = {}
    body: bytes | None = None
    key: str = ""
    wait_s: int = 0


def path(*parts: str) -> str:
    """Return ``/v1/…`` with every part escaped."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def params(**given: object) -> dict[str, str]:
    """Return query parameters without those that are not given."""
    return {name: str(value) for name, value in given.items() if value not in (None, "", ())}


class Core:
    """One client's state and decisions. A shell carries out what its conversations ask for."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        proof: Proof,
        *,
        scopes: Sequence[str],
        token_key: TokenKey | None,
        command_key: SigningKey | None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._base = _checked_base(base_url)
        self._client = client_id
        self._proof = proof
        self._scopes = " ".join(scopes)
        self._token_key = token_key
        self._command_key = command_key
        self._clock = clock
        self._rng = rng
        self._token = ""
        self._renew_us = 0
        self._versions: dict[str, int] = {}
        self._grants_seen: int | None = None

    # --- tokens ---------------------------------------------------------------------------------------

    def needs_token(self, stale: str) -> bool:
        """Whether ``stale`` is still what we have (so that somebody must renew it), or none is fresh."""
        return self._token == stale or self._clock.now_us() >= self._renew_us

    def renew(self) -> Conversation[None]:
        """Get a new token."""
        url = f"{self._base}/oauth/token"
        form = {"grant_type": "client_credentials", "scope": self._scopes}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        answer = None
        for attempt in range(1, TRIES_MAX + 1):
            # A statement of who we are is good once: each try has its own.
            now_us = self._clock.now_us()
            more = self._proof.form(url, now_us, uuid7(now_us, self._rng))
            body = urlencode(form | more).encode()
            shown = headers | self._proof.headers() | self._possession("POST", url, "")
            request = HttpRequest(method="POST", url=url, headers=shown, body=body)
            answer = yield Send(request)
            pause_s = self._pause_s(answer, attempt)
            if pause_s is None:
                break
            yield Pause(pause_s)
        token = self._decoded(answer, Token)
        now_us = self._clock.now_us()
        early_s = min(TOKEN_EARLY_S, token.expires_in / 10)
        self._token = token.access_token
        self._renew_us = now_us + int((token.expires_in - early_s) * US)

    def sign_in(self) -> Conversation[str]:
        """Return a token that is fresh."""
        if not self._token or self._clock.now_us() >= self._renew_us:
            yield Renew(self._token)
        return self._token

    def shows(self, method: str, url: str, token: str) -> dict[str, str]:
        """Return the headers that show a token; a proof that goes with it is good for one call."""
        scheme = "Bearer" if self._token_key is None else "DPoP"
        return {"Authorization": f"{scheme} {token}"} | self._possession(method, url, token)

    def _possession(self, method: str, url: str, token: str) -> dict[str, str]:
        if self._token_key is None:
            return {}
        now_us = self._clock.now_us()
        return {"DPoP": self._token_key.proof(method, url, token, now_us, uuid7(now_us, self._rng))}

    # --- calls ----------------------------------------------------------------------------------------

    def talk(self, call: Call[T]) -> Conversation[T]:
        """Make a call: with a fresh token, again after what passes, once more when the token is refused."""
        renewed = False
        attempt = 1
        while True:
            token = yield from self.sign_in()
            answer = yield Send(self._request(call, token))
            if isinstance(answer, HttpAnswer) and answer.status == 401 and not renewed:
                renewed = True
                yield Renew(token)
                continue
            pause_s = self._pause_s(answer, attempt)
            if pause_s is None:
                return self._decoded(answer, call.answer)
            yield Pause(pause_s)
            attempt += 1

    def _request(self, call: Call[Any], token: str) -> HttpRequest:
        url = f"{self._base}{call.path}"
        headers = {"Accept": "application/json"} | self.shows(call.method, url, token)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if call.key:
            headers["Idempotency-Key"] = call.key
        if call.wait_s:
            headers["Prefer"] = f"wait={call.wait_s}"
        query = f"?{urlencode(call.params)}" if call.params else ""
        return HttpRequest(
            method=call.method,
            url=f"{url}{query}",
            headers=headers,
            body=call.body,
            wait_s=call.wait_s,
        )

    def _pause_s(self, answer: HttpAnswer | Broken | None, attempt: int) -> float | None:
        """Return how long to wait before the next try (full jitter), or ``None`` to take what there is."""
        passing = not isinstance(answer, HttpAnswer) or answer.status in TRY_AGAIN
        if not passing or attempt >= TRIES_MAX:
            return None
        asked_s = _retry_after_s(answer)
        if asked_s is not None:
            return asked_s + self._rng.random() * PAUSE_S_FIRST if asked_s <= PAUSE_S_MAX else None
        return _jitter_s(self._rng, attempt, PAUSE_S_MAX)

    def _decoded(self, answer: HttpAnswer | Broken | None, kind: type[T]) -> T:
        if not isinstance(answer, HttpAnswer):
            why = answer.why if answer else "no answer"
            raise Unreachable(Problem(reason="system-failure", detail=f"{self._base}: {why}"))
        if answer.status >= 400:
            raise error_of(problem_of(answer.status, answer.body, _retry_after_s(answer)))
        try:
            return msgspec.json.decode(answer.body or b"{}", type=kind)
        except msgspec.DecodeError as error:
            raise DoorwardError(Problem(status=answer.status, detail=f"unexpected answer: {error}")) from None

    # --- requests -------------------------------------------------------------------------------------

    def ask(self, ask: Ask) -> Conversation[Request]:
        """Send one request under a key of its own, and wait as long as it says."""
        fields = yield from self._prepared(ask)
        key = fields.pop("key")
        body = msgspec.json.encode(fields)
        wait_s = _wait_s(ask.wait_s)
        return (
            yield from self.talk(
                Call(method="POST", path="/v1/requests", answer=Request, body=body, key=key, wait_s=wait_s)
            )
        )

    def submit(self, asks: Sequence[Ask], wait_s: int) -> Conversation[list[Item]]:
        """Send a list; one bad item never fails the others."""
        fields = []
        for ask in asks:
            fields.append((yield from self._prepared(ask)))
        body = msgspec.json.encode(fields)
        call = Call(method="POST", path="/v1/requests", answer=Items, body=body, wait_s=_wait_s(wait_s))
        return (yield from self.talk(call)).items

    def wait(self, request: str, timeout_s: float) -> Conversation[Request]:
        """Ask after a request until it is final or time runs out; return how it stands then."""
        until_us = self._clock.now_us() + int(timeout_s * US)
        while True:
            left_s = (until_us - self._clock.now_us()) / US
            wait_s = _wait_s(max(0, min(WAIT_S_MAX, int(left_s))))
            call = Call(method="GET", path=path("requests", request), answer=Request, wait_s=wait_s)
            found = yield from self.talk(call)
            left_s = (until_us - self._clock.now_us()) / US
            if found.is_final or left_s <= 0:
                return found
            yield Pause(min(left_s, POLL_S * (0.5 + self._rng.random() / 2)))

    def grants(self, after: int | None) -> Conversation[list[Grant]]:
        """Read all pages of the grants that changed after a sequence number."""
        found: list[Grant] = []
        for _ in range(PAGES_MAX):
            page = yield from self.talk(
                Call(method="GET", path="/v1/grants", answer=Grants, params=params(after=after))
            )
            found += page.items
            if page.next is None or not page.items:
                break
            after = page.next
        return found

    def _prepared(self, ask: Ask) -> Conversation[dict[str, Any]]:
        now_us = self._clock.now_us()
        fields = ask.fields(now_us)
        fields.setdefault("key", uuid7(now_us, self._rng))
        operation = Operation(ask.operation)
        if self._command_key is not None and operation.is_control and operation is not Operation.RELEASE:
            fields = yield from self._signed(ask, fields, now_us)
        return fields

    # --- signed commands ------------------------------------------------------------------------------

    def _signed(self, ask: Ask, fields: dict[str, Any], now_us: int) -> Conversation[dict[str, Any]]:
        """Add all that a signature covers, and the signature (a compact JWS of ``typ`` ``command``)."""
        assert self._command_key is not None
        service_point, version = yield from self._place(ask)
        start_us = us_of(ask.start, now_us) if ask.start is not None else 0
        # A start that is not ahead is no start to the CCS, and must not be one in what is signed.
        start_us = start_us if start_us > now_us else 0
        if not start_us:
            fields.pop("start", None)
        fields.setdefault("until", to_rfc3339(max(start_us, now_us) + CONTROL_US_DEFAULT))
        fields["service_point"] = service_point
        until_us = from_rfc3339(fields["until"])
        expires_us = from_rfc3339(fields["deadline"]) if "deadline" in fields else 0
        command = SignedCommand(
            id=fields["key"],
            party=self._client,
            service_point=service_point,
            scope=Scope(ask.scope),
            device=ask.device,
            operation=Operation(ask.operation),
            body=msgspec.Raw(msgspec.json.encode(ask.body)),
            start_us=start_us,
            until_us=until_us,
            issued_us=now_us,
            expires_us=expires_us or max(start_us, now_us) + SIGNED_S * US,
            grant_version=version,
            campaign=bool(ask.campaign),
        )
        key = self._command_key
        fields["signature"] = sign(msgspec.json.encode(command), key.key, key.kid, "command")
        return fields

    def _place(self, ask: Ask) -> Conversation[tuple[str, int]]:
        """Return the service point that a request is for, and the version of the grant there.

        The versions come by the change feed of grants, so that each costs one answer, mostly empty.
        """
        service_point = ask.service_point
        if not service_point:
            device = yield from self.talk(Call(method="GET", path=path("devices", ask.device), answer=Device))
            service_point = device.service_point
        for grant in (yield from self.grants(self._grants_seen)):
            self._versions[grant.service_point] = grant.version
            self._grants_seen = max(self._grants_seen or 0, grant.sequence)
        return service_point, self._versions.get(service_point, 0)

    # --- events ---------------------------------------------------------------------------------------

    def feed(self, after: str | None, kinds: Sequence[str]) -> "Feed":
        """Return the state of a stream of events, from after a cursor (``None``: from now on)."""
        return Feed(self._base, after, kinds, self._rng, self.shows)


class Feed:
    """A stream of events that outlives its connections: it goes on after the last event that was taken."""

    def __init__(
        self, base: str, after: str | None, kinds: Sequence[str], rng: random.Random, shows: Shows
    ) -> None:
        self._base = base
        self._shows = shows
        self._after = after
        self._kinds = kinds
        self._rng = rng
        self._broken = 0
        self._renewed = False
        self._asked_s: float | None = None

    def request(self, token: str) -> HttpRequest:
        """Return the request that opens the stream where we are."""
        place = f"{self._base}/v1/events/stream"
        headers = {"Accept": "text/event-stream"} | self._shows("GET", place, token)
        if self._after:
            headers["Last-Event-ID"] = self._after
        asked = [("kind", kind) for kind in self._kinds]
        if self._after == "":
            asked.append(("after", ""))  # from the beginning; without it, from now on
        query = urlencode(asked)
        url = place + (f"?{query}" if query else "")
        return HttpRequest(method="GET", url=url, headers=headers)

    def take(self, kind: str, cursor: str, data: str) -> Event | None:
        """Return the event in a server-sent one; ``None`` where it only says that the stream ends."""
        self._broken = 0
        self._renewed = False
        self._asked_s = None
        if not data or kind == END_OF_STREAM:
            return None
        event = msgspec.json.decode(data, type=Event)
        self._after = cursor or event.cursor or self._after
        return event

    def refused(self, answer: HttpAnswer) -> bool:
        """Whether a new token may help; raise what no new try can change."""
        if answer.status == 401 and not self._renewed:
            self._renewed = True
            return True
        self._asked_s = _retry_after_s(answer)
        if answer.status not in TRY_AGAIN:
            raise error_of(problem_of(answer.status, answer.body, self._asked_s))
        return False

    def pause_s(self) -> float:
        """Return how long to wait before the stream is opened again."""
        self._broken += 1
        if self._asked_s is not None:
            return min(self._asked_s, STREAM_PAUSE_S_MAX)
        return _jitter_s(self._rng, self._broken, STREAM_PAUSE_S_MAX)


def _jitter_s(rng: random.Random, attempt: int, most_s: float) -> float:
    """Return a pause drawn evenly from nothing to what has doubled with every attempt."""
    return rng.random() * min(most_s, PAUSE_S_FIRST * math.ldexp(1.0, min(attempt, 16)))


def _checked_base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"):
        return url.rstrip("/")
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{url!r}: the CCS is reached by https:// (http:// on this machine only)")
    return url.rstrip("/")


def _wait_s(asked: float) -> int:
    if not 0 <= asked <= WAIT_S_MAX:
        raise ValueError(f"wait_s is {asked}; it may be 0 to {WAIT_S_MAX}")
    return int(asked)


def _retry_after_s(answer: HttpAnswer | Broken | None) -> float | None:
    text = answer.headers.get("retry-after", "") if isinstance(answer, HttpAnswer) else ""
    return float(text) if text.isascii() and text.isdigit() else None
