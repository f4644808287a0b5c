"""Connect pages: what a link offers, in which language, and keys that nobody could prove yet."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE connect_sessions
            ADD COLUMN integrations jsonb,
            ADD COLUMN shows_unconfigured boolean DEFAULT false NOT NULL,
            ADD COLUMN language text
        """
    )
    op.execute("ALTER TABLE tenant_settings ADD COLUMN unproven jsonb")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
