"""Records over the API: every one once, changes never missed, cursors that prove nothing."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from connectors import Gone
from storage import changes
from storage.database import Database
from tests._stored import Stocked, at, row, stock, write, write_in
from tests._web import Api, problem, serving_api, web_settings


@pytest.fixture
async def acme(database: Database) -> Stocked:
    return await stock(database, "acme")


@pytest.fixture
async def api(database_url: str, acme: Stocked) -> AsyncIterator[Api]:
    async with serving_api(web_settings(database_url)) as opened:
        yield opened.as_(acme.tenant_id, "records:read")


async def _pages(api: Api, stocked: Stocked, **params: Any) -> list[dict[str, Any]]:
    pages = []
    while True:
        answer = await api.get(
            f"/api/connections/{stocked.connection_id}/records/contacts", **params
        )
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        if pages[-1]["next_cursor"] is None:
            return pages
        params = {"limit": params.get("limit", 100), "cursor": pages[-1]["next_cursor"]}


def _items(pages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for page in pages for item in page["items"]]


async def test_paging_gives_every_live_record_once_in_a_stable_order(
    api: Api, acme: Stocked, database: Database
) -> None:
    keys = [f"{n:03d}" for n in range(25)] + ["ä/ш 🙂", "z\tz", "Z"]
    await write(database, acme, [row(key, key) for key in keys])
    await write(database, acme, [row("003", deleted=True, seconds=5)])
    pages = await _pages(api, acme, limit=10)
    assert [len(page["items"]) for page in pages] == [10, 10, 7]
    found = _items(pages)
    expected = sorted(set(keys) - {"003"}, key=lambda key: key.encode())
    assert [item["id"] for item in found] == expected
    assert found[0] == {
        "id": "000", "observed_at": "2026-11-01T00:00:00Z", "data": {"id": "000", "content": "000"},
    }  # fmt: skip


async def test_changes_since_a_time_come_with_what_was_deleted(
    api: Api, acme: Stocked, database: Database
) -> None:
    await write(database, acme, [row(key, "old") for key in "abcd"])
    between = await _now(database)
    await write(database, acme, [row("b", "new", seconds=60), row("c", deleted=True, seconds=60)])
    found = _items(await _pages(api, acme, changed_since=between.isoformat(), limit=1))
    assert [item["id"] for item in found] == ["b", "c"]
    assert found[0]["data"]["content"] == "new"
    assert found[1].keys() == {"id", "deleted_at"}
    later = max(at(60), datetime.now(UTC)) + timedelta(days=1)
    assert _items(await _pages(api, acme, changed_since=later.isoformat())) == []


async def test_why_a_record_is_gone_is_told(api: Api, acme: Stocked, database: Database) -> None:
    await write(database, acme, [row(key, "old") for key in "abc"])
    between = await _now(database)
    merged = row("a", deleted=True, seconds=60)._replace(gone=Gone.MERGED, into="z")
    hidden = row("b", deleted=True, seconds=60)._replace(gone=Gone.HIDDEN, marks=True)
    await write(database, acme, [merged, hidden])
    found = _items(await _pages(api, acme, changed_since=between.isoformat()))
    assert [item["id"] for item in found] == ["a", "b"]
    assert (found[0]["gone_as"], found[0]["merged_into"]) == ("merged", "z")
    assert "data" not in found[0]
    assert (found[1]["gone_as"], found[1]["data"]["content"]) == ("hidden", "old")
    assert "deleted_at" not in found[1]


async def test_what_was_looked_at_again_and_is_as_it_was_is_no_change(
    api: Api, acme: Stocked, database: Database
) -> None:
    first = [row("a", "same"), row("b", "same", version=1), row("c", deleted=True)]
    await write(database, acme, first)
    between = await _now(database)
    again = [
        row("a", "same", seconds=60),
        row("b", "same", seconds=60, version=2),
        row("c", deleted=True, seconds=60),
    ]
    await write(database, acme, again)
    assert _items(await _pages(api, acme, changed_since=between.isoformat())) == []


async def test_what_was_written_before_changes_were_dated_goes_by_when_it_was_observed(
    api: Api, acme: Stocked, database: Database
) -> None:
    await write(database, acme, [row("a", "old"), row("b", "old", seconds=60)])
    await write(database, acme, [row("c", "old")])
    async with database.owning() as session:
        await session.execute(text("UPDATE records SET changed_at = NULL"))
        gone = text("UPDATE records SET deleted_at = :at WHERE record_id = 'c'")
        await session.execute(gone, {"at": at(60)})
    found = _items(await _pages(api, acme, changed_since=at(30).isoformat()))
    assert [(item["id"], "deleted_at" in item) for item in found] == [("b", False), ("c", True)]


async def test_asking_from_the_given_time_misses_nothing_that_commits_later(
    api: Api, acme: Stocked, database: Database
) -> None:
    async with database.transaction(acme.tenant_id) as session:
        await write_in(session, acme, [row("late", "not committed yet")])
        await asyncio.sleep(3)  # longer than what is taken off for a writer's first step
        (before,) = await _pages(api, acme)
        assert before["items"] == []
    found = _items(await _pages(api, acme, changed_since=before["next_changed_since"]))
    assert [item["id"] for item in found] == ["late"]
    (after,) = await _pages(api, acme, changed_since=(await _now(database)).isoformat())
    age = await _now(database) - datetime.fromisoformat(after["next_changed_since"])
    assert timedelta() < age < timedelta(minutes=1)


async def _now(database: Database) -> datetime:
    """By the clock that changes are dated with."""
    async with database.owning() as session:
        at: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
        return at


async def test_every_page_of_a_reading_names_the_time_of_its_first(
    api: Api, acme: Stocked, database: Database
) -> None:
    await write(database, acme, [row(str(n), n) for n in range(5)])
    pages = await _pages(api, acme, limit=2)
    assert len({page["next_changed_since"] for page in pages}) == 1


async def test_a_page_has_an_end_in_bytes_too(
    api: Api, acme: Stocked, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_BYTES", 3_000)
    await write(database, acme, [row(f"{n:02d}", "x" * 1_000) for n in range(10)])
    pages = await _pages(api, acme)
    assert [len(page["items"]) for page in pages] == [3, 3, 3, 1]


async def test_numbers_come_as_the_vendor_wrote_them(
    api: Api, acme: Stocked, database: Database
) -> None:
    await write(database, acme, [row("1", 12345678901234567890123)])
    answer = await api.get(f"/api/connections/{acme.connection_id}/records/contacts")
    assert '"content": 12345678901234567890123' in answer.text


def _forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


FORGED = (
    "x", "AAAA", _forged(1), _forged("a", None, None), _forged("a", 5, "2026-11-01"),
    _forged("\x00", None, "2026-11-01"), _forged("a", "soon", "2026-11-01"), "a" * 9_000, "a b",
)  # fmt: skip


async def test_a_cursor_that_no_page_gave_is_refused(api: Api, acme: Stocked) -> None:
    for cursor in FORGED:
        path = f"/api/connections/{acme.connection_id}/records/contacts"
        problem(await api.get(path, cursor=cursor), 422)


async def test_a_time_needs_its_zone_and_a_limit_its_bounds(api: Api, acme: Stocked) -> None:
    path = f"/api/connections/{acme.connection_id}/records/contacts"
    for params in ({"changed_since": "2026-11-01T00:00:00"}, {"limit": 0}, {"limit": 1001}):
        problem(await api.get(path, **params), 422)


async def test_a_stream_that_is_not_there_names_those_that_are(api: Api, acme: Stocked) -> None:
    answer = await api.get(f"/api/connections/{acme.connection_id}/records/nothing")
    assert "contacts" in problem(answer, 404)["detail"]
