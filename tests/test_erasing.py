"""Forgetting a connection: batch by batch, by the key; and a purge is one for everybody at once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from storage import erasing
from storage.database import Database, in_sql
from tests._many_rows import connection, fill, plan
from tests._stored import row, stock, stored, write
from tests._web import Api, problem, serving_api, web_settings


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with serving_api(web_settings(database_url)) as opened:
        yield opened


async def count(database: Database, table: str) -> int:
    async with database.owning() as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


async def test_a_purge_that_takes_long_is_one_for_everybody_at_once_and_upkeep_ends_it(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, other = await stock(database, "acme"), await stock(database, "other", "43")
    for stocked in (acme, other):
        await write(database, stocked, [row(str(number)) for number in range(25)])
    real = erasing.purge

    async def takes_long(*given: Any, **named: Any) -> bool:
        return await real(*given, within=timedelta(0))

    monkeypatch.setattr(erasing, "purge", takes_long)
    mine = api.as_(acme.tenant_id)
    path = f"/api/connections/{acme.connection_id}"
    assert (await mine.call("DELETE", path, params={"purge": "true"})).status_code == 204
    monkeypatch.setattr(erasing, "purge", real)
    problem(await mine.get(path), 404)
    problem(await mine.get(f"{path}/records/contacts"), 404)
    assert await stored(database, acme) == {}, "its tenant's SQL shows none of it"
    assert await count(database, "records") == 50
    async with database.transaction(acme.tenant_id) as session:  # the account is free again
        await session.execute(
            text(
                "INSERT INTO connections (id, tenant_id, grant_id, integration, account_id)"
                " VALUES (gen_random_uuid(), :tenant, :grant, 'hubspot', '42')"
            ),
            {"tenant": acme.tenant_id, "grant": acme.grant_id},
        )
    assert await erasing.purge_owed(database, within=timedelta(minutes=1)) == 1
    assert await erasing.purge_owed(database, within=timedelta(minutes=1)) == 0
    assert await count(database, "records") == len(await stored(database, other)) == 25
    assert await count(database, "connections") == 2
    assert await count(database, "grants") == 2, "its grant is used by the new connection"


async def test_a_sync_under_way_commits_nothing_more_of_what_is_purged(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*given: Any, **named: Any) -> bool:
        return False

    acme = await stock(database, "acme")
    async with database.transaction(acme.tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO leases VALUES (:connection_id, 'sync', :tenant_id, 3,"
                " now() + interval '1 hour', 'worker')"
            ),
            acme.ids,
        )
    monkeypatch.setattr(erasing, "purge", not_yet)
    path = f"/api/connections/{acme.connection_id}"
    mine = api.as_(acme.tenant_id)
    assert (await mine.call("DELETE", path, params={"purge": "true"})).status_code == 204
    async with database.owning() as session:
        held = await session.execute(text("SELECT epoch, expires_at FROM leases"))
        assert held.one() == (4, None)


async def test_a_batch_is_found_by_the_key_whatever_statistics_say(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("ALTER TABLE records_hubspot_contacts SET (autovacuum_enabled = off)")
        sql.execute("ANALYZE")
    fill(database_url, tenants=3, each=5_000, analyse=False)
    statement, _ = in_sql(erasing._SOME_RECORDS)
    values = {
        "stream": "hubspot.contacts", "connection_id": connection(1), "after": "",
        "batch": erasing.BATCH,
    }  # fmt: skip
    with psycopg.connect(database_url) as sql:
        sql.execute("SET LOCAL ROLE atom_owner")
        sql.execute("SET LOCAL enable_sort = off")
        found = plan(sql, statement, values)
    read = [node for node in found if node.get("Relation Name") == "records_hubspot_contacts"]
    assert {node["Node Type"] for node in read} <= {
        "Index Scan", "Index Only Scan", "Bitmap Heap Scan",
    }  # fmt: skip
    reached = [node["Index Cond"] for node in found if "Index Cond" in node]
    assert len(reached) == 2
    assert all("record_id" in condition for condition in reached)


async def test_what_a_connection_has_is_deleted_in_batches(database: Database) -> None:
    acme = await stock(database, "acme")
    await write(database, acme, [row(str(number)) for number in range(25)])
    async with database.owning() as session:
        await session.execute(
            text(
                "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data)"
                " SELECT 'hubspot', n::text, :connection_id, :tenant_id, 'changed', '{}'"
                " FROM generate_series(1, 25) n"
            ),
            acme.ids,
        )
    gone = [each async for each in erasing.empty(database, acme.connection_id, batch=10)]
    assert gone == [10, 10, 5, 0, 0]
    assert await count(database, "records") == await count(database, "events") == 0


async def test_the_events_of_a_connection_are_found_by_an_index(database_url: str) -> None:
    fill(database_url, tenants=200, each=1, analyse=False)
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(
            "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data,"
            " applied_at) SELECT integration, n::text, id, tenant_id, 'changed', '{}', now()"
            " FROM connections, generate_series(1, 20) n"
        )
        sql.execute("ANALYZE")
        # As the cascade of a connection's deletion asks.
        found = plan(sql, "DELETE FROM events WHERE connection_id = %s", [connection(7)])
    assert "events_connection_id_idx" in {node.get("Index Name") for node in found}
