"""What each sync did, and the flag by which a worker's syncs are told to stop."""

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import Double, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage import connections, notices
from storage.connections import Connection
from storage.database import Database
from storage.models import Connection as ConnectionRow
from storage.models import Status, SyncRun, Worker


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
    def error(self) -> str | None: ...


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
    broken: bool = False,
    stopped: bool = False,
) -> None:
    """Notes how a sync ended, on the run and on its connection.

    `broken` says that only the tenant can repair it; `stopped`, that it was told to leave early.
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
                message=error or "",
                streams={name: _told(outcome) for name, outcome in outcomes.items()},
                requests=requests,
                seconds=cast(took, Double),
            )
            .execution_options(synchronize_session=False)
        )
        if broken:
            await break_off(session, connection, error or "")
        elif error:
            await connections.mark_failed(session, connection.id, error)
        elif not stopped:
            await connections.mark_synced(session, connection.id)


async def break_off(
    session: AsyncSession, connection: Connection, reason: str, *, revoked: bool = False
) -> None:
    """The connection waits for its tenant, who is told so; `revoked` if the vendor told us."""
    # Not if the tenant has paused or renewed the connection while the sync was failing.
    broken = await session.scalar(
        update(ConnectionRow)
        .where(
            ConnectionRow.id == connection.id,
            ConnectionRow.grant_id == connection.grant_id,
            ConnectionRow.status == Status.ACTIVE,
        )
        .values(status=Status.REVOKED if revoked else Status.NEEDS_REAUTH, status_reason=reason)
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


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "rows": outcome.inserted + outcome.updated,
        "deletes": outcome.deleted,
        "pages": outcome.pages,
        "error": outcome.error,
    }


async def request_stop(database: Database, worker: str) -> None:
    """Tells a worker's syncs to leave after the batch they are at."""
    await _flag(database, worker, stopping_at=func.now())


async def clear_stop(database: Database, worker: str) -> None:
    """A worker starts: what its predecessor was told is over."""
    await _flag(database, worker, stopping_at=None)


async def stopping(database: Database, worker: str) -> bool:
    """Whether that worker's syncs are to leave; read between batches."""
    async with database.dispatching() as session:
        found = await session.scalar(select(Worker.stopping_at).where(Worker.name == worker))
    return found is not None


async def _flag(database: Database, worker: str, **changes: Any) -> None:
    changes["heartbeat_at"] = func.now()
    async with database.dispatching() as session:
        await session.execute(
            insert(Worker)
            .values(name=worker, **changes)
            .on_conflict_do_update(index_elements=["name"], set_=changes)
        )
