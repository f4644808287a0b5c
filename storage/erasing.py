"""Forgetting a connection: all that is kept of it, some thousand rows a transaction.

A cascade would hold its locks, and keep PostgreSQL from cleaning up, for as long as the connection
is big. Records go in the order of their keys, stream by stream, so that each batch is found by the
primary key. What is interrupted goes on when it is asked for again.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from storage import tenant_settings
from storage.database import Database
from storage.models import Connection, Grant

# Small enough that who writes meanwhile waits for none of them (docs/scaling.md).
BATCH = 2_000
# How long who asked for it is kept waiting; upkeep does the rest.
WHILE_A_PERSON_WAITS = timedelta(seconds=5)

_STREAMS = text(
    """
    SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM '''(.*)''')
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
    WHERE h.inhparent = 'records'::regclass ORDER BY 1
    """
)
_SOME_RECORDS = text(
    """
    WITH gone AS (
        DELETE FROM records
        WHERE stream = :stream AND connection_id = :connection_id AND record_id = ANY (ARRAY(
            SELECT record_id FROM records
            WHERE stream = :stream AND connection_id = :connection_id AND record_id > :after
            ORDER BY record_id LIMIT :batch
        ))
        RETURNING record_id
    )
    SELECT count(*), max(record_id) FROM gone
    """
)
# What else there may be much of.
_TABLES = ("seen", "events", "sync_runs", "audits", "gaps")


async def empty(
    database: Database, connection_id: UUID, *, batch: int = BATCH
) -> AsyncIterator[int]:
    """Deletes what is kept of a connection, but for itself; how many records, batch by batch."""
    async with database.owning() as session:
        streams = [str(stream) for stream in await session.scalars(_STREAMS)]
        integration = await session.scalar(
            select(Connection.integration).where(Connection.id == connection_id)
        )
    for stream in streams:
        if stream.partition(".")[0] != integration:
            continue
        after: str | None = ""
        while after is not None:
            async with database.owning() as session:
                values = {"stream": stream, "connection_id": connection_id, "after": after}
                # That it may not sort makes it go by the primary key, whatever statistics say.
                await session.execute(text("SET LOCAL enable_sort = off"))
                found = await session.execute(_SOME_RECORDS, {**values, "batch": batch})
                gone, after = found.one()
            if gone:
                yield gone
    for table in _TABLES:
        while await _delete_some(database, table, connection_id, batch) == batch:
            yield 0


async def _delete_some(database: Database, table: str, connection_id: UUID, batch: int) -> int:
    deleting = text(
        f"""
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE connection_id = :connection_id LIMIT :batch
        ))
        """  # noqa: S608 - our own words
    )
    async with database.owning() as session:
        values = {"connection_id": connection_id, "batch": batch}
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        found = await (await session.connection()).execute(deleting, values)
        return found.rowcount


async def purge(
    database: Database, connection_id: UUID, *, within: timedelta = WHILE_A_PERSON_WAITS
) -> bool:
    """Forgets a connection that is to be purged, as far as `within` lasts; whether it is gone."""
    clock = asyncio.get_running_loop().time
    until = clock() + within.total_seconds()
    try:
        async with asyncio.timeout_at(until):
            async for _ in empty(database, connection_id):
                # Python 3.11 may lose a cancel that meets an answer of the database's.
                if clock() >= until:
                    return False
    except TimeoutError:
        return False
    async with database.owning() as session:
        grant_id = await session.scalar(
            delete(Connection)
            .where(Connection.id == connection_id, Connection.purge_owed_at.is_not(None))
            .returning(Connection.grant_id)
        )
        if grant_id is not None:
            await _drop_if_unused(session, grant_id)
    return True


async def purge_owed(database: Database, *, within: timedelta) -> int:
    """Forgets those of which something is left, the oldest first; how many are gone."""
    async with database.owning() as session:
        owed = await session.scalars(
            select(Connection.id)
            .where(Connection.purge_owed_at.is_not(None))
            .order_by(Connection.purge_owed_at)
        )
        ids = list(owed)
    clock = asyncio.get_running_loop().time
    end, gone = clock() + within.total_seconds(), 0
    for connection_id in ids:
        if clock() >= end:
            break
        gone += await purge(database, connection_id, within=timedelta(seconds=end - clock()))
    return gone


async def _drop_if_unused(session: AsyncSession, grant_id: UUID) -> None:
    grant = await session.get(Grant, grant_id, with_for_update=True)
    left = select(func.count()).select_from(Connection).where(Connection.grant_id == grant_id)
    if grant is not None and not await session.scalar(left):
        await tenant_settings.delete(session, grant.tenant_id, grant.setting_key)
        await session.delete(grant)
