"""The merge of what was polled, pushed and scanned, on a real database."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from connectors import Checkpoint, Context, Page, Reader, Stream
from storage import SchemaError, checkpoints, records, sweeping
from storage.database import Database
from storage.records import Row, Written
from tests._stored import STREAM, Stocked, at, row, stock, stored, write, write_in


async def _one(database: Database, stocked: Stocked, record_id: str = "1") -> Any:
    query = text(
        "SELECT data -> 'content' AS content, version, observed_at, deleted_at IS NOT NULL"
        " AS deleted, content_hash, xmin::text AS written_by FROM records"
        " WHERE connection_id = :connection_id AND record_id = :record_id"
    )
    async with database.transaction(stocked.tenant_id) as session:
        found = await session.execute(
            query, {"connection_id": stocked.connection_id, "record_id": record_id}
        )
        return found.one()


LIVE, TOMBSTONE = False, True
# What is there: version, second, deleted. What comes: version, second, deleted. Does it win?
RULE = [
    ((5, 10, LIVE), (6, 11, LIVE), True),
    ((5, 10, LIVE), (6, 9, LIVE), True),
    ((5, 10, LIVE), (5, 11, LIVE), True),
    ((5, 10, LIVE), (5, 10, LIVE), False),
    ((5, 10, LIVE), (5, 9, LIVE), False),
    ((5, 10, LIVE), (4, 11, LIVE), False),
    ((5, 10, LIVE), (None, 11, LIVE), True),
    ((5, 10, LIVE), (None, 9, LIVE), False),
    ((None, 10, LIVE), (5, 11, LIVE), True),
    ((None, 10, LIVE), (5, 9, LIVE), False),
    ((None, 10, LIVE), (None, 11, LIVE), True),
    ((None, 10, LIVE), (None, 10, LIVE), False),
    ((None, 10, LIVE), (None, 9, LIVE), False),
    ((5, 10, LIVE), (None, 11, TOMBSTONE), True),
    ((5, 10, LIVE), (None, 10, TOMBSTONE), True),
    ((5, 10, LIVE), (None, 9, TOMBSTONE), False),
    ((5, 10, LIVE), (6, 9, TOMBSTONE), True),
    ((5, 10, LIVE), (4, 11, TOMBSTONE), False),
    # A deletion without a version falls only to what was observed after it, whatever it buried.
    ((5, 10, TOMBSTONE), (6, 9, LIVE), False),
    ((5, 10, TOMBSTONE), (6, 11, LIVE), True),
    ((5, 10, TOMBSTONE), (5, 11, LIVE), True),
    ((5, 10, TOMBSTONE), (4, 11, LIVE), True),
    ((5, 10, TOMBSTONE), (None, 11, LIVE), True),
    ((5, 10, TOMBSTONE), (5, 10, LIVE), False),
    ((5, 10, TOMBSTONE), (4, 9, LIVE), False),
    ((5, 10, TOMBSTONE), (None, 9, LIVE), False),
    ((None, 10, TOMBSTONE), (5, 9, LIVE), False),
    ((None, 10, TOMBSTONE), (5, 11, LIVE), True),
]


async def test_the_merge_rule_holds_line_by_line(database: Database) -> None:
    stocked = await stock(database)
    for number, (there, comes, wins) in enumerate(RULE):
        record_id = str(number)
        version, second, buried = there
        if buried:
            # Put there as life goes: a record, then its deletion.
            before = [row(record_id, "old", seconds=second - 5, version=version)]
            if version is None:
                before = []
            await write(database, stocked, before)
            await write(database, stocked, [row(record_id, seconds=second, deleted=True)])
        else:
            await write(database, stocked, [row(record_id, "old", seconds=second, version=version)])
        version, second, buries = comes
        await write(
            database,
            stocked,
            [row(record_id, "new", seconds=second, version=version, deleted=buries)],
        )
        found = await _one(database, stocked, record_id)
        live = None if found.deleted else found.content
        expected = (None if buries else "new") if wins else (None if buried else "old")
        assert live == expected, f"{there} met {comes}"


async def test_a_write_tells_what_it_did(database: Database) -> None:
    stocked = await stock(database)
    first = [row(str(n), "a", version=1, seconds=1) for n in range(4)]
    assert await write(database, stocked, first) == Written(inserted=4)
    second = [
        row("0", "a", version=1, seconds=2),
        row("1", "b", version=2, seconds=2),
        row("2", seconds=2, deleted=True),
        row("9", "new", version=1, seconds=2),
        row("8", seconds=2, deleted=True),
    ]
    written = await write(database, stocked, second)
    assert written == Written(inserted=1, updated=1, deleted=1, unchanged=2)
    assert await stored(database, stocked) == {"0": "a", "1": "b", "3": "a", "9": "new"}
    assert await write(database, stocked, []) == Written()


async def test_a_tombstone_keeps_the_data_and_the_version(database: Database) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "kept", version=5, seconds=1)])
    await write(database, stocked, [row("1", deleted=True, seconds=2)])
    found = await _one(database, stocked)
    assert (found.content, found.version, found.deleted) == ("kept", 5, True)
    assert found.observed_at == at(2)


async def test_a_later_deletion_of_what_is_deleted_holds_off_reads_made_before_it(
    database: Database,
) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a", seconds=1)])
    assert await write(database, stocked, [row("1", deleted=True, seconds=2)]) == Written(deleted=1)
    again = await write(database, stocked, [row("1", deleted=True, seconds=9)])
    assert again == Written(unchanged=1)
    await write(database, stocked, [row("1", "stale", seconds=5)])
    assert await stored(database, stocked) == {}


async def test_a_deletion_of_something_unknown_holds_off_reads_made_before_it(
    database: Database,
) -> None:
    stocked = await stock(database)
    assert await write(database, stocked, [row("1", deleted=True, seconds=5)]) == Written(
        unchanged=1
    )
    await write(database, stocked, [row("1", "stale", seconds=4)])
    assert await stored(database, stocked) == {}
    restored = await write(database, stocked, [row("1", "back", seconds=6)])
    assert restored == Written(inserted=1)
    assert await stored(database, stocked) == {"1": "back"}


async def test_equal_content_is_not_rewritten(database: Database) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a", version=5, seconds=1)])
    before = await _one(database, stocked)
    assert await write(database, stocked, [row("1", "a", version=5, seconds=9)]) == Written(
        unchanged=1
    )
    assert await _one(database, stocked) == before


async def test_equal_content_without_a_version_is_known_as_seen_later(database: Database) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a", seconds=1)])
    assert await write(database, stocked, [row("1", "a", seconds=9)]) == Written(unchanged=1)
    assert (await _one(database, stocked)).observed_at == at(9)
    await write(database, stocked, [row("1", "stale", seconds=5)])
    assert await stored(database, stocked) == {"1": "a"}


async def test_a_greater_version_of_equal_content_holds_off_the_versions_between(
    database: Database,
) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a", version=1, seconds=1)])
    assert await write(database, stocked, [row("1", "a", version=3, seconds=3)]) == Written(
        unchanged=1
    )
    await write(database, stocked, [row("1", "b", version=2, seconds=2)])
    assert await stored(database, stocked) == {"1": "a"}


async def test_a_key_twice_in_one_batch_is_decided_by_the_same_rule(database: Database) -> None:
    stocked = await stock(database)
    written = await write(
        database,
        stocked,
        [
            row("1", "newer", version=2, seconds=1),
            row("1", "older", version=1, seconds=2),
            row("2", "earlier", seconds=1),
            row("2", "later", seconds=2),
            row("3", "gone", seconds=1),
            row("3", deleted=True, seconds=2),
            row("4", deleted=True, seconds=1),
            row("4", "back", seconds=2),
        ],
    )
    assert await stored(database, stocked) == {"1": "newer", "2": "later", "4": "back"}
    assert written == Written(inserted=4, deleted=1, unchanged=3)


async def test_several_writes_share_one_transaction(database: Database) -> None:
    stocked = await stock(database)
    async with database.transaction(stocked.tenant_id) as session:
        first = await write_in(session, stocked, [row("1", "a", seconds=1)])
        second = await write_in(session, stocked, [row("1", "b", seconds=2), row("2", "c")])
        other = await write_in(session, stocked, [row("1", "d")], stream="hubspot.companies")
    assert (first, second) == (Written(inserted=1), Written(inserted=1, updated=1))
    assert other == Written(inserted=1)


async def _write_and_fail(database: Database, stocked: Stocked) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        await write_in(session, stocked, [row("1", "a")])
        raise ZeroDivisionError


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    stocked = await stock(database)
    with pytest.raises(ZeroDivisionError):
        await _write_and_fail(database, stocked)
    assert await stored(database, stocked) == {}


async def test_a_stream_that_was_never_migrated_says_what_to_do(database: Database) -> None:
    stocked = await stock(database)
    with pytest.raises(SchemaError, match="run `atom-sync migrate`"):
        await write(database, stocked, [row("1", "a")], stream="hubspot.unheard_of")


async def test_five_thousand_rows_written_twice_are_unchanged(database: Database) -> None:
    stocked = await stock(database)
    many = [row(str(n), "x" * 500, version=n, seconds=1) for n in range(5_000)]
    assert await write(database, stocked, many) == Written(inserted=5_000)
    again = [row(str(n), "x" * 500, version=n, seconds=2) for n in range(5_000)]
    assert await write(database, stocked, again) == Written(unchanged=5_000)
    assert len(await stored(database, stocked)) == 5_000


def _nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page([], Checkpoint())


async def test_awkward_values_come_back_from_jsonb(database: Database) -> None:
    stocked = await stock(database)
    awkward = {
        "id": "key\twith\nall\\kinds\r\x00 \U0001f600",
        "content": {
            "nul": "a\x00b",
            "surrogate": "\ud83d",
            "escaped": r"\u0000 \N \. \\",
            "controls": "\t\n\r\b\f\x01\x7f",
            "big": 2**100,
            "tiny": 5e-324,
        },
        # jsonb keeps digits, and writes this one out.
        "huge": 1.7976931348623157e308,
    }
    stream = Stream(name="contacts", read=_nothing)
    await write(database, stocked, records.rows(stream, Page([awkward], Checkpoint()), at(1)))
    query = text("SELECT record_id, data::text FROM records")
    async with database.transaction(stocked.tenant_id) as session:
        ((record_id, data),) = await session.execute(query)
    assert record_id == "key\twith\nall\\kinds\r\ufffd \U0001f600"
    assert float(json.loads(data)["huge"]) == awkward["huge"]
    assert json.loads(data)["content"] == {
        "nul": "a\ufffdb",
        "surrogate": "\ufffd",
        "escaped": r"\u0000 \N \. \\",
        "controls": "\t\n\r\b\f\x01\x7f",
        "big": 2**100,
        "tiny": 5e-324,
    }


async def test_a_scan_removes_only_what_nobody_saw_since_it_began(database: Database) -> None:
    stocked = await stock(database)
    await write(
        database, stocked, [row(name, "old", seconds=1) for name in ("kept", "gone", "pushed")]
    )
    scan_id = uuid4()
    async with database.transaction(stocked.tenant_id) as session:
        await checkpoints.begin_scan(
            session, stream="contacts", scan_id=scan_id, started_at=at(10), **stocked.ids
        )
    await write(database, stocked, [row("kept", "old", seconds=11)], scan_id=scan_id)
    # The process dies here, another resumes. Meanwhile events come in.
    await write(
        database, stocked, [row("pushed", "new", seconds=12), row("made", "new", seconds=12)]
    )
    await write(database, stocked, [row("late", "new", seconds=13)], scan_id=scan_id)
    async with database.transaction(stocked.tenant_id) as session:
        saved = await checkpoints.load(session, stocked.connection_id)
        assert saved["contacts"].scan_id == scan_id
        assert saved["contacts"].scan_started_at == at(10)
        swept = await sweeping.sweep(
            session, stream=STREAM, scan_id=scan_id, started_at=at(10), **stocked.ids
        )
        assert swept == sweeping.Swept(["gone"], None)
        assert not await sweeping.forget(
            session, connection_id=stocked.connection_id, scan_id=scan_id
        )
        assert await session.scalar(text("SELECT count(*) FROM seen")) == 0
    assert set(await stored(database, stocked)) == {"kept", "pushed", "made", "late"}
    assert (await _one(database, stocked, "gone")).content == "old"


async def test_what_a_scan_saw_survives_until_a_newer_scan_begins(database: Database) -> None:
    stocked = await stock(database)
    old, new = uuid4(), uuid4()
    async with database.transaction(stocked.tenant_id) as session:
        await checkpoints.begin_scan(
            session, stream="contacts", scan_id=old, started_at=at(1), **stocked.ids
        )
    await write(database, stocked, [row("1", "a"), row("2", deleted=True)], scan_id=old)
    count = text("SELECT array_agg(record_id) FROM seen")
    async with database.transaction(stocked.tenant_id) as session:
        assert await session.scalar(count) == ["1"]
    assert await sweeping.forget_over(database) == 0
    async with database.transaction(stocked.tenant_id) as session:
        assert await session.scalar(count) == ["1"]
        await checkpoints.begin_scan(
            session, stream="contacts", scan_id=new, started_at=at(2), **stocked.ids
        )
    await write(database, stocked, [row("3", "c")], scan_id=new)
    assert await sweeping.forget_over(database) == 1
    async with database.transaction(stocked.tenant_id) as session:
        assert await session.scalar(count) == ["3"]


async def test_rows_are_counted_by_connection_and_stream(database: Database) -> None:
    one, other = await stock(database), await stock(database)
    await write(database, one, [row("1", "a"), row("2", "b"), row("3", deleted=True)])
    await write(database, other, [row("1", "a")])
    async with database.transaction(one.tenant_id) as session:
        await checkpoints.save(session, stream="contacts", state={"since": 1}, done=True, **one.ids)
        await checkpoints.save(session, stream="owners", state={}, done=False, **one.ids)
    counts = await records.counts(database)
    assert {key: found.rows for key, found in counts.items()} == {
        (one.connection_id, "contacts"): 2,
        (one.connection_id, "owners"): 0,
        (other.connection_id, "contacts"): 1,
    }
    assert counts[one.connection_id, "contacts"].last_synced_at is not None
    assert counts[one.connection_id, "owners"].last_synced_at is None


REPEATED = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
IDS = ("1", "2", "3")


@st.composite
def _histories(draw: st.DrawFn, *, versioned: bool, deletes: bool) -> list[list[Row]]:
    """Reads of a source that changes: one list a moment, a row for each of its records."""
    source: dict[str, tuple[str, int]] = {}
    reads = []
    for moment in range(1, draw(st.integers(2, 6)) + 1):
        for record_id in draw(st.lists(st.sampled_from(IDS), max_size=3)):
            if deletes and record_id in source and draw(st.booleans()):
                del source[record_id]
            else:
                source[record_id] = (draw(st.sampled_from("ab")), moment)
        read = []
        for record_id in IDS if deletes else sorted(source):
            if record_id in source:
                content, version = source[record_id]
                seen = version if versioned else None
                read.append(row(record_id, content, seconds=moment, version=seen))
            else:
                read.append(row(record_id, seconds=moment, deleted=True))
        reads.append(read)
    return reads


def _state(read: list[Row]) -> dict[str, Any]:
    return {r.record_id: json.loads(r.data)["content"] for r in read if not r.deleted}


async def _written(database: Database, batches: list[list[Row]]) -> tuple[dict[str, Any], int]:
    stocked = await stock(database)
    grown = 0
    for batch in batches:
        written = await write(database, stocked, batch)
        grown += written.inserted - written.deleted
        assert written.inserted + written.updated + written.deleted + written.unchanged == len(
            batch
        )
    return await stored(database, stocked), grown


def _dealt(draw: st.DrawFn, rows: list[Row]) -> list[list[Row]]:
    """The same rows in any order, cut into batches anywhere."""
    shuffled = draw(st.permutations(rows))
    size = draw(st.integers(1, 5))
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


@REPEATED
@given(st.data())
async def test_writes_without_versions_end_in_the_sources_state_in_any_order(
    database: Database, data: st.DataObject
) -> None:
    reads = data.draw(_histories(versioned=False, deletes=True))
    batches = data.draw(st.composite(_dealt)([r for read in reads for r in read]))
    state, grown = await _written(database, batches)
    assert state == _state(reads[-1])
    assert grown == len(state)


@REPEATED
@given(st.data())
async def test_versioned_writes_end_in_the_sources_state_in_any_order(
    database: Database, data: st.DataObject
) -> None:
    reads = data.draw(_histories(versioned=True, deletes=False))
    batches = data.draw(st.composite(_dealt)([r for read in reads for r in read]))
    state, grown = await _written(database, batches)
    assert state == _state(reads[-1])
    assert grown == len(state)


@REPEATED
@given(st.data())
async def test_whatever_came_late_a_newer_read_sets_it_right(
    database: Database, data: st.DataObject
) -> None:
    *reads, last = data.draw(_histories(versioned=True, deletes=True))
    batches = data.draw(st.composite(_dealt)([r for read in reads for r in read]))
    state, grown = await _written(database, [*batches, last])
    assert state == _state(last)
    assert grown == len(state)


async def test_sweeping_at_the_clock_of_a_row_spares_it(database: Database) -> None:
    stocked = await stock(database)
    await write(database, stocked, [row("1", "a", seconds=10)])
    async with database.transaction(stocked.tenant_id) as session:
        for started_at, swept in ((at(10), 0), (at(10) + timedelta(microseconds=1), 1)):
            found = await sweeping.sweep(
                session, stream=STREAM, scan_id=uuid4(), started_at=started_at, **stocked.ids
            )
            assert len(found.gone) == swept
