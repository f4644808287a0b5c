"""What the database says is still to be done: for Prefect, for vendors, and for who paid what.

Each is committed before it is tried, so a process that dies or a server that is away loses none.
Several processes may do this at once: Prefect takes a run's key once, and a revocation is claimed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Protocol

from accounts import disconnecting
from accounts.runtime import Runtime
from billing.cancellation import end_owed
from billing.customers import AT_ONCE, Billing, settle_due
from connectors.kernel.cancellation import end
from deployments.prefect_api import connected
from deployments.reconcile import reconcile
from deployments.triggers import NO_RUNS, PrefectUnavailableError, start_backfill
from settings import SettingsError
from storage import backfills, connect_sessions, integrations, schedules
from storage import billing as ledger
from storage.background import SAFE, repeated
from web._bridge import start_drains, start_watches

EVERY = 2.0
# Drains are looked for more often, and however often events come, not more often than this.
DRAINS_EVERY, DRAINS_PAUSE = 1.0, 0.25
# Schedules follow once changes have stopped for a moment, or have gone on for some seconds.
SCHEDULES_EVERY = 1.0
QUIET, LONGEST = timedelta(seconds=2), timedelta(seconds=5)
log = logging.getLogger("atom-sync.owed")


class Job(Protocol):
    """What is done again and again; `__name__` is what it is called where it fails."""

    __name__: str

    async def __call__(self, runtime: Runtime, /) -> None: ...


# Errors whose texts are ours, and safe to show.
SAFE_ERRORS = (*SAFE, PrefectUnavailableError, SettingsError)


@asynccontextmanager
async def kept(runtime: Runtime, every: float = EVERY) -> AsyncIterator[Callable[[], None]]:
    """Looks every few seconds, and at once when the function that it gives is called."""
    jobs = (_backfills, _watches, _revocations, _integrations, _sweep)
    async with _repeated(runtime, jobs, every) as wake:
        yield wake


@asynccontextmanager
async def drained(runtime: Runtime) -> AsyncIterator[Callable[[], None]]:
    """Sees to it that a drain is alive while events wait; the function says that some came."""
    async with _repeated(runtime, (_drains,), DRAINS_EVERY, DRAINS_PAUSE) as wake:
        yield wake


@asynccontextmanager
async def scheduled(runtime: Runtime) -> AsyncIterator[None]:
    """Makes schedules what they should be within seconds of a change."""
    async with _repeated(runtime, (_schedules,), SCHEDULES_EVERY):
        yield


@asynccontextmanager
async def billed(runtime: Runtime, billing: Billing | None) -> AsyncIterator[Callable[[], None]]:
    """Reads customers at Stripe that are due; the function says that one may be due now."""

    async def _billing(runtime: Runtime) -> None:
        if billing is not None:
            while await settle_due(billing) == AT_ONCE:
                continue
            await end_owed(billing)
            await ledger.sweep(runtime.database, now=billing.clock.now())

    async with _repeated(runtime, (_billing,), EVERY) as wake:
        yield wake


@asynccontextmanager
async def _repeated(
    runtime: Runtime, jobs: Sequence[Job], every: float, pause: float = 0.0
) -> AsyncIterator[Callable[[], None]]:
    """Each job in a task of its own; the function hurries them all."""
    wakes = {job: asyncio.Event() for job in jobs}
    tasks = [
        asyncio.create_task(
            repeated(
                job.__name__.strip("_"), partial(job, runtime), every, wake=wake, pause=pause,
                safe=SAFE_ERRORS,
            )
        )
        for job, wake in wakes.items()
    ]  # fmt: skip

    def hurry() -> None:
        for wake in wakes.values():
            wake.set()

    try:
        yield hurry
    finally:
        await end(*tasks)


async def start_backfills(runtime: Runtime) -> int:
    """Ask Prefect for every backfill that is owed; how many it took."""
    owed = await backfills.owed(runtime.database)
    if owed:
        async with connected(runtime.settings, NO_RUNS) as client:
            for connection, at in owed:
                await start_backfill(client, runtime.database, connection, at)
    return len(owed)


async def _drains(runtime: Runtime) -> None:
    await start_drains(runtime)


async def _watches(runtime: Runtime) -> None:
    await start_watches(runtime)


async def _schedules(runtime: Runtime) -> None:
    marks = await schedules.marks(runtime.database)
    if marks is None or (marks.newest < QUIET and marks.oldest < LONGEST):
        return
    plan = await reconcile(runtime.settings, runtime.database)
    if plan is not None and plan.changes:
        log.info("%d deployments were made to match the database", len(plan.changes))


async def _backfills(runtime: Runtime) -> None:
    if started := await start_backfills(runtime):
        log.info("%d backfills started", started)


async def _revocations(runtime: Runtime) -> None:
    if tried := await disconnecting.revoke_due(runtime.disconnector()):
        log.info("%d vendors were told of a disconnected account", tried)


async def _integrations(runtime: Runtime) -> None:
    await integrations.refresh(runtime.database)


async def _sweep(runtime: Runtime) -> None:
    await connect_sessions.sweep(runtime.database)
