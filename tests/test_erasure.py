"""A tenant is erased: the key to its secrets with the first commit, everything else after it."""

import psycopg
import pytest
from sqlalchemy import text

from accounts.erasure import erase
from storage import tenant_settings, tenants
from storage.database import Database
from storage.vault import Vault, VaultError
from tests._stored import Stocked, row, stock, write

VAULT = Vault([b"e" * 32])


@pytest.fixture
async def stocked(database: Database) -> Stocked:
    made = await stock(database, "acme")
    await write(database, made, [row(f"r{number}") for number in range(25)])
    async with database.transaction(made.tenant_id) as session:
        await tenant_settings.put(session, VAULT, made.tenant_id, "OPENAI_API_KEY", "canary")
    return made


async def test_a_tenant_is_erased_with_everything_and_nobody_else_is(
    database: Database, database_url: str, stocked: Stocked
) -> None:
    other = await stock(database, "other", "43")
    await write(database, other, [row("theirs")])
    erased: list[int] = []
    assert await erase(database, "acme", batch=10, progress=erased.append)
    assert erased == [10, 20, 25]
    assert not await erase(database, "acme")
    with psycopg.connect(database_url) as sql:
        owners = sql.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE a.attname = 'tenant_id' AND c.relkind IN ('r', 'p')"
            " AND c.relnamespace = 'public'::regnamespace AND NOT c.relispartition"
        ).fetchall()
        assert len(owners) > 10
        for (table,) in owners:
            found = sql.execute(
                psycopg.sql.SQL("SELECT count(*) FROM {} WHERE tenant_id = %s").format(
                    psycopg.sql.Identifier(table)
                ),
                (stocked.tenant_id,),
            ).fetchone()
            assert found == (0,), table
    assert [tenant.slug for tenant in await tenants.all(database)] == ["other"]


async def test_what_was_interrupted_has_shredded_the_secrets_already_and_goes_on(
    database: Database, database_url: str, stocked: Stocked
) -> None:
    query = text("SELECT setting_value FROM tenant_settings WHERE tenant_id = :id")
    async with database.transaction(stocked.tenant_id) as session:
        sealed = (await session.execute(query, {"id": stocked.tenant_id})).scalar_one()

    class StoppedError(Exception):
        pass

    def stop(records: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        await erase(database, "acme", batch=10, progress=stop)
    async with database.transaction(stocked.tenant_id) as session:
        assert (await session.execute(query, {"id": stocked.tenant_id})).all() == []
        with pytest.raises(VaultError, match="are gone"):
            await tenant_settings.unseal(
                session, VAULT, stocked.tenant_id, "OPENAI_API_KEY", sealed
            )
    with psycopg.connect(database_url) as sql:
        status = sql.execute("SELECT status, status_reason FROM connections").fetchall()
    assert status == [("revoked", "the tenant is being erased")]
    assert await erase(database, "acme")
    assert await tenants.all(database) == []
