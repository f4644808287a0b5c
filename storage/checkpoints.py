"""Checkpoints: how far each stream of a connection has been read, and its scan under way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Checkpoint
from storage.database import Database
from storage.models import CheckpointRow, Seen


@dataclass(frozen=True)
class Saved:
    """A stream's progress. `scan_id` is set while a full scan of it is under way."""

    state: Checkpoint
    scan_id: UUID | None
    scan_started_at: datetime | None
    dirty_generation: int
    last_synced_at: datetime | None


async def load(session: AsyncSession, connection_id: UUID) -> dict[str, Saved]:
    """What is saved of each stream that was ever read."""
    found = await session.scalars(
        select(CheckpointRow).where(CheckpointRow.connection_id == connection_id)
    )
    return {
        row.stream: Saved(
            Checkpoint(row.state),
            row.scan_id,
            row.scan_started_at,
            row.dirty_generation,
            row.last_synced_at,
        )
        for row in found
    }


async def synced(
    database: Database, connection_ids: Sequence[UUID]
) -> dict[UUID, dict[str, datetime | None]]:
    """When each stream of these connections was last read to its end; of those ever read."""
    query = select(
        CheckpointRow.connection_id, CheckpointRow.stream, CheckpointRow.last_synced_at
    ).where(CheckpointRow.connection_id.in_(connection_ids))
    found: dict[UUID, dict[str, datetime | None]] = {}
    async with database.dispatching() as session:
        for connection_id, stream, at in await session.execute(query):
            found.setdefault(connection_id, {})[stream] = at
    return found


async def save(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    stream: str,
    state: Mapping[str, Any],
    done: bool,
) -> None:
    """Saves progress; `done` says that the stream was read to its end, and its scan is over."""
    changes: dict[str, Any] = {"state": dict(state), "updated_at": func.now()}
    swept: dict[str, Any] = {}
    if done:
        changes |= {"last_synced_at": func.now(), "scan_id": None, "scan_started_at": None}
        scanned = CheckpointRow.scan_id.is_not(None)
        swept = {"swept_at": case((scanned, func.now()), else_=CheckpointRow.swept_at)}
    await _put(session, tenant_id, connection_id, stream, changes, **swept)


async def mark_dirty(
    session: AsyncSession, *, tenant_id: UUID, connection_id: UUID, streams: Iterable[str]
) -> None:
    """Something changed in these streams: they are to be read, whatever is being read of them."""
    for stream in sorted(set(streams)):
        await session.execute(
            insert(CheckpointRow)
            .values(
                tenant_id=tenant_id, connection_id=connection_id, stream=stream, dirty_generation=1
            )
            .on_conflict_do_update(
                index_elements=["connection_id", "stream"],
                set_={"dirty_generation": CheckpointRow.dirty_generation + 1},
            )
        )


async def mark_read(
    session: AsyncSession, *, connection_id: UUID, stream: str, generation: int
) -> None:
    """All that was said up to that generation is read: it was the stream's before the read."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id == connection_id, CheckpointRow.stream == stream)
        .values(read_generation=generation, dirty_due_at=None)
        .execution_options(synchronize_session=False)
    )


async def dirty(session: AsyncSession, connection_id: UUID) -> list[str]:
    """The streams of which something was said that has not been read, and may be read now."""
    found = await session.scalars(
        select(CheckpointRow.stream)
        .where(
            CheckpointRow.connection_id == connection_id,
            CheckpointRow.dirty_generation > CheckpointRow.read_generation,
            or_(CheckpointRow.dirty_due_at.is_(None), CheckpointRow.dirty_due_at <= func.now()),
        )
        .order_by(CheckpointRow.stream)
    )
    return list(found)


async def put_off(
    session: AsyncSession, connection_id: UUID, streams: Iterable[str], wait: timedelta
) -> None:
    """Reading these failed: not at once again."""
    await session.execute(
        update(CheckpointRow)
        .where(
            CheckpointRow.connection_id == connection_id, CheckpointRow.stream.in_(list(streams))
        )
        .values(dirty_due_at=func.now() + wait)
        .execution_options(synchronize_session=False)
    )


async def begin_scan(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    stream: str,
    scan_id: UUID,
    started_at: datetime,
) -> None:
    """Starts a full scan from the beginning; what older ones had seen is forgotten.

    `started_at` is of the clock that observes records: it tells what the scan cannot have seen.
    """
    await session.execute(
        delete(Seen)
        .where(
            Seen.connection_id == connection_id,
            Seen.scan_id.in_(
                select(CheckpointRow.scan_id).where(
                    CheckpointRow.connection_id == connection_id, CheckpointRow.stream == stream
                )
            ),
        )
        .execution_options(synchronize_session=False)
    )
    changes = {
        "state": {},
        "scan_id": scan_id,
        "scan_started_at": started_at,
        "updated_at": func.now(),
    }
    await _put(session, tenant_id, connection_id, stream, changes)


async def _put(
    session: AsyncSession,
    tenant_id: UUID,
    connection_id: UUID,
    stream: str,
    changes: dict[str, Any],
    **changes_of_old: Any,
) -> None:
    await session.execute(
        insert(CheckpointRow)
        .values(tenant_id=tenant_id, connection_id=connection_id, stream=stream, **changes)
        .on_conflict_do_update(
            index_elements=["connection_id", "stream"], set_={**changes, **changes_of_old}
        )
    )
