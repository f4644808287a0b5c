"""The unit everybody sees: one connection synced, as the tasks refresh -> fetch -> persist."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

from prefect import flow, get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from accounts.runtime import Runtime
from connectors import (
    BrokenConnectionError,
    Connector,
    ConnectorError,
    RetryableError,
    Stream,
)
from connectors.kernel.cancellation import end, take
from deployments.tiers import audit_intervals
from deployments.triggers import run_name, run_tags
from flows._artifact import publish
from flows._batches import Batch, Outcome
from flows._clients import reading_client
from flows._hints import read_dirty_streams
from flows._passing import PASSING, ends_well, put_off
from flows._reading import STUCK_AFTER, Reading
from flows._results import NOWHERE
from flows._runtime import runtime
from flows._storing import LEASE_TTL, note_failures, renewed, store
from integrations import load
from settings import SettingsError
from storage import (
    DatabaseUnavailableError,
    StorageError,
    checkpoints,
    connections,
    leases,
    records,
    runs,
)
from storage.failures import failure_of
from storage.keeping import until_stored
from storage.models import Failure, Tier

# How a run ends that a vendor put off: not red, either.
AWAY = (Failure.UNAVAILABLE, Failure.RATE_LIMITED)
# How long the end of a sync waits to be written down where the database is not well: a run without
# an end counts as one whose process was killed.
NOTED_WITHIN = timedelta(minutes=10)
WHO_ACTS = {
    Failure.BROKEN: "its tenant has to act: connect it again",
    Failure.NOT_ALLOWED: "the tenant's administrator at the vendor has to act: allow it",
    Failure.CONTRACT: "whoever runs atom-sync has to act: the vendor answers as it never did",
    Failure.OURS: "whoever runs atom-sync has to act: `atom-sync doctor`, or the log of this run",
}


@flow(name="sync", persist_result=False, result_storage=NOWHERE, validate_parameters=True)
@ends_well
async def sync(
    connection_id: UUID,
    trigger: str = "manual",
    streams: list[str] | None = None,
    full: bool = False,
    audit: bool = False,
) -> State[None]:
    """Bring one connection's records up to date.

    Reads every stream from its checkpoint (or only `streams`); `full` reads everything again and
    removes what the vendor no longer has; `audit` does so too, and counts what differed. Ends
    Failed with a message a tenant may read.
    """
    async with runtime() as shared:
        connection = await connections.get(shared.database, connection_id)
        await _introduce(connection, trigger)
        try:
            # This value and no other: the integration may be replaced while the run goes on.
            connector = load(connection.integration)
            chosen = _chosen(connector, streams)
        except LookupError as error:
            return Failed(message=str(error))
        if connection.status != "active":
            return Failed(message=_why_not(connection))
        lease = await leases.acquire(
            shared.database,
            connection_id=connection.id,
            tenant_id=connection.tenant_id,
            kind="sync",
            holder=shared.settings.atom_worker,
            ttl=LEASE_TTL,
        )
        if lease is None:
            return Completed(
                name="Skipped", message=f"{connection} is already being synced by another run"
            )
        async with renewed(shared.database, lease):
            try:
                reading = await _reading(
                    shared, connection, connector, chosen, full=full, audit=audit
                )
            except BrokenConnectionError as error:
                async with shared.database.transaction(connection.tenant_id) as session:
                    await runs.break_off(session, connection, str(error))
                return Failed(message=f"{error}; {WHO_ACTS[Failure.BROKEN]}")
            state = await _sync(shared, connection, lease, reading, trigger=trigger)
        if state.is_completed():
            # What was said to have changed while the lease was ours, nobody else has read.
            await read_dirty_streams(shared, [connection])
        return state


async def _sync(
    shared: Runtime,
    connection: connections.Connection,
    lease: leases.Lease,
    reading: Reading,
    *,
    trigger: str,
) -> State[None]:
    """The three tasks under a lease, and what is written down about them."""

    async def cancelled(run: UUID) -> None:
        # By hand in the Prefect UI, or with its process: the connection did nothing wrong.
        with suppress(StorageError):
            await runs.finish(
                shared.database, run, connection, outcomes=reading.outcomes,
                requests=reading.requests, stopped="cancelled",
            )  # fmt: skip

    starting = runs.start(shared.database, connection, trigger=trigger, flow_run_id=_flow_run_id())
    run = await take(starting, cancelled)
    stopped = ""
    problem: ConnectorError | StorageError | SettingsError | None = None
    try:
        await refresh(shared, connection)
        stopped = await _move(shared, lease, reading)
        problem = reading.broken
    except (ConnectorError, StorageError, SettingsError) as error:
        problem = error
    except asyncio.CancelledError:
        await asyncio.shield(cancelled(run))
        raise
    finally:
        await reading.close()
    failed = {name: o for name, o in reading.outcomes.items() if o.error is not None}
    failure = _failure(problem, failed.values())
    message = str(problem) if problem else "; ".join(f"{n}: {o.error}" for n, o in failed.items())
    # What the database or another process had to do with is no failure of the connection.
    put_off_by = message if isinstance(problem, PASSING) else ""
    finish = partial(
        runs.finish,
        shared.database,
        run,
        connection,
        outcomes=reading.outcomes,
        requests=reading.requests,
        error=None if put_off_by else message or None,
        failure=failure,
        wait=_wait(problem, failed.values()),
        stopped=put_off_by or stopped,
    )
    with suppress(StorageError):  # the database stays away: the lease ends by itself
        await note_failures(shared.database, connection.tenant_id, connection.id, reading.outcomes)
    with suppress(StorageError):
        await until_stored(finish, patience=NOTED_WITHIN, waits=f"the end of {connection}'s sync")
        await publish(shared, connection, reading, message)
    if put_off_by:
        return put_off(f"{connection}: {message}; nobody has to act, it is tried again by itself")
    return _state(connection, reading, message, failure, stopped=stopped)


def _state(
    connection: connections.Connection,
    reading: Reading,
    message: str,
    failure: Failure,
    *,
    stopped: str,
) -> State[None]:
    """How the run ends in the Prefect UI; red only where somebody has to act."""
    if message and failure in AWAY:
        return put_off(f"{connection}: {message}; nobody has to act, it is tried again by itself")
    if message:
        return Failed(message=f"{connection}: {message}; {WHO_ACTS[failure]}")
    if stopped:
        return Cancelled(message=f"{stopped}; the next sync goes on after the last batch")
    return Completed(message=f"{connection}: {_summary(reading)}")


async def _move(shared: Runtime, lease: leases.Lease, reading: Reading) -> str:
    """Fetch the next batch while the former is stored. Who told it to stop, if it left early."""
    storing: asyncio.Task[None] | None = None
    try:
        while True:
            batch = await fetch(reading)
            if storing is not None:
                await storing
            storing = asyncio.create_task(persist(shared, lease, batch, reading))
            told = "" if batch.last else await _told_to_stop(shared)
            if batch.last or told:
                await storing
                return told
    finally:
        if storing is not None and not storing.done():
            await end(storing)


async def _told_to_stop(shared: Runtime) -> str:
    try:
        return await shared.told_to_stop()
    except DatabaseUnavailableError:
        return ""  # the batch under way waits for it


@task(persist_result=False, cache_policy=NO_CACHE, log_prints=False)
async def refresh(shared: Runtime, connection: connections.Connection) -> None:
    """Make sure that the access token lasts; what it is never leaves the process."""
    await shared.bearer(connection)


@task(persist_result=False, cache_policy=NO_CACHE)
async def fetch(reading: Reading) -> Batch:
    """Read the next batch from the vendor."""
    return await reading.batch()


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="persist · {batch}")
async def persist(shared: Runtime, lease: leases.Lease, batch: Batch, reading: Reading) -> None:
    """Store a batch and its checkpoints in one transaction."""
    await store(shared.database, lease, reading.integration, batch, reading.outcomes)


async def _reading(
    shared: Runtime,
    connection: connections.Connection,
    connector: Connector,
    streams: Sequence[Stream],
    *,
    full: bool,
    audit: bool,
) -> Reading:
    async with shared.database.transaction(connection.tenant_id) as session:
        saved = await checkpoints.load(session, connection.id)
    client, context = await reading_client(shared, connection, connector)

    async def known(stream: Stream, keys: Sequence[str]) -> Mapping[str, int | None]:
        name = f"{connection.integration}.{stream.name}"
        return await records.versions(
            shared.database, connection.tenant_id, stream=name, connection_id=connection.id,
            keys=keys,
        )  # fmt: skip

    every = audit_intervals(shared.settings, streams, Tier(connection.tier)) if audit else {}
    return Reading(client, context, streams, saved, full=full, audit=every, known=known)


async def _introduce(connection: connections.Connection, trigger: str) -> None:
    """Name and tag a run that was started by hand in the Prefect UI as those we start."""
    context = FlowRunContext.get()
    name, tags = run_name(connection, trigger), run_tags(connection, trigger)
    if context is None or context.flow_run is None:
        return
    missing = set(tags) - set(context.flow_run.tags)
    if context.flow_run.name != name or missing:
        async with get_client() as client:
            await client.update_flow_run(
                context.flow_run.id, name=name, tags=sorted({*context.flow_run.tags, *tags})
            )
    get_run_logger().info("syncing %s", connection)


def _failure(problem: Exception | None, failed: Collection[Outcome]) -> Failure:
    """Who must act; of several reasons, what breakers and backing off need to know comes first."""
    kinds = {failure_of(problem)} if problem else {outcome.failure for outcome in failed}
    return next((kind for kind in Failure if kind in kinds), Failure.OURS)


def _wait(problem: Exception | None, failed: Collection[Outcome]) -> timedelta:
    """How long the vendor asks us to wait, at the longest."""
    waits = [outcome.wait for outcome in failed]
    if isinstance(problem, RetryableError):
        waits.append(problem.retry_after)
    return max(waits, default=timedelta())


def _chosen(connector: Connector, names: Sequence[str] | None) -> Sequence[Stream]:
    return [connector.stream(name) for name in names] if names else connector.streams


def _flow_run_id() -> UUID | None:
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def _why_not(connection: connections.Connection) -> str:
    remedy = {
        "needs_reauth": "its tenant must connect it again",
        "paused": "resume it first",
        "revoked": "its tenant took the authorisation back; connect it again",
    }[connection.status]
    reason = f" ({connection.status_reason})" if connection.status_reason else ""
    return f"{connection} is {connection.status}{reason}: {remedy}"


def _summary(reading: Reading) -> str:
    outcomes = reading.outcomes.values()
    changed = sum(outcome.inserted + outcome.updated for outcome in outcomes)
    deleted = sum(outcome.deleted for outcome in outcomes)
    summary = f"{changed:,} records changed, {deleted:,} deleted, {reading.requests:,} requests"
    for name, outcome in reading.outcomes.items():
        if outcome.restarted:
            summary += f"; {name}: read anew, since it failed {STUCK_AFTER} times where it stood"
        if outcome.unread:
            summary += f"; {name}: not all could be read, {_parts(outcome)}"
    return summary


def _parts(outcome: Outcome) -> str:
    """The parts of a stream that could not be read, the first of them with why."""
    first, more = outcome.unread[0], len(outcome.unread) - 1
    return f"{first.part}: {first.error}" + (f" (and {more} more)" if more else "")
