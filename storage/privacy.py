"""What the law asks for through a vendor: what is held is erased or reported, and logged."""

from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Effect, load
from storage.connections import Connection
from storage.inbox import Taken
from storage.models import CheckpointRow, RecordRow
from storage.models import Event as EventRow
from storage.oauth_log import record


async def comply(session: AsyncSession, connection: Connection, event: Taken) -> None:
    """Does what the event asks for; the tombstone of what is to be erased is there already."""
    title = load(connection.integration).title
    of = f"{event.streams[0]} {event.key}" if event.streams else "the account"
    if event.effect is Effect.PURGE:
        count = await _purge(session, connection.id)
        outcome, told = "purged", f"{title} asked to forget the account: {count:,} records deleted"
    elif event.effect is Effect.ERASE:
        await _empty(session, connection, event)
        outcome, told = "erased", f"{title} asked to forget {of}: nothing of it is left"
    else:
        outcome = "asked"
        told = f"{title}: a person asks what is held of them in {of}; answer within 30 days"
    record(
        session,
        tenant_id=connection.tenant_id,
        grant_id=connection.grant_id,
        integration=connection.integration,
        event="privacy",
        outcome=outcome,
        message=told,
    )


async def _empty(session: AsyncSession, connection: Connection, event: Taken) -> None:
    """Nothing stays but the tombstone, which keeps older reads from bringing the record back."""
    await session.execute(
        update(RecordRow)
        .where(
            RecordRow.stream == f"{connection.integration}.{event.streams[0]}",
            RecordRow.connection_id == connection.id,
            RecordRow.record_id == event.key,
        )
        .values(
            data={}, content_hash=b"", deleted_at=func.coalesce(RecordRow.deleted_at, func.now())
        )
        .execution_options(synchronize_session=False)
    )


async def _purge(session: AsyncSession, connection_id: UUID) -> int:
    """How many records there were. If the account is still read, that begins from the start."""
    ours = RecordRow.connection_id == connection_id
    count = await session.scalar(select(func.count()).select_from(RecordRow).where(ours))
    await session.execute(delete(RecordRow).where(ours))
    await session.execute(delete(CheckpointRow).where(CheckpointRow.connection_id == connection_id))
    await session.execute(
        update(EventRow)
        .where(EventRow.connection_id == connection_id)
        .values(data=EventRow.data.op("-")("record"))
        .execution_options(synchronize_session=False)
    )
    return count or 0
