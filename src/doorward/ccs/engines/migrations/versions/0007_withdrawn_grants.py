"""Withdrawn permissions in the order of their change: what the consent authority is told."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    withdrawn = sa.text("state = 'withdrawn'")
    op.create_index(
        "ix_grant_withdrawn",
        "grant",
        ["sequence"],
        unique=False,
        postgresql_where=withdrawn,
        sqlite_where=withdrawn,
    )
