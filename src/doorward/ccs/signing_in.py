"""How people come in: by a password, or by a one-time link; and the sessions that they then have.

Every answer to a failed try is the same, whatever was wrong, and costs the same (an Argon2 check). A new
session is made at every sign-in, so that a cookie that somebody planted before is worth nothing after.
"""

import hmac
import random
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Literal

import msgspec
from msgspec.structs import replace

from doorward.ccs.enrolment import RefusalCounter
from doorward.ccs.ports import AllBooks, Store
from doorward.ccs.rules.people import SESSION_US, Person, Session, may_try, tried, weak
from doorward.kit.clock import Clock
from doorward.wire.reasons import Reason, Refused
from doorward.wire.signatures import b64url, unb64url

Purpose = Literal["sign-in", "reset"]

TOKEN_BYTES = 32
LINK_US: dict[Purpose, int] = {"sign-in": 15 * 60_000_000, "reset": 60 * 60_000_000}
"""How long a one-time link may be used."""
LINK_CHARS_MAX = 512
TRIES_PER_MINUTE_MAX = 20
SOURCES_MAX = 10_000
SENTENCE = "That name and password do not belong together, or the account is locked for now."
LINK_SENTENCE = "This link has been used, or its time is over. Ask for a new one."


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a one-time link says: for whom, for what, until when; ``nonce`` makes it the only one."""

    person: str
    purpose: Purpose
    until_us: int
    nonce: str


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody came in: ``token`` goes into the cookie and is kept nowhere else."""

    person: Person
    token: str
    until_us: int


class SignIn:
    """Lets people in and out. ``key`` (the same at every worker) authenticates one-time links.

    ``matches`` checks a secret against an Argon2 hash (``""`` never matches and costs the same), ``hashed``
    makes one.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        key: bytes,
        matches: Callable[[str, str], Awaitable[bool]],
        hashed: Callable[[str], Awaitable[str]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._key = key
        self._matches = matches
        self._hashed = hashed
        self._counter = RefusalCounter(TRIES_PER_MINUTE_MAX, SOURCES_MAX)

    async def by_password(self, login: str, password: str, source: str) -> Entered:
        """Let somebody in by a password; raise ``not-authenticated``, or ``rate-limited`` from ``source``."""
        now_us = self._clock.now_us()
        if not self._counter.may_try(source, now_us):
            raise Refused(Reason.RATE_LIMITED, "too many failed sign-ins from here", retry_after_s=60.0)
        name = login.strip().casefold()
        seen = await self._store.write(lambda books: books.person_by_login(name))
        open_to = seen is not None and may_try(seen, now_us)
        right = await self._matches(seen.password if seen and open_to else "", password)
        if seen is None or not open_to:
            right = False

        async def step(books: AllBooks) -> Entered | None:
            person = await books.person_by_login(name)
            if person is None or not may_try(person, now_us):
                return None
            valid = right and seen is not None and person.password == seen.password
            after = tried(person, valid, now_us)
            if after != person:
                await books.put_people([after])
            return await self._enter(books, after) if valid else None

        entered = await self._store.write(step)
        if entered is None:
            self._counter.refused(source, now_us)
            raise Refused(Reason.NOT_AUTHENTICATED, SENTENCE)
        return entered

    def link(self, person: Person, purpose: Purpose = "sign-in") -> str:
        """Return the secret of a one-time link for somebody."""
        link = Link(
            person=person.id,
            purpose=purpose,
            until_us=self._clock.now_us() + LINK_US[purpose],
            nonce=self._rng.randbytes(16).hex(),
        )
        body = b64url(msgspec.json.encode(link))
        return f"{body}.{self._mac(body, person)}"

    async def by_link(self, secret: str) -> Entered:
        """Let somebody in by a one-time link, once; raise ``not-authenticated``."""

        async def step(books: AllBooks) -> Entered:
            person = await self._spend(books, secret, "sign-in")
            return await self._enter(books, person)

        return await self._store.write(step)

    async def set_password(self, secret: str, password: str) -> Entered:
        """Set a password by a link for that, end all other sessions, and let the person in.

        Raises ``not-authenticated`` for the link, ``body-malformed`` for a weak password (and the link stays
        good).
        """
        link = self._read(secret)
        if link is None or link.purpose != "reset":
            raise Refused(Reason.NOT_AUTHENTICATED, LINK_SENTENCE)
        found = await self._store.read(lambda books: books.people([link.person]))
        person = found.get(link.person)
        if person is not None and (wrong := weak(password, person)):
            raise Refused(Reason.BODY_MALFORMED, wrong, field="/password")
        hashed = await self._hashed(password)

        async def step(books: AllBooks) -> Entered:
            person = await self._spend(books, secret, "reset")
            changed = replace(person, password=hashed, failed=0, locked_until_us=0)
            await books.put_people([changed])
            await books.end_sessions(person.id)
            return await self._enter(books, changed)

        return await self._store.write(step)

    async def who(self, token: str) -> Person | None:
        """Return whose session a cookie stands for, while it runs and its person may come in."""
        person = await self._store.read(lambda books: books.signed_in(_name(token), self._clock.now_us()))
        return person if person is not None and person.state == "active" else None

    async def out(self, token: str) -> None:
        """End a session."""
        await self._store.write(lambda books: books.end_session(_name(token)))

    async def prune(self) -> None:
        """Drop sessions that have run out."""
        await self._store.write(lambda books: books.prune_sessions(self._clock.now_us()))

    async def _enter(self, books: AllBooks, person: Person) -> Entered:
        now_us = self._clock.now_us()
        token = b64url(self._rng.randbytes(TOKEN_BYTES))
        until_us = now_us + SESSION_US[person.role.is_staff]
        session = Session(id=_name(token), person=person.id, created_us=now_us, until_us=until_us)
        await books.put_sessions([session])
        return Entered(person=person, token=token, until_us=until_us)

    async def _spend(self, books: AllBooks, secret: str, purpose: Purpose) -> Person:
        """Use up a link; of two at once, one finds it used."""
        link = self._read(secret)
        refused = Refused(Reason.NOT_AUTHENTICATED, LINK_SENTENCE)
        if link is None or link.purpose != purpose or link.until_us <= self._clock.now_us():
            raise refused
        person = (await books.people([link.person])).get(link.person)
        body, _, mac = secret.partition(".")
        if person is None or person.state != "active":
            raise refused
        if not hmac.compare_digest(self._mac(body, person), mac):
            raise refused
        if await books.use_proofs({f"link {link.nonce}": link.until_us}):
            raise refused
        return person

    def _read(self, secret: str) -> Link | None:
        """Return what a link says, which is nothing yet: its MAC needs the person."""
        if len(secret) > LINK_CHARS_MAX:
            return None
        try:
            return msgspec.json.decode(unb64url(secret.partition(".")[0]), type=Link)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None

    def _mac(self, body: str, person: Person) -> str:
        """Bound to the password that stands: a changed one makes all links worthless that were made before."""
        said = f"{body}|{person.id}|{person.password}"
        return b64url(hmac.digest(self._key, said.encode(), "sha256"))


def _name(token: str) -> str:
    """Return the name under which a session is kept: who reads the books cannot make its cookie."""
    return sha256(token.encode()).hexdigest()
