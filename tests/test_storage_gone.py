"""Deleted, merged into another, no longer shown; and records of which only a part came."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from connectors import Checkpoint, ContractError, ListedKeys, Page, Reader, Stream
from storage import checkpoints, records, sweeping
from storage.database import Database
from tests._stored import STREAM, Stocked, at, stock, stored, write_in


def nothing(*given: Any) -> Reader:
    yield Page((), Checkpoint())


def stream_of(**options: Any) -> Stream:
    return Stream(name="contacts", read=nothing, fetch=nothing, **options)


async def put(
    database: Database, stocked: Stocked, stream: Stream, page: Page, seconds: float
) -> records.Written:
    async with database.transaction(stocked.tenant_id) as session:
        rows = records.rows(stream, page, at(seconds))
        return await write_in(session, stocked, rows)


async def gone(database: Database, stocked: Stocked) -> list[tuple[Any, ...]]:
    """What a person who writes SQL sees of what is not there, or not shown."""
    query = text(
        "SELECT record_id, gone_as, merged_into, deleted_at IS NOT NULL FROM gone_records"
        " ORDER BY record_id"
    )
    async with database.transaction(stocked.tenant_id) as session:
        return [tuple(row) for row in await session.execute(query)]


def contact(key: str, content: str = "x", **more: Any) -> dict[str, Any]:
    return {"id": key, "content": content, **more}


CONTACTS = [contact("1"), contact("2"), contact("3"), contact("4")]


async def test_why_a_record_is_gone_can_be_asked_for_in_sql(database: Database) -> None:
    stocked, stream = await stock(database), stream_of()
    await put(database, stocked, stream, Page(CONTACTS, Checkpoint()), 1)
    page = Page((), Checkpoint(), deleted=["1"], merged={"2": "4"}, hidden=["3"])
    written = await put(database, stocked, stream, page, 2)
    assert written.deleted == 3
    assert list(await stored(database, stocked)) == ["4"]
    assert await gone(database, stocked) == [
        ("1", "deleted", None, True),
        ("2", "merged", "4", True),
        ("3", "hidden", None, True),
    ]


async def test_what_is_no_longer_shown_stays_where_the_stream_says_so(database: Database) -> None:
    stocked, stream = await stock(database), stream_of(keeps_hidden=True)
    await put(database, stocked, stream, Page(CONTACTS, Checkpoint()), 1)
    page = Page(
        (), Checkpoint(), hidden=["3"], listed_keys=[ListedKeys("4", (), at(2), hidden=True)]
    )
    assert (await put(database, stocked, stream, page, 2)).deleted == 0
    assert list(await stored(database, stocked)) == ["1", "2", "3", "4"]
    marked = [("3", "hidden", None, False), ("4", "hidden", None, False)]
    assert await gone(database, stocked) == marked
    await put(database, stocked, stream, Page([contact("3")], Checkpoint()), 3)
    assert await gone(database, stocked) == marked[1:], "it is shown again"


async def test_a_part_of_a_record_is_merged_into_what_is_stored(database: Database) -> None:
    stocked, stream = await stock(database), stream_of()
    await put(database, stocked, stream, Page([contact("1", note="kept")], Checkpoint()), 1)
    part = Page((), Checkpoint(), partial=[contact("1", "new")])
    assert (await put(database, stocked, stream, part, 2)).updated == 1
    async with database.transaction(stocked.tenant_id) as session:
        data = (await session.execute(text("SELECT data FROM records"))).scalar_one()
    assert data == contact("1", "new", note="kept")
    assert (await put(database, stocked, stream, part, 3)).updated == 0


async def test_parts_and_whole_rows_of_one_batch_count_in_their_order(database: Database) -> None:
    stocked, stream = await stock(database), stream_of()
    async with database.transaction(stocked.tenant_id) as session:
        rows = [
            *records.rows(stream, Page([contact("1", "a", n=1)], Checkpoint()), at(1)),
            *records.rows(stream, Page((), Checkpoint(), partial=[contact("1", "b")]), at(2)),
            *records.rows(stream, Page((), Checkpoint(), partial=[contact("1", "c")]), at(3)),
        ]
        await write_in(session, stocked, rows)
        data = (await session.execute(text("SELECT data FROM records"))).scalar_one()
    assert data == contact("1", "c", n=1)


async def test_a_part_of_what_is_not_stored_is_told_back(database: Database) -> None:
    stocked, stream = await stock(database), stream_of()
    await put(database, stocked, stream, Page([contact("1")], Checkpoint()), 1)
    await put(database, stocked, stream, Page((), Checkpoint(), deleted=["1"]), 2)
    part = Page((), Checkpoint(), partial=[contact("1", "new"), contact("2", "new")])
    written = await put(database, stocked, stream, part, 3)
    assert written.missing == ("1", "2")
    assert await stored(database, stocked) == {}


def test_a_stream_whose_rows_come_in_part_needs_a_way_to_read_them_whole() -> None:
    stream = Stream(name="contacts", read=nothing)
    with pytest.raises(ContractError, match="no way to read the rest"):
        records.rows(stream, Page((), Checkpoint(), partial=[contact("1")]), at(1))


async def scanned(
    database: Database, stocked: Stocked, stream: Stream, seen: list[dict[str, Any]], **options: Any
) -> int:
    """A read of everything that shows only `seen`."""
    scan_id, ids = uuid4(), stocked.ids
    tenant_id, connection_id = ids["tenant_id"], ids["connection_id"]
    async with database.transaction(stocked.tenant_id) as session:
        await checkpoints.begin_scan(
            session,
            stream="contacts",
            scan_id=scan_id,
            started_at=at(10),
            tenant_id=tenant_id,
            connection_id=connection_id,
        )
        rows = records.rows(stream, Page(seen, Checkpoint()), at(11))
        await records.write(
            session,
            stream=STREAM,
            rows=rows,
            scan_id=scan_id,
            tenant_id=tenant_id,
            connection_id=connection_id,
        )
        swept = await sweeping.sweep(
            session,
            stream=STREAM,
            scan_id=scan_id,
            started_at=at(10),
            tenant_id=tenant_id,
            connection_id=connection_id,
            **options,
        )
        return len(swept.gone)


async def test_a_full_read_buries_nothing_of_a_part_that_it_could_not_look_at(
    database: Database,
) -> None:
    stocked, stream = await stock(database), stream_of()
    keys = ["a/1", "a/2", "b/1", "b/2", "c_/1"]
    await put(database, stocked, stream, Page([contact(key) for key in keys], Checkpoint()), 1)
    assert await scanned(database, stocked, stream, [contact("a/1")], unseen=["b/", "c_/"]) == 1
    assert list(await stored(database, stocked)) == ["a/1", "b/1", "b/2", "c_/1"]


async def test_a_full_read_that_shows_only_what_is_new_hides_the_old_and_buries_none_of_it(
    database: Database,
) -> None:
    stocked, stream = await stock(database), stream_of()
    page = Page(
        [contact("old", made=1), contact("new", made=9), contact("seen", made=9)], Checkpoint()
    )
    await put(database, stocked, stream, page, 1)
    swept = 0
    for _ in range(2):
        swept += await scanned(
            database, stocked, stream, [contact("seen", made=9)],
            was_shown=lambda record: record["made"] >= 5,
        )  # fmt: skip
    assert swept == 1
    assert list(await stored(database, stocked)) == ["old", "seen"]
    assert ("old", "hidden", None, False) in await gone(database, stocked)


async def test_another_tenant_sees_nothing_of_what_is_gone(database: Database) -> None:
    stocked, stream = await stock(database), stream_of()
    await put(database, stocked, stream, Page(CONTACTS, Checkpoint()), 1)
    await put(database, stocked, stream, Page((), Checkpoint(), deleted=["1"]), 2)
    other = await stock(database, "other")
    assert await gone(database, other) == []
