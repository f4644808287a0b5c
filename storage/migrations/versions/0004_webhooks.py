"""Webhooks: events that wait, hints that were read, watches and what they missed."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

STATEMENTS = (
    # An event is tried again at `due_at`, and set aside at `failed_at`.
    "ALTER TABLE events ADD COLUMN due_at timestamptz DEFAULT now() NOT NULL",
    "ALTER TABLE events ADD COLUMN failed_at timestamptz",
    "DROP INDEX events_pending_idx",
    """
    CREATE INDEX events_pending_idx ON events (connection_id, id)
        WHERE applied_at IS NULL AND failed_at IS NULL
    """,
    "CREATE INDEX events_applied_idx ON events (applied_at) WHERE applied_at IS NOT NULL",
    "CREATE INDEX events_failed_idx ON events (failed_at) WHERE failed_at IS NOT NULL",
    # What a dispatcher needs to know of an event is never what it holds.
    "REVOKE SELECT ON events FROM atom_dispatch",
    """
    GRANT SELECT (id, integration, event_id, connection_id, tenant_id, type, received_at,
                  applied_at, attempts, error, due_at, failed_at) ON events TO atom_dispatch
    """,
    """
    ALTER TABLE checkpoints
        ADD COLUMN read_generation bigint DEFAULT 0 NOT NULL,
        ADD COLUMN dirty_due_at timestamptz
    """,
    """
    CREATE INDEX checkpoints_dirty_idx ON checkpoints (connection_id)
        WHERE dirty_generation > read_generation
    """,
    "ALTER TABLE connections ADD COLUMN watches_due_at timestamptz DEFAULT now()",
    "CREATE INDEX ON connections (watches_due_at)",
    "GRANT UPDATE (watches_due_at) ON connections TO atom_dispatch",
    """
    ALTER TABLE watches
        ADD COLUMN status text DEFAULT 'active' NOT NULL,
        ADD COLUMN sealed_secret text,
        ADD COLUMN renew_at timestamptz,
        ADD COLUMN confirmed_at timestamptz DEFAULT now() NOT NULL,
        ADD COLUMN reason text,
        ADD CONSTRAINT watches_status_check CHECK (status IN ('active', 'retiring', 'refused'))
    """,
    "CREATE INDEX ON watches (vendor_id)",
    "GRANT DELETE ON watches TO atom_dispatch",
    "GRANT INSERT ON checkpoints TO atom_dispatch",
    "GRANT SELECT ON watches TO atom_ingress",
    "CREATE POLICY ingress ON watches TO atom_ingress USING (true)",
    """
    CREATE TABLE gaps (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant_id uuid NOT NULL,
        connection_id uuid NOT NULL,
        streams jsonb NOT NULL,
        since timestamptz NOT NULL,
        until timestamptz NOT NULL,
        reason text NOT NULL,
        due_at timestamptz DEFAULT now() NOT NULL,
        closed_at timestamptz,
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX gaps_open_idx ON gaps (due_at) WHERE closed_at IS NULL",
    "CREATE INDEX ON gaps (connection_id)",
    "ALTER TABLE gaps ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON gaps TO atom_owner USING (true)",
    f"CREATE POLICY tenant ON gaps TO atom_tenant USING (tenant_id = {CURRENT_TENANT})",
    "CREATE POLICY dispatch ON gaps TO atom_dispatch USING (true)",
    "GRANT SELECT, INSERT, UPDATE ON gaps TO atom_tenant",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON gaps TO atom_dispatch",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
