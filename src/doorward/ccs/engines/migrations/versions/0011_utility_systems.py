"""The utility's other systems: clients of a kind of their own, one feed of everything, and subscriptions."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Who is there is a third party; what happened before names no gateway."""
    op.add_column("party", sa.Column("kind", sa.Text(), server_default="third_party", nullable=False))
    op.add_column("event", sa.Column("gateway", ID, server_default="", nullable=False))
    op.create_index("ix_event_all", "event", ["xact", "seq"], unique=False)
    op.create_table(
        "subscription",
        sa.Column("id", ID, nullable=False),
        sa.Column("system", ID, nullable=False),
        sa.Column("kinds", sa.Text(), server_default="", nullable=False),
        sa.Column("party", ID, server_default="", nullable=False),
        sa.Column("service_point", ID, server_default="", nullable=False),
        sa.Column("gateway", ID, server_default="", nullable=False),
        sa.Column("failed_only", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("endpoint", ID, server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("cursor", sa.Text(), server_default="", nullable=False),
        sa.Column("next_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["system"], ["party.id"], name="fk_subscription_system"),
        sa.PrimaryKeyConstraint("id", name="pk_subscription"),
    )
