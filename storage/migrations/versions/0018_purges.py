"""Connections that are to be purged: invisible at once, and forgotten little by little."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)"

STATEMENTS = (
    "ALTER TABLE connections ADD COLUMN purge_owed_at timestamptz",
    # Of a new column all is null: PostgreSQL reads the table once, as for the others.
    """
    CREATE INDEX connections_purge_owed_idx ON connections (purge_owed_at)
        WHERE purge_owed_at IS NOT NULL
    """,
    f"""
    ALTER POLICY tenant ON records USING (
        tenant_id = {CURRENT_TENANT} AND connection_id = ANY (ARRAY(
            SELECT id FROM connections
            WHERE tenant_id = {CURRENT_TENANT} AND purge_owed_at IS NULL
        ))
    )
    """,  # noqa: S608 - words of ours
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
