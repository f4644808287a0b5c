"""Gaps: times in which we may have missed changes, until a read of them closes each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.models import Connection, Gap, Status

# A claim that its process did not come back from runs out; a failed read is tried again after it.
CLAIM = timedelta(minutes=10)
# All connections of an integration at once would be a stampede.
EACH, SPREAD = timedelta(seconds=1), timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Open:
    """A gap that no read has closed yet."""

    id: int
    connection_id: UUID
    streams: tuple[str, ...]
    since: datetime
    until: datetime
    reason: str


async def note(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    streams: Sequence[str],
    since: datetime,
    until: datetime,
    reason: str,
) -> None:
    """Of one connection; in its tenant's transaction."""
    session.add(
        Gap(
            tenant_id=tenant_id,
            connection_id=connection_id,
            streams=list(streams),
            since=since,
            until=until,
            reason=reason,
            due_at=until,
        )
    )


async def note_all(
    database: Database,
    integration: str,
    streams: Sequence[str],
    *,
    since: datetime,
    until: datetime,
    reason: str,
) -> int:
    """Of every active connection of an integration, closed one after the other; how many."""
    affected = (Connection.integration == integration, Connection.status == Status.ACTIVE)
    count = select(func.count()).select_from(Connection).where(*affected).scalar_subquery()
    share = func.get_byte(func.uuid_send(Connection.id), 14) / 256.0
    wait = func.least(count * literal(EACH), literal(SPREAD)) * share
    of: Select[tuple[object, ...]] = select(
        Connection.tenant_id, Connection.id, literal(list(streams), JSONB), literal(since),
        literal(until), literal(reason), literal(until) + wait,
    ).where(*affected)  # fmt: skip
    names = ["tenant_id", "connection_id", "streams", "since", "until", "reason", "due_at"]
    async with database.dispatching() as session:
        noted = await session.execute(insert(Gap).from_select(names, of).returning(Gap.id))
        return len(noted.all())


async def claim(database: Database, *, now: datetime, limit: int = 50) -> list[Open]:
    """Gaps that are due, taken so that nobody else closes them."""
    due = (
        select(Gap.id)
        .join(Connection, Connection.id == Gap.connection_id)
        .where(Gap.closed_at.is_(None), Gap.due_at <= now, Connection.status == Status.ACTIVE)
        .order_by(Gap.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Gap)
    )
    async with database.dispatching() as session:
        taken = await session.scalars(
            update(Gap)
            .where(Gap.id.in_(due))
            .values(due_at=now + CLAIM)
            .returning(Gap)
            .execution_options(synchronize_session=False)
        )
        return [_open(gap) for gap in taken]


async def of_connection(database: Database, connection_id: UUID) -> list[Open]:
    """Those of a connection, the oldest first."""
    open_ = (
        select(Gap)
        .where(Gap.connection_id == connection_id, Gap.closed_at.is_(None))
        .order_by(Gap.since)
    )
    async with database.dispatching() as session:
        return [_open(gap) for gap in await session.scalars(open_)]


async def close(database: Database, ids: Sequence[int], now: datetime) -> None:
    """What happened in them is in the tables."""
    async with database.dispatching() as session:
        await session.execute(
            update(Gap)
            .where(Gap.id.in_(ids))
            .values(closed_at=now)
            .execution_options(synchronize_session=False)
        )


def _open(gap: Gap) -> Open:
    return Open(
        id=gap.id,
        connection_id=gap.connection_id,
        streams=tuple(gap.streams),
        since=gap.since,
        until=gap.until,
        reason=gap.reason,
    )
