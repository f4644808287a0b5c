"""What people reported of programs that read Notion, played on our reader and our webhooks.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors import (
    Checkpoint,
    Context,
    Delivery,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    load,
)
from connectors.kernel.token_answers import read_tokens
from tests._driving import NOW, response
from tests._judging import judged
from tests.reports._following import Followed

NOTION = load("notion")
PAGES, BLOCKS, ROWS = (NOTION.stream(name) for name in ("pages", "blocks", "data_source_rows"))
COMMENTS, RELATIONS = NOTION.stream("comments"), NOTION.stream("relations")
MINUTE = timedelta(minutes=1)


def stamp(at: datetime) -> str:
    return at.replace(second=0, microsecond=0).isoformat()


def page(id_: str, edited: datetime = NOW, source: str = "", **cells: Any) -> Record:
    where = (
        {"type": "data_source_id", "data_source_id": source} if source else {"type": "workspace"}
    )
    return {
        "object": "page", "id": id_, "parent": where, "in_trash": False,
        "created_time": stamp(edited), "last_edited_time": stamp(edited),
        "properties": {"Name": {"id": "title", "type": "title", "title": []}, **cells},
    }  # fmt: skip


def block(id_: str, kind: str = "paragraph", *, inner: bool = False, **more: Any) -> Record:
    return {
        "object": "block", "id": id_, "type": kind, "has_children": inner, "in_trash": False,
        "last_edited_time": stamp(NOW), **more,
    }  # fmt: skip


def relation(*ids: str, more: bool = False) -> Record:
    return {"id": "rel", "type": "relation", "relation": [{"id": i} for i in ids], "has_more": more}


def listed(found: list[Any], **more: Any) -> Response:
    return response(
        {"object": "list", "results": found, "has_more": False, "next_cursor": None, **more}
    )


def no(status: int, code: str, **headers: str) -> Response:
    body = {"object": "error", "status": status, "code": code, "message": "it says why"}
    return response(body, status, headers)


@dataclass
class Desk:
    """A workspace: pages and data sources that search shows, and what addresses answer; of a list
    a hundred at a time, or as many as are asked for."""

    pages: list[Record] = field(default_factory=list)
    sources: list[Record] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/search":
            wanted = request.json["filter"]
            if wanted.get("in_trash"):
                return listed([])
            found = self.pages if wanted["value"] == "page" else self.sources
            found = sorted(found, key=lambda row: row["last_edited_time"], reverse=True)
        else:
            held = self.answers.get(request.path, no(404, "object_not_found"))
            found = held(request) if callable(held) else held
            if isinstance(found, Response):
                return found
        given: Mapping[str, Any] = request.json if request.method == "POST" else request.params
        first, size = int(given.get("start_cursor", 0)), int(given["page_size"])
        more = first + size < len(found)
        cursor = str(first + size) if more else None
        return listed(found[first : first + size], has_more=more, next_cursor=cursor)

    def children(self, id_: str, *blocks: Record) -> None:
        self.answers[f"/blocks/{id_}/children"] = list(blocks)


def inside(read: Followed) -> set[str]:
    return {key.partition("/")[2] for key in read.rows}


# -- Blocks ---------------------------------------------------------------------------------------


def test_a_block_that_the_api_lacks_leaves_the_rest_of_its_page_and_the_other_pages_read() -> None:
    """A block of a kind that the API does not know (`ai_block`, a page of another service) has
    children by its own word, and asked for them Notion answers 400; whole syncs ended there.

    airbytehq/airbyte#25709 (2023-05), elastic/connectors#2306 (2024-03). Right: the block is a
    record, and what comes after it is read.
    """
    desk = Desk([page("p1"), page("p2")])
    desk.children("p1", block("b1"), block("ai", "unsupported", inner=True), block("b2"))
    desk.children("p2", block("b3"))
    desk.answers["/blocks/ai/children"] = no(400, "validation_error")
    read = Followed(NOTION, BLOCKS, desk).sync()
    assert (inside(read), read.error) == ({"b1", "ai", "b2", "b3"}, None)
    assert read.at.get("failed") is None


def test_blocks_that_were_read_before_stay_when_one_that_holds_them_cannot_be_read_now() -> None:
    """A page that had been read whole got a block that the API lacks, within another: the listing
    around it failed with 400, and had the rest been taken for all there is, blocks that still stood
    there would have been retired.

    openclaw/notcrawl#60 (2026-07). Right: what cannot be read now is kept, and named as unread.
    """
    desk = Desk([page("p1"), page("p2")])
    desk.children("p1", block("t1", "toggle", inner=True))
    desk.children("t1", block("b1"))
    desk.children("p2", block("b2"))
    read = Followed(NOTION, BLOCKS, desk).sync()
    desk.answers["/blocks/t1/children"] = no(400, "validation_error")
    desk.answers["/blocks/p2/children"] = no(400, "validation_error")
    read.sync()
    assert inside(read) == {"t1", "b1", "b2"}
    assert set(read.at["failed"]) == {"p1", "p2"}
    desk.children("t1", block("b9"))
    desk.children("p2", block("b2"))
    desk.answers |= {"/pages/p1": response(page("p1")), "/pages/p2": response(page("p2"))}
    read.sync(now=NOW + timedelta(hours=1))
    assert (inside(read), read.at.get("failed")) == ({"t1", "b9", "b2"}, None)


def test_a_copy_of_a_block_that_is_not_shared_is_empty_and_no_error() -> None:
    """The copy of a synced block has children by its own word, and 404 comes for them where the
    original stands on a page that is not shared; the sync was aborted.

    openclaw/notcrawl#37 (2026-05), airbytehq/airbyte#27060 (2023-06). Right: the rest is read.
    """
    desk = Desk([page("p1")])
    desk.children("p1", block("copy", "synced_block", inner=True), block("b1"))
    read = Followed(NOTION, BLOCKS, desk).sync()
    assert (inside(read), read.error) == ({"copy", "b1"}, None)


def test_a_block_that_holds_itself_and_blocks_a_thousand_deep_come_to_an_end() -> None:
    """By way of synced blocks a block stood among its own children, and imported pages were nested
    more than nine hundred deep: readers that call themselves turned in a circle, or died.

    dust-tt/dust#495 (2023-05), onyx-dot-app/onyx#12040 (2026-06). Right: each block once, and a
    depth at which it ends.
    """
    desk = Desk([page("p1"), page("p2")])
    desk.children("p1", block("s1", "synced_block", inner=True))
    desk.children("s1", block("s1", "synced_block", inner=True), block("p1", inner=True))
    desk.children("p2", block("d0", "toggle", inner=True))
    for depth in range(1_000):
        desk.children(f"d{depth}", block(f"d{depth + 1}", "toggle", inner=True))
    read = Followed(NOTION, BLOCKS, desk).sync()
    assert read.error is None
    assert {"s1", "p1", "d0", "d29"} <= inside(read)
    assert len(desk.asked) < 50


def test_all_children_of_a_page_come_and_a_page_within_is_not_descended_into() -> None:
    """A reader asked once for the children of a page and took the first hundred for all; another
    went on into pages within pages, and so through a whole workspace.

    langgenius/dify-official-plugins#2951 (2026-04). Right: pages are followed to the last, and
    `child_page` and `child_database` are left to be read by themselves.
    """
    desk = Desk([page("p1")])
    blocks = [block(f"b{n}") for n in range(250)]
    desk.children("p1", *blocks, block("p2", "child_page", inner=True))
    desk.children("p2", block("elsewhere"))
    read = Followed(NOTION, BLOCKS, desk).sync()
    assert len(read.rows) == 251
    assert "elsewhere" not in inside(read)


@pytest.mark.parametrize("answer", [{}, None, {"results": None, "has_more": False}])
def test_a_listing_without_its_list_is_no_empty_one(answer: Any) -> None:
    """A good answer that held no list was read as a page without blocks, and all that was known of
    the page was retired.

    openclaw/notcrawl#147 (2026-09). Right: what was read of it stays, and it is read again.
    """
    desk = Desk([page("p1")])
    desk.children("p1", block("b1"))
    read = Followed(NOTION, BLOCKS, desk).sync()
    desk.answers["/blocks/p1/children"] = response(answer)
    read.sync()
    assert (inside(read), set(read.at["failed"])) == ({"b1"}, {"p1"})


# -- What is shared, and what is allowed ----------------------------------------------------------


def test_a_page_that_is_not_shared_any_more_is_hidden_and_leaves_the_others_read() -> None:
    """Search named pages that Notion then answered 404 of, `object_not_found`: the sync failed as a
    whole, again and again.

    elastic/connectors#2307 (2024-03), onyx-dot-app/onyx#1213 (2024-03). Right: the others are read,
    and of that page it is noted that it is not shown, which is not that it was deleted.
    """
    desk = Desk([page("p1"), page("p2")])
    desk.children("p1", block("b1"))
    desk.children("p2", block("b2"))
    read = Followed(NOTION, BLOCKS, desk).sync()
    del desk.answers["/blocks/p1/children"]
    reader = BLOCKS.read(Checkpoint(read.at), Context(now=NOW, account_id="acme"))
    pages, sent = [], None
    while True:
        try:
            action: Any = (
                reader.send(sent) if not isinstance(sent, Exception) else reader.throw(sent)
            )
        except StopIteration:
            break
        sent = None
        if isinstance(action, Request):
            answer = desk(action)
            sent = judged(NOTION, answer) or answer
        else:
            pages.append(action)
    gone = [listing for each in pages for listing in each.listed_keys if not listing.keys]
    assert [(listing.prefix, listing.hidden) for listing in gone] == [("p1/", True)]
    assert {row["id"] for each in pages for row in each.records} == {"b2"}


def test_comments_that_the_app_may_not_read_cost_a_few_calls_and_no_other_stream() -> None:
    """An app without the capability to read comments gets 403 for each page; a sync ended after the
    first page, with nothing else read.

    openclaw/notcrawl#6 (2026-04), squaredup/plugins#74 (2026-06; users likewise). Right: the stream
    names what its administrator has to allow, and asks nobody to connect again; and of a hundred
    pages not each is tried.
    """
    desk = Desk([page(f"p{n}") for n in range(100)])
    for n in range(100):
        desk.answers[f"/comments?block_id=p{n}"] = no(403, "restricted_resource")
    read = Followed(NOTION, COMMENTS, desk).sync()
    assert isinstance(read.error, NotAllowedError)
    assert "capability" in str(read.error)
    assert len(desk.asked) < 6
    users = Followed(
        NOTION, NOTION.stream("users"), lambda _: no(403, "restricted_resource")
    ).sync()
    assert isinstance(users.error, NotAllowedError)


def test_a_data_source_that_search_leaves_out_keeps_its_rows_and_is_read_on() -> None:
    """Although all was shared, search showed but some of the pages and data sources, without any
    pattern, some rows of a database and others not.

    raycast/extensions#28029 (2026-05), makenotion/notion-sdk-js#114 (2021-06). Right: rows are
    queried, not searched for; and of a data source that search shows no more Notion is asked.
    """
    sources = [{"object": "data_source", "id": id_, "last_edited_time": stamp(NOW)} for id_ in "ab"]
    desk = Desk([], sources)
    desk.answers["/data_sources/a/query"] = [page("p1", source="a")]
    desk.answers["/data_sources/b/query"] = [page("p2", source="b")]
    read = Followed(NOTION, ROWS, desk).sync()
    desk.sources = sources[:1]
    desk.answers["/data_sources/b"] = response({**sources[1], "in_trash": False})
    desk.answers["/data_sources/b/query"] = [page("p2", source="b"), page("p3", source="b")]
    read.sync()
    assert (set(read.rows), read.error) == ({"a/p1", "b/p2", "b/p3"}, None)
    desk.answers["/data_sources/b"] = no(404, "object_not_found")
    assert set(read.sync().rows) == {"a/p1"}


def test_each_data_source_of_a_database_is_read() -> None:
    """Databases with several data sources answered 400 to older versions of the API, and to what
    asked for a database in place of its data sources; indexing crashed.

    onyx-dot-app/onyx#8926 (2026-03), langgenius/dify-official-plugins#2167 (2025-12). Right: every
    call names a version that knows data sources, and all of them are read.
    """
    assert NOTION.headers["notion-version"] >= "2025-09-03"
    parent = {"type": "database_id", "database_id": "d"}
    desk = Desk([], [{"id": id_, "last_edited_time": stamp(NOW), "parent": parent} for id_ in "ab"])
    desk.answers = {f"/data_sources/{id_}/query": [page(f"p{id_}", source=id_)] for id_ in "ab"}
    assert set(Followed(NOTION, ROWS, desk).sync().rows) == {"a/pa", "b/pb"}


# -- Cells ----------------------------------------------------------------------------------------


def test_a_relation_to_forty_pages_has_forty_and_not_twenty_five() -> None:
    """A page shows 25 references of a relation and says `has_more`; programs took them for all.

    4ier/notion-cli#38 (2026-04), lastorel/pytion#45 (2023-01). Right: the rest is read from the
    property's own endpoint, in the page and in the stream of relations.
    """
    ids = [f"r{n}" for n in range(140)]
    desk = Desk([page("p1", Links=relation(*ids[:25], more=True))])
    items = [{"object": "property_item", "type": "relation", "relation": {"id": i}} for i in ids]
    desk.answers["/pages/p1/properties/rel"] = items
    cell = Followed(NOTION, PAGES, desk).sync().rows["p1"]["properties"]["Links"]
    assert ([each["id"] for each in cell["relation"]], cell["has_more"]) == (ids, False)
    assert len(Followed(NOTION, RELATIONS, desk).sync().rows) == 140


def test_people_and_mentions_are_completed_though_nothing_says_that_there_are_more() -> None:
    """Of people, titles and texts 25 references come as well, and no `has_more` with them: the loss
    is silent.

    Grey-Iris/easy-notion-mcp#35 (2026-04). Right: where there are 25, the rest is asked for.
    """
    users = [{"object": "user", "id": f"u{n}"} for n in range(27)]
    people = {"id": "who", "type": "people", "people": users[:25]}
    few = {"id": "few", "type": "people", "people": users[:24]}
    desk = Desk([page("p1", Who=people, Few=few)])
    items = [{"object": "property_item", "type": "people", "people": each} for each in users]
    desk.answers["/pages/p1/properties/who"] = items
    cells = Followed(NOTION, PAGES, desk).sync().rows["p1"]["properties"]
    assert (len(cells["Who"]["people"]), len(cells["Few"]["people"])) == (27, 24)
    assert len(desk.asked) == 2


def test_a_relation_to_what_is_not_shared_leaves_the_page_as_it_is_shown() -> None:
    """A relation leads to a database that is not shared: its property answers 404.

    langgenius/dify#18285 (2025-04, of parents that are not shared). Right: the page is a record.
    """
    desk = Desk([page("p1", Links=relation("r1", more=True))])
    cell = Followed(NOTION, PAGES, desk).sync().rows["p1"]["properties"]["Links"]
    assert (cell["relation"], cell["has_more"]) == ([{"id": "r1"}], True)


# -- Times ----------------------------------------------------------------------------------------


def test_an_edit_in_the_minute_of_the_last_look_is_found() -> None:
    """Times of edits are rounded down to the minute: what is edited after a look, in the same
    minute, has a time before it, and was skipped.

    activepieces/activepieces#4671 (2024-05), n8n-io/n8n#6604 (2023-07). Right: looks overlap.
    """
    now = NOW + timedelta(seconds=20)
    desk = Desk([page("p1", NOW - timedelta(days=1))])
    read = Followed(NOTION, PAGES, desk).sync(now=now)
    desk.pages.append(page("p2", now + timedelta(seconds=10)))
    assert set(read.sync(now=now + MINUTE).rows) == {"p1", "p2"}


def test_the_second_edit_of_a_minute_goes_over_the_first() -> None:
    """Two edits in one minute bear the same time; who compares times keeps the first.

    agency-kit/notion-cms#116 (2023-08). Right: of equal versions the one seen later is stored.
    """
    first, second = page("p1"), page("p1", Done={"id": "d", "type": "checkbox", "checkbox": True})
    desk = Desk([first])
    read = Followed(NOTION, PAGES, desk).sync(now=NOW + timedelta(seconds=10))
    desk.pages = [second]
    read.sync(now=NOW + timedelta(seconds=50))
    assert "Done" in read.rows["p1"]["properties"]
    assert PAGES.version(first) == PAGES.version(second) is not None


def test_every_page_of_a_search_is_read_and_a_poll_stops_at_what_is_known() -> None:
    """A reader that follows no cursor saw the hundred last edited pages and no other.

    2anki/2anki.net#2925 (2026-05). Right: all are read once, and then only what was edited.
    """
    desk = Desk([page(f"p{n}", NOW - timedelta(days=n + 1)) for n in range(250)])
    read = Followed(NOTION, PAGES, desk).sync()
    assert len(read.rows) == 250
    desk.asked.clear()
    read.sync(now=NOW + timedelta(minutes=10))
    assert len(desk.asked) == 2  # what was edited, and what is in the trash


# -- Bad days -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (no(429, "rate_limited", **{"retry-after": "120"}), RateLimitedError),
        (no(529, "service_overload", **{"retry-after": "5"}), RateLimitedError),
        (no(409, "conflict_error"), ProviderUnavailableError),
        (no(503, "service_unavailable"), ProviderUnavailableError),
        (response("<html>Bad gateway</html>", 502), ProviderUnavailableError),
        (response("<html>Gateway time-out</html>", 504), ProviderUnavailableError),
    ],
)
def test_what_passes_by_itself_is_waited_for(answer: Response, kind: type[Exception]) -> None:
    """Long reads met 502 and 504 all the time, and 429 with «try again in a few minutes»; some died
    of them.

    sillsdev/docu-notion#80 (2023-09), 2anki/2anki.net#1522 (2024-05), jamalex/notion-py#333
    (2021-07). Right: nobody has to act.
    """
    assert isinstance(judged(NOTION, answer), kind)


def test_a_query_that_takes_too_long_is_asked_for_in_smaller_pages() -> None:
    """Reading a database of 299 pages timed out, each time.

    PipedreamHQ/pipedream#8433 (2023-10); Notion's 503 advises smaller pages. Right: the next try
    asks for fewer rows, until they come.
    """
    found = [page(f"p{n}", source="a") for n in range(120)]

    def slow(request: Request) -> Any:
        return no(503, "service_unavailable") if request.json["page_size"] > 25 else found

    desk = Desk([], [{"id": "a", "last_edited_time": stamp(NOW)}], {"/data_sources/a/query": slow})
    assert len(Followed(NOTION, ROWS, desk).sync(4).rows) == 120


# -- Tokens and webhooks --------------------------------------------------------------------------


def test_a_token_of_which_nothing_says_when_it_ends_is_kept_with_what_renews_it() -> None:
    """Older programs took Notion's tokens to be good for ever and kept no refresh token. Today it
    gives one, new with each use, and no answer says how long a token lives.

    dust-tt/dust#6380 (2024-07), vm0-ai/vm0#2723 (2026-02). Right: both are kept, nothing is renewed
    for its age, and a token that is refused is renewed by a refresh token that is used once.
    """
    answer = {"access_token": "ntn_1", "refresh_token": "nrt_1", "workspace_id": "w", "bot_id": "b"}
    tokens = read_tokens(NOTION, response(answer), {})
    assert tokens is not None
    assert (tokens.refresh_token, tokens.expires_at) == ("nrt_1", None)
    assert NOTION.oauth.rotates
    assert NOTION.oauth.grace is None


def delivery(body: Mapping[str, Any]) -> Delivery:
    return Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip


def test_the_first_call_of_a_subscription_is_answered_and_proves_nothing() -> None:
    """The first call holds the token that signs the later ones. An endpoint that answered it with
    an error could not be subscribed; one that took all unsigned from then on was open.

    dust-tt/dust#17361 (2025-10). Right: it is answered, has no effect, and events are proven.
    """
    assert NOTION.webhook
    told = delivery({"verification_token": "secret_made-up"})
    reply = NOTION.webhook.handshake(told)
    assert reply is not None
    assert (reply.status, "secret_made-up" in reply.body) == (200, False)
    event = delivery({"type": "page.created", "verification_token": "x", "workspace_id": "w"})
    assert NOTION.webhook.handshake(event) is None
    assert NOTION.webhook.verify
    with pytest.raises(SignatureError):
        NOTION.webhook.verify(event, VerificationKeys(secrets=("secret_made-up",)))


def test_links_to_files_do_not_make_a_page_another_at_each_read() -> None:
    """Links to files are signed anew for each read and end within the hour: caches held dead ones,
    and comparisons found every page changed.

    Told by https://developers.notion.com/reference/file-object (2026-11). Right: two reads of a
    page that nobody edited are equal.
    """

    def cover(signature: str) -> Record:
        ends = "2026-11-01T13:00:00.000Z"
        return {
            "type": "file",
            "file": {"url": f"https://s3.test/a.png?{signature}", "expiry_time": ends},
        }

    reads = []
    for signature in ("X-Amz-Signature=1", "X-Amz-Signature=2"):
        shown = {**page("p1"), "cover": cover(signature)}
        written = f"![a](https://s3.test/a.png?X-Amz-Date=1&{signature}) [b](https://b.test/?c=d)"
        marked = {"object": "page_markdown", "id": "p1", "markdown": written}
        desk = Desk(
            [shown], answers={"/pages/p1/markdown": response({**marked, "request_id": signature})}
        )
        streams = (PAGES, NOTION.stream("page_markdown"))
        reads.append([Followed(NOTION, stream, desk).sync().rows for stream in streams])
    assert reads[0] == reads[1]
    assert "https://b.test/?c=d" in reads[0][1]["p1"]["markdown"]
