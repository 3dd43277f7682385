"""${message}."""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables forward; SQL only."""
    ${upgrades if upgrades else "op.execute('')"}


def downgrade() -> None:
    """There is no way back: restore a copy."""
    raise NotImplementedError("restore a copy that was made before")
