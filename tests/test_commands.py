"""Every command there is, wherever something is missing: one clear line, and never a traceback."""

import os
import secrets
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.main
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cli import app, run
from settings import Settings
from storage.migrations import VERSION_TABLE, head

ROOT = Path(__file__).parent.parent
KEY = b64encode(secrets.token_bytes(32)).decode()
# What runs until it is stopped, or starts everything: tests of their own are about these.
LASTING = {"up", "demo", "sandbox"}
# What needs nothing that could be missing.
ALONE = {"integrations check", "integrations search"}
# How each command is typed that takes more than its name.
TYPED = {
    "audit": ["acme/hubspot"],
    "backup": ["atom.dump"],
    "billing dismiss": ["cus_1"],
    "connect": ["acme"],
    "events withdraw": ["1"],
    "import tenant-settings": ["--from", "postgresql://u:p@127.0.0.1:1/other"],
    "integrations add": ["acme.yaml"],
    "integrations remove": ["acme"],
    "keys abandon": ["0123456789abcdef", "--yes"],
    "readers add": ["bi", "--all-tenants"],
    "readers remove": ["bi"],
    "restore": ["atom.dump"],
    "sql": ["-c", "SELECT 1"],
    "sync": ["acme/hubspot"],
    "tenants create": ["acme"],
    "tenants delete": ["acme", "--yes"],
    "tenants set-tier": ["acme", "TEAM"],
}


def names(command: Any, name: str = "") -> Iterator[str]:
    """The commands below one, as they are typed."""
    inner = getattr(command, "commands", {})
    if name and (not inner or command.invoke_without_command):
        yield name
    for each, below in inner.items():
        yield from names(below, f"{name} {each}".strip())


COMMANDS = sorted(set(names(typer.main.get_command(app))) - LASTING - ALONE)
EACH_COMMAND = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a shell in which nothing is set."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """Runs a command; its exit status and all that it printed."""

    def run_it(command: str) -> tuple[int, str]:
        words = [*command.split(), *TYPED.get(command, [])]
        if command == "deploy":
            # Prefect's logging keeps hold of the streams that it finds: here they are the test's.
            done = subprocess.run(
                [sys.executable, "-m", "cli", *words],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            )  # fmt: skip
            status, shown = done.returncode, done.stdout + done.stderr
        else:
            capfd.readouterr()
            status = run(words)
            printed = capfd.readouterr()
            shown = printed.out + printed.err
        assert "Traceback" not in shown, shown
        assert "nothing is known of it" not in shown, shown
        return status, shown

    return run_it


def altered(url: str, **changes: str) -> str:
    return make_conninfo("", **{**conninfo_to_dict(url), **changes})


def as_url(conninfo: str) -> str:
    """As settings take it."""
    given = conninfo_to_dict(conninfo)
    return (
        f"postgresql://{given.get('user', 'postgres')}:{given.get('password') or 'x'}@/"
        f"{given['dbname']}?host={given['host']}&port={given.get('port', 5432)}"
    )


@EACH_COMMAND
def test_in_an_empty_folder_nothing_is_made_and_what_makes_it_is_said(
    command: str, typed: Callable[[str], tuple[int, str]], place: Path
) -> None:
    if command in ("migrate", "restore"):
        pytest.skip("it makes the database")
    status, shown = typed(command)
    assert list(place.iterdir()) == []
    if command == "doctor":
        assert "atom-sync up" in shown
    else:
        assert status == 1
        assert "atom-sync up" in shown


@EACH_COMMAND
def test_a_database_that_is_away_is_said_in_a_line(
    command: str, typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:canary@127.0.0.1:1/atom")
    monkeypatch.setenv("ENCRYPTION_KEYS", KEY)
    status, shown = typed(command)
    assert status in (1, 2)
    assert "canary" not in shown


@EACH_COMMAND
@pytest.mark.parametrize("version", ["none", "older", "newer"])
def test_a_schema_of_another_release_is_said_with_the_remedy(
    command: str,
    version: str,
    typed: Callable[[str], tuple[int, str]],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ENCRYPTION_KEYS", KEY)
    other = {"older": "0001", "newer": "9999"}.get(version)
    with psycopg.connect(database_url, autocommit=True) as sql:
        if other is None:
            monkeypatch.setenv("ATOM_SCHEMA", "nothing_yet")
        else:
            sql.execute(f"UPDATE {VERSION_TABLE} SET version_num = %s", (other,))
        try:
            status, shown = typed(command)
        finally:
            sql.execute(f"UPDATE {VERSION_TABLE} SET version_num = %s", (head(),))
            sql.execute("DROP SCHEMA IF EXISTS nothing_yet CASCADE")
    if command == "backup" and version == "older":
        assert status == 0, shown  # before one migrates is when one wants it
        return
    if command in ("migrate", "restore", "sql", "billing reconcile", "deploy", "sync", "audit"):
        return  # it mends it, needs it not, or misses something else first
    assert status == 1, shown
    wanted = "run a newer atom-sync" if version == "newer" else "atom-sync migrate"
    assert wanted in shown


@EACH_COMMAND
def test_a_user_without_rights_is_said_in_a_line(
    command: str,
    typed: Callable[[str], tuple[int, str]],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("DROP ROLE IF EXISTS nobody_special")
        sql.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'canary'")
    given = altered(database_url, user="nobody_special", password="canary")
    monkeypatch.setenv("DATABASE_URL", as_url(given))
    monkeypatch.setenv("ENCRYPTION_KEYS", KEY)
    status, shown = typed(command)
    assert status in ((0, 1) if command == "sql" else (1,)), shown
    assert "canary" not in shown


@EACH_COMMAND
def test_prefect_and_redis_that_are_away_are_said_in_a_line(
    command: str,
    typed: Callable[[str], tuple[int, str]],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    status, shown = typed(command)
    if command == "deploy":
        assert (status, "Prefect" in shown) == (1, True), shown
    if command == "doctor":
        assert "redis\n ✗ reachable" in shown
        assert "http://127.0.0.1:9/api does not answer" in shown
    if command in ("status", "tenants list", "events", "keys check"):
        assert status == 0, shown


def test_what_nobody_foresaw_is_told_in_a_line_and_in_full_with_debug(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("canary")

    monkeypatch.setattr("cli.status.read", broken)
    assert run(["status"]) == 1
    shown = capfd.readouterr().err
    assert "KeyError" in shown
    assert "--debug" in shown
    assert "canary" not in shown
    with pytest.raises(KeyError):
        run(["--debug", "status"])


@pytest.mark.parametrize("command", sorted(set(names(typer.main.get_command(app)))))
def test_help_says_what_a_command_does_with_an_example(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert f"Example: atom-sync {command}" in capfd.readouterr().out
