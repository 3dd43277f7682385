"""Third parties whose access tokens are good only together with a key or a certificate."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what a third party's tokens are bound to: nothing, as before."""
    op.add_column("party", sa.Column("token_binding", sa.Text(), server_default="", nullable=False))
