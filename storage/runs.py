"""What each sync did."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import DateTime, Double, and_, cast, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from connectors import Unread
from storage import connections, notices
from storage.connections import Connection
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import Failure, Grant, Lease, Status, SyncRun

LOST = "its process ended without a word"
# A process that lives renews its leases within so long of a restart of PostgreSQL.
RENEWED_WITHIN = timedelta(seconds=30)


class Outcome(Protocol):
    """What a run did to one stream."""

    @property
    def inserted(self) -> int: ...
    @property
    def updated(self) -> int: ...
    @property
    def deleted(self) -> int: ...
    @property
    def pages(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def error(self) -> str | None: ...
    @property
    def unread(self) -> Sequence[Unread]: ...


async def start(
    database: Database, connection: Connection, *, trigger: str, flow_run_id: UUID | None = None
) -> UUID:
    """Notes that a sync has begun."""
    run_id = uuid4()
    async with database.transaction(connection.tenant_id) as session:
        session.add(
            SyncRun(
                id=run_id,
                tenant_id=connection.tenant_id,
                connection_id=connection.id,
                trigger=trigger,
                flow_run_id=flow_run_id,
            )
        )
    return run_id


async def finish(
    database: Database,
    run_id: UUID,
    connection: Connection,
    *,
    outcomes: Mapping[str, Outcome],
    requests: int,
    error: str | None = None,
    failure: Failure = Failure.OURS,
    wait: timedelta = timedelta(),
    stopped: str = "",
) -> None:
    """Notes how a sync ended, on the run and on its connection.

    `failure` says who must act on an `error`, and `wait` how long the vendor asked us to wait;
    `stopped`, why the sync left early where nothing went wrong.
    """
    status = "failed" if error else "stopped" if stopped else "completed"
    took = func.extract("epoch", func.clock_timestamp() - SyncRun.started_at)
    async with database.transaction(connection.tenant_id) as session:
        await session.execute(
            update(SyncRun)
            .where(SyncRun.id == run_id)
            .values(
                ended_at=func.clock_timestamp(),
                status=status,
                failure=failure if error else None,
                message=error or stopped,
                streams={name: _outcome_as_json(outcome) for name, outcome in outcomes.items()},
                requests=requests,
                seconds=cast(took, Double),
            )
            .execution_options(synchronize_session=False)
        )
        if error and failure is Failure.BROKEN:
            await break_off(session, connection, error)
        elif error:
            partly = any(outcome.done for outcome in outcomes.values())
            await connections.mark_failed(
                session, connection.id, error, failure=failure, partly=partly, wait=wait
            )
        elif not stopped:
            await connections.mark_synced(session, connection.id)


async def break_off(
    session: AsyncSession,
    connection: Connection,
    reason: str,
    *,
    revoked_at: datetime | None = None,
) -> None:
    """The connection waits for its tenant, whom we notify; `revoked_at` if the vendor revoked it.

    A late report of the vendor's, on a consent given or proven anew since, counts no more.
    """
    granted_at = (
        select(func.coalesce(Grant.refreshed_at, Grant.created_at))
        .where(Grant.id == connection.grant_id)
        .scalar_subquery()
    )
    # Not if the tenant has paused or renewed the connection while the sync was failing. The
    # vendor may revoke for good what waits for a new consent: it refused its token just before.
    stands = [Status.ACTIVE, *([Status.NEEDS_REAUTH] if revoked_at else [])]
    broken = await session.scalar(
        update(ConnectionRow)
        .where(
            ConnectionRow.id == connection.id,
            ConnectionRow.grant_id == connection.grant_id,
            ConnectionRow.status.in_(stands),
            *([granted_at <= revoked_at] if revoked_at else []),
        )
        .values(
            status=Status.REVOKED if revoked_at else Status.NEEDS_REAUTH,
            status_reason=reason,
            failure=Failure.BROKEN,
            claimed_due_at=None,
        )
        .returning(ConnectionRow.id)
        .execution_options(synchronize_session=False)
    )
    if broken:
        await notices.announce(
            session,
            tenant_id=connection.tenant_id,
            grant_id=connection.grant_id,
            integration=connection.integration,
            reason=reason,
        )


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "rows": outcome.inserted + outcome.updated,
        "deletes": outcome.deleted,
        "pages": outcome.pages,
        "error": outcome.error,
        "unread": [{"part": one.part, "error": str(one.error)} for one in outcome.unread],
    }


async def failure_in(
    database: Database, connection_id: UUID, flow_run_id: UUID | None
) -> Failure | None:
    """Why a flow run's sync of that connection failed; None if it did not, or was not noted."""
    query = select(SyncRun.failure).where(
        SyncRun.connection_id == connection_id, SyncRun.flow_run_id == flow_run_id
    )
    async with database.dispatching() as session:
        found = await session.scalar(query)
    return Failure(found) if found else None


async def requests_in(database: Database, connection_id: UUID, flow_run_id: UUID | None) -> int:
    """How many calls a flow run's sync of that connection has made."""
    query = select(func.coalesce(func.sum(SyncRun.requests), 0)).where(
        SyncRun.connection_id == connection_id, SyncRun.flow_run_id == flow_run_id
    )
    async with database.dispatching() as session:
        return int((await session.execute(query)).scalar_one())


async def lives(database: Database, flow_run_id: UUID, connection_id: UUID) -> bool:
    """Whether a flow run's sync goes on, or any of its connection does; `end_lost` was called."""
    unended = select(SyncRun.id).where(
        SyncRun.connection_id == connection_id,
        SyncRun.flow_run_id == flow_run_id,
        SyncRun.ended_at.is_(None),
    )
    leased = select(Lease.epoch).where(
        Lease.connection_id == connection_id,
        Lease.kind == "sync",
        Lease.expires_at > func.clock_timestamp(),
    )
    async with database.dispatching() as session:
        return bool(await session.scalar(select(or_(unended.exists(), leased.exists()))))


async def end_lost(database: Database) -> int:
    """Ends the runs whose process is gone, as their leases tell; how many there were.

    It counts as a failure of the connection: what kills its process each time must not do so at
    every tick. A lease that ran out while PostgreSQL was away could not be renewed.
    """
    up_since = func.pg_postmaster_start_time(type_=DateTime(timezone=True))
    leased = select(Lease.epoch).where(
        Lease.connection_id == SyncRun.connection_id,
        Lease.kind == "sync",
        or_(
            Lease.expires_at > func.clock_timestamp(),
            and_(
                Lease.expires_at < up_since,
                up_since > func.clock_timestamp() - literal(RENEWED_WITHIN),
            ),
        ),
    )
    # A sync lease has one holder: of several unended runs only the newest can live.
    newer = aliased(SyncRun)
    superseded = select(newer.id).where(
        newer.connection_id == SyncRun.connection_id, newer.started_at > SyncRun.started_at
    )
    async with database.dispatching() as session:
        lost = await session.scalars(
            update(SyncRun)
            .where(SyncRun.ended_at.is_(None), or_(~leased.exists(), superseded.exists()))
            .values(
                ended_at=func.clock_timestamp(),
                status="crashed",
                failure=Failure.OURS,
                message=LOST,
            )
            .returning(SyncRun.connection_id)
            .execution_options(synchronize_session=False)
        )
        ids = list(lost)
        for connection_id in set(ids):
            await connections.mark_failed(session, connection_id, LOST)
    return len(ids)
