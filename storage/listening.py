"""Hearing NOTIFY: a connection of its own, straight to PostgreSQL, for as long as it is needed.

What is heard is a hint that comes sooner than the next look; a pooler in between that does not pass
it on costs time, and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.kernel.cancellation import end
from storage.background import repeated, works
from storage.database import CONNECT_OPTIONS
from storage.sickness import translated

AGAIN = 2.0
TASK = "listening"


@asynccontextmanager
async def listening(url: str, channel: str) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever the channel is notified; who waits clears it first."""
    heard = asyncio.Event()
    task = asyncio.create_task(repeated(TASK, partial(_listen, url, channel, heard), AGAIN))
    try:
        yield heard
    finally:
        await end(task)


async def _listen(url: str, channel: str, heard: asyncio.Event) -> None:
    conninfo = make_conninfo(url, **{**CONNECT_OPTIONS, **conninfo_to_dict(url)})
    with translated():
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as session:
            await session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            works(TASK)
            heard.set()  # what was notified before is heard now
            async for _ in session.notifies():
                heard.set()
