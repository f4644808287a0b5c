"""Connecting accounts: what came of a consent, for a browser that brings the same answer again."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE oauth_states ADD COLUMN outcome jsonb")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
