"""Why records are gone and when they changed; parts that could not be read; audits."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"
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
    "ALTER TABLE checkpoints ADD COLUMN audit_due_at timestamptz",
    "ALTER TABLE checkpoints ADD COLUMN audit_every interval",
    # A check of one stream against what the vendor lists, and what differed.
    """
    CREATE TABLE audits (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        connection_id uuid NOT NULL,
        stream text NOT NULL,
        started_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        ended_at timestamptz,
        checked bigint DEFAULT 0 NOT NULL,
        missing bigint DEFAULT 0 NOT NULL,
        stale bigint DEFAULT 0 NOT NULL,
        extra bigint DEFAULT 0 NOT NULL,
        keys jsonb DEFAULT '{}' NOT NULL,
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX audits_connection_id_stream_idx ON audits (connection_id, stream, started_at)",
    "CREATE INDEX audits_ended_at_idx ON audits (ended_at) WHERE ended_at IS NOT NULL",
    "ALTER TABLE audits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON audits TO atom_owner USING (true)",
    f"CREATE POLICY tenant ON audits TO atom_tenant USING (tenant_id = {CURRENT_TENANT})",
    "CREATE POLICY dispatch ON audits TO atom_dispatch USING (true)",
    "GRANT SELECT, INSERT, UPDATE ON audits TO atom_tenant",
    "GRANT SELECT, DELETE ON audits TO atom_dispatch",
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
