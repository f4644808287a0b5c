"""Advisory locks: who does what only one process may do, for as long as that process lives.

A lock belongs to a connection of its own, straight to PostgreSQL: when its process dies, it is
free, and nobody has to find out.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import text

from storage.database import CONNECT_OPTIONS, Database
from storage.sickness import translated


@asynccontextmanager
async def locked(url: str, name: str) -> AsyncIterator[bool]:
    """Whether the lock of that name is ours; it is given back with the block's end."""
    conninfo = make_conninfo(url, **{**CONNECT_OPTIONS, **conninfo_to_dict(url)})
    with translated():
        session = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    async with session:
        with translated():
            found = await session.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]
            )
            row = await found.fetchone()
        yield bool(row and row[0])


async def is_held(database: Database, name: str) -> bool:
    """Whether somebody has the lock of that name; asked without taking it, were it for a moment."""
    # PostgreSQL shows a key of 64 bits in two halves: see table "pg_locks" in its documentation.
    query = text(
        """
        SELECT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (classid::bigint << 32) | objid::bigint = hashtextextended(:name, 0)
        )
        """
    )
    async with database.dispatching() as session:
        return bool(await session.scalar(query, {"name": name}))
