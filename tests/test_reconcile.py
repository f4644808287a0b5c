"""Schedules follow the database: on a real Prefect server, and only as much as is needed."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from typer.testing import CliRunner

from cli import app
from connectors import load
from deployments.desired import TIERS
from deployments.plan import Plan
from deployments.prefect_api import standing
from deployments.prefect_yaml import declared
from deployments.reconcile import how_many, reconcile
from deployments.tiers import EPOCH, PollPolicy
from settings import Settings, read
from storage import connections, schedules, tenants
from storage.database import Database
from storage.models import Tier
from tests._fleet import Fleet
from tests._sandboxed import KEY

ROOT = Path(__file__).parent.parent


class Calls(logging.Handler):
    """What our process asks of the Prefect API, in httpx's own words."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, str]] = []
        self.after: dict[int, asyncio.Task[Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        method, url = str(record.args[0]), str(record.args[1])
        self.made.append((method, url.partition("/api")[2]))
        task = self.after.get(len(self.written))
        if task is not None:
            task.cancel()

    @property
    def written(self) -> list[str]:
        return [path for method, path in self.made if method != "GET" and "/filter" not in path]


@pytest.fixture
def calls() -> Iterator[Calls]:
    logger, handler = logging.getLogger("httpx"), Calls()
    former = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(former)


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
        for deployment in (await tiers_on(connected)).values():
            await connected.delete_deployment(deployment.id)
        yield connected


async def tiers_on(client: PrefectClient) -> dict[str, DeploymentResponse]:
    found = (await standing(client, [TIERS])).deployments
    return {name.removeprefix(f"{TIERS}/"): deployment for name, deployment in found.items()}


async def made(settings: Settings, database: Database, **options: Any) -> Plan:
    plan = await reconcile(settings, database, **options)
    assert plan is not None
    return plan


def actions(plan: Plan) -> dict[str, str]:
    return {change.deployment.removeprefix(f"{TIERS}/"): change.action for change in plan.changes}


async def test_each_integration_and_tier_with_active_connections_has_a_deployment(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(2, tier="TEAM", prefix="a")
    fleet.make(1, tier="FREE", integration="quickbooks", prefix="b")
    (paused,) = fleet.make(1, tier="SOLO", integration="gmail", prefix="c")
    await connections.pause(database, paused)
    fleet.make(1, tier="SOLO", integration="openai", prefix="d")  # nothing of it is synced
    plan = await made(settings, database)
    assert actions(plan) == {"hubspot-TEAM": "create", "quickbooks-FREE": "create"}
    there = await tiers_on(client)
    assert set(there) == {"hubspot-TEAM", "quickbooks-FREE"}
    team = there["hubspot-TEAM"]
    assert team.entrypoint == "flows.dispatch.sync_tier"
    assert set(team.tags) == {"managed-by:atom-sync", "integration:hubspot", "tier:TEAM"}
    assert team.parameters == {"integration": "hubspot", "tier": "TEAM"}
    assert team.global_concurrency_limit is None
    assert not team.pull_steps
    schema: Any = team.parameter_openapi_schema
    assert set(schema["properties"]) == {"integration", "tier", "shard", "shards"}
    (schedule,) = team.schedules
    policy = PollPolicy.of(settings, load("hubspot"), Tier.TEAM)
    assert isinstance(schedule.schedule, IntervalSchedule)
    assert schedule.schedule.interval == policy.tick == timedelta(hours=1)
    assert schedule.schedule.anchor_date == EPOCH + policy.ticks().offset
    assert (schedule.slug, schedule.parameters) == ("shard-0", {"shard": 0, "shards": 1})


async def test_the_description_says_what_it_does_and_for_how_many(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(201, tier="TEAM")
    told = settings.model_copy(update={"hubspot_webhook_secret": "set"})
    assert load("hubspot").webhook is not None
    await made(told, database)
    description = (await tiers_on(client))["hubspot-TEAM"].description or ""
    assert description.startswith(
        "Syncs what is due of HubSpot, for tenants on TEAM: 201 to 300 connections, in 2 parts"
    )
    assert "It looks hourly.\n" in description
    assert "owners: read hourly\n" in description


def test_a_number_is_told_so_that_it_need_not_be_told_anew_soon() -> None:
    told = {number: how_many(number) for number in (1, 20, 21, 40, 100, 101, 750, 1_001, 60_000)}
    assert list(told.values()) == [
        "1", "20", "21 to 40", "21 to 40", "81 to 100", "101 to 200", "701 to 800",
        "1,001 to 2,000", "59,001 to 60,000",
    ]  # fmt: skip


async def test_what_is_right_is_not_touched(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet, calls: Calls
) -> None:
    fleet.make(450, tier="TEAM")
    await made(settings, database, whole=True)
    first = await tiers_on(client)
    calls.made.clear()
    plan = await made(settings, database, whole=True)
    assert (plan.changes, plan.problems) == ((), ())
    assert plan.unchanged >= 6
    assert calls.written == []
    assert len(calls.made) <= 4
    assert await tiers_on(client) == first
    fleet.make(1, tier="TEAM", prefix="one-more")
    calls.made.clear()
    assert (await made(settings, database)).changes == ()
    assert calls.written == []


async def test_more_than_200_connections_are_spread_over_more_schedules(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet, calls: Calls
) -> None:
    for count, shards in ((200, 1), (1, 2), (5_000, 20)):
        fleet.make(count, tier="ENTERPRISE", integration="quickbooks", prefix=f"t{count}")
        calls.made.clear()
        await made(settings, database)
        assert calls.written[-1:] == ["/deployments/"]
        found = (await tiers_on(client))["quickbooks-ENTERPRISE"].schedules
        assert {each.slug: each.parameters for each in found} == {
            f"shard-{shard}": {"shard": shard, "shards": shards} for shard in range(shards)
        }
        anchors = {getattr(each.schedule, "anchor_date", None) for each in found}
        assert len(anchors) == shards
    gaps = sorted(anchor - EPOCH for anchor in anchors if anchor is not None)
    widest = max(b - a for a, b in pairwise(gaps))
    assert widest < 3 * timedelta(minutes=5) / 20


async def test_a_change_of_tier_and_a_connection_that_goes_change_the_deployments(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    (connection_id,) = fleet.make(1, tier="FREE", prefix="acme")
    await made(settings, database)
    connection = await fleet.get(connection_id)
    await tenants.set_tier(database, connection.tenant_slug, Tier.ENTERPRISE)
    assert actions(await made(settings, database)) == {
        "hubspot-ENTERPRISE": "create",
        "hubspot-FREE": "delete",
    }
    assert set(await tiers_on(client)) == {"hubspot-ENTERPRISE"}
    await connections.pause(database, connection_id)
    assert actions(await made(settings, database)) == {"hubspot-ENTERPRISE": "delete"}
    assert await tiers_on(client) == {}


async def test_what_an_operator_has_paused_stays_paused(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(250, tier="TEAM")
    await made(settings, database)
    team = (await tiers_on(client))["hubspot-TEAM"]
    first = next(each for each in team.schedules if each.slug == "shard-0")
    # As the Prefect UI does it. The server then forgets the schedule's parameters (3.8.8).
    await client.update_deployment_schedule(team.id, first.id, active=False)
    assert actions(await made(settings, database)) == {"hubspot-TEAM": "update"}
    assert (await made(settings, database)).changes == ()
    fleet.make(300, tier="TEAM", prefix="more")
    assert actions(await made(settings, database)) == {"hubspot-TEAM": "update"}
    found = (await tiers_on(client))["hubspot-TEAM"]
    assert {each.slug: each.active for each in found.schedules} == {
        "shard-0": False, "shard-1": True, "shard-2": True,
    }  # fmt: skip
    assert all(each.parameters["shards"] == 3 for each in found.schedules)
    await client.pause_deployment(found.id)
    fleet.make(300, tier="TEAM", prefix="even-more")
    await made(settings, database)
    assert (await tiers_on(client))["hubspot-TEAM"].paused


async def test_what_somebody_changed_is_put_right_and_their_tags_stay(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(1, tier="TEAM")
    await made(settings, database)
    before = (await tiers_on(client))["hubspot-TEAM"]
    await client._client.patch(
        f"/deployments/{before.id}",
        json={
            "description": "mine", "tags": ["managed-by:atom-sync", "ours"],
            "job_variables": {"env": {}}, "concurrency_limit": 1,
            "parameters": {"integration": "gmail", "tier": "FREE"},
        },
    )  # fmt: skip
    theirs = IntervalSchedule(interval=timedelta(minutes=1))
    await client.create_deployment_schedules(before.id, [DeploymentScheduleCreate(schedule=theirs)])
    (change,) = (await made(settings, database)).changes
    assert {"description", "tags integration:hubspot, tier:TEAM", "parameters", "job variables",
            "concurrency limit", "no schedule without a slug"} <= set(change.what)  # fmt: skip
    after = (await tiers_on(client))["hubspot-TEAM"]
    assert set(after.tags) == {*before.tags, "ours"}
    left_out = {"updated", "tags", "schedules", "last_polled", "status", "id"}
    assert after.model_dump(exclude=left_out) == before.model_dump(exclude=left_out)
    assert len(after.schedules) == 1
    assert (await made(settings, database)).changes == ()


async def test_nothing_without_our_tag_is_touched(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    flow_id = await client.create_flow_from_name(TIERS)
    for name in ("hubspot-TEAM", "gmail-FREE"):
        schedule = DeploymentScheduleCreate(
            schedule=IntervalSchedule(interval=timedelta(days=1)), slug="theirs"
        )
        await client.create_deployment(flow_id, name, tags=["mine"], schedules=[schedule])
    before = await tiers_on(client)
    fleet.make(1, tier="TEAM")
    plan = await made(settings, database)
    assert plan.changes == ()
    assert "sync-tier/hubspot-TEAM: it stands without the tag managed-by" in plan.problems[0]
    assert await tiers_on(client) == before


async def test_a_stop_half_way_leaves_the_rest_to_the_next_run(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet, calls: Calls
) -> None:
    names = ("hubspot", "gmail", "quickbooks")
    groups = [(integration, tier) for integration in names for tier in Tier]
    for integration, tier in groups:
        fleet.make(1, tier=tier, integration=integration, prefix=f"{integration}-{tier}".lower())
    await client.create_flow_from_name(TIERS)
    calls.made.clear()
    under_way = asyncio.create_task(reconcile(settings, database))
    calls.after[1] = under_way
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert await schedules.marks(database) is not None
    calls.after.clear()
    there = await tiers_on(client)
    await made(settings, database)
    assert len(there) < len(groups)
    assert set(await tiers_on(client)) == {f"{name}-{tier}" for name, tier in groups}
    assert await schedules.marks(database) is None
    assert (await made(settings, database)).changes == ()


async def test_one_process_at_a_time_makes_schedules(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(1, tier="TEAM")
    async with schedules.alone(database) as alone:
        assert alone
        assert await reconcile(settings, database) is None
        waiting = asyncio.create_task(made(settings, database, patience=60))
        await asyncio.sleep(0.6)
        assert not waiting.done()
    assert actions(await waiting) == {"hubspot-TEAM": "create"}


async def test_an_integration_that_only_another_version_knows_keeps_its_deployment(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(1, tier="TEAM")
    await made(settings, database)
    fleet.sql("UPDATE connections SET integration = 'of_tomorrow'")
    flow_id = await client.create_flow_from_name(TIERS)
    await client.create_deployment(flow_id, "of_tomorrow-TEAM", tags=["managed-by:atom-sync"])
    plan = await made(settings, database)
    assert actions(plan) == {"hubspot-TEAM": "delete"}
    assert plan.problems[0].startswith("sync-tier/of_tomorrow-TEAM: ")
    assert set(await tiers_on(client)) == {"of_tomorrow-TEAM"}


async def test_prefect_deploy_and_ours_do_not_undo_each_other(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet
) -> None:
    fleet.make(1, tier="TEAM")
    await made(settings, database, whole=True)
    tier = await tiers_on(client)
    flows = sorted({each.flow for each in declared()})
    ours = (await standing(client, flows)).deployments
    hourly = ours["reconcile/scheduled"]
    await client.update_deployment_schedule(hourly.id, hourly.schedules[0].id, active=False)
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PREFECT_API_URL": settings.prefect_api_url or "", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    theirs = (await standing(client, flows)).deployments
    assert set(theirs) == set(ours)
    assert not theirs["reconcile/scheduled"].schedules[0].active
    plan = await made(settings, database, whole=True)
    assert (plan.changes, plan.problems) == ((), ())
    assert await tiers_on(client) == tier
    assert (await standing(client, flows)).deployments == theirs
    assert str(ROOT) not in json.dumps([each.model_dump(mode="json") for each in theirs.values()])
    await client.update_deployment_schedule(hourly.id, hourly.schedules[0].id, active=True)


async def test_the_command_shows_what_it_does_and_a_dry_run_does_nothing(
    settings: Settings, database: Database, client: PrefectClient, fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    fleet.make(2, tier="TEAM")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    async def typed(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["deploy", *words])

    rehearsed = await typed("--dry-run")
    assert rehearsed.exit_code == 0
    for expected in ("create", "sync-tier/hubspot-TEAM", "hourly", "nothing was changed"):
        assert expected in rehearsed.output
    assert await tiers_on(client) == {}
    assert await schedules.marks(database) is not None
    told = json.loads((await typed("--json")).stdout)
    assert told["done"] is True
    created = [each["deployment"] for each in told["changes"] if each["action"] == "create"]
    assert "sync-tier/hubspot-TEAM" in created
    assert "hubspot-TEAM" in await tiers_on(client)
    again = await typed()
    assert "are as they should be" in again.output
    assert "create" not in again.output
