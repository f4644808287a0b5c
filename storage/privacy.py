"""What the law asks for through a vendor: announced, carried out or withdrawn, and logged.

What is to be erased waits as long as its vendor says, in the inbox. Until then it is withdrawn when
the account is connected again, when the vendor's own answer belies it, or by the operator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import BigInteger

from connectors import Effect
from integrations import load
from storage.connections import Connection
from storage.database import Database
from storage.inbox import Taken
from storage.models import CheckpointRow, RecordRow
from storage.models import Event as EventRow
from storage.oauth_log import record

RECONNECTED = "withdrawn: the account was connected again"
BY_OPERATOR = "withdrawn by the operator"


@dataclass(frozen=True, kw_only=True)
class Duty:
    """Something that the law asks for and that is not done yet."""

    id: int
    tenant: str
    integration: str
    type: str
    received_at: datetime
    due_at: datetime


def announce(session: AsyncSession, connection: Connection, event: Taken, due: datetime) -> None:
    """That it will be carried out, when, and how it can be withdrawn until then."""
    title = load(connection.integration).title
    again = "connecting the account again, or " if event.effect is Effect.PURGE else ""
    message = f"{title} asks to forget {_of(event)}: that is done after {due:%Y-%m-%d %H:%M} UTC, "
    message += f"unless it is withdrawn before, by {again}`atom-sync events withdraw {event.id}`"
    _log(session, connection, "privacy", "announced", message)


def belied(session: AsyncSession, connection: Connection, event: Taken) -> None:
    """Nothing is done for an event that says our access is over, while the vendor grants it."""
    title = load(connection.integration).title
    message = f"{title} delivered {event.type}, but still lets us in: nothing was changed"
    _log(session, connection, "privacy" if event.effect.is_duty else "revoke", "refused", message)


async def comply(session: AsyncSession, connection: Connection, event: Taken) -> None:
    """Does what the event asks for; the tombstone of a key to be erased is there already."""
    title, of = load(connection.integration).title, _of(event)
    if event.effect is Effect.PURGE:
        count = await _purge(session, connection.id)
        outcome = "purged"
        message = f"{title} asked to forget the account: {count:,} records deleted"
    elif event.effect is Effect.ERASE and (event.key or event.where):
        await _empty(session, connection, event)
        outcome, message = "erased", f"{title} asked to forget {of}: nothing of it is left"
    elif event.effect is Effect.ERASE:
        outcome = "asked"
        message = f"{title} asks to forget {of}: find it at {title}, and what is held of it here"
    else:
        outcome = "asked"
        message = f"{title}: a person asks what is held of them in {of}; answer within 30 days"
    _log(session, connection, "privacy", outcome, message)


async def reconnected(session: AsyncSession, connection_ids: Sequence[UUID]) -> set[UUID]:
    """Withdraw the purges of accounts that are connected again; which of them had one."""
    found = await session.scalars(
        update(EventRow)
        .where(
            EventRow.connection_id.in_(connection_ids),
            EventRow.applied_at.is_(None),
            EventRow.data["effect"].astext == Effect.PURGE,
        )
        .values(applied_at=func.now(), failed_at=None, error=RECONNECTED)
        .returning(EventRow.connection_id)
        .execution_options(synchronize_session=False)
    )
    return set(found)


async def waiting(database: Database) -> list[Duty]:
    """What is not done yet, the next first."""
    query = text(
        """
        SELECT e.id, t.slug AS tenant, e.integration, e.type, e.received_at, e.due_at
        FROM events e JOIN tenants t ON t.id = e.tenant_id
        WHERE e.is_duty AND e.applied_at IS NULL ORDER BY e.due_at, e.id
        """
    )
    async with database.dispatching() as session:
        return [Duty(**row._mapping) for row in await session.execute(query)]


async def withdraw(database: Database, ids: Sequence[int]) -> int:
    """Duties that are not done yet never will be: the operator knows better. How many."""
    async with database.owning() as session:
        found = await session.execute(
            update(EventRow)
            .where(
                EventRow.id == func.any(bindparam("ids", list(ids), type_=ARRAY(BigInteger()))),
                EventRow.is_duty,
                EventRow.applied_at.is_(None),
            )
            .values(applied_at=func.now(), failed_at=None, error=BY_OPERATOR)
            .returning(EventRow.tenant_id, EventRow.integration, EventRow.type)
            .execution_options(synchronize_session=False)
        )
        rows = found.all()
        for tenant_id, integration, type in rows:
            record(
                session,
                tenant_id=tenant_id,
                grant_id=None,
                integration=integration,
                event="privacy",
                outcome="withdrawn",
                message=f"{type}: {BY_OPERATOR}",
            )
        return len(rows)


def _of(event: Taken) -> str:
    if not event.streams:
        return "the account"
    if event.key:
        return f"{event.streams[0]} {event.key}"
    by = " and ".join(path.rpartition(".")[2] for path in event.where)
    return f"one of {event.streams[0]}, named by {by or 'nothing that we know'}"


def _log(
    session: AsyncSession, connection: Connection, event: str, outcome: str, message: str
) -> None:
    record(
        session,
        tenant_id=connection.tenant_id,
        grant_id=connection.grant_id,
        integration=connection.integration,
        event=event,
        outcome=outcome,
        message=message,
    )


async def _empty(session: AsyncSession, connection: Connection, event: Taken) -> None:
    """Nothing stays but the tombstone, which keeps older reads from bringing the record back."""
    await session.execute(
        update(RecordRow)
        .where(
            RecordRow.stream == f"{connection.integration}.{event.streams[0]}",
            RecordRow.connection_id == connection.id,
            _named(event),
        )
        .values(
            data={},
            content_hash=b"",
            deleted_at=func.coalesce(RecordRow.deleted_at, func.now()),
            observed_at=func.greatest(RecordRow.observed_at, func.now()),
        )
        .execution_options(synchronize_session=False)
    )
    await _strip(session, EventRow.id == event.id)


def _named(event: Taken) -> ColumnElement[bool]:
    if event.key:
        return RecordRow.record_id == event.key
    return or_(
        *(
            func.lower(RecordRow.data[tuple(path.split("."))].astext) == value.lower()
            for path, value in event.where.items()
        )
    )


async def _purge(session: AsyncSession, connection_id: UUID) -> int:
    """How many records there were. If the account is still read, that begins from the start."""
    ours = RecordRow.connection_id == connection_id
    count = await session.scalar(select(func.count()).select_from(RecordRow).where(ours))
    await session.execute(delete(RecordRow).where(ours))
    await session.execute(delete(CheckpointRow).where(CheckpointRow.connection_id == connection_id))
    await _strip(session, EventRow.connection_id == connection_id)
    return count or 0


async def _strip(session: AsyncSession, which: ColumnElement[bool]) -> None:
    """Nothing of anybody stays in events."""
    await session.execute(
        update(EventRow)
        .where(which)
        .values(data=EventRow.data.op("-")("record").op("-")("where"))
        .execution_options(synchronize_session=False)
    )
