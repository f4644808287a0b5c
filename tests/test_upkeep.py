"""Upkeep: the killed is closed and nothing that lives, the old goes, what fails is told."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events import ReceivedEvent
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.states import Completed, Crashed, Pending, Running

from deployments import stale_runs
from deployments.desired import MANAGED
from deployments.prefect_yaml import declared
from deployments.stale_runs import forget_missed
from flows.upkeep import BEGUN, MENDED, OTHERS, step, upkeep
from storage import pruning
from storage.database import Database
from tests._fleet import Fleet
from tests._sandboxed import Sandboxed
from tests._waiting import found, until
from tests.test_kills import kill_when

LONG_AGO = timedelta(seconds=-1)


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


async def kept_up() -> State[Any]:
    state: State[Any] = await upkeep(return_state=True)
    return state


async def run_of(flow_run_id: UUID) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(flow_run_id)


async def table_of(key: str) -> tuple[str, list[dict[str, Any]]]:
    artifact = await Artifact.aget(key)
    assert artifact is not None
    data: Any = artifact.data
    return artifact.description or "", json.loads(data) if isinstance(data, str) else data


PROGRAM = """
import asyncio
from flows.dispatch import sync_tier
asyncio.run(sync_tier("hubspot", "TEAM", return_state=True))
"""


def start(prefect_url: str, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PREFECT_API_URL": prefect_url},
            stdout=output, stderr=output, text=True,
        )  # fmt: skip


async def test_what_a_killed_dispatcher_left_running_is_closed_and_nothing_that_lives(
    world: Sandboxed, prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale_runs, "GRACE", LONG_AGO)
    connection = await world.connect("hubspot")
    world.hold("hubspot", count=9)
    process = start(prefect_url, tmp_path / "log")

    def under_way() -> bool:
        return bool(world.one("SELECT count(flow_run_id) FROM sync_runs"))

    await until(under_way)
    below = UUID(str(world.one("SELECT flow_run_id FROM sync_runs")))
    above = await _parent_of(below)
    assert (await kept_up()).is_completed()
    assert (await run_of(above)).state_name == (await run_of(below)).state_name == "Running"

    kill_when(process, under_way)
    world.run("UPDATE leases SET expires_at = now()")
    state = await kept_up()
    assert "1 syncs of killed processes ended" in (state.message or "")
    # Other tests may have left some, too.
    assert re.search(r"[1-9]\d* dead runs set to Crashed", state.message or "")
    assert (await run_of(above)).state_name == "Crashed"
    monkeypatch.setattr(stale_runs, "_has_ended", lambda run: run.state.is_final())
    await kept_up()
    found = await run_of(below)
    assert found.state_name == "Crashed"
    assert found.state is not None
    assert found.state.message == stale_runs.LOST
    assert world.one("SELECT status FROM sync_runs") == "crashed"
    assert world.connection_status(connection.id) == "active"


async def _parent_of(flow_run_id: UUID) -> UUID:
    async with get_client() as client:
        run = await client.read_flow_run(flow_run_id)
        assert run.parent_task_run_id is not None
        task = await client.read_task_run(run.parent_task_run_id)
    assert task.flow_run_id is not None
    return task.flow_run_id


async def test_after_a_downtime_one_run_of_each_schedule_is_left_to_catch_up(
    prefect_url: str, prefect_database: str
) -> None:
    async with PrefectClient(prefect_url) as client:
        ours = await _deployed(client, "ours", [MANAGED])
        others = await _deployed(client, "theirs", [])
        for deployment_id in (ours, others):
            await _scheduled(client, deployment_id, 2 * 3)
        # Hours without a worker.
        with psycopg.connect(prefect_database) as sql:
            sql.execute(
                "UPDATE flow_run SET next_scheduled_start_time = next_scheduled_start_time"
                " - interval '8 hours', expected_start_time = expected_start_time"
                " - interval '8 hours', state_name = 'Late' WHERE deployment_id = ANY(%s)",
                ([ours, others],),
            )
        # The scheduler goes on meanwhile, with runs of the hours to come.
        missed, theirs = await _missed(client, ours), await _missed(client, others)
        assert len(missed) == 2
        newest = {max(group, key=_starts).id for group in missed.values()}
        # Deployments of other tests may have missed runs, too.
        assert await forget_missed(client) >= sum(map(len, missed.values())) - 2 >= 4
        assert _ids(await _missed(client, ours)) == newest
        assert _ids(await _missed(client, others)) == _ids(theirs)
        await forget_missed(client)
        assert _ids(await _missed(client, ours)) == newest
        for deployment_id in (ours, others):
            await client.delete_deployment(deployment_id)


def _starts(run: FlowRun) -> datetime:
    assert run.expected_start_time is not None
    return run.expected_start_time


async def _deployed(client: PrefectClient, name: str, tags: list[str]) -> UUID:
    flow_id = await client.create_flow_from_name("missed")
    return await client.create_deployment(
        flow_id,
        name,
        tags=tags,
        schedules=[
            DeploymentScheduleCreate(
                schedule=IntervalSchedule(interval=timedelta(hours=1)), slug=slug
            )
            for slug in ("shard-0", "shard-1")
        ],
    )


async def _scheduled(client: PrefectClient, deployment_id: UUID, count: int) -> None:
    async def inserted() -> bool:
        return len(await _runs(client, deployment_id)) >= count

    await found(inserted)


async def _runs(client: PrefectClient, deployment_id: UUID) -> list[FlowRun]:
    return await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    )


async def _missed(client: PrefectClient, deployment_id: UUID) -> dict[Any, list[FlowRun]]:
    """The runs whose time is over, by schedule."""
    missed: dict[Any, list[FlowRun]] = {}
    for run in await _runs(client, deployment_id):
        assert run.created_by is not None
        if _starts(run) < datetime.now(UTC):
            missed.setdefault(run.created_by.id, []).append(run)
    return missed


def _ids(runs: dict[Any, list[FlowRun]]) -> set[UUID]:
    return {run.id for group in runs.values() for run in group}


async def test_a_failing_connection_is_reported_once_until_it_is_mended(world: Sandboxed) -> None:
    bad = await world.connect("hubspot", tenant="bad")
    good = await world.connect("hubspot", tenant="good")
    world.run(f"UPDATE connections SET failures = 2 WHERE id = '{bad.id}'")
    assert "fail newly" not in ((await kept_up()).message or "")
    world.run(
        "UPDATE connections SET failures = 3, failure = 'unavailable',"
        f" status_reason = 'HubSpot cannot answer now' WHERE id = '{bad.id}'"
    )
    assert "1 connections fail newly, 0 work again" in ((await kept_up()).message or "")
    assert "fail newly" not in ((await kept_up()).message or "")
    _, table = await table_of("failing")
    (row,) = (row for row in table if row["connection"] == "bad/hubspot")
    assert row["reason"] == "HubSpot cannot answer now"
    assert [event["reason"] for event in await _events(BEGUN, bad.id)] == [
        "HubSpot cannot answer now"
    ]
    world.run(f"UPDATE connections SET failures = 0 WHERE id = '{bad.id}'")
    world.run(f"UPDATE connections SET status = 'needs_reauth' WHERE id = '{good.id}'")
    assert "1 connections fail newly, 1 work again" in ((await kept_up()).message or "")
    assert len(await _events(MENDED, bad.id)) == 1
    assert len(await _events(BEGUN, good.id)) == 1


async def _events(name: str, connection_id: UUID) -> list[dict[str, Any]]:
    """They reach the server through a queue."""
    asked = EventFilter(
        event=EventNameFilter(name=[name]),
        resource=EventResourceFilter(id=[f"atom-sync.connection.{connection_id}"]),
    )
    async with get_client() as client:

        async def arrived() -> list[ReceivedEvent]:
            return (await client.read_events(asked, limit=10)).events

        return [event.payload for event in await found(arrived)]


async def test_the_freshness_artifact_says_how_the_promises_are_kept(world: Sandboxed) -> None:
    late = await world.connect("hubspot", tenant="late")
    await world.connect("gmail", tenant="fresh")
    world.run(
        f"UPDATE connections SET created_at = now() - interval '8 days' WHERE id = '{late.id}'"
    )
    state = await kept_up()
    assert "5 of 9 streams are late" in (state.message or "")
    description, table = await table_of("freshness")
    assert "4 of 9 streams are as fresh as their tier promises." in description
    found = {(row["integration"], row["tier"], row["state"]): row["streams"] for row in table}
    assert found == {
        ("gmail", "TEAM", "in time"): 4,
        ("hubspot", "TEAM", "late: never synced"): 5,
    }


async def test_what_goes_wrong_in_one_part_leaves_the_others_alone(
    world: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await world.connect("hubspot")
    world.run(f"UPDATE connections SET failures = 3 WHERE id = '{connection.id}'")
    world.run("REVOKE DELETE ON sync_runs FROM atom_dispatch")
    state = await kept_up()
    assert state.is_failed()
    assert (state.message or "").startswith("failed: prune. ")
    assert "1 connections fail newly" in (state.message or "")


async def test_each_flow_that_is_scheduled_can_be_found_dead() -> None:
    scheduled = {deployment.flow for deployment in declared() if deployment.schedules}
    assert scheduled <= set(OTHERS) | {"reconcile"}


async def test_old_events_runs_and_logs_are_deleted_in_batches(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 3)
    fleet.make(1)
    of = "FROM connections, generate_series(1, 10) n"
    fleet.sql(
        "INSERT INTO events (integration, event_id, connection_id, tenant_id, type, data,"
        " applied_at, failed_at) SELECT 'hubspot', n::text, id, tenant_id, 't', '{}',"
        " CASE WHEN n < 9 THEN now() - make_interval(days => n) END,"
        f" CASE WHEN n = 9 THEN now() - interval '89 days' END {of}"
    )
    fleet.sql(
        "INSERT INTO sync_runs (id, connection_id, tenant_id, trigger, ended_at)"
        " SELECT gen_random_uuid(), id, tenant_id, 'schedule', CASE WHEN n < 10 THEN"
        f" now() - make_interval(days => 80 + 2 * n) END {of}"
    )
    fleet.sql(
        "INSERT INTO oauth_log (tenant_id, integration, event, at) SELECT tenant_id, 'hubspot',"
        f" 'refresh', now() - make_interval(days => 85 + n) {of}"
    )
    assert await pruning.prune(fleet.database) == {
        "applied events": 2, "runs": 5, "log lines": 6,
    }  # fmt: skip
    assert fleet.one("SELECT count(*) FROM events WHERE applied_at IS NULL") == 2
    assert fleet.one("SELECT count(*) FROM sync_runs WHERE ended_at IS NULL") == 1
    assert await pruning.prune(fleet.database) == {}


async def test_what_a_stop_cut_off_is_cancelled_and_what_crashed_before_stays_so(
    prefect_url: str,
) -> None:
    async def run_in(client: PrefectClient, *states: State[Any]) -> UUID:
        made = await client.create_flow_run(upkeep, state=Pending())
        for state in states:
            await client.set_flow_run_state(made.id, state, force=True)
        return made.id

    async with get_client() as client:
        before = await run_in(client, Running(), Crashed())
        began = datetime.now(UTC)
        done = await run_in(client, Running(), Completed())
        cut_off = [await run_in(client, Running()), await run_in(client, Running(), Crashed())]
        assert await stale_runs.cancel_stopped(client, began) >= 2
    assert [(await run_of(one)).state_name for one in (before, done)] == ["Crashed", "Completed"]
    assert [(await run_of(one)).state_name for one in cut_off] == ["CutOff", "CutOff"]


async def test_a_stop_beside_another_machine_cancels_its_own_runs_and_those_below_them(
    prefect_url: str,
) -> None:
    async with get_client() as client:
        began = datetime.now(UTC)
        ours = await client.create_flow_run(upkeep, state=Running())
        task = await client.create_task_run(step, ours.id, "0", state=Running())
        below = await client.create_flow_run(upkeep, parent_task_run_id=task.id, state=Running())
        theirs = await client.create_flow_run(upkeep, state=Running())
        assert await stale_runs.cancel_stopped(client, began, among={ours.id}) == 2
        assert await stale_runs.cancel_stopped(client, began, among=set()) == 0
    names = [(await run_of(run.id)).state_name for run in (ours, below, theirs)]
    assert names == ["CutOff", "CutOff", "Running"]
