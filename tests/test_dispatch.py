"""A tier's scheduled run: what is due is synced, nothing waits for what fails, nothing is left."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State

from connectors import load
from deployments import freshness_targets
from flows.dispatch import sync_tier
from storage import breakers, connections
from storage.locks import locked
from tests._sandboxed import Sandboxed
from tests._waiting import until
from tests.test_kills import kill_when


async def dispatched(integration: str = "hubspot", tier: str = "TEAM", **shard: int) -> State[Any]:
    state: State[Any] = await sync_tier(integration, tier, return_state=True, **shard)
    return state


async def connect(
    world: Sandboxed, *names: str, integration: str = "hubspot", size: int = 5
) -> list[connections.Connection]:
    return [await world.connect(integration, tenant=name, size=size) for name in names]


async def runs_below(state: State[Any]) -> list[FlowRun]:
    parent = state.state_details.flow_run_id
    assert parent is not None
    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
    async with get_client() as client:
        return await client.read_flow_runs(flow_run_filter=below)


def make_due(world: Sandboxed) -> None:
    """A week has passed."""
    world.run(
        "UPDATE connections SET next_due_at = now() - interval '1 minute';"
        "UPDATE checkpoints SET last_synced_at = last_synced_at - interval '8 days'"
    )


def claimed(world: Sandboxed) -> int:
    return int(world.one("SELECT count(claimed_due_at) FROM connections"))


async def begun(world: Sandboxed, running: asyncio.Task[State[Any]]) -> None:
    """Its first sync is under way."""
    while not world.one("SELECT count(*) FROM sync_runs"):
        assert not running.done()
        await asyncio.sleep(0.1)


async def table_of(key: str) -> tuple[str, list[dict[str, Any]]]:
    artifact = await Artifact.aget(key)
    assert artifact is not None
    data: Any = artifact.data
    return artifact.description or "", json.loads(data) if isinstance(data, str) else data


async def test_what_is_due_is_synced_by_named_and_tagged_runs(world: Sandboxed) -> None:
    linked = await connect(world, "acme", "umbrella", "wayne")
    state = await dispatched()
    assert state.is_completed()
    assert state.message == "3 synced"
    for connection in linked:
        assert world.stored(connection) == world.vendor(connection)
    found = await runs_below(state)
    assert {run.name for run in found} == {
        f"hubspot · {slug} · schedule" for slug in ("acme", "umbrella", "wayne")
    }
    ids = {connection.tenant_slug: connection.id for connection in linked}
    for run in found:
        slug = run.name.split(" · ")[1]
        assert set(run.tags) == {
            f"tenant:{slug}", "integration:hubspot", "tier:TEAM", "trigger:schedule",
            f"connection:{ids[slug]}",
        }  # fmt: skip
    assert claimed(world) == 0
    later = world.one("SELECT min(next_due_at) > now() FROM connections")
    assert later


async def test_nothing_due_ends_at_once_and_leaves_no_artifact(world: Sandboxed) -> None:
    await connect(world, "acme")
    await dispatched()
    state = await dispatched()
    assert (state.name, state.message) == ("Completed", "nothing is due")
    state = await dispatched("gmail", "FREE")
    assert state.message == "nothing is due"
    assert await Artifact.aget("sync-tier-gmail-free") is None


async def test_only_the_streams_that_are_due_are_read(world: Sandboxed) -> None:
    (connection,) = await connect(world, "acme")
    await dispatched()
    make_due(world)
    world.run("UPDATE checkpoints SET last_synced_at = now() WHERE stream <> 'owners'")
    world.control("DELETE", "/hubspot/requests")
    state = await dispatched()
    assert state.message == "1 synced"
    paths = {entry["path"] for entry in world.control("GET", "/hubspot/requests")["log"]}
    assert any("owners" in path for path in paths)
    assert not any("contacts" in path for path in paths)
    assert world.one("SELECT count(*) FROM sync_runs WHERE connection_id = %s", connection.id) == 2


async def test_what_was_synced_meanwhile_is_left_out_and_the_artifact_says_so(
    world: Sandboxed,
) -> None:
    await freshness_targets.save(world.settings, world.database)
    slugs = ("acme", "fresh", "paused", "broken", "busy")
    acme, fresh, paused, broken, busy = await connect(world, *slugs)
    world.run("UPDATE connections SET next_due_at = now() - interval '3 hours'")
    world.run(
        "INSERT INTO checkpoints (connection_id, tenant_id, stream, last_synced_at)"
        f" SELECT id, tenant_id, unnest(ARRAY{_streams()}), now() FROM connections"
        f" WHERE id = '{fresh.id}'"
    )
    await connections.pause(world.database, paused.id)
    world.run(f"UPDATE connections SET status = 'needs_reauth' WHERE id = '{broken.id}'")
    world.run(
        "INSERT INTO leases (connection_id, kind, tenant_id, epoch, expires_at)"
        f" SELECT id, 'sync', tenant_id, 1, now() + interval '5 minutes' FROM connections"
        f" WHERE id = '{busy.id}'"
    )
    state = await dispatched()
    assert state.message == (
        "1 synced; 1 being synced by another run; 1 synced since they were due;"
        " 1 waiting for their tenant; 1 paused"
    )
    description, table = await table_of("sync-tier-hubspot-team")
    assert {(row["connection"], row["outcome"]) for row in table} == {
        ("acme/hubspot", "synced"),
        ("fresh/hubspot", "synced since they were due"),
        ("busy/hubspot", "being synced by another run"),
    }
    assert all(row["was due"] == "3 h ago" for row in table)
    assert "Freshness against the tier: 25 of 25 streams are in time." in description
    assert "1 waiting for their tenant" in description
    assert acme.account_id in {row["account"] for row in table}


def _streams() -> list[str]:
    return [stream.name for stream in load("hubspot").streams]


async def test_one_that_fails_backs_off_and_the_others_go_on(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta())
    good, bad = await connect(world, "good", "bad")
    world.control("POST", "/hubspot/tokens", {"account": bad.account_id, "op": "expire"})
    world.run(f"UPDATE grants SET expires_at = now() WHERE id = '{bad.grant_id}'")
    world.fault("hubspot", "503", path="/token", count=50)
    state = await dispatched()
    assert state.message == "1 synced; 1 failed"
    assert world.stored(good) == world.vendor(good)
    world.run(f"UPDATE connections SET failures = 5 WHERE id = '{bad.id}'")
    make_due(world)
    state = await dispatched()
    assert state.message == "1 synced; 1 failed"
    _, table = await table_of("sync-tier-hubspot-team")
    assert (table[0]["connection"], table[0]["outcome"]) == ("bad/hubspot", "failed")
    assert "503" in table[0]["reason"]
    minutes = world.one(
        "SELECT round(extract(epoch FROM next_due_at - now()) / 60) FROM connections WHERE id = %s",
        bad.id,
    )
    assert minutes == 160
    assert world.one("SELECT failure FROM connections WHERE id = %s", bad.id) == "unavailable"
    assert (await dispatched()).message == "nothing is due"


async def test_the_former_run_is_waited_for_by_none(world: Sandboxed) -> None:
    await connect(world, "acme")
    async with locked(world.database_url, "sync-tier public hubspot TEAM 0/1") as ours:
        assert ours
        state = await dispatched()
        assert (state.name, state.message) == ("Skipped", "the former run is still going")
        assert (await dispatched(shard=1, shards=2)).name == "Completed"
    assert (await dispatched()).is_completed()


@pytest.mark.parametrize(
    ("given", "named"), [(("hubspots", "TEAM"), "hubspot"), (("hubspot", "GOLD"), "GOLD")]
)
async def test_what_does_not_exist_is_named(
    world: Sandboxed, given: tuple[str, str], named: str
) -> None:
    state = await dispatched(*given)
    assert state.is_failed()
    assert named in (state.message or "")


async def test_a_stop_gives_back_what_has_not_begun_and_the_next_run_takes_it(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOM_DISPATCH_CONCURRENCY", "1")
    monkeypatch.setattr("flows._reading.BATCH_RECORDS", 20)
    linked = await connect(world, "acme", "umbrella", "wayne", size=60)
    world.hold("hubspot", path="/contacts", count=3)
    running = asyncio.create_task(dispatched())
    await begun(world, running)
    ending = await world.tell_to_stop()
    world.let_go("hubspot")
    state = await running
    assert state.is_cancelled()
    assert state.message == f"told to stop: {ending} is ending. 3 given back"
    assert world.one("SELECT count(*) FROM leases WHERE expires_at IS NOT NULL") == 0
    assert claimed(world) == 0
    assert world.one("SELECT count(*) FROM connections WHERE next_due_at <= now()") == 3
    world.begin_anew()
    assert (await dispatched()).message == "3 synced"
    for connection in linked:
        assert world.stored(connection) == world.vendor(connection)


async def test_a_run_that_is_cancelled_gives_everything_back(world: Sandboxed) -> None:
    await connect(world, "acme", "umbrella")
    world.hold("hubspot")
    running = asyncio.create_task(dispatched())
    await begun(world, running)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert claimed(world) == 0
    assert world.one("SELECT count(*) FROM connections WHERE next_due_at <= now()") == 2
    assert world.one("SELECT count(*) FROM leases WHERE expires_at IS NOT NULL") == 0


async def test_what_the_vendor_refuses_is_asked_for_once_a_day_and_the_rest_goes_on(
    world: Sandboxed,
) -> None:
    (connection,) = await connect(world, "acme")
    world.fault("hubspot", "forbidden", path="/owners", count=100)
    assert "1 failed" in ((await dispatched()).message or "")
    reason = world.one("SELECT status_reason FROM connections")
    assert reason.startswith("owners: ")

    for _ in range(2):
        make_due(world)
        asked = world.asked("hubspot", "/owners")
        assert (await dispatched()).message == "1 synced"
        assert world.asked("hubspot", "/owners") == asked
        state = "SELECT array[status, failure, status_reason] FROM connections"
        assert world.one(state) == ["active", "not_allowed", reason]

    world.run("UPDATE checkpoints SET refused_until = now() WHERE stream = 'owners'")
    make_due(world)
    assert "1 failed" in ((await dispatched()).message or "")
    assert world.one("SELECT status_reason FROM connections") == reason

    world.let_go("hubspot")
    await connections.pause(world.database, connection.id)
    await connections.resume(world.database, connection.id)
    assert (await dispatched()).message == "1 synced"
    assert world.one("SELECT status_reason FROM connections") is None
    assert world.stored(connection) == world.vendor(connection)


async def test_a_new_consent_ends_what_was_refused(world: Sandboxed) -> None:
    (connection,) = await connect(world, "acme")
    world.fault("hubspot", "forbidden", path="/owners", count=100)
    await dispatched()
    world.let_go("hubspot")
    await world.connect("hubspot", tenant="acme", account=connection.account_id)
    make_due(world)
    assert (await dispatched()).message == "1 synced"
    assert world.stored(connection) == world.vendor(connection)


@pytest.mark.timeout(900)
async def test_a_vendor_that_is_away_as_a_whole_is_left_alone_until_a_probe_comes_through(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOM_DISPATCH_CONCURRENCY", "2")
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta())
    linked = await connect(world, *(f"tenant-{n}" for n in range(10)))
    world.fault("hubspot", "503", count=10_000)
    state = await dispatched()
    assert state.name == "PutOff", "nobody has to act, so it is not red"
    assert "hubspot is away since" in (state.message or "")
    failed = world.one("SELECT count(*) FROM connections WHERE failures > 0")
    assert 6 <= failed < 10
    assert claimed(world) == 0
    description, _ = await table_of("sync-tier-hubspot-team")
    assert "It ended early: hubspot is away since" in description
    state = await dispatched()
    assert state.name == "Skipped"
    assert "asked again at" in (state.message or "")

    world.run("UPDATE breakers SET probe_at = now()")
    make_due(world)
    state = await dispatched()
    assert "3 failed" in (state.message or "")
    assert await breakers.admit(world.database, "hubspot") == "open"

    world.control("DELETE", "/hubspot/faults")
    world.run("UPDATE breakers SET probe_at = now()")
    make_due(world)
    state = await dispatched()
    assert state.message == "10 synced"
    assert await breakers.admit(world.database, "hubspot") == "closed"
    for connection in linked:
        assert world.stored(connection) == world.vendor(connection)


async def test_a_probe_with_nothing_to_do_is_left_to_others(world: Sandboxed) -> None:
    world.run(
        "INSERT INTO breakers (integration, opened_at, probe_at) VALUES ('hubspot', now(), now())"
    )
    assert (await dispatched()).message == "nothing is due"
    assert await breakers.admit(world.database, "hubspot") == "probe"


async def test_others_do_not_wait_for_a_long_sync(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.dispatch.LOOK_AGAIN", timedelta(seconds=0.2))
    (long,) = await connect(world, "long")
    world.hold("hubspot", path="/contacts", count=1)
    running = asyncio.create_task(dispatched())
    await begun(world, running)
    await until(lambda: world.asked("hubspot", "/contacts"))
    (meanwhile,) = await connect(world, "meanwhile")
    world.run("UPDATE connections SET next_due_at = now() WHERE claimed_due_at IS NULL")
    await until(lambda: world.stored(meanwhile) == world.vendor(meanwhile))
    assert not running.done()
    assert world.one("SELECT count(*) FROM sync_runs WHERE connection_id = %s AND ended_at IS NULL",
                     long.id) == 1  # fmt: skip
    world.let_go("hubspot")
    assert (await running).message == "2 synced"


async def test_what_a_killed_run_had_taken_is_taken_again(
    world: Sandboxed, prefect_url: str, tmp_path: Path
) -> None:
    linked = await connect(world, "acme", "umbrella", "wayne", size=60)
    world.hold("hubspot", path="/contacts", count=3)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PREFECT_API_URL": prefect_url, "ATOM_DISPATCH_CONCURRENCY": "1"},
            stdout=log, stderr=log,
        )  # fmt: skip
    kill_when(process, lambda: bool(world.one("SELECT count(*) FROM sync_runs")))  # type: ignore[arg-type]
    assert claimed(world) == 3
    world.let_go("hubspot")
    world.run("UPDATE leases SET expires_at = now()")
    assert (await dispatched()).message == "2 synced"
    assert world.one("SELECT status FROM sync_runs ORDER BY started_at LIMIT 1") == "crashed"
    assert claimed(world) == 0
    make_due(world)
    assert (await dispatched()).message == "3 synced"
    for connection in linked:
        assert world.stored(connection) == world.vendor(connection)


PROGRAM = """
import asyncio
from flows.dispatch import sync_tier
asyncio.run(sync_tier("hubspot", "TEAM", return_state=True))
"""
