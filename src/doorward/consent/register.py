"""The authority's own register, in SQLite: who asks for permissions, how customers are reached, what stands.

All its SQL. Nothing is deleted: a permission that ended stays, with the version up to which it did.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from doorward.consent.rules import Contact, PartyRecord, Standing
from doorward.kit.sqlite_thread import SqliteThread
from doorward.wire.grants import GrantDocument

R = TypeVar("R")

FILE = "register.sqlite"
SCHEMA = """
    CREATE TABLE IF NOT EXISTS party (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS contact (service_point TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS permission (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT -1,
        ended_seq INTEGER NOT NULL DEFAULT 0, document BLOB, signed TEXT, withdraw_hash TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS permission_ended ON permission (ended_seq) WHERE ended_seq > 0;
    CREATE TABLE IF NOT EXISTS proposal (
        id TEXT PRIMARY KEY, service_point TEXT NOT NULL, document BLOB NOT NULL, code_hash TEXT NOT NULL,
        withdraw_hash TEXT NOT NULL, expires_us INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS proposal_place ON proposal (service_point, expires_us);
    CREATE TABLE IF NOT EXISTS told (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), sequence INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS log (
        seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, what TEXT NOT NULL, about TEXT NOT NULL,
        evidence TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE TRIGGER IF NOT EXISTS log_is_not_changed BEFORE UPDATE ON log
        BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A permission that waits for the customer's code; hashes in hex."""

    id: str
    document: GrantDocument
    code_hash: str
    withdraw_hash: str
    expires_us: int
    tries: int = 0


class Books:
    """The register in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    # who

    def party(self, id: str) -> PartyRecord | None:
        """A third party."""
        row = self._sql.execute("SELECT body FROM party WHERE id = ?", (id,)).fetchone()
        return msgspec.json.decode(row[0], type=PartyRecord) if row else None

    def put_party(self, party: PartyRecord) -> None:
        """Insert or replace a third party."""
        body = msgspec.json.encode(party)
        self._sql.execute("INSERT OR REPLACE INTO party (id, body) VALUES (?, ?)", (party.id, body))

    def contact(self, service_point: str) -> Contact | None:
        """How the customer of a service point is reached."""
        row = self._sql.execute(
            "SELECT body FROM contact WHERE service_point = ?", (service_point,)
        ).fetchone()
        return msgspec.json.decode(row[0], type=Contact) if row else None

    def put_contact(self, contact: Contact) -> None:
        """Insert or replace a contact."""
        row = (contact.service_point, msgspec.json.encode(contact))
        self._sql.execute("INSERT OR REPLACE INTO contact (service_point, body) VALUES (?, ?)", row)

    # what stands

    def standing(self, grant: str) -> Standing | None:
        """A permission, live or ended."""
        row = self._sql.execute(
            "SELECT document, signed, ended FROM permission WHERE id = ? AND document IS NOT NULL", (grant,)
        ).fetchone()
        if row is None:
            return None
        return Standing(document=msgspec.json.decode(row[0], type=GrantDocument), signed=row[1], ended=row[2])

    def ended(self, grant: str) -> int:
        """The version up to which a permission is over; -1 where none is."""
        row = self._sql.execute("SELECT ended FROM permission WHERE id = ?", (grant,)).fetchone()
        return int(row[0]) if row else -1

    def put_standing(self, document: GrantDocument, signed: str, withdraw_hash: str = "") -> None:
        """Insert a permission, or its next version; its withdrawal code stays unless there is a new one."""
        self._sql.execute(
            "INSERT INTO permission (id, version, document, signed, withdraw_hash) VALUES (?1, ?2, ?3, ?4, ?5)"
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document,"
            " signed = excluded.signed,"
            " withdraw_hash = iif(excluded.withdraw_hash = '', withdraw_hash, excluded.withdraw_hash)",
            (document.grant, document.version, msgspec.json.encode(document), signed, withdraw_hash),
        )

    def end(self, grants: Mapping[str, int]) -> dict[str, int]:
        """End permissions up to these versions; return those for which that is new."""
        new = {grant: version for grant, version in grants.items() if self.ended(grant) < version}
        for grant, version in new.items():
            (seq,) = self._sql.execute("SELECT coalesce(max(ended_seq), 0) + 1 FROM permission").fetchone()
            self._sql.execute(
                "INSERT INTO permission (id, version, ended, ended_seq) VALUES (?1, ?2, ?2, ?3)"
                " ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, ended_seq = excluded.ended_seq",
                (grant, version, seq),
            )
        return new

    def ended_after(self, seq: int, limit: int) -> tuple[int, dict[str, int]]:
        """Permissions that ended after a number, and the number to go on from."""
        rows = self._sql.execute(
            "SELECT id, ended, ended_seq FROM permission WHERE ended_seq > ? ORDER BY ended_seq LIMIT ?",
            (seq, limit),
        ).fetchall()
        return (rows[-1][2] if rows else seq), {row[0]: row[1] for row in rows}

    def withdraw_hash(self, grant: str) -> str:
        """The hash of the code by which the customer ends a permission here."""
        row = self._sql.execute("SELECT withdraw_hash FROM permission WHERE id = ?", (grant,)).fetchone()
        return str(row[0]) if row else ""

    def told(self) -> int:
        """Up to which change of its own the CCS has told of withdrawals."""
        row = self._sql.execute("SELECT sequence FROM told").fetchone()
        return int(row[0]) if row else -1

    def put_told(self, sequence: int) -> None:
        """Remember it."""
        self._sql.execute("INSERT OR REPLACE INTO told (only_one, sequence) VALUES (1, ?)", (sequence,))

    # what is asked of customers

    def proposal(self, id: str) -> Proposal | None:
        """A proposal by id."""
        row = self._sql.execute(
            "SELECT id, document, code_hash, withdraw_hash, expires_us, tries FROM proposal WHERE id = ?",
            (id,),
        ).fetchone()
        if row is None:
            return None
        return Proposal(
            id=row[0],
            document=msgspec.json.decode(row[1], type=GrantDocument),
            code_hash=row[2],
            withdraw_hash=row[3],
            expires_us=row[4],
            tries=row[5],
        )

    def put_proposal(self, proposal: Proposal) -> None:
        """Insert or replace a proposal."""
        document = proposal.document
        self._sql.execute(
            "INSERT OR REPLACE INTO proposal (id, service_point, document, code_hash, withdraw_hash, expires_us,"
            " tries) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                proposal.id,
                document.service_point,
                msgspec.json.encode(document),
                proposal.code_hash,
                proposal.withdraw_hash,
                proposal.expires_us,
                proposal.tries,
            ),
        )

    def drop_proposals(self, ids: Collection[str], before_us: int) -> None:
        """Forget these, and all that ran out before a time."""
        self._sql.executemany("DELETE FROM proposal WHERE id = ?", [(id,) for id in ids])
        self._sql.execute("DELETE FROM proposal WHERE expires_us < ?", (before_us,))

    def proposed_since(self, service_point: str, expires_us: int) -> int:
        """How many proposals for a service point run out after a time."""
        (count,) = self._sql.execute(
            "SELECT count(*) FROM proposal WHERE service_point = ? AND expires_us > ?",
            (service_point, expires_us),
        ).fetchone()
        return int(count)

    # the record

    def log(self, at_us: int, what: str, about: str, evidence: str = "", detail: str = "") -> None:
        """Append to the authority's own record."""
        self._sql.execute(
            "INSERT INTO log (at_us, what, about, evidence, detail) VALUES (?, ?, ?, ?, ?)",
            (at_us, what, about, evidence, detail),
        )

    def logged(self, limit: int = 1000) -> list[tuple[int, str, str, str, str]]:
        """The newest rows of the record, oldest first: (time, what, about, evidence, detail)."""
        rows = self._sql.execute(
            "SELECT at_us, what, about, evidence, detail FROM log ORDER BY seq DESC LIMIT ?", (limit,)
        ).fetchall()
        return rows[::-1]


class Register:
    """The register's file: a step is a plain function over :class:`Books`, in one durable transaction."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = SqliteThread(directory / FILE, schema=_schema)

    async def write(self, step: Callable[[Books], R]) -> R:
        """Run a step and commit durably before returning."""
        return await self._thread.write(lambda connection: step(Books(connection)))

    async def read(self, step: Callable[[Books], R]) -> R:
        """Run a step that only reads."""
        return await self._thread.read(lambda connection: step(Books(connection)))

    async def close(self) -> None:
        """Finish what was asked for and close."""
        await self._thread.close()


def _schema(connection: sqlite3.Connection) -> None:
    connection.executescript(SCHEMA)
