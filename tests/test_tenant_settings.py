"""Sealed settings and the check of keys, on a real database."""

import asyncio
import secrets

import psycopg
import pytest

from storage import NotFoundError, tenants
from storage.database import Database
from storage.tenant_settings import delete, get, get_json, put, put_json
from storage.tenants import Tenant
from storage.vault import Vault, VaultError, check_keys

CANARY = "canary-openai-key"


def a_vault(*keys: bytes) -> Vault:
    return Vault(keys or [secrets.token_bytes(32)])


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await tenants.create(database, "north", "North", "TEAM")


@pytest.fixture
async def other(database: Database) -> Tenant:
    return await tenants.create(database, "south", "South", "FREE")


async def _put(database: Database, vault: Vault, tenant: Tenant, key: str, value: str) -> None:
    async with database.transaction(tenant.id) as session:
        await put(session, vault, tenant.id, key, value)


async def _get(database: Database, vault: Vault, tenant: Tenant, key: str) -> str | None:
    async with database.transaction(tenant.id) as session:
        secret = await get(session, vault, tenant.id, key)
    return secret.get_secret_value() if secret else None


async def test_a_setting_comes_back_as_it_was_put_and_is_stored_sealed(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    vault = a_vault()
    assert await _get(database, vault, tenant, "OPENAI_API_KEY") is None
    for value in ("first", CANARY):
        await _put(database, vault, tenant, "OPENAI_API_KEY", value)
        assert await _get(database, vault, tenant, "OPENAI_API_KEY") == value
    async with database.transaction(tenant.id) as session:
        assert CANARY not in repr(await get(session, vault, tenant.id, "OPENAI_API_KEY"))
    with psycopg.connect(database_url) as sql:
        rows = sql.execute("SELECT * FROM tenant_settings").fetchall()
    assert len(rows) == 1
    assert CANARY not in str(rows)


async def test_a_setting_is_deleted_once(database: Database, tenant: Tenant) -> None:
    await _put(database, a_vault(), tenant, "OPENAI_API_KEY", CANARY)
    async with database.transaction(tenant.id) as session:
        assert await delete(session, tenant.id, "OPENAI_API_KEY")
        assert not await delete(session, tenant.id, "OPENAI_API_KEY")


async def test_writers_that_race_for_the_first_setting_share_one_data_key(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    vault, second = a_vault(), Database.connect(database_url)
    names = [f"KEY_{number}" for number in range(8)]
    await asyncio.gather(
        *(
            _put([database, second][place % 2], vault, tenant, name, f"value of {name}")
            for place, name in enumerate(names)
        )
    )
    await second.close()
    for name in names:
        assert await _get(database, vault, tenant, name) == f"value of {name}"


async def test_a_ciphertext_moved_to_another_row_does_not_open(
    database: Database, database_url: str, tenant: Tenant, other: Tenant
) -> None:
    vault = a_vault()
    for owner in (tenant, other):
        for key in ("quickbooks_tokens", "hubspot_tokens"):
            await _put(database, vault, owner, key, f"{CANARY} of {owner.slug} {key}")

    async def refused(owner: Tenant, key: str) -> None:
        with pytest.raises(VaultError, match="does not open") as caught:
            await _get(database, vault, owner, key)
        assert CANARY not in str(caught.value)

    with psycopg.connect(database_url) as sql:
        sql.execute(
            "UPDATE tenant_settings s SET setting_value = f.setting_value FROM tenant_settings f"
            " WHERE s.setting_key = 'hubspot_tokens' AND f.setting_key = 'quickbooks_tokens'"
            " AND s.tenant_id = f.tenant_id AND s.tenant_id = %s",
            (tenant.id,),
        )
    await refused(tenant, "hubspot_tokens")
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "UPDATE tenant_settings s SET setting_value = f.setting_value FROM tenant_settings f"
            " WHERE s.setting_key = f.setting_key AND s.tenant_id = %s AND f.tenant_id = %s",
            (other.id, tenant.id),
        )
    await refused(other, "quickbooks_tokens")
    with psycopg.connect(database_url) as sql:
        # The data key brought along does not help: it is bound to its tenant.
        sql.execute("UPDATE tenants SET data_key = (SELECT data_key FROM tenants WHERE id = %s)"
                    " WHERE id = %s", (tenant.id, other.id))  # fmt: skip
    await refused(other, "quickbooks_tokens")


async def test_without_its_data_key_a_tenants_secrets_are_gone(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    vault = a_vault()
    await _put(database, vault, tenant, "OPENAI_API_KEY", CANARY)
    with psycopg.connect(database_url) as sql:
        sql.execute("UPDATE tenants SET data_key = NULL")
    with pytest.raises(VaultError, match="are gone"):
        await _get(database, vault, tenant, "OPENAI_API_KEY")
    await _put(database, vault, tenant, "OPENAI_API_KEY", "a new one")
    assert await _get(database, vault, tenant, "OPENAI_API_KEY") == "a new one"


async def test_a_tenant_that_is_not_there_is_said_so(
    database: Database, tenant: Tenant, other: Tenant
) -> None:
    with pytest.raises(NotFoundError, match="no tenant"):
        async with database.transaction(other.id) as session:
            await put(session, a_vault(), tenant.id, "OPENAI_API_KEY", CANARY)


async def test_a_json_setting_keeps_its_values_and_refuses_what_is_no_object(
    database: Database, tenant: Tenant
) -> None:
    vault, value = a_vault(), {"access_token": "é", "id": 2**70, "scope": ["a"], "none": None}
    async with database.transaction(tenant.id) as session:
        await put_json(session, vault, tenant.id, "acme_tokens", value)
        assert await get_json(session, vault, tenant.id, "acme_tokens") == value
        assert await get_json(session, vault, tenant.id, "other_tokens") is None
        for broken in (CANARY, "[1]"):
            await put(session, vault, tenant.id, "acme_tokens", broken)
            with pytest.raises(VaultError, match="not a JSON object") as caught:
                await get_json(session, vault, tenant.id, "acme_tokens")
            assert caught.value.__cause__ is None


async def test_a_process_with_other_keys_is_refused_and_told_the_remedy(
    database: Database, database_url: str
) -> None:
    stored, stranger = secrets.token_bytes(32), secrets.token_bytes(32)
    await asyncio.gather(*(check_keys(database, a_vault(stored)) for _ in range(4)))
    with pytest.raises(VaultError, match=r"add it to ENCRYPTION_KEYS") as caught:
        await check_keys(database, a_vault(stranger))
    assert a_vault(stored).fingerprints[0] in str(caught.value)
    with psycopg.connect(database_url) as sql:
        (row,) = sql.execute("SELECT key_fingerprints FROM installation").fetchall()
    assert row == (list(a_vault(stored).fingerprints),)
