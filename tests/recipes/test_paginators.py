"""What follows a page."""

from typing import Any

import pytest
import yaml

from connectors import CheckpointExpiredError, ContractError, Request, Response, Stream
from tests.recipes._playing import answer, only, play, stream

TOKEN = "page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: p}"
SIZE = "page_size_option: {type: RequestOption, inject_into: request_parameter, field_name: n}"


def paged(strategy: str, *options: str, **more: Any) -> Stream:
    paginator = {"type": "DefaultPaginator", "pagination_strategy": yaml.safe_load(strategy)}
    for option in options:
        paginator |= yaml.safe_load(option)
    return only(stream(retriever={"paginator": paginator, **more}))


def pages(*sizes: int, more: dict[str, Any] | None = None) -> Any:
    """A vendor with pages of these sizes, one after the other."""
    left = list(sizes)

    def vendor(request: Request) -> Response:
        size = left.pop(0)
        return answer(
            {"items": [{"id": f"{len(left)}-{one}"} for one in range(size)], **(more or {})}
        )

    return vendor


@pytest.mark.parametrize(
    ("strategy", "sizes", "queries"),
    [
        ("{type: OffsetIncrement, page_size: 2}", (2, 2, 1), ["n=2", "p=2&n=2", "p=4&n=2"]),
        ("{type: OffsetIncrement, page_size: 2}", (2, 0), ["n=2", "p=2&n=2"]),
        (
            "{type: OffsetIncrement, page_size: '{{ config.n }}', inject_on_first_request: true}",
            (2, 1),
            ["p=0&n=2", "p=2&n=2"],
        ),
        ("{type: PageIncrement, page_size: 2}", (2, 2, 0), ["n=2", "p=1&n=2", "p=2&n=2"]),
        (
            "{type: PageIncrement, page_size: 2, start_from_page: 1, "
            "inject_on_first_request: true}",
            (2, 1),
            ["p=1&n=2", "p=2&n=2"],
        ),
    ],
)
def test_counted_pages(strategy: str, sizes: tuple[int, ...], queries: list[str]) -> None:
    played = play(paged(strategy, TOKEN, SIZE), pages(*sizes), {"n": "2"})
    assert [url.partition("?")[2] for url in played.urls] == queries
    assert len(played.records) == sum(sizes)


COUNTED = (
    "{type: CursorPagination, cursor_value: \"{{ response['start'] + 1 }}\", "
    "stop_condition: \"{{ response.get('start') + 1 >= response.get('total') }}\"}"
)


def test_a_listing_that_never_counts_is_one_page() -> None:
    assert len(play(paged(COUNTED, TOKEN), pages(2)).records) == 2


def test_a_later_page_without_the_counts_of_the_first_ends_nothing() -> None:
    def vendor(request: Request) -> Response:
        counts = {} if request.params.get("p") else {"start": 0, "total": 5}
        return answer({"items": [{"id": str(request.params.get("p"))}], **counts})

    with pytest.raises(ContractError, match="does not say whether more follow") as failed:
        play(paged(COUNTED, TOKEN), vendor)
    assert not any(page.checkpoint == {} for page in failed.value.played.pages)  # type: ignore[attr-defined]


def test_pages_without_a_size_end_with_an_empty_one() -> None:
    played = play(paged("{type: PageIncrement}", TOKEN), pages(3, 1, 0))
    assert [url.partition("?")[2] for url in played.urls] == ["", "p=1", "p=2"]


def test_a_filter_does_not_end_a_listing() -> None:
    selector = {"record_filter": {"type": "RecordFilter", "condition": "{{ record.id == 'no' }}"}}
    strategy = "{type: OffsetIncrement, page_size: 2}"
    played = play(paged(strategy, TOKEN, record_selector=selector), pages(2, 2, 1))
    assert [url.partition("?")[2] for url in played.urls] == ["", "p=2", "p=4"]
    assert played.records == []


CURSORS: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    (
        "{type: CursorPagination, cursor_value: '{{ response.next }}'}",
        [{"next": "b"}, {"next": 3}, {"next": None}],
        ["", "p=b", "p=3"],
    ),
    (
        "{type: CursorPagination, cursor_value: '{{ response.next }}', "
        "stop_condition: '{{ not response.more }}'}",
        [{"next": "b", "more": True}, {"next": "c", "more": False}],
        ["", "p=b"],
    ),
    (
        "{type: CursorPagination, cursor_value: \"{{ last_record['id'] }}\", "
        "stop_condition: '{{ last_page_size < 1 }}'}",
        [{"items": [{"id": "x"}]}, {"items": []}],
        ["", "p=x"],
    ),
    (
        "{type: CursorPagination, cursor_value: '{{ response.a.b.c }}', "
        "stop_condition: '{{ response.a is not defined }}'}",
        [{"a": {"b": {"c": "2"}}}, {}],
        ["", "p=2"],
    ),
]


@pytest.mark.parametrize(("strategy", "bodies", "queries"), CURSORS)
def test_cursor_pages(strategy: str, bodies: list[dict[str, Any]], queries: list[str]) -> None:
    left = [{"items": [], **body} for body in bodies]
    played = play(paged(strategy, TOKEN), lambda request: answer(left.pop(0)))
    assert [url.partition("?")[2] for url in played.urls] == queries
    assert left == []


def test_links_of_headers_and_of_answers_stand_for_the_path() -> None:
    base = "https://api.made-up.example"
    links = paged(
        "{type: CursorPagination, cursor_value: \"{{ headers['link']['next']['url'] }}\", "
        "stop_condition: \"{{ 'next' not in headers['link'] }}\"}",
        "page_token_option: {type: RequestPath}",
    )
    link = f'<{base}/v1/items?after=2>; rel="next", <{base}/v1/items>; rel="first"'
    played = play(
        links,
        {
            "/v1/items": answer({"items": [{"id": 1}]}, link=link),
            "/v1/items?after=2": {"items": [{"id": 2}]},
        },
    )
    assert [record["id"] for record in played.records] == [1, 2]
    relative = paged(
        "{type: CursorPagination, cursor_value: '{{ response.next }}'}",
        "page_token_option: {type: RequestPath}",
    )
    played = play(
        relative,
        {"/v1/items": {"items": [], "next": "/v2/more?x=1"}, "/v2/more?x=1": {"items": []}},
    )
    assert played.urls == ["/v1/items", "/v2/more?x=1"]


def test_the_token_goes_where_it_is_said() -> None:
    strategy = "{type: CursorPagination, page_size: 9, cursor_value: '{{ response.next }}'}"
    vendor = pages(1, 1, more={"next": "b"})
    read = paged(
        strategy,
        "page_token_option: {type: RequestOption, inject_into: body_json, field_path: [a, after]}",
        "page_size_option: {type: RequestOption, inject_into: body_json, field_path: [a, size]}",
        requester={"http_method": "POST"},
    )
    with pytest.raises(ContractError, match="its next page is this one") as failed:
        play(read, vendor)
    requests = failed.value.played.requests  # type: ignore[attr-defined]
    assert [request.json for request in requests] == [
        {"a": {"size": 9}},
        {"a": {"after": "b", "size": 9}},
    ]
    header = "page_token_option: {type: RequestOption, inject_into: header, field_name: X-After}"
    bodies = [{"items": [], "next": "b"}, {"items": []}]
    played = play(paged(strategy, header), lambda request: answer(bodies.pop(0)))
    assert [request.headers for request in played.requests] == [{}, {"x-after": "b"}]


def test_a_read_goes_on_where_it_was_left_and_starts_anew_where_that_is_forgotten() -> None:
    read = paged("{type: OffsetIncrement, page_size: 2}", TOKEN)
    first = play(read, pages(2, 2, 2, 1), pages=2)
    at = first.last.checkpoint
    # The second page is given with the third in hand: so many are read that are stored.
    assert [url.partition("?")[2] for url in first.urls] == ["", "p=2", "p=4"]
    rest = play(read, pages(2, 1), at=at)
    assert [url.partition("?")[2] for url in rest.urls] == ["p=4", "p=6"]
    assert rest.last.checkpoint == {}
    with pytest.raises(CheckpointExpiredError):
        play(read, lambda request: answer({}, 410), at=at)


def test_a_listing_that_leads_in_a_circle_ends() -> None:
    strategy = "{type: CursorPagination, cursor_value: '{{ response.next }}'}"
    after = {None: "b", "b": "c", "c": "b"}

    def vendor(request: Request) -> Response:
        here = request.params.get("p")
        return answer(
            {"items": [{"id": str(here)}], "next": after[here if here is None else str(here)]}
        )

    with pytest.raises(ContractError):
        play(paged(strategy, TOKEN), vendor)


def test_a_token_that_goes_nowhere_is_not_followed() -> None:
    strategy = "{type: PageIncrement, page_size: 2}"
    assert play(paged(strategy, SIZE), pages(2, 2)).urls == ["/v1/items?n=2"]
    in_template = {"request_parameters": {"p": "{{ next_page_token.next_page_token }}"}}
    read = paged(strategy, requester=in_template)
    assert play(read, pages(2, 1)).urls == ["/v1/items", "/v1/items?p=1"]


def test_a_link_that_bears_a_secret_is_kept_without_it() -> None:
    read = paged(
        "{type: CursorPagination, cursor_value: '{{ response.next }}'}",
        "page_token_option: {type: RequestPath}",
    )
    config = {"key": "canary/secret", "apps": [{"id": "canary-app"}]}
    link = "/v1/items?key=canary%2Fsecret&raw=canary/secret&app=canary-app&page="
    vendor = {
        "/v1/items": {"items": [{"id": 1}], "next": f"{link}2"},
        f"{link}2": {"items": [{"id": 2}], "next": f"{link}3"},
        f"{link}3": {"items": [{"id": 3}]},
    }
    first = play(read, vendor, config, pages=1)
    assert "canary" not in str(dict(first.last.checkpoint))
    rest = play(read, vendor, config, at=first.last.checkpoint)
    assert rest.urls == [f"{link}2", f"{link}3"]
