"""Connecting accounts: links, consents under way, backfills owed, tokens to be given back."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE connections ADD COLUMN backfill_owed_at timestamptz",
    """
    CREATE INDEX connections_backfill_owed_idx ON connections (backfill_owed_at)
        WHERE backfill_owed_at IS NOT NULL
    """,
    "GRANT UPDATE (backfill_owed_at) ON connections TO atom_dispatch",
    "ALTER TABLE oauth_log DROP CONSTRAINT oauth_log_event_check",
    """
    ALTER TABLE oauth_log ADD CONSTRAINT oauth_log_event_check
        CHECK (event IN ('connect', 'refresh', 'failure', 'revoke', 'disconnect', 'token',
                         'reveal', 'notice'))
    """,
    """
    CREATE TABLE connect_sessions (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        token_hash bytea NOT NULL UNIQUE,
        integration text,
        label text,
        return_url text,
        browser_hash bytea,
        bound_at timestamptz,
        note jsonb,
        expires_at timestamptz NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        UNIQUE (id, tenant_id)
    )
    """,
    "CREATE INDEX ON connect_sessions (expires_at)",
    """
    CREATE TABLE oauth_states (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        session_id uuid NOT NULL,
        integration text NOT NULL,
        nonce_hash bytea NOT NULL UNIQUE,
        expires_at timestamptz NOT NULL,
        used_at timestamptz,
        held text,
        created_at timestamptz DEFAULT now() NOT NULL,
        FOREIGN KEY (session_id, tenant_id)
            REFERENCES connect_sessions (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ON oauth_states (session_id)",
    """
    CREATE TABLE revocations (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grant_id uuid NOT NULL,
        integration text NOT NULL,
        account_ids jsonb NOT NULL,
        sealed_token text NOT NULL,
        attempts integer DEFAULT 0 NOT NULL,
        next_attempt_at timestamptz DEFAULT now() NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL
    )
    """,
    "CREATE INDEX ON revocations (next_attempt_at)",
)

TABLES = ("connect_sessions", "oauth_states", "revocations")

# Which tenant a link or a due revocation belongs to, and sweeping away links that are over.
DISPATCH_GRANTS = {
    "connect_sessions": "SELECT (id, tenant_id, token_hash, expires_at), DELETE",
    "revocations": "SELECT (id, tenant_id, next_attempt_at)",
}

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY owner ON {table} TO atom_owner USING (true)")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO atom_tenant USING (tenant_id = {CURRENT_TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO atom_tenant")
    for table, rights in DISPATCH_GRANTS.items():
        op.execute(f"GRANT {rights} ON {table} TO atom_dispatch")
        op.execute(f"CREATE POLICY dispatch ON {table} TO atom_dispatch USING (true)")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
