"""All SQL of the gateway: plain functions over one connection, in one transaction that somebody else commits."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from doorward.kit.ids import before_uuid7
from doorward.spg.engines import record
from doorward.spg.ports import Pair, Restart
from doorward.spg.rules.facts import DAY_US, Charge, Control, Held, Intent, Mark, Request, Sample
from doorward.wire.grants import GrantDocument, TrustDocument
from doorward.wire.messages import Command, ProvisionedDevice, Result, Up

STORE_FILE = "gateway.sqlite"
"""In the gateway's directory."""

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE device (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE permission (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, ended_version INTEGER NOT NULL DEFAULT -1,
        document BLOB, signed TEXT, lease_until_us INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE inbox (
        id TEXT PRIMARY KEY, party TEXT NOT NULL, party_ref TEXT, state TEXT NOT NULL, attempt INTEGER NOT NULL,
        received_us INTEGER NOT NULL, start_us INTEGER NOT NULL, act_by_us INTEGER NOT NULL,
        command BLOB, result BLOB) WITHOUT ROWID;
    CREATE UNIQUE INDEX inbox_ref ON inbox (party, party_ref) WHERE party_ref IS NOT NULL;
    CREATE INDEX inbox_open ON inbox (state) WHERE state = 'RECEIVED';
    CREATE INDEX inbox_age ON inbox (received_us);
    CREATE TABLE charge (
        id TEXT PRIMARY KEY, party TEXT NOT NULL, service_point TEXT NOT NULL, charge_us INTEGER NOT NULL,
        count INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE acted (party TEXT NOT NULL, device TEXT NOT NULL, at_us INTEGER NOT NULL);
    CREATE TABLE intent (id TEXT NOT NULL, device TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, device))
        WITHOUT ROWID;
    CREATE TABLE control (device TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, step TEXT NOT NULL, message TEXT NOT NULL,
        actor TEXT NOT NULL, party TEXT NOT NULL, service_point TEXT NOT NULL, device TEXT NOT NULL,
        outcome TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE INDEX journal_message ON journal (message) WHERE message <> '';
    CREATE TRIGGER journal_is_not_changed BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
    CREATE TABLE sample (
        device TEXT NOT NULL, at_us INTEGER NOT NULL, state TEXT NOT NULL, power_w REAL NOT NULL,
        energy_wh REAL NOT NULL, PRIMARY KEY (device, at_us)) WITHOUT ROWID;
    """,
    "CREATE TABLE trust (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), document BLOB NOT NULL)",
    record.TABLES,
)
"""One step of the schema after another; ``PRAGMA user_version`` counts how many were taken."""

PRUNED_TOGETHER_MAX = 500

_encode = msgspec.json.encode
_up = msgspec.json.Decoder(Up)
_command = msgspec.json.Decoder(Command)
_result = msgspec.json.Decoder(Result)
_device = msgspec.json.Decoder(ProvisionedDevice)
_trusted = msgspec.json.Decoder(TrustDocument)
_document = msgspec.json.Decoder(GrantDocument)
_intent = msgspec.json.Decoder(Intent)
_control = msgspec.json.Decoder(Control)


class NewerStore(Exception):
    """The store was written by a newer version of Doorward."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, one transaction a step. Raises :class:`NewerStore`."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerStore(f"the store has schema {version}, this version knows {len(MIGRATIONS)}")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


class SqliteBooks(record.Record):
    """The gateway's books over a connection (a :class:`~doorward.spg.ports.Books`)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    # meta

    def _meta(self, name: str, default: int = 0) -> int:
        row = self._sql.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else default

    def _set_meta(self, name: str, value: int) -> None:
        self._sql.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def open(self, now_us: int) -> Restart:
        """Count the boot and return everything that the gateway keeps in memory."""
        boot = self._meta("boot") + 1
        self._set_meta("boot", boot)
        time_us = self._meta("time_us")
        since_us = max(time_us, now_us) - 2 * DAY_US
        rows = self._sql.execute("SELECT id, ended_version FROM permission WHERE ended_version >= 0")
        opened = self._sql.execute("SELECT id FROM inbox WHERE state = 'RECEIVED'").fetchall()
        return Restart(
            boot=boot,
            born_us=self._meta("born_us"),
            time_us=time_us,
            mark=Mark(self._meta("mark_epoch", -1), self._meta("mark_counter", -1)),
            provision_version=self._meta("provision_version"),
            devices=[
                _device.decode(body) for (body,) in self._sql.execute("SELECT body FROM device ORDER BY id")
            ],
            grants=self._grants(),
            trust=self._trust(),
            ended={str(grant): int(version) for grant, version in rows},
            controls=[_control.decode(body) for (body,) in self._sql.execute("SELECT body FROM control")],
            intents=[_intent.decode(body) for (body,) in self._sql.execute("SELECT body FROM intent")],
            opened=self._requests([row[0] for row in opened]),
            charges=self._charges(since_us),
            head=self.head(),
            acted=list(
                self._sql.execute("SELECT party, device, at_us FROM acted WHERE at_us > ?", (since_us,))
            ),
        )

    def born(self, at_us: int) -> None:
        """Record when the store began, once."""
        self._sql.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('born_us', ?)", (at_us,))

    def keep_time(self, now_us: int, mark: Mark | None = None) -> None:
        """Raise the latest time seen, and the high-water mark of frames where one is given."""
        self._sql.execute(
            "INSERT INTO meta (name, value) VALUES ('time_us', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            (now_us,),
        )
        if mark is not None:
            self._set_meta("mark_epoch", mark.epoch)
            self._set_meta("mark_counter", mark.counter)

    # requests

    def seen(
        self, ids: Collection[str], refs: Collection[Pair]
    ) -> tuple[dict[str, Request], dict[Pair, str]]:
        """Requests and tombstones by id; ids of requests by (party, the party's own key)."""
        found = {request.id: request for request in self._requests(ids)}
        taken: dict[Pair, str] = {}
        for party, ref in refs:
            row = self._sql.execute(
                "SELECT id FROM inbox WHERE party = ? AND party_ref = ?", (party, ref)
            ).fetchone()
            if row:
                taken[party, ref] = str(row[0])
        return found, taken

    def _requests(self, ids: Collection[str]) -> list[Request]:
        rows = self._sql.execute(
            "SELECT id, party, party_ref, state, attempt, received_us, start_us, act_by_us, command, result"
            " FROM inbox WHERE id IN (SELECT value FROM json_each(?)) ORDER BY received_us, id",
            (_encode(list(ids)).decode(),),
        )
        return [
            Request(
                id=row[0],
                party=row[1],
                party_ref=row[2] or "",
                state=row[3],
                attempt=row[4],
                received_us=row[5],
                start_us=row[6],
                act_by_us=row[7],
                command=_command.decode(row[8]) if row[8] is not None else None,
                result=_result.decode(row[9]) if row[9] is not None else None,
            )
            for row in rows
        ]

    def add_requests(self, requests: Sequence[Request], charges: Sequence[Charge]) -> None:
        """Insert into the inbox (a tombstone of the same id is replaced), and charge."""
        self._sql.executemany(
            "INSERT OR REPLACE INTO inbox (id, party, party_ref, state, attempt, received_us, start_us, act_by_us,"
            " command, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    request.id,
                    request.party,
                    request.party_ref or None,
                    request.state,
                    request.attempt,
                    request.received_us,
                    request.start_us,
                    request.act_by_us,
                    _encode(request.command) if request.command is not None else None,
                    _encode(request.result) if request.result is not None else None,
                )
                for request in requests
            ],
        )
        self.settle(charges)

    def finish(self, results: Mapping[str, Result]) -> None:
        """Store results and drop the intents of these requests."""
        self._sql.executemany(
            "UPDATE inbox SET state = ?, result = ? WHERE id = ? AND state = 'RECEIVED'",
            [(result.state, _encode(result), id) for id, result in results.items()],
        )
        self._sql.executemany("DELETE FROM intent WHERE id = ?", [(id,) for id in results])

    def settle(self, charges: Sequence[Charge]) -> None:
        """Write charges, or smaller counts of them."""
        self._sql.executemany(
            "INSERT OR REPLACE INTO charge (id, party, service_point, charge_us, count) VALUES (?, ?, ?, ?, ?)",
            [(c.id, c.party, c.service_point, c.charge_us, c.count) for c in charges],
        )

    def _charges(self, since_us: int) -> list[Charge]:
        rows = self._sql.execute(
            "SELECT id, party, service_point, charge_us, count FROM charge WHERE charge_us > ? ORDER BY charge_us",
            (since_us,),
        )
        return [
            Charge(id=row[0], party=row[1], service_point=row[2], charge_us=row[3], count=row[4])
            for row in rows
        ]

    # acts

    def add_intents(self, intents: Sequence[Intent], acted: Sequence[tuple[str, str, int]]) -> None:
        """Store what is about to be done, and count it as (party, device, time).

        A request that was cancelled in the meantime has its result: it will not be done, and leaves nothing.
        """
        self._sql.executemany(
            "INSERT INTO intent (id, device, body) SELECT ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM inbox WHERE id = ? AND state <> 'RECEIVED')",
            [(intent.id, intent.device, _encode(intent), intent.id) for intent in intents],
        )
        self._sql.executemany("INSERT INTO acted (party, device, at_us) VALUES (?, ?, ?)", acted)

    def put_controls(self, controls: Sequence[Control]) -> None:
        """Insert or replace running controls, one per device."""
        self._sql.executemany(
            "INSERT OR REPLACE INTO control (device, body) VALUES (?, ?)",
            [(control.device, _encode(control)) for control in controls],
        )

    def drop_controls(self, devices: Sequence[str]) -> None:
        """Forget the controls of these devices."""
        self._sql.executemany("DELETE FROM control WHERE device = ?", [(device,) for device in devices])

    # what the gateway may

    def put_provision(self, version: int, devices: Sequence[ProvisionedDevice]) -> None:
        """Replace the list of devices."""
        self._set_meta("provision_version", version)
        self._sql.execute("DELETE FROM device")
        self._sql.executemany(
            "INSERT INTO device (id, body) VALUES (?, ?)",
            [(device.id, _encode(device)) for device in devices],
        )

    def put_grants(self, grants: Mapping[str, Held]) -> None:
        """Insert or replace grants with their leases."""
        self._sql.executemany(
            "INSERT INTO permission (id, version, document, signed, lease_until_us) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document,"
            " signed = excluded.signed, lease_until_us = excluded.lease_until_us",
            [
                (grant, held.document.version, _encode(held.document), held.signed, held.lease_until_us)
                for grant, held in grants.items()
            ],
        )

    def end_grants(self, versions: Mapping[str, int]) -> None:
        """Record that these versions, and all before, were withdrawn; their documents are forgotten."""
        self._sql.executemany(
            "INSERT INTO permission (id, version, ended_version) VALUES (?1, ?2, ?2)"
            " ON CONFLICT (id) DO UPDATE SET ended_version = max(ended_version, excluded.ended_version),"
            " document = iif(version <= excluded.ended_version, NULL, document),"
            " signed = iif(version <= excluded.ended_version, NULL, signed)",
            list(versions.items()),
        )

    def put_trust(self, trust: TrustDocument) -> None:
        """Replace whom the gateway believes."""
        self._sql.execute(
            "INSERT OR REPLACE INTO trust (only_one, document) VALUES (1, ?)", (_encode(trust),)
        )

    def _trust(self) -> TrustDocument | None:
        row = self._sql.execute("SELECT document FROM trust").fetchone()
        return _trusted.decode(row[0]) if row else None

    def _grants(self) -> dict[str, Held]:
        rows = self._sql.execute(
            "SELECT id, document, signed, lease_until_us FROM permission WHERE document IS NOT NULL"
        )
        return {
            row[0]: Held(document=_document.decode(row[1]), signed=row[2], lease_until_us=row[3])
            for row in rows
        }

    # the outbox

    def put_out(self, messages: Sequence[Up]) -> list[Up]:
        """Append to the outbox; return the messages with their ``seq``, which is never used again."""
        if not messages:
            return []
        seq = self._meta("seq")
        self._set_meta("seq", seq + len(messages))
        numbered: list[Up] = [replace(message, seq=seq + n) for n, message in enumerate(messages, 1)]
        self._sql.executemany(
            "INSERT INTO outbox (seq, body) VALUES (?, ?)",
            [(seq + n, _encode(message)) for n, message in enumerate(numbered, 1)],
        )
        return numbered

    def outbox_after(self, seq: int, limit: int) -> list[Up]:
        """Unacknowledged messages above ``seq``, in order."""
        rows = self._sql.execute("SELECT body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        return [_up.decode(body) for (body,) in rows]

    def outbox_size(self) -> int:
        """How many messages wait for an acknowledgement."""
        (count,) = self._sql.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)

    def acknowledged(self, seqs: Collection[int]) -> None:
        """Remove from the outbox."""
        self._sql.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])

    # samples

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Store samples; one that is there already stays."""
        self._sql.executemany(
            "INSERT OR IGNORE INTO sample (device, at_us, state, power_w, energy_wh) VALUES (?, ?, ?, ?, ?)",
            [msgspec.structs.astuple(sample) for sample in samples],
        )

    def samples(self, device: str, begin_us: int, end_us: int) -> list[Sample]:
        """Samples of a device in [begin, end), by time."""
        rows = self._sql.execute(
            "SELECT device, at_us, state, power_w, energy_wh FROM sample"
            " WHERE device = ? AND at_us >= ? AND at_us < ? ORDER BY at_us",
            (device, begin_us, end_us),
        )
        return [
            Sample(device=row[0], at_us=row[1], state=row[2], power_w=row[3], energy_wh=row[4])
            for row in rows
        ]

    def prune(
        self,
        *,
        inbox_us: int,
        payload_us: int,
        journal_us: int,
        samples_us: int,
        counts_us: int,
        now_us: int,
    ) -> int:
        """Remove a slice of what is older than these times; return how many rows went.

        An id goes only when it is old by its own time too: what came while the clock was not to be trusted
        may be dated decades back."""
        slices = (
            (
                "DELETE FROM inbox WHERE id IN"
                " (SELECT id FROM inbox WHERE received_us < ? AND id < ? AND state <> 'RECEIVED' LIMIT ?)",
                (inbox_us, before_uuid7(inbox_us)),
            ),
            (
                "UPDATE inbox SET command = NULL, result = NULL WHERE id IN (SELECT id FROM inbox"
                " WHERE received_us < ? AND id < ? AND state <> 'RECEIVED' AND command IS NOT NULL LIMIT ?)",
                (payload_us, before_uuid7(payload_us)),
            ),
            (
                "DELETE FROM sample WHERE (device, at_us) IN"
                " (SELECT device, at_us FROM sample WHERE at_us < ? LIMIT ?)",
                (samples_us,),
            ),
            (
                "DELETE FROM charge WHERE id IN (SELECT id FROM charge WHERE charge_us < ? LIMIT ?)",
                (counts_us,),
            ),
            (
                "DELETE FROM acted WHERE rowid IN (SELECT rowid FROM acted WHERE at_us < ? LIMIT ?)",
                (counts_us,),
            ),
        )
        gone = self.prune_record(journal_us, now_us)
        return gone + sum(
            self._sql.execute(statement, (*before, PRUNED_TOGETHER_MAX)).rowcount
            for statement, before in slices
        )
