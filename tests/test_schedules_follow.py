"""Schedules follow a change by themselves, and what waits is synced before the next tick."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State

from deployments import prefect_yaml
from deployments.catchup import QUARTER, WAITED, catch_up
from deployments.desired import TIERS
from deployments.prefect_api import standing
from deployments.reconcile import reconcile
from flows.reconcile import reconcile as reconcile_flow
from settings import Settings, read
from storage import connections, schedules, tenants
from storage.database import Database
from storage.models import Tier
from storage.shards import shard_of
from tests._fleet import Fleet
from tests._sandboxed import KEY
from tests._stored import stock
from tests._waiting import found
from tests._web import serving_api, web_settings


@pytest.fixture
def fleet(database: Database, database_url: str) -> Fleet:
    return Fleet(database_url, database)


@pytest.fixture
def settings(database_url: str, prefect_url: str) -> Settings:
    return read(
        _env_file=None, database_url=database_url, encryption_keys=KEY, prefect_api_url=prefect_url
    )


@pytest.fixture
async def client(prefect_url: str) -> AsyncIterator[PrefectClient]:
    """A Prefect server without tier deployments."""
    async with PrefectClient(prefect_url) as connected:
        for deployment in (await standing(connected, [TIERS])).deployments.values():
            await connected.delete_deployment(deployment.id)
        yield connected


async def marked(database: Database) -> bool:
    """Whether something changed since this was last asked."""
    found = await schedules.marks(database)
    if found is not None:
        await schedules.unmark(database, found)
    return found is not None


async def test_what_changes_the_schedules_leaves_a_mark_and_nothing_else_does(
    database: Database, fleet: Fleet
) -> None:
    acme = await stock(database, "acme")
    assert await marked(database)
    assert not await marked(database)
    await tenants.set_tier(database, "acme", Tier.SOLO)
    assert await marked(database)
    await tenants.set_tier(database, "acme", Tier.SOLO)
    async with database.transaction(acme.tenant_id) as session:
        await connections.mark_synced(session, acme.connection_id)
        await connections.set_status(session, acme.connection_id, "active")
    await connections.resume(database, acme.connection_id)
    assert not await marked(database)
    for change in (connections.pause, connections.resume):
        await change(database, acme.connection_id)
        assert await marked(database)
    fleet.sql("DELETE FROM connections")  # by hand, even
    assert await marked(database)
    await stock(database, "other")
    await tenants.delete(database, "acme")
    assert await marked(database)


async def test_a_mark_made_meanwhile_stays(database: Database, fleet: Fleet) -> None:
    fleet.make(1)
    seen = await schedules.marks(database)
    fleet.make(1, prefix="late")
    assert seen is not None
    await schedules.unmark(database, seen)
    assert await marked(database)


async def test_a_change_reaches_the_schedules_by_itself(
    database: Database, database_url: str, prefect_url: str, client: PrefectClient
) -> None:
    settings = web_settings(database_url, prefect_api_url=prefect_url)
    async with serving_api(settings):
        await stock(database, "acme")
        await until(client, {"hubspot-TEAM"})
        await tenants.set_tier(database, "acme", Tier.ENTERPRISE)
        await until(client, {"hubspot-ENTERPRISE"})
    assert await schedules.marks(database) is None


async def until(client: PrefectClient, expected: set[str]) -> None:
    async def they_are_there() -> bool:
        there = (await standing(client, [TIERS])).deployments
        return set(there) == {f"{TIERS}/{name}" for name in expected}

    await found(they_are_there)


async def test_a_change_made_while_prefect_is_away_is_not_forgotten(
    database: Database, database_url: str, prefect_url: str, client: PrefectClient
) -> None:
    await stock(database, "acme")
    async with serving_api(web_settings(database_url, prefect_api_url="http://127.0.0.1:9/api")):
        await asyncio.sleep(3)
    assert await schedules.marks(database) is not None
    async with serving_api(web_settings(database_url, prefect_api_url=prefect_url)):
        await until(client, {"hubspot-TEAM"})


async def runs_of(client: PrefectClient, name: str) -> list[FlowRun]:
    """Those that were asked for, besides the scheduled ones."""
    deployment = await client.read_deployment_by_name(f"{TIERS}/{name}")
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    found = await client.read_flow_runs(deployment_filter=chosen)
    return [run for run in found if not run.auto_scheduled]


def put_off(fleet: Fleet, ids: list[UUID], until: timedelta) -> None:
    fleet.sql("UPDATE connections SET next_due_at = now() + %s WHERE id = ANY(%s)", (until, ids))


async def test_what_waits_is_synced_before_its_next_tick(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    weekly = fleet.make(201, tier="FREE", prefix="a")
    hourly = fleet.make(1, tier="TEAM", prefix="b")
    put_off(fleet, weekly + hourly, timedelta(days=1))
    await reconcile(settings, database)
    assert await catch_up(settings, database) == 0
    put_off(fleet, weekly[:1] + hourly, -WAITED + timedelta(minutes=1))
    assert await catch_up(settings, database) == 0, "a dispatcher may be about to take it"
    put_off(fleet, weekly[:1] + hourly, -WAITED - timedelta(minutes=1))
    for _ in range(3):
        assert await catch_up(settings, database) == 2
    # One in a slot; a new slot may have begun meanwhile.
    assert 1 <= len(await runs_of(client, "hubspot-TEAM")) <= 2
    run, *more = await runs_of(client, "hubspot-FREE")
    assert len(more) <= 1
    assert run.parameters == {
        "integration": "hubspot", "tier": "FREE", "shard": shard_of(weekly[0], 2), "shards": 2,
    }  # fmt: skip
    assert {"integration:hubspot", "tier:FREE", "trigger:catch-up"} <= set(run.tags)


def test_what_waits_is_looked_for_often_enough() -> None:
    (flow,) = (each for each in prefect_yaml.declared() if each.flow == "reconcile")
    (schedule,) = flow.schedules
    assert schedule.interval <= QUARTER


async def test_what_an_operator_has_paused_is_not_caught_up_with(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    ids = fleet.make(1, tier="FREE")
    put_off(fleet, ids, -timedelta(days=1))
    await reconcile(settings, database)
    deployment = await client.read_deployment_by_name(f"{TIERS}/hubspot-FREE")
    await client.pause_deployment(deployment.id)
    assert await catch_up(settings, database) == 0
    await client.resume_deployment(deployment.id)
    await client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)
    assert await catch_up(settings, database) == 0


async def test_the_flow_finds_what_was_missed(
    settings: Settings, client: PrefectClient, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    await prefect_yaml.deploy(client)
    fleet.make(1, tier="SOLO")
    fleet.sql("DELETE FROM deploy_marks")
    put_off(fleet, fleet.make(1, tier="FREE", prefix="late"), -timedelta(days=1))
    assert await ran() == "2 changed, 0 as they should be; 1 dispatchers started for what waits"
    (run,) = await runs_of(client, "hubspot-FREE")
    await client.delete_flow_run(run.id)
    put_off(fleet, [run_id for (run_id,) in fleet.sql("SELECT id FROM connections")], timedelta(1))
    assert await ran() == "0 changed, 2 as they should be"
    monkeypatch.setenv("DATABASE_URL", settings.environment()["DATABASE_URL"] + "x")
    state: State[Any] = await reconcile_flow(return_state=True)
    assert state.name == "PutOff"


async def test_a_deployment_that_somebody_deleted_is_put_back_and_nothing_else_is_touched(
    settings: Settings, client: PrefectClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    await prefect_yaml.deploy(client)
    deleted = await client.read_deployment_by_name("drain-events/webhooks")
    await client.delete_deployment(deleted.id)
    other = await client.read_deployment_by_name("notify/scheduled")
    await client.update_deployment(other.id, DeploymentUpdate(description="of a newer release"))
    assert await ran() == "1 changed, 0 as they should be"
    back = await client.read_deployment_by_name("drain-events/webhooks")
    assert back.description == deleted.description
    other = await client.read_deployment_by_name("notify/scheduled")
    assert other.description == "of a newer release"
    await prefect_yaml.deploy(client)


async def ran() -> str | None:
    state: State[Any] = await reconcile_flow(return_state=True)
    assert state.is_completed()
    return state.message
