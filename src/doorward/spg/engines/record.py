"""The gateway's journal and its chain: every transaction that writes it adds one link (docs/adr/0009)."""

import re
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from doorward.spg.rules.facts import JournalRow
from doorward.wire.chain import (
    Head,
    Link,
    Part,
    PeerHead,
    Row,
    beginning,
    digest_of,
    seal,
)

WRITER = 1
CCS = ""
"""The name under which the CCS's heads stand in our links."""
NOTED = "checkpoint"
"""The name under which a link holds the number and digest of a checkpoint of the CCS."""
CHECKPOINTS_KEPT_MAX = 1_000
PRUNED_LINKS_MAX = 200
DATED_SINCE_US = 1_577_836_800_000_000
"""2020: a clock that shows an earlier time has booted without knowing it."""
EXPIRED = "expired"
"""The step that says up to which link the record is no longer kept."""

TABLES = """
    ALTER TABLE journal ADD COLUMN payload TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN link INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX journal_link ON journal (link);
    CREATE TABLE chain (
        seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at_us INTEGER NOT NULL, prev BLOB NOT NULL,
        parts TEXT NOT NULL, marks BLOB NOT NULL, peers TEXT NOT NULL, hash BLOB NOT NULL);
    CREATE TRIGGER chain_is_not_changed BEFORE UPDATE ON chain
        BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;
    CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, document TEXT NOT NULL);
"""

COLUMNS = JournalRow.__struct_fields__
CHAINED = ("seq", *COLUMNS)
"""The columns of the journal that a link covers, in the order in which it does."""
UNMARKED = CHAINED.index("detail")
_INSERT = f"INSERT INTO journal ({', '.join(COLUMNS)}, link) VALUES ({', '.join('?' * len(COLUMNS))}, ?)"  # noqa: S608
_SELECT = f"SELECT {', '.join(CHAINED)} FROM journal"  # noqa: S608

_json = msgspec.json.Encoder()
_parts = msgspec.json.Decoder(list[Part])
_peers = msgspec.json.Decoder(list[PeerHead])


class Record:
    """The part of the books that is the record."""

    _sql: sqlite3.Connection

    def head(self) -> Head:
        """The newest link."""
        row = self._sql.execute("SELECT epoch, seq, hash FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return beginning(WRITER)
        return Head(writer=WRITER, epoch=row[0], seq=row[1], hash=row[2])

    def write_journal(
        self, rows: Sequence[JournalRow], at_us: int, *, heads: Sequence[Head] = (), checkpoint: str = ""
    ) -> Head | None:
        """Append rows to the journal under one link, with what the CCS said of its record meanwhile.

        Returns the head that this is once it has committed; ``None`` where there is nothing to record.
        """
        said = [PeerHead(CCS, head.writer, head.epoch, head.seq, head.hash) for head in heads]
        if checkpoint:
            said.append(self._keep(checkpoint, at_us))
        if not rows and not said:
            return None
        before = self.head()
        cursor = self._sql.cursor()
        numbered = []
        for row in rows:
            values = msgspec.structs.astuple(row)
            cursor.execute(_INSERT, (*values, before.seq + 1))
            numbered.append((cursor.lastrowid, *values))
        (boot,) = self._sql.execute("SELECT coalesce(max(value), 0) FROM meta WHERE name = 'boot'").fetchone()
        epoch = max(before.epoch, boot)
        link = seal(before, epoch, at_us, {0: numbered} if numbered else {}, said, unmarked=UNMARKED)
        self._sql.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _row(link))
        return link.head

    def _keep(self, checkpoint: str, at_us: int) -> PeerHead:
        """Keep a checkpoint of the CCS, and no more than a bound of them."""
        (last,) = self._sql.execute("SELECT coalesce(max(number), 0) FROM checkpoint").fetchone()
        number = last + 1
        self._sql.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (number, at_us, checkpoint))
        self._sql.execute("DELETE FROM checkpoint WHERE number <= ?", (number - CHECKPOINTS_KEPT_MAX,))
        return PeerHead(NOTED, 0, 0, number, digest_of(checkpoint))

    def journal(
        self, *, message: str = "", after: int = 0, limit: int = 1000
    ) -> list[tuple[int, JournalRow]]:
        """Rows of the journal above ``after``, in order, with their number; only of ``message`` if it is given."""
        rows = self._sql.execute(
            f"{_SELECT} WHERE seq > ? AND (? = '' OR message = ?) ORDER BY seq LIMIT ?",
            (after, message, message, limit),
        )
        return [(row[0], JournalRow(**dict(zip(COLUMNS, row[1:], strict=True)))) for row in rows]

    def journal_end(self) -> int:
        """The number of the last row."""
        (last,) = self._sql.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()
        return int(last)

    def prune_record(self, before_us: int, now_us: int) -> int:
        """Remove a slice of the links, with their rows, that are older; say so in the record itself.

        Only ever its oldest part, so that what is left is one chain, whose beginning a later link names. What
        was recorded before the time was known is as old as the link after it that bears a date.
        """
        gone = self._sql.execute(
            "DELETE FROM journal WHERE link = 0 AND seq IN"
            " (SELECT seq FROM journal WHERE link = 0 AND at_us < ? LIMIT ?)",
            (before_us, PRUNED_LINKS_MAX),
        ).rowcount
        last, hashed = 0, b""
        for seq, at_us, its_hash in self._sql.execute(
            "SELECT seq, at_us, hash FROM chain WHERE at_us >= ? ORDER BY seq LIMIT ?",
            (DATED_SINCE_US, PRUNED_LINKS_MAX),
        ):
            if at_us >= before_us:
                break
            last, hashed = seq, its_hash
        if not last:
            return gone
        # Said before it is done: with all links gone, the next one would not know what it follows.
        note = JournalRow(at_us=now_us, step=EXPIRED, detail=f"links up to {last}, which was {hashed.hex()}")
        self.write_journal([note], now_us)
        gone += self._sql.execute("DELETE FROM journal WHERE link BETWEEN 1 AND ?", (last,)).rowcount
        gone += self._sql.execute("DELETE FROM chain WHERE seq <= ?", (last,)).rowcount
        return gone

    # what an auditor reads

    def links(self, after: int, limit: int) -> list[tuple[int, Link | None]]:
        """Links above ``after`` with their numbers, in order; ``None`` for one that cannot be read."""
        rows = self._sql.execute("SELECT * FROM chain WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [(row[0], _load(row)) for row in rows]

    def hashes(self, seqs: Collection[int]) -> dict[int, bytes]:
        """The hashes of links, by number."""
        rows = self._sql.execute(
            "SELECT seq, hash FROM chain WHERE seq IN (SELECT value FROM json_each(?))",
            (_json.encode(list(seqs)).decode(),),
        )
        return {seq: bytes(hashed) for seq, hashed in rows}

    def covered(self, first: int, last: int, limit: int) -> list[tuple[int, Row]]:
        """Rows of the links ``first`` … ``last``, each with its link, in order."""
        rows = self._sql.execute(
            f"SELECT link, {', '.join(CHAINED)} FROM journal WHERE link BETWEEN ? AND ?"  # noqa: S608
            " ORDER BY link, seq LIMIT ?",
            (first, last, limit),
        )
        return [(row[0], row[1:]) for row in rows]

    def expired(self) -> tuple[Head, str]:
        """The last link that is no longer kept, as the record itself says, in which row's words."""
        row = self._sql.execute(
            "SELECT detail FROM journal WHERE step = ? ORDER BY seq DESC LIMIT 1", (EXPIRED,)
        ).fetchone()
        said = _SAYS_EXPIRED.match(row[0]) if row else None
        if said is None:
            return beginning(WRITER), ""
        return Head(writer=WRITER, epoch=0, seq=int(said[1]), hash=bytes.fromhex(said[2])), row[0]

    def messages(self, after: str, limit: int) -> list[str]:
        """Ids of messages in the journal above an id, in order."""
        rows = self._sql.execute(
            "SELECT DISTINCT message FROM journal WHERE message > ? AND message <> '' ORDER BY message LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in rows]

    def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Checkpoints of the CCS above one of our own numbers, in order."""
        rows = self._sql.execute(
            "SELECT number, document FROM checkpoint WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
        )
        return rows.fetchall()


_SAYS_EXPIRED = re.compile(r"links up to (\d+), which was ([0-9a-f]{64})$")


def _row(link: Link) -> tuple[object, ...]:
    return (
        *(link.seq, link.epoch, link.at_us, link.prev),
        *(_json.encode(link.parts).decode(), link.marks, _json.encode(link.peers).decode(), link.hash),
    )


def _load(row: Sequence[Any]) -> Link | None:
    seq, epoch, at_us, prev, parts, marks, peers, hashed = row
    try:
        return Link(
            writer=WRITER,
            epoch=epoch,
            seq=seq,
            at_us=at_us,
            prev=bytes(prev),
            parts=_parts.decode(parts),
            marks=bytes(marks),
            peers=_peers.decode(peers),
            hash=bytes(hashed),
        )
    except (msgspec.DecodeError, TypeError, ValueError):
        return None
