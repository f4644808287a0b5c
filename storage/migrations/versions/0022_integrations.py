"""Integrations that are added at run time: their manifests, and which list is the newest."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE integrations (
        slug text PRIMARY KEY,
        title text NOT NULL,
        version text NOT NULL,
        manifest bytea NOT NULL,
        sha256 text NOT NULL,
        source text NOT NULL,
        licence text NOT NULL,
        level integer DEFAULT 0 NOT NULL,
        read_by text NOT NULL,
        added_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        changed_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        CONSTRAINT integrations_slug_check CHECK (slug ~ '^[a-z][a-z0-9_]{0,39}$'),
        CONSTRAINT integrations_level_check CHECK (level BETWEEN 0 AND 5)
    )
    """,
    # One row, once there was a change. Its value is another after each, and never one that it had.
    """
    CREATE TABLE integration_lists (
        singleton boolean DEFAULT true PRIMARY KEY,
        revision uuid NOT NULL,
        CONSTRAINT integration_lists_singleton_check CHECK (singleton)
    )
    """,
    """
    GRANT SELECT ON integrations, integration_lists TO atom_tenant, atom_dispatch, atom_ingress
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
