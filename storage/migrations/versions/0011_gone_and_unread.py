"""Why records are gone and when what is shown of them changed; parts that could not be read."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FAILURES = "broken", "not_allowed", "unavailable", "rate_limited", "contract", "ours"

STATEMENTS = (
    "ALTER TABLE records ADD COLUMN changed_at timestamptz",
    "ALTER TABLE records ADD COLUMN gone_as text",
    "ALTER TABLE records ADD COLUMN merged_into text",
    # The version of a deletion itself; `version` stays that of the record it buried.
    "ALTER TABLE records ADD COLUMN deleted_version bigint",
    # For people who write SQL: what is gone, or no longer shown to who consented, and why.
    """
    CREATE VIEW gone_records WITH (security_invoker = true) AS
        SELECT stream, record_id, connection_id, tenant_id, coalesce(gone_as, 'deleted') AS gone_as,
            merged_into, deleted_at, observed_at, data
        FROM records WHERE deleted_at IS NOT NULL OR gone_as IS NOT NULL
    """,
    "ALTER VIEW gone_records OWNER TO atom_owner",
    "GRANT SELECT ON gone_records TO atom_tenant",
    "ALTER TABLE checkpoints ADD COLUMN failures integer DEFAULT 0 NOT NULL",
    "ALTER TABLE checkpoints ADD COLUMN restarted_at timestamptz",
    "ALTER TABLE checkpoints ADD COLUMN unread jsonb DEFAULT '[]' NOT NULL",
    "ALTER TABLE checkpoints ADD COLUMN shape text",
    "ALTER TABLE checkpoints ADD COLUMN refill jsonb",
    # Keys that a read names and cannot show yet are events that we tell ourselves.
    "GRANT INSERT ON events TO atom_tenant",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    listed = ", ".join(f"'{failure}'" for failure in FAILURES)
    for table in ("connections", "sync_runs"):
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_failure_check,"
            f" ADD CONSTRAINT {table}_failure_check CHECK (failure IN ({listed}))"
        )


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
