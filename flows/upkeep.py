"""What is due now and then: it closes the killed, deletes the old, and reports what fails."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.states import Completed, Failed

from accounts.runtime import Runtime
from deployments import freshness_targets
from deployments.stale_runs import Lives, crash_dead, crash_unbegun, forget_missed, heard_of
from deployments.unbegun import Fate, look_after
from flows._dispatched import spoken
from flows._passing import ends_well
from flows._results import NOWHERE
from flows._runtime import runtime
from storage import (
    Tier,
    breakers,
    drains,
    erasing,
    failures,
    freshness,
    heartbeats,
    locks,
    pruning,
    runs,
    sweeping,
)
from storage.due import Scope
from storage.failures import Failing
from storage.freshness import Promise

FRESHNESS, FAILING = "freshness", "failing"
BEGUN, MENDED = "atom-sync.connection.failing", "atom-sync.connection.mended"
# So long a run of it deletes what is to be purged; the next goes on.
PURGING = timedelta(minutes=2)
# Flows of which only Prefect's heartbeats tell whether a run lives.
OTHERS = ("keep-alive", "notify", "renew-watches", "reconcile", "audit", "upkeep")

Part = Callable[[Runtime], Awaitable[str]]


@flow(
    name="upkeep",
    flow_run_name="upkeep · database and runs",
    persist_result=False,
    result_storage=NOWHERE,
)
@ends_well
async def upkeep() -> State[None]:
    """Close what was killed, delete what is old, and report what fails and what is late.

    Each part is a task: what goes wrong in one leaves the others alone. The artifacts `freshness`
    and `failing` say how the tiers' promises are kept, and which connections fail.
    """
    async with runtime() as shared:
        states = {name: await _part(shared, name, part) for name, part in PARTS.items()}
    messages = [str(await state.aresult()) for state in states.values() if state.is_completed()]
    wrong = [name for name, state in states.items() if not state.is_completed()]
    message = "; ".join(filter(None, messages)) or "there was nothing to do"
    if wrong:
        return Failed(message=f"failed: {', '.join(wrong)}. {message}")
    return Completed(message=message)


async def _part(shared: Runtime, name: str, part: Part) -> State[Any]:
    running: Any = step.with_options(task_run_name=name)(shared, part, return_state=True)
    state: State[Any] = await running
    return state


@task(persist_result=False, cache_policy=NO_CACHE)
async def step(shared: Runtime, part: Part) -> str:
    """One part; what it did, in words."""
    return await part(shared)


async def _end_lost(shared: Runtime) -> str:
    count = await runs.end_lost(shared.database)
    return f"{count:,} syncs of killed processes ended" if count else ""


async def _crash_dead(shared: Runtime) -> str:
    async with get_client() as client:
        count = await crash_dead(client, _lives(shared, client))
    return f"{count:,} dead runs set to Crashed" if count else ""


async def _crash_unbegun(shared: Runtime) -> str:
    async with get_client() as client:
        count = await crash_unbegun(client, list(_lives(shared, client)))
    return f"{count:,} runs that never began set to Crashed" if count else ""


async def _owe_again(shared: Runtime) -> str:
    async with get_client() as client:
        fates = await look_after(client, shared.database)
    told = (fate for fate in (Fate.OWED, Fate.GIVEN_UP) if fates[fate])
    return "; ".join(f"{fates[fate]:,} {fate}" for fate in told)


async def _forget_missed(shared: Runtime) -> str:
    async with get_client() as client:
        count = await forget_missed(client)
    return f"{count:,} missed runs deleted" if count else ""


async def _keep_promises(shared: Runtime) -> str:
    changed = await freshness_targets.save(shared.settings, shared.database)
    return "other intervals are promised from now on" if changed else ""


async def _prune(shared: Runtime) -> str:
    counts = dict(await pruning.prune(shared.database))
    if gone := await heartbeats.forget_gone(shared.database):
        counts["processes that are gone"] = gone
    return ", ".join(f"{count:,} {what} deleted" for what, count in counts.items())


async def _forget_seen(shared: Runtime) -> str:
    count = await sweeping.forget_over(shared.database)
    return f"what {count:,} scans had seen is forgotten" if count else ""


async def _purge(shared: Runtime) -> str:
    count = await erasing.purge_owed(shared.database, within=PURGING)
    return f"{count:,} connections purged" if count else ""


async def _report(shared: Runtime) -> str:
    """Once for each break: an event in Prefect, which an automation may pass on, and a log line."""
    log = get_run_logger()
    async with failures.changes(shared.database) as found:
        for one in found.begun:
            log.warning("%s fails (%s): %s", one, one.failure, one.reason)
            _emit(BEGUN, one)
        for one in found.mended:
            log.info("%s works again", one)
            _emit(MENDED, one)
    if not found.begun and not found.mended:
        return ""
    await _publish_failing(await failures.standing(shared.database))
    return f"{len(found.begun):,} connections fail newly, {len(found.mended):,} work again"


def _emit(event: str, one: Failing) -> None:
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"atom-sync.connection.{one.id}",
            "prefect.resource.name": str(one),
            "atom-sync.tenant": one.tenant_slug,
            "atom-sync.integration": one.integration,
            "atom-sync.tier": one.tier,
        },
        payload={
            "status": one.status,
            "failures": one.failures,
            "failure": one.failure,
            "reason": one.reason,
        },
    )


async def _publish_failing(standing: list[Failing]) -> None:
    await acreate_table_artifact(
        key=FAILING,
        description="Connections that failed three times in a row or wait for their tenant.",
        table=[
            {
                "connection": str(one),
                "account": one.account_id,
                "tier": one.tier,
                "status": one.status,
                "failures": one.failures,
                "reason": one.reason or "",
                "synced last": f"{one.last_synced_at:%Y-%m-%d %H:%M}"
                if one.last_synced_at
                else "never",
            }
            for one in standing
        ]
        or [{"connection": "none fails"}],
    )


async def _publish_freshness(shared: Runtime) -> str:
    kept = await freshness.promises(shared.database)
    away = await breakers.standing_open(shared.database)
    if not kept:
        return ""
    late = sum(one.streams for one in kept if one.reason)
    streams = sum(one.streams for one in kept)
    notes = [f"{streams - late:,} of {streams:,} streams are as fresh as their tier promises."]
    notes += [f"{one}." for one in away.values()]
    await acreate_table_artifact(key=FRESHNESS, description="\n\n".join(notes), table=_rows(kept))
    return f"{late:,} of {streams:,} streams are late" if late else ""


def _rows(kept: list[Promise]) -> list[dict[str, Any]]:
    """A row for each integration and tier, and one more for each reason of being late."""
    return [
        {
            "integration": one.integration,
            "tier": one.tier,
            "state": f"late: {one.reason}" if one.reason else "in time",
            "streams": one.streams,
            "oldest": spoken(one.worst),
            "in intervals": round(one.overdue, 2),
        }
        for one in kept
    ]


def _lives(shared: Runtime, client: PrefectClient) -> dict[str, Lives]:
    """For each of our flows, the check of whether one of its runs is alive."""
    database = shared.database

    async def sync(run: FlowRun) -> bool:
        connection_id = run.parameters.get("connection_id")
        return not connection_id or await runs.lives(database, run.id, UUID(str(connection_id)))

    async def sync_tier(run: FlowRun) -> bool:
        given = run.parameters
        if not {"integration", "tier"} <= set(given):
            return True
        scope = Scope(
            given["integration"], Tier(given["tier"]), given.get("shard", 0), given.get("shards", 1)
        )
        return await locks.is_held(database, scope.lock(database))

    async def drain_events(run: FlowRun) -> bool:
        return await drains.is_alive(database, run.parameters.get("shard", 0))

    async def other(run: FlowRun) -> bool:
        return await heard_of(client, run)

    known: dict[str, Lives] = {
        "sync": sync, "sync-tier": sync_tier, "drain-events": drain_events,
    }  # fmt: skip
    return known | dict.fromkeys(("sync-events", *OTHERS), other)


PARTS: dict[str, Part] = {
    "end syncs of killed processes": _end_lost,
    "close dead runs": _crash_dead,
    "close runs that never began": _crash_unbegun,
    "start again what was owed": _owe_again,
    "delete missed runs": _forget_missed,
    "keep the promised intervals": _keep_promises,
    "report what fails": _report,
    "publish freshness": _publish_freshness,
    "prune": _prune,
    "forget what scans had seen": _forget_seen,
    "purge": _purge,
}
