"""Backfills that are owed: committed with a connection, and taken off once Prefect has the run."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update

from storage import connections
from storage.database import Database
from storage.models import Connection, Status


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


async def taken(database: Database, connection_id: UUID, owed_at: datetime) -> None:
    """Prefect has this one; a newer one stays owed."""
    async with database.dispatching() as session:
        await session.execute(
            update(Connection)
            .where(Connection.id == connection_id, Connection.backfill_owed_at == owed_at)
            .values(backfill_owed_at=None)
        )
