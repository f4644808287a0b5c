"""Notices: what a tenant is to be told of a grant that is over."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE notices (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        grant_id uuid NOT NULL,
        integration text NOT NULL,
        reason text NOT NULL,
        broke_at timestamptz DEFAULT now() NOT NULL,
        told integer DEFAULT 0 NOT NULL,
        due_at timestamptz DEFAULT now(),
        claim_id uuid,
        claimed_until timestamptz,
        attempts integer DEFAULT 0 NOT NULL,
        outcome text,
        ended_at timestamptz,
        FOREIGN KEY (grant_id, tenant_id) REFERENCES grants (id, tenant_id) ON DELETE CASCADE,
        CONSTRAINT notices_outcome_check
            CHECK (outcome IN ('sent', 'logged', 'refused', 'put_off', 'cancelled'))
    )
    """,
    "CREATE UNIQUE INDEX notices_open_idx ON notices (grant_id) WHERE ended_at IS NULL",
    "CREATE INDEX ON notices (grant_id, tenant_id)",
    "ALTER TABLE notices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON notices TO atom_owner USING (true)",
    """
    CREATE POLICY tenant ON notices TO atom_tenant
        USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid))
    """,
    "CREATE POLICY dispatch ON notices TO atom_dispatch USING (true)",
    "GRANT SELECT, INSERT, UPDATE ON notices TO atom_tenant",
    "GRANT SELECT, UPDATE ON notices TO atom_dispatch",
    # When a grant last failed: nobody tries it again at once. Neither messages nor details.
    "GRANT SELECT (id, at, tenant_id, grant_id, event) ON oauth_log TO atom_dispatch",
    "CREATE POLICY dispatch ON oauth_log TO atom_dispatch USING (true)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
