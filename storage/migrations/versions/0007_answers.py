"""Connecting accounts: what a session is told already of what is asked before consent."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE connect_sessions ADD COLUMN answers jsonb DEFAULT '{}' NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
