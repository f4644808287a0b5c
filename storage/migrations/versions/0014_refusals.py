"""Streams that a vendor refuses until the tenant's administrator acts: why, and until when."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE checkpoints ADD COLUMN refusal text, ADD COLUMN refused_until timestamptz"
    )
    # Resuming a connection asks for what was refused.
    op.execute("GRANT UPDATE (refused_until) ON checkpoints TO atom_dispatch")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
