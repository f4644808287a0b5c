"""Every table, and who may see which rows of it."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE installation (
        singleton boolean DEFAULT true PRIMARY KEY,
        key_fingerprints jsonb DEFAULT '[]' NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT installation_singleton_check CHECK (singleton)
    )
    """,
    """
    CREATE TABLE workers (
        name text PRIMARY KEY,
        stopping_at timestamptz,
        heartbeat_at timestamptz DEFAULT now() NOT NULL
    )
    """,
    """
    CREATE TABLE drains (
        shard integer PRIMARY KEY,
        generation bigint DEFAULT 0 NOT NULL,
        alive_until timestamptz
    )
    """,
    """
    CREATE TABLE tenants (
        id uuid PRIMARY KEY,
        slug text NOT NULL UNIQUE,
        name text NOT NULL,
        contact_email text,
        tier text NOT NULL,
        stripe_customer_id text UNIQUE,
        stripe_subscription_id text UNIQUE,
        data_key bytea,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT tenants_tier_check CHECK (tier IN ('FREE', 'SOLO', 'TEAM', 'ENTERPRISE'))
    )
    """,
    """
    CREATE TABLE tenant_settings (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        setting_key text NOT NULL,
        setting_value text NOT NULL,
        encrypted boolean DEFAULT true NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        PRIMARY KEY (tenant_id, setting_key)
    )
    """,
    """
    CREATE TABLE oauth_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz DEFAULT clock_timestamp() NOT NULL,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        grant_id uuid,
        integration text NOT NULL,
        event text NOT NULL,
        message text DEFAULT '' NOT NULL,
        detail jsonb DEFAULT '{}' NOT NULL,
        CONSTRAINT oauth_log_event_check
            CHECK (event IN ('connect', 'refresh', 'failure', 'revoke'))
    )
    """,
    "CREATE INDEX ON oauth_log (tenant_id, at)",
    """
    CREATE TABLE grants (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        integration text NOT NULL,
        setting_key text NOT NULL,
        refresh_id uuid,
        refresh_started_at timestamptz,
        refreshed_at timestamptz,
        expires_at timestamptz,
        created_at timestamptz DEFAULT now() NOT NULL,
        UNIQUE (tenant_id, setting_key),
        UNIQUE (id, tenant_id)
    )
    """,
    """
    CREATE TABLE connections (
        id uuid PRIMARY KEY,
        grant_id uuid NOT NULL,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        integration text NOT NULL,
        account_id text NOT NULL,
        account_name text DEFAULT '' NOT NULL,
        config jsonb DEFAULT '{}' NOT NULL,
        status text DEFAULT 'active' NOT NULL,
        status_reason text,
        next_due_at timestamptz,
        failures integer DEFAULT 0 NOT NULL,
        last_synced_at timestamptz,
        created_at timestamptz DEFAULT now() NOT NULL,
        UNIQUE (tenant_id, integration, account_id),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (grant_id, tenant_id) REFERENCES grants (id, tenant_id),
        CONSTRAINT connections_status_check
            CHECK (status IN ('active', 'needs_reauth', 'paused', 'revoked'))
    )
    """,
    "CREATE INDEX ON connections (grant_id)",
    "CREATE INDEX ON connections (integration, account_id)",
    "CREATE INDEX ON connections (integration, next_due_at)",
    """
    CREATE TABLE leases (
        connection_id uuid NOT NULL,
        kind text NOT NULL,
        tenant_id uuid NOT NULL,
        epoch bigint NOT NULL,
        expires_at timestamptz,
        holder text,
        PRIMARY KEY (connection_id, kind),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE,
        CONSTRAINT leases_kind_check CHECK (kind IN ('sync', 'event'))
    )
    """,
    """
    CREATE TABLE checkpoints (
        connection_id uuid NOT NULL,
        stream text NOT NULL,
        tenant_id uuid NOT NULL,
        state jsonb DEFAULT '{}' NOT NULL,
        scan_id uuid,
        scan_started_at timestamptz,
        dirty_generation bigint DEFAULT 0 NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        last_synced_at timestamptz,
        PRIMARY KEY (connection_id, stream),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE records (
        connection_id uuid NOT NULL,
        record_id text COLLATE "C" NOT NULL,
        stream text COLLATE "C" NOT NULL,
        tenant_id uuid NOT NULL,
        data jsonb NOT NULL,
        version bigint,
        observed_at timestamptz NOT NULL,
        content_hash bytea NOT NULL,
        deleted_at timestamptz,
        PRIMARY KEY (connection_id, record_id, stream),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    ) PARTITION BY LIST (stream)
    """,
    """
    CREATE TABLE seen (
        connection_id uuid NOT NULL,
        scan_id uuid NOT NULL,
        stream text COLLATE "C" NOT NULL,
        record_id text COLLATE "C" NOT NULL,
        tenant_id uuid NOT NULL,
        PRIMARY KEY (connection_id, scan_id, stream, record_id),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        integration text NOT NULL,
        event_id text NOT NULL,
        connection_id uuid NOT NULL,
        tenant_id uuid NOT NULL,
        type text NOT NULL,
        data jsonb NOT NULL,
        received_at timestamptz DEFAULT now() NOT NULL,
        applied_at timestamptz,
        attempts integer DEFAULT 0 NOT NULL,
        error text,
        UNIQUE (integration, event_id, connection_id),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX events_pending_idx ON events (connection_id, id) WHERE applied_at IS NULL",
    """
    CREATE TABLE watches (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        connection_id uuid NOT NULL,
        vendor_id text NOT NULL,
        resource text NOT NULL,
        state jsonb DEFAULT '{}' NOT NULL,
        expires_at timestamptz,
        created_at timestamptz DEFAULT now() NOT NULL,
        UNIQUE (connection_id, vendor_id),
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ON watches (expires_at)",
    """
    CREATE TABLE sync_runs (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        connection_id uuid NOT NULL,
        trigger text NOT NULL,
        flow_run_id uuid,
        started_at timestamptz DEFAULT now() NOT NULL,
        ended_at timestamptz,
        status text DEFAULT 'running' NOT NULL,
        message text DEFAULT '' NOT NULL,
        streams jsonb DEFAULT '{}' NOT NULL,
        requests integer DEFAULT 0 NOT NULL,
        seconds double precision,
        FOREIGN KEY (connection_id, tenant_id)
            REFERENCES connections (id, tenant_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ON sync_runs (connection_id, started_at)",
    "CREATE INDEX sync_runs_running_idx ON sync_runs (started_at) WHERE ended_at IS NULL",
)

# What a tenant's own transaction may do; it sees the tenant's rows only.
TENANT_GRANTS = {
    "tenants": "SELECT, UPDATE (data_key, updated_at)",
    "tenant_settings": "SELECT, INSERT, UPDATE, DELETE",
    "oauth_log": "SELECT, INSERT",
    "grants": "SELECT, INSERT, UPDATE, DELETE",
    "connections": "SELECT, INSERT, UPDATE, DELETE",
    "leases": "SELECT, INSERT, UPDATE",
    "checkpoints": "SELECT, INSERT, UPDATE, DELETE",
    "records": "SELECT, INSERT, UPDATE, DELETE",
    "seen": "SELECT, INSERT, DELETE",
    "events": "SELECT, UPDATE",
    "watches": "SELECT, INSERT, UPDATE, DELETE",
    "sync_runs": "SELECT, INSERT, UPDATE",
}

# What a dispatcher may do, for all tenants at once. No secret, no record.
DISPATCH_GRANTS = {
    "tenants": """SELECT (id, slug, name, contact_email, tier, stripe_customer_id,
                          stripe_subscription_id, created_at, updated_at)""",
    "grants": "SELECT",
    "connections": """SELECT, UPDATE (status, status_reason, next_due_at, failures,
                                      last_synced_at)""",
    "leases": "SELECT, INSERT, UPDATE",
    "checkpoints": "SELECT, UPDATE (dirty_generation)",
    "events": "SELECT, UPDATE, DELETE",
    "watches": "SELECT, UPDATE",
    "sync_runs": "SELECT, UPDATE, DELETE",
}

# What receives webhooks finds whose account one is about, and puts it into the inbox.
INGRESS_GRANTS = {
    "connections": "SELECT (id, tenant_id, integration, account_id, status)",
    "events": "SELECT, INSERT",
}

# These belong to no tenant.
SHARED_GRANTS = {
    "installation": "SELECT",
    "workers": "SELECT, INSERT, UPDATE, DELETE",
    "drains": "SELECT, INSERT, UPDATE, DELETE",
    "atom_alembic_version": "SELECT",
}

# Outside a transaction of ours the setting is '' once it was set in the session. The sub-select
# makes PostgreSQL read it once a statement, not once a row.
CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
    for table in TENANT_GRANTS:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY owner ON {table} TO atom_owner USING (true)")
        column = "id" if table == "tenants" else "tenant_id"
        op.execute(
            f"CREATE POLICY tenant ON {table} TO atom_tenant USING ({column} = {CURRENT_TENANT})"
        )
    for role, policy, grants in (
        ("atom_tenant", None, TENANT_GRANTS),
        ("atom_dispatch", "dispatch", DISPATCH_GRANTS),
        ("atom_dispatch", None, SHARED_GRANTS),
        ("atom_ingress", "ingress", INGRESS_GRANTS),
    ):
        for table, rights in grants.items():
            op.execute(f"GRANT {rights} ON {table} TO {role}")
            if policy is not None:
                op.execute(f"CREATE POLICY {policy} ON {table} TO {role} USING (true)")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
