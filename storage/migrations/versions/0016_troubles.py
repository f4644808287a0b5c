"""What keeps failing in the background of a process, as it says of itself with each heartbeat."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workers ADD COLUMN troubles jsonb NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
