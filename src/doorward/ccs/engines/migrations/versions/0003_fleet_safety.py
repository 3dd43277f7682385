"""Caps on what load third parties move: its books, what is over them, and areas of service points."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables; service points get an area, requests the span of their random start."""
    op.add_column("service_point", sa.Column("area", sa.Text(), server_default="", nullable=False))
    op.add_column("request", sa.Column("spread_s", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "fleet_log",
        sa.Column("key", ID, nullable=False),
        sa.Column("moved", sa.Text(), server_default="", nullable=False),
        sa.Column("held", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_fleet_log"),
    )
    op.create_table(
        "fleet_hold",
        sa.Column("party", ID, nullable=False),
        sa.Column("subject", ID, nullable=False),
        sa.Column("request", ID, nullable=False),
        sa.Column("area", ID, server_default="", nullable=False),
        sa.Column("raise_w", sa.BigInteger(), nullable=False),
        sa.Column("lower_w", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("let_go", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("party", "subject", name="pk_fleet_hold"),
    )
    op.create_index(
        "ix_fleet_hold_request",
        "fleet_hold",
        ["request"],
        unique=False,
        postgresql_where=sa.text("NOT let_go"),
        sqlite_where=sa.text("NOT let_go"),
    )
    op.create_table(
        "quarantine",
        sa.Column("request", ID, nullable=False),
        sa.Column("party", ID, nullable=False),
        sa.Column("subject", ID, nullable=False),
        sa.Column("area", ID, server_default="", nullable=False),
        sa.Column("campaign", ID, server_default="", nullable=False),
        sa.Column("raise_w", sa.BigInteger(), nullable=False),
        sa.Column("lower_w", sa.BigInteger(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("first_by", ID, server_default="", nullable=False),
        sa.Column("first_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["request.id"], name="fk_quarantine_request"),
        sa.PrimaryKeyConstraint("request", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_party", "quarantine", ["party"], unique=False)
