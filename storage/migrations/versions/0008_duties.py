"""Events that are applied whatever has become of their connection: requests for privacy."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE events ADD COLUMN is_duty boolean DEFAULT false NOT NULL",
    "GRANT SELECT (is_duty) ON events TO atom_dispatch",
    "ALTER TABLE oauth_log DROP CONSTRAINT oauth_log_event_check",
    """
    ALTER TABLE oauth_log ADD CONSTRAINT oauth_log_event_check
        CHECK (event IN ('connect', 'refresh', 'failure', 'revoke', 'disconnect', 'token',
                         'reveal', 'notice', 'privacy'))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
