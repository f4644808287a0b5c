"""Databases for tests: migrated once, copied seldom, and emptied between two tests.

A copy of the migrated template takes half a second and 11 MB; to empty one takes a fiftieth of
that. A database of which a test has changed more than rows is left alone, and copied anew.
"""

from uuid import uuid4

import psycopg
from psycopg import sql

from servers import postgresql

# All that a test may have changed beside rows. Names of temporary tables come and go by themselves.
FORM = """
SELECT md5(string_agg(what, ',' ORDER BY what)) FROM (
    SELECT format('class %s %s %s %s', oid, relname, relkind, relacl) AS what FROM pg_class
        WHERE oid >= 16384 AND relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT format('column %s %s', a.attrelid, a.xmin) FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid AND c.relpersistence <> 't'
            AND c.relnamespace <> 'pg_toast'::regnamespace
        WHERE a.attrelid >= 16384
    UNION ALL SELECT format('constraint %s %s', oid, xmin) FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT format('policy %s %s', oid, xmin) FROM pg_policy
    UNION ALL SELECT format('rule %s %s', oid, xmin) FROM pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT format('trigger %s %s %s', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT format('function %s %s', oid, xmin) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT format('setting %s', setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT format('settled %s', version_num) FROM atom_alembic_version
) everything
"""
# Who is still connected is done; nothing of theirs may be committed any more.
LEFT = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
EMPTY = """
DO $$
DECLARE
    one regclass;
    filled boolean;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no foreign key and no trigger
    FOR one IN
        SELECT oid FROM pg_class
        WHERE oid >= 16384 AND relkind IN ('r', 'p') AND NOT relispartition
            AND relpersistence <> 't' AND relname <> 'atom_alembic_version'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO filled;
        IF filled THEN
            EXECUTE format('DELETE FROM %s', one);
        END IF;
    END LOOP;
    PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence
    WHERE pg_sequence_last_value(seqrelid) IS NOT NULL;
END $$
"""


def create(server: postgresql.Postgres, template: str = "template0") -> str:
    """A new database, by its name."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return name


class Pool:
    """Copies of a template, each handed out as it was when it was new."""

    def __init__(self, server: postgresql.Postgres, template: str) -> None:
        self._server = server
        self._template = template
        self._free: list[str] = []
        self._form = ""

    def take(self) -> str:
        while self._free:
            name = self._free.pop()
            if self._emptied(name):
                return name
        name = create(self._server, self._template)
        if not self._form:
            with psycopg.connect(self._server.url(name)) as connection:
                self._form = _form(connection)
        return name

    def give_back(self, name: str) -> None:
        """It is emptied when it is next wanted: by then all of its test's fixtures have ended."""
        self._free.append(name)

    def _emptied(self, name: str) -> bool:
        try:
            with psycopg.connect(self._server.url(name), autocommit=True) as connection:
                connection.execute(LEFT)
                if _form(connection) != self._form:
                    return False
                connection.execute(EMPTY)
        except psycopg.OperationalError:  # it takes no connections any more, or is gone
            return False
        return True


def _form(connection: psycopg.Connection) -> str:
    ((form,),) = connection.execute(FORM).fetchall()
    return str(form)
