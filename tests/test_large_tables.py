"""On large tables: what is asked for is reached by a key, and a migration keeps nobody waiting."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from connectors import all_connectors
from storage import _large, changes, connections, inbox
from storage.database import Database, in_sql
from storage.migrate import migrate
from tests._many_rows import connection, fill, nodes, plan, scanned, tenant
from tests._migrated import migrate_to

Sql = psycopg.Connection[Any]

AS_TENANT = "SELECT set_config('role', 'atom_tenant', true), set_config('app.tenant_id', %s, true)"
QUERIES = (
    "SELECT email, updated_at FROM hubspot_contacts ORDER BY updated_at DESC LIMIT 10",
    "SELECT count(*) FROM hubspot_contacts",
    "SELECT * FROM hubspot_contacts WHERE record_id = '000000001'",
    "SELECT count(*) FROM hubspot_contacts a JOIN hubspot_contacts b USING (record_id)",
    "SELECT count(*) FROM gone_records",
)


@contextmanager
def as_tenant(url: str, number: int) -> Iterator[Sql]:
    with psycopg.connect(url) as sql:
        sql.execute(AS_TENANT, [str(tenant(number))])
        yield sql


@pytest.mark.parametrize("query", QUERIES)
async def test_a_tenants_rows_are_reached_by_the_key(database_url: str, query: str) -> None:
    fill(database_url)
    with as_tenant(database_url, 7) as sql:
        found = plan(sql, query)
        assert scanned(found, "records") - _empty(database_url) == set()
        reached = [node for node in found if "contacts" in node.get("Index Name", "")]
        assert reached, "an index is asked, and for the tenant's connections"
        assert all("connection_id" in node["Index Cond"] for node in reached)


def _empty(url: str) -> set[str]:
    """Partitions without a row: that they are read says nothing."""
    with psycopg.connect(url) as sql:
        partitions = sql.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass"
        ).fetchall()
        filled = sql.execute("SELECT DISTINCT tableoid::regclass::text FROM records").fetchall()
        return {name for (name,) in {*partitions} - {*filled}}


async def test_a_tenant_that_writes_its_own_sql_sees_no_others_rows(database_url: str) -> None:
    fill(database_url, tenants=20)
    with as_tenant(database_url, 7) as sql:
        # A function of its own that claims to cost nothing would be asked first, if it could.
        sql.execute("CREATE TEMP TABLE told (id text)")
        sql.execute(
            "CREATE FUNCTION pg_temp.tell(id uuid, what text) RETURNS boolean LANGUAGE plpgsql"
            " COST 0.0000001 AS $$ BEGIN INSERT INTO told VALUES (id); RETURN true; END $$"
        )
        sql.execute("SELECT count(*) FROM records WHERE pg_temp.tell(tenant_id, data::text)")
        sql.execute("SELECT count(*) FROM hubspot_contacts WHERE pg_temp.tell(tenant_id, 'x')")
        told = sql.execute("SELECT DISTINCT id FROM told").fetchall()
        assert told == [(str(tenant(7)),)]
        for condition in (f"connection_id = '{connection(8)}'", f"tenant_id = '{tenant(8)}'"):
            query = f"SELECT count(*) FROM records WHERE {condition} OR {condition}"
            assert sql.execute(query.encode()).fetchall() == [(0,)]
            assert sql.execute(f"DELETE FROM records WHERE {condition}".encode()).rowcount == 0
        sql.execute("SELECT set_config('app.tenant_id', '', true)")
        assert sql.execute("SELECT count(*) FROM records").fetchall() == [(0,)]


async def test_a_row_on_anothers_connection_is_refused_however_it_is_written(
    database_url: str,
) -> None:
    fill(database_url, tenants=2)
    row = (
        "INSERT INTO records (connection_id, record_id, stream, tenant_id, data, observed_at,"
        " content_hash) VALUES (%s, 'planted', 'hubspot.contacts', %s, '{}', now(), '')"
    )
    for ending, refused in (
        ("", psycopg.errors.ForeignKeyViolation),
        (" ON CONFLICT DO NOTHING", psycopg.errors.ForeignKeyViolation),
        (" RETURNING record_id", psycopg.errors.InsufficientPrivilege),
    ):
        with as_tenant(database_url, 1) as sql, pytest.raises(refused):
            sql.execute((row + ending).encode(), [connection(2), tenant(1)])
    with as_tenant(database_url, 1) as sql, pytest.raises(psycopg.errors.InsufficientPrivilege):
        sql.execute(
            "UPDATE records SET connection_id = %s, record_id = 'planted' WHERE record_id = %s",
            [connection(2), "000000001"],
        )


@contextmanager
def explained(engine: AsyncEngine) -> Iterator[list[list[dict[str, Any]]]]:
    """The plan of each SELECT of records that our own code sends meanwhile."""
    plans: list[list[dict[str, Any]]] = []

    def explain(sent: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT records"):
            asking = sent.connection.cursor()
            asking.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
            plans.append(list(nodes(asking.fetchone()[0])))
            asking.close()

    event.listen(engine.sync_engine, "before_cursor_execute", explain)
    yield plans
    event.remove(engine.sync_engine, "before_cursor_execute", explain)


async def test_what_changed_is_found_by_an_index(database: Database, database_url: str) -> None:
    fill(database_url, tenants=40, each=500)
    found = await connections.get(database, connection(7))
    with explained(database._engine) as plans:
        since = datetime.now(UTC) - timedelta(minutes=150)
        page = await changes.read(database, found, "contacts", since=since, limit=2)
        assert page.next is not None
        rest = await changes.read(database, found, "contacts", cursor=page.next)
    assert [each.id for each in (*page.changes, *rest.changes)] == [f"{n:09}" for n in range(3)]
    looked = plans[0]
    assert any("CASE WHEN (changed_at IS NULL)" in str(node.get("Index Cond")) for node in looked)


async def test_pages_go_by_the_key_whatever_statistics_say(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "FEW", 10)
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("ALTER TABLE records_hubspot_contacts SET (autovacuum_enabled = off)")
        sql.execute("ANALYZE")
    fill(database_url, tenants=3, each=5_000, analyse=False)
    found = await connections.get(database, connection(1))
    for since in (None, datetime.now(UTC) - timedelta(days=30)):
        with explained(database._engine) as plans:
            page = await changes.read(database, found, "contacts", since=since)
        assert [change.id for change in page.changes] == [f"{n:09}" for n in range(100)]
        assert "Sort" not in {node["Node Type"] for node in plans[-1]}
        (walked,) = (node for node in plans[-1] if "contacts" in node.get("Relation Name", ""))
        assert walked["Index Name"] == "records_hubspot_contacts_pkey"


# --- migrations -------------------------------------------------------------------------------


async def _older(url: str, revision: str = "0014") -> None:
    """A filled database of an older version, with its partitions."""
    await migrate_to(url, revision)
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("SET ROLE atom_owner")
        sql.execute("CREATE TABLE records_hubspot_contacts (LIKE records INCLUDING ALL)")
        sql.execute(
            "ALTER TABLE records ATTACH PARTITION records_hubspot_contacts"
            " FOR VALUES IN ('hubspot.contacts')"
        )
    fill(url, tenants=20)


def _indexes(url: str) -> dict[str, bool]:
    """Of the partitions, of events and of runs, whether each is valid."""
    with psycopg.connect(url) as sql:
        found = sql.execute(
            "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = indexrelid"
            " JOIN pg_class t ON t.oid = indrelid"
            " WHERE t.relname IN ('records', 'records_hubspot_contacts', 'events', 'sync_runs')"
        )
        return dict(found.fetchall())


async def test_an_older_database_gets_the_indexes_of_its_partitions(postgres_url: str) -> None:
    await _older(postgres_url)
    assert "records_changed_idx" not in _indexes(postgres_url)
    await migrate(postgres_url, connectors=all_connectors())
    found = _indexes(postgres_url)
    assert found["records_changed_idx"]
    assert found["events_connection_id_idx"]
    assert found["sync_runs_flow_run_id_idx"]
    assert all(found.values())
    with psycopg.connect(postgres_url) as sql:
        attached = sql.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'records_changed_idx'::regclass"
        ).fetchall()
        partitions = sql.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'records'::regclass"
        ).fetchall()
    assert attached == partitions


async def test_an_index_that_was_interrupted_is_made_again(postgres_url: str) -> None:
    await migrate(postgres_url, connectors=all_connectors())
    whole = _indexes(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as sql:
        # As a process leaves them that is killed while it makes one, before it attaches it.
        sql.execute("DROP INDEX records_changed_idx, events_connection_id_idx")
        sql.execute("SET ROLE atom_owner")
        written = (
            "(CASE WHEN changed_at IS NULL THEN greatest(observed_at, deleted_at)"
            " ELSE changed_at END)"
        )
        form = f"(connection_id, {written}) WHERE {written} IS NOT NULL"
        sql.execute(f"CREATE INDEX records_changed_idx ON ONLY records {form}".encode())
        sql.execute(f"CREATE INDEX half ON records_hubspot_contacts {form}".encode())
        sql.execute("CREATE INDEX events_connection_id_idx ON events (connection_id)")
        sql.execute("RESET ROLE")
        sql.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN"
            " ('half'::regclass, 'events_connection_id_idx'::regclass)"
        )
    assert not all(_indexes(postgres_url).values())
    await migrate(postgres_url, connectors=all_connectors())
    found = _indexes(postgres_url)
    assert all(found.values())
    assert len(found) == len(whole)
    assert "half" not in found


async def test_a_migration_that_waits_for_a_lock_lets_others_go_on(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_large, "LOCK_WAIT", timedelta(milliseconds=500))
    await _older(postgres_url)
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT count(*) FROM records")
        migrating = asyncio.create_task(migrate(postgres_url, connectors=all_connectors()))
        await asyncio.to_thread(_until_something_waits, postgres_url)
        with psycopg.connect(postgres_url) as other:
            other.execute("SET statement_timeout = '20s'")
            other.execute("UPDATE records SET observed_at = now() WHERE record_id = '000000001'")
        assert not migrating.done()
        reader.rollback()
    assert (await migrating).before == "0014"
    assert all(_indexes(postgres_url).values())


def _until_something_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as sql:
        while not sql.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            pass


# --- what is asked for again and again ----------------------------------------------------------


async def test_a_look_for_what_waits_reads_no_table_from_end_to_end(database_url: str) -> None:
    fill(database_url, tenants=2_000, each=0, analyse=False)
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(
            "INSERT INTO leases (connection_id, kind, tenant_id, epoch, expires_at)"
            " SELECT id, kind, tenant_id, 1, now() FROM connections,"
            " unnest(ARRAY['sync', 'event']) kind"
        )
        sql.execute(
            "INSERT INTO checkpoints (connection_id, tenant_id, stream, dirty_generation)"
            " SELECT id, tenant_id, s, (s = 's1' AND account_id = 'a7')::int FROM connections,"
            " unnest(ARRAY['s1', 's2', 's3']) s"
        )
        sql.execute("ANALYZE")
        statement, values = in_sql(inbox._WAITING)
        given = {"shard": 0, "shards": 1, "busy": [], "most": 100, "share": 25, "reserved": 75}
        sql.execute("SET ROLE atom_dispatch")
        read = {
            node.get("Relation Name")
            for node in plan(sql, statement, {**values, **given})
            if node["Node Type"] == "Seq Scan"
        }
        assert read.isdisjoint({"connections", "leases", "checkpoints"})
        found = sql.execute(statement.encode(), {**values, **given}).fetchall()
        assert [row[0] for row in found] == [connection(7)]
