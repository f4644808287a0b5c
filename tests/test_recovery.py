"""docs/recovery.md, carried out: yesterday's dump is restored, and syncs go on from there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from prefect.client.schemas.objects import State

import sandbox
from flows.keep_alive import keep_alive
from flows.sync import sync
from servers.postgresql import Postgres
from settings import read
from storage import connections
from storage.database import Database
from tests._sandboxed import Sandboxed, environment

INTEGRATIONS = ["hubspot", "quickbooks"]
DAY = 25 * 3600


@pytest.fixture
def origin() -> Iterator[str]:
    # A sandbox of its own: its clock is put forward.
    with sandbox.start(INTEGRATIONS) as address:
        yield address


def run(server: Postgres, program: str, *arguments: str) -> None:
    subprocess.run([str(server.binaries / program), *arguments], check=True, capture_output=True)


def restored(server: Postgres, dump: Path) -> str:
    name = f"restored_{uuid4().hex[:12]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as sql:
        sql.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    run(server, "pg_restore", "--exit-on-error", "--dbname", server.url(name), str(dump))
    return server.url(name)


async def synced(connection: connections.Connection) -> State[Any]:
    state: State[Any] = await sync(connection.id, return_state=True)
    return state


def a_day_later(world: Sandboxed, linked: dict[str, connections.Connection]) -> None:
    world.control("POST", "/clock", {"advance": DAY})
    for name, connection in linked.items():
        world.change(connection, 10)
        account = {"account": connection.account_id, "op": "expire"}
        world.control("POST", f"/{name}/tokens", account)


def calls(world: Sandboxed, integration: str) -> int:
    total: int = world.control("GET", f"/{integration}/requests")["total"]
    return total


async def test_after_yesterdays_database_is_restored_stale_tokens_need_consent_and_never_loop(
    origin: str,
    postgres: Postgres,
    database: Database,
    database_url: str,
    redis_url: str,
    prefect_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment(origin, database_url, redis_url, INTEGRATIONS).items():
        monkeypatch.setenv(name, value)
    world = Sandboxed(origin, read(), database, database_url)
    linked = {name: await world.connect(name) for name in INTEGRATIONS}
    for connection in linked.values():
        assert (await synced(connection)).is_completed()
    dump = tmp_path / "yesterday.dump"
    run(postgres, "pg_dump", "--format=custom", "--file", str(dump), database_url)

    # QuickBooks gives a new refresh token; the one in the dump dies a day after that.
    for _ in range(2):
        a_day_later(world, linked)
        for connection in linked.values():
            assert (await synced(connection)).is_completed()
    a_day_later(world, linked)

    url = restored(postgres, dump)
    monkeypatch.setenv("DATABASE_URL", url)
    again = Database.connect(url)
    world = Sandboxed(origin, read(), again, url)
    try:
        # HubSpot's refresh tokens last: nothing is to be done, and what was missed is read.
        assert (await synced(linked["hubspot"])).is_completed()
        assert world.stored(linked["hubspot"]) == world.vendor(linked["hubspot"])

        state = await synced(linked["quickbooks"])
        assert state.is_failed()
        assert "no longer accepts this authorisation (invalid_grant)" in (state.message or "")
        assert world.connection_status(linked["quickbooks"].id) == "needs_reauth"
        assert world.connection_status(linked["hubspot"].id) == "active"

        world.control("DELETE", "/quickbooks/requests")
        for _ in range(3):
            assert "connect it again" in ((await synced(linked["quickbooks"])).message or "")
        assert (await keep_alive(return_state=True)).is_completed()
        assert calls(world, "quickbooks") == 0

        account = linked["quickbooks"].account_id
        back = await world.connect("quickbooks", account=account)
        assert back.id == linked["quickbooks"].id
        assert (await synced(back)).is_completed()
        assert world.stored(back) == world.vendor(back)
    finally:
        await again.close()
