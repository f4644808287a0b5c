"""A PostgreSQL that is not well, by its own means: read-only, full, locked, slow, crowded.

Where a test may mount nothing, a full disk is a trigger that raises PostgreSQL's own code for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

WELL = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"
FULL = """
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/1/1": No space left on device'
    USING ERRCODE = 'disk_full';
END $$
"""
CUT = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def run(url: str, *statements: str) -> None:
    """As the superuser, who is not bound by what ails the others."""
    with psycopg.connect(url, autocommit=True, options=WELL) as admin:
        name = sql.Identifier(admin.info.dbname)
        for statement in statements:
            admin.execute(sql.SQL(statement).format(database=name))


def cut(url: str) -> None:
    """Ends every connection, as a restart does."""
    run(url, CUT.replace("{", "{{"))


@contextmanager
def set_to(url: str, setting: str, value: str) -> Iterator[None]:
    """The database has that setting, for all who connect from now on; and all have to."""
    run(url, f"ALTER DATABASE {{database}} SET {setting} = '{value}'")
    cut(url)
    try:
        yield
    finally:
        run(url, f"ALTER DATABASE {{database}} RESET {setting}")
        cut(url)


@contextmanager
def read_only(url: str) -> Iterator[None]:
    with set_to(url, "default_transaction_read_only", "on"):
        yield


@contextmanager
def full(url: str, *tables: str) -> Iterator[None]:
    """There is no room for another row of those tables."""
    making = "CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON {} EXECUTE FUNCTION disk_full()"
    run(url, FULL, *(making.replace("{}", table) for table in tables))
    try:
        yield
    finally:
        run(url, "DROP FUNCTION disk_full() CASCADE")


@contextmanager
def locked(url: str, *tables: str) -> Iterator[None]:
    """Somebody else holds those tables, and nobody may wait for long."""
    with set_to(url, "lock_timeout", "50ms"), psycopg.connect(url, options=WELL) as holder:
        holder.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE".encode())
        yield


@contextmanager
def slow(url: str, *tables: str) -> Iterator[None]:
    """A statement about those tables takes longer than any may."""
    with set_to(url, "statement_timeout", "50ms"), psycopg.connect(url, options=WELL) as holder:
        holder.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE".encode())
        yield


@contextmanager
def crowded(url: str, user: str) -> Iterator[None]:
    """That user may not connect once more; superusers are never refused."""
    run(url, f"ALTER ROLE {user} CONNECTION LIMIT 0")
    cut(url)
    try:
        yield
    finally:
        run(url, f"ALTER ROLE {user} CONNECTION LIMIT -1")
