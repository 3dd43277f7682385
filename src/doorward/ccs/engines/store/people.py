"""People and their sessions."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select

from doorward.ccs.engines import tables as t
from doorward.ccs.engines.sql import Statement, locked, number, putting, words
from doorward.ccs.engines.store.base import Part
from doorward.ccs.engines.store.rows import RowsOf
from doorward.ccs.rules.people import Person, Session

PERSON = RowsOf(Person, t.person)
SESSION = RowsOf(Session, t.session)

PUT_PEOPLE = putting(t.person, PERSON.names, "id")
PUT_SESSIONS = putting(t.session, SESSION.names, "id")
PEOPLE = Statement(lambda f: select(*PERSON.columns).where(f.any_of(t.person.c.id, "ids")), "ids")
PEOPLE_OF = Statement(
    lambda f: select(*PERSON.columns).where(f.any_of(t.person.c.of, "of")).order_by(t.person.c.id), "of"
)
PEOPLE_FROM = Statement(
    lambda _: (
        select(*PERSON.columns)
        .where(t.person.c.id > words("after"))
        .order_by(t.person.c.id)
        .limit(number("limit"))
    ),
    "after",
    "limit",
)
BY_LOGIN = Statement(
    lambda _: locked(select(*PERSON.columns).where(t.person.c.login == words("login"))), "login"
)
SESSIONS = Statement(
    lambda _: (
        select(*PERSON.columns, t.session.c.until_us)
        .join(t.session, t.session.c.person == t.person.c.id)
        .where(t.session.c.id == words("session"), t.session.c.until_us > number("now"))
    ),
    "session",
    "now",
)
END_SESSION = Statement(lambda _: delete(t.session).where(t.session.c.id == words("session")), "session")
END_SESSIONS = Statement(lambda _: delete(t.session).where(t.session.c.person == words("person")), "person")
PRUNE_SESSIONS = Statement(lambda _: delete(t.session).where(t.session.c.until_us < number("now")), "now")

_person_row = PERSON.dumper()
_session_row = SESSION.dumper()


class People(Part):
    """:class:`~doorward.ccs.ports.PeopleBooks`."""

    async def people(self, ids: Collection[str]) -> dict[str, Person]:
        """People by id."""
        return {row[0]: PERSON.load(row) for row in await self._on.rows(PEOPLE, ids)}

    async def people_of(self, of: Collection[str]) -> list[Person]:
        """People who act for any of these customers, third parties or vendors."""
        return [PERSON.load(row) for row in await self._on.rows(PEOPLE_OF, of)]

    async def people_from(self, after: str, limit: int) -> list[Person]:
        """All people in the order of their ids, after one."""
        return [PERSON.load(row) for row in await self._on.rows(PEOPLE_FROM, after, limit)]

    async def person_by_login(self, login: str) -> Person | None:
        """The person who signs in by this name, row-locked: of two wrong passwords at once, both count."""
        rows = await self._on.rows(BY_LOGIN, login)
        return PERSON.load(rows[0]) if rows else None

    async def put_people(self, people: Sequence[Person]) -> None:
        """Insert or replace people by id."""
        await self._on.many(PUT_PEOPLE, [_person_row(person) for person in people])

    async def signed_in(self, session: str, now_us: int) -> Person | None:
        """Whose session this is, if it still runs."""
        rows = await self._on.rows(SESSIONS, session, now_us)
        return PERSON.load(rows[0]) if rows else None

    async def put_sessions(self, sessions: Sequence[Session]) -> None:
        """Insert sessions."""
        await self._on.many(PUT_SESSIONS, [_session_row(session) for session in sessions])

    async def end_session(self, session: str) -> None:
        """End one session; idempotent."""
        await self._on.do(END_SESSION, session)

    async def end_sessions(self, person: str) -> None:
        """End all sessions of a person."""
        await self._on.do(END_SESSIONS, person)

    async def prune_sessions(self, now_us: int) -> None:
        """Drop sessions that have run out."""
        await self._on.do(PRUNE_SESSIONS, now_us)
