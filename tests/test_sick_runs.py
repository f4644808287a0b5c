"""Runs in a database that is not well: none is red, nothing counts as an attempt, and all of it is
done once the database is well."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from connectors import Effect, Event, all_connectors
from flows._passing import PUT_OFF
from flows.dispatch import sync_tier
from flows.events import drain_events, sync_events
from flows.sync import sync
from flows.watches import renew_watches
from servers import postgresql
from storage import background, connections, gaps, inbox, runs
from storage.database import Database
from storage.inbox import Arrival
from storage.migrate import migrate
from tests import _sick
from tests._sandboxed import Sandboxed
from tests._waiting import until

Sickness = Callable[[str], AbstractContextManager[None]]
SICK: dict[str, tuple[Sickness, str]] = {
    "read-only": (_sick.read_only, "it is read-only (SQLSTATE 25006)"),
    "full": (lambda url: _sick.full(url, "records"), "its disk is full (SQLSTATE 53100)"),
}
WELL = "SELECT failures, failure, status_reason FROM connections"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is patient in a database that is not well is so for moments."""
    for name in ("flows._storing", "flows._clients", "flows.dispatch"):
        monkeypatch.setattr(f"{name}.PATIENCE", timedelta(seconds=0.3))
    monkeypatch.setattr(background, "LONGEST_PAUSE", 1.0)
    monkeypatch.setattr(inbox, "RETRY_AFTER", timedelta(seconds=0.5))


def arrivals(world: Sandboxed, connection: connections.Connection) -> list[Arrival]:
    """What HubSpot would deliver of two of its contacts."""
    keys = list(world.vendor(connection)["contacts"])[:2]
    return [
        Arrival(
            integration="hubspot",
            event=Event(
                id=f"{key}-{datetime.now(UTC)}", type="contact.propertyChange", effect=Effect.READ,
                streams=("contacts",), key=key, account_id=connection.account_id,
            ),
            received_at=datetime.now(UTC),
        )
        for key in keys
    ]  # fmt: skip


def waits(state: State[Any], words: str) -> None:
    """The run is not red, and says what happened."""
    assert (state.name, state.is_failed()) == (PUT_OFF, False), state.message
    assert words in (state.message or "")


@pytest.mark.parametrize("kind", SICK)
async def test_syncs_and_events_wait_and_nobody_has_failed(world: Sandboxed, kind: str) -> None:
    connection = await world.connect("hubspot", size=20)
    await inbox.receive(world.database, arrivals(world, connection))
    pending = "SELECT attempts, failed_at, applied_at FROM events"
    sickness, words = SICK[kind]
    with sickness(world.database_url):
        waits(await sync_events("hubspot", [connection.id], return_state=True), words)
        assert world.all(pending) == [(0, None, None)] * 2
        waits(await sync(connection.id, return_state=True), words)
        waits(await sync_tier("hubspot", "TEAM", return_state=True), words)
    assert world.all(WELL) == [(0, None, None)]
    assert world.one("SELECT count(*) FROM sync_runs WHERE ended_at IS NULL") == 0
    assert world.one("SELECT count(*) FROM sync_runs WHERE status <> 'stopped'") == 0

    state: Any = await sync_tier("hubspot", "TEAM", return_state=True)
    assert state.message == "1 synced"
    world.run("UPDATE events SET due_at = now()")
    state = await sync_events("hubspot", [connection.id], return_state=True)
    assert state.message == "2 events applied"
    assert world.stored(connection) == world.vendor(connection)


async def test_a_drain_waits_for_a_database_that_comes_and_goes(world: Sandboxed) -> None:
    connection = await world.connect("hubspot", size=20)
    url = world.database_url
    world.run("UPDATE connections SET next_due_at = now() + interval '1 day'")
    before = _runs(world)
    draining: Any = asyncio.ensure_future(drain_events(0, return_state=True))
    await until(lambda: world.one("SELECT alive_until FROM drains"))
    with _sick.full(url, "records"):
        await inbox.receive(world.database, arrivals(world, connection))
        await asyncio.sleep(3)
    with _sick.read_only(url):
        await asyncio.sleep(2)
    assert not draining.done()
    assert _runs(world) - before <= 8, "it rests between two runs that the database put off"
    await until(lambda: world.one("SELECT bool_and(applied_at IS NOT NULL) FROM events"))
    assert world.all("SELECT DISTINCT attempts FROM events") == [(1,)]
    await world.tell_to_stop()
    state = await draining
    assert "told to stop" in state.message
    assert world.all(WELL) == [(0, None, None)]


def _runs(world: Sandboxed) -> int:
    """How many runs of sync-events have come to an end, by the leases that they took."""
    return int(world.one("SELECT coalesce(max(epoch), 0) FROM leases WHERE kind = 'event'"))


async def test_the_gap_of_a_sick_time_is_read_by_itself(world: Sandboxed) -> None:
    connection = await world.connect("hubspot", size=20)
    assert (await sync(connection.id, return_state=True)).is_completed()
    since = datetime.now(UTC)
    world.change(connection, 10)
    noted = await gaps.note_all(
        world.database, "hubspot", ("contacts", "companies", "deals", "tickets"), since=since,
        until=datetime.now(UTC), reason="deliveries could not be taken: the database was away",
    )  # fmt: skip
    assert noted == 1
    world.run("UPDATE gaps SET due_at = now()")
    with _sick.read_only(world.database_url):
        waits(await renew_watches(return_state=True), "it is read-only (SQLSTATE 25006)")
    state: Any = await renew_watches(return_state=True)
    assert state.message == "1 gaps closed"
    stored, there = world.stored(connection), world.vendor(connection)
    assert stored["contacts"] == there["contacts"]
    assert stored["deals"] == there["deals"]


@pytest.fixture
async def own_server(
    folder: Any, world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[postgresql.Postgres, Sandboxed]]:
    """A PostgreSQL of the test's own, which it may restart."""
    server = postgresql.start(folder, options=("fsync=off",))
    url = server.url("postgres")
    try:
        await migrate(url, connectors=[one for one in all_connectors() if one.name == "hubspot"])
        monkeypatch.setenv("DATABASE_URL", url)
        database = Database.connect(url)
        yield server, Sandboxed(world.origin, world.settings, database, url)
        await database.close()
    finally:
        server.stop()


async def test_a_restart_in_the_middle_of_a_sync_and_of_a_drain_is_no_attempt(
    own_server: tuple[postgresql.Postgres, Sandboxed], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flows._storing", "flows._clients"):
        monkeypatch.setattr(f"{name}.PATIENCE", timedelta(seconds=60))
    server, world = own_server
    connection = await world.connect("hubspot", size=20)
    other = await world.connect("hubspot", size=20, tenant="other")
    await inbox.receive(world.database, arrivals(world, other))
    world.run("UPDATE connections SET next_due_at = now() + interval '1 day'")
    world.control("DELETE", "/hubspot/requests")
    world.hold("hubspot", path="/crm/")
    syncing: Any = asyncio.ensure_future(sync(connection.id, return_state=True))
    draining: Any = asyncio.ensure_future(drain_events(0, return_state=True))
    await until(lambda: world.asked("hubspot", "/crm/") >= 2)
    await asyncio.to_thread(server.stop)
    world.let_go("hubspot")
    await asyncio.sleep(1)
    await asyncio.to_thread(postgresql.start, server.data.parents[1], options=("fsync=off",))
    # A lease that ran out while PostgreSQL was away tells of no killed process.
    away = await world.connect("hubspot", size=1, tenant="away")
    await runs.start(world.database, away, trigger="schedule")
    world.run(
        "INSERT INTO leases (connection_id, kind, tenant_id, epoch, expires_at) SELECT id, 'sync',"
        f" tenant_id, 1, pg_postmaster_start_time() - interval '1 s' FROM connections"
        f" WHERE id = '{away.id}'"
    )
    assert await runs.end_lost(world.database) == 0
    state = await syncing
    assert state.is_completed(), state.message
    assert world.stored(connection) == world.vendor(connection)
    await until(lambda: world.one("SELECT bool_and(applied_at IS NOT NULL) FROM events"))
    assert world.all("SELECT DISTINCT attempts, error FROM events") == [(1, None)]
    await world.tell_to_stop()
    assert (await draining).name != "Failed"
    assert world.all(f"{WELL} GROUP BY 1, 2, 3") == [(0, None, None)]
