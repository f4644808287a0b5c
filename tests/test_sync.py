"""A sync, as a data engineer meets it: run, killed, stopped, refused; always the vendor's rows."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from connectors import load
from connectors.kernel.cancellation import end
from flows.sync import sync
from storage import connections, leases, runs
from tests._sandboxed import INTEGRATIONS, Sandboxed
from tests._waiting import until

# One that is told, one that is asked, one that is both and one that is asked in GraphQL. The suite
# asks the same of every connector without Prefect (tests/test_connectors.py).
SOME = {"gmail", "hubspot", "quickbooks", "shopify"}
EACH_INTEGRATION = pytest.mark.parametrize(
    "integration",
    [
        pytest.param(name, marks=[] if name in SOME else [pytest.mark.thorough])
        for name in INTEGRATIONS
    ],
)


async def synced(connection: connections.Connection, **options: Any) -> State[Any]:
    state: State[Any] = await sync(connection.id, return_state=True, **options)
    return state


@EACH_INTEGRATION
async def test_tables_equal_the_vendor_after_a_backfill_and_after_changes(
    world: Sandboxed, integration: str
) -> None:
    connection = await world.connect(integration)
    state = await synced(connection)
    assert state.is_completed(), state.message
    assert world.stored(connection) == world.vendor(connection)
    # Of some vendors' deletes only a full read tells.
    full = any(stream.hides_deletes for stream in load(integration).streams)
    for round_ in range(2):
        world.change(connection, 40, seed=round_)
        state = await synced(connection, full=full)
        assert state.is_completed(), state.message
        assert world.stored(connection) == world.vendor(connection)


@EACH_INTEGRATION
async def test_a_sync_with_nothing_new_changes_nothing(world: Sandboxed, integration: str) -> None:
    connection = await world.connect(integration)
    await synced(connection)
    await synced(connection)
    before = world.one("SELECT sum(xmin::text::bigint) FROM records WHERE version IS NOT NULL")
    state = await synced(connection)
    assert "0 records changed, 0 deleted" in (state.message or "")
    after = world.one("SELECT sum(xmin::text::bigint) FROM records WHERE version IS NOT NULL")
    assert before == after


async def test_full_removes_what_the_vendor_no_longer_has(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    await synced(connection)
    ghost = "insert into records select connection_id, '999999', stream, tenant_id, data, version,"
    ghost += (
        " observed_at, content_hash, null from records where stream = 'hubspot.contacts' limit 1"
    )
    ghost += " returning record_id"
    assert world.one(ghost) == "999999"
    await synced(connection)
    assert "999999" in world.stored(connection)["contacts"]
    state = await synced(connection, full=True)
    assert "1 deleted" in (state.message or "")
    assert world.stored(connection) == world.vendor(connection)
    assert world.one("SELECT count(*) FROM seen") == 0


async def test_an_expired_checkpoint_restarts_by_itself_and_finds_the_deletes(
    world: Sandboxed,
) -> None:
    connection = await world.connect("gmail")
    await synced(connection)
    world.change(connection, 40)
    world.control("POST", "/gmail/expire_checkpoints", {"account": connection.account_id})
    state = await synced(connection)
    assert state.is_completed(), state.message
    stored, vendor = world.stored(connection), world.vendor(connection)
    for stream in ("messages", "threads", "labels"):
        assert stored[stream] == vendor[stream]


async def test_a_stream_that_fails_leaves_the_others_going(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    world.fault("hubspot", "garbage", count=100, path="/companies")
    state = await synced(connection)
    assert state.is_failed()
    assert "companies: HubSpot answered with text/html instead of JSON" in (state.message or "")
    stored, vendor = world.stored(connection), world.vendor(connection)
    assert "companies" not in stored
    assert {name: stored[name] for name in stored} == {
        n: vendor[n] for n in vendor if n != "companies"
    }
    world.control("DELETE", "/hubspot/faults")
    assert (await synced(connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


@pytest.mark.parametrize(
    ("fault", "name", "who"),
    [
        ("503", "PutOff", "nobody has to act"),
        ("forbidden", "Failed", "the tenant's administrator at the vendor has to act"),
        ("garbage", "Failed", "whoever runs atom-sync has to act"),
    ],
)
async def test_a_red_run_says_who_has_to_act_and_a_run_that_passes_is_not_red(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch, fault: str, name: str, who: str
) -> None:
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta())
    connection = await world.connect("hubspot", size=5)
    world.fault("hubspot", fault, count=100, path="/companies")
    state = await synced(connection)
    assert state.name == name
    assert who in (state.message or "")


async def test_a_revoked_grant_asks_for_reconnection_and_is_not_retried(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    world.control("POST", "/hubspot/tokens", {"account": connection.account_id, "op": "revoke"})
    state = await synced(connection)
    assert state.is_failed()
    assert world.connection_status(connection.id) == "needs_reauth"
    world.control("DELETE", "/hubspot/requests")
    state = await synced(connection)
    assert "needs_reauth" in (state.message or "")
    assert "connect it again" in (state.message or "")
    assert world.control("GET", "/hubspot/requests")["total"] == 0


async def test_an_expired_token_is_refreshed_once_in_mid_read(world: Sandboxed) -> None:
    connection = await world.connect("quickbooks")
    world.control("POST", "/quickbooks/tokens", {"account": connection.account_id, "op": "expire"})
    world.control("DELETE", "/quickbooks/requests")
    assert (await synced(connection)).is_completed()
    assert world.asked("quickbooks", "/tokens/bearer") == 1
    assert world.stored(connection) == world.vendor(connection)


async def test_a_paused_connection_is_not_synced(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    async with world.database.transaction(connection.tenant_id) as session:
        await connections.set_status(session, connection.id, "paused", "by the tenant")
    state = await synced(connection)
    assert state.is_failed()
    assert "is paused (by the tenant): resume it first" in (state.message or "")


async def test_an_unknown_connection_is_named(world: Sandboxed) -> None:
    unknown = uuid4()
    state: State[Any] = await sync(unknown, return_state=True)
    assert state.is_failed()
    assert str(unknown) in (state.message or "")


async def test_an_unknown_stream_is_answered_with_those_there_are(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    state = await synced(connection, streams=["contracts"])
    assert state.is_failed()
    assert "no stream 'contracts'; it has: contacts" in (state.message or "")


async def test_only_the_chosen_streams_are_read(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    await synced(connection, streams=["deals"])
    assert set(world.stored(connection)) == {"deals"}


async def test_the_second_of_two_syncs_leaves_saying_so(world: Sandboxed) -> None:
    connection = await world.connect("hubspot", size=200)
    world.hold("hubspot", count=2)
    both = [asyncio.create_task(synced(connection)) for _ in range(2)]
    (done,), (going_on,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    skipped = done.result()
    assert skipped.name == "Skipped"
    assert "already being synced" in (skipped.message or "")
    world.let_go("hubspot")
    assert (await going_on).is_completed()
    assert world.stored(connection) == world.vendor(connection)


async def test_a_holder_whose_lease_was_taken_cannot_commit(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    world.hold("hubspot", path="/contacts")
    running = asyncio.create_task(synced(connection))
    await until(lambda: world.one("UPDATE leases SET epoch = epoch + 1 RETURNING epoch"))
    world.let_go("hubspot")
    state = await running
    assert state.name == "PutOff"
    assert "has passed to another process" in (state.message or "")
    assert world.stored(connection) == {}
    world.one("UPDATE leases SET expires_at = now() RETURNING 1")
    assert (await synced(connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


async def test_a_database_that_stays_away_ends_the_run_and_loses_nothing(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("_storing.PATIENCE", "_clients.PATIENCE", "sync.NOTED_WITHIN"):
        monkeypatch.setattr(f"flows.{patience}", timedelta(seconds=0.3))
    connection = await world.connect("hubspot", size=200)
    world.hold("hubspot", path="/tickets")
    running = asyncio.create_task(synced(connection))
    await until(lambda: world.asked("hubspot", "/tickets"))
    server, name = _server_of(world)
    with psycopg.connect(server, autocommit=True) as sql:
        sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        world.let_go("hubspot")
        state = await running
        sql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert state.name == "PutOff"  # not red: nobody has to act on the connection
    assert "the database is unavailable" in (state.message or "")
    world.one("UPDATE leases SET expires_at = now() RETURNING 1")
    assert (await synced(connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


def _server_of(world: Sandboxed) -> tuple[str, str]:
    """The address of another database on the same server, and the name of ours."""
    name = world.database_url.partition("?")[0].rpartition("/")[2]
    return world.database_url.replace(f"/{name}?", "/postgres?"), name


async def test_a_stop_is_heeded_between_batches_and_the_next_sync_goes_on(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 50)
    connection = await world.connect("hubspot", size=400)
    ending = await world.tell_to_stop()
    state = await synced(connection)
    assert state.is_cancelled()
    assert (state.message or "").startswith(f"told to stop: {ending} is ending; ")
    assert world.one("SELECT message FROM sync_runs") == f"told to stop: {ending} is ending"
    some = len(world.stored(connection)["contacts"])
    assert 0 < some < len(world.vendor(connection)["contacts"])
    world.begin_anew()
    assert (await synced(connection)).is_completed()
    assert world.stored(connection) == world.vendor(connection)


async def test_a_sync_that_is_cancelled_is_no_failure_of_its_connection(world: Sandboxed) -> None:
    connection = await world.connect("hubspot", size=5)
    due_at = world.one("SELECT next_due_at FROM connections")
    world.hold("hubspot")
    running = asyncio.create_task(synced(connection))
    await until(lambda: world.one("SELECT count(*) FROM sync_runs"))
    await end(running)
    assert world.all("SELECT status, message FROM sync_runs") == [("stopped", "cancelled")]
    assert await runs.end_lost(world.database) == 0
    assert world.all("SELECT failures, next_due_at FROM connections") == [(0, due_at)]
    assert world.one("SELECT count(*) FROM leases WHERE expires_at IS NOT NULL") == 0


async def test_a_run_carries_the_names_people_look_for(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    await synced(connection, trigger="schedule")
    run_id = UUID(str(world.one("SELECT flow_run_id FROM sync_runs")))
    async with get_client() as client:
        (run,) = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        )
        tasks = await client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        )
    assert run.name == "hubspot · acme · schedule"
    assert {"tenant:acme", "integration:hubspot", "tier:TEAM", "trigger:schedule"} <= set(run.tags)
    assert [name.partition(" ")[0].partition("-")[0] for name in sorted(t.name for t in tasks)] == [
        "fetch",
        "persist",
        "refresh",
    ]


async def test_the_artifact_is_written_only_when_something_changed(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    await synced(connection)
    async with get_client() as client:
        key = f"sync-hubspot-acme-{connection.id.hex[:8]}"
        artifact = await _artifact(client, key)
        assert "contacts" in str(artifact.data)
        await synced(connection)
        await synced(connection)
        assert (await _artifact(client, key)).latest_id == artifact.latest_id
        world.change(connection, 10)
        await synced(connection)
        assert (await _artifact(client, key)).latest_id != artifact.latest_id


async def _artifact(client: Any, key: str) -> Any:
    from prefect.client.schemas.filters import (
        ArtifactCollectionFilter,
        ArtifactCollectionFilterKey,
    )

    found = await client.read_latest_artifacts(
        artifact_filter=ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key]))
    )
    assert len(found) == 1
    return found[0]


async def test_the_sync_lease_is_given_back(world: Sandboxed) -> None:
    connection = await world.connect("hubspot")
    await synced(connection)
    lease = await leases.acquire(
        world.database,
        connection_id=connection.id,
        tenant_id=connection.tenant_id,
        kind="sync",
        holder="test",
        ttl=leases_ttl(),
    )
    assert lease is not None


def leases_ttl() -> Any:
    from flows._storing import LEASE_TTL

    return LEASE_TTL
