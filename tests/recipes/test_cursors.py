"""Streams by time: windows, steps, what a second read asks for, and how far a checkpoint goes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from connectors import ContractError, Request, Response
from recipes import datetimes
from tests.recipes._playing import NOW, answer, laid_over, only, play, read, stream

CURSOR = """
incremental_sync:
  type: DatetimeBasedCursor
  cursor_field: at
  datetime_format: "%Y-%m-%d"
  cursor_datetime_formats: ["%Y-%m-%dT%H:%M:%SZ", "%s"]
  start_datetime: {type: MinMaxDatetime, datetime: "2026-10-01", datetime_format: "%Y-%m-%d"}
  start_time_option: {type: RequestOption, inject_into: request_parameter, field_name: from}
  end_time_option: {type: RequestOption, inject_into: request_parameter, field_name: to}
"""
PAGED = """
retriever:
  paginator:
    type: DefaultPaginator
    page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
    pagination_strategy: {type: PageIncrement, page_size: 2, start_from_page: 1}
"""


def timed(changes: str = "", more: str = "") -> Any:
    made = stream(CURSOR)
    made["incremental_sync"] = laid_over(made["incremental_sync"], yaml.safe_load(changes) or {})
    return only(laid_over(made, yaml.safe_load(more) or {}))


def rows(*days: int) -> dict[str, Any]:
    return {"items": [{"id": day, "at": f"2026-10-{day:02}T08:00:00Z"} for day in days]}


def queries(read: Any, vendor: Any, at: Any = None, **more: Any) -> list[str]:
    return [url.partition("?")[2] for url in play(read, vendor, at=at, **more).urls]


def nothing(request: Request) -> Response:
    return answer({"items": []})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ("", ["from=2026-10-01&to=2026-11-01"]),
        ("{start_datetime: '2026-10-05'}", ["from=2026-10-05&to=2026-11-01"]),
        ("{datetime_format: '%s', start_datetime: '0'}", ["from=0&to=1793534400"]),
        (
            "{datetime_format: '%ms', start_datetime: {datetime: '1.5', datetime_format: "
            "'%s_as_float'}}",
            ["from=1500&to=1793534400000"],
        ),
        (
            "{datetime_format: '%Y-%m-%dT%H:%M:%S.%_msZ', start_datetime: "
            "'2026-10-01T00:00:00.250Z'}",
            ["from=2026-10-01T00%3A00%3A00.250Z&to=2026-11-01T12%3A00%3A00.000Z"],
        ),
        (
            "{start_datetime: {datetime: '{{ config.start }}', datetime_format: '%d/%m/%Y'}}",
            ["from=2026-10-09&to=2026-11-01"],
        ),
        (
            "{start_datetime: {datetime: '2026-10-01', min_datetime: '2026-10-20', "
            "datetime_format: '%Y-%m-%d'}, end_datetime: {datetime: '2026-12-01', max_datetime: "
            "'2026-10-25', datetime_format: '%Y-%m-%d'}}",
            ["from=2026-10-20&to=2026-10-25"],
        ),
        (
            "{step: P10D, cursor_granularity: P1D}",
            [
                "from=2026-10-01&to=2026-10-10",
                "from=2026-10-11&to=2026-10-20",
                "from=2026-10-21&to=2026-10-30",
                "from=2026-10-31&to=2026-11-01",
            ],
        ),
        (
            "{step: P1M, cursor_granularity: PT1S, start_datetime: '2026-08-31'}",
            [
                "from=2026-08-31&to=2026-09-29",
                "from=2026-09-30&to=2026-10-29",
                "from=2026-10-30&to=2026-11-01",
            ],
        ),
        ("{start_datetime: '2027-01-01'}", []),
    ],
)
def test_a_first_read_asks_for(changes: str, found: list[str]) -> None:
    assert queries(timed(changes), nothing, config={"start": "09/10/2026"}) == found


def test_times_of_a_slice_are_variables_under_their_names() -> None:
    read = timed(
        "{start_time_option: null, end_time_option: null, partition_field_start: since}",
        "retriever: {requester: {request_parameters: {a: '{{ stream_interval.since }}', "
        "b: \"{{ stream_slice['end_time'] }}\"}}}",
    )
    assert queries(read, nothing) == ["a=2026-10-01&b=2026-11-01"]


def test_a_second_read_begins_with_the_latest_record() -> None:
    read = timed()
    first = play(read, lambda request: answer(rows(20, 22, 21)))
    later = NOW + timedelta(hours=1)
    assert queries(read, nothing, first.last.checkpoint, now=later) == [
        "from=2026-10-22&to=2026-11-01"
    ]
    looks_back = timed("{lookback_window: 'P{{ config.days }}D'}")
    found = queries(looks_back, nothing, first.last.checkpoint, now=later, config={"days": 3})
    assert found == ["from=2026-10-19&to=2026-11-01"]
    assert (read.snapshot, read.hides_deletes) == (False, True)


def test_a_read_without_records_begins_a_little_before_the_last_one() -> None:
    read = timed("{datetime_format: '%Y-%m-%dT%H:%M', start_datetime: '2026-10-01T00:00'}")
    at = play(read, nothing).last.checkpoint
    soon = queries(read, nothing, at, now=NOW + timedelta(minutes=10))
    assert soon == ["from=2026-11-01T11%3A55&to=2026-11-01T12%3A10"]
    # Now and then as long ago as a vendor may show a change late.
    late = queries(read, nothing, at, now=NOW + timedelta(hours=2))
    assert late == ["from=2026-11-01T11%3A00&to=2026-11-01T14%3A00"]


def test_a_record_of_a_time_to_come_moves_nothing_past_what_was_read() -> None:
    read = timed()
    body = {"items": [{"id": 1, "at": "2030-01-01T00:00:00Z"}]}
    at = play(read, lambda request: answer(body)).last.checkpoint
    assert queries(read, nothing, at, now=NOW + timedelta(days=1)) == [
        "from=2026-11-01&to=2026-11-02"
    ]


def test_versions_are_the_times_of_records() -> None:
    read = timed()
    second = {"id": 1, "at": "2026-10-01T00:00:01Z"}
    assert read.version(second) == datetimes_us(datetime(2026, 10, 1, 0, 0, 1, tzinfo=UTC))
    assert [read.version({"at": at}) for at in ("5", 5)] == [5_000_000, 5_000_000]
    odd: list[dict[str, Any]] = [{}, {"at": None}, {"at": "odd"}, {"at": {}}]
    assert [read.version(one) for one in odd] == [None] * 4


def datetimes_us(at: datetime) -> int:
    return (at - datetimes.EPOCH) // timedelta(microseconds=1)


class Days:
    """A vendor that has records of some days, in pages of two."""

    def __init__(self, *days: int) -> None:
        self.days = days
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        first, last = str(request.params["from"]), str(request.params["to"])
        page = int(str(request.params.get("page", 1)))
        self.asked.append(f"{first} {page}")
        found = [day for day in self.days if first <= f"2026-10-{day:02}" <= last]
        return answer(rows(*found[page * 2 - 2 : page * 2]))


def test_a_read_in_steps_goes_on_after_any_page() -> None:
    read = timed("{step: P10D, cursor_granularity: P1D}", PAGED)
    days = (1, 2, 3, 9, 12, 13, 14, 25)
    whole = play(read, Days(*days))
    assert [record["id"] for record in whole.records] == list(days)
    for left_after in range(1, len(whole.pages)):
        first = play(read, Days(*days), pages=left_after)
        vendor = Days(*days)
        rest = play(read, vendor, at=first.last.checkpoint, now=NOW + timedelta(hours=3))
        found = [record["id"] for record in [*first.records, *rest.records]]
        assert found == list(days)
        assert not set(vendor.asked) & set(whole_asked(first))
        # The read ends where it would have, and the next one begins there.
        at = rest.last.checkpoint
        assert at["cursor"] == "2026-10-25T08:00:00+00:00"


def whole_asked(played: Any) -> list[str]:
    """What was asked for the pages that were given."""
    found = [
        f"{request.params['from']} {request.params.get('page', 1)}" for request in played.requests
    ]
    return found[: len(played.pages)]


def test_a_feed_is_left_once_its_records_are_known() -> None:
    read = timed("{is_data_feed: true, start_time_option: null, end_time_option: null}", PAGED)
    pages = [rows(30, 29), rows(28, 27), rows(26, 25), rows(24)]
    first = play(read, lambda request: answer(pages[int(str(request.params.get("page", 1))) - 1]))
    assert [record["id"] for record in first.records] == [30, 29, 28, 27, 26, 25, 24]
    newer = [rows(31, 30), rows(29, 28), rows(27, 26)]
    second = play(
        read,
        lambda request: answer(newer[int(str(request.params.get("page", 1))) - 1]),
        at=first.last.checkpoint,
        now=NOW + timedelta(hours=1),
    )
    assert [record["id"] for record in second.records] == [31, 30]
    assert len(second.requests) == 2


def test_what_is_older_is_dropped_where_the_vendor_does_not_do_it() -> None:
    read = timed(
        "{is_client_side_incremental: true, start_time_option: null, end_time_option: null}"
    )
    body = {"items": [*rows(5, 6)["items"], {"id": 7}, {"id": 8, "at": "2026-09-30T00:00:00Z"}]}
    first = play(read, lambda request: answer(body))
    assert [record["id"] for record in first.records] == [5, 6, 7]
    later = NOW + timedelta(hours=1)
    second = play(read, lambda request: answer(body), at=first.last.checkpoint, now=later)
    assert [record["id"] for record in second.records] == [6, 7]


OF_PROJECTS = """
retriever:
  requester: {path: "/{{ stream_partition.project }}"}
  partition_router:
    type: SubstreamPartitionRouter
    parent_stream_configs:
      - {type: ParentStreamConfig, parent_key: id, partition_field: project, stream: null}
"""


def by_project(parent: dict[str, Any], follows: bool = False) -> Any:
    made = laid_over(stream(CURSOR), yaml.safe_load(OF_PROJECTS))
    (config,) = made["retriever"]["partition_router"]["parent_stream_configs"]
    config |= {"stream": parent, "incremental_dependency": follows}
    return only(made)


def test_each_part_has_a_time_of_its_own() -> None:
    read = by_project(stream(name="projects"))

    def vendor(request: Request) -> Response:
        if request.path.endswith("/items"):
            return answer({"items": [{"id": 1}, {"id": 2}, {"id": 3}]})
        if request.path.endswith("/3"):
            return answer({}, 403)
        return answer(rows(10 * int(request.path[-1])))

    first = play(read, vendor)
    at, later = first.last.checkpoint, NOW + timedelta(hours=1)
    second = play(read, vendor, at=at, now=later)
    # The third was never read: it begins where the stream does.
    assert second.urls == [
        "/v1/items",
        "/v1/1?from=2026-10-10&to=2026-11-01",
        "/v1/2?from=2026-10-20&to=2026-11-01",
        "/v1/3?from=2026-10-01&to=2026-11-01",
    ]


def test_of_very_many_parts_only_one_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.reading.MAX_PARTS", 2)
    read = by_project(stream(name="projects"))

    def vendor(request: Request) -> Response:
        if request.path.endswith("/items"):
            return answer({"items": [{"id": 1}, {"id": 2}, {"id": 3}]})
        return answer(rows(10 + int(request.path[-1])))

    at = play(read, vendor).last.checkpoint
    assert (at["many"], "parts" in at) == (True, False)
    second = play(read, vendor, at=at, now=NOW + timedelta(hours=1))
    assert {url.partition("?")[2] for url in second.urls[1:]} == {"from=2026-10-13&to=2026-11-01"}


def test_a_parent_that_is_followed_shows_only_what_changed_in_it() -> None:
    parent = stream(CURSOR, name="projects")
    read = by_project(parent, follows=True)

    def vendor(request: Request) -> Response:
        if request.path.endswith("/items"):
            days = (5, 9) if request.params["from"] == "2026-10-01" else (9,)
            return answer(rows(*days))
        return answer(rows(20))

    first = play(read, vendor)
    second = play(read, vendor, at=first.last.checkpoint, now=NOW + timedelta(hours=1))
    assert second.urls == [
        "/v1/items?from=2026-10-09&to=2026-11-01",
        "/v1/9?from=2026-10-20&to=2026-11-01",
    ]
    whole = only({**stream(name="other"), **laid_over(parent, {"incremental_sync": None})})
    assert whole.snapshot
    assert not read.snapshot


def test_a_setting_that_is_no_time_is_named() -> None:
    read = timed("{start_datetime: {datetime: '{{ config.start }}', datetime_format: '%Y-%m-%d'}}")
    with pytest.raises(
        ContractError, match=r"config.start .*, is none of the form %Y-%m-%d"
    ) as failed:
        play(read, nothing, {"start": "canary"})
    assert "canary" not in str(failed.value)


def test_a_step_of_no_length_ends() -> None:
    with pytest.raises(ContractError, match="a step of no length"):
        play(timed("{step: P0D, cursor_granularity: PT1S}"), nothing)


def test_clamped_times_are_left_to_others() -> None:
    made = stream(CURSOR)
    made["incremental_sync"]["clamping"] = {"target": "DAY"}
    (one,) = read(made).unread
    assert one.why == "DatetimeBasedCursor.clamping"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("P1D", timedelta(days=1)),
        ("PT1H30M", timedelta(minutes=90)),
        ("P2W", timedelta(weeks=2)),
        ("-P1DT0.5S", -timedelta(days=1, seconds=0.5)),
    ],
)
def test_durations(text: str, found: timedelta) -> None:
    assert datetimes.duration(text) == found


@pytest.mark.parametrize("text", ["", "P", "1D", "PT", "P1S", "P9999999999999D"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        datetimes.duration(text)


def test_months_have_no_fixed_length() -> None:
    at = datetime(2026, 3, 31, tzinfo=UTC)
    assert at - datetimes.duration("P1M") == datetime(2026, 2, 28, tzinfo=UTC)
    assert at + datetimes.duration("P1Y2M") == datetime(2027, 5, 31, tzinfo=UTC)
    assert at + datetimes.duration("P9M") == datetime(2026, 12, 31, tzinfo=UTC)


def test_a_count_is_followed_like_a_time() -> None:
    made = stream()
    made["incremental_sync"] = yaml.safe_load(
        "{type: IncrementingCountCursor, cursor_field: number, start_value: 5, start_value_option: "
        "{type: RequestOption, inject_into: request_parameter, field_name: after}}"
    )
    read = only(made)
    empty = play(read, {"/v1/items?after=5": {"items": []}})
    body = {"items": [{"id": 1, "number": 7}, {"id": 2, "number": "12"}]}
    later = NOW + timedelta(hours=1)
    first = play(read, {"/v1/items?after=5": body}, at=empty.last.checkpoint, now=later)
    assert [read.version(record) for record in first.records] == [7, 12]
    second: dict[str, Any] = {"/v1/items?after=12": {"items": []}}
    at = play(read, second, at=first.last.checkpoint, now=later).last.checkpoint
    assert play(read, second, at=at, now=later + timedelta(hours=1)).urls == ["/v1/items?after=12"]


def test_a_stream_that_is_read_in_two_ways() -> None:
    first = stream(CURSOR + PAGED, retriever={"requester": {"path": "/all"}})
    then = stream(CURSOR, retriever={"requester": {"path": "/changes"}})
    made = {"type": "StateDelegatingStream", "name": "items"}
    read = only({**made, "full_refresh_stream": first, "incremental_stream": then})
    pages = {"1": rows(1, 2), "2": rows(3)}

    def vendor(request: Request) -> Response:
        if request.path.endswith("/changes"):
            return answer(rows(4))
        return answer(pages[str(request.params.get("page", 1))])

    left = play(read, vendor, pages=1)
    rest = play(read, vendor, at=left.last.checkpoint)
    assert [record["id"] for record in [*left.records, *rest.records]] == [1, 2, 3]
    later = NOW + timedelta(hours=1)
    second = play(read, vendor, at=rest.last.checkpoint, now=later)
    assert second.urls == ["/v1/changes?from=2026-10-03&to=2026-11-01"]
    third = play(read, vendor, at=second.last.checkpoint, now=later)
    assert third.urls == ["/v1/changes?from=2026-10-04&to=2026-11-01"]
    assert not read.snapshot
