"""A read that starts over in its middle: what it had stored before may be gone by then, too."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from connectors import Checkpoint, CheckpointExpiredError, Context, Page, Reader, Stream
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from flows._reading import Reading
from flows._storing import LEASE_TTL, store
from storage import checkpoints, leases
from storage.database import Database
from tests._stored import Stocked, stock, stored
from tests._vendor import PlayedClock, made_up


async def token(refused: bool) -> str:
    return "t"


async def synced(database: Database, stocked: Stocked, stream: Stream, clock: PlayedClock) -> None:
    """One run over the stream, as the flow does it."""
    connector = replace(made_up(name="hubspot"), streams=(stream,))
    transport, budget = Transport(clock=clock), Budget(None, clock=clock)
    client = Client(
        connector, transport=transport, account_id="42", config={}, token=token, budget=budget
    )
    async with database.transaction(stocked.tenant_id) as session:
        saved = await checkpoints.load(session, stocked.connection_id)
    reading = Reading(client, Context(now=clock.now(), account_id="42"), [stream], saved)
    lease = await leases.acquire(database, **stocked.ids, kind="sync", holder="test", ttl=LEASE_TTL)
    assert lease
    last = False
    while not last:
        batch = await reading.batch()
        last = batch.last
        await store(database, lease, "hubspot", batch, reading.outcomes)
    assert reading.outcomes[stream.name].error is None
    await leases.release(database, lease)
    await reading.close()
    await transport.close()


async def test_what_a_read_stored_just_before_it_started_over_is_swept_if_it_is_gone(
    database: Database,
) -> None:
    stocked, clock = await stock(database), PlayedClock()

    def read(at: Checkpoint, context: Context) -> Reader:
        yield from ()
        clock.at += timedelta(seconds=1)
        if at.get("delta"):
            yield Page([{"id": "brief"}, {"id": "kept"}], Checkpoint(delta=2))
            yield Page([], Checkpoint(delta=3))  # what came last before a failure is not stored
            clock.at += timedelta(seconds=1)
            raise CheckpointExpiredError("the vendor has forgotten where we stood")
        yield Page([{"id": "kept"}], Checkpoint(delta=1))

    stream = Stream(name="contacts", read=read)
    await synced(database, stocked, stream, clock)
    clock.at += timedelta(hours=1)
    await synced(database, stocked, stream, clock)
    assert set(await stored(database, stocked)) == {"kept"}
    async with database.transaction(stocked.tenant_id) as session:
        found: Any = await session.execute(
            text("SELECT record_id FROM records WHERE deleted_at IS NOT NULL")
        )
        assert [record_id for (record_id,) in found] == ["brief"]
