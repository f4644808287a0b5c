"""The tier on connections: what is due of one is found by an index, without asking its tenant."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE connections ADD COLUMN tier text",
    "UPDATE connections c SET tier = t.tier FROM tenants t WHERE t.id = c.tenant_id",
    "ALTER TABLE connections ALTER COLUMN tier SET NOT NULL",
    # It is the tenant's, whatever a statement says. The tenant is locked: a change of its tier that
    # is under way is waited for, and one that comes later waits and finds this connection. The
    # functions are their owner's, so that nobody needs a right to see or lock a tenant.
    """
    CREATE FUNCTION take_tier_of_tenant() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS
    $$ BEGIN
        SELECT tier INTO new.tier FROM tenants WHERE id = new.tenant_id FOR SHARE;
        RETURN new;
    END $$
    """,
    """
    CREATE TRIGGER connections_take_tier BEFORE INSERT OR UPDATE OF tenant_id, tier ON connections
        FOR EACH ROW EXECUTE FUNCTION take_tier_of_tenant()
    """,
    """
    CREATE FUNCTION give_tier_to_connections() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS
    $$ BEGIN
        UPDATE connections SET tier = new.tier WHERE tenant_id = new.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tenants_give_tier AFTER UPDATE OF tier ON tenants
        FOR EACH ROW WHEN (old.tier IS DISTINCT FROM new.tier)
        EXECUTE FUNCTION give_tier_to_connections()
    """,
    # Made under a lock, for less than a second at 60,000 connections.
    """
    CREATE INDEX connections_due_idx ON connections (integration, tier, next_due_at)
        WHERE status = 'active'
    """,
    "DROP INDEX connections_integration_next_due_at_idx",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
