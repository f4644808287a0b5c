"""A stream's records as a client reads them: page by page, all of them or those that changed.

Pages go by the record's key, so a record that changes while they are read is neither skipped nor
moved. What changed goes by `changed_at`, when it was written: a look that found nothing new changes
nothing. The first page names the time to ask from next, which goes back before every transaction
that is still writing records of the connection; so what commits late is not skipped.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Text, bindparam, case, cast, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from storage.connections import Connection
from storage.database import Database
from storage.models import RecordRow

MAX_BYTES = 8 * 2**20
# So many changed records are found by when they changed; of more the key leads to the next page.
FEW = 5_000
CHUNK = 100
# Between taking its time and taking its lock a writer is not seen to write.
SKEW = timedelta(seconds=2)

# Writers hold a lock that tells by its second number when they began, in whole seconds.
_SETTLED = """
    SELECT least(now(), to_timestamp(min(objid::bigint))) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint =
        (hashtext(:connection_id)::bigint + 4294967296) % 4294967296
"""


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
    """A record as it is, its `data` JSON; without data, a deletion.

    `gone_as` says why a record is deleted, or that one that is kept is no longer shown to who
    consented; `merged_into` is the record that took it in, where the vendor says so.
    """

    id: str
    data: str | None
    at: datetime
    gone_as: str | None = None
    merged_into: str | None = None


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
        changed = await _changed_keys(session, connection, stream, cursor)
        query = (
            select(
                RecordRow.record_id,
                cast(RecordRow.data, Text),
                RecordRow.observed_at,
                RecordRow.deleted_at,
                RecordRow.gone_as,
                RecordRow.merged_into,
            )
            .where(
                RecordRow.stream == f"{connection.integration}.{stream}",
                RecordRow.connection_id == connection.id,
                RecordRow.record_id > cursor.after
                if changed is None
                else RecordRow.record_id
                == func.any(bindparam("keys", changed[: limit + 1], type_=ARRAY(Text()))),
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


async def _changed_keys(
    session: AsyncSession, connection: Connection, stream: str, cursor: Cursor
) -> list[str] | None:
    """The keys that follow of what changed, in their order; None where that is not few, and all
    records are gone through in the order of their keys instead."""
    if cursor.since is not None:
        found = await session.scalars(
            select(RecordRow.record_id)
            .where(
                RecordRow.stream == f"{connection.integration}.{stream}",
                RecordRow.connection_id == connection.id,
                RecordRow.record_id > cursor.after,
                _wanted(cursor.since),
            )
            .limit(FEW + 1)
        )
        keys = sorted(found)  # by code points, as the collation "C" of UTF-8 does
        if len(keys) <= FEW:
            return keys
    # PostgreSQL takes a tenant's connection to be small, and would sort all of it for each page.
    await session.execute(text("SET LOCAL enable_sort = off"))
    return None


async def _taken(
    rows: AsyncResult[tuple[str, str, datetime, datetime | None, str | None, str | None]],
    limit: int,
) -> tuple[list[Change], bool]:
    """As many as fit a page, and whether there are more."""
    found: list[Change] = []
    size = 0
    async for key, data, observed_at, deleted_at, *gone_as in rows:
        if len(found) == limit or size > MAX_BYTES:
            return found, True
        gone = deleted_at is not None
        found.append(Change(key, None if gone else data, deleted_at or observed_at, *gone_as))
        size += 0 if gone else len(data)
    return found, False


def _wanted(since: datetime | None) -> ColumnElement[bool]:
    if since is None:
        return RecordRow.deleted_at.is_(None)
    # Rows of before there was that column say when they were observed, or removed. As the index
    # `records_changed_idx` has it, word for word.
    before = func.greatest(RecordRow.observed_at, RecordRow.deleted_at)
    written = case((RecordRow.changed_at.is_(None), before), else_=RecordRow.changed_at)
    return written >= since


async def _settled(session: AsyncSession, connection_id: UUID) -> datetime:
    """Before this, nothing more will be written: all that was, is committed."""
    found = await session.execute(text(_SETTLED), {"connection_id": str(connection_id)})
    at: datetime = found.scalar_one()
    return at - SKEW


def _key(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise TypeError
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
