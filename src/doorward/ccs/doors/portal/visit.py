"""One call as pages see it: who it is, what the form says, and how to answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from doorward.ccs.access_desk import AccessDesk
from doorward.ccs.agreeing import By, by_person
from doorward.ccs.doors.portal.rendering import Pages
from doorward.ccs.doors.portal.security import Cookies, FormProof
from doorward.ccs.doors.portal.streams import Streams
from doorward.ccs.endpoints import Endpoints
from doorward.ccs.homes import Home, load_home, occupant_of, points_of
from doorward.ccs.journey import Journey
from doorward.ccs.ports import AllBooks
from doorward.ccs.rules.homes import look
from doorward.ccs.rules.people import Person
from doorward.ccs.rules.rights import Act, Reach, reach
from doorward.ccs.signing_in import Entered, SignIn
from doorward.kit.ids import uuid7
from doorward.wire.reasons import Reason, Refused

R = TypeVar("R")

WHY_CHARS_MAX = 300
FIELD_CHARS_MAX = 2_000


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the portal stands on.

    ``demo``: the first page lets anybody on this machine choose who they are. ``zone`` is the time zone of
    people who have no home, ``hashed`` makes the Argon2 hash of a secret, ``issuer`` is the API's address.
    """

    journey: Journey
    sign_in: SignIn
    desk: AccessDesk
    pages: Pages
    cookies: Cookies
    proof: FormProof
    endpoints: Endpoints
    hashed: Callable[[str], Awaitable[str]]
    issuer: str
    utility: str
    zone: str
    demo: bool


Handler = Callable[["Visit"], Awaitable[Response]]


@dataclass(frozen=True)
class Page:
    """A page: ``act`` is what it needs (``None``: it is for everybody, signed in or not)."""

    method: Literal["GET", "POST"]
    path: str
    act: Act | None
    handler: Handler


@dataclass
class Visit:
    """A call by somebody, with the form that came with it.

    Pages get it after its rights and (for ``POST``) the form's proof were checked.
    """

    request: Request
    parts: Parts
    streams: Streams
    now_us: int
    person: Person | None = None
    reach: Reach | None = None
    token: str = ""
    form_cookie: str = ""
    form: Mapping[str, list[str]] = field(default_factory=dict)
    section: str = ""

    # ---- who ----------------------------------------------------------------------------------------

    @property
    def who(self) -> Person:
        """Whoever is signed in."""
        if self.person is None:
            raise Refused(Reason.NOT_AUTHENTICATED)
        return self.person

    def may(self, act: Act) -> bool:
        """Whether whoever is signed in may do something at all."""
        return self.person is not None and reach(self.person, act) is not None

    # ---- what came ----------------------------------------------------------------------------------

    def field(self, name: str, default: str = "") -> str:
        """Return one field of the form, without what cannot be typed; raise where it is too long."""
        value = self.form.get(name, [default])[-1].strip()
        if len(value) > FIELD_CHARS_MAX or "\x00" in value:
            raise Refused(Reason.BODY_MALFORMED, "that is too long", field=f"/{name}")
        return value

    def fields(self, name: str) -> list[str]:
        """Return all values of a field of the form."""
        return list(self.form.get(name, ()))

    def query(self, name: str, default: str = "") -> str:
        """Return one parameter of the address."""
        return self.request.query_params.get(name, default)[:FIELD_CHARS_MAX]

    def path(self, name: str) -> str:
        """Return one part of the path."""
        return str(self.request.path_params[name])

    def by(self) -> By:
        """Return who asks for a change of access; whoever acts for a customer says why, and it is recorded."""
        why = self.field("why")[:WHY_CHARS_MAX]
        if self.who.role.is_staff and not why:
            self.wrong("why", "Say why, in the customer's words: it is recorded and shown to them.")
        return by_person(self.who, self.now_us, why)

    # ---- the books ----------------------------------------------------------------------------------

    async def read(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run a step that only reads."""
        return await self.parts.journey.store.read(step)

    async def write(self, step: Callable[[AllBooks], Awaitable[R]]) -> R:
        """Run a step in a transaction."""
        return await self.parts.journey.store.write(step)

    async def points(self) -> list[str]:
        """Return the homes of a customer."""
        return sorted(await self.read(lambda books: points_of(books, self.who, self.now_us)))

    async def home(self, point: str, at: str) -> Home:
        """Return a home that this person may see; raise ``not-found`` for another's and for none alike.

        Somebody of the utility is noted, and the customer sees it: ``at`` says in words what was looked at.
        """
        if self.reach is Reach.ANY:
            why = self.query("why", self.field("why") if self.form else "")[:WHY_CHARS_MAX]
            return await self.write(lambda books: self._noted(books, point, at, why))
        return await self.read(lambda books: self._own(books, point))

    async def _own(self, books: AllBooks, point: str) -> Home:
        held = (await points_of(books, self.who, self.now_us)).get(point)
        if held is None:
            raise Refused(Reason.NOT_FOUND)
        return self._there(await load_home(books, point, *held, self.now_us))

    async def _noted(self, books: AllBooks, point: str, at: str, why: str) -> Home:
        occupant = await occupant_of(books, point, self.now_us)
        home = self._there(await load_home(books, point, *occupant, self.now_us))
        await books.put_notes([look(self.new_id(), self.who, point, at, why, self.now_us)])
        return home

    def _there(self, home: Home | None) -> Home:
        if home is None:
            raise Refused(Reason.NOT_FOUND)
        return home

    def new_id(self) -> str:
        """Return a new id of this moment."""
        return uuid7(self.now_us, self.parts.journey.rng)

    # ---- the answer ---------------------------------------------------------------------------------

    def render(self, template: str, status: int = 200, /, **context: Any) -> Response:
        """Return a page."""
        return self.parts.pages.response(template, status, self._known() | context)

    def fragment(self, template: str, /, **context: Any) -> str:
        """Return a part of a page, for streams."""
        return self.parts.pages.text(template, self._known() | context)

    def _known(self) -> dict[str, Any]:
        """What all templates know: the visit, and its person's way of reading."""
        return {
            "visit": self,
            "person": self.person,
            "now_us": self.now_us,
            "zone": self.parts.zone,
            "fahrenheit": self.person.fahrenheit if self.person else False,
            "theme": self.request.cookies.get(self.parts.cookies.theme, ""),
            "form_token": self.parts.proof.token(self.token or self.form_cookie),
            "problem": None,
            "done": "",
        }

    def go(self, path: str, **query: str) -> Response:
        """Send the browser on to another page, by GET."""
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)

    def enter(self, entered: Entered, path: str = "/portal/") -> Response:
        """Send somebody who has just come in on, with the cookie of the new session."""
        response = self.go(path)
        response.set_cookie(
            self.parts.cookies.session,
            entered.token,
            max_age=(entered.until_us - self.now_us) // 1_000_000,
            path="/",
            secure=self.parts.cookies.secure,
            httponly=True,
            samesite="lax",
        )
        response.delete_cookie(self.parts.cookies.form, path="/", secure=self.parts.cookies.secure)
        return response

    def wrong(self, name: str, said: str) -> NoReturn:
        """Refuse a field of the form."""
        raise Refused(Reason.BODY_MALFORMED, said, field=f"/{name}")


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a form: the field, and how to mend it."""

    field: str
    said: str


def problem_of(refusal: Refused) -> Problem:
    """Return a refusal as a form shows it."""
    return Problem(refusal.field.lstrip("/"), refusal.detail)
