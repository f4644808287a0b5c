"""The process in which the real flow runs, as a worker's does once it has started."""

import asyncio
import gc
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from benchmarks._process import Answer, BenchmarkError, obey, resident_bytes
from benchmarks._vendor import INTEGRATION, register
from flows.dispatch import sync_tier
from flows.sync import sync


@task(persist_result=False, cache_policy=NO_CACHE)
async def nothing() -> None:
    """What a task costs by itself."""


@flow(name="empty", persist_result=False)
async def three_empty_tasks() -> None:
    for _ in range(3):
        await nothing()


async def run_sync(connection_id: str) -> Answer:
    state: State[Any] = await sync(UUID(connection_id), return_state=True)
    if not state.is_completed():
        raise BenchmarkError(f"the sync ended {state.name}: {state.message}")
    return {"message": state.message}


async def run_empty() -> Answer:
    await three_empty_tasks()
    return {}


async def run_tier(tier: str) -> Answer:
    """What a scheduled run does, at its own concurrency."""
    state: State[Any] = await sync_tier(INTEGRATION, tier, return_state=True)
    if not state.is_completed():
        raise BenchmarkError(f"the run ended {state.name}: {state.message}")
    return {"message": state.message}


@flow(name="empties", persist_result=False)
async def many_empty(count: int, at_once: int) -> None:
    """As many flows of three empty tasks, side by side in this process."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with slots:
            await three_empty_tasks()

    await asyncio.gather(*(one() for _ in range(count)))


async def run_empties(count: int, at_once: int) -> Answer:
    await many_empty(count, at_once)
    return {}


async def idle() -> Answer:
    """Imported, connected to Prefect, and waiting for its first sync."""
    await three_empty_tasks()
    gc.collect()
    return {"idle_bytes": resident_bytes()}


if __name__ == "__main__":
    register()
    asyncio.run(
        obey({"idle": idle, "sync": run_sync, "empty": run_empty, "tier": run_tier,
              "empties": run_empties})
    )  # fmt: skip
