"""What syncs did, as somebody asks who follows one: the newest first, or one by its run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal, select, tuple_

from storage.database import Database
from storage.models import Failure, Lease, SyncRun


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A sync that has begun; `flow_run_id` is its run at Prefect, `streams` what it did to each."""

    id: UUID
    flow_run_id: UUID
    tenant_id: UUID
    connection_id: UUID
    trigger: str
    status: str
    failure: Failure | None
    message: str
    streams: Mapping[str, Any]
    started_at: datetime
    ended_at: datetime | None


async def of_flow_run(database: Database, flow_run_id: UUID) -> Noted | None:
    """What a run has done last, of whichever tenant; None where it has begun nothing."""
    query = (
        select(SyncRun)
        .where(SyncRun.flow_run_id == flow_run_id)
        .order_by(SyncRun.started_at.desc())
        .limit(1)
    )
    async with database.dispatching() as session:
        found = await session.scalar(query)
    return _noted(found) if found else None


async def page(
    database: Database,
    connection_id: UUID,
    *,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Noted]:
    """A connection's syncs, the newest first; those `before` a time and id, if given."""
    query = select(SyncRun).where(
        SyncRun.connection_id == connection_id, SyncRun.flow_run_id.is_not(None)
    )
    if before is not None:
        query = query.where(
            tuple_(SyncRun.started_at, SyncRun.id) < tuple_(*(literal(each) for each in before))
        )
    query = query.order_by(SyncRun.started_at.desc(), SyncRun.id.desc()).limit(limit)
    async with database.dispatching() as session:
        return [_noted(row) for row in await session.scalars(query)]


async def under_way(database: Database, connection_id: UUID) -> Noted | None:
    """The sync that is at work on a connection now: it has not ended, and its lease lives."""
    leased = select(Lease.epoch).where(
        Lease.connection_id == connection_id,
        Lease.kind == "sync",
        Lease.expires_at > func.clock_timestamp(),
    )
    query = (
        select(SyncRun)
        .where(
            SyncRun.connection_id == connection_id,
            SyncRun.flow_run_id.is_not(None),
            SyncRun.ended_at.is_(None),
            leased.exists(),
        )
        .order_by(SyncRun.started_at.desc())
        .limit(1)
    )
    async with database.dispatching() as session:
        found = await session.scalar(query)
    return _noted(found) if found else None


def _noted(row: SyncRun) -> Noted:
    if row.flow_run_id is None:
        raise TypeError("asked for by its run, and has none")
    return Noted(
        id=row.id,
        flow_run_id=row.flow_run_id,
        tenant_id=row.tenant_id,
        connection_id=row.connection_id,
        trigger=row.trigger,
        status=row.status,
        failure=Failure(row.failure) if row.failure else None,
        message=row.message,
        streams=row.streams,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
