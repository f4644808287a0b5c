"""Each start of `up` has a row of its own, by which its runs are told to stop; and which run is to
begin a backfill, which is owed until then.

Columns with constant defaults and an empty table: a process of the former version goes on. It
reads and writes its own stop in `workers.stopping_at`, which nothing of this version looks at.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE incarnations (
        id uuid PRIMARY KEY,
        worker text NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        started_at timestamptz DEFAULT now() NOT NULL,
        heartbeat_at timestamptz DEFAULT now() NOT NULL,
        stopping_at timestamptz
    )
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON incarnations TO atom_dispatch",
    "ALTER TABLE connections ADD COLUMN backfill_run_id uuid",
    "ALTER TABLE connections ADD COLUMN backfill_tries integer DEFAULT 0 NOT NULL",
    """
    CREATE INDEX connections_backfill_run_idx ON connections (backfill_run_id)
        WHERE backfill_run_id IS NOT NULL
    """,
    "GRANT UPDATE (backfill_run_id, backfill_tries) ON connections TO atom_dispatch",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward; to go back, restore a backup")
