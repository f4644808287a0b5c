"""The operator's commands as they are typed, on a real database."""

import asyncio
import json
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from cli import app
from storage import NotFoundError, SchemaError, tenant_settings, tenants
from storage.database import Database
from storage.vault import Vault
from tests._stored import row, stock, write

OLD, NEW = (b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
CANARY = "canary-of-the-operator"


@pytest.fixture(autouse=True)
def _ours(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ENCRYPTION_KEYS", OLD)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("REDIS_URL", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "")


async def typed(*words: str, **options: Any) -> Any:
    # A command runs a loop of its own.
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), **options)


async def put(database: Database, slug: str, key: str = OLD) -> None:
    tenant = await tenants.create(database, slug, slug, "FREE")
    async with database.transaction(tenant.id) as session:
        await tenant_settings.put(session, Vault.parse(key), tenant.id, "OPENAI_API_KEY", CANARY)


async def test_tenants_are_made_listed_changed_and_erased(database: Database) -> None:
    tenant_id = "6f1dbe43-7f3d-4c5e-a2ac-2b4a2f6c1a11"
    made = await typed("tenants", "create", "acme", "--tier", "TEAM", "--id", tenant_id)
    assert made.output == f"acme (TEAM): {tenant_id}\n"
    await typed("tenants", "set-tier", "acme", "ENTERPRISE")
    (listed,) = json.loads((await typed("tenants", "list", "--json")).stdout)
    assert (listed["slug"], listed["tier"], listed["id"]) == ("acme", "ENTERPRISE", tenant_id)
    assert "acme" in (await typed("tenants", "list")).output
    assert (await typed("tenants", "delete", "acme", input="n\n")).exit_code == 1
    stocked = await stock(database, "other")
    await write(database, stocked, [row("a"), row("b")])
    for slug in ("acme", "other"):
        assert "is erased" in (await typed("tenants", "delete", slug, "--yes")).output
    assert await tenants.all(database) == []
    assert isinstance((await typed("tenants", "delete", "acme", "--yes")).exception, LookupError)
    assert isinstance((await typed("tenants", "create", "Bad Slug")).exception, LookupError)
    missing = await typed("tenants", "set-tier", "nobody", "FREE")
    assert isinstance(missing.exception, NotFoundError)


async def test_keys_are_rotated_and_checked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slug in ("north", "south"):
        await put(database, slug)
    assert (await typed("keys", "check")).exit_code == 0
    monkeypatch.setenv("ENCRYPTION_KEYS", f"{NEW},{OLD}")
    told = await typed("keys", "rotate")
    assert (told.exit_code, told.stdout) == (0, "2 data keys were put under the current key\n")
    checked = await typed("keys", "check")
    assert "not needed any more" in checked.output
    report = json.loads((await typed("keys", "check", "--json")).stdout)
    assert report["retired"] == list(Vault.parse(OLD).fingerprints)
    assert (report["left"], report["missing"], report["faults"]) == (0, [], [])
    monkeypatch.setenv("ENCRYPTION_KEYS", OLD)
    lacking = await typed("keys", "check")
    assert lacking.exit_code == 1
    assert "missing here" in lacking.output
    (fingerprint,) = Vault.parse(NEW).fingerprints
    assert (await typed("keys", "abandon", fingerprint, input="n\n")).exit_code == 1
    given_up = await typed("keys", "abandon", fingerprint, "--yes")
    assert given_up.stdout == "given up: the secrets of north, south\n"
    assert (await typed("keys", "check")).exit_code == 0
    for key in (OLD, NEW, CANARY):
        assert key not in told.output + checked.output + lacking.output


async def test_settings_of_another_database_are_imported_and_told_without_their_values(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tenants.create(database, "north", "North", "FREE")
    with psycopg.connect(postgres_url) as sql:
        sql.execute("CREATE SCHEMA saas")
        sql.execute(
            "CREATE TABLE saas.tenant_settings"
            " (tenant_id text, setting_key text, setting_value text, encrypted boolean)"
        )
        sql.execute(
            "INSERT INTO saas.tenant_settings VALUES"
            " ('north', 'OPENAI_API_KEY', %(v)s, false), ('north', 'OTHER', %(v)s, true)",
            {"v": CANARY},
        )
    command = ("import", "tenant-settings", "--schema", "saas")
    rehearsed = await typed(*command, "--from", postgres_url, "--dry-run")
    assert "nothing was written" in rehearsed.output
    monkeypatch.setenv("ATOM_IMPORT_URL", postgres_url)
    for outcome in ("sealed", "unchanged"):
        told = await typed(*command, "--json")
        assert told.exit_code == 1
        assert {each["setting"]: each["outcome"] for each in json.loads(told.stdout)} == {
            "OPENAI_API_KEY": outcome,
            "OTHER": "plaintext marked encrypted",
        }
        assert CANARY not in told.output


async def test_the_doctor_fails_as_long_as_something_must_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = await typed("doctor")
    assert told.exit_code == 1
    assert "to do: JWT_SECRET, NEXTAUTH_SECRET, NEXTAUTH_URL" in told.output
    assert "callback  http://127.0.0.1:8000/api/integrations/callback" in told.output
    assert "NEXTAUTH_URL/" not in told.output
    for name in ("JWT_SECRET", "NEXTAUTH_SECRET"):
        monkeypatch.setenv(name, secrets.token_urlsafe(32))
    monkeypatch.setenv("NEXTAUTH_URL", "https://atom.test")
    told = await typed("doctor")
    assert (told.exit_code, "all that is needed is there" in told.output) == (0, True)
    report = json.loads((await typed("doctor", "--json")).stdout)
    assert report["ok"] is True
    monkeypatch.setenv("REDIS_URL", "nonsense")
    told = await typed("doctor", "--json")
    (wrong,) = json.loads(told.stdout)["rows"]
    assert (told.exit_code, wrong["what"], wrong["state"]) == (1, "REDIS_URL", "wrong")


async def test_a_database_that_is_not_set_up_is_said_so(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    for words in (["keys", "check"], ["tenants", "list"], ["tenants", "delete", "x", "--yes"]):
        assert isinstance((await typed(*words)).exception, SchemaError)


async def test_what_is_to_be_erased_is_listed_and_can_be_withdrawn(
    database: Database, database_url: str
) -> None:
    stocked = await stock(database, "acme")
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, is_duty,"
            " data, due_at) VALUES ('hubspot', 'e', %s, %s, 'customers/redact', true,"
            " '{\"effect\": \"erase\"}', now() + interval '10 days')",
            (stocked.connection_id, stocked.tenant_id),
        )
    assert "1 of those that wait are duties" in (await typed("events")).output
    (duty,) = json.loads((await typed("events", "--duties", "--json")).stdout)["duties"]
    assert (duty["tenant"], duty["type"]) == ("acme", "customers/redact")
    assert "customers/redact" in (await typed("events", "--duties")).output
    assert (
        await typed("events", "withdraw", str(duty["id"]))
    ).output == "1 duties were withdrawn\n"
    assert (await typed("events", "withdraw", str(duty["id"]))).exit_code == 1
    assert json.loads((await typed("events", "--duties", "--json")).stdout)["duties"] == []


async def test_a_database_that_is_not_set_up_is_told_of_in_one_line(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    for words in (["status"], ["status", "acme/hubspot"], ["events"], ["tenants", "list"]):
        told = await typed(*words)
        assert isinstance(told.exception, SchemaError), words
        assert "run `atom-sync migrate`" in str(told.exception)
