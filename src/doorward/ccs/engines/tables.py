"""The tables of the CCS. Their history is in ``migrations``; a test says that both agree.

Ids are text in byte order; times are UTC microseconds; documents of ours are JSON text that a person at
a prompt can read, payloads of others are bytes. ``0`` and ``''`` mean "not (yet)".
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
    true,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from doorward.ccs.rules.facts import FAR_US, LinkKind

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Byte order on both engines: UUIDv7 sorts by time, and cursors compare as the programs do.
Id = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer, "sqlite")


def _key(name: str = "id") -> Column[str]:
    return Column(name, Id, primary_key=True)


def _id(name: str, *references: SchemaItem, default: str | None = None) -> Column[str]:
    return Column(name, Id, *references, nullable=False, server_default=default)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _number(name: str, default: int | None = None) -> Column[int]:
    return _of(name, BigInteger(), None if default is None else str(default))


def _of(name: str, kind: "TypeEngine[int]", default: str | None = None) -> Column[int]:
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def _partial(name: str, *columns: Column[str] | Column[int] | Column[int | None], where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


# --- who ---------------------------------------------------------------------------------------------

tier = Table(
    "tier",
    metadata,
    _key("name"),
    _number("per_hour"),
    _number("per_day"),
    _number("response_s"),
    _number("top_priority"),
)

party = Table(
    "party",
    metadata,
    _key(),
    _text("name"),
    _text("state"),
    _text("auth"),
    _number("token_s"),
    _text("scopes"),
    _number("tokens_not_before_us", 0),
    _text("token_binding"),
    Column("signature_required", Boolean, nullable=False),
    _text("keys"),
    _number("calls_per_s"),
    _text("contact"),
    Column("utility", Boolean, nullable=False, server_default=false()),
    Column("kind", Text, nullable=False, server_default="third_party"),
)

credential = Table(
    "credential",
    metadata,
    _key(),
    _id("party", ForeignKey("party.id")),
    _text("kind"),
    _text("value"),
    _number("not_after_us"),
)
Index("ix_credential_party", credential.c.party)

endpoint = Table(
    "endpoint",
    metadata,
    _id("id"),
    _id("party", ForeignKey("party.id")),
    _text("url"),
    _text("mode"),
    _text("pin"),
    _text("state"),
    _text("secrets"),
    _text("kinds"),
    _text("ca"),
    PrimaryKeyConstraint("party", "id"),
)

subscription = Table(
    "subscription",
    metadata,
    _key(),
    _id("system", ForeignKey("party.id")),
    _text("kinds"),
    _id("party", default=""),
    _id("service_point", default=""),
    _id("gateway", default=""),
    Column("failed_only", Boolean, nullable=False, server_default=false()),
    _id("endpoint", default=""),
    _text("state"),
    _text("cursor"),
    _number("next_us", 0),
    _of("attempts", Integer(), "0"),
    _number("failing_since_us", 0),
    _text("why"),
)
"""What other systems of the utility are pushed, and how far that has come."""

revoked_token = Table("revoked_token", metadata, _key(), _number("until_us"))
proof = Table("proof", metadata, _key(), _number("until_us"))
"""One-time ids that were used, until nobody could use them any more."""
Index("ix_revoked_token_until", revoked_token.c.until_us)
Index("ix_proof_until", proof.c.until_us)


# --- where -------------------------------------------------------------------------------------------

customer = Table("customer", metadata, _key(), _text("name"), _text("contact"))
account = Table("account", metadata, _key(), _text("name"))
service_point = Table(
    "service_point",
    metadata,
    _key(),
    _text("service"),
    _text("timezone"),
    _text("address"),
    _text("area"),
)
meter = Table("meter", metadata, _key(), _text("serial"), _text("model"))

gateway = Table(
    "gateway",
    metadata,
    _key(),
    _of("partition", Integer()),
    _text("state"),
    _number("key_generation", 0),
    _text("certificate"),
    _text("certificate_before"),
    _id("code_hash", default=""),
    _number("code_expires_us", 0),
    _number("up_epoch", 0),
    _number("up_counter", 0),
    _number("desired_version", 0),
    _number("applied_version", 0),
    _number("applied_us", 0),
    _number("seen_us", 0),
)
_partial("ix_gateway_code", gateway.c.code_hash, where="code_hash <> ''")
_partial("ix_gateway_behind", gateway.c.partition, gateway.c.id, where="applied_version < desired_version")

device = Table(
    "device",
    metadata,
    _key(),
    _text("device_class"),
    _text("name"),
    _text("protocol"),
    _text("model"),
    _text("address"),
    _text("serial"),
    Column("rated_w", Double, nullable=False, server_default=text("0")),
)


one_open_per = {
    LinkKind.CUSTOMER_ACCOUNT: ("a", "b"),
    LinkKind.ACCOUNT_SERVICE_POINT: ("b",),
    LinkKind.SERVICE_POINT_METER: ("b",),
    LinkKind.SERVICE_POINT_GATEWAY: ("a",),
    LinkKind.DEVICE_SERVICE_POINT: ("a",),
}
"""Which side of a link may have one open link at a time."""


def _link(kind: LinkKind, a: Table, b: Table) -> Table:
    """A dated link between two things."""
    table = Table(
        kind.value,
        metadata,
        _id("a", ForeignKey(a.c.id, name=f"fk_{kind.value}_a")),
        _id("b", ForeignKey(b.c.id, name=f"fk_{kind.value}_b")),
        _number("since_us"),
        _number("until_us", FAR_US),
        PrimaryKeyConstraint("a", "b", "since_us"),
    )
    Index(f"ix_{kind.value}_b", table.c.b, table.c.until_us)
    where = text(f"until_us = {FAR_US}")
    columns = [table.c[name] for name in one_open_per[kind]]
    Index(f"uq_{kind.value}_open", *columns, unique=True, postgresql_where=where, sqlite_where=where)
    return table


links = {
    LinkKind.CUSTOMER_ACCOUNT: _link(LinkKind.CUSTOMER_ACCOUNT, customer, account),
    LinkKind.ACCOUNT_SERVICE_POINT: _link(LinkKind.ACCOUNT_SERVICE_POINT, account, service_point),
    LinkKind.SERVICE_POINT_METER: _link(LinkKind.SERVICE_POINT_METER, service_point, meter),
    LinkKind.SERVICE_POINT_GATEWAY: _link(LinkKind.SERVICE_POINT_GATEWAY, service_point, gateway),
    LinkKind.DEVICE_SERVICE_POINT: _link(LinkKind.DEVICE_SERVICE_POINT, device, service_point),
}
at_gateway = links[LinkKind.SERVICE_POINT_GATEWAY]
at_service_point = links[LinkKind.DEVICE_SERVICE_POINT]


# --- permission --------------------------------------------------------------------------------------

grant = Table(
    "grant",
    metadata,
    _key(),
    _id("party", ForeignKey("party.id")),
    _id("service_point", ForeignKey("service_point.id")),
    _number("version"),
    _text("state"),
    _text("tier"),
    _text("document"),
    _text("signed"),
    _number("lease_until_us", 0),
    _text("lease_signed"),
    _number("changed_us", 0),
    _number("sequence"),
    _number("not_before_us"),
    _number("expires_us"),
    Column("shares", Boolean, nullable=False, server_default=true()),
)
"""The last three are the document's own, for counting who shares a service point's limits."""
Index("ix_grant_place", grant.c.service_point, grant.c.party)
Index("ix_grant_party_sequence", grant.c.party, grant.c.sequence)
_partial("ix_grant_lease", grant.c.lease_until_us, where="state = 'live' AND lease_until_us < expires_us")
_partial("ix_grant_withdrawn", grant.c.sequence, where="state = 'withdrawn'")
Index(
    "uq_grant_live",
    grant.c.service_point,
    grant.c.party,
    unique=True,
    postgresql_where=text("state = 'live'"),
    sqlite_where=text("state = 'live'"),
)

message_format = Table(
    "format",
    metadata,
    _id("name"),
    _number("version"),
    _text("state"),
    Column("document", LargeBinary, nullable=False),
    PrimaryKeyConstraint("name", "version"),
)

grant_record = Table(
    "grant_record",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _id("grant"),
    _number("version"),
    _text("state"),
    _id("party"),
    _id("service_point"),
    _number("at_us"),
    _text("signed"),
    _id("message"),
)
"""What permissions have been: a row for each change, which the journal's ``message`` covers."""
_r = grant_record.c
Index("ix_grant_record_place", _r.service_point, _r.party, _r.sequence)

counter = Table("counter", metadata, _key("name"), _number("value", 0))
"""Numbers that grow in the order of commits: whoever takes one holds the row until it commits."""


# --- people and their homes (the portal) ---------------------------------------------------------------

person = Table(
    "person",
    metadata,
    _key(),
    _text("role"),
    _text("name"),
    _id("login"),
    _id("of", default=""),
    _text("email"),
    _text("password"),
    _text("state"),
    _of("failed", Integer(), "0"),
    _number("locked_until_us", 0),
    _number("created_us", 0),
    Column("fahrenheit", Boolean, nullable=False),
)
Index("uq_person_login", person.c.login, unique=True)
Index("ix_person_of", person.c.of)

session = Table(
    "session",
    metadata,
    _key(),
    _id("person", ForeignKey("person.id")),
    _number("created_us"),
    _number("until_us"),
)
Index("ix_session_person", session.c.person)
Index("ix_session_until", session.c.until_us)

offer = Table(
    "offer",
    metadata,
    _id("party", ForeignKey("party.id")),
    _text("legal_name"),
    _text("purpose"),
    _text("website"),
    _text("tier"),
    _text("wants"),
    _number("verified_us", 0),
    _text("agreed_by"),
    _number("agreed_us", 0),
    Column("open", Boolean, nullable=False),
    PrimaryKeyConstraint("party"),
)

contract = Table(
    "contract",
    metadata,
    _key(),
    _id("party", ForeignKey("party.id")),
    _id("customer"),
    _id("service_point", ForeignKey("service_point.id")),
    _text("tier"),
    _text("state"),
    _text("text"),
    _text("text_hash"),
    _number("starts_us"),
    _number("ends_us"),
    _id("drafted_by", default=""),
    _number("drafted_us", 0),
    _id("agreed_by", default=""),
    _number("agreed_us", 0),
    _id("signed_by", default=""),
    _number("signed_us", 0),
    _text("signed_how"),
    _id("approved_by", default=""),
    _number("approved_us", 0),
    _id("ended_by", default=""),
    _number("ended_us", 0),
    _text("ended_why"),
)
Index("ix_contract_place", contract.c.service_point, contract.c.party)
Index("ix_contract_party", contract.c.party, contract.c.id)
_partial("ix_contract_waiting", contract.c.signed_us, where="state = 'signed'")
Index(
    "uq_contract_open",
    contract.c.service_point,
    contract.c.party,
    unique=True,
    postgresql_where=text("state IN ('drafted', 'signed', 'approved')"),
    sqlite_where=text("state IN ('drafted', 'signed', 'approved')"),
)

access_change = Table(
    "access_change",
    metadata,
    _key(),
    _text("kind"),
    _id("party"),
    _id("service_point"),
    _id("grant"),
    _number("version"),
    _number("at_us"),
    _number("asked_us"),
    _id("by", default=""),
    _text("by_name"),
    _text("by_role"),
    _text("why"),
    _text("words"),
    _id("contract", default=""),
    _id("gateway", default=""),
    _number("gateway_version", 0),
    _number("applied_us", 0),
    _text("failed"),
)
Index("ix_access_change_place", access_change.c.service_point, access_change.c.id)
_partial("ix_access_change_open", access_change.c.gateway, where="applied_us = 0 AND failed = ''")

home_note = Table(
    "home_note",
    metadata,
    _key(),
    _id("service_point"),
    _text("kind"),
    _number("at_us"),
    _text("words"),
    _id("by", default=""),
    _text("by_name"),
    _text("by_role"),
    _id("party", default=""),
    _id("device", default=""),
    _text("why"),
)
Index("ix_home_note_place", home_note.c.service_point, home_note.c.id)


search_word = Table(
    "search_word",
    metadata,
    _id("word"),
    _id("kind"),
    _id("thing"),
    PrimaryKeyConstraint("kind", "word", "thing"),
)
"""What homes are found by: a word of a customer, an account, a service point or a device."""
Index("ix_search_word_thing", search_word.c.thing, search_word.c.kind)

party_note = Table(
    "party_note",
    metadata,
    _key(),
    _id("party"),
    _number("at_us"),
    _text("words"),
    _id("by", default=""),
    _text("by_name"),
)
Index("ix_party_note_party", party_note.c.party, party_note.c.id)


# --- what --------------------------------------------------------------------------------------------

request = Table(
    "request",
    metadata,
    _key(),
    _id("party"),
    _id("service_point"),
    _id("gateway"),
    _of("partition", Integer()),
    _text("scope"),
    _text("operation"),
    _id("grant"),
    _number("grant_version"),
    _text("tier"),
    _of("klass", Integer()),
    _number("received_us"),
    _number("charge_us"),
    _number("due_us"),
    _number("warn_us"),
    _number("act_before_us"),
    _text("state"),
    Column("ready_us", BigInteger),
    _id("device", default=""),
    _text("format"),
    Column("body", LargeBinary, nullable=False),
    _text("cause"),
    _number("start_us", 0),
    _number("until_us", 0),
    _id("campaign", default=""),
    _text("wish"),
    _id("key", default=""),
    _text("body_hash"),
    _text("signature"),
    _of("charged", Integer()),
    _of("attempt", Integer(), "0"),
    _number("sent_us", 0),
    _number("at_gateway_us", 0),
    _number("to_han_us", 0),
    _number("answered_us", 0),
    _number("passed_up_us", 0),
    _number("taken_us", 0),
    _number("final_us", 0),
    Column("reason", Text),
    _text("detail"),
    Column("result", LargeBinary, nullable=False),
    _text("answer"),
    _number("answer_us", 0),
    _text("settlement"),
    Column("cancel_asked", Boolean, nullable=False),
    _text("worker"),
    _of("spread_s", Integer(), "0"),
    _text("salt"),
)
_c = request.c
Index("ix_request_party", _c.party, _c.id)
Index("ix_request_place", _c.service_point, _c.id)
_partial("ix_request_campaign", _c.party, _c.campaign, _c.id, where="campaign <> ''")
_partial("ix_request_ready_at", _c.gateway, _c.klass, _c.due_us, where="ready_us IS NOT NULL")
_partial("ix_request_ready", _c.ready_us, _c.partition, _c.gateway, where="ready_us IS NOT NULL")
_partial("ix_request_due", _c.due_us, where="final_us = 0")
_partial("ix_request_warn", _c.warn_us, where="final_us = 0 AND warn_us <> 0")
_partial("ix_request_unanswered", _c.final_us, where="final_us <> 0 AND answer = ''")
_partial("ix_request_open_at", _c.gateway, where="state IN ('SENT', 'AT_GATEWAY')")
Index(
    "uq_request_key",
    _c.party,
    _c.key,
    unique=True,
    postgresql_where=text("key <> ''"),
    sqlite_where=text("key <> ''"),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", Serial, primary_key=True),
    _of("day", Integer()),
    _id("message"),
    _number("at_us"),
    _id("party"),
    _id("service_point"),
    _id("gateway"),
    _id("device"),
    _text("steps"),
    _of("writer", Integer(), "0"),
    _number("link", 0),
    _text("payload"),
)
"""Append-only. ``day`` is the day of the message's UUIDv7, by which PostgreSQL partitions. ``(writer, link)``
is the link of the chain that covers the row, ``payload`` the digest of the payload that it brought."""
Index("ix_journal_message", journal.c.day, journal.c.message)
Index("ix_journal_link", journal.c.writer, journal.c.link)

chain = Table(
    "chain",
    metadata,
    _of("writer", Integer()),
    _number("epoch"),
    _number("seq"),
    _number("at_us"),
    Column("prev", LargeBinary, nullable=False),
    _text("parts"),
    Column("marks", LargeBinary, nullable=False),
    _text("peers"),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("writer", "seq"),
    sqlite_with_rowid=False,
)
"""The links of the journal's chains (:mod:`doorward.wire.chain`)."""

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _number("at_us"),
    _text("document"),
)
tombstone = Table(
    "tombstone",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    _number("at_us"),
    _text("document"),
)
"""Days of which the journal's rows were dropped."""

event = Table(
    "event",
    metadata,
    Column("seq", Serial, primary_key=True),
    _number("xact", 0),
    _id("id"),
    _id("party"),
    _text("kind"),
    _number("created_us"),
    _id("request"),
    _id("service_point"),
    _id("device"),
    _id("grant"),
    Column("data", LargeBinary, nullable=False),
    _text("webhook"),
    _number("next_us", 0),
    _of("attempts", Integer(), "0"),
    _id("gateway", default=""),
    sqlite_autoincrement=True,
)
"""``(xact, seq)`` is the cursor: the transaction's id where transactions run side by side, else 0."""
Index("uq_event_id", event.c.id, unique=True)
Index("ix_event_feed", event.c.party, event.c.xact, event.c.seq)
Index("ix_event_all", event.c.xact, event.c.seq)
_partial("ix_event_due", event.c.next_us, where="webhook = 'pending'")
_partial("ix_event_request", event.c.request, where="request <> ''")

limit_log = Table(
    "limit_log",
    metadata,
    _key("key"),
    _number("last_us", 0),
    _number("base_us", 0),
    Column("times", LargeBinary, nullable=False),
)
"""Charge times: whole milliseconds after ``base_us`` as little-endian 32-bit numbers."""


# --- what the customer service system says (I01, I02) ----------------------------------------------------

css_event = Table(
    "css_event",
    metadata,
    _key(),
    _id("system", ForeignKey("party.id")),
    _id("key"),
    _text("body_hash"),
    _text("kind"),
    _id("account", default=""),
    _id("customer", default=""),
    _id("service_point", default=""),
    _number("at_us"),
    _number("sequence", 0),
    _number("received_us"),
    _text("outcome"),
    _text("detail"),
    _text("changes"),
    _number("settled_us", 0),
)
Index("uq_css_event_key", css_event.c.system, css_event.c.key, unique=True)
_partial("ix_css_event_waiting", css_event.c.id, where="settled_us = 0")

css_mark = Table("css_mark", metadata, _key("subject"), _number("at_us", 0), _number("sequence", 0))
"""The newest that was said of each subject: what comes late does not undo it."""

customer_flag = Table(
    "customer_flag",
    metadata,
    _id("customer"),
    _id("kind"),
    _number("since_us"),
    PrimaryKeyConstraint("customer", "kind"),
)
protected = Table("protected", metadata, _key("service_point"), _text("kinds"))
"""Homes of flagged customers, for the accepting check: follows ``customer_flag`` and who lives where."""


# --- what moves load (X04) ---------------------------------------------------------------------------

fleet_log = Table("fleet_log", metadata, _key("key"), _text("moved"), _text("held"))
"""W by key and direction: moved per slot of time, and held until a slot's end; JSON lists of pairs."""

fleet_hold = Table(
    "fleet_hold",
    metadata,
    _id("party"),
    _id("subject"),
    _id("request"),
    _id("area", default=""),
    _number("raise_w"),
    _number("lower_w"),
    _number("at_us"),
    _number("until_us"),
    Column("let_go", Boolean, nullable=False),
    Column("single", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("party", "subject"),
)
"""The last control of a party on a device (or on a service point as a whole)."""
_partial("ix_fleet_hold_request", fleet_hold.c.request, where="NOT let_go")

quarantine = Table(
    "quarantine",
    metadata,
    _id("request", ForeignKey("request.id")),
    _id("party"),
    _id("subject"),
    _id("area", default=""),
    _id("campaign", default=""),
    _number("raise_w"),
    _number("lower_w"),
    _number("since_us"),
    _text("why"),
    _id("first_by", default=""),
    _number("first_us", 0),
    PrimaryKeyConstraint("request"),
)
"""Requests over a cap, until two operators agree or their deadline passes."""
Index("ix_quarantine_party", quarantine.c.party)


# --- several workers ---------------------------------------------------------------------------------

worker = Table("worker", metadata, _key("name"), _number("until_us"))
lease = Table(
    "lease",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    _id("worker", default=""),
    _number("epoch", 0),
    _number("until_us", 0),
)
Index("ix_lease_worker", lease.c.worker)
