"""`backup` and `restore` as they are typed, with PostgreSQL's own programs and real databases."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from cli import run
from servers import backups, local, postgresql
from servers.database import database_url_of
from servers.processes import alive
from settings import Settings, read
from storage import tenant_settings
from storage._rights import ROLES
from storage.database import Database
from storage.migrations import VERSION_TABLE, head
from storage.vault import Vault, check_keys
from tests import _databases
from tests._stored import Stocked, row, stock, stored, write

ROOT = Path(__file__).parent.parent
KEY, OTHER = (b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
CANARY = "canary-of-the-backup"
PASSWORD = "canary-password"


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a shell in which nothing is set."""
    monkeypatch.chdir(folder)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def typed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Runs a command with these settings; its exit status and all that it printed."""

    def run_it(*words: str, **given: str) -> tuple[int, str]:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            status = run(words)
        printed = capfd.readouterr()
        shown = printed.out + printed.err
        assert "Traceback" not in shown, shown
        for hidden in (KEY, OTHER, CANARY, PASSWORD):
            assert hidden not in shown
        return status, shown

    return run_it


def fingerprint(key: str) -> str:
    return Vault.parse(key).fingerprints[0]


async def fill(url: str, key: str = KEY, schema: str = "public") -> list[Stocked]:
    """Two tenants with a connection, records and a secret each."""
    database, vault = Database.connect(url, schema=schema), Vault.parse(key)
    try:
        await check_keys(database, vault)
        made = [await stock(database, slug) for slug in ("north", "south")]
        for number, stocked in enumerate(made):
            rows = [row("a", f"{number}\\\t\n\\.\nCOPY x (y) FROM stdin;\n"), row("b", "ü")]
            await write(database, stocked, rows)
            async with database.transaction(stocked.tenant_id) as session:
                await tenant_settings.put(
                    session, vault, stocked.tenant_id, "OPENAI_API_KEY", CANARY
                )
    finally:
        await database.close()
    return made


def rows(url: str, schema: str = "public") -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
            " AND relkind IN ('r', 'p') ORDER BY 1",
            (schema,),
        ).fetchall()
        return {
            name: sorted(
                line
                for (line,) in connection.execute(
                    sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, name))
                ).fetchall()
            )
            for (name,) in found
        }


def shape(url: str) -> list[tuple[object, ...]]:
    """Who owns what, who may do what with it, and which rows are seen."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            r"""
            SELECT relname, relkind, relowner::regrole::text, relrowsecurity, relforcerowsecurity,
                (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(relacl) a),
                (SELECT array_agg((polname, polcmd, pg_get_expr(polqual, polrelid))::text
                    ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid),
                (SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY conname)
                    FROM pg_constraint k WHERE conrelid = c.oid),
                (SELECT array_agg(pg_get_triggerdef(t.oid) ORDER BY tgname)
                    FROM pg_trigger t WHERE tgrelid = c.oid AND NOT tgisinternal)
            FROM pg_class c WHERE relnamespace = 'public'::regnamespace
            UNION ALL
            SELECT proname, 'f', proowner::regrole::text, prosecdef, null,
                ARRAY[translate(proconfig::text, '\"', ''), proacl::text], null, null, null
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            ORDER BY 1
            """
        ).fetchall()


async def opens(url: str, made: list[Stocked]) -> None:
    """Each tenant has its secret, and sees its rows alone."""
    database, vault = Database.connect(url), Vault.parse(KEY)
    try:
        for number, stocked in enumerate(made):
            async with database.transaction(stocked.tenant_id) as session:
                found = await tenant_settings.get(
                    session, vault, stocked.tenant_id, "OPENAI_API_KEY"
                )
            assert found is not None
            assert found.get_secret_value() == CANARY
            assert (await stored(database, stocked))["a"].startswith(str(number))
        with psycopg.connect(url) as connection:
            connection.execute("SET ROLE atom_tenant")
            connection.execute(
                "SELECT set_config('app.tenant_id', %s, false)", [str(made[0].tenant_id)]
            )
            seen = connection.execute("SELECT DISTINCT tenant_id FROM records").fetchall()
            assert seen == [(made[0].tenant_id,)]
    finally:
        await database.close()


def test_a_server_s_database_is_backed_up_and_restored_equal(
    database_url: str, postgres_url: str, typed: Callable[..., tuple[int, str]], place: Path
) -> None:
    made = asyncio.run(fill(database_url))
    status, shown = typed("backup", "a.dump", DATABASE_URL=database_url, ENCRYPTION_KEYS=KEY)
    file = place / "a.dump"
    assert status == 0, shown
    assert f"{file.stat().st_size:,} bytes, schema {head()}" in shown
    assert f"{fingerprint(KEY)} (in ENCRYPTION_KEYS)" in shown
    assert "apart from the backup" in shown
    assert file.stat().st_mode & 0o777 == 0o600
    status, shown = typed("restore", "a.dump", DATABASE_URL=postgres_url, ENCRYPTION_KEYS=KEY)
    assert status == 0, shown
    assert "atom-sync doctor" in shown
    assert rows(postgres_url) == rows(database_url)
    assert shape(postgres_url) == shape(database_url)
    asyncio.run(opens(postgres_url, made))


def test_it_moves_from_a_home_to_another_and_to_a_server(
    postgres_url: str, typed: Callable[..., tuple[int, str]], place: Path
) -> None:
    first, second = place / "one", place / "two"
    here = {"ATOM_HOME": str(first)}
    assert typed("migrate", **here)[0] == 0
    key = (first / "keys").read_text().strip()
    with local.supervised(read(_env_file=None, atom_home=first), lambda line: None) as services:
        services.start_database()
        url = database_url_of(services.settings)
        asyncio.run(fill(url, key))
        before = rows(url)
        # It is made beside what runs.
        status, shown = typed("backup", str(place / "a.dump"), "--json", **here)
    assert status == 0, shown
    told = json.loads(shown)
    assert told == {
        "file": str(place / "a.dump"),
        "bytes": (place / "a.dump").stat().st_size,
        "revision": head(),
        "fingerprints": [fingerprint(key)],
        "missing": [],
    }

    status, shown = typed("restore", "a.dump", ATOM_HOME=str(second))
    assert status == 1
    assert fingerprint(key) in shown
    assert f"in {second / 'keys'}" in shown
    assert "Do not make a new one" in shown
    assert not (second / "keys").exists()
    (second / "keys").write_text(key)
    (second / "keys").chmod(0o600)
    assert typed("keys", "check", ATOM_HOME=str(second))[0] == 0

    elsewhere = {"DATABASE_URL": postgres_url, "ENCRYPTION_KEYS": key}
    assert typed("restore", "a.dump", **elsewhere)[0] == 0
    assert rows(postgres_url) == before


def altered(url: str, user: str) -> str:
    given = conninfo_to_dict(url)
    return f"postgresql://{user}:{PASSWORD}@/{given['dbname']}?host={given['host']}"


@pytest.fixture
def user(postgres: postgresql.Postgres, template: str) -> str:
    """As a hosting company makes them: no superuser, but it may make roles."""
    name = f"hosted_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
        for role in ROLES:
            with_options = "WITH ADMIN OPTION, SET TRUE, INHERIT FALSE"
            connection.execute(f"GRANT {role} TO {name} {with_options}")
    return name


def test_a_user_that_is_no_superuser_restores_and_is_told_what_a_backup_takes(
    database_url: str, postgres_url: str, user: str, typed: Callable[..., tuple[int, str]]
) -> None:
    made = asyncio.run(fill(database_url))
    bound = {"DATABASE_URL": altered(database_url, user), "ENCRYPTION_KEYS": KEY}
    status, shown = typed("backup", "a.dump", **bound)
    assert status == 1
    assert not Path("a.dump").exists()
    assert f'ALTER ROLE "{user}" BYPASSRLS;\nGRANT pg_read_all_data TO "{user}";' in shown
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {user} BYPASSRLS; GRANT pg_read_all_data TO {user}")
    status, shown = typed("backup", "a.dump", **bound)
    assert status == 0, shown
    name = conninfo_to_dict(postgres_url)["dbname"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f"ALTER ROLE {user} NOBYPASSRLS; REVOKE pg_read_all_data FROM {user};"
            f"ALTER DATABASE {name} OWNER TO {user}"
        )
    status, shown = typed(
        "restore", "a.dump", DATABASE_URL=altered(postgres_url, user), ENCRYPTION_KEYS=KEY
    )
    assert status == 0, shown
    assert rows(postgres_url) == rows(database_url)
    asyncio.run(opens(postgres_url, made))


def test_a_schema_of_its_own_is_backed_up_alone(
    postgres_url: str, postgres: postgresql.Postgres, typed: Callable[..., tuple[int, str]]
) -> None:
    there = postgres.url(_databases.create(postgres))
    given = {"DATABASE_URL": postgres_url, "ENCRYPTION_KEYS": KEY, "ATOM_SCHEMA": "atom"}
    assert (typed("migrate", **given))[0] == 0
    asyncio.run(fill(postgres_url, schema="atom"))
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE public.of_others AS SELECT 1")
    assert (typed("backup", "a.dump", **given))[0] == 0
    given["DATABASE_URL"] = there
    status, shown = typed("restore", "a.dump", **given | {"ATOM_SCHEMA": "public"})
    assert status == 1
    assert "set ATOM_SCHEMA=atom" in shown
    status, shown = typed("restore", "a.dump", **given)
    assert status == 0, shown
    assert rows(there, "atom") == rows(postgres_url, "atom")
    assert rows(there) == {}


def test_a_database_that_holds_something_is_left_as_it_is(
    database_url: str, postgres_url: str, typed: Callable[..., tuple[int, str]]
) -> None:
    asyncio.run(fill(database_url))
    given = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY}
    assert (typed("backup", "a.dump", **given))[0] == 0
    before = rows(database_url)
    status, shown = typed("restore", "a.dump", **given)
    assert status == 1
    assert "2 tenants and 2 connections" in shown
    assert "empty database" in shown
    assert rows(database_url) == before
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE tickets AS SELECT 1 AS number")
    given["DATABASE_URL"] = postgres_url
    status, shown = typed("restore", "a.dump", **given)
    assert status == 1
    assert "it holds tickets" in shown
    assert rows(postgres_url) == {"tickets": ["(1)"]}


def test_a_file_that_is_no_whole_backup_of_ours_writes_nothing(
    database_url: str, postgres_url: str, typed: Callable[..., tuple[int, str]], place: Path
) -> None:
    asyncio.run(fill(database_url))
    given = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY}
    assert (typed("backup", "a.dump", **given))[0] == 0
    whole = (place / "a.dump").read_bytes()
    for name, size in {"none": 0, "short": 100, "half": len(whole) // 2}.items():
        (place / name).write_bytes(whole[:size])
    (place / "text").write_text("CREATE TABLE x (y int);\n" * 100)
    program = str(postgresql.program("pg_dump"))
    subprocess.run([program, "-Fc", "-f", "foreign", postgres_url], check=True)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        subprocess.run([program, "-Fc", "-f", "newer", database_url], check=True)
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = %s", [head()])
    for name, said in {
        "none": "is no backup",
        "short": "is no backup",
        "half": "cut off",
        "text": "is no backup",
        "foreign": "another database",
        "newer": "run a newer atom-sync",
        "missing": "there is no file",
    }.items():
        for settings in (
            {"DATABASE_URL": postgres_url, "ENCRYPTION_KEYS": KEY},
            {"ATOM_HOME": str(place / "home")},
        ):
            status, shown = typed("restore", name, **settings)
            assert status == 1, name
            assert said in shown
            assert len(shown.strip().splitlines()) == 1
    assert rows(postgres_url) == {}
    assert not (place / "home").exists()


def test_another_master_key_is_told_apart_from_the_one_that_is_missing(
    database_url: str, postgres_url: str, typed: Callable[..., tuple[int, str]]
) -> None:
    asyncio.run(fill(database_url))
    given = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY}
    assert (typed("backup", "a.dump", **given))[0] == 0
    given = {"DATABASE_URL": postgres_url, "ENCRYPTION_KEYS": OTHER}
    status, shown = typed("restore", "a.dump", **given)
    assert status == 1
    assert f"fingerprint {fingerprint(KEY)}" in shown
    assert fingerprint(OTHER) not in shown
    assert "ENCRYPTION_KEYS, after the current one" in shown
    assert rows(postgres_url) == rows(database_url)
    given["ENCRYPTION_KEYS"] = f"{OTHER},{KEY}"
    assert (typed("keys", "rotate", **given))[0] == 0
    assert (typed("keys", "check", **given))[0] == 0


def test_a_file_that_exists_is_kept_unless_it_is_said(
    database_url: str, typed: Callable[..., tuple[int, str]], place: Path
) -> None:
    (place / "a.dump").write_text("former")
    given = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY}
    status, shown = typed("backup", "a.dump", **given)
    assert (status, "--force" in shown) == (1, True)
    assert (place / "a.dump").read_text() == "former"
    assert typed("backup", "nowhere/a.dump", **given)[0] == 1
    # What fails leaves the former one, too.
    bad = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY, "ATOM_SCHEMA": "nothing"}
    assert typed("backup", "a.dump", "--force", **bad)[0] == 1
    assert (place / "a.dump").read_text() == "former"
    assert typed("backup", "a.dump", "--force", **given)[0] == 0
    assert (place / "a.dump").read_bytes()[:5] == b"PGDMP"
    assert [path.name for path in place.iterdir() if "dump" in path.name] == ["a.dump"]


def started(*words: str, **given: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def child(process: subprocess.Popen[str], name: str) -> psutil.Process:
    """Once it runs."""
    for _ in range(600):
        for each in psutil.Process(process.pid).children(recursive=True):
            if each.name() == name:
                return each
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError(f"{name} was not started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_midway_leaves_the_former_file_and_no_password_in_sight(
    database_url: str, place: Path, user: str, number: signal.Signals
) -> None:
    (place / "a.dump").write_text("former")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {user} BYPASSRLS; GRANT pg_read_all_data TO {user}")
    with psycopg.connect(database_url) as connection:
        # The dump waits for this lock.
        connection.execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE")
        given = {"DATABASE_URL": altered(database_url, user), "ENCRYPTION_KEYS": KEY}
        with started("backup", "a.dump", "--force", **given) as process:
            dumping = child(process, "pg_dump")
            for each in (dumping, psutil.Process(process.pid)):
                assert PASSWORD not in " ".join(each.cmdline())
            process.send_signal(number)
            shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert PASSWORD not in shown
    assert not alive(dumping)
    assert [path.name for path in place.iterdir()] == ["a.dump"]
    assert (place / "a.dump").read_text() == "former"


def test_a_disk_without_room_leaves_the_former_file(database_url: str, place: Path) -> None:
    (place / "a.dump").write_text("former")
    command = f"ulimit -f 64; exec {sys.executable} -m cli backup a.dump --force"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        | {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no backup was made" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in place.iterdir()] == ["a.dump"]
    assert (place / "a.dump").read_text() == "former"


def test_over_tls_a_pg_dump_is_taken_that_speaks_it_or_said_to_be_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No database answers there: what is tried here is whether TLS is spoken at all.
    url = "postgresql://u@127.0.0.1:1/x?sslmode=require"

    def refused() -> str:
        with pytest.raises(backups.BackupError) as error:
            backups.dump(url, "public", place / "a.dump", server=18_00_00, over_tls=True)
        assert list(place.iterdir()) == []
        return str(error.value)

    assert "Connection refused" in refused()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "install postgresql-client-18" in refused()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_restore_that_is_stopped_midway_leaves_nothing_and_can_be_repeated(
    database_url: str,
    postgres_url: str,
    typed: Callable[..., tuple[int, str]],
    number: signal.Signals,
) -> None:
    stocked, _ = asyncio.run(fill(database_url))
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO oauth_log (tenant_id, integration, event, detail)"
            " SELECT %s, 'hubspot', 'connect', jsonb_build_object('n', n)"
            " FROM generate_series(1, 200000) n",
            [stocked.tenant_id],
        )

    given = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": KEY}
    assert typed("backup", "a.dump", **given)[0] == 0
    given["DATABASE_URL"] = postgres_url
    with psycopg.connect(postgres_url, autocommit=True) as watching:
        with started("restore", "a.dump", **given) as process:
            copies = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = current_database()"
            while not watching.execute(copies).fetchone():
                assert process.poll() is None
            process.send_signal(number)
            shown, _ = process.communicate(timeout=60)
        assert process.returncode == {signal.SIGINT: 130}.get(number, -number), shown
        others = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        while watching.execute(others).fetchone():
            time.sleep(0.05)
    assert rows(postgres_url) == {}
    assert typed("restore", "a.dump", **given)[0] == 0
    assert rows(postgres_url) == rows(database_url)
