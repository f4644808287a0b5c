"""The README's way into real use: `.env.example` as it is, and with every variable set."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import Any

import psutil
import psycopg
import pytest
from prefect.client.orchestration import PrefectClient
from psycopg import sql

from cli.documents import env_example
from servers import postgresql
from settings import asyncpg_url
from tests._mailbox import PASSWORD, USER, Mailbox, certificate, smtp
from tests._vendor import Answer, Vendor, serve
from tests.test_credentials import names_in

EXAMPLE = Path(__file__).parent.parent / ".env.example"
PREFECT_PASSWORD = "us:canary-prefect"
# What has to look like something; the others may be random.
PLAUSIBLE = {
    "ATOM_SCHEMA": "public",
    "ATOM_WORKER": "local",
    "SYNC_INTERVALS": "TEAM.PULL=30m",
    "NEXTAUTH_URL": "https://atom.test",
    "CONNECT_RETURN_HOSTS": "app.atom.test",
    "CONNECT_COLOUR": "#7a3e00",
    "CONNECT_LOGO_URL": "https://app.atom.test/logo.svg",
    "CONNECT_INTEGRATIONS": "slack,gmail",
    "FROM_EMAIL": "no-reply@atom.test",
    "STRIPE_SECRET_KEY": "sk_test_canary51canary",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_canary51canary",
    "STRIPE_WEBHOOK_SECRET": "whsec_canarycanary",
    "STRIPE_PRICE_IDS_IGNORED": "price_canary51ignored",
    "MICROSOFT_TENANT_ID": "common",
    "SHOPIFY_SCOPES": "read_orders",
    "GMAIL_PUBSUB_TOPIC": "projects/atom/topics/gmail",
    "GMAIL_PUBSUB_ACCOUNT": "gmail@atom.iam.gserviceaccount.com",
}


@dataclass
class Up:
    """`atom-sync up` as it runs: how it is called, and what it said until it was ready."""

    folder: Path
    process: subprocess.Popen[str]
    said: str

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@contextmanager
def up(folder: Path, number: signal.Signals) -> Iterator[Up]:
    """Started as a script starts it with `&`, and ended by that signal; it must leave nothing."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "cli", "up"],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said, started = "", []
    try:
        for line in process.stderr:
            said += line
            if "Ctrl-C stops everything" in line:
                break
        assert "ready" in said, said
        started = psutil.Process(process.pid).children(recursive=True)
        yield Up(folder, process, said)
    finally:
        process.send_signal(number)
        try:
            _, rest = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, said + rest
    assert len(started) >= 3  # Prefect, the web and a worker
    _, left = psutil.wait_procs(started, timeout=10)
    assert not left
    assert not postgresql.locate(folder / ".atom").running()


def test_the_example_as_it_is_comes_up_is_all_well_and_goes_down(folder: Path) -> None:
    (folder / ".env").write_text(EXAMPLE.read_text())
    with up(folder, signal.SIGINT) as running:
        web = running.said.partition("web and API: ")[2].partition(" ")[0]
        assert "Prefect UI: http://127.0.0.1:42" in running.said
        assert web.startswith("http://127.0.0.1:8")
        assert "atom-sync tenants create" in running.said
        done = running.call("doctor")
        assert done.returncode == 0, done.stdout
        assert "all that is needed is there" in done.stdout
        assert f"callback  {web}/api/integrations/callback" in done.stdout
        done = running.call("status")
        assert (done.returncode, done.stdout[:18]) == (0, "no connections yet"), done.stderr


@contextmanager
def _everything(
    folder: Path, server: postgresql.Postgres, redis_url: str
) -> Iterator[dict[str, str]]:
    """A plausible value for every variable, but the one that would lead to another Prefect."""
    ours, prefects = f"ours_{folder.name}", f"prefect_{folder.name}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for name in (ours, prefects):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    mailbox, (public, context) = Mailbox(), certificate(folder)
    encrypted: dict[str, Any] = {
        "tls_context": context,
        "require_starttls": True,
        "auth_required": True,
    }
    with (
        smtp(mailbox, authenticator=mailbox.authenticate, **encrypted),
        serve(Vendor()) as vendor,
    ):
        vendor.will(Answer(body={"object": "balance", "id": "price", "active": True}))
        given = PLAUSIBLE | {
            "ATOM_HOME": str(folder / ".atom"),
            "ATOM_SANDBOX_URL": vendor.origin,
            "DATABASE_URL": server.url(ours),
            "REDIS_URL": redis_url,
            "ENCRYPTION_KEYS": b64encode(token_bytes(32)).decode(),
            "PREFECT_API_URL": "",
            "PREFECT_API_DATABASE_CONNECTION_URL": asyncpg_url(
                server.url(prefects), database=prefects
            ),
            "PREFECT_SERVER_API_AUTH_STRING": PREFECT_PASSWORD,
            "PREFECT_API_AUTH_STRING": PREFECT_PASSWORD,
            "SMTP_HOST": mailbox.host,
            "SMTP_USER": USER.decode(),
            "SMTP_PASS": PASSWORD.decode(),
            "SSL_CERT_FILE": str(public),
        }
        for line in env_example().splitlines():
            name, equals, default = line.partition("=")
            if equals and not line.startswith("#") and name not in given:
                given[name] = default or _random(name)
        yield given


def _random(name: str) -> str:
    if name.endswith("_CALLBACK_URL"):
        return "https://atom.test/api/integrations/callback"
    if name.startswith("STRIPE_PRICE_ID_"):
        return f"price_{name[-4:].lower()}"
    return token_urlsafe(32)


def _stray(folder: Path) -> None:
    """Files that Prefect would read, each of which would keep it from working."""
    broken = '[server.api]\nauth_string = "stray:toml"\n[api]\nurl = "http://127.0.0.1:9/api"\n'
    (folder / "prefect.toml").write_text(broken)
    (folder / "pyproject.toml").write_text(
        broken.replace("[server", "[tool.prefect.server").replace("[api", "[tool.prefect.api")
    )
    (folder / ".prefect").mkdir()
    (folder / ".prefect" / "profiles.toml").write_text(
        'active = "stray"\n[profiles.stray]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
        'PREFECT_LOGGING_LEVEL = "no such level"\n'
    )


async def test_with_every_variable_set_and_stray_files_beside_it_all_works(
    folder: Path,
    postgres: postgresql.Postgres,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _stray(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "")
    with _everything(folder, postgres, redis_url) as given:
        assert set(names_in(env_example())) <= set(given)
        (folder / ".env").write_text("".join(f"{n}={v}\n" for n, v in given.items()))
        monkeypatch.setenv("SSL_CERT_FILE", given["SSL_CERT_FILE"])
        with up(folder, signal.SIGTERM) as running:
            assert "public address: https://atom.test" in running.said
            done = running.call("doctor", "--json")
            rows = json.loads(done.stdout)["rows"]
            told = [row for row in rows if row["state"] in ("missing", "wrong")]
            assert (done.returncode, told) == (0, []), f"{told} {done.stderr}"
            assert running.call("status").returncode == 0
            api = running.said.partition("Prefect UI: ")[2].split()[0] + "/api"
            assert await _ran(api) == "Completed"
        logs = "".join(path.read_text() for path in (folder / ".atom" / "logs").iterdir())
        assert "canary" not in logs + running.said


async def _ran(api: str) -> str:
    """A flow run that our worker picks up, with the password that the server asks for."""
    async with PrefectClient(api, auth_string=PREFECT_PASSWORD) as client:
        deployment = await client.read_deployment_by_name("notify/scheduled")
        run = await client.create_flow_run_from_deployment(deployment.id)
        deadline = time.monotonic() + 90
        while run.state is None or not run.state.is_final():
            assert time.monotonic() < deadline, run.state
            await asyncio.sleep(0.5)
            run = await client.read_flow_run(run.id)
        return str(run.state.name)
