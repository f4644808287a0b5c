"""A stream's records as a client reads them: page by page, all of them or those that changed.

Pages go by the record's key, so a record that changes while they are read is neither skipped nor
moved. The first page names the time to ask from next; whatever is stored later counts as changed
after it, since it goes back before every read that is still under way.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Text, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from storage.connections import Connection
from storage.database import Database
from storage.models import Event, Lease, RecordRow, SyncRun

MAX_BYTES = 8 * 2**20
CHUNK = 100
# Observations bear the clocks of the machines that read, runs that of the database.
SKEW = timedelta(seconds=10)
# An event that could not be applied for that long does not hold everybody back.
OLDEST_EVENT = timedelta(days=1)


@dataclass(frozen=True)
class Cursor:
    """Where the next page begins, and what all pages of one reading have in common."""

    after: str
    since: datetime | None
    until: datetime

    def __str__(self) -> str:
        since = self.since.isoformat() if self.since else None
        packed = orjson.dumps([self.after, since, self.until.isoformat()])
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError for what no page of ours gave."""
        try:
            padded = text + "=" * (-len(text) % 4)
            after, since, until = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
            return cls(_key(after), _time(since) if since is not None else None, _time(until))
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("no page of ours gave this cursor") from None


@dataclass(frozen=True)
class Change:
    """A record as it is, its `data` JSON; without data, a deletion."""

    id: str
    data: str | None
    at: datetime


@dataclass(frozen=True)
class Page:
    """Some records; `next` leads to more, `until` is what to ask for changes since afterwards."""

    changes: list[Change]
    next: Cursor | None
    until: datetime


async def read(
    database: Database,
    connection: Connection,
    stream: str,
    *,
    since: datetime | None = None,
    cursor: Cursor | None = None,
    limit: int = 100,
) -> Page:
    """A page of live records; with `since`, of those changed or deleted from then on."""
    async with database.transaction(connection.tenant_id) as session:
        if cursor is None:
            cursor = Cursor("", since, await _settled(session, connection.id))
        query = (
            select(
                RecordRow.record_id,
                cast(RecordRow.data, Text),
                RecordRow.observed_at,
                RecordRow.deleted_at,
            )
            .where(
                RecordRow.stream == f"{connection.integration}.{stream}",
                RecordRow.connection_id == connection.id,
                RecordRow.record_id > cursor.after,
                _wanted(cursor.since),
            )
            .order_by(RecordRow.record_id)
            .limit(limit + 1)
            .execution_options(yield_per=CHUNK)
        )
        rows = await session.stream(query)
        try:
            found, more = await _taken(rows, limit)
        finally:
            await rows.close()
    return Page(found, replace(cursor, after=found[-1].id) if more else None, cursor.until)


async def _taken(
    rows: AsyncResult[tuple[str, str, datetime, datetime | None]], limit: int
) -> tuple[list[Change], bool]:
    """As many as fit a page, and whether there are more."""
    found: list[Change] = []
    size = 0
    async for key, data, observed_at, deleted_at in rows:
        if len(found) == limit or size > MAX_BYTES:
            return found, True
        gone = deleted_at is not None
        found.append(Change(key, None if gone else data, deleted_at or observed_at))
        size += 0 if gone else len(data)
    return found, False


def _wanted(since: datetime | None) -> ColumnElement[bool]:
    if since is None:
        return RecordRow.deleted_at.is_(None)
    # A sweep dates what it removes back to when its scan began, but not the removal.
    return or_(RecordRow.observed_at >= since, RecordRow.deleted_at >= since)


async def _settled(session: AsyncSession, connection_id: UUID) -> datetime:
    """Before this, nothing more will be observed: all that was, is stored."""
    syncing = select(Lease.epoch).where(
        Lease.connection_id == connection_id,
        Lease.kind == "sync",
        Lease.expires_at > func.clock_timestamp(),
    )
    # Of several unended runs only the newest lives: a sync lease has one holder.
    run = select(func.max(SyncRun.started_at)).where(
        SyncRun.connection_id == connection_id, SyncRun.ended_at.is_(None), syncing.exists()
    )
    event = select(func.min(Event.received_at)).where(
        Event.connection_id == connection_id,
        Event.applied_at.is_(None),
        # What the law asks for waits for days, and is dated when it is done.
        ~Event.is_duty,
        Event.received_at > func.now() - OLDEST_EVENT,
    )
    oldest = func.least(func.now(), run.scalar_subquery(), event.scalar_subquery())
    found: datetime = (await session.execute(select(oldest))).scalar_one()
    return found - SKEW


def _key(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise TypeError
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
