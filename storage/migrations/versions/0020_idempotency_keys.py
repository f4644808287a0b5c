"""Idempotency keys: what a request of a backend made, so that its repetition makes nothing."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

STATEMENTS = (
    # The tenant is the token's, which for an operator's names none that there is.
    """
    CREATE TABLE idempotency_keys (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        key_hash bytea NOT NULL,
        fingerprint bytea NOT NULL,
        claimed_until timestamptz NOT NULL,
        about_tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
        status integer,
        sealed_answer text,
        created_at timestamptz DEFAULT now() NOT NULL,
        UNIQUE (tenant_id, key_hash)
    )
    """,
    "CREATE INDEX ON idempotency_keys (created_at)",
    "CREATE INDEX ON idempotency_keys (about_tenant_id)",
    "ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON idempotency_keys TO atom_owner USING (true)",
    f"""
    CREATE POLICY tenant ON idempotency_keys TO atom_tenant USING (tenant_id = {CURRENT_TENANT})
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO atom_tenant",
    # To prune them; what was answered is not theirs to read.
    "CREATE POLICY dispatch ON idempotency_keys TO atom_dispatch USING (true)",
    "GRANT SELECT (id, created_at), DELETE ON idempotency_keys TO atom_dispatch",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
