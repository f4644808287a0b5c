"""A batch of several streams, stored beside what else writes to their checkpoints."""

import asyncio
from datetime import timedelta

import psycopg
from sqlalchemy import text

from connectors import Checkpoint, Context, Page, Reader, Stream
from flows._batches import Batch, Outcome, Part
from flows._storing import store
from storage import checkpoints, leases
from storage.database import Database
from tests._stored import row, stock, stored
from tests._waiting import until


def nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page((), Checkpoint())


async def test_a_batch_and_a_hint_on_the_same_streams_never_wait_for_each_other(
    database: Database, database_url: str
) -> None:
    stocked = await stock(database)
    lease = await leases.acquire(
        database, kind="sync", holder="test", ttl=timedelta(seconds=60), **stocked.ids
    )
    assert lease is not None
    batch = Batch(asyncio.Lock())
    for name in ("contacts", "companies"):  # as a connector declares them
        stream = Stream(name=name, read=nothing)
        at = Checkpoint(since="now")
        batch.parts.append(Part(stream=stream, rows=[row(name)], checkpoint=at))

    def waits() -> bool:
        with psycopg.connect(database_url) as sql:
            found = sql.execute(
                "SELECT FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return found.fetchone() is not None

    async with database.transaction(stocked.tenant_id) as session:
        await checkpoints.mark_dirty(session, streams=["companies"], **stocked.ids)
        outcomes = {"contacts": Outcome(), "companies": Outcome()}
        storing = asyncio.create_task(store(database, lease, "hubspot", batch, outcomes))
        await until(waits)
        # Shorter than a deadlock is looked for.
        await session.execute(text("SET LOCAL lock_timeout = '300ms'"))
        await checkpoints.mark_dirty(session, streams=["contacts"], **stocked.ids)
    await storing
    assert sorted(await stored(database, stocked)) == ["companies", "contacts"]
    await leases.release(database, lease)
