"""Slack's methods, and the pages of what they list.

https://docs.slack.dev/apis/web-api/pagination
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from connectors.kernel.messages import Calls, Record, Request, ask
from connectors.kernel.paging import rows_of
from connectors.kernel.versions import find
from connectors.slack.errors import GONE, code_of, not_shown

PAGE = 200


class Got(NamedTuple):
    """The rows of a page, and the cursor of the next, None after the last. `limited` says that the
    plan hides what is older."""

    rows: list[Record]
    cursor: str | None
    limited: bool


Rows: TypeAlias = Calls[Got]
Params: TypeAlias = Mapping[str, Any]


def call(method: str, params: Params, cursor: str | None = None) -> Request:
    """Every method has a limit of its own."""
    given = {name: value for name, value in {**params, "cursor": cursor}.items() if value}
    return Request.get(f"/{method}", params=given, budget=method)


def rows(method: str, records: str, params: Params, cursor: str | None) -> Rows:
    """One page. An expired cursor leads to the first page again. A page without a next cursor is
    the last."""
    params = {**params, "limit": PAGE}
    response = yield from ask(call(method, params, cursor))
    code = code_of(response)
    if cursor is not None and code == "invalid_cursor":
        response = yield from ask(call(method, params))
        code = code_of(response)
    if code == "thread_not_found":
        return Got([], None, False)
    if code in GONE:
        raise not_shown(code)
    following = find(response.json, ("response_metadata", "next_cursor")) or None
    # `is_limited` from memory (2026-11).
    return Got(rows_of(response, records), following, response.json.get("is_limited") is True)


def every(method: str, records: str, params: Params) -> Calls[list[Record]]:
    """All pages of a list that is not kept."""
    found: list[Record] = []
    cursor: str | None = None
    while True:
        got = yield from rows(method, records, params, cursor)
        found += got.rows
        if (cursor := got.cursor) is None:
            return found
