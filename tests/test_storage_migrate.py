"""Setting a database up, upgrading it, and refusing what is not ours to touch."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from connectors import (
    Account,
    Calls,
    Checkpoint,
    Column,
    Connector,
    Context,
    OAuth2,
    Page,
    Reader,
    Request,
    Stream,
    SyncType,
    ask,
    column,
)
from servers import postgresql
from storage import DatabaseUnavailableError, SchemaError, check, migrate
from storage._rights import ROLES
from storage.database import Database, engine
from storage.migrations import FOLDER, VERSION_TABLE, head
from storage.models import Base
from tests._stored import row, stock, stored, write


def _nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page([], Checkpoint())


def _identify(token: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    response = yield from ask(Request.get("/me"))
    return (Account(response.json["id"]),)


def _made_up(
    columns: Mapping[str, Column] | None = None, *, name: str = "made_up", stream: str = "things"
) -> Connector:
    return Connector(
        name=name,
        title="Made Up",
        sync_type=SyncType.PULL,
        base_url="https://api.made-up.example",
        auth=OAuth2(
            env="MADE_UP",
            authorize_url="https://made-up.example/authorize",
            token_url="https://made-up.example/token",
            scopes={"read": "everything"},
        ),
        streams=(Stream(name=stream, read=_nothing, columns=columns or {}),),
        rate_limits=(),
        identify=_identify,
    )


async def _fetch(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query.encode(), values or None)
        return await cursor.fetchall() if cursor.description else []


async def _everything(url: str) -> list[tuple[Any, ...]]:
    """All that a database and its cluster hold, as far as a migration could change it."""
    return await _fetch(
        url,
        """
        SELECT 'relation', oid::text, relname, relacl::text FROM pg_class WHERE oid > 16383
        UNION ALL SELECT 'schema', oid::text, nspname, nspacl::text FROM pg_namespace
        UNION ALL SELECT 'role', oid::text, rolname, '' FROM pg_roles
        UNION ALL SELECT 'member', roleid::text, member::text, set_option::text
            FROM pg_auth_members
        ORDER BY 1, 2, 3, 4
        """,
    )


async def test_a_database_is_set_up_once(postgres_url: str) -> None:
    connector = _made_up()
    with pytest.raises(SchemaError, match="is not set up: run `atom-sync migrate`"):
        await check(postgres_url)
    made = await migrate(postgres_url, connectors=(connector,))
    assert (made.before, made.revision, made.changed) == (None, head(), True)
    assert made.partitions == ("records_made_up_things",)
    assert made.views == ("made_up_things",)
    await check(postgres_url)
    before = await _everything(postgres_url)
    again = await migrate(postgres_url, connectors=(connector,))
    assert (again.before, again.changed) == (head(), False)
    assert await _everything(postgres_url) == before


async def test_of_two_migrations_at_once_the_second_waits_and_finds_nothing_to_do(
    postgres_url: str,
) -> None:
    found = await asyncio.gather(
        *(migrate(postgres_url, connectors=(_made_up(),)) for _ in range(3))
    )
    assert sorted(str(made.before) for made in found) == [head(), head(), "None"]
    assert sum(len(made.partitions) for made in found) == 1
    await check(postgres_url)


async def test_the_models_are_what_the_migrations_make(postgres_url: str) -> None:
    await migrate(postgres_url)
    database = engine(postgres_url)
    async with database.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        differences = await connection.run_sync(
            lambda it: compare_metadata(MigrationContext.configure(it, opts=options), Base.metadata)
        )
    await database.dispose()
    assert differences == []


def test_the_newest_revision_is_the_head() -> None:
    assert ScriptDirectory(str(FOLDER)).get_heads() == [head()]


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TABLE tenants (id int)",
        "CREATE VIEW records AS SELECT 1",
        "CREATE TYPE events AS ()",
    ],
)
async def test_a_database_that_holds_our_names_already_is_refused_and_left_as_it_was(
    postgres_url: str, foreign: str
) -> None:
    await _fetch(postgres_url, foreign)
    before = await _everything(postgres_url)
    with pytest.raises(SchemaError, match=r"did not make: .*Nothing was changed\. Set ATOM_SCHEMA"):
        await migrate(postgres_url, connectors=(_made_up(),))
    assert await _everything(postgres_url) == before


@pytest.mark.parametrize("foreign", ["records_made_up_things", "made_up_things"])
async def test_a_table_in_the_place_of_a_streams_is_refused(
    postgres_url: str, foreign: str
) -> None:
    await migrate(postgres_url)
    await _fetch(postgres_url, f"CREATE TABLE {foreign} (id int)")
    before = await _everything(postgres_url)
    with pytest.raises(SchemaError, match=f"{foreign} that atom-sync did not make"):
        await migrate(postgres_url, connectors=(_made_up(),))
    assert await _everything(postgres_url) == before


@pytest.mark.parametrize("schema", ["atom", 'od"d Näme'])
async def test_another_schema_holds_everything(postgres_url: str, schema: str) -> None:
    await _fetch(postgres_url, "CREATE TABLE tenants (theirs int)")
    made = await migrate(postgres_url, schema=schema, connectors=(_made_up(),))
    assert made.changed
    await check(postgres_url, schema)
    with pytest.raises(SchemaError, match="'public' of the database is not set up"):
        await check(postgres_url)
    public = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert await _fetch(postgres_url, public) == [("tenants",)]
    database = Database.connect(postgres_url, schema=schema)
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a")], stream="made_up.things")
    assert await stored(database, stocked) == {"1": "a"}
    async with database.transaction(stocked.tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM made_up_things")) == 1
    await database.close()


async def test_a_database_of_a_newer_version_is_refused(postgres_url: str) -> None:
    await migrate(postgres_url)
    await _fetch(postgres_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    for attempt in (migrate(postgres_url), check(postgres_url)):
        with pytest.raises(SchemaError, match=r"at version 9999.*run a newer atom-sync"):
            await attempt


async def test_a_database_of_an_older_version_is_to_be_migrated(postgres_url: str) -> None:
    await migrate(postgres_url)
    await _fetch(postgres_url, f"UPDATE {VERSION_TABLE} SET version_num = '0000'")
    with pytest.raises(SchemaError, match=r"at version 0000.*run `atom-sync migrate`"):
        await check(postgres_url)


async def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["storage._schema"], "OLDEST_POSTGRESQL", 99)
    with pytest.raises(SchemaError, match=r"needs PostgreSQL 99 or newer; this server is .* 18"):
        await migrate(postgres_url)


async def test_a_database_that_does_not_answer_is_unavailable() -> None:
    for attempt in (migrate("postgresql://x@127.0.0.1:1/x"), check("postgresql://x@127.0.0.1:1/x")):
        with pytest.raises(DatabaseUnavailableError):
            await attempt


async def test_a_stream_is_added_while_others_read(postgres_url: str) -> None:
    await migrate(postgres_url, connectors=(_made_up(),))
    database = Database.connect(postgres_url)
    stocked = await stock(database)
    async with database.transaction(stocked.tenant_id) as session:
        await session.execute(text("SELECT * FROM records"))
        async with asyncio.timeout(60):
            made = await migrate(postgres_url, connectors=(_made_up(), _made_up(stream="more")))
    assert made.partitions == ("records_made_up_more",)
    await write(database, stocked, [row("1", "a")], stream="made_up.more")
    await database.close()


TYPED = {
    "amount": column("properties.amount", "numeric"),
    "closed_at": column("closed", "timestamptz"),
    "open": column("open", "boolean"),
    "name": column("properties.name"),
    "first": column("list.0", "bigint"),
    "whole": column("properties", "jsonb"),
}


async def _put(database: Database, *contents: str) -> None:
    stocked = await stock(database)
    rows = [
        row(str(number))._replace(data=content.encode()) for number, content in enumerate(contents)
    ]
    await write(database, stocked, rows, stream="made_up.things")


async def test_a_views_columns_have_their_types_and_what_does_not_fit_is_null(
    postgres_url: str,
) -> None:
    await migrate(postgres_url, connectors=(_made_up(TYPED),))
    database = Database.connect(postgres_url)
    await _put(
        database,
        '{"properties": {"amount": "12.50", "name": "it\'s %s :x"}, "closed": "2026-11-01T00:00Z",'
        ' "open": true, "list": [7]}',
        '{"properties": {"amount": "a lot", "name": null}, "closed": "soon", "open": 3}',
        '{"properties": "none"}',
    )
    query = (
        "SELECT record_id, amount, closed_at, open, name, first,"
        " whole IS NOT NULL, data IS NOT NULL FROM made_up_things ORDER BY record_id"
    )
    one, two, three = await _fetch(postgres_url, query)
    assert (str(one[1]), one[2].isoformat()[:10], *one[3:]) == (
        "12.50", "2026-11-01", True, "it's %s :x", 7, True, True,
    )  # fmt: skip
    assert two[1:] == (None, None, None, None, None, True, True)
    assert three[1:] == (None, None, None, None, None, True, True)
    await database.close()


HOSTILE = (
    '""', '" "', '"0001-01-01T00:00:00"', '"0000-00-00"', '"2026-02-30T12:00:00Z"', '"24:00"',
    '"999999999-01-01"', '"infinity"', '"-infinity"', '"NaN"', "1e400", "-1e-400",
    "9007199254740993", '"9007199254740993"', "123456789012345678901234567890", '"1,000.50"',
    '"1.000,50"', '"0x10"', '"1_000"', '"12.50 EUR"', '"٣"', '"\u202e12\u202c"', '"now"',
    '"tomorrow"', '"epoch"', '"t"', '"yes"', '"on"', '"null"', "[]", "{}", "[[[]]]", "true",
    '"2026-11-01"', '"2026-11-01T10:00:00"', '"1762000000"', "1762000000000", '"🙂"',
)  # fmt: skip


async def test_no_value_makes_a_query_of_a_view_fail(postgres_url: str) -> None:
    await migrate(postgres_url, connectors=(_made_up(TYPED),))
    database = Database.connect(postgres_url)
    await _put(
        database,
        *(
            f'{{"properties": {{"amount": {v}, "name": {v}}}, "closed": {v}, "open": {v},'
            f' "list": [{v}]}}'
            for v in HOSTILE
        ),
        *(f'{{"properties": {v}, "list": {v}}}' for v in HOSTILE),
    )
    rows = await _fetch(postgres_url, "SELECT * FROM made_up_things")
    assert len(rows) == 2 * len(HOSTILE)
    totals = "SELECT sum(amount), max(closed_at), bool_or(open), max(first) FROM made_up_things"
    assert await _fetch(postgres_url, totals)
    exact = "SELECT count(*) FROM made_up_things WHERE first = 9007199254740993 AND amount = first"
    assert await _fetch(postgres_url, exact) == [(2,)]
    await database.close()


async def test_a_view_shows_nothing_that_is_deleted_and_no_other_stream(postgres_url: str) -> None:
    await migrate(postgres_url, connectors=(_made_up(), _made_up(stream="more")))
    database = Database.connect(postgres_url)
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a"), row("2", "b")], stream="made_up.things")
    await write(database, stocked, [row("2", seconds=1, deleted=True)], stream="made_up.things")
    await write(database, stocked, [row("3", "c")], stream="made_up.more")
    found = await _fetch(postgres_url, "SELECT record_id FROM made_up_things")
    assert found == [("1",)]
    await database.close()


async def _columns(url: str) -> dict[str, str]:
    query = """
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'made_up_things'::regclass AND attnum > 5
    """
    return dict(await _fetch(url, query))


async def test_a_view_follows_its_columns(postgres_url: str) -> None:
    async def migrated(**columns: Column) -> tuple[str, ...]:
        return (await migrate(postgres_url, connectors=(_made_up(columns),))).views

    await migrated(amount=column("amount"))
    await _fetch(postgres_url, "GRANT SELECT ON made_up_things TO pg_monitor")
    assert await migrated(amount=column("amount")) == ()
    assert await migrated(amount=column("amount"), more=column("more", "bigint"))
    granted = "SELECT has_table_privilege('pg_monitor', 'made_up_things', 'SELECT')"
    assert await _fetch(postgres_url, granted) == [(True,)]
    assert await _columns(postgres_url) == {"amount": "text", "more": "bigint"}
    assert await migrated(amount=column("amount", "numeric"))
    assert await _columns(postgres_url) == {"amount": "numeric"}


async def test_what_was_built_on_a_view_is_not_dropped_with_it(postgres_url: str) -> None:
    await migrate(postgres_url, connectors=(_made_up({"amount": column("amount")}),))
    await _fetch(postgres_url, "CREATE VIEW report AS SELECT amount FROM made_up_things")
    with pytest.raises(SchemaError, match=r"something was built upon it .*view report"):
        await migrate(postgres_url, connectors=(_made_up({"amount": column("amount", "numeric")}),))
    assert await _columns(postgres_url) == {"amount": "text"}


@pytest.mark.parametrize(
    ("connectors", "problem"),
    [
        (
            (_made_up({"x": column("x", "no_such_type")}),),
            "every type of made_up.things's columns: x no",
        ),
        ((_made_up({"x": column("x", "numeric(")}),), "every type of made_up.things's columns"),
        ((_made_up({"data": column("x")}),), "may not call a column data"),
        ((_made_up(stream="s" * 60),), "has too long a name for a table"),
        ((_made_up(), _made_up(name="made", stream="up_things")), "would both be the view"),
    ],
)
async def test_a_stream_that_cannot_be_kept_says_why(
    postgres_url: str, connectors: tuple[Connector, ...], problem: str
) -> None:
    with pytest.raises(SchemaError, match=problem):
        await migrate(postgres_url, connectors=connectors)


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[postgresql.Postgres]:
    """A server that never saw us: roles belong to all its databases."""
    folder = home / "bare"
    folder.mkdir(mode=0o711)
    server = postgresql.start(folder, options=("fsync=off",))
    yield server
    server.stop()


@pytest.fixture
async def bare(cluster: postgresql.Postgres) -> AsyncIterator[tuple[str, str]]:
    """A database of a user who may log in and no more: its administrator's URL, the user's."""
    name = f"app_{uuid4().hex[:8]}"
    admin = cluster.url("postgres")
    await _fetch(admin, f"CREATE ROLE {name} LOGIN")
    await _fetch(admin, f"CREATE DATABASE {name}")
    yield cluster.url(name), cluster.url(name).replace("postgres@", f"{name}@")
    await _fetch(admin, f"DROP DATABASE {name}")
    await _fetch(admin, f"DROP ROLE {name}")
    for role in ROLES:
        await _fetch(admin, f"DROP ROLE IF EXISTS {role}")


async def _works(url: str) -> None:
    database = Database.connect(url)
    ours, theirs = await stock(database, "ours"), await stock(database, "theirs")
    await write(database, theirs, [row("1", "theirs")], stream="made_up.things")
    await write(database, ours, [row("1", "ours")], stream="made_up.things")
    async with database.transaction(ours.tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM records")) == 1
    await database.close()


async def test_a_user_without_rights_is_told_the_sql_that_an_administrator_must_run(
    bare: tuple[str, str],
) -> None:
    admin, user = bare
    before = await _everything(admin)
    with pytest.raises(SchemaError, match="lacks rights to set the database up") as caught:
        await migrate(user, connectors=(_made_up(),))
    assert await _everything(admin) == before
    assert caught.value.remedy in str(caught.value)
    assert "CREATE ROLE" in caught.value.remedy
    await _fetch(admin, caught.value.remedy)
    assert (await migrate(user, connectors=(_made_up(),))).changed
    await check(user)
    await _works(user)


async def test_a_hosting_companys_user_needs_no_administrator(bare: tuple[str, str]) -> None:
    admin, user = bare
    name = user.split("//")[1].split("@")[0]
    await _fetch(admin, f"ALTER ROLE {name} CREATEROLE")
    await _fetch(admin, f"ALTER DATABASE {name} OWNER TO {name}")
    assert (await migrate(user, schema="atom", connectors=(_made_up(),))).changed
    assert (await migrate(user, connectors=(_made_up(),))).changed
    await check(user)
    await _works(user)


async def test_only_what_is_missing_is_asked_for(bare: tuple[str, str]) -> None:
    admin, user = bare
    name = user.split("//")[1].split("@")[0]
    await _fetch(admin, f"ALTER ROLE {name} CREATEROLE")
    with pytest.raises(SchemaError) as caught:
        await migrate(user)
    assert caught.value.remedy == 'GRANT USAGE, CREATE ON SCHEMA "public" TO "atom_owner";'
    with pytest.raises(SchemaError) as caught:
        await migrate(user, schema="atom")
    assert caught.value.remedy.splitlines()[0] == 'CREATE SCHEMA "atom";'


async def test_a_second_user_of_a_database_is_told_what_it_lacks(bare: tuple[str, str]) -> None:
    admin, user = bare
    await migrate(admin, connectors=(_made_up(),))
    with pytest.raises(SchemaError, match="may not take our roles: run `atom-sync migrate`"):
        await check(user)
    with pytest.raises(SchemaError) as caught:
        await migrate(user)
    assert set(line.split()[0] for line in caught.value.remedy.splitlines()) == {"GRANT"}
    await _fetch(admin, caught.value.remedy)
    assert not (await migrate(user, connectors=(_made_up(),))).changed
    await check(user)
