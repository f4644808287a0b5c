"""Feeds: how far a connection's vendor was listened to, and when that goes on.

Who listens holds the connection's feed lease. What was heard and how far that was are committed
together, so that the successor of a process that died hears the rest, and nothing twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from connectors import Checkpoint, EventBatch, all_connectors
from storage import gaps, inbox, leases
from storage.database import Database
from storage.inbox import Arrival
from storage.leases import Lease
from storage.models import Feed

# After each time that it came to nothing the next waits twice as long.
RETRY_AFTER, MAX_RETRY_AFTER = timedelta(seconds=15), timedelta(hours=1)

# `:integrations` have a feed, and `:questions` are those that their tenants answer with yes.
WANTED = """
    connections c
    JOIN unnest(CAST(:integrations AS text[]), CAST(:questions AS text[]))
        AS listening (integration, question)
        ON c.integration = listening.integration AND c.config ->> listening.question = 'yes'
    LEFT JOIN feeds f ON f.connection_id = c.id
"""
IS_READY = """
    coalesce(f.due_at <= now(), true) AND NOT EXISTS (
        SELECT FROM leases l WHERE l.connection_id = c.id AND l.kind = 'feed'
            AND l.expires_at > now()
    )
"""
_WANTED = text(
    f"""
    SELECT c.id, {IS_READY} AS is_ready FROM {WANTED}
    WHERE c.status = 'active' AND get_byte(uuid_send(c.id), 15) % :shards = :shard
    ORDER BY f.due_at NULLS FIRST
    """  # noqa: S608 - constants of this module
)


@dataclass(frozen=True)
class Listenable:
    """A connection to be listened to; ready, if nobody does and nothing is waited for."""

    connection_id: UUID
    is_ready: bool


@cache
def naming() -> Mapping[str, Any]:
    """The parameters of statements with WANTED."""
    feeds = {one.name: one.feed.wanted for one in all_connectors() if one.feed}
    return {"integrations": list(feeds), "questions": list(feeds.values())}


async def wanted(database: Database, *, shard: int = 0, shards: int = 1) -> list[Listenable]:
    """All active connections of the shard whose tenants want us to listen."""
    values = {**naming(), "shard": shard, "shards": shards}
    async with database.dispatching() as session:
        return [Listenable(*row) for row in await session.execute(_WANTED, values)]


@dataclass(frozen=True)
class State:
    """Whether a connection is listened to: when it was last heard, and why it is not."""

    is_listening: bool
    heard_at: datetime | None
    due_at: datetime
    reason: str | None


async def state(database: Database, connection_id: UUID) -> State | None:
    """For people; None of a connection that nobody wants to be listened to."""
    query = text(
        f"""
        SELECT EXISTS (
            SELECT FROM leases l WHERE l.connection_id = c.id AND l.kind = 'feed'
                AND l.expires_at > now()
        ), f.heard_at, coalesce(f.due_at, now()), f.reason
        FROM {WANTED} WHERE c.id = :connection_id
        """  # noqa: S608 - constants of this module
    )
    values = {**naming(), "connection_id": connection_id}
    async with database.dispatching() as session:
        found = (await session.execute(query, values)).one_or_none()
    return State(*found) if found else None


async def standing(database: Database, lease: Lease) -> Checkpoint:
    """How far it was heard; empty of one that was never listened to."""
    query = select(Feed.state).where(Feed.connection_id == lease.connection_id)
    async with database.transaction(lease.tenant_id) as session:
        return Checkpoint(await session.scalar(query) or {})


async def save(
    database: Database, lease: Lease, integration: str, heard: EventBatch, now: datetime
) -> None:
    """Store what was heard, and how far that was; LeaseLostError where another listens by now."""
    whose = {"tenant_id": lease.tenant_id, "connection_id": lease.connection_id}
    arrivals = [
        Arrival(
            integration=integration,
            event=event,
            received_at=now,
            connection_id=lease.connection_id,
        )
        for event in heard.events
    ]
    state = {"state": dict(heard.checkpoint), "heard_at": now, "failures": 0, "reason": None}
    async with database.transaction(lease.tenant_id) as session:
        await leases.hold(session, lease)
        if arrivals:
            await inbox.add(session, arrivals)
        for each in heard.missed:
            await gaps.note(
                session, streams=each.streams, since=each.since, until=each.until,
                reason=each.reason, **whose,
            )  # fmt: skip
        await session.execute(
            insert(Feed)
            .values(**whose, **state)
            .on_conflict_do_update(index_elements=["connection_id"], set_=state)
        )


async def rest(
    database: Database, lease: Lease, reason: str, wait: timedelta | None = None
) -> None:
    """It came to nothing: listening goes on after `wait`, or after longer and longer times."""
    backing_off = func.least(
        RETRY_AFTER * func.power(2, func.least(Feed.failures, 20)), MAX_RETRY_AFTER
    )
    failing = {"reason": reason, "failures": Feed.failures + 1}
    async with database.transaction(lease.tenant_id) as session:
        await leases.hold(session, lease)
        await session.execute(
            insert(Feed)
            .values(
                tenant_id=lease.tenant_id, connection_id=lease.connection_id, state={},
                failures=1, reason=reason, due_at=func.now() + (wait or RETRY_AFTER),
            )
            .on_conflict_do_update(
                index_elements=["connection_id"],
                set_={**failing, "due_at": func.now() + (backing_off if wait is None else wait)},
            )
        )  # fmt: skip
