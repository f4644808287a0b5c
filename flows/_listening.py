"""Listening to vendors whose events are fetched by calls that they hold open: beside a drain.

What is heard goes to the inbox, and from there the way of all events. A connection has one listener
at a time, whoever holds its feed lease; where it comes to nothing it is tried again later.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

import psycopg
from prefect import get_run_logger
from sqlalchemy.exc import DBAPIError

from accounts.runtime import Runtime
from connectors import (
    BrokenConnectionError,
    ConnectorError,
    NotAllowedError,
    RateLimitedError,
    RetryableError,
    all_connectors,
)
from connectors.kernel.cancellation import end
from connectors.kernel.client import Transport
from flows._clients import client_of
from flows._storing import LEASE_TTL
from integrations import load
from settings import SettingsError
from storage import DatabaseUnavailableError, StorageError, connections, feeds, leases, runs
from storage.background import repeated
from storage.feeds import Listenable
from storage.leases import Lease

# Each holds a call of its own open.
MOST = 500
# Between two looks at who wants to be listened to.
LOOK_SECONDS = 5.0
# The vendor's side has to change first, or we have.
NOT_ALLOWED, OURS = timedelta(days=1), timedelta(hours=1)


class Listeners:
    """Those of a shard, each a task of its own."""

    def __init__(self, shared: Runtime, shard: int, transport: Transport) -> None:
        self._shared, self._shard, self._transport = shared, shard, transport
        self._running: dict[UUID, tuple[asyncio.Task[None], Lease]] = {}
        self._turn = asyncio.create_task(repeated("feeds", self._look_after, LOOK_SECONDS))

    @property
    def count(self) -> int:
        return len(self._running)

    async def close(self) -> None:
        """None listens any more, and others may."""
        tasks = [self._turn, *(task for task, _ in self._running.values())]
        await end(*tasks)
        await self._give_back(list(self._running))

    async def _look_after(self) -> None:
        """Who is to be listened to is, and nobody else takes it."""
        await self._look()
        held = [lease for _, lease in self._running.values()]
        await leases.renew_all(self._shared.database, held, LEASE_TTL)

    async def _look(self) -> None:
        shards = self._shared.settings.atom_drain_shards
        found = await feeds.wanted(self._shared.database, shard=self._shard, shards=shards)
        wanted = {one.connection_id for one in found}
        for connection_id, (task, _) in self._running.items():
            if connection_id not in wanted:  # paused, revoked, or asked for no more
                task.cancel()
        await self._give_back([id for id, (task, _) in self._running.items() if task.done()])
        new = [one for one in found if one.is_ready and one.connection_id not in self._running]
        room = MOST - self.count
        if len(new) > room:
            get_run_logger().warning(
                "%s connections are not listened to: a drain has room for %s (ATOM_DRAIN_SHARDS)",
                f"{len(new) - room:,}", MOST,
            )  # fmt: skip
        await self._begin(new[:room])

    async def _begin(self, new: list[Listenable]) -> None:
        if not new:
            return
        held = await leases.acquire_all(
            self._shared.database, [one.connection_id for one in new], kind="feed",
            holder=self._shared.settings.atom_worker, ttl=LEASE_TTL,
        )  # fmt: skip
        for lease in held:
            task = asyncio.create_task(_listen(self._shared, self._transport, lease))
            self._running[lease.connection_id] = task, lease

    async def _give_back(self, ended: list[UUID]) -> None:
        left = []
        for id in ended:
            task, lease = self._running.pop(id)
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is None:
                left.append(lease)
            else:  # a fault of ours: until its lease has run out nobody tries again
                get_run_logger().error("listening to %s broke off: %s", id, type(error).__name__)
        with suppress(DatabaseUnavailableError):  # they run out by themselves
            await leases.release_all(self._shared.database, left)


@asynccontextmanager
async def listeners(shared: Runtime, shard: int) -> AsyncIterator[Listeners]:
    """Listening for as long as the block lasts."""
    held = [connector.feed.held for connector in all_connectors() if connector.feed]
    transport = Transport(
        sandbox_url=shared.settings.atom_sandbox_url,
        timeout=max(held, default=timedelta(seconds=30)),
        connections=MOST,
        clock=shared.clock,
    )
    listening = Listeners(shared, shard, transport)
    try:
        yield listening
    finally:
        await asyncio.shield(listening.close())
        await transport.close()


async def _listen(shared: Runtime, transport: Transport, lease: Lease) -> None:
    """Until it comes to nothing; then it is said when to go on, if not as soon as somebody can."""
    log = get_run_logger()
    try:
        connection = await connections.get(shared.database, lease.connection_id)
        try:
            await _hear(shared, transport, connection, lease)
        except BrokenConnectionError as error:
            async with shared.database.transaction(connection.tenant_id) as session:
                await runs.break_off(session, connection, str(error))
        except (ConnectorError, SettingsError) as error:
            log.warning("%s: listening is put off: %s", connection, error)
            await feeds.rest(shared.database, lease, str(error), _wait(error))
        except (DBAPIError, psycopg.Error):
            # Its words may quote what was heard.
            reason = "PostgreSQL does not take what was heard"
            log.warning("%s: listening is put off: %s", connection, reason)
            await feeds.rest(shared.database, lease, reason, OURS)
    except StorageError as error:
        log.warning("listening to connection %s stopped: %s", lease.connection_id, error)


async def _hear(
    shared: Runtime, transport: Transport, connection: connections.Connection, lease: Lease
) -> None:
    feed = load(connection.integration).feed
    if feed is None:
        raise ConnectorError("there is nothing to listen to")
    client, context = client_of(shared, connection, listening=transport)
    at = await feeds.standing(shared.database, lease)
    async for heard in client.listen(feed.listen(at, context)):
        now = shared.clock.now()
        await feeds.save(shared.database, lease, connection.integration, heard, now)
    raise ConnectorError("the vendor has no more events")


def _wait(error: Exception) -> timedelta | None:
    """How long; None where it passes by itself, which is tried after longer and longer times."""
    if isinstance(error, RateLimitedError):
        return max(error.retry_after, feeds.RETRY_AFTER)
    if isinstance(error, RetryableError):
        return None
    return NOT_ALLOWED if isinstance(error, NotAllowedError) else OURS
