"""No tenant reaches another's rows, whatever SQL its transaction runs."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from connectors import all_connectors
from storage import tenants
from storage.database import Database, postgres
from storage.models import Base
from tests._stored import Stocked, row, stock, write

# Who reads a tenant's rows is the operator's affair: no tenant's transaction may ask.
OWNED = sorted(
    name
    for name, table in Base.metadata.tables.items()
    if "tenant_id" in table.columns and name != "readers"
)

# A row of each kind for one tenant, as its own transaction may write them.
FILLED = """
INSERT INTO tenant_settings (tenant_id, setting_key, setting_value) VALUES (%(tenant)s, 'k', 'v');
INSERT INTO oauth_log (tenant_id, integration, event) VALUES (%(tenant)s, 'hubspot', 'connect');
INSERT INTO leases (connection_id, kind, tenant_id, epoch)
    VALUES (%(connection)s, 'sync', %(tenant)s, 1);
INSERT INTO checkpoints (connection_id, stream, tenant_id)
    VALUES (%(connection)s, 'contacts', %(tenant)s);
INSERT INTO seen VALUES (%(connection)s, gen_random_uuid(), 's', 'r', %(tenant)s);
INSERT INTO watches (id, tenant_id, connection_id, vendor_id, resource)
    VALUES (gen_random_uuid(), %(tenant)s, %(connection)s, 'w', 'contacts');
INSERT INTO feeds (tenant_id, connection_id, state) VALUES (%(tenant)s, %(connection)s, '{}');
INSERT INTO gaps (tenant_id, connection_id, streams, since, until, reason)
    VALUES (%(tenant)s, %(connection)s, '[]', now(), now(), 'away');
INSERT INTO audits (id, tenant_id, connection_id, stream)
    VALUES (gen_random_uuid(), %(tenant)s, %(connection)s, 'contacts');
INSERT INTO sync_runs (id, tenant_id, connection_id, trigger)
    VALUES (gen_random_uuid(), %(tenant)s, %(connection)s, 'manual');
INSERT INTO connect_sessions (id, tenant_id, token_hash, expires_at)
    VALUES (%(tenant)s, %(tenant)s, uuid_send(gen_random_uuid()), now());
INSERT INTO oauth_states (id, tenant_id, session_id, integration, nonce_hash, expires_at)
    VALUES (%(tenant)s, %(tenant)s, %(tenant)s, 'hubspot', uuid_send(gen_random_uuid()), now());
INSERT INTO revocations (id, tenant_id, grant_id, integration, account_ids, sealed_token)
    VALUES (gen_random_uuid(), %(tenant)s, %(tenant)s, 'hubspot', '[]', 'sealed');
INSERT INTO idempotency_keys (id, tenant_id, about_tenant_id, key_hash, fingerprint, claimed_until)
    VALUES (gen_random_uuid(), %(tenant)s, %(tenant)s, 'k', 'f', now());
INSERT INTO notices (id, tenant_id, grant_id, integration, reason)
    VALUES (gen_random_uuid(), %(tenant)s, %(grant)s, 'hubspot', 'over')
"""
EVENT = """
INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data)
    VALUES ('hubspot', %(event_id)s, %(connection)s, %(tenant)s, 'changed', '{}')
"""
CUSTOMER = """
INSERT INTO billing_customers (customer_id, tenant_id, livemode)
    VALUES ('cus_' || left(CAST(:tenant AS text), 8), :tenant, true)
"""


def _names(stocked: Stocked) -> dict[str, Any]:
    return {
        "tenant": stocked.tenant_id,
        "connection": stocked.connection_id,
        "grant": stocked.grant_id,
    }


async def _fill(database: Database, stocked: Stocked) -> None:
    values: dict[str, Any] = _names(stocked)
    async with database.transaction(stocked.tenant_id) as session:
        connection = await postgres(session)
        for statement in FILLED.split(";"):
            await connection.execute(statement.encode(), values)
    async with database.receiving() as session:
        values["event_id"] = str(stocked.tenant_id)
        await (await postgres(session)).execute(EVENT, values)
    async with database.owning() as session:
        # Whose a customer is, and what it pays for, is written by the owner alone.
        await session.execute(text(CUSTOMER), {"tenant": stocked.tenant_id})
    await write(database, stocked, [row("1", "secret")])


@pytest.fixture
async def two(database: Database) -> tuple[Stocked, Stocked]:
    ours, theirs = await stock(database, "ours"), await stock(database, "theirs")
    await _fill(database, ours)
    await _fill(database, theirs)
    return ours, theirs


async def _run(database: Database, stocked: Stocked, statement: str, **values: Any) -> int:
    async with database.transaction(stocked.tenant_id) as session:
        cursor = await (await postgres(session)).execute(statement.encode(), values)
        return cursor.rowcount


async def test_every_table_of_tenants_has_forced_row_level_security(database: Database) -> None:
    query = text(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        " AND (a.attname = 'tenant_id' OR c.relname = 'tenants')"
        " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    async with database.owning() as session:
        assert list(await session.scalars(query)) == []


async def test_views_ask_for_the_readers_rights(database: Database) -> None:
    query = text(
        "SELECT relname, 'security_invoker=true' = ANY(reloptions) FROM pg_class"
        " WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace"
    )
    async with database.owning() as session:
        views = {name: asks for name, asks in await session.execute(query)}
    names = {f"{c.name}_{s.name}" for c in all_connectors() for s in c.streams}
    assert views == dict.fromkeys({*names, "freshness", "gone_records"}, True)


@pytest.mark.parametrize("table", [*OWNED, "hubspot_contacts"])
async def test_a_tenant_sees_its_own_rows_alone(
    database: Database, two: tuple[Stocked, Stocked], table: str
) -> None:
    ours, _ = two
    async with database.transaction(ours.tenant_id) as session:
        owners = set(await session.scalars(text(f"SELECT tenant_id FROM {table}")))
    assert owners == {ours.tenant_id}


async def test_a_tenant_sees_no_other_tenant(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, _ = two
    async with database.transaction(ours.tenant_id) as session:
        assert list(await session.scalars(text("SELECT slug FROM tenants"))) == ["ours"]


@pytest.mark.parametrize("table", OWNED)
async def test_a_tenant_changes_no_row_of_another(
    database: Database, two: tuple[Stocked, Stocked], table: str
) -> None:
    ours, theirs = two
    count = text(f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id")
    for statement in (
        f"DELETE FROM {table} WHERE tenant_id = %(theirs)s",
        f"UPDATE {table} SET tenant_id = %(ours)s WHERE tenant_id = %(theirs)s",
    ):
        try:
            changed = await _run(
                database, ours, statement, ours=ours.tenant_id, theirs=theirs.tenant_id
            )
        except psycopg.errors.InsufficientPrivilege:
            changed = 0
        assert changed == 0
    async with database.owning() as session:
        assert await session.scalar(count, {"tenant_id": theirs.tenant_id}) == 1


@pytest.mark.parametrize("table", OWNED)
async def test_a_tenant_gives_no_row_of_its_own_to_another(
    database: Database, two: tuple[Stocked, Stocked], table: str
) -> None:
    ours, theirs = two
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await _run(database, ours, f"UPDATE {table} SET tenant_id = %(t)s", t=theirs.tenant_id)


async def test_a_tenant_inserts_nothing_for_another(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, theirs = two
    for statement in FILLED.split(";"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            await _run(database, ours, statement, **_names(theirs))


async def test_a_tenant_puts_no_row_on_anothers_connection(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, theirs = two
    mixed = Stocked(ours.tenant_id, theirs.connection_id, ours.grant_id)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await write(database, mixed, [row("2", "planted")])
    # Where the key is taken already, the row that cannot be seen is not changed either.
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await write(database, mixed, [row("1", "planted", seconds=99)])


async def test_a_partition_is_closed_to_tenants(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, _ = two
    for statement in (
        "SELECT * FROM records_hubspot_contacts",
        "DELETE FROM records_hubspot_contacts",
        "TRUNCATE records",
        "COPY records_hubspot_contacts TO STDOUT",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await _run(database, ours, statement)


async def test_a_partition_that_someone_grants_shows_nothing(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, _ = two
    async with database.owning() as session:
        await session.execute(text("GRANT SELECT ON records_hubspot_contacts TO atom_tenant"))
    async with database.transaction(ours.tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM records_hubspot_contacts")) == 0


async def test_a_tenants_key_is_hidden_from_those_who_dispatch(database: Database) -> None:
    await stock(database)
    for statement in (
        "SELECT data_key FROM tenants",
        "SELECT * FROM tenants",
        "SELECT * FROM tenant_settings",
        "SELECT * FROM oauth_log",
        "SELECT * FROM records",
        "SELECT * FROM hubspot_contacts",
        "UPDATE tenants SET tier = 'ENTERPRISE'",
        "UPDATE billing_customers SET tenant_id = gen_random_uuid()",
        "UPDATE billing_customers SET tier = 'ENTERPRISE'",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            await _dispatch(database, statement)


async def _dispatch(database: Database, statement: str) -> None:
    async with database.dispatching() as session:
        await session.execute(text(statement))


async def test_ingress_finds_accounts_and_fills_the_inbox_and_no_more(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, theirs = two
    mapping = text("SELECT id, tenant_id, status FROM connections WHERE account_id = '42'")
    async with database.receiving() as session:
        found = {found.id for found in await session.execute(mapping)}
        assert found == {ours.connection_id, theirs.connection_id}
        assert await session.scalar(text("SELECT count(*) FROM events")) == 2
    for statement in (
        "SELECT config FROM connections",
        "DELETE FROM events",
        "TABLE records",
        "SELECT tenant_id FROM billing_customers",
        "UPDATE billing_customers SET tenant_id = gen_random_uuid()",
        "DELETE FROM billing_events",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            await _receive(database, statement)


async def _receive(database: Database, statement: str) -> None:
    async with database.receiving() as session:
        await session.execute(text(statement))


async def test_a_tenant_does_not_change_its_tier(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await _run(database, two[0], "UPDATE tenants SET tier = 'ENTERPRISE'")


async def test_an_event_is_stored_once_for_each_connection(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    ours, _ = two
    again = {
        "event_id": str(ours.tenant_id),
        "connection": ours.connection_id,
        "tenant": ours.tenant_id,
    }
    async with database.receiving() as session:
        connection = await postgres(session)
        cursor = await connection.execute(f"{EVENT} ON CONFLICT DO NOTHING", again)
        assert cursor.rowcount == 0


async def test_the_next_transaction_of_a_connection_knows_nothing_of_the_last(
    database_url: str,
) -> None:
    database = Database.connect(database_url, pool_size=1, max_overflow=0)
    try:
        stocked = await stock(database)
        async with database.transaction(stocked.tenant_id) as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
        async with database._engine.connect() as connection:
            found = await connection.execute(
                text(
                    "SELECT pg_backend_pid(), current_user = session_user,"
                    " current_setting('app.tenant_id', true)"
                )
            )
            assert tuple(found.one()) == (pid, True, "")
            await connection.execute(text("SET LOCAL ROLE atom_tenant"))
            assert await connection.scalar(text("SELECT count(*) FROM connections")) == 0
    finally:
        await database.close()


async def test_a_tenant_that_is_deleted_leaves_nothing_behind(
    database: Database, two: tuple[Stocked, Stocked]
) -> None:
    _, theirs = two
    assert await tenants.delete(database, "ours")
    assert not await tenants.delete(database, "ours")
    async with database.owning() as session:
        for table in OWNED:
            left = set(await session.scalars(text(f"SELECT tenant_id FROM {table}")))
            assert left == {theirs.tenant_id}, table


def test_every_table_is_either_of_a_tenant_or_knowingly_shared() -> None:
    shared = set(Base.metadata.tables) - set(OWNED)
    assert shared == {
        "tenants", "installation", "workers", "incarnations", "drains", "sync_intervals",
        "breakers", "deploy_marks", "readers", "integrations", "integration_lists",
        "billing_endings", "billing_events",
    }  # fmt: skip
