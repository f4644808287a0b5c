"""Large tables: a tenant's rows and what changed of them are reached by the key, not by a scan.

Nothing here reads or writes a table. What takes its time is made afterwards, while everything runs:
see `storage._large`.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

WRITTEN_AT = (
    "CASE WHEN changed_at IS NULL THEN greatest(observed_at, deleted_at) ELSE changed_at END"
)

STATEMENTS = (
    # The tenant decides, as before. That its connections are named as well lets the primary key
    # find its rows, which begins with the connection. A foreign key holds both together, so rows
    # that are written need not be looked up among them.
    f"""
    ALTER POLICY tenant ON records USING (
        tenant_id = {CURRENT_TENANT} AND connection_id = ANY (
            ARRAY(SELECT id FROM connections WHERE tenant_id = {CURRENT_TENANT})
        )
    ) WITH CHECK (tenant_id = {CURRENT_TENANT})
    """,  # noqa: S608 - words of ours
    # Of the parent alone: that of each partition is made without a lock and attached to it. Not
    # coalesce(): PostgreSQL (18) does not know that it tells nothing, so row-level security would
    # keep it from the index. The condition holds of every row; for it PostgreSQL uses the index
    # for nothing else: where it thinks a connection small, it would take it in place of the key.
    f"""
    CREATE INDEX records_changed_idx ON ONLY records (connection_id, ({WRITTEN_AT}))
        WHERE ({WRITTEN_AT}) IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
