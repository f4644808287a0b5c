"""`kill -9` in any phase of a sync, then again: the vendor's rows, none twice and none lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.sync import sync
from storage import connections
from tests._sandboxed import Sandboxed

PROGRAM = """
import asyncio, sys
from uuid import UUID
from flows import _reading
from flows.sync import sync
_reading.BATCH_RECORDS = 60  # so that there are batches to be killed between
state = asyncio.run(sync(UUID(sys.argv[1]), return_state=True))
sys.exit(0 if state.is_completed() else 1)
"""


def start(connection: connections.Connection, prefect_url: str, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(connection.id)],
            env=os.environ | {"PREFECT_API_URL": prefect_url},
            stdout=output,
            stderr=output,
            text=True,
        )


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """SIGKILL the moment that it is so; it must not have ended before."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "it never came to that point"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


async def again(world: Sandboxed, connection: connections.Connection) -> Any:
    """The next sync, once the killed one's lease is over."""
    world.one("UPDATE leases SET expires_at = now() RETURNING 1")
    return await sync(connection.id, return_state=True)


async def test_killed_while_a_token_is_refreshed(
    world: Sandboxed, prefect_url: str, tmp_path: Path
) -> None:
    connection = await world.connect("quickbooks")
    world.one("UPDATE grants SET expires_at = now() RETURNING 1")
    world.control("POST", "/quickbooks/tokens", {"account": connection.account_id, "op": "expire"})
    world.hold("quickbooks", path="/tokens/bearer")
    process = start(connection, prefect_url, tmp_path / "log")
    kill_when(process, lambda: bool(world.one("SELECT refresh_id FROM grants")))
    world.let_go("quickbooks")
    world.one("UPDATE grants SET refresh_started_at = now() - interval '1 hour' RETURNING 1")
    assert (await again(world, connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


@pytest.mark.parametrize("requests", [1, 3, 6])
async def test_killed_while_pages_are_fetched(
    world: Sandboxed, prefect_url: str, tmp_path: Path, requests: int
) -> None:
    connection = await world.connect("hubspot", size=400)
    world.control("DELETE", "/hubspot/requests")
    world.hold("hubspot", skip=requests, path="/crm/")
    process = start(connection, prefect_url, tmp_path / "log")
    kill_when(process, lambda: world.asked("hubspot", "/crm/") >= requests)
    world.let_go("hubspot")
    world.change(connection, 20)
    assert (await again(world, connection)).is_completed()
    assert (await again(world, connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


async def test_killed_while_a_batch_is_persisted(
    world: Sandboxed, prefect_url: str, tmp_path: Path
) -> None:
    connection = await world.connect("hubspot", size=400)
    with psycopg.connect(world.database_url) as blocking:
        blocking.execute("LOCK TABLE checkpoints IN SHARE MODE")
        process = start(connection, prefect_url, tmp_path / "log")
        kill_when(process, lambda: _waits_for_lock(world))
    assert world.stored(connection) == {}
    assert (await again(world, connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


def _waits_for_lock(world: Sandboxed) -> bool:
    return bool(
        world.one(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def test_a_killed_full_read_goes_on_where_it_was_and_still_finds_what_is_gone(
    world: Sandboxed, prefect_url: str, tmp_path: Path
) -> None:
    connection = await world.connect("hubspot", size=400)
    assert (await sync(connection.id, return_state=True)).is_completed()
    world.one(
        "INSERT INTO records SELECT connection_id, '999999', stream, tenant_id, data, version,"
        " observed_at, content_hash, NULL FROM records WHERE stream = 'hubspot.contacts' LIMIT 1"
        " RETURNING 1"
    )
    program = PROGRAM.replace("return_state=True", "full=True, return_state=True")
    world.control("DELETE", "/hubspot/requests")
    world.hold("hubspot", skip=3, path="/contacts")
    with (tmp_path / "log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(connection.id)],
            env=os.environ | {"PREFECT_API_URL": prefect_url},
            stdout=output, stderr=output, text=True,
        )  # fmt: skip
    kill_when(process, lambda: bool(world.one("SELECT count(*) FROM seen")))
    world.let_go("hubspot")
    scan = world.one("SELECT scan_id FROM checkpoints WHERE stream = 'contacts'")
    assert scan is not None
    state = await again(world, connection)
    assert state.is_completed()
    assert world.stored(connection) == world.vendor(connection)
    assert world.one("SELECT count(*) FROM seen") == 0
