"""Feeds: vendors whose events we listen to, and how far each was heard."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

STATEMENTS = (
    """
    CREATE TABLE feeds (
        connection_id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        state jsonb NOT NULL,
        heard_at timestamptz,
        due_at timestamptz DEFAULT now() NOT NULL,
        failures integer DEFAULT 0 NOT NULL,
        reason text,
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "ALTER TABLE feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON feeds TO atom_owner USING (true)",
    f"CREATE POLICY tenant ON feeds TO atom_tenant USING (tenant_id = {CURRENT_TENANT})",
    "CREATE POLICY dispatch ON feeds TO atom_dispatch USING (true)",
    "GRANT SELECT, INSERT, UPDATE ON feeds TO atom_tenant",
    "GRANT SELECT ON feeds TO atom_dispatch",
    # What is heard is stored together with how far that was.
    "GRANT INSERT ON events TO atom_tenant",
    "ALTER TABLE leases DROP CONSTRAINT leases_kind_check",
    """
    ALTER TABLE leases ADD CONSTRAINT leases_kind_check
        CHECK (kind IN ('sync', 'event', 'feed'))
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
