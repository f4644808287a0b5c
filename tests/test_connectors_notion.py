"""What is Notion's own: where search and queries end, webhooks, tokens that are refused."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import Delivery, Effect, Event, Record, Request, Response, load
from connectors.notion.query import unsigned
from tests._conformance import Bench
from tests._driving import NOW, drive, response
from tests.reports._following import Followed
from tests.reports.test_notion import NOTION, PAGES, ROWS, Desk, listed, no, page, stamp

HINTED = ("blocks", "page_markdown", "relations", "page_property_items")
CUT = {"request_status": {"type": "incomplete", "incomplete_reason": "query_result_limit_reached"}}
TRASH = {"property": "object", "value": "page", "in_trash": True}


class Table:
    """A data source whose queries end after `most` rows; its rows by when they were made."""

    def __init__(self, rows: list[Record], most: int) -> None:
        self.rows, self.most = rows, most

    def __call__(self, request: Request) -> Response:
        body = request.json
        assert body["sorts"] == [{"timestamp": "created_time", "direction": "ascending"}]
        found = self.rows
        for each in body.get("filter", {}).get("and", ()):
            name = each["timestamp"]
            found = [row for row in found if row[name] >= each[name]["on_or_after"]]
        status = CUT if len(found) > self.most else {}
        first, found = int(body.get("start_cursor", 0)), found[: self.most]
        more = first + 100 < len(found)
        cursor = str(first + 100) if more else None
        return listed(found[first : first + 100], has_more=more, next_cursor=cursor, **status)


def table(count: int, each: timedelta) -> list[Record]:
    return [page(f"p{n}", NOW - timedelta(days=90) + n * each, source="a") for n in range(count)]


def desk_of(rows: list[Record], most: int) -> Desk:
    source = {"id": "a", "last_edited_time": stamp(NOW)}
    return Desk([], [source], {"/data_sources/a/query": Table(rows, most)})


def test_rows_beyond_the_end_of_a_query_are_read_by_when_they_were_made() -> None:
    read = Followed(NOTION, ROWS, desk_of(table(950, timedelta(minutes=1)), 300)).sync()
    assert (len(read.rows), read.error, read.at.get("failed")) == (950, None, None)


def test_more_rows_of_one_minute_than_a_query_shows_are_named_and_do_not_turn_in_a_circle() -> None:
    read = Followed(NOTION, ROWS, desk_of(table(950, timedelta()), 300)).sync()
    assert len(read.rows) == 300
    assert "10,000" in read.at["failed"]["a"]["error"]


def test_a_search_that_is_cut_short_is_no_proof_that_the_rest_is_gone() -> None:
    def cut(request: Request) -> Response:
        return listed([page("p1")], **CUT)

    last = drive(PAGES.read, cut)[-1]
    assert last.unread is not None
    assert [each.part for each in last.unread] == ["search"]
    assert list(last.unseen) == [""]
    # A later look says the same, until a search shows all.
    again = drive(PAGES.read, Desk([page("p1")]), last.checkpoint)[-1]
    assert again.unread is not None
    assert [each.part for each in again.unread] == ["search"]


def test_what_went_into_the_trash_is_deleted_by_the_next_look() -> None:
    desk = Desk([page("p1"), page("p2")])
    read = Followed(NOTION, PAGES, desk).sync()
    trashed = {**page("p2"), "in_trash": True}

    def answer(request: Request) -> Response:
        if request.path == "/search" and request.json["filter"] == TRASH:
            return listed([trashed])
        return desk(request)

    desk.pages = [page("p1")]
    read = replace(read, answer=answer)
    assert set(read.sync().rows) == {"p1"}


def test_rows_that_went_into_the_trash_are_found_by_search_which_no_query_shows() -> None:
    desk = desk_of(table(2, timedelta(minutes=1)), 300)
    read = Followed(NOTION, ROWS, desk).sync()
    trashed = [{**page("p1", source="a"), "in_trash": True}, {**page("x"), "in_trash": True}]

    def answer(request: Request) -> Response:
        if request.path == "/search" and request.json["filter"] == TRASH:
            return listed(trashed)
        return desk(request)

    desk.answers["/data_sources/a/query"] = Table([], 300)
    assert set(replace(read, answer=answer).sync().rows) == {"a/p0"}


def test_a_cursor_that_is_forgotten_begins_the_listing_again() -> None:
    desk = Desk([page(f"p{n}", NOW - timedelta(minutes=n)) for n in range(150)])
    forgotten = [True]

    def answer(request: Request) -> Response:
        body = request.json or {}
        if body.get("start_cursor") and forgotten:
            forgotten.pop()
            return no(400, "validation_error")
        return desk(request)

    assert len(Followed(NOTION, PAGES, answer).sync().rows) == 150


def test_a_database_with_many_data_sources_comes_once() -> None:
    parent = {"type": "database_id", "database_id": "d"}
    sources = [{"id": n, "last_edited_time": stamp(NOW), "parent": parent} for n in "abcde"]
    database = {"object": "database", "id": "d", "in_trash": False}
    desk = Desk([], sources, {"/databases/d": response({**database, "request_id": "r"})})
    read = Followed(NOTION, NOTION.stream("databases"), desk).sync(4)
    assert (read.rows, read.error, read.at.get("failed")) == ({"d": database}, None, None)


# -- Webhooks -------------------------------------------------------------------------------------


def told(kind: str, of: str, **data: Any) -> list[Event]:
    body = {
        "id": "e1", "type": kind, "workspace_id": "w", "timestamp": "2026-11-01T12:00:00.000Z",
        "entity": {"id": "x", "type": of}, "data": data, "attempt_number": 1,
    }  # fmt: skip
    assert NOTION.webhook
    delivery = Delivery(
        method="POST", url="https://atom.test", headers={}, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip
    return list(NOTION.webhook.events(delivery))


ROW = {"id": "d", "type": "database", "data_source_id": "s"}


@pytest.mark.parametrize(
    ("kind", "of", "data", "expected"),
    [
        ("page.properties_updated", "page", {"parent": ROW}, {
            ("read", ("pages",), "x"), ("read", ("data_source_rows",), "s/x"),
            ("hint", HINTED[2:], ""),
        }),
        ("page.content_updated", "page", {"parent": {"id": "p", "type": "page"}}, {
            ("read", ("pages",), "x"), ("hint", HINTED[:2], ""),
        }),
        ("page.deleted", "page", {"parent": {"id": "p", "type": "page"}}, {
            ("read", ("pages",), "x"), ("hint", HINTED, ""),
        }),
        ("comment.deleted", "comment", {"page_id": "p", "parent": {"id": "b", "type": "block"}}, {
            ("read", ("comments",), "p/x"),
        }),
        ("data_source.schema_updated", "data_source", {"parent": {}}, {
            ("read", ("data_sources",), "x"), ("hint", ("properties_schema", "databases"), ""),
        }),
        ("database.deleted", "database", {"parent": {}}, {("read", ("databases",), "x")}),
        ("view.created", "view", {"view_type": "table"}, set()),
        ("file_upload.created", "file_upload", {}, set()),
    ],
)  # fmt: skip
def test_an_event_says_what_to_read_again(
    kind: str, of: str, data: Any, expected: set[tuple[Any, ...]]
) -> None:
    found = told(kind, of, **data)
    assert {(each.effect.value, each.streams, each.key) for each in found} == expected
    assert all(each.account_id == "w" for each in found)


def test_an_event_in_a_form_that_nobody_knows_is_kept_with_whose_it_is() -> None:
    (event,) = told("comment.created", "comment")
    assert (event.effect, event.account_id) == (Effect.UNREADABLE, "w")


def test_a_row_that_moved_to_another_data_source_has_another_key() -> None:
    assert ROWS.fetch
    fetch = ROWS.fetch
    answer = Desk(answers={"/pages/p1": response(page("p1", source="b"))})
    (found,) = drive(lambda at, context: fetch(["a/p1"], context), answer)
    assert ([row["id"] for row in found.records], list(found.deleted)) == (["p1"], ["a/p1"])


# -- Over the real line ---------------------------------------------------------------------------


async def test_a_token_that_is_refused_is_renewed_once_though_nothing_says_that_it_ends(
    bench: Bench,
) -> None:
    tried = await bench.connect(NOTION, size=30)
    tried.order("tokens", op="expire")
    assert not await tried.follow(PAGES)
    assert tried.refreshes() == 1


async def test_a_comment_that_edits_nothing_is_found_by_its_event_and_by_an_audit(
    bench: Bench,
) -> None:
    comments = load("notion").stream("comments")
    assert comments.fetch
    tried = await bench.connect(NOTION, size=30)
    assert not await tried.follow(comments)
    order = {"op": "add", "record": {"quiet": True}}
    key = bench.controls("/notion/records/comments", order, account=tried.account)["id"]
    bench.clock.advance(timedelta(hours=2))
    await tried.sync(comments)
    assert key not in tried.stored(comments)
    found, gone = await tried.read(comments, comments.fetch([key], tried.context()), [])
    assert (found, gone) == ({key: tried.vendor(comments)[key]}, set())
    assert (await tried.audit(comments)).missing == 1
    assert not tried.difference(comments)


def test_markdown_keeps_links_that_do_not_end() -> None:
    text = "[a](https://a.test/?q=1) ![b](https://b.test/x.png?X-Amz-Date=1&X-Amz-Signature=2)"
    assert unsigned(text) == "[a](https://a.test/?q=1) ![b](https://b.test/x.png)"
