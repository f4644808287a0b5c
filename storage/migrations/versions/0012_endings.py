"""Billing: what each subscription last paid, prices that are not known, and what is still to end.

Columns with constant defaults and an empty table: a process of the former version goes on.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE billing_customers ADD COLUMN standing jsonb DEFAULT '{}' NOT NULL",
    "ALTER TABLE billing_customers ADD COLUMN unknown_prices jsonb DEFAULT '[]' NOT NULL",
    """
    ALTER TABLE billing_customers ADD COLUMN names_tenant_id uuid
        REFERENCES tenants ON DELETE SET NULL
    """,
    # What a subscription gives that is not past due has been paid. The others have none to look
    # back to: theirs is what their price says, as it was before.
    """
    UPDATE billing_customers c
    SET standing = jsonb_build_object(
        t.stripe_subscription_id, jsonb_build_object('paid', c.tier)
    )
    FROM tenants t
    WHERE t.stripe_customer_id = c.customer_id AND t.stripe_subscription_id IS NOT NULL
        AND c.tier IS NOT NULL AND NOT c.past_due ? t.stripe_subscription_id
    """,
    # Of tenants that are erased: nothing here says whose a customer was.
    """
    CREATE TABLE billing_endings (
        customer_id text PRIMARY KEY,
        livemode boolean,
        problem text NOT NULL,
        owed_since timestamptz NOT NULL,
        due_at timestamptz NOT NULL
    )
    """,
    "GRANT SELECT, UPDATE (problem, due_at), DELETE ON billing_endings TO atom_dispatch",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
