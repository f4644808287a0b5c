"""Readers: database users that see one tenant's rows, or all, and can change nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import text

from accounts.erasure import erase
from cli import run
from servers import postgresql
from storage import NotFoundError, SchemaError, readers, tenants
from storage.database import Database
from storage.errors import ReaderError
from storage.models import Base
from tests._sandboxed import KEY
from tests._stored import Stocked, row, stock, write

# What a reader may ask for besides the views of the streams.
OPEN = {
    "tenants", "connections", "records", "checkpoints", "watches", "leases", "sync_intervals",
    "breakers", "readers",
}  # fmt: skip


@pytest.fixture
def name(postgres: postgresql.Postgres) -> Iterator[str]:
    """Roles are the server's: another test, in another database, has names of its own."""
    made = f"bi_{uuid4().hex[:8]}"
    yield made
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as sql:
        sql.execute(f"DROP ROLE IF EXISTS {made}")


@pytest.fixture
async def two(database: Database) -> tuple[Stocked, Stocked]:
    ours, theirs = await stock(database, "ours"), await stock(database, "theirs")
    for stocked in (ours, theirs):
        await write(database, stocked, [row("1", "a record")])
    async with database.dispatching() as session:
        await session.execute(
            text(
                "INSERT INTO sync_intervals SELECT DISTINCT integration, tier, 'contacts',"
                " interval '7 days', interval '7 days' FROM connections"
            )
        )
    return ours, theirs


def as_reader(url: str, name: str) -> psycopg.Connection[Any]:
    """The embedded server asks nobody on its socket for a password."""
    return psycopg.connect(make_conninfo(url, user=name), autocommit=True)


def owners(sql: psycopg.Connection[Any], table: str) -> set[Any]:
    column = "id" if table == "tenants" else "tenant_id"
    return {owner for (owner,) in sql.execute(f"SELECT {column} FROM {table}".encode()).fetchall()}


async def test_a_reader_of_a_tenant_sees_its_rows_alone(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    ours, theirs = two
    assert await readers.add(database_url, "public", name, "ours")
    with as_reader(database_url, name) as sql:
        for table in ("hubspot_contacts", "records", "connections", "tenants", "freshness"):
            assert owners(sql, table) == {ours.tenant_id}, table
        # Neither a setting nor another role changes who logged in.
        sql.execute("SELECT set_config('app.tenant_id', %s, false)", [str(theirs.tenant_id)])
        assert owners(sql, "hubspot_contacts") == {ours.tenant_id}
        for role in ("atom_tenant", "atom_owner", "atom_reader", "atom_reader_of_all", "postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(f"SET ROLE {role}".encode())


async def test_a_reader_of_all_sees_every_tenants_rows(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    assert await readers.add(database_url, "public", name, None)
    with as_reader(database_url, name) as sql:
        for table in ("hubspot_contacts", "records", "connections", "tenants", "freshness"):
            assert owners(sql, table) == {each.tenant_id for each in two}, table


@pytest.mark.parametrize("whose", ["ours", None])
async def test_a_reader_sees_no_secret_and_writes_nothing(
    database_url: str, name: str, two: tuple[Stocked, Stocked], whose: str | None
) -> None:
    await readers.add(database_url, "public", name, whose)
    with as_reader(database_url, name) as sql:
        for table in Base.metadata.tables:
            if table not in OPEN:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    sql.execute(f"SELECT FROM {table}".encode())
        for secret in ("tenants.data_key", "connections.config", "checkpoints.state"):
            table, _, column = secret.partition(".")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(f"SELECT {column} FROM {table}".encode())
        sql.execute("SET default_transaction_read_only = off")
        for change in (
            "DELETE FROM records", "UPDATE records SET data = '{}'", "DELETE FROM readers",
            "UPDATE tenants SET name = ''", "CREATE TABLE mine (a int)",
            f"INSERT INTO readers (name, reads_all) VALUES ('{name}x', true)",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(change.encode())


async def test_a_connection_that_is_to_be_purged_is_gone_for_readers_too(
    database: Database, database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    ours, theirs = two
    await readers.add(database_url, "public", name, None)
    async with database.owning() as session:
        await session.execute(
            text("UPDATE connections SET purge_owed_at = now() WHERE tenant_id = :id"),
            {"id": ours.tenant_id},
        )
    with as_reader(database_url, name) as sql:
        assert owners(sql, "hubspot_contacts") == {theirs.tenant_id}


async def test_a_reader_of_another_database_of_the_server_sees_nothing(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    await readers.add(database_url, "public", name, None)
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("DELETE FROM readers")  # as in a database that never heard of it
    with as_reader(database_url, name) as sql:
        for table in ("hubspot_contacts", "records", "connections", "tenants"):
            assert owners(sql, table) == set(), table


async def test_a_tenants_reader_reaches_its_rows_by_the_key(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    await readers.add(database_url, "public", name, "ours")
    with as_reader(database_url, name) as sql:
        sql.execute("SET enable_seqscan = off")
        found = sql.execute("EXPLAIN SELECT count(*) FROM hubspot_contacts").fetchall()
    plan = "\n".join(line for (line,) in found)
    assert "Index Cond" in plan
    assert "connection_id = ANY" in plan


async def test_to_add_a_reader_again_changes_nothing_and_a_new_password_is_another(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    first = await readers.add(database_url, "public", name, "ours")
    assert first
    assert await readers.add(database_url, "public", name, "ours") is None
    kept = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
    with psycopg.connect(database_url) as sql:
        (before,) = sql.execute(kept, [name]).fetchone() or ("",)
    second = await readers.renew(database_url, "public", name)
    assert second != first
    with psycopg.connect(database_url) as sql:
        (after,) = sql.execute(kept, [name]).fetchone() or ("",)
    assert before.startswith("SCRAM-SHA-256$")
    assert after.startswith("SCRAM-SHA-256$")
    assert before != after
    with pytest.raises(ReaderError, match="reads ours: remove it first"):
        await readers.add(database_url, "public", name, "theirs")


async def test_a_reader_that_is_removed_sees_nothing_and_cannot_log_in(
    database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    await readers.add(database_url, "public", name, "ours")
    with as_reader(database_url, name) as open_already:
        await readers.remove(database_url, "public", name)
        with pytest.raises(psycopg.Error):
            open_already.execute("SELECT * FROM hubspot_contacts")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        as_reader(database_url, name)
    assert await readers.all(database_url, "public") == []
    with pytest.raises(NotFoundError, match="no reader"):
        await readers.remove(database_url, "public", name)


async def test_with_its_tenant_a_reader_goes(
    database: Database, database_url: str, name: str, two: tuple[Stocked, Stocked]
) -> None:
    await readers.add(database_url, "public", name, "ours")
    await readers.remove_all_of(database_url, "public", "ours")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        as_reader(database_url, name)
    # Where nobody may drop its role, its rights go with the tenant all the same.
    await readers.add(database_url, "public", name, "theirs")
    assert await erase(database, "theirs")
    with as_reader(database_url, name) as sql:
        assert owners(sql, "tenants") == set()


@pytest.mark.parametrize("wrong", ["", "Acme", "a-b", "pg_reader", "atom_owner", "x" * 64, 'a";--'])
async def test_a_name_that_no_reader_can_have_is_refused(database_url: str, wrong: str) -> None:
    with pytest.raises(ReaderError, match="a reader's name"):
        await readers.add(database_url, "public", wrong, None)


async def test_a_role_that_is_no_reader_is_left_alone(database_url: str, name: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(f"CREATE ROLE {name} LOGIN".encode())
    with pytest.raises(ReaderError, match="no reader of this database"):
        await readers.add(database_url, "public", name, None)


async def test_there_is_no_reader_of_a_tenant_that_there_is_not(
    database_url: str, name: str
) -> None:
    with pytest.raises(NotFoundError, match="there is no tenant 'nobody'"):
        await readers.add(database_url, "public", name, "nobody")
    with psycopg.connect(database_url) as sql:
        found = sql.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    assert found == (0,)


async def test_who_may_make_no_role_is_told_the_sql_that_helps(
    database: Database, database_url: str, name: str, postgres: postgresql.Postgres
) -> None:
    await tenants.create(database, "acme", "Acme")
    user = f"app_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(f"CREATE ROLE {user} LOGIN".encode())
        sql.execute(f"GRANT atom_owner, atom_dispatch TO {user} WITH SET TRUE".encode())
    try:
        bound = make_conninfo(database_url, user=user)
        with pytest.raises(SchemaError, match="may not make or change readers") as refused:
            await readers.add(bound, "public", name, "acme")
        with psycopg.connect(database_url, autocommit=True) as sql:
            for statement in refused.value.remedy.splitlines():
                sql.execute(statement.encode())
        assert await readers.add(bound, "public", name, "acme")
        await readers.remove(bound, "public", name)
    finally:
        with psycopg.connect(database_url, autocommit=True) as sql:
            sql.execute(f"DROP OWNED BY {user}; DROP ROLE {user}".encode())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:s3cret@db.example.com/atom?sslmode=require",
         "postgresql://bi:pw@db.example.com/atom?sslmode=require"),
        ("postgresql://app:s3cret@[::1]:6543/atom", "postgresql://bi:pw@[::1]:6543/atom"),
        ("postgres://app:p%40w@a.example.com,b.example.com:6432/atom?user=x&sslrootcert=/etc/ca.pem",
         "postgres://bi:pw@a.example.com,b.example.com:6432/atom?sslrootcert=/etc/ca.pem"),
        ("host=db.example.com dbname=atom user=app password=s3cret",
         "user=bi password=pw dbname=atom host=db.example.com"),
        ("postgresql://postgres@/atom?host=/run/x%20y", "postgresql://bi:pw@/atom?host=/run/x%20y"),
    ],
)  # fmt: skip
def test_a_readers_url_is_that_of_the_database_with_its_own_name(url: str, expected: str) -> None:
    assert readers.url_of(url, "bi", "pw") == expected


async def test_the_commands_make_list_and_remove_readers(
    database: Database,
    database_url: str,
    name: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    await tenants.create(database, "acme", "Acme")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("COLUMNS", "200")

    async def typed(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = await asyncio.to_thread(run, words)
        return status, *capfd.readouterr()

    status, shown, _ = await typed("readers", "add", name, "--tenant", "acme")
    assert (status, shown.count("\n")) == (0, 1)
    with psycopg.connect(shown.strip()) as sql:
        assert sql.execute("SELECT slug FROM tenants").fetchall() == [("acme",)]
    status, shown, said = await typed("readers", "add", name, "--tenant", "acme")
    assert (status, shown, "--new-password" in said) == (0, "", True)
    status, shown, said = await typed("readers", "add", name, "--tenant", "acme", "--new-password")
    assert (status, shown[:13]) == (0, "postgresql://")
    for words in ((), ("--tenant", "acme", "--all-tenants")):
        status, _, said = await typed("readers", "add", name, *words)
        assert (status, "--all-tenants, one of them" in said) == (2, True)
    status, shown, _ = await typed("readers", "list")
    assert f"{name} " in shown
    assert " acme " in shown
    assert (await typed("readers", "remove", name))[0] == 0
    assert (await typed("readers", "list", "--json"))[1].strip() == "[]"
    status, _, said = await typed("readers", "remove", name)
    assert (status, f"there is no reader {name!r}" in said) == (1, True)
