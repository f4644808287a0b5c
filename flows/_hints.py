"""Following hints: what is said to have changed is read from the stream's checkpoint.

A hint is a number that was raised, so it outlives whoever raised it. Who reads takes the sync
lease; who does not get it may leave, for its holder looks once more after giving it back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from accounts.runtime import Runtime
from connectors import Checkpoint, ConnectorError, Stream
from flows._batches import Batch
from flows._clients import reading_client
from flows._reading import Reading
from flows._storing import LEASE_TTL, note_failures, renewed, store
from integrations import load
from settings import SettingsError
from storage import StorageError, checkpoints, connections, leases, runs
from storage.models import Failure

AT_ONCE = 8
# A stream that could not be read is tried again after so long.
RETRY_AFTER = timedelta(minutes=2)
# One that its connector no longer has.
FORGOTTEN = timedelta(days=30)


@dataclass(slots=True)
class HintedRead:
    """A connection that is being read, and how far that is."""

    connection: connections.Connection
    lease: leases.Lease
    reading: Reading
    batch: Batch | None = None
    problem: str = ""
    over: bool = False


class HintedReads:
    """Those of several connections, side by side. Not a dataclass: Prefect would walk into it."""

    __slots__ = ("each",)

    def __init__(self, each: Sequence[HintedRead]) -> None:
        self.each = each

    def __str__(self) -> str:
        batches = [delta.batch for delta in self.each if delta.batch is not None]
        if len(batches) == 1:
            return str(batches[0])
        rows = sum(batch.rows for batch in batches)
        return f"{rows:,} records of {len(batches)} connections"


@dataclass(slots=True)
class HintSummary:
    """What came of it."""

    connections: int = 0
    changed: int = 0
    deleted: int = 0
    problems: int = 0


async def read_dirty_streams(
    shared: Runtime, linked: Sequence[connections.Connection]
) -> HintSummary:
    """Read what is hinted at, of those whose sync lease is free, until there is no hint left."""
    followed = HintSummary()
    left = list(linked)
    while left and not await shared.told_to_stop():
        async with AsyncExitStack() as held:
            deltas = [delta for one in left if (delta := await _begin(shared, one, held))]
            if not deltas:
                return followed
            followed.connections += len(deltas)
            await read_all(shared, deltas)
            for delta in deltas:
                await _end(shared, delta, followed)
        left = [delta.connection for delta in deltas if not delta.problem]
    return followed


async def read_all(shared: Runtime, deltas: Sequence[HintedRead]) -> None:
    """Each to its end, a batch of all at a time."""
    left = HintedReads(deltas)
    while left.each:
        await fetch(left)
        await persist(shared, left)
        left = HintedReads([delta for delta in left.each if not delta.over])


@task(persist_result=False, cache_policy=NO_CACHE)
async def fetch(deltas: HintedReads) -> None:
    """Read the next batch of what vendors said has changed."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(delta: HintedRead) -> None:
        async with slots:
            try:
                delta.batch = await delta.reading.batch()
            except (ConnectorError, StorageError, SettingsError) as error:
                delta.batch, delta.problem, delta.over = None, str(error), True

    await asyncio.gather(*(read(delta) for delta in deltas.each))


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="persist · {deltas}")
async def persist(shared: Runtime, deltas: HintedReads) -> None:
    """Store them, each in a transaction of its own; a connection's trouble is its own."""
    for delta in deltas.each:
        if delta.batch is None:
            continue
        last = delta.batch.last
        try:
            await store(
                shared.database, delta.lease, delta.reading.integration, delta.batch,
                delta.reading.outcomes,
            )  # fmt: skip
        except StorageError as error:
            delta.problem, last = str(error), True
        delta.batch, delta.over = None, last


async def _begin(
    shared: Runtime, connection: connections.Connection, held: AsyncExitStack
) -> HintedRead | None:
    """The lease and the reading, if there is a hint to follow and nobody else is reading."""
    connector = load(connection.integration)
    known = {stream.name: stream for stream in connector.streams}
    async with shared.database.transaction(connection.tenant_id) as session:
        hinted = await checkpoints.dirty(session, connection.id)
        if forgotten := [name for name in hinted if name not in known]:
            await checkpoints.put_off(session, connection.id, forgotten, FORGOTTEN)
    streams = [known[name] for name in hinted if name in known]
    return await begin(shared, connection, streams, held) if streams else None


async def begin(
    shared: Runtime,
    connection: connections.Connection,
    streams: Sequence[Stream],
    held: AsyncExitStack,
    *,
    windows: Mapping[str, Checkpoint] | None = None,
) -> HintedRead | None:
    """The sync lease and a reading of those streams, for as long as `held`; None if it is taken."""
    lease = await leases.acquire(
        shared.database,
        connection_id=connection.id,
        tenant_id=connection.tenant_id,
        kind="sync",
        holder=shared.settings.atom_worker,
        ttl=LEASE_TTL,
    )
    if lease is None:
        return None
    await held.enter_async_context(renewed(shared.database, lease))
    async with shared.database.transaction(connection.tenant_id) as session:
        saved = await checkpoints.load(session, connection.id)
    client, context = await reading_client(shared, connection)
    reading = Reading(client, context, streams, saved, windows=windows)
    held.push_async_callback(reading.close)
    return HintedRead(connection, lease, reading)


async def _end(shared: Runtime, delta: HintedRead, followed: HintSummary) -> None:
    outcomes = delta.reading.outcomes
    followed.changed += sum(outcome.inserted + outcome.updated for outcome in outcomes.values())
    followed.deleted += sum(outcome.deleted for outcome in outcomes.values())
    failed = [name for name, outcome in outcomes.items() if not outcome.done]
    if failed:
        delta.problem = delta.problem or "; ".join(
            f"{name}: {outcomes[name].error or 'not read to its end'}" for name in failed
        )
        followed.problems += 1
        await note_failures(
            shared.database, delta.connection.tenant_id, delta.connection.id, outcomes
        )
        async with shared.database.transaction(delta.connection.tenant_id) as session:
            refused = [n for n in failed if outcomes[n].failure is Failure.NOT_ALLOWED]
            await checkpoints.put_off(session, delta.connection.id, failed, RETRY_AFTER)
            await checkpoints.put_off(
                session, delta.connection.id, refused, checkpoints.REFUSED_FOR
            )
            if delta.reading.broken is not None:
                await runs.break_off(session, delta.connection, str(delta.reading.broken))
