"""People and their sessions, contracts and offers, changes of access, and what is noted about a home."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables, and an index by which a home's requests are found."""
    op.create_table(
        "person",
        sa.Column("id", ID, nullable=False),
        sa.Column("role", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("login", ID, nullable=False),
        sa.Column("of", ID, server_default="", nullable=False),
        sa.Column("email", sa.Text(), server_default="", nullable=False),
        sa.Column("password", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("locked_until_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("fahrenheit", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
    )
    op.create_index("ix_person_of", "person", ["of"], unique=False)
    op.create_index("uq_person_login", "person", ["login"], unique=True)
    op.create_table(
        "session",
        sa.Column("id", ID, nullable=False),
        sa.Column("person", ID, nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name="fk_session_person"),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
    )
    op.create_index("ix_session_person", "session", ["person"], unique=False)
    op.create_index("ix_session_until", "session", ["until_us"], unique=False)
    op.create_table(
        "offer",
        sa.Column("party", ID, nullable=False),
        sa.Column("legal_name", sa.Text(), server_default="", nullable=False),
        sa.Column("purpose", sa.Text(), server_default="", nullable=False),
        sa.Column("website", sa.Text(), server_default="", nullable=False),
        sa.Column("tier", sa.Text(), server_default="", nullable=False),
        sa.Column("wants", sa.Text(), server_default="", nullable=False),
        sa.Column("verified_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("agreed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("agreed_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["party.id"], name="fk_offer_party"),
        sa.PrimaryKeyConstraint("party", name="pk_offer"),
    )
    op.create_table(
        "contract",
        sa.Column("id", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("tier", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("text_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("starts_us", sa.BigInteger(), nullable=False),
        sa.Column("ends_us", sa.BigInteger(), nullable=False),
        sa.Column("drafted_by", ID, server_default="", nullable=False),
        sa.Column("drafted_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("agreed_by", ID, server_default="", nullable=False),
        sa.Column("agreed_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("signed_by", ID, server_default="", nullable=False),
        sa.Column("signed_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("signed_how", sa.Text(), server_default="", nullable=False),
        sa.Column("approved_by", ID, server_default="", nullable=False),
        sa.Column("approved_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ended_by", ID, server_default="", nullable=False),
        sa.Column("ended_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ended_why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["party"], ["party.id"], name="fk_contract_party"),
        sa.ForeignKeyConstraint(["service_point"], ["service_point.id"], name="fk_contract_service_point"),
        sa.PrimaryKeyConstraint("id", name="pk_contract"),
    )
    op.create_index("ix_contract_party", "contract", ["party", "id"], unique=False)
    op.create_index("ix_contract_place", "contract", ["service_point", "party"], unique=False)
    op.create_index(
        "ix_contract_waiting",
        "contract",
        ["signed_us"],
        unique=False,
        postgresql_where=sa.text("state = 'signed'"),
        sqlite_where=sa.text("state = 'signed'"),
    )
    op.create_index(
        "uq_contract_open",
        "contract",
        ["service_point", "party"],
        unique=True,
        postgresql_where=sa.text("state IN ('drafted', 'signed', 'approved')"),
        sqlite_where=sa.text("state IN ('drafted', 'signed', 'approved')"),
    )
    op.create_table(
        "access_change",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("grant", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("asked_us", sa.BigInteger(), nullable=False),
        sa.Column("by", ID, server_default="", nullable=False),
        sa.Column("by_name", sa.Text(), server_default="", nullable=False),
        sa.Column("by_role", sa.Text(), server_default="", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("contract", ID, server_default="", nullable=False),
        sa.Column("gateway", ID, server_default="", nullable=False),
        sa.Column("gateway_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("applied_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_change"),
    )
    op.create_index(
        "ix_access_change_open",
        "access_change",
        ["gateway"],
        unique=False,
        postgresql_where=sa.text("applied_us = 0 AND failed = ''"),
        sqlite_where=sa.text("applied_us = 0 AND failed = ''"),
    )
    op.create_index("ix_access_change_place", "access_change", ["service_point", "id"], unique=False)
    op.create_table(
        "home_note",
        sa.Column("id", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("by", ID, server_default="", nullable=False),
        sa.Column("by_name", sa.Text(), server_default="", nullable=False),
        sa.Column("by_role", sa.Text(), server_default="", nullable=False),
        sa.Column("party", ID, server_default="", nullable=False),
        sa.Column("device", ID, server_default="", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_home_note"),
    )
    op.create_index("ix_home_note_place", "home_note", ["service_point", "id"], unique=False)
    op.create_index("ix_request_place", "request", ["service_point", "id"], unique=False)


def downgrade() -> None:
    """There is no way back: restore a copy."""
    raise NotImplementedError("restore a copy that was made before")
