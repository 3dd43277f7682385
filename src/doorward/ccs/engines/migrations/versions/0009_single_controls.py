"""Which controls are single ones: let go at once, and with a cap of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is held already counts as part of a campaign."""
    op.add_column("fleet_hold", sa.Column("single", sa.Boolean(), server_default=sa.false(), nullable=False))
