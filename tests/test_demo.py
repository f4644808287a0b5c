"""The demo as a newcomer runs it, and then what commands run alone say about its home."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from servers import postgresql
from storage import connections, tenant_settings
from storage.database import Database
from storage.vault import Vault
from tests._haystack import files_of, found, texts_of

# The demo is run as a whole, by whichever test comes first.
pytestmark = pytest.mark.timeout(1200)

TABLES = {
    "gmail.messages", "gmail.threads", "gmail.labels", "gmail.history",
    "hubspot.contacts", "hubspot.companies", "hubspot.deals", "hubspot.tickets", "hubspot.owners",
}  # fmt: skip


# Set in the shell of who runs the demo, and in the `.env` beside it: it is to see neither.
STRAY = {
    "DATABASE_URL": "mysql://nowhere/none",
    "ENCRYPTION_KEYS": "too short",
    "HUBSPOT_CLIENT_ID": "of another app",
    "STRIPE_SECRET_KEY": "sk_live_of_another",
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
    "PREFECT_SERVER_API_AUTH_STRING": "",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/none",
    "PREFECT_LOGGING_LEVEL": "no such level",
    "PGSERVICE": "none",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


def atom_sync(home: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    folder = home.parent if home.name == "demo" else home
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in STRAY.items()))
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env=os.environ | STRAY | {"ATOM_HOME": str(home)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def shown() -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    with TemporaryDirectory(prefix="atom-demo-") as folder:
        Path(folder).chmod(0o711)
        done = atom_sync(
            Path(folder), "demo", "--exit", "--json",
            "--integrations", "gmail,hubspot", timeout=900,
        )  # fmt: skip
        yield Path(folder), done


def test_every_table_equals_the_sandbox_and_the_worker_ran_the_runs(shown: Any) -> None:
    _, done = shown
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["equal"]
    assert {table["table"] for table in result["tables"]} == TABLES
    assert all(table["rows"] > 0 for table in result["tables"])
    assert len({run["id"] for run in result["runs"]}) == 2 * 4 * 2
    assert {run["state"] for run in result["runs"]} == {"Completed"}
    assert {run["worker"] for run in result["runs"]} == {"atom-sync"}


def test_the_demo_leaves_no_process_behind(shown: Any) -> None:
    home, _ = shown
    left = [p.info for p in psutil.process_iter(["pid", "cmdline"]) if _names(home, p)]
    assert not left


def _names(home: Path, process: psutil.Process) -> bool:
    return str(home) in " ".join(process.info["cmdline"] or [])


def test_status_needs_no_running_server(shown: Any) -> None:
    home, _ = shown
    done = atom_sync(home / "demo", "status", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {(row["tenant"], row["tier"]) for row in rows} == {
        ("initech", "FREE"), ("hooli", "SOLO"), ("acme", "TEAM"), ("globex", "ENTERPRISE"),
    }  # fmt: skip
    assert all(row["rows"] > 0 and row["last_sync"] for row in rows)
    assert "acme (TEAM)" in atom_sync(home / "demo", "status").stdout


async def test_no_secret_and_no_vendor_data_is_left_where_it_does_not_belong(shown: Any) -> None:
    home, done = shown
    server = postgresql.start(home / "demo")
    try:
        vault = Vault.parse((home / "demo" / "keys").read_text().strip())
        database = Database.connect(server.url())
        secrets, data = [], []
        for connection in await connections.listing(database):
            async with database.transaction(connection.tenant_id) as session:
                held = await tenant_settings.get_json(
                    session, vault, connection.tenant_id, f"{connection.integration}_tokens"
                )
            assert held is not None
            secrets += [held["access_token"], held["refresh_token"]]
        await database.close()
        data = [text for place, text in texts_of(server.url()) if "records_" in place]
        bodies = [text[200:260] for text in data if len(text) > 400][::50]
        assert secrets
        prefect = list(texts_of(server.url("prefect")))
        assert prefect
        files = [*files_of(home), ("output", done.stdout + done.stderr)]
        assert not found(secrets, prefect, files, texts_of(server.url()))
        assert not found(bodies, prefect, files)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sync", "acme"], "'acme' should look like TENANT/INTEGRATION"),
        (["sync", "acme/hubspot"], "no Prefect server: start `atom-sync up` first"),
        (["demo", "--integrations", "nope"], "no sandbox for nope; there are: airtable"),
        (["sandbox", "--integrations", "nope"], "no sandbox for nope; there are: airtable"),
    ],
)
def test_an_error_is_one_clear_line_and_a_non_zero_exit(
    shown: Any, arguments: list[str], expected: str
) -> None:
    home, _ = shown
    done = atom_sync(home / "demo", *arguments)
    assert done.returncode == 1
    assert expected in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_malformed_setting_starts_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "up"],
        env=os.environ | {"ATOM_HOME": str(tmp_path / "home"), "DATABASE_URL": "mysql://x"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "DATABASE_URL: it should look like postgresql://" in " ".join(done.stderr.split())
    assert not (tmp_path / "home").exists()
