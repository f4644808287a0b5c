"""Streams in parts: of lists, of parents, and of several at once; and parts that fail."""

from typing import Any

import pytest
import yaml

from connectors import (
    BrokenConnectionError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    Request,
    Response,
)
from tests.recipes._playing import answer, laid_over, line_of, only, play, stream

LIST = "{type: ListPartitionRouter, values: [a, b], cursor_field: kind%s}"
OPTION = ", request_option: {type: RequestOption, inject_into: %s, field_name: kind}"
NOTES = """
name: notes
retriever:
  requester: {path: "/projects/{{ stream_partition.project }}/notes"}
  record_selector: {extractor: {field_path: []}}
  partition_router:
    type: SubstreamPartitionRouter
    parent_stream_configs:
      - type: ParentStreamConfig
        parent_key: id
        partition_field: project
        stream: %s
"""
PAGED = """
retriever:
  paginator:
    type: DefaultPaginator
    page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
    pagination_strategy: {type: PageIncrement, page_size: 2, start_from_page: 1}
"""


def routed(router: str, changes: str = "") -> Any:
    made = stream(changes, retriever={"partition_router": yaml.safe_load(router)})
    return only(made)


def notes(parent: dict[str, Any], changes: str = "", **config: Any) -> dict[str, Any]:
    """Notes of each project, which another stream lists."""
    made = stream(NOTES.replace("%s", "{}"))
    (of_projects,) = made["retriever"]["partition_router"]["parent_stream_configs"]
    of_projects |= {"stream": parent, **config}
    return dict(laid_over(made, yaml.safe_load(changes) or {}))


def test_what_no_request_names_a_part_of_is_read_for_each() -> None:
    kinds = LIST.replace("[a, b]", "[a, b, c, d, e, f]") % ""
    played = play(routed(kinds), {"/v1/items": {"items": [{"id": 1}]}})
    assert len(played.requests) == 6
    assert played.records == [{"id": 1}] * 6


def test_a_list_is_read_value_by_value() -> None:
    path = "retriever: {requester: {path: '/{{ stream_slice.kind }}'}}"
    vendor = {"/v1/a": {"items": [{"id": 1}]}, "/v1/b": {"items": [{"id": 2}]}}
    played = play(routed(LIST % "", path), vendor)
    assert played.records == [{"id": 1}, {"id": 2}]
    of_settings = LIST.replace("[a, b]", "\"{{ config['kinds'] }}\"") % ""
    assert play(routed(of_settings, path), vendor, {"kinds": ["b"]}).records == [{"id": 2}]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("request_parameter", {"params": {"kind": "a"}}),
        ("header", {"headers": {"kind": "a"}}),
        ("body_json", {"json": {"kind": "a"}}),
        ("body_data", {"form": {"kind": "a"}}),
    ],
)
def test_a_value_goes_where_it_is_said(place: str, found: dict[str, Any]) -> None:
    read = routed(LIST % (OPTION % place))
    first = play(read, lambda request: answer({"items": []})).requests[0]
    assert {name: getattr(first, name) for name in found} == found


def test_a_parents_records_are_parts() -> None:
    parent = stream(name="projects")
    child = notes(
        parent,
        """
        transformations:
          - type: AddFields
            fields:
              - {path: [project], value: "{{ stream_slice['project'] }}"}
              - {path: [title], value: "{{ stream_slice.extra_fields['name'] }}"}
        """,
        extra_fields=[["name"], ["not", "there"]],
    )
    vendor = {
        "/v1/items": {
            "items": [{"id": 1, "name": "One"}, {"id": None}, {"name": "no id"}, {"id": 2}]
        },
        "/v1/projects/1/notes": [{"id": "x"}],
        "/v1/projects/2/notes": [{"id": "y"}],
    }
    read = only(parent, child)
    played = play(read, vendor)
    assert played.records == [
        {"id": "x", "project": 1, "title": "One"},
        {"id": "y", "project": 2, "title": None},
    ]
    assert (read.snapshot, played.last.unseen, played.last.unread) == (True, (), ())


def test_parents_may_have_parents() -> None:
    projects = stream(name="projects")
    lists = notes(projects)
    cards = notes(
        lists,
        "{name: cards, retriever: {requester: {path: "
        "'/{{ stream_slice.parent_slice.project }}/{{ stream_slice.project }}/cards'}}}",
    )
    vendor = {
        "/v1/items": {"items": [{"id": 1}, {"id": 2}]},
        "/v1/projects/1/notes": [{"id": 3}],
        "/v1/projects/2/notes": [],
        "/v1/1/3/cards": [{"id": "deep"}],
    }
    assert play(only(cards), vendor).records == [{"id": "deep"}]


def test_a_part_goes_into_the_request_and_its_fields_are_variables() -> None:
    option = {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "of"}
    child = notes(
        stream(name="projects"),
        "retriever: {requester: {path: '/{{ owner }}'}}",
        request_option=option,
        extra_fields=[["owner"]],
    )
    vendor = {"/v1/items": {"items": [{"id": 1, "owner": "me"}]}, "/v1/me?of=1": [{"id": 2}]}
    assert play(only(child), vendor).records == [{"id": 2}]


def test_several_routers_are_a_product() -> None:
    first = LIST % (OPTION % "request_parameter")
    second = first.replace("[a, b]", "[1, 2]").replace(": kind", ": n")
    played = play(routed(f"[{first}, {second}]"), lambda request: answer({"items": []}))
    found = [(request.params["kind"], request.params["n"]) for request in played.requests]
    assert found == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_parts_in_groups() -> None:
    router = """
    type: GroupingPartitionRouter
    group_size: 2
    underlying_partition_router: {type: ListPartitionRouter, values: [a, b, a, c], cursor_field: k}
    """
    path = "retriever: {requester: {path: \"/{{ ','.join(stream_slice.k) }}\"}}"
    vendor = {"/v1/a,b": {"items": [{"id": 1}]}, "/v1/c": {"items": [{"id": 2}]}}
    assert play(routed(router, path), vendor).records == [{"id": 1}, {"id": 2}]


class Projects:
    """A vendor of five projects, in pages of two, with two notes each."""

    def __init__(self, **bad: Response) -> None:
        self.bad = bad
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        line = line_of(request)
        self.asked.append(line)
        if line.startswith("/v1/items"):
            page = int(str(request.params.get("page", 1)))
            return answer({"items": [{"id": id} for id in range(1, 6)][page * 2 - 2 : page * 2]})
        project = line.split("/")[3]
        if (found := self.bad.get(f"p{project}")) is not None:
            return found
        page = int(str(request.params.get("page", 1)))
        rows = [{"id": f"{project}-{number}"} for number in (1, 2, 3)]
        return answer(rows[page * 2 - 2 : page * 2])


def many_notes() -> Any:
    return only(notes(stream(PAGED, name="projects"), PAGED))


ALL_NOTES = [f"{project}-{number}" for project in range(1, 6) for number in (1, 2, 3)]


def test_a_read_of_parts_goes_on_after_any_page() -> None:
    read = many_notes()
    whole = play(read, Projects())
    assert [record["id"] for record in whole.records] == ALL_NOTES
    for left_after in range(1, len(whole.pages)):
        first = play(read, Projects(), pages=left_after)
        vendor = Projects()
        rest = play(read, vendor, at=first.last.checkpoint)
        found = [record["id"] for record in [*first.records, *rest.records]]
        assert found == ALL_NOTES
        # No part that was read is asked for again.
        done = {id.split("-")[0] for id in found[: len(first.records)] if id.endswith("-3")}
        again = {line.split("/")[3] for line in vendor.asked if "/projects/" in line}
        assert not done & again


def test_a_checkpoint_in_parts_stays_small() -> None:
    sizes = [len(str(dict(page.checkpoint))) for page in play(many_notes(), Projects()).pages]
    assert max(sizes) < 500


def test_a_page_of_parents_that_is_another_by_now_is_read_from_its_first() -> None:
    read = many_notes()
    first = play(read, Projects(), pages=2)  # the first project is read
    vendor = Projects()

    def shifted(request: Request) -> Response:
        found = vendor(request)
        if line_of(request) == "/v1/items":
            return answer({"items": [{"id": 9}, {"id": 1}]})
        return found

    rest = play(read, shifted, at=first.last.checkpoint)
    assert {record["id"] for record in rest.records} >= {"9-1", "1-1", "3-1", "5-3"}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (answer({}, 403), NotAllowedError),
        (answer({}, 404), ContractError),
        (answer({}, 503), ProviderUnavailableError),
        (answer(["odd"]), ContractError),
        (answer("odd"), ContractError),
    ],
)
def test_a_part_that_fails_leaves_the_others_and_nothing_counts_as_gone(
    bad: Response, kind: type[Exception]
) -> None:
    played = play(many_notes(), Projects(p2=bad))
    assert [record["id"] for record in played.records] == [id for id in ALL_NOTES if id[0] != "2"]
    (unread,) = played.last.unread or ()
    assert (unread.part, type(unread.error)) == ("2", kind)
    assert played.last.unseen == ("",)
    assert played.last.checkpoint == {}


def test_a_part_that_fails_is_known_after_a_read_that_was_left() -> None:
    read, vendor = many_notes(), Projects(p2=answer({}, 403))
    left = play(read, vendor, pages=5)
    rest = play(read, Projects(), at=left.last.checkpoint)
    assert [(one.part, type(one.error)) for one in rest.last.unread or ()] == [
        ("2", NotAllowedError)
    ]
    assert rest.last.unseen == ("",)


def test_a_refusal_of_all_parts_is_one_of_the_stream() -> None:
    refused = {f"p{project}": answer({}, 403) for project in range(1, 6)}
    with pytest.raises(NotAllowedError):
        play(many_notes(), Projects(**refused))


def test_a_vendor_that_is_away_is_not_asked_part_by_part() -> None:
    away = {f"p{project}": answer({}, 503) for project in range(1, 6)}
    vendor = Projects(**away)
    with pytest.raises(ProviderUnavailableError):
        play(many_notes(), vendor)
    assert sum("/projects/" in line for line in vendor.asked) == 3


def test_a_refused_connection_is_not_one_of_a_part() -> None:
    with pytest.raises(BrokenConnectionError):
        play(many_notes(), Projects(p2=answer({}, 401)))


def test_what_is_to_be_ignored_is_not_gone() -> None:
    handler = """
    type: DefaultErrorHandler
    response_filters: [{type: HttpResponseFilter, http_codes: [404], action: IGNORE}]
    """
    child = notes(stream(PAGED, name="projects"), PAGED)
    child["retriever"]["requester"]["error_handler"] = yaml.safe_load(handler)
    read = only(child)
    played = play(read, Projects(p2=answer({}, 404)))
    assert [record["id"] for record in played.records] == [id for id in ALL_NOTES if id[0] != "2"]
    assert (played.last.unread, played.last.unseen) == ((), ("",))


def test_options_of_parts_may_be_left_out_of_later_pages() -> None:
    retriever = "retriever: {ignore_stream_slicer_parameters_on_paginated_requests: true}"
    made = stream(PAGED, name="items", retriever=yaml.safe_load(retriever)["retriever"])
    made["retriever"]["partition_router"] = yaml.safe_load(
        LIST.replace("[a, b]", "[a]") % (OPTION % "request_parameter")
    )
    bodies = [{"items": [{"id": 1}, {"id": 2}]}, {"items": []}]
    played = play(only(made), lambda request: answer(bodies.pop(0)))
    assert played.urls == ["/v1/items?kind=a", "/v1/items?page=2"]


def test_a_vendor_may_leave_out_the_place_for_records_where_there_are_none() -> None:
    read = routed(LIST % "", "retriever: {requester: {path: '/{{ stream_slice.kind }}'}}")
    sparse = {"/v1/a": {"items": [{"id": 1}]}, "/v1/b": {"total": 0}}
    assert play(read, sparse).last.unseen == ()
    odd = {"/v1/a": {"error": "x"}, "/v1/b": {"error": "x"}}
    assert play(read, odd).last.unseen == ("",)
    empty = {"/v1/a": answer(None, 204), "/v1/b": answer(None, 204)}
    assert play(read, empty).last.unseen == ()


def test_a_part_that_comes_twice_is_read_once() -> None:
    child = notes(stream(name="projects"))
    vendor = {
        "/v1/items": {"items": [{"id": 1}, {"id": 2}, {"id": 1}]},
        "/v1/projects/1/notes": [{"id": "x"}],
        "/v1/projects/2/notes": [{"id": "y"}],
    }
    assert len(play(only(child), vendor).requests) == 3


def test_a_parent_is_followed_only_by_a_stream_that_is_by_time_itself() -> None:
    parent = stream(name="projects")
    parent["incremental_sync"] = {
        "type": "DatetimeBasedCursor",
        "cursor_field": "at",
        "datetime_format": "%Y-%m-%d",
        "start_datetime": "2026-10-01",
    }
    read = only(notes(parent, incremental_dependency=True))
    vendor = {
        "/v1/items": {"items": [{"id": 1, "at": "2026-10-05"}]},
        "/v1/projects/1/notes": [{"id": "x"}],
    }
    first = play(read, vendor)
    assert (read.snapshot, first.last.checkpoint) == (True, {})
