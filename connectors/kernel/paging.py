"""Readers for the common styles of paging, so that most streams are one line.

Each reads a listing from its start, or on from a checkpoint of its own making. `begin` gives what
every checkpoint of a listing keeps from its start (such as the time it began), `then` makes from it
the checkpoint of a listing that was read to its end; an empty one reads it all again next time.
Where the vendor no longer takes a checkpoint, CheckpointExpiredError says so.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from connectors.kernel.errors import CheckpointExpiredError, ContractError
from connectors.kernel.messages import (
    Calls,
    Checkpoint,
    Context,
    Page,
    Reader,
    Record,
    Request,
    Response,
    ask,
)
from connectors.kernel.versions import find

T = TypeVar("T")
Read: TypeAlias = Callable[[Checkpoint, Context], Reader]
Begin: TypeAlias = Callable[[Context], dict[str, Any]]
Then: TypeAlias = Callable[[dict[str, Any]], Checkpoint]

# How vendors refuse a page token that has lapsed. Only a resumed read takes it for that.
LAPSED = (400, 404, 410)
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|next\b)', re.IGNORECASE)


def _nothing(context: Context) -> dict[str, Any]:
    return {}


def _all_again(kept: dict[str, Any]) -> Checkpoint:
    return Checkpoint()


def cursor_pages(
    request: Request,
    *,
    records: str,
    cursor: str,
    param: str,
    sparse: bool = False,
    begin: Begin = _nothing,
    then: Then = _all_again,
) -> Read:
    """Each answer holds, at `cursor`, the value of `param` for the next; the last holds none.

    `sparse` vendors leave the records' key out where there are none.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        kept, page = _resume(at, context, "page", begin)
        known = page is None
        while True:
            response = yield from ask_page(_with(request, param, page), resumed=not known)
            following = find(response.json, tuple(cursor.split(".")))
            rows = rows_of(response, records, sparse=sparse)
            if following in (None, ""):
                yield Page(rows, then(kept))
                return
            page, known = onward(page, following), True
            yield Page(rows, Checkpoint({**kept, "page": page}))

    return read


def offset_pages(
    request: Request,
    *,
    records: str,
    param: str,
    size: int,
    start: int = 0,
    step: int | None = None,
    begin: Begin = _nothing,
    then: Then = _all_again,
) -> Read:
    """Counts rows in `param`, or pages with a `step` of 1; a page that is not full is the last."""

    def read(at: Checkpoint, context: Context) -> Reader:
        kept, offset = _resume(at, context, "offset", begin)
        offset = start if offset is None else offset
        while True:
            response = yield from ask(_with(request, param, offset))
            rows = rows_of(response, records)
            if len(rows) < size:
                yield Page(rows, then(kept))
                return
            offset += len(rows) if step is None else step
            yield Page(rows, Checkpoint({**kept, "offset": offset}))

    return read


def page_number_pages(
    request: Request,
    *,
    records: str,
    size: int,
    param: str = "page",
    first: int = 1,
    begin: Begin = _nothing,
    then: Then = _all_again,
) -> Read:
    """Counts pages in `param`; a page that is not full is the last."""
    return offset_pages(
        request,
        records=records,
        param=param,
        size=size,
        start=first,
        step=1,
        begin=begin,
        then=then,
    )


def link_pages(
    request: Request, *, records: str = "", begin: Begin = _nothing, then: Then = _all_again
) -> Read:
    """Follows the Link header's `rel="next"` (RFC 8288)."""
    return _followed(request, records, next_link, begin, then)


def next_url_pages(
    request: Request,
    *,
    records: str,
    url: str | tuple[str, ...],
    begin: Begin = _nothing,
    then: Then = _all_again,
) -> Read:
    """Follows the URL that each answer holds at `url`: a path, its names as a tuple if dotted."""
    path = url if isinstance(url, tuple) else tuple(url.split("."))
    return _followed(request, records, lambda response: find(response.json, path), begin, then)


def connection_pages(
    request: Request, *, connection: str, begin: Begin = _nothing, then: Then = _all_again
) -> Read:
    """Walks a GraphQL connection: the query takes `$after`, and asks for nodes and pageInfo."""
    path = ("data", *connection.split("."))

    def read(at: Checkpoint, context: Context) -> Reader:
        kept, after = _resume(at, context, "after", begin)
        while True:
            variables = {**request.json.get("variables", {}), "after": after}
            response = yield from ask(
                replace(request, json={**request.json, "variables": variables})
            )
            found = find(response.json, path)
            if not found["pageInfo"]["hasNextPage"]:
                yield Page(found["nodes"], then(kept))
                return
            after = onward(after, found["pageInfo"]["endCursor"])
            yield Page(found["nodes"], Checkpoint({**kept, "after": after}))

    return read


def ask_page(request: Request, *, resumed: bool) -> Calls[Response]:
    """The answer to a request; when it resumes a listing, its refusal is a lapsed checkpoint."""
    if not resumed:
        return (yield from ask(request))
    response = yield from ask(replace(request, expect=(*request.expect, *LAPSED)))
    if response.status in LAPSED and response.status not in request.expect:
        raise CheckpointExpiredError("the vendor no longer knows where this listing stood")
    return response


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time, such as one request takes."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def mapped(reader: Reader, change: Callable[[Page], Page]) -> Reader:
    """The same reader, with its pages changed."""
    answer: Any = None
    while True:
        try:
            failed = isinstance(answer, Exception)
            action = reader.throw(answer) if failed else reader.send(answer)
        except StopIteration:
            return
        if isinstance(action, Page):
            action = change(action)
        try:
            answer = yield action
        except Exception as error:
            answer = error


def next_link(response: Response) -> str | None:
    """The target of the Link header's `rel="next"`."""
    for target, attributes in _LINK.findall(response.headers.get("link", "")):
        if _NEXT.search(attributes):
            return str(target)
    return None


def rows_of(response: Response, path: str, *, sparse: bool = False) -> list[Record]:
    """The records of an answer. A list that is missing where it must not be is no empty list: read
    as one, it would delete every record we hold."""
    found = response.json
    for name in path.split(".") if path else ():
        if sparse and name not in found:
            return []
        found = found[name]
    if not isinstance(found, list):
        raise TypeError("records that are not a list")
    return found


def _followed(
    request: Request,
    records: str,
    following: Callable[[Response], Any],
    begin: Begin,
    then: Then,
) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        kept, url = _resume(at, context, "url", begin)
        known = url is None
        while True:
            # A link stands for path and parameters alike.
            here = replace(request, path=url, params={}) if url else request
            response = yield from ask_page(here, resumed=not known)
            rows = rows_of(response, records)
            target = following(response)
            if not target:
                yield Page(rows, then(kept))
                return
            url, known = onward(url, target), True
            yield Page(rows, Checkpoint({**kept, "url": url}))

    return read


def _resume(
    at: Checkpoint, context: Context, name: str, begin: Begin
) -> tuple[dict[str, Any], Any]:
    """What the checkpoint keeps, and where it stands."""
    if name not in at:
        return begin(context), None
    return {key: value for key, value in at.items() if key != name}, at[name]


def onward(here: Any, following: Any) -> Any:
    """The place of the next page; ContractError where it is this one's: that would never end."""
    if following == here:
        raise ContractError("the vendor's listing does not go on: its next page is this one")
    return following


def _with(request: Request, param: str, value: Any) -> Request:
    return request if value is None else replace(request, params={**request.params, param: value})
