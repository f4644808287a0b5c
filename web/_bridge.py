"""From the inbox to a flow run: when events wait and no drain is alive, Prefect is asked for one.

The key of the run is made of the drain's generation, so that many who ask get one run. A run that
cannot begin any more makes way for the next. While Prefect is away, events wait in the inbox.
"""

from datetime import datetime, timedelta

from prefect.client.schemas.objects import FlowRun, StateType

from accounts.runtime import Runtime
from connectors import all_connectors
from deployments.triggers import DRAIN, WATCHES, started
from settings import webhooks
from storage import drains, watches

# A run that was handed to a worker, and of which nothing was heard since, has died with it.
BEGINS_WITHIN = timedelta(seconds=60)
# One that runs says that it is alive within a few seconds.
ALIVE_WITHIN = timedelta(seconds=30)


async def start_drains(runtime: Runtime) -> int:
    """Ask for the drains that are missing; how many."""
    missing = await drains.missing(runtime.database, runtime.settings.atom_drain_shards)
    for shard in missing:
        key = f"drain:{shard.shard}:{shard.generation}"
        run = await started(
            runtime.settings,
            DRAIN,
            name=f"events · shard {shard.shard}",
            parameters={"shard": shard.shard},
            tags=["trigger:webhook"],
            idempotency_key=key,
        )
        if _has_died(run, runtime.clock.now()):
            await drains.give_up(runtime.database, shard.shard, shard.generation)
    return len(missing)


async def start_watches(runtime: Runtime) -> bool:
    """Ask for watches to be looked after, if some are due: at most once a minute.

    A new connection is not to wait for the schedule, nor is one whose watch the vendor dropped.
    """
    now = runtime.clock.now()
    watched = [
        connector.name
        for connector in all_connectors()
        if webhooks.is_watchable(runtime.settings, connector)
    ]
    if not watched or not await watches.are_due(runtime.database, watched, now=now):
        return False
    await started(
        runtime.settings,
        WATCHES,
        name="watches · due",
        idempotency_key=f"watches:{now:%Y-%m-%dT%H:%M}",
    )
    return True


def _has_died(run: FlowRun, now: datetime) -> bool:
    state = run.state
    if state is None or state.type == StateType.SCHEDULED:
        return False  # a worker may still take it
    if state.is_final():
        return True
    within = ALIVE_WITHIN if state.type == StateType.RUNNING else BEGINS_WITHIN
    # Of when Prefect's database wrote it: the state's own time is of the clock of who reported it.
    return now - (run.updated or state.timestamp) > within
