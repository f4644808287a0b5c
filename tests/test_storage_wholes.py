"""Listings of all that is under a prefix of keys: what they do not show is gone, no more."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from connectors import Checkpoint, Context, ListedKeys, Page, Reader, Record, Stream
from storage import records
from storage.database import Database
from storage.records import Row, Written
from tests._stored import Stocked, at, row, stock, stored, write


def _nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page([], Checkpoint())


STREAM = Stream(name="contacts", read=_nothing)


def page(
    whole: Sequence[tuple[str, Collection[str], float]],
    shown: Sequence[Record] = (),
    *,
    seconds: float = 0,
) -> list[Row]:
    """The rows of a page with these listings: prefix, keys, second."""
    wholes = [ListedKeys(prefix, keys, at(second)) for prefix, keys, second in whole]
    return records.rows(STREAM, Page(shown, Checkpoint(), listed_keys=wholes), at(seconds))


async def shelved(database: Database, *keys: str, seconds: float = 1) -> Stocked:
    stocked = await stock(database)
    await write(database, stocked, [row(key, "old", seconds=seconds) for key in keys])
    return stocked


async def kept(database: Database, stocked: Stocked) -> list[str]:
    return list(await stored(database, stocked))


async def test_what_a_listing_does_not_show_under_its_prefix_is_gone(database: Database) -> None:
    stocked = await shelved(database, "a/1", "a/2", "a/3", "a", "a0", "b/1")
    written = await write(database, stocked, page([("a/", ["a/2"], 5)]))
    assert written == Written(deleted=2)
    assert await kept(database, stocked) == ["a", "a/2", "a0", "b/1"]


async def test_a_parent_that_is_gone_takes_its_children_with_it_once(database: Database) -> None:
    stocked = await shelved(database, "a/1", "a/2", "b/1")
    assert await write(database, stocked, page([("a/", (), 5)])) == Written(deleted=2)
    assert await write(database, stocked, page([("a/", (), 6)])) == Written()
    assert await kept(database, stocked) == ["b/1"]


async def test_what_was_seen_after_a_listing_stays(database: Database) -> None:
    stocked = await shelved(database, "a/1", seconds=9)
    assert await write(database, stocked, page([("a/", (), 9)])) == Written()
    assert await kept(database, stocked) == ["a/1"]


async def test_a_read_made_before_the_listing_does_not_bring_it_back(database: Database) -> None:
    stocked = await shelved(database, "a/1")
    await write(database, stocked, page([("a/", (), 5)]))
    await write(database, stocked, [row("a/1", "stale", seconds=4)])
    assert await kept(database, stocked) == []
    await write(database, stocked, [row("a/1", "back", seconds=6)])
    assert await stored(database, stocked) == {"a/1": "back"}


async def test_listings_and_records_of_one_batch_hold_in_the_order_of_their_times(
    database: Database,
) -> None:
    stocked = await shelved(database, "a/same", "a/back", "a/gone", "b/1", "b/2")
    again = [row("a/same", "old", version=1, seconds=0)]
    await write(database, stocked, again)
    written = await write(
        database,
        stocked,
        [
            row("a/gone", "new", seconds=4),
            *page([("a/", ["a/same"], 5), ("b/", ["b/1", "b/2"], 5)]),
            row("a/back", "old", version=1, seconds=6),
            row("a/made", "new", seconds=6),
            *page([("b/", ["b/2"], 7)]),
        ],
    )
    assert await kept(database, stocked) == ["a/back", "a/made", "a/same", "b/2"]
    assert written.deleted == 2
    assert written.inserted - written.deleted == 4 - 5


async def test_a_prefix_of_odd_characters_is_no_pattern(database: Database) -> None:
    keys = ["a_%/1", "aXY/1", "a_%/\U0010fffe", "a_%/é", 'q"{,}/1', 'q"{,}/2']
    stocked = await shelved(database, *keys)
    await write(database, stocked, page([("a_%/", ["a_%/é"], 5), ('q"{,}/', ['q"{,}/2'], 5)]))
    assert set(await kept(database, stocked)) == {"aXY/1", "a_%/é", 'q"{,}/2'}


async def test_another_connections_records_are_left_alone(database: Database) -> None:
    one, other = await shelved(database, "a/1"), await shelved(database, "a/1")
    await write(database, one, page([("a/", (), 5)]))
    assert await kept(database, one) == []
    assert await kept(database, other) == ["a/1"]


async def test_a_listing_comes_with_the_records_it_shows(database: Database) -> None:
    stocked = await shelved(database, "a/1", "a/2")
    shown: list[dict[str, Any]] = [{"id": "a/2", "content": "new"}, {"id": "a/3", "content": "new"}]
    rows = page([("a/", ["a/2", "a/3"], 5)], shown, seconds=5)
    assert await write(database, stocked, rows) == Written(inserted=1, updated=1, deleted=1)
    assert await stored(database, stocked) == {"a/2": "new", "a/3": "new"}


@pytest.mark.parametrize("analysed", [False, True])
async def test_a_thousand_listings_look_each_prefix_up(database: Database, analysed: bool) -> None:
    stocked = await stock(database)
    keys = [f"f{number:04}/{child}" for number in range(5_000) for child in range(3)]
    await write(database, stocked, [row(key, "old", seconds=1) for key in keys])
    if analysed:
        async with database.owning() as session:
            await session.execute(text("ANALYZE records"))
    listings = [(f"f{n:04}/", [f"f{n:04}/0", f"f{n:04}/1"], 5.0) for n in range(0, 5_000, 5)]
    assert await write(database, stocked, page(listings)) == Written(deleted=1_000)
    left = await kept(database, stocked)
    assert "f0005/2" not in left
    assert "f0006/2" in left
