"""What schedules are made from: who is connected on which tier, and whether that has changed."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select

from storage import watches
from storage.connections import Connection
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import DeployMark, Status, Tier, Watch
from storage.shards import shard_in_sql

_LINE = func.hashtextextended("schedules", 0)


@dataclass(frozen=True)
class Group:
    """How many active connections an integration has on a tier."""

    integration: str
    tier: Tier
    connections: int


async def groups(database: Database, *, overdue: timedelta | None = None) -> list[Group]:
    """Every integration and tier that has active connections, in their order.

    With `overdue`, only connections that have been due for so long count.
    """
    query = (
        select(ConnectionRow.integration, ConnectionRow.tier, func.count())
        .where(ConnectionRow.status == Status.ACTIVE)
        .group_by(ConnectionRow.integration, ConnectionRow.tier)
    )
    if overdue is not None:
        query = query.where(ConnectionRow.next_due_at < func.now() - overdue)
    async with database.dispatching() as session:
        rows = (await session.execute(query)).all()
    found = [Group(integration, Tier(tier), count) for integration, tier, count in rows]
    return sorted(found, key=lambda group: (group.integration, group.tier.rank))


async def group_size(database: Database, integration: str, tier: Tier) -> int:
    """How many active connections an integration has on that tier."""
    async with database.dispatching() as session:
        return await session.scalar(_of_group(select(func.count()), integration, tier)) or 0


async def overdue_shards(
    database: Database, integration: str, tier: Tier, *, since: timedelta, shards: int
) -> list[int]:
    """The shards of a group in which connections have been due for so long."""
    query = _of_group(select(shard_in_sql(shards)).distinct(), integration, tier)
    async with database.dispatching() as session:
        found = await session.scalars(query.where(ConnectionRow.next_due_at < func.now() - since))
        return sorted(found)


def _of_group(query: Select[Any], integration: str, tier: Tier) -> Select[Any]:
    return query.select_from(ConnectionRow).where(
        ConnectionRow.integration == integration,
        ConnectionRow.tier == tier,
        ConnectionRow.status == Status.ACTIVE,
    )


@dataclass(frozen=True)
class Marks:
    """Changes that no schedule shows yet: when the first and the last were made, before now."""

    ids: Collection[int]
    oldest: timedelta
    newest: timedelta


async def marks(database: Database) -> Marks | None:
    """The marks there are; None without any."""
    age = func.clock_timestamp() - DeployMark.made_at
    query = select(func.array_agg(DeployMark.id), func.max(age), func.min(age))
    async with database.dispatching() as session:
        ids, oldest, newest = (await session.execute(query)).one()
    return Marks(ids, oldest, newest) if ids else None


async def unmark(database: Database, seen: Marks) -> None:
    """The schedules show these; a mark that was made meanwhile stays."""
    async with database.dispatching() as session:
        await session.execute(delete(DeployMark).where(DeployMark.id.in_(seen.ids)))


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[bool]:
    """Whether nobody else makes schedules now; until the block ends, nobody else does."""
    async with database.dispatching() as session:
        yield bool(await session.scalar(select(func.pg_try_advisory_xact_lock(_LINE))))


@dataclass(frozen=True)
class Timing:
    """When a connection is due next, and its live watches: the resource of each, and until when.

    `refused` is why the vendor has last refused us one.
    """

    next_due_at: datetime | None
    watches: Mapping[str, datetime | None]
    refused: str | None


async def timing(database: Database, connection: Connection) -> Timing:
    """What is due of one connection, and what becomes of its watches."""
    of_this = Watch.connection_id == connection.id
    living = select(Watch.resource, Watch.expires_at).where(of_this, watches.live())
    refused = select(func.max(Watch.reason)).where(of_this, Watch.status == "refused")
    due = select(ConnectionRow.next_due_at).where(ConnectionRow.id == connection.id)
    async with database.dispatching() as session:
        found = {resource: until for resource, until in await session.execute(living)}
        return Timing(await session.scalar(due), found, await session.scalar(refused))
