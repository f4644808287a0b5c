"""Tiers: what dispatching and freshness remember."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS: tuple[str, ...] = (
    # How often streams are polled, as `deployments.tiers` says: for views, which cannot ask it.
    """
    CREATE TABLE sync_intervals (
        integration text NOT NULL,
        tier text NOT NULL,
        stream text NOT NULL,
        every interval NOT NULL,
        every_watched interval NOT NULL,
        PRIMARY KEY (integration, tier, stream)
    )
    """,
    """
    CREATE TABLE breakers (
        integration text PRIMARY KEY,
        opened_at timestamptz,
        probe_at timestamptz,
        closed_at timestamptz,
        trips integer DEFAULT 0 NOT NULL,
        reason text DEFAULT '' NOT NULL
    )
    """,
    "GRANT SELECT ON sync_intervals, breakers TO atom_tenant",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON sync_intervals, breakers TO atom_dispatch",
    """
    ALTER TABLE connections
        ADD COLUMN failure text,
        ADD COLUMN claimed_due_at timestamptz,
        ADD COLUMN reported_at timestamptz,
        ADD CONSTRAINT connections_failure_check CHECK (
            failure IN ('broken', 'unavailable', 'rate_limited', 'contract', 'ours')
        )
    """,
    "GRANT UPDATE (failure, claimed_due_at, reported_at) ON connections TO atom_dispatch",
    """
    ALTER TABLE sync_runs
        ADD COLUMN failure text,
        ADD CONSTRAINT sync_runs_failure_check CHECK (
            failure IN ('broken', 'unavailable', 'rate_limited', 'contract', 'ours')
        )
    """,
    "CREATE INDEX ON sync_runs (ended_at)",
    "ALTER TABLE checkpoints ADD COLUMN swept_at timestamptz",
    "CREATE INDEX ON oauth_log (at)",
    "GRANT DELETE ON oauth_log, notices TO atom_dispatch",
    # A stream is late once its age passes its interval by half, or by an hour where half is more.
    """
    CREATE VIEW freshness WITH (security_invoker = true) AS
    SELECT f.*,
        CASE
            WHEN NOT f.late THEN NULL
            WHEN f.status = 'paused' THEN 'paused'
            WHEN f.status <> 'active' THEN 'token'
            WHEN l.connection_id IS NOT NULL THEN 'syncing'
            WHEN b.opened_at IS NOT NULL THEN 'breaker open'
            WHEN f.failures > 0 AND f.failure = 'rate_limited' THEN 'vendor limit'
            WHEN f.failures > 0 THEN 'failing'
            WHEN f.last_synced_at IS NULL THEN 'never synced'
            ELSE 'backlog'
        END AS reason
    FROM (
        SELECT c.tenant_id, c.id AS connection_id, c.integration, t.tier, i.stream, c.status,
            c.failures, c.failure, e.every, p.last_synced_at, e.age,
            e.age > e.every + least(e.every / 2, interval '1 hour') AS late
        FROM connections c
        JOIN tenants t ON t.id = c.tenant_id
        JOIN sync_intervals i ON i.integration = c.integration AND i.tier = t.tier
        LEFT JOIN checkpoints p ON p.connection_id = c.id AND p.stream = i.stream
        CROSS JOIN LATERAL (
            SELECT now() - coalesce(p.last_synced_at, c.created_at) AS age,
                CASE WHEN i.every <> i.every_watched AND EXISTS (
                    SELECT FROM watches w
                    WHERE w.connection_id = c.id AND w.status = 'active'
                        AND (w.expires_at IS NULL OR w.expires_at > now())
                ) THEN i.every_watched ELSE i.every END AS every
        ) e
    ) f
    LEFT JOIN leases l
        ON l.connection_id = f.connection_id AND l.kind = 'sync' AND l.expires_at > now()
    LEFT JOIN breakers b ON b.integration = f.integration
    """,
    "GRANT SELECT ON freshness TO atom_tenant, atom_dispatch",
    # What may change how many schedules there are leaves a mark, whoever did it and however. The
    # function is its owner's, so that nobody needs a right to make one.
    """
    CREATE TABLE deploy_marks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        made_at timestamptz DEFAULT clock_timestamp() NOT NULL
    )
    """,
    "GRANT SELECT, DELETE ON deploy_marks TO atom_dispatch",
    """
    CREATE FUNCTION make_deploy_mark() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS
    $$ BEGIN INSERT INTO deploy_marks DEFAULT VALUES; RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER connections_come_and_go AFTER INSERT OR DELETE ON connections
        EXECUTE FUNCTION make_deploy_mark()
    """,
    """
    CREATE TRIGGER connections_stop_and_go_on AFTER UPDATE OF status ON connections
        FOR EACH ROW WHEN (old.status IS DISTINCT FROM new.status)
        EXECUTE FUNCTION make_deploy_mark()
    """,
    """
    CREATE TRIGGER tenants_change_tier AFTER UPDATE OF tier ON tenants
        FOR EACH ROW WHEN (old.tier IS DISTINCT FROM new.tier)
        EXECUTE FUNCTION make_deploy_mark()
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
