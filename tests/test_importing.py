"""Settings of an existing database are sealed here, each row reported, no value ever shown."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from storage import NotFoundError, StorageError, tenant_settings, tenants
from storage.database import Database
from storage.importing import Imported, Outcome, looks_sealed, read_settings
from storage.tenants import Tenant
from storage.vault import Vault

VAULT = Vault([b"i" * 32])
CANARY = "canary-of-the-import"
TOKENS = json.dumps({"access_token": CANARY, "refresh_token": CANARY, "expires_at": None})
FOREIGN = "gAAAAABnQ2FuYXJ5Tm90UmVhbGx5QVRva2VuMTIzNDU2Nzg5MGFiY2RlZg=="
PLAIN_KEY = f"sk-proj-{'a1B2' * 12}"


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await tenants.create(database, "north", "North", "TEAM")


def other_database(url: str, rows: Sequence[tuple[object, ...]]) -> str:
    with psycopg.connect(url) as sql:
        sql.execute(
            "CREATE TABLE tenant_settings (tenant_id text, setting_key text, setting_value text,"
            " encrypted boolean, PRIMARY KEY (tenant_id, setting_key))"
        )
        with sql.cursor() as cursor:
            cursor.executemany("INSERT INTO tenant_settings VALUES (%s, %s, %s, %s)", rows)
    return url


def outcomes(done: Sequence[Imported]) -> dict[str, str]:
    return {each.setting: each.outcome for each in done}


async def held(database: Database, tenant: Tenant, key: str) -> str | None:
    async with database.transaction(tenant.id) as session:
        found = await tenant_settings.get(session, VAULT, tenant.id, key)
    return found.get_secret_value() if found else None


async def test_rows_are_sealed_reported_and_sealed_only_once(
    database: Database, database_url: str, postgres_url: str, tenant: Tenant
) -> None:
    rows: list[tuple[Any, ...]] = [
        (str(tenant.id), "OPENAI_API_KEY", CANARY, False),
        ("north", "hubspot_tokens", TOKENS, False),
        ("north", "hubspot_tokens:second", "not JSON", False),
        ("north", "empty", "", False),
        ("north", "foreign", FOREIGN, True),
        ("north", "mislabelled_tokens", TOKENS, True),
        ("north", "MISLABELLED_KEY", PLAIN_KEY, True),
        ("north", "unsaid", CANARY, None),
        (str(uuid4()), "stranger", CANARY, False),
    ]
    url = other_database(postgres_url, rows)
    expected = {
        "OPENAI_API_KEY": "sealed",
        "hubspot_tokens": "sealed",
        "hubspot_tokens:second": "unusable",
        "empty": "unusable",
        "foreign": "encrypted by another system",
        "mislabelled_tokens": "plaintext marked encrypted",
        "MISLABELLED_KEY": "plaintext marked encrypted",
        "unsaid": "plaintext marked encrypted",
        "stranger": "unknown tenant",
    }
    rehearsed = await read_settings(database, VAULT, url, dry_run=True)
    assert outcomes(rehearsed) == expected
    assert await held(database, tenant, "OPENAI_API_KEY") is None
    reported: list[Imported] = []
    done = await read_settings(database, VAULT, url, report=reported.append)
    assert outcomes(done) == expected
    assert reported == done
    assert CANARY not in str(done)
    assert await held(database, tenant, "OPENAI_API_KEY") == CANARY
    assert await held(database, tenant, "hubspot_tokens") == TOKENS
    again = await read_settings(database, VAULT, url)
    assert outcomes(again) == expected | dict.fromkeys(
        ["OPENAI_API_KEY", "hubspot_tokens"], "unchanged"
    )
    with psycopg.connect(database_url) as sql:
        stored = sql.execute("SELECT setting_key, setting_value FROM tenant_settings").fetchall()
    assert {key for key, _ in stored} == {"OPENAI_API_KEY", "hubspot_tokens"}
    assert CANARY not in str(stored)


async def test_tokens_that_were_renewed_since_are_never_overwritten(
    database: Database, postgres_url: str, tenant: Tenant
) -> None:
    url = other_database(postgres_url, [("north", "hubspot_tokens", TOKENS, False)])
    await read_settings(database, VAULT, url)
    async with database.transaction(tenant.id) as session:
        await tenant_settings.put(session, VAULT, tenant.id, "hubspot_tokens", '{"renewed": 1}')
    (done,) = await read_settings(database, VAULT, url)
    assert done.outcome is Outcome.KEPT
    assert not done.outcome.needs_attention
    assert await held(database, tenant, "hubspot_tokens") == '{"renewed": 1}'


async def test_our_own_rows_are_known_and_what_lies_open_in_them_is_sealed(
    database: Database, database_url: str, tenant: Tenant
) -> None:
    async with database.transaction(tenant.id) as session:
        await tenant_settings.put(session, VAULT, tenant.id, "OPENAI_API_KEY", CANARY)
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO tenant_settings VALUES (%s, 'LEGACY', %s, false)", (tenant.id, CANARY)
        )
    done = await read_settings(database, VAULT, database_url)
    assert outcomes(done) == {"OPENAI_API_KEY": "unchanged", "LEGACY": "sealed"}
    with psycopg.connect(database_url) as sql:
        stored = sql.execute("SELECT setting_value, encrypted FROM tenant_settings").fetchall()
    assert all(encrypted for _, encrypted in stored)
    assert CANARY not in str(stored)


async def test_a_database_without_such_rows_is_said_so(
    database: Database, postgres_url: str
) -> None:
    with pytest.raises(NotFoundError, match=r"no public\.tenant_settings with tenant_id"):
        await read_settings(database, VAULT, postgres_url)
    with pytest.raises(StorageError, match="unavailable"):
        await read_settings(database, VAULT, "postgresql://u:canary@127.0.0.1:9/none")
    with pytest.raises(StorageError, match="cannot be read") as caught:
        await read_settings(database, VAULT, "postgresql://u:canary%zz@h/none")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("text", [FOREIGN, "a1" * 40, "iv1:tag2:" + "0f" * 20])
def test_a_ciphertext_is_taken_for_one(text: str) -> None:
    assert looks_sealed(text)


@pytest.mark.parametrize(
    "text", [TOKENS, PLAIN_KEY, "hunter2", "xoxb-" + "1a" * 30, "eyJhbGciOiJIUzI1NiJ9." + "a1" * 30]
)
def test_plaintext_is_not_taken_for_a_ciphertext(text: str) -> None:
    assert not looks_sealed(text)
