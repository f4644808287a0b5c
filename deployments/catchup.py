"""Runs between two ticks, for connections that are due long before the next one.

A connection that failed, was resumed, or rose to a tier that is synced daily would otherwise wait
for its schedule: an hour, a day, a week. Where ticks come every quarter of an hour or more often,
it does.
"""

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from deployments.desired import shard_slug, tier_name
from deployments.prefect_api import connected
from deployments.tiers import EPOCH, PollPolicy, shards_of
from integrations import load
from settings import Settings
from settings.intervals import HOURLY
from storage import schedules
from storage.database import Database
from storage.schedules import Group

# Long enough for a dispatcher that has just started to take them.
WAITED = timedelta(minutes=5)
QUARTER = timedelta(minutes=15)


async def catch_up(settings: Settings, database: Database) -> int:
    """Starts a dispatcher for each shard in which connections wait; how many.

    For each shard it is at most one in a quarter of an hour, or an hour where it ticks less often
    than hourly, however often this is called; none where an operator has paused its schedule.
    """
    started = 0
    async with connected(settings) as client:
        for group in await schedules.groups(database, overdue=WAITED):
            tick = _tick(settings, group)
            if tick is not None and tick > QUARTER:
                every = QUARTER if tick <= HOURLY else HOURLY
                started += await _start(client, database, group, every)
    return started


def _tick(settings: Settings, group: Group) -> timedelta | None:
    try:
        connector = load(group.integration)
    except LookupError:  # `reconcile` reports it
        return None
    return PollPolicy.of(settings, connector, group.tier).tick if connector.streams else None


async def _start(client: PrefectClient, database: Database, group: Group, every: timedelta) -> int:
    of_group = (database, group.integration, group.tier)
    shards = shards_of(await schedules.group_size(*of_group))
    waiting = await schedules.overdue_shards(*of_group, since=WAITED, shards=shards)
    try:
        deployment = await client.read_deployment_by_name(tier_name(group.integration, group.tier))
    except ObjectNotFound:  # it is about to be made
        return 0
    paused = {each.slug for each in deployment.schedules if deployment.paused or not each.active}
    chosen = [shard for shard in waiting if shard_slug(shard) not in paused]
    now = datetime.now(UTC)
    slot = now - (now - EPOCH) % every
    for shard in chosen:
        await client.create_flow_run_from_deployment(
            deployment.id,
            parameters={**deployment.parameters, "shard": shard, "shards": shards},
            name=f"{group.integration} · {group.tier} · catching up",
            tags=["trigger:catch-up"],
            idempotency_key=f"catch-up:{deployment.name}:{shard}/{shards}:{slot:%Y-%m-%dT%H:%M}",
        )
    return len(chosen)
