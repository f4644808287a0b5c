"""Readers: who reads with SQL, of one tenant or of all, and can do nothing else."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Whom a reader reads is decided by who logged in. No setting and no SET ROLE changes that, and a
# role of another database of this server is in no row here.
READ_TENANT = "(SELECT tenant_id FROM readers WHERE name = session_user)"
READS_ALL = "(SELECT count(*) > 0 FROM readers WHERE name = session_user AND reads_all)"

# What a reader sees besides records: whose they are, and how fresh.
GRANTS = {
    "tenants": "SELECT (id, slug, name, tier, created_at)",
    "connections": """SELECT (id, tenant_id, tier, integration, account_id, account_name, status,
                              failures, failure, next_due_at, last_synced_at, created_at,
                              purge_owed_at)""",
    "records": "SELECT",
    "checkpoints": "SELECT (connection_id, tenant_id, stream, last_synced_at)",
    "watches": "SELECT (connection_id, tenant_id, status, expires_at)",
    "leases": "SELECT (connection_id, tenant_id, kind, expires_at)",
}
SHARED = ("sync_intervals", "breakers", "gone_records", "freshness")

STATEMENTS = (
    """
    CREATE TABLE readers (
        name text PRIMARY KEY,
        tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
        reads_all boolean NOT NULL,
        created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        CONSTRAINT readers_reads_check CHECK (reads_all = (tenant_id IS NULL))
    )
    """,
    "CREATE INDEX ON readers (tenant_id)",
    "ALTER TABLE readers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY owner ON readers TO atom_owner USING (true)",
    "GRANT SELECT ON readers TO atom_reader, atom_reader_of_all",
    """
    CREATE POLICY reader ON readers TO atom_reader, atom_reader_of_all
        USING (name = session_user)
    """,
    # The views of the streams that there are; those to come are granted as they are made.
    """
    DO $$
    DECLARE one regclass;
    BEGIN
        FOR one IN SELECT oid FROM pg_class
            WHERE relkind = 'v' AND relowner = 'atom_owner'::regrole
                AND relnamespace =
                    (SELECT relnamespace FROM pg_class WHERE oid = 'readers'::regclass)
        LOOP
            EXECUTE format('GRANT SELECT ON %s TO atom_reader, atom_reader_of_all', one);
        END LOOP;
    END $$
    """,
    f"GRANT SELECT ON {', '.join(SHARED)} TO atom_reader, atom_reader_of_all",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table, rights in GRANTS.items():
        op.execute(f"GRANT {rights} ON {table} TO atom_reader, atom_reader_of_all")
        column = "id" if table == "tenants" else "tenant_id"
        of_one, of_all = f"{column} = {READ_TENANT}", READS_ALL
        if table == "connections":
            of_one += " AND purge_owed_at IS NULL"
            of_all += " AND purge_owed_at IS NULL"
        if table == "records":
            # The key begins with the connection; those to be purged are not among these.
            of_one += " AND connection_id = ANY (ARRAY(SELECT id FROM connections))"
            of_all = "connection_id = ANY (ARRAY(SELECT id FROM connections))"
        op.execute(f"CREATE POLICY reader ON {table} TO atom_reader USING ({of_one})")
        op.execute(f"CREATE POLICY reader_of_all ON {table} TO atom_reader_of_all USING ({of_all})")


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
