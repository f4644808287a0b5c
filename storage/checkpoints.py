"""Checkpoints: how far each stream of a connection has been read, and its scan under way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import case, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Checkpoint, Unread
from storage.database import Database
from storage.failures import failure_of
from storage.models import CheckpointRow

# Only an administrator of the tenant's can end a refusal: a sync an hour would be red for nothing.
REFUSED_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Saved:
    """A stream's progress. `scan_id` is set while a full scan of it is under way, `refill` while
    older rows are given the fields that they lack; `unread` are {"part", "failure", "error"};
    `refusal` is why the vendor refuses the whole stream."""

    state: Checkpoint
    scan_id: UUID | None
    scan_started_at: datetime | None
    dirty_generation: int
    last_synced_at: datetime | None
    failures: int = 0
    restarted_at: datetime | None = None
    shape: str | None = None
    refill: Checkpoint | None = None
    unread: Sequence[Mapping[str, str]] = ()
    refusal: str | None = None
    refused_until: datetime | None = None


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
            row.failures,
            row.restarted_at,
            row.shape,
            None if row.refill is None else Checkpoint(row.refill),
            row.unread,
            row.refusal,
            row.refused_until,
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


async def refused(database: Database, connection_ids: Sequence[UUID]) -> dict[UUID, set[str]]:
    """The streams of these connections that no scheduled sync is to ask for now."""
    query = select(CheckpointRow.connection_id, CheckpointRow.stream).where(
        CheckpointRow.connection_id.in_(connection_ids), CheckpointRow.refused_until > func.now()
    )
    found: dict[UUID, set[str]] = {}
    async with database.dispatching() as session:
        for connection_id, stream in await session.execute(query):
            found.setdefault(connection_id, set()).add(stream)
    return found


async def save(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    stream: str,
    state: Mapping[str, Any],
    done: bool,
    unread: Sequence[Unread] | None = None,
) -> None:
    """Saves progress; `done` says that the stream was read to its end, and its scan is over.

    `unread` are the parts of it that cannot be read now; None leaves what was saved of them.
    """
    changes: dict[str, Any] = {"state": dict(state), "updated_at": func.now()}
    moved = cast(dict(state), JSONB) != CheckpointRow.state
    swept: dict[str, Any] = {"failures": case((moved, 0), else_=CheckpointRow.failures)}
    if unread is not None:
        changes["unread"] = [
            {"part": one.part, "failure": failure_of(one.error), "error": str(one.error)}
            for one in unread
        ]
    if done:
        changes |= {"last_synced_at": func.now(), "scan_id": None, "scan_started_at": None}
        changes |= {"refusal": None, "refused_until": None}
        scanned = CheckpointRow.scan_id.is_not(None)
        swept = {
            "swept_at": case((scanned, func.now()), else_=CheckpointRow.swept_at),
            "failures": 0,
        }
    await _put(session, tenant_id, connection_id, stream, changes, **swept)


async def refill(
    session: AsyncSession, *, connection_id: UUID, stream: str, state: Checkpoint | None
) -> None:
    """How far a read that gives older rows the fields they lack has come; None: it is over."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id == connection_id, CheckpointRow.stream == stream)
        .values(refill=None if state is None else dict(state))
        .execution_options(synchronize_session=False)
    )


async def refill_all(
    session: AsyncSession, *, connection_ids: Sequence[UUID], streams: Sequence[str]
) -> None:
    """The vendor may show more of each record from now on: older rows are to be filled in."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id.in_(connection_ids), CheckpointRow.stream.in_(streams))
        .values(refill=cast({}, JSONB))
        .execution_options(synchronize_session=False)
    )


async def note_shape(
    session: AsyncSession, *, connection_id: UUID, stream: str, shape: str, refills: bool
) -> None:
    """Which fields records have from now on; if it `refills`, rows that have others are to be
    filled in. The next read of a snapshot does so by itself."""
    former = CheckpointRow.shape
    await session.execute(
        update(CheckpointRow)
        .where(
            CheckpointRow.connection_id == connection_id,
            CheckpointRow.stream == stream,
            former.is_distinct_from(shape),
        )
        .values(shape=shape, refill=case((former.is_not(None) & refills, cast({}, JSONB))))
        .execution_options(synchronize_session=False)
    )


async def stumbled(session: AsyncSession, *, connection_id: UUID, stream: str) -> None:
    """A read of the stream failed for a reason that only we can mend."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id == connection_id, CheckpointRow.stream == stream)
        .values(failures=CheckpointRow.failures + 1)
        .execution_options(synchronize_session=False)
    )


async def refuse(
    session: AsyncSession, *, tenant_id: UUID, connection_id: UUID, stream: str, reason: str
) -> None:
    """The vendor refuses the stream: scheduled syncs leave it out for a day."""
    changes = {"refusal": reason, "refused_until": func.now() + REFUSED_FOR}
    await _put(session, tenant_id, connection_id, stream, changes)


async def ask_for_refused(session: AsyncSession, connection_ids: Sequence[UUID]) -> None:
    """Something may have ended the refusals: the next sync asks for those streams, too."""
    await session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.connection_id.in_(connection_ids), CheckpointRow.refusal.is_not(None))
        .values(refused_until=None)
        .execution_options(synchronize_session=False)
    )


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
    restarted: bool = False,
) -> None:
    """Starts a full scan from the beginning; what an older one had seen is upkeep's to forget.

    `restarted` notes that it is because the stream failed again and again where it stood.

    `started_at` is of the clock that observes records: it tells what the scan cannot have seen.
    """
    changes = {
        "state": {},
        "scan_id": scan_id,
        "scan_started_at": started_at,
        "updated_at": func.now(),
    }
    if restarted:
        changes |= {"failures": 0, "restarted_at": func.now()}
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
