"""What the customer service system says: its events with what became of them, their order, and protected homes."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Nobody is protected until the customer service system says so."""
    op.create_table(
        "css_event",
        sa.Column("id", ID, nullable=False),
        sa.Column("system", ID, nullable=False),
        sa.Column("key", ID, nullable=False),
        sa.Column("body_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("account", ID, server_default="", nullable=False),
        sa.Column("customer", ID, server_default="", nullable=False),
        sa.Column("service_point", ID, server_default="", nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("changes", sa.Text(), server_default="", nullable=False),
        sa.Column("settled_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["system"], ["party.id"], name="fk_css_event_system"),
        sa.PrimaryKeyConstraint("id", name="pk_css_event"),
    )
    op.create_index("uq_css_event_key", "css_event", ["system", "key"], unique=True)
    op.create_index(
        "ix_css_event_waiting",
        "css_event",
        ["id"],
        unique=False,
        postgresql_where=sa.text("settled_us = 0"),
        sqlite_where=sa.text("settled_us = 0"),
    )
    op.create_table(
        "css_mark",
        sa.Column("subject", ID, nullable=False),
        sa.Column("at_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_css_mark"),
    )
    op.create_table(
        "customer_flag",
        sa.Column("customer", ID, nullable=False),
        sa.Column("kind", ID, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer", "kind", name="pk_customer_flag"),
    )
    op.create_table(
        "protected",
        sa.Column("service_point", ID, nullable=False),
        sa.Column("kinds", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("service_point", name="pk_protected"),
    )
