"""The utility as a sender of its own: which party it is, and that its permissions take no share of the limits."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; all that is there belongs to third parties."""
    op.add_column("party", sa.Column("utility", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("grant", sa.Column("shares", sa.Boolean(), server_default=sa.true(), nullable=False))
