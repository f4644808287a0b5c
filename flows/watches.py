"""Keeps us subscribed at vendors, and reads what vendors may have failed to notify us of."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from accounts import watching
from accounts.runtime import Runtime
from accounts.watching import Looked, Station
from connectors import BrokenConnectionError, ConnectorError, all_connectors
from flows._clients import client_of
from flows._hints import begin, read_all
from flows._passing import ends_well
from flows._results import NOWHERE
from flows._runtime import runtime
from integrations import load
from settings import SettingsError
from settings.webhooks import address_of, is_watchable, variables_of
from storage import StorageError, connections, gaps, runs, watches

AT_ONCE = 8
CLAIM = 100
# What went wrong with one connection's watches is tried again after so long.
RETRY_AFTER = timedelta(minutes=10)


@flow(
    name="renew-watches",
    flow_run_name="watches · renewed, gaps closed",
    persist_result=False,
    result_storage=NOWHERE,
)
@ends_well
async def renew_watches(at_most: int = 5_000) -> State[None]:
    """Make, renew, replace and end watches, and close the gaps that are due.

    The log names what one vendor or connection does wrong; the others go on.
    """
    async with runtime() as shared:
        counts = await look_after_all(shared, at_most=at_most)
        closed = await close_gaps(shared)
        told = await shared.told_to_stop()
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    if closed:
        parts.append(f"{closed:,} gaps closed")
    if told:
        parts.append(told)
    return Completed(message=", ".join(parts) or "all watches stand")


async def look_after_all(shared: Runtime, *, at_most: int = 5_000) -> Counter[str]:
    """Every connection whose watches are due; what was done with how many."""
    watched = [one.name for one in all_connectors() if is_watchable(shared.settings, one)]
    counts: Counter[str] = Counter()
    while watched and counts["connections"] < at_most:
        if await shared.told_to_stop():
            break
        now = shared.clock.now()
        claimed = await watches.claim(shared.database, watched, now=now, limit=CLAIM)
        if not claimed:
            break
        await look_after(shared, claimed, counts)
    return counts


@task(persist_result=False, cache_policy=NO_CACHE)
async def look_after(shared: Runtime, claimed: list[UUID], counts: Counter[str]) -> None:
    """The watches of these connections."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def look(connection_id: UUID) -> None:
        async with slots:
            await _look_after(shared, connection_id, counts)

    await asyncio.gather(*(look(one) for one in claimed))


async def _look_after(shared: Runtime, connection_id: UUID, counts: Counter[str]) -> None:
    counts["connections"] += 1
    now = shared.clock.now()
    next_at = now + RETRY_AFTER
    try:
        connection = await connections.get(shared.database, connection_id)
        looked = await watching.look_after(station(shared, connection), now)
    except BrokenConnectionError as error:
        counts["broken"] += 1
        async with shared.database.transaction(connection.tenant_id) as session:
            await runs.break_off(session, connection, str(error))
    except (ConnectorError, StorageError, SettingsError) as error:
        counts["failed"] += 1
        get_run_logger().warning("watches of connection %s: %s", connection_id, error)
    else:
        next_at = looked.next_at or next_at
        _count(counts, looked)
    await watches.look_again(shared.database, connection_id, next_at)


def _count(counts: Counter[str], looked: Looked) -> None:
    for name in ("made", "renewed", "ended", "refused", "missed"):
        counts[name] += getattr(looked, name)


def station(shared: Runtime, connection: connections.Connection) -> Station:
    connector = load(connection.integration)
    client, context = client_of(shared, connection)
    return Station(
        database=shared.database,
        vault=shared.vault,
        client=client,
        context=context,
        connection=connection,
        address=address_of(shared.settings, connector.name),
        variables=variables_of(shared.settings, connector),
    )


async def close_gaps(shared: Runtime) -> int:
    """Read what happened in the gaps that are due; how many are closed by that."""
    closed = 0
    while not await shared.told_to_stop():
        now = shared.clock.now()
        found = await gaps.claim(shared.database, now=now)
        if not found:
            break
        closed += await _close(shared, found, now)
    return closed


async def _close(shared: Runtime, found: Sequence[gaps.Open], now: datetime) -> int:
    of_connection: dict[UUID, list[gaps.Open]] = {}
    for gap in found:
        of_connection.setdefault(gap.connection_id, []).append(gap)
    closed: list[int] = []
    async with AsyncExitStack() as held:
        deltas = []
        for connection_id, of in of_connection.items():
            connection = await connections.get(shared.database, connection_id)
            names = {name for gap in of for name in gap.streams}
            streams = [one for one in load(connection.integration).streams if one.name in names]
            windows = {
                stream.name: stream.window(
                    min(gap.since for gap in of if stream.name in gap.streams)
                )
                for stream in streams
                if stream.window is not None
            }
            delta = await begin(shared, connection, streams, held, windows=windows)
            if delta is not None:  # else it is being synced: tried again
                deltas.append(delta)
        await read_all(shared, deltas)
        for delta in deltas:
            outcomes = delta.reading.outcomes.values()
            if all(outcome.done for outcome in outcomes):
                closed += [gap.id for gap in of_connection[delta.connection.id]]
            else:
                get_run_logger().warning("%s: a gap is still open", delta.connection)
    await gaps.close(shared.database, closed, now)
    return len(closed)
