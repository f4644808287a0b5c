"""Graph's collections in the sandbox: pages, page sizes, fields and filters, of made-up rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest
from starlette.responses import Response

from sandbox._microsoft import GRAPH
from sandbox._microsoft.odata import Feed, condition, delta, listing
from sandbox.kernel.app import build
from sandbox.kernel.oauth import Call
from sandbox.kernel.serve import run
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Route
from sandbox.kernel.world import World
from sandbox.onedrive import vendor
from tests._graph import Person, problem

ROWS: list[dict[str, Any]] = [
    {"id": str(n), "changed": f"2026-11-0{n}T10:00:00.5Z", "kind": "odd" if n % 2 else "even"}
    for n in range(1, 8)
]
FILTERS = {"changed": ("gt", "lt", "ge"), "kind": ("eq",)}


def things(call: Call) -> Response:
    fits = condition(call, FILTERS)
    rows = [row for row in ROWS if fits(row)]
    return listing(call, rows, context="things", default=3, most=5)


def changes(call: Call) -> Response:
    feed = Feed(call.clock)
    for row in ROWS:
        feed.put(row["id"], row)

    def narrow(options: Mapping[str, str]) -> Callable[[Json], Json | None]:
        fits = condition(call, FILTERS, options.get("$filter", ""))
        more: Json = {"parts": []} if options.get("$expand") == "parts" else {}
        return lambda row: {**row, **more} if fits(row) else None

    return delta(call, feed, context="things", default=3, most=5, narrow=narrow)


@pytest.fixture(scope="module")
def person() -> Iterator[Person]:
    routes = (
        Route("GET", GRAPH, "/v1.0/things", things),
        Route("GET", GRAPH, "/v1.0/things/delta", changes),
    )
    with (
        run(build(World([replace(vendor, routes=routes)], seed=1))) as origin,
        httpx.Client(base_url=origin, timeout=60) as client,
    ):
        yield Person(client, "onedrive", size=0)


def ids(person: Person, **query: str) -> str:
    return "".join(row["id"] for row in person.all("/things", **query)[0])


def test_a_collection_comes_in_pages_of_the_size_asked_for(person: Person) -> None:
    assert person.all("/things")[1] == [3, 3, 1]
    assert person.all("/things", **{"$top": 5})[1] == [5, 2]
    for top in ("6", "0", "x"):
        assert problem(person.get("/things", **{"$top": top})) == (400, "invalidRequest")


def test_a_page_size_may_be_preferred_and_is_then_brought_down(person: Person) -> None:
    for preferred, size in (("2", 2), ("999", 5)):
        headers = {"Prefer": f'IdType="ImmutableId", odata.maxpagesize={preferred}'}
        answer = person.call("GET", "/things", headers=headers)
        assert len(answer.json()["value"]) == size


def test_a_link_keeps_what_was_asked_for(person: Person) -> None:
    asked = {"$top": 2, "$select": "kind", "$filter": "kind eq 'odd'"}
    rows, sizes, _ = person.all("/things", **asked)
    assert sizes == [2, 2]
    assert rows == [{"id": n, "kind": "odd"} for n in "1357"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("changed gt 2026-11-05T10:00:00.5Z", "67"),
        ("changed ge 2026-11-05T10:00:00.500000Z", "567"),
        ("changed lt 2026-11-02T11:00:00.5+01:00", "1"),
        ("changed gt 2026-11-02T00:00:00Z and changed lt 2026-11-04T00:00:00Z", "23"),
        ("kind eq 'even' and changed gt 2026-11-03T00:00:00Z", "46"),
        ("kind eq 'none'", ""),
    ],
)
def test_rows_are_filtered_by_time_and_text(person: Person, text: str, expected: str) -> None:
    assert ids(person, **{"$filter": text}) == expected


@pytest.mark.parametrize(
    "text", ["changed eq 2026-11-01T00:00:00Z", "id eq '1'", "kind eq", "kind eq 'x' or id eq 'y'"]
)
def test_a_filter_that_a_collection_does_not_take_is_refused(person: Person, text: str) -> None:
    assert problem(person.get("/things", **{"$filter": text})) == (400, "invalidRequest")


def test_what_the_first_call_of_a_delta_asks_for_holds_to_its_end_and_after_it(
    person: Person,
) -> None:
    asked = {"$filter": "kind eq 'odd'", "$expand": "parts", "$top": 2}
    rows, sizes, link = person.all("/things/delta", **asked)
    assert rows == [{**row, "parts": []} for row in ROWS[::2]]
    assert sizes == [2, 0, 2]
    assert person.all(link)[0] == []
    assert problem(person.get("/things/delta", **{"$filter": "id eq '1'"})) == (
        400,
        "invalidRequest",
    )


def test_a_link_that_was_never_given_is_refused(person: Person) -> None:
    for token in ("nonsense", "W10"):
        assert problem(person.get("/things", **{"$skiptoken": token})) == (400, "invalidRequest")
