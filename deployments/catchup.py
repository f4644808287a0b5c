"""Runs between two ticks, for connections that are due long before the next one.

A connection that failed, was resumed, or rose to a tier that is synced daily would otherwise wait
for its schedule: for up to a week. Where ticks are an hour apart or less, it does.
"""

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from connectors import load
from deployments.desired import shard_slug, tier_name
from deployments.prefect_api import connected
from deployments.tiers import PollPolicy, shards_of
from settings import Settings
from settings.intervals import HOURLY
from storage import schedules
from storage.database import Database
from storage.schedules import Group

# Long enough for a dispatcher that has just started to take them.
WAITED = timedelta(minutes=10)


async def catch_up(settings: Settings, database: Database) -> int:
    """Starts a dispatcher for each shard in which connections wait; how many.

    For each shard it is at most one an hour, however often this is called; none where an operator
    has paused its schedule.
    """
    started = 0
    async with connected(settings) as client:
        for group in await schedules.groups(database, overdue=WAITED):
            if _ticks_are_far(settings, group):
                started += await _start(client, database, group)
    return started


def _ticks_are_far(settings: Settings, group: Group) -> bool:
    try:
        connector = load(group.integration)
    except LookupError:  # `reconcile` reports it
        return False
    return bool(connector.streams) and PollPolicy.of(settings, connector, group.tier).tick > HOURLY


async def _start(client: PrefectClient, database: Database, group: Group) -> int:
    of_group = (database, group.integration, group.tier)
    shards = shards_of(await schedules.group_size(*of_group))
    waiting = await schedules.overdue_shards(*of_group, since=WAITED, shards=shards)
    try:
        deployment = await client.read_deployment_by_name(tier_name(group.integration, group.tier))
    except ObjectNotFound:  # it is about to be made
        return 0
    paused = {each.slug for each in deployment.schedules if deployment.paused or not each.active}
    chosen = [shard for shard in waiting if shard_slug(shard) not in paused]
    hour = f"{datetime.now(UTC):%Y-%m-%dT%H}"
    for shard in chosen:
        await client.create_flow_run_from_deployment(
            deployment.id,
            parameters={**deployment.parameters, "shard": shard, "shards": shards},
            name=f"{group.integration} · {group.tier} · catching up",
            tags=["trigger:catch-up"],
            idempotency_key=f"catch-up:{deployment.name}:{shard}/{shards}:{hour}",
        )
    return len(chosen)
