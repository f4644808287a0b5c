"""Backfills that are owed: committed with a connection, and owed until a run of theirs has begun.

First nobody has asked for it (`backfill_owed_at`), then Prefect has taken a run
(`backfill_run_id`). It has begun once that run has noted a sync. A run that never will makes it
owed anew, under a later time and so under another key.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update

from storage import connections
from storage.database import Database
from storage.models import Connection, Status, SyncRun


@dataclass(frozen=True)
class Asked:
    """A backfill that Prefect has a run for; `tries` is how many runs before it never began."""

    connection_id: UUID
    flow_run_id: UUID
    tries: int


async def owed(
    database: Database, *, limit: int = 50
) -> list[tuple[connections.Connection, datetime]]:
    """The connections whose backfill is still to be started, with the time since when."""
    query = (
        select(Connection.id, Connection.backfill_owed_at)
        .where(Connection.backfill_owed_at.is_not(None), Connection.status == Status.ACTIVE)
        .order_by(Connection.backfill_owed_at)
        .limit(limit)
    )
    async with database.dispatching() as session:
        found = (await session.execute(query)).all()
    return [(await connections.get(database, id), at) for id, at in found if at is not None]


async def owed_since(database: Database, connection_id: UUID) -> datetime | None:
    """Since when a connection's backfill is still to be started; None where none is."""
    query = select(Connection.backfill_owed_at).where(Connection.id == connection_id)
    async with database.dispatching() as session:
        return await session.scalar(query)


async def taken(
    database: Database, connection_id: UUID, owed_at: datetime, flow_run_id: UUID
) -> None:
    """Prefect has this run for it; a newer one stays owed."""
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(Connection.id == connection_id, Connection.backfill_owed_at == owed_at)
            .values(backfill_owed_at=None, backfill_run_id=flow_run_id)
        )


async def asked(database: Database) -> list[Asked]:
    """Those that Prefect has a run for which has not begun; the others are settled by this."""
    noted = select(SyncRun.id).where(
        SyncRun.connection_id == Connection.id, SyncRun.flow_run_id == Connection.backfill_run_id
    )
    query = select(
        Connection.id, Connection.backfill_run_id, Connection.backfill_tries
    ).where(Connection.backfill_run_id.is_not(None))  # fmt: skip
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(Connection.backfill_run_id.is_not(None), noted.exists())
            .values(backfill_run_id=None, backfill_tries=0)
            .execution_options(synchronize_session=False)
        )
        rows = (await session.execute(query)).all()
    return [Asked(id, run_id, tries) for id, run_id, tries in rows if run_id is not None]


async def settle(database: Database, one: Asked) -> None:
    """Nothing is owed any more for that run."""
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(
                Connection.id == one.connection_id,
                Connection.backfill_run_id == one.flow_run_id,
            )
            .values(backfill_run_id=None, backfill_tries=0)
        )


async def owe_again(database: Database, one: Asked) -> None:
    """That run never begins: the backfill is to be started anew."""
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(
                Connection.id == one.connection_id,
                Connection.backfill_run_id == one.flow_run_id,
            )
            .values(
                backfill_owed_at=func.coalesce(Connection.backfill_owed_at, func.clock_timestamp()),
                backfill_run_id=None,
                backfill_tries=Connection.backfill_tries + 1,
            )
        )
