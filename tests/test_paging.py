"""The common paging styles, driven by next() and send() over made-up vendors."""

from typing import Any

import pytest

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    Page,
    Request,
    Response,
    column,
    columns,
)
from connectors.kernel.paging import (
    Read,
    connection_pages,
    cursor_pages,
    link_pages,
    next_link,
    next_url_pages,
    offset_pages,
    page_number_pages,
)
from connectors.kernel.versions import epoch_us, integer
from tests._driving import NOW, Answer, drive, response

ROWS = [{"id": str(number)} for number in range(7)]
LIST = Request.get("/things", params={"limit": 3})
QUERY = Request.post("/graphql", json={"query": "…", "variables": {"team": "t"}})


def _slice(start: int) -> tuple[list[dict[str, str]], int | None]:
    return ROWS[start : start + 3], start + 3 if start + 3 < len(ROWS) else None


def by_cursor(request: Request) -> Response:
    rows, following = _slice(int(request.params.get("after", 0)))  # type: ignore[arg-type]
    paging = {} if following is None else {"paging": {"next": {"after": str(following)}}}
    return response({"results": rows, **paging})


def by_offset(request: Request) -> Response:
    return response({"results": _slice(int(request.params["skip"]))[0]})  # type: ignore[arg-type]


def by_number(request: Request) -> Response:
    page = int(request.params["page"])  # type: ignore[arg-type]
    return response({"results": _slice((page - 1) * 3)[0]})


def by_link(request: Request) -> Response:
    rows, following = _slice(int(request.path.partition("after=")[2] or 0))
    link = '<https://made-up.test/?x=1>; rel="prev"'
    if following is not None:
        assert "limit" not in request.params or request.path == "/things"
        link += f', <https://made-up.test/things?after={following}>; title="a, b"; rel="next last"'
    return response(rows, headers={"link": link})


def by_url(request: Request) -> Response:
    rows, following = _slice(int(request.path.partition("after=")[2] or 0))
    target = None if following is None else f"https://made-up.test/things?after={following}"
    return response({"value": rows, "@odata": {"next": target}})


def by_graph(request: Request) -> Response:
    assert request.json["variables"]["team"] == "t"
    rows, following = _slice(int(request.json["variables"]["after"] or 0))
    info = {"hasNextPage": following is not None, "endCursor": str(following)}
    return response({"data": {"team": {"issues": {"nodes": rows, "pageInfo": info}}}})


def _started(context: Context) -> dict[str, Any]:
    return {"started": context.now.isoformat()}


def _done(kept: dict[str, Any]) -> Checkpoint:
    return Checkpoint(since=kept["started"])


KEEP: dict[str, Any] = {"begin": _started, "then": _done}
STYLES = {
    "cursor": (
        cursor_pages(LIST, records="results", cursor="paging.next.after", param="after", **KEEP),
        by_cursor,
    ),
    "offset": (offset_pages(LIST, records="results", param="skip", size=3, **KEEP), by_offset),
    "page number": (page_number_pages(LIST, records="results", size=3, **KEEP), by_number),
    "Link header": (link_pages(LIST, **KEEP), by_link),
    "next URL": (next_url_pages(LIST, records="value", url="@odata.next", **KEEP), by_url),
    "GraphQL": (connection_pages(QUERY, connection="team.issues", **KEEP), by_graph),
}
STYLE = pytest.mark.parametrize(("read", "answer"), STYLES.values(), ids=STYLES.keys())


@STYLE
def test_a_listing_is_read_to_its_end(read: Read, answer: Answer) -> None:
    pages = drive(read, answer)
    assert [record for page in pages for record in page.records] == ROWS
    assert len(pages) == 3
    assert pages[-1].checkpoint == {"since": NOW.isoformat()}


@STYLE
def test_each_checkpoint_resumes_the_rest_and_keeps_when_it_began(
    read: Read, answer: Answer
) -> None:
    pages = drive(read, answer)
    for read_already, page in enumerate(pages[:-1], start=1):
        assert page.checkpoint["started"] == NOW.isoformat()
        assert drive(read, answer, page.checkpoint) == pages[read_already:]


@pytest.mark.parametrize("style", ["cursor", "Link header", "next URL"])
def test_a_resumed_listing_that_the_vendor_forgot_starts_over(style: str) -> None:
    read, answer = STYLES[style]
    at = drive(read, answer)[0].checkpoint

    def forgetful(request: Request) -> Response:
        assert 400 in request.expect
        return response({}, status=400)

    with pytest.raises(CheckpointExpiredError):
        drive(read, forgetful, at)


def test_a_refusal_in_the_middle_is_no_lapsed_checkpoint() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return by_cursor(request)

    read, _ = STYLES["cursor"]
    drive(read, answer)
    assert all(request.expect == () for request in asked)
    asked.clear()
    drive(read, answer, drive(read, by_cursor)[0].checkpoint)
    assert [bool(request.expect) for request in asked] == [True, False]


@pytest.mark.parametrize("style", ["cursor", "next URL", "GraphQL"])
def test_a_vendor_that_gives_the_same_page_for_ever_is_noticed(style: str) -> None:
    read, answer = STYLES[style]
    with pytest.raises(ContractError, match="does not go on"):
        drive(read, lambda request: answer(LIST if style != "GraphQL" else QUERY_FIRST))


QUERY_FIRST = Request.post("/graphql", json={"variables": {"team": "t", "after": None}})


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": {"a": 1}}, [], None])
def test_a_list_that_is_missing_is_not_an_empty_one(body: Any) -> None:
    read, _ = STYLES["cursor"]
    with pytest.raises((KeyError, TypeError)):
        drive(read, lambda request: response(body))


def test_sparse_vendors_leave_an_empty_list_out() -> None:
    read = cursor_pages(
        LIST, records="items", cursor="nextPageToken", param="pageToken", sparse=True
    )
    assert drive(read, lambda request: response({})) == [Page([], Checkpoint())]


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://a.test/?p=2>; rel="next"', "https://a.test/?p=2"),
        ("<https://a.test/?p=2>; rel=next", "https://a.test/?p=2"),
        ('<https://a.test/1>; rel="first", <https://a.test/2>; rel="next"', "https://a.test/2"),
        ('<https://a.test/?f=a,b;c>; rel="next"', "https://a.test/?f=a,b;c"),
        ('<https://a.test/>; rel="nextish"', None),
        ('<https://a.test/>; rel="prev"', None),
        ("", None),
    ],
)
def test_the_next_link_is_found(header: str, target: str | None) -> None:
    assert next_link(response([], headers={"link": header})) == target


def test_versions_are_exact_integers() -> None:
    version = epoch_us("meta.updated")
    assert version({"meta": {"updated": "2026-01-01T00:00:00.123456Z"}}) == 1767225600123456
    assert version({"meta": {"updated": "2025-12-31T16:00:00-08:00"}}) == 1767225600000000
    assert version({"meta": {"updated": "2026-01-01T00:00:00"}}) == 1767225600000000
    assert version({"meta": None}) is None
    assert version({}) is None
    assert integer("historyId")({"historyId": "18446744073709551615"}) == 2**64 - 1
    assert integer("n")({}) is None
    for broken in (epoch_us("x"), integer("x")):
        with pytest.raises(ContractError) as caught:
            broken({"x": "canary"})
        assert "canary" not in str(caught.value)


def test_columns_are_words_with_a_path_and_a_type() -> None:
    assert columns("email total=amount.value:numeric", "open:boolean") == {
        "email": column("email"),
        "total": column("amount.value", "numeric"),
        "open": column("open", "boolean"),
    }
