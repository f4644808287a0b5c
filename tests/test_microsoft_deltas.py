"""Graph's delta functions as readers of ours, over played answers."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Request,
    Response,
    Steps,
)
from connectors._microsoft import GRAPH
from connectors._microsoft.deltas import GIVEN_UP_AFTER, PageContext, delta_stream, each_by_id
from tests._driving import NOW, drive, response
from tests.reports._graph import error, page

THINGS = "/things/delta"
HOUR = timedelta(hours=1)


def link(name: str) -> str:
    return f"{GRAPH}{THINGS}?$deltatoken={name}"


def sized(size: int) -> Request:
    return Request.get(THINGS, headers={"prefer": f"odata.maxpagesize={size}"})


def away(request: Request) -> Response:
    raise ProviderUnavailableError("504")


def player(answers: Mapping[str, Response | Callable[[Request], Response]]) -> Any:
    def answer(request: Request) -> Response:
        found = answers[request.path]
        return found if isinstance(found, Response) else found(request)

    return answer


def test_a_link_that_is_not_answered_is_kept_for_hours_and_then_given_up() -> None:
    read = delta_stream(Request.get(THINGS))
    answer = player({link("1"): away})
    reader, pages = read(Checkpoint(link=link("1")), Context(now=NOW, account_id="a")), []
    step = next(reader)
    while not isinstance(step, Page):
        step = reader.throw(ProviderUnavailableError("504"))
    pages.append(step)
    with pytest.raises(ProviderUnavailableError):
        next(reader)
    failing = pages[-1].checkpoint
    with pytest.raises(ProviderUnavailableError):
        drive(read, answer, failing, now=NOW + GIVEN_UP_AFTER - HOUR)
    with pytest.raises(CheckpointExpiredError):
        drive(read, answer, failing, now=NOW + GIVEN_UP_AFTER)
    # Once it is answered nothing is left of it.
    (found,) = drive(read, player({link("1"): page(delta=link("2"))}), failing, now=NOW + HOUR)
    assert found.checkpoint == {"link": link("2")}


def test_a_first_listing_that_is_not_answered_is_not_begun_again_and_again() -> None:
    read = delta_stream(Request.get(THINGS))
    here = {"link": link("amid"), "listing": True}
    with pytest.raises(ProviderUnavailableError):
        drive(read, player({link("amid"): away}), here, now=NOW + 10 * GIVEN_UP_AFTER)


def test_a_smaller_page_is_asked_for_where_a_larger_one_is_never_given() -> None:
    sizes: list[int] = []

    def slow(request: Request) -> Response:
        size = int(request.headers["prefer"].partition("=")[2])
        sizes.append(size)
        if size > 5:
            raise ProviderUnavailableError("504")
        end = request.path != THINGS
        return page({"id": "b"}, delta=link("2")) if end else page({"id": "a"}, next=link("1"))

    read = delta_stream(sized(50), smaller=[sized(10), sized(1)])
    pages = drive(read, player({THINGS: slow, link("1"): slow}))
    assert [row["id"] for one in pages for row in one.records] == ["a", "b"]
    assert sizes == [50, 10, 1, 1], "what was too much is not tried again"


def test_a_delta_from_now_on_is_taken_before_the_first_listing_and_followed_after_it() -> None:
    begin = Request.get(f"{THINGS}/latest")
    answers = {
        begin.path: page(delta=link("before")),
        THINGS: page({"id": "a"}, next=link("amid")),
        link("amid"): page({"id": "b"}, delta=link("dropped")),
        link("before"): page({"id": "a", "@removed": {}}, delta=link("after")),
    }
    pages = drive(delta_stream(Request.get(THINGS), begin=begin), player(answers))
    assert pages[-1].checkpoint == {"link": link("after")}
    assert list(pages[-1].deleted) == ["a"]
    # From each checkpoint it goes on to the same end.
    for stop in range(1, len(pages)):
        read = delta_stream(Request.get(THINGS), begin=begin)
        rest = drive(read, player(answers), pages[stop - 1].checkpoint)
        assert rest[-1].checkpoint == pages[-1].checkpoint
        assert len(rest) == len(pages) - stop


def test_a_collection_that_is_not_shown_is_for_an_administrator() -> None:
    read = delta_stream(Request.get(THINGS, expect=(404,)))
    with pytest.raises(NotAllowedError):
        drive(read, player({THINGS: error(404, "ErrorItemNotFound")}))


def test_what_a_page_adds_to_the_checkpoint_is_handed_on_to_the_next() -> None:
    seen: list[int] = []

    def settle(page: Page, page_context: PageContext) -> Steps[Page]:
        yield from ()
        count = page.checkpoint.get("count", 0) + 1
        seen.append(count)
        return Page(page.records, Checkpoint({**page.checkpoint, "count": count}))

    answers = {THINGS: page(next=link("1")), link("1"): page(delta=link("2"))}
    pages = drive(delta_stream(Request.get(THINGS), settle=settle), player(answers))
    assert seen == [1, 2]
    assert pages[-1].checkpoint == {"link": link("2"), "count": 2}


def test_records_are_read_again_by_their_keys_and_what_is_not_found_is_gone() -> None:
    def answer(request: Request) -> Response:
        if request.path.endswith("/b"):
            return error(404, "ErrorItemNotFound")
        return response({"@odata.context": "x", "id": request.path[-1]})

    fetch = each_by_id("/things", shape=lambda _, row: row)
    (found,) = drive(lambda at, context: fetch(["a", "b"], context), answer)
    assert (found.records, found.deleted) == ([{"id": "a"}], ["b"])
