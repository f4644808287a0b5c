"""Billing: what Stripe told of a tenant's subscription."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

STATEMENTS = (
    # That an event was taken. What it told is not kept: it only says whom to read again.
    """
    CREATE TABLE billing_events (
        event_id text PRIMARY KEY,
        type text NOT NULL,
        customer_id text NOT NULL,
        created_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ON billing_events (received_at)",
    """
    CREATE TABLE billing_customers (
        customer_id text PRIMARY KEY,
        tenant_id uuid UNIQUE REFERENCES tenants ON DELETE CASCADE,
        livemode boolean NOT NULL,
        tier text,
        past_due jsonb DEFAULT '{}' NOT NULL,
        problem text,
        read_at timestamptz,
        deleted_at timestamptz,
        hints bigint DEFAULT 0 NOT NULL,
        due_at timestamptz,
        attempts integer DEFAULT 0 NOT NULL,
        claim_id uuid,
        claimed_until timestamptz,
        CONSTRAINT billing_customers_tier_check
            CHECK (tier IN ('FREE', 'SOLO', 'TEAM', 'ENTERPRISE'))
    )
    """,
    "CREATE INDEX ON billing_customers (due_at)",
    "ALTER TABLE billing_customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON billing_customers TO atom_owner USING (true)",
    f"""
    CREATE POLICY tenant ON billing_customers TO atom_tenant USING (tenant_id = {CURRENT_TENANT})
    """,
    "CREATE POLICY dispatch ON billing_customers TO atom_dispatch USING (true)",
    "CREATE POLICY ingress ON billing_customers TO atom_ingress USING (true)",
    "GRANT SELECT ON billing_customers TO atom_tenant",
    # Whose a customer is and what it is worth is written by the owner alone, as tiers are.
    "GRANT SELECT, DELETE ON billing_events TO atom_dispatch",
    """
    GRANT SELECT, UPDATE (problem, due_at, attempts, claim_id, claimed_until)
        ON billing_customers TO atom_dispatch
    """,
    "GRANT SELECT (event_id), INSERT ON billing_events TO atom_ingress",
    """
    GRANT SELECT (customer_id, hints),
          INSERT (customer_id, livemode, hints, due_at, deleted_at),
          UPDATE (hints, due_at, attempts, deleted_at)
        ON billing_customers TO atom_ingress
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
