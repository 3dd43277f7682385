"""Webhook endpoints of third parties: set, listed, removed, and proved by a challenge before first use."""

import base64
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec
from cryptography.x509 import load_pem_x509_certificates
from msgspec.structs import replace

from doorward.ccs.callers import authenticate_one
from doorward.ccs.ports import AllBooks, Notifier, Store
from doorward.ccs.rules.facts import Endpoint
from doorward.ccs.rules.identity import TokenReader, require_one_of
from doorward.ccs.views import View
from doorward.kit.clock import Clock
from doorward.wire.reasons import Reason, Refused
from doorward.wire.webhook_signature import secret_text

ENDPOINTS_MAX = 10
SECRET_BYTES = 32
SECRETS_KEPT = 2
"""The newest and the one before sign side by side, so that a receiver can change over."""
CA_CHARS_MAX = 16 * 1024
KINDS = frozenset(
    {
        "request",
        "request.receipt",
        "request.result",
        "request.warning",
        "device",
        "device.notice",
        "access",
        "access.granted",
        "access.changed",
        "access.withdrawn",
    }
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PIN = re.compile(r"[0-9a-f]{64}")


class EndpointBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint as its third party writes it. ``pin``: SHA-256 of its certificate in hex."""

    url: str
    mode: Literal["thin", "full"] = "thin"
    pin: str = ""
    kinds: list[str] = msgspec.field(
        default_factory=lambda: ["request.result", "request.warning", "device.notice", "access"]
    )
    ca: str = ""
    rotate_secret: bool = False


class Endpoints:
    """The endpoints of third parties.

    ``wrong_url`` says in words why a webhook may not go to a URL (``""``: it may). A token needs one of
    ``scopes``; ``kinds`` are what an endpoint may take.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenReader,
        notifier: Notifier,
        wrong_url: Callable[[str], str],
        clock: Clock,
        rng: random.Random,
        *,
        scopes: Sequence[str] = ("monitor",),
        kinds: frozenset[str] = KINDS,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._notifier = notifier
        self._wrong_url = wrong_url
        self._clock = clock
        self._rng = rng
        self._scopes = scopes
        self._kinds = kinds

    async def list(self, token: str) -> View:
        """Return all endpoints of the caller, without secrets."""

        async def read(books: AllBooks) -> View:
            party = await self._party(books, token)
            return {"items": [_view(each) for each in (await books.endpoints([party])).get(party, ())]}

        return await self._store.read(read)

    async def put(self, token: str, id: str, body: EndpointBody) -> View:
        """Set an endpoint; the answer shows its secret if it was made just now.

        A change of where or how it is reached makes it unproved. Raises ``body-malformed`` with the field.
        """
        pin = self._checked(id, body)

        async def step(books: AllBooks) -> View:
            party = await self._party(books, token)
            mine = {each.id: each for each in (await books.endpoints([party])).get(party, ())}
            before = mine.get(id)
            if before is None and len(mine) >= ENDPOINTS_MAX:
                raise Refused(Reason.BODY_MALFORMED, f"you have {ENDPOINTS_MAX} endpoints; remove one first")
            secrets = list(before.secrets) if before else []
            fresh = not secrets or body.rotate_secret
            if fresh:
                secrets = [secret_text(self._rng.randbytes(SECRET_BYTES)), *secrets][:SECRETS_KEPT]
            same = before is not None and (before.url, before.pin, before.ca) == (body.url, pin, body.ca)
            endpoint = Endpoint(
                id=id,
                party=party,
                url=body.url,
                mode=body.mode,
                pin=pin,
                state=before.state if same and before else "unproved",
                secrets=secrets,
                kinds=body.kinds,
                ca=body.ca,
            )
            await books.put_endpoint(endpoint)
            return _view(endpoint) | ({"secret": secrets[0]} if fresh else {})

        return await self._store.write(step)

    async def delete(self, token: str, id: str) -> None:
        """Remove an endpoint; raise ``not-found``."""

        async def step(books: AllBooks) -> bool:
            return await books.delete_endpoint(await self._party(books, token), id)

        if not await self._store.write(step):
            raise Refused(Reason.NOT_FOUND)

    async def rotate(self, party: str, id: str, beside: Callable[[AllBooks], Awaitable[None]]) -> str:
        """Give a third party's endpoint a new secret and return it; the one before signs beside it.

        ``beside`` runs in the same transaction. Raises ``not-found``.
        """
        secret = secret_text(self._rng.randbytes(SECRET_BYTES))

        async def step(books: AllBooks) -> None:
            endpoint = await _of(books, party, id)
            await books.put_endpoint(replace(endpoint, secrets=[secret, *endpoint.secrets][:SECRETS_KEPT]))
            await beside(books)

        await self._store.write(step)
        return secret

    async def prove(self, token: str, id: str) -> View:
        """Send the endpoint a challenge; raise ``not-found``, or ``no-proof`` with what went wrong."""
        return await self.prove_for(await self._store.read(lambda books: self._party(books, token)), id)

    async def prove_for(self, party: str, id: str) -> View:
        """Send a third party's endpoint a challenge, as :meth:`prove` does for a caller."""
        asked = await self._store.read(lambda books: _of(books, party, id))
        challenge = base64.urlsafe_b64encode(self._rng.randbytes(SECRET_BYTES)).decode().rstrip("=")
        wrong = await self._notifier.prove(asked, challenge, self._clock.now_us())
        if wrong:
            raise Refused(Reason.NO_PROOF, f"the endpoint did not prove itself: {wrong}")

        async def step(books: AllBooks) -> View:
            now = await _of(books, party, id)
            if (now.url, now.pin, now.ca) != (asked.url, asked.pin, asked.ca):
                raise Refused(Reason.TOO_LATE, "the endpoint was changed meanwhile; prove it again")
            proved = replace(now, state="proved")
            await books.put_endpoint(proved)
            return _view(proved)

        return await self._store.write(step)

    async def _party(self, books: AllBooks, token: str) -> str:
        caller = await authenticate_one(books, self._tokens, token, self._clock.now_us())
        require_one_of(caller, self._scopes)
        return caller.party.id

    def _checked(self, id: str, body: EndpointBody) -> str:
        """Return the pin in its one form, or raise ``body-malformed``."""
        pin = body.pin.lower().replace(":", "")
        wrong = self._wrong_url(body.url)
        unknown = sorted(set(body.kinds) - self._kinds)
        rules = (
            (_ID.fullmatch(id) is None, "an id is 1 to 64 letters, digits, '.', '_' or '-'", ""),
            (bool(wrong), wrong, "/url"),
            (bool(pin) and _PIN.fullmatch(pin) is None, "a pin is the SHA-256 in 64 hex digits", "/pin"),
            (body.mode == "full" and not pin, "a full push needs the pin of the certificate", "/pin"),
            (bool(unknown) or not body.kinds, f"kinds are {', '.join(sorted(self._kinds))}", "/kinds"),
            (bool(body.ca) and not _is_ca(body.ca), "not a certificate in PEM", "/ca"),
        )
        for broken, words, field in rules:
            if broken:
                raise Refused(Reason.BODY_MALFORMED, words, field=field)
        return pin


async def _of(books: AllBooks, party: str, id: str) -> Endpoint:
    for endpoint in (await books.endpoints([party])).get(party, ()):
        if endpoint.id == id:
            return endpoint
    raise Refused(Reason.NOT_FOUND)


def _is_ca(text: str) -> bool:
    try:
        return len(text) <= CA_CHARS_MAX and bool(load_pem_x509_certificates(text.encode()))
    except ValueError:
        return False


def _view(endpoint: Endpoint) -> View:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "mode": endpoint.mode,
        "state": endpoint.state,
        "pin": endpoint.pin,
        "kinds": endpoint.kinds,
        "ca": endpoint.ca,
    }
