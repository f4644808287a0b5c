"""The end of a full read: some keys at a time, each looked up, and never half taken for whole."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from connectors import Checkpoint, Context, Page, Reader, Stream
from flows._batches import Batch, Outcome, Part, Scan
from flows._storing import store
from storage import checkpoints, leases, records, sweeping
from storage.database import Database
from tests._many_rows import connection, fill, plan, tenant
from tests._stored import Stocked, at, row, stock, stored, write


def nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page((), Checkpoint())


CONTACTS = Stream(name="contacts", read=nothing)
KEYS = [f"{number:03}" for number in range(95)]
KEPT = KEYS[::2]


class KilledError(Exception):
    """As a process that dies: of what it had begun, nothing more happens."""


async def ended(database: Database, stocked: Stocked, scan: Scan, *, begins: bool) -> Outcome:
    """Stores the last part of a scan, which shows every other record."""
    lease = await leases.acquire(
        database, kind="sync", holder="test", ttl=timedelta(seconds=60), **stocked.ids
    )
    assert lease is not None
    rows = [row(key, "old", seconds=11) for key in KEPT]
    batch, outcome = Batch(asyncio.Lock()), Outcome()
    batch.parts.append(
        Part(
            stream=CONTACTS, rows=rows, checkpoint=Checkpoint(since="the end"), done=True,
            scan=scan, begins=begins,
        )
    )  # fmt: skip
    try:
        await store(database, lease, "hubspot", batch, {"contacts": outcome})
    finally:
        await leases.release(database, lease)
    return outcome


async def saved(database: Database, stocked: Stocked) -> checkpoints.Saved:
    async with database.transaction(stocked.tenant_id) as session:
        return (await checkpoints.load(session, stocked.connection_id))["contacts"]


async def seen(database: Database) -> int:
    async with database.owning() as session:
        return int(await session.scalar(text("SELECT count(*) FROM seen")) or 0)


async def buried_at_once(database: Database) -> list[int]:
    """How many tombstones each transaction made."""
    query = text(
        "SELECT count(*) FROM records WHERE deleted_at IS NOT NULL GROUP BY xmin::text ORDER BY 1"
    )
    async with database.owning() as session:
        return list(await session.scalars(query))


async def test_a_sweep_buries_some_at_a_time_and_ends_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "KEYS_AT_ONCE", 20)
    stocked, scan = await stock(database), Scan(uuid4(), at(10))
    await write(database, stocked, [row(key, "old", seconds=1) for key in KEYS])
    outcome = await ended(database, stocked, scan, begins=True)
    assert (outcome.deleted, outcome.done) == (len(KEYS) - len(KEPT), True)
    assert sorted(await stored(database, stocked)) == KEPT
    assert await buried_at_once(database) == [7, 10, 10, 10, 10]
    now = await saved(database, stocked)
    assert (now.scan_id, now.state) == (None, {"since": "the end"})
    assert await seen(database) == 0


async def test_a_process_that_dies_in_a_sweep_has_it_go_on_and_nothing_is_whole_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "KEYS_AT_ONCE", 20)
    stocked, scan = await stock(database), Scan(uuid4(), at(10))
    await write(database, stocked, [row(key, "old", seconds=1) for key in KEYS])
    real, calls = sweeping.sweep, 0

    async def dying(*given: Any, **named: Any) -> sweeping.Swept:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KilledError
        return await real(*given, **named)

    monkeypatch.setattr(sweeping, "sweep", dying)
    with pytest.raises(KilledError):
        await ended(database, stocked, scan, begins=True)
    assert sum(await buried_at_once(database)) == 20
    half = await saved(database, stocked)
    assert (half.scan_id, half.state, half.last_synced_at) == (scan.id, {}, None)
    assert await sweeping.forget_over(database) == 0, "what was seen is still needed"
    assert await seen(database) == len(KEPT)

    outcome = await ended(database, stocked, scan, begins=False)
    assert outcome.deleted == len(KEYS) - len(KEPT) - 20
    assert sorted(await stored(database, stocked)) == KEPT
    assert (await saved(database, stocked)).scan_id is None
    assert await seen(database) == 0


async def test_what_an_audit_under_way_has_seen_is_not_forgotten(database: Database) -> None:
    stocked, audit_id = await stock(database), uuid4()
    async with database.transaction(stocked.tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO audits (id, tenant_id, connection_id, stream)"
                " VALUES (:id, :tenant_id, :connection_id, 'contacts')"
            ),
            {"id": audit_id, **stocked.ids},
        )
    for scan_id in (audit_id, uuid4()):
        await see(database, stocked, scan_id)
    assert await sweeping.forget_over(database) == 1
    assert await seen(database) == 2
    async with database.owning() as session:
        await session.execute(text("UPDATE audits SET ended_at = now()"))
    assert await sweeping.forget_over(database) == 1
    assert await seen(database) == 0


async def see(database: Database, stocked: Stocked, scan_id: UUID) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        await records.see(
            session, stream="hubspot.contacts", scan_id=scan_id, keys=["1", "2"], **stocked.ids
        )


async def test_each_key_is_looked_up_whatever_statistics_say(
    database: Database, database_url: str
) -> None:
    # What PostgreSQL knows is of before a scan began: that there is nothing.
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("ALTER TABLE seen SET (autovacuum_enabled = off)")
        sql.execute("ALTER TABLE records_hubspot_contacts SET (autovacuum_enabled = off)")
        sql.execute("ANALYZE")
    fill(database_url, tenants=3, each=5_000, analyse=False)
    values = {
        "stream": "hubspot.contacts", "connection_id": connection(1), "scan_id": uuid4(),
        "started_at": at(10), "after": "", "unseen": [], "size": sweeping.KEYS_AT_ONCE,
    }  # fmt: skip
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO seen (connection_id, scan_id, stream, record_id, tenant_id)"
            " SELECT %s, %s, 'hubspot.contacts', lpad(n::text, 9, '0'), %s"
            " FROM generate_series(1, 5000) n",
            [connection(1), values["scan_id"], tenant(1)],
        )
        sql.execute("SET LOCAL ROLE atom_tenant")
        sql.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant(1))])
        sql.execute(sweeping._SORTING.encode(), ["off"])
        found = plan(sql, sweeping._SOME.as_string(sql), values)
    (looked,) = (node for node in found if node.get("Relation Name") == "seen")
    assert "record_id" in looked["Index Cond"]
    (walked,) = (node for node in found if "contacts" in node.get("Relation Name", ""))
    assert walked["Index Name"] == "records_hubspot_contacts_pkey"
    assert "Sort" not in {node["Node Type"] for node in found}
