"""The end of a full read: what it did not see, and nobody else since it began, is gone.

A stream's keys are gone through in their order, some thousands a transaction, each looked up by
itself among those that were seen: what a scan has seen was written a moment ago, so that PostgreSQL
knows nothing of it yet, and would take any other way blindly. What is interrupted begins anew, and
finds less to do. So what was seen is forgotten only when the scan is over, and by upkeep where the
process died in between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from connectors import Record
from storage._merge import MARK, NOT_SEEN_BY_SCAN, SWEEP
from storage.database import Database, postgres
from storage.records import writing_at

KEYS_AT_ONCE = 10_000
# Of these the data is looked at.
RECORDS_AT_ONCE = 1_000
# An audit that is under way for longer is one whose process died.
LONGEST_AUDIT = "7 days"

# OFFSET 0 keeps PostgreSQL from making one join of it. That it may not sort makes it go by the
# primary key: it takes a tenant's connection to be small, and would sort all of it each time.
_SORTING = "SELECT set_config('enable_sort', %s, true)"
_SOME = (
    sql.SQL(
        """
        SELECT max(record_id), count(*), coalesce(
            array_agg(record_id) FILTER (WHERE is_unseen), '{{}}'
        ) FROM (
            SELECT record_id, {is_unseen} AS is_unseen FROM records r
            WHERE stream = %(stream)s AND connection_id = %(connection_id)s
                AND record_id > %(after)s
            ORDER BY record_id LIMIT %(size)s
        ) next_keys
        """
    )
).format(is_unseen=NOT_SEEN_BY_SCAN)

_DATA = """
    SELECT record_id, data FROM records
    WHERE stream = %(stream)s AND connection_id = %(connection_id)s AND record_id = ANY (%(keys)s)
"""

_FORGET = text(
    """
    DELETE FROM seen WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM seen WHERE connection_id = :connection_id AND scan_id = :scan_id
        LIMIT :size
    ))
    """
)

# Each scan of which something is kept is found by a step of its own through the primary key.
_OVER = text(
    f"""
    WITH RECURSIVE scans AS (
        (
            SELECT connection_id, scan_id, tenant_id FROM seen
            ORDER BY connection_id, scan_id LIMIT 1
        )
        UNION ALL
        SELECT n.* FROM scans s CROSS JOIN LATERAL (
            SELECT connection_id, scan_id, tenant_id FROM seen
            WHERE (connection_id, scan_id) > (s.connection_id, s.scan_id)
            ORDER BY connection_id, scan_id LIMIT 1
        ) n
    )
    SELECT connection_id, scan_id, tenant_id FROM scans s
    WHERE NOT EXISTS (
        SELECT FROM checkpoints c
        WHERE c.connection_id = s.connection_id AND c.scan_id = s.scan_id
    ) AND NOT EXISTS (
        SELECT FROM audits a WHERE a.id = s.scan_id AND a.ended_at IS NULL
            AND a.started_at > now() - interval '{LONGEST_AUDIT}'
    )
    """  # noqa: S608 - a constant of ours
)


@dataclass(frozen=True)
class Swept:
    """What is gone of the keys that were gone through, and the last of these: None at the end."""

    gone: Sequence[str]
    last: str | None


async def sweep(
    session: AsyncSession,
    *,
    stream: str,
    connection_id: UUID,
    tenant_id: UUID,
    scan_id: UUID,
    started_at: datetime,
    after: str = "",
    unseen: Sequence[str] = (),
    was_shown: Callable[[Record], bool] | None = None,
) -> Swept:
    """Buries what the scan did not see of the next keys.

    `unseen` are prefixes of keys that it could not look at: what is under them stays. `was_shown`
    says of a stored record whether the scan could have seen it: what it could not is hidden, not
    gone, and stays.
    """
    values: dict[str, object] = {
        "stream": stream,
        "connection_id": connection_id,
        "tenant_id": tenant_id,
        "scan_id": scan_id,
        "started_at": started_at,
        "after": after,
        "unseen": list(unseen),
        "spares": was_shown is not None,
        "size": KEYS_AT_ONCE if was_shown is None else RECORDS_AT_ONCE,
    }
    async with (await postgres(session)).cursor() as cursor:
        values["changed_at"] = await writing_at(cursor, values)
        await cursor.execute(_SORTING, ["off"])
        await cursor.execute(_SOME, values)
        last, count, keys = await cursor.fetchone() or (None, 0, [])
        await cursor.execute(_SORTING, ["on"])
        gone: list[str] = []
        if keys and was_shown is not None:
            await cursor.execute(_DATA, {**values, "keys": keys})
            hidden = {key for key, data in await cursor.fetchall() if not was_shown(data)}
            await cursor.execute(MARK, {**values, "keys": sorted(hidden)})
            keys = [key for key in keys if key not in hidden]
        if keys:
            await cursor.execute(SWEEP, {**values, "keys": keys})
            gone = [key for (key,) in await cursor.fetchall()]
    return Swept(gone, last if count == values["size"] else None)


async def forget(session: AsyncSession, *, connection_id: UUID, scan_id: UUID) -> bool:
    """Some of what a scan that is over has seen is deleted; whether there may be more."""
    values = {"connection_id": connection_id, "scan_id": scan_id, "size": KEYS_AT_ONCE}
    # From its beginning the table would be read again each time, past what was deleted before.
    await session.execute(text("SET LOCAL enable_seqscan = off"))
    found = await (await session.connection()).execute(_FORGET, values)
    return found.rowcount == KEYS_AT_ONCE


async def forget_over(database: Database) -> int:
    """Deletes what scans have seen that are over, and that nobody forgot; how many scans."""
    async with database.owning() as session:
        over = (await session.execute(_OVER)).all()
    for connection_id, scan_id, tenant_id in over:
        more = True
        while more:
            async with database.transaction(tenant_id) as session:
                more = await forget(session, connection_id=connection_id, scan_id=scan_id)
    return len(over)
