"""All tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _transaction() -> sa.TextClause:
    """The transaction's id where transactions run side by side: feeds are read in its order."""
    return sa.text("pg_current_xact_id()::text::bigint" if _postgresql() else "0")


def _journal() -> None:
    """On PostgreSQL partitioned by day; the default partition takes what nobody made room for."""
    partitioned = _postgresql()
    if partitioned:
        op.execute("CREATE SEQUENCE journal_seq")
    key = ("day", "message", "seq") if partitioned else ("seq",)
    seq_default = sa.text("nextval('journal_seq')") if partitioned else None
    op.create_table(
        "journal",
        sa.Column("seq", SERIAL, server_default=seq_default, autoincrement=not partitioned, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("message", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("gateway", ID, nullable=False),
        sa.Column("device", ID, nullable=False),
        sa.Column("steps", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_journal"),
        postgresql_partition_by="RANGE (day)",
    )
    if partitioned:
        op.execute("CREATE TABLE journal_default PARTITION OF journal DEFAULT")
    else:
        op.create_index("ix_journal_message", "journal", ["day", "message"])


def _rows() -> None:
    """Rows that are there from the beginning: counters, and a lease for each partition."""
    op.execute("INSERT INTO counter (name, value) VALUES ('format', 0), ('grant', 0)")
    op.execute(
        "INSERT INTO lease (partition, worker, epoch, until_us) "
        "WITH RECURSIVE every (number) AS "
        "(SELECT 0 UNION ALL SELECT number + 1 FROM every WHERE number < 255) "
        "SELECT number, '', 0, 0 FROM every"
    )


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "account",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
    )
    op.create_table(
        "counter",
        sa.Column("name", ID, nullable=False),
        sa.Column("value", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )
    op.create_table(
        "customer",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("contact", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_customer"),
    )
    op.create_table(
        "device",
        sa.Column("id", ID, nullable=False),
        sa.Column("device_class", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("protocol", sa.Text(), server_default="", nullable=False),
        sa.Column("model", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("serial", sa.Text(), server_default="", nullable=False),
        sa.Column("rated_w", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
    )
    op.create_table(
        "event",
        sa.Column("seq", SERIAL, nullable=False),
        sa.Column("xact", sa.BigInteger(), server_default=_transaction(), nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("request", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("device", ID, nullable=False),
        sa.Column("grant", ID, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("webhook", sa.Text(), server_default="", nullable=False),
        sa.Column("next_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_event_due",
        "event",
        ["next_us"],
        unique=False,
        postgresql_where=sa.text("webhook = 'pending'"),
        sqlite_where=sa.text("webhook = 'pending'"),
    )
    op.create_index("ix_event_feed", "event", ["party", "xact", "seq"], unique=False)
    op.create_index(
        "ix_event_request",
        "event",
        ["request"],
        unique=False,
        postgresql_where=sa.text("request <> ''"),
        sqlite_where=sa.text("request <> ''"),
    )
    op.create_index("uq_event_id", "event", ["id"], unique=True)
    op.create_table(
        "format",
        sa.Column("name", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_format"),
    )
    op.create_table(
        "gateway",
        sa.Column("id", ID, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("key_generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("certificate", sa.Text(), server_default="", nullable=False),
        sa.Column("code_hash", ID, server_default="", nullable=False),
        sa.Column("code_expires_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("up_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("up_counter", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("desired_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("applied_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("applied_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gateway"),
    )
    op.create_index(
        "ix_gateway_behind",
        "gateway",
        ["partition", "id"],
        unique=False,
        postgresql_where=sa.text("applied_version < desired_version"),
        sqlite_where=sa.text("applied_version < desired_version"),
    )
    op.create_index(
        "ix_gateway_code",
        "gateway",
        ["code_hash"],
        unique=False,
        postgresql_where=sa.text("code_hash <> ''"),
        sqlite_where=sa.text("code_hash <> ''"),
    )
    _journal()
    op.create_table(
        "lease",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", ID, server_default="", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_lease"),
    )
    op.create_index("ix_lease_worker", "lease", ["worker"], unique=False)
    op.create_table(
        "limit_log",
        sa.Column("key", ID, nullable=False),
        sa.Column("last_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("base_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_limit_log"),
    )
    op.create_table(
        "meter",
        sa.Column("id", ID, nullable=False),
        sa.Column("serial", sa.Text(), server_default="", nullable=False),
        sa.Column("model", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_meter"),
    )
    op.create_table(
        "party",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("auth", sa.Text(), server_default="", nullable=False),
        sa.Column("token_s", sa.BigInteger(), nullable=False),
        sa.Column("scopes", sa.Text(), server_default="", nullable=False),
        sa.Column("tokens_not_before_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("signature_required", sa.Boolean(), nullable=False),
        sa.Column("keys", sa.Text(), server_default="", nullable=False),
        sa.Column("calls_per_s", sa.BigInteger(), nullable=False),
        sa.Column("contact", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_party"),
    )
    op.create_table(
        "proof",
        sa.Column("id", ID, nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_proof"),
    )
    op.create_index("ix_proof_until", "proof", ["until_us"], unique=False)
    op.create_table(
        "request",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("gateway", ID, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), server_default="", nullable=False),
        sa.Column("operation", sa.Text(), server_default="", nullable=False),
        sa.Column("grant", ID, nullable=False),
        sa.Column("grant_version", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), server_default="", nullable=False),
        sa.Column("klass", sa.Integer(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("charge_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("warn_us", sa.BigInteger(), nullable=False),
        sa.Column("act_before_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("ready_us", sa.BigInteger(), nullable=True),
        sa.Column("device", ID, server_default="", nullable=False),
        sa.Column("format", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.Text(), server_default="", nullable=False),
        sa.Column("start_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("campaign", ID, server_default="", nullable=False),
        sa.Column("wish", sa.Text(), server_default="", nullable=False),
        sa.Column("key", ID, server_default="", nullable=False),
        sa.Column("body_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("signature", sa.Text(), server_default="", nullable=False),
        sa.Column("charged", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("at_gateway_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("to_han_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("answered_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("passed_up_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("taken_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("final_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.Text(), server_default="", nullable=False),
        sa.Column("answer_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("settlement", sa.Text(), server_default="", nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("worker", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_request"),
    )
    op.create_index(
        "ix_request_campaign",
        "request",
        ["party", "campaign", "id"],
        unique=False,
        postgresql_where=sa.text("campaign <> ''"),
        sqlite_where=sa.text("campaign <> ''"),
    )
    op.create_index(
        "ix_request_due",
        "request",
        ["due_us"],
        unique=False,
        postgresql_where=sa.text("final_us = 0"),
        sqlite_where=sa.text("final_us = 0"),
    )
    op.create_index(
        "ix_request_open_at",
        "request",
        ["gateway"],
        unique=False,
        postgresql_where=sa.text("state IN ('SENT', 'AT_GATEWAY')"),
        sqlite_where=sa.text("state IN ('SENT', 'AT_GATEWAY')"),
    )
    op.create_index("ix_request_party", "request", ["party", "id"], unique=False)
    op.create_index(
        "ix_request_ready",
        "request",
        ["ready_us", "partition", "gateway"],
        unique=False,
        postgresql_where=sa.text("ready_us IS NOT NULL"),
        sqlite_where=sa.text("ready_us IS NOT NULL"),
    )
    op.create_index(
        "ix_request_ready_at",
        "request",
        ["gateway", "klass", "due_us"],
        unique=False,
        postgresql_where=sa.text("ready_us IS NOT NULL"),
        sqlite_where=sa.text("ready_us IS NOT NULL"),
    )
    op.create_index(
        "ix_request_unanswered",
        "request",
        ["final_us"],
        unique=False,
        postgresql_where=sa.text("final_us <> 0 AND answer = ''"),
        sqlite_where=sa.text("final_us <> 0 AND answer = ''"),
    )
    op.create_index(
        "ix_request_warn",
        "request",
        ["warn_us"],
        unique=False,
        postgresql_where=sa.text("final_us = 0 AND warn_us <> 0"),
        sqlite_where=sa.text("final_us = 0 AND warn_us <> 0"),
    )
    op.create_index(
        "uq_request_key",
        "request",
        ["party", "key"],
        unique=True,
        postgresql_where=sa.text("key <> ''"),
        sqlite_where=sa.text("key <> ''"),
    )
    op.create_table(
        "revoked_token",
        sa.Column("id", ID, nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revoked_token"),
    )
    op.create_index("ix_revoked_token_until", "revoked_token", ["until_us"], unique=False)
    op.create_table(
        "service_point",
        sa.Column("id", ID, nullable=False),
        sa.Column("service", sa.Text(), server_default="", nullable=False),
        sa.Column("timezone", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_service_point"),
    )
    op.create_table(
        "tier",
        sa.Column("name", ID, nullable=False),
        sa.Column("per_hour", sa.BigInteger(), nullable=False),
        sa.Column("per_day", sa.BigInteger(), nullable=False),
        sa.Column("response_s", sa.BigInteger(), nullable=False),
        sa.Column("top_priority", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tier"),
    )
    op.create_table(
        "worker",
        sa.Column("name", ID, nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    op.create_table(
        "account_service_point",
        sa.Column("a", ID, nullable=False),
        sa.Column("b", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("253402300799000000"), nullable=False),
        sa.ForeignKeyConstraint(["a"], ["account.id"], name="fk_account_service_point_a"),
        sa.ForeignKeyConstraint(["b"], ["service_point.id"], name="fk_account_service_point_b"),
        sa.PrimaryKeyConstraint("a", "b", "since_us", name="pk_account_service_point"),
    )
    op.create_index("ix_account_service_point_b", "account_service_point", ["b", "until_us"], unique=False)
    op.create_index(
        "uq_account_service_point_open",
        "account_service_point",
        ["b"],
        unique=True,
        postgresql_where=sa.text("until_us = 253402300799000000"),
        sqlite_where=sa.text("until_us = 253402300799000000"),
    )
    op.create_table(
        "credential",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.Column("not_after_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["party.id"], name="fk_credential_party"),
        sa.PrimaryKeyConstraint("id", name="pk_credential"),
    )
    op.create_index("ix_credential_party", "credential", ["party"], unique=False)
    op.create_table(
        "customer_account",
        sa.Column("a", ID, nullable=False),
        sa.Column("b", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("253402300799000000"), nullable=False),
        sa.ForeignKeyConstraint(["a"], ["customer.id"], name="fk_customer_account_a"),
        sa.ForeignKeyConstraint(["b"], ["account.id"], name="fk_customer_account_b"),
        sa.PrimaryKeyConstraint("a", "b", "since_us", name="pk_customer_account"),
    )
    op.create_index("ix_customer_account_b", "customer_account", ["b", "until_us"], unique=False)
    op.create_index(
        "uq_customer_account_open",
        "customer_account",
        ["a", "b"],
        unique=True,
        postgresql_where=sa.text("until_us = 253402300799000000"),
        sqlite_where=sa.text("until_us = 253402300799000000"),
    )
    op.create_table(
        "device_service_point",
        sa.Column("a", ID, nullable=False),
        sa.Column("b", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("253402300799000000"), nullable=False),
        sa.ForeignKeyConstraint(["a"], ["device.id"], name="fk_device_service_point_a"),
        sa.ForeignKeyConstraint(["b"], ["service_point.id"], name="fk_device_service_point_b"),
        sa.PrimaryKeyConstraint("a", "b", "since_us", name="pk_device_service_point"),
    )
    op.create_index("ix_device_service_point_b", "device_service_point", ["b", "until_us"], unique=False)
    op.create_index(
        "uq_device_service_point_open",
        "device_service_point",
        ["a"],
        unique=True,
        postgresql_where=sa.text("until_us = 253402300799000000"),
        sqlite_where=sa.text("until_us = 253402300799000000"),
    )
    op.create_table(
        "endpoint",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.Column("mode", sa.Text(), server_default="", nullable=False),
        sa.Column("pin", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("secrets", sa.Text(), server_default="", nullable=False),
        sa.Column("kinds", sa.Text(), server_default="", nullable=False),
        sa.Column("ca", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["party"], ["party.id"], name="fk_endpoint_party"),
        sa.PrimaryKeyConstraint("party", "id", name="pk_endpoint"),
    )
    op.create_table(
        "grant",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("tier", sa.Text(), server_default="", nullable=False),
        sa.Column("document", sa.Text(), server_default="", nullable=False),
        sa.Column("signed", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_signed", sa.Text(), server_default="", nullable=False),
        sa.Column("changed_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("not_before_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["party.id"], name="fk_grant_party"),
        sa.ForeignKeyConstraint(["service_point"], ["service_point.id"], name="fk_grant_service_point"),
        sa.PrimaryKeyConstraint("id", name="pk_grant"),
    )
    op.create_index(
        "ix_grant_lease",
        "grant",
        ["lease_until_us"],
        unique=False,
        postgresql_where=sa.text("state = 'live' AND lease_until_us < expires_us"),
        sqlite_where=sa.text("state = 'live' AND lease_until_us < expires_us"),
    )
    op.create_index("ix_grant_place", "grant", ["service_point", "party"], unique=False)
    op.create_index("ix_grant_party_sequence", "grant", ["party", "sequence"], unique=False)
    op.create_index(
        "uq_grant_live",
        "grant",
        ["service_point", "party"],
        unique=True,
        postgresql_where=sa.text("state = 'live'"),
        sqlite_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "service_point_gateway",
        sa.Column("a", ID, nullable=False),
        sa.Column("b", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("253402300799000000"), nullable=False),
        sa.ForeignKeyConstraint(["a"], ["service_point.id"], name="fk_service_point_gateway_a"),
        sa.ForeignKeyConstraint(["b"], ["gateway.id"], name="fk_service_point_gateway_b"),
        sa.PrimaryKeyConstraint("a", "b", "since_us", name="pk_service_point_gateway"),
    )
    op.create_index("ix_service_point_gateway_b", "service_point_gateway", ["b", "until_us"], unique=False)
    op.create_index(
        "uq_service_point_gateway_open",
        "service_point_gateway",
        ["a"],
        unique=True,
        postgresql_where=sa.text("until_us = 253402300799000000"),
        sqlite_where=sa.text("until_us = 253402300799000000"),
    )
    op.create_table(
        "service_point_meter",
        sa.Column("a", ID, nullable=False),
        sa.Column("b", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("253402300799000000"), nullable=False),
        sa.ForeignKeyConstraint(["a"], ["service_point.id"], name="fk_service_point_meter_a"),
        sa.ForeignKeyConstraint(["b"], ["meter.id"], name="fk_service_point_meter_b"),
        sa.PrimaryKeyConstraint("a", "b", "since_us", name="pk_service_point_meter"),
    )
    op.create_index("ix_service_point_meter_b", "service_point_meter", ["b", "until_us"], unique=False)
    op.create_index(
        "uq_service_point_meter_open",
        "service_point_meter",
        ["b"],
        unique=True,
        postgresql_where=sa.text("until_us = 253402300799000000"),
        sqlite_where=sa.text("until_us = 253402300799000000"),
    )
    _rows()


def downgrade() -> None:
    """There is no way back: restore a copy."""
    raise NotImplementedError("restore a copy that was made before")
