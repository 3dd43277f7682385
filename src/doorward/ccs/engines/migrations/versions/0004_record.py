"""The record: a hash chain per writer, signed checkpoints and tombstones, and what permissions have been."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the chain beside the journal. Rows from before it stand under writer 0, which has no chain."""
    op.add_column("journal", sa.Column("writer", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("journal", sa.Column("link", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("journal", sa.Column("payload", sa.Text(), server_default="", nullable=False))
    op.create_index("ix_journal_link", "journal", ["writer", "link"], unique=False)
    op.add_column("request", sa.Column("salt", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "chain",
        sa.Column("writer", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("prev", sa.LargeBinary(), nullable=False),
        sa.Column("parts", sa.Text(), server_default="", nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=False),
        sa.Column("peers", sa.Text(), server_default="", nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("writer", "seq", name="pk_chain"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_checkpoint"),
    )
    op.create_table(
        "tombstone",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_tombstone"),
    )
    op.create_table(
        "grant_record",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("grant", ID, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("service_point", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("signed", sa.Text(), server_default="", nullable=False),
        sa.Column("message", ID, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_grant_record"),
    )
    op.create_index(
        "ix_grant_record_place", "grant_record", ["service_point", "party", "sequence"], unique=False
    )
