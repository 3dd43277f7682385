"""Certificates of gateways are renewed, and their withdrawal is noticed at once."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the certificate before a renewal, and the number that grows with every revocation."""
    op.add_column("gateway", sa.Column("certificate_before", sa.Text(), server_default="", nullable=False))
    op.execute("INSERT INTO counter (name, value) VALUES ('gateway', 0)")
