"""Notion's endpoints: search, queries, pages and their properties, blocks, comments, users.

https://developers.notion.com/reference/intro
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Change, Json
from sandbox.kernel.vendor import Handler, Route
from sandbox.notion.auth import HOST
from sandbox.notion.errors import answer, invalid, missing, no, restricted
from sandbox.notion.seed import add_comment, edit_page, trash
from sandbox.notion.store import (
    BOT,
    Workspace,
    as_markdown,
    markdown_of,
    plain,
    shortened,
    shown,
    title_of,
    tree,
)

VERSIONS = ("2022-06-28", "2025-09-03", "2026-03-11")
TIMES = ("created_time", "last_edited_time")
MOST = 100


def _body(call: Call, *known: str) -> Json:
    body = call.json() if call.body else {}
    if not isinstance(body, dict):
        no(400, "invalid_json", "Error parsing JSON body.")
    for name in body:
        if name not in known:
            invalid(f"body failed validation: body.{name} should be not present.")
    return body


def listed(
    call: Call,
    kind: str,
    found: Iterable[tuple[Any, Json]],
    given: Mapping[str, Any],
    **more: Any,
) -> Response:
    """A page of what has a place, in the order of places; a cursor stands for the last one."""
    space: Workspace = call.state
    size, cursor = _size(given.get("page_size", MOST)), given.get("start_cursor")
    everything = sorted(found, key=lambda each: each[0])
    if cursor is not None:
        if cursor not in space.cursors:
            invalid("The start_cursor provided is invalid: " + str(cursor))
        everything = [each for each in everything if each[0] > space.cursors[cursor]]
    page, following = everything[:size], None
    if len(everything) > size:
        following = str(uuid4())
        space.cursors[following] = page[-1][0]
    body = {
        "object": "list",
        "results": [_shown(call, row) for _, row in page],
        "next_cursor": following,
        "has_more": following is not None,
        "type": kind,
        kind: {},
        **more,
    }
    return answer(body)


def _size(size: Any) -> int:
    number = int(size) if str(size).isdecimal() else 0
    if not 1 <= number <= MOST:
        invalid(f"page_size should be a number from 1 to {MOST}, instead was {size!r}.")
    return number


def _shown(call: Call, row: Json) -> Json:
    """An object as its version shows it."""
    row = shortened(row) if row["object"] == "page" else row
    if call.headers["notion-version"] < "2026" and "in_trash" in row:
        row = {**row, "archived": row["in_trash"]}
    shown_: Json = shown(row, call.clock.now())
    return shown_


def _newest_first(row: Json) -> tuple[float, str]:
    return -datetime.fromisoformat(row["last_edited_time"]).timestamp(), row["id"]


def _oldest_first(row: Json) -> tuple[float, str]:
    return datetime.fromisoformat(row["last_edited_time"]).timestamp(), row["id"]


def capped(space: Workspace, rows: list[tuple[Any, Json]]) -> tuple[list[tuple[Any, Json]], Json]:
    """Search and queries end after so many, and say so on each page."""
    if len(rows) <= space.most:
        return rows, {"request_status": {"type": "complete"}}
    reason = "query_result_limit_reached"
    status = {"request_status": {"type": "incomplete", "incomplete_reason": reason}}
    return sorted(rows, key=lambda each: each[0])[: space.most], status


def search(call: Call) -> Response:
    """By title, pages or data sources; those in the trash only if they alone are asked for."""
    body = _body(call, "query", "sort", "filter", "start_cursor", "page_size")
    space: Workspace = call.state
    wanted, sort = body.get("filter") or {}, body.get("sort") or {}
    if "value" in wanted and (
        wanted.get("property") != "object" or wanted["value"] not in ("page", "data_source")
    ):
        invalid('body.filter.value should be `"page"` or `"data_source"`.')
    if sort.get("timestamp", "last_edited_time") != "last_edited_time":
        invalid('body.sort.timestamp should be `"last_edited_time"`.')
    place = _oldest_first if sort.get("direction") == "ascending" else _newest_first
    kinds = {"page": space.pages, "data_source": space.sources}
    rows = [
        (place(row), row)
        for kind, objects in kinds.items()
        if wanted.get("value", kind) == kind
        for row in space.indexed(objects)
        if row["in_trash"] == wanted.get("in_trash", False)
        and body.get("query", "").lower() in plain(_title(row)).lower()
    ]
    rows, status = capped(space, rows)
    return listed(call, "page_or_data_source", rows, body, **status)


def _title(row: Json) -> list[Json]:
    found: list[Json] = title_of(row) if row["object"] == "page" else row["title"]
    return found


def query(call: Call) -> Response:
    """The rows of a data source that are not in the trash, by when they were made or edited."""
    if call.headers["notion-version"] < "2025-09-03":
        no(400, "invalid_request_url", "Invalid request URL.")
    known = ("filter", "sorts", "start_cursor", "page_size", "is_archived", "result_type")
    body, space, id_ = _body(call, *known), call.state, call.params["id"]
    _found(space.live(space.sources), "data_source", id_)
    if id_ in space.refused:
        restricted()
    sorts = body.get("sorts") or []
    if any(each.get("timestamp") not in TIMES for each in sorts):
        invalid("body.sorts: the sandbox sorts by timestamps alone.")
    rows = [row for row in space.rows(id_).values() if _fits(row, body.get("filter"))]
    for each in reversed(sorts):
        rows.sort(key=lambda row: (row[each["timestamp"]], row["id"]))
        rows = rows[::-1] if each["direction"] == "descending" else rows
    # A place does not move with the rows before it.
    by = sorts[0]["timestamp"] if sorts else "created_time"
    sign = -1 if sorts and sorts[0]["direction"] == "descending" else 1
    placed = [
        ((sign * datetime.fromisoformat(row[by]).timestamp(), row["id"]), row) for row in rows
    ]
    placed, status = capped(space, placed)
    return listed(call, "page_or_data_source", placed, body, **status)


def _fits(row: Json, wanted: Any) -> bool:
    if not wanted:
        return True
    if "and" in wanted:
        return all(_fits(row, each) for each in wanted["and"])
    name = wanted.get("timestamp")
    if name not in TIMES or set(wanted.get(name, {})) != {"on_or_after"}:
        invalid("body.filter: the sandbox filters by timestamps on or after a time alone.")
    try:
        at = datetime.fromisoformat(wanted[name]["on_or_after"])
    except (TypeError, ValueError):
        invalid(f"body.filter.{name}.on_or_after should be a valid ISO 8601 date string.")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return datetime.fromisoformat(row[name]) >= at


def _found(objects: Mapping[str, Json], kind: str, id_: str) -> Json:
    if id_ not in objects:
        missing(kind, id_)
    return objects[id_]


def _visible(space: Workspace, objects: Mapping[str, Json], kind: str, id_: str) -> Json:
    """By its id an object is shown in the trash, too."""
    return _found({k: v for k, v in objects.items() if k not in space.hidden}, kind, id_)


def get_object(kind: str) -> Handler:
    def handle(call: Call) -> Response:
        space: Workspace = call.state
        kept = {"page": space.pages, "data_source": space.sources, "database": space.databases}
        row = _visible(space, kept[kind], kind, call.params["id"])
        return answer(_shown(call, row))

    return handle


def property_item(call: Call) -> Response:
    """All of a cell: what is a list by pages, else as it is."""
    space: Workspace = call.state
    page = _visible(space, space.pages, "page", call.params["id"])
    # Ids are kept as they are written in addresses.
    wanted = quote(call.params["property"], safe="")
    cells = [cell for cell in page["properties"].values() if cell["id"] == wanted]
    if not cells:
        missing("property", wanted)
    (cell,) = cells
    kind = cell["type"]
    item = {"object": "property_item", "type": kind, "id": cell["id"]}
    if kind not in ("title", "rich_text", "people", "relation"):
        return answer({**item, kind: cell[kind]})
    found = [(n, {**item, kind: each}) for n, each in enumerate(cell[kind])]
    about = {"id": cell["id"], "next_url": None, "type": kind, kind: {}}
    return listed(call, "property_item", found, dict(call.query), property_item=about)


def page_markdown(call: Call) -> Response:
    space, id_ = call.state, call.params["id"]
    _found(space.live(space.pages), "page", id_)
    if id_ in space.refused:
        restricted()
    return answer(markdown_of(as_markdown(space, id_, call.clock.now()), id_))


def _page_of(space: Workspace, id_: str) -> str:
    """The page that a page's or a block's id leads to."""
    pages = space.live(space.pages)
    page = id_ if id_ in pages else next((p for p in pages if id_ in space.blocks[p]), None)
    if page is None:
        missing("block", id_)
    if page in space.refused:
        restricted()
    return str(page)


def children(call: Call) -> Response:
    space, id_ = call.state, call.params["id"]
    page = _page_of(space, id_)
    block = space.blocks[page].get(id_, {})
    if block.get("type") == "unsupported":
        kind = block["unsupported"]["block_type"]
        invalid(f"Block type {kind} is not supported via the API.")
    order = {each: number for number, each in enumerate(space.blocks[page])}
    rows = [(order[each["id"]], each) for each in tree(space.blocks[page], id_)]
    return listed(call, "block", rows, dict(call.query))


def get_block(call: Call) -> Response:
    space, id_ = call.state, call.params["id"]
    return answer(_shown(call, _found(space.blocks[_page_of(space, id_)], "block", id_)))


def _may(call: Call, capability: str) -> None:
    if capability in call.state.lacking:
        restricted()


def comments(call: Call) -> Response:
    """Those on a page or block that are not resolved."""
    _may(call, "read_comments")
    space, id_ = call.state, call.query.get("block_id", "")
    if not id_:
        invalid("block_id should be defined, instead was `undefined`.")
    found = space.comments[_page_of(space, id_)].values()
    rows = [(n, each) for n, each in enumerate(found) if id_ in each["parent"].values()]
    return listed(call, "comment", rows, dict(call.query))


def get_comment(call: Call) -> Response:
    _may(call, "read_comments")
    space, id_ = call.state, call.params["id"]
    for page in space.live(space.pages):
        if id_ in space.comments[page]:
            return answer(space.comments[page][id_])
    missing("comment", id_)


def create_comment(call: Call) -> Response:
    """It does not edit the page that it is on."""
    space: Workspace = call.state
    body = _body(call, "parent", "rich_text", "discussion_id")
    page = _page_of(space, str((body.get("parent") or {}).get("page_id")))
    made = add_comment(space, Random(uuid4().int), page)
    return answer(space.comments[page][made])


def update_page(call: Call) -> Response:
    """Its title, or whether it is in the trash."""
    space, body = call.state, _body(call, "properties", "in_trash", "icon", "cover")
    id_ = call.params["id"]
    page = _visible(space, space.pages, "page", id_)
    if "in_trash" in body and body["in_trash"] != page["in_trash"]:
        if body["in_trash"]:
            trash(space, id_)
        else:
            space.edit(id_, in_trash=False)
            space.page_news("undeleted", id_)
    for cell in body.get("properties", {}).values():
        if runs := cell.get("title"):
            written = "".join(run["text"]["content"] for run in runs)
            edit_page(space, id_, Change("pages", "change", id_, {"title": written}, Random(0)))
    return answer(_shown(call, space.pages[id_]))


def users(call: Call) -> Response:
    _may(call, "read_users")
    return listed(call, "user", enumerate(call.state.users.values()), dict(call.query))


def get_user(call: Call) -> Response:
    space, id_ = call.state, call.params["id"]
    if id_ == "me":
        owner = {"type": "workspace", "workspace": True}
        bot = {"owner": owner, "workspace_id": space.id, "workspace_name": space.name}
        return answer({"object": "user", "id": BOT, "type": "bot", "name": "atom-sync", "bot": bot})
    _may(call, "read_users")
    return answer(_found(space.users, "user", id_))


def _versioned(handler: Handler) -> Handler:
    """Every call has to say which version it speaks."""

    def handle(call: Call) -> Response:
        version = call.headers.get("notion-version")
        if version is None:
            no(400, "missing_version", "Notion-Version header failed validation.")
        if version not in VERSIONS:
            invalid(f"Notion-Version header should be one of {VERSIONS}, instead was {version!r}.")
        return handler(call)

    return handle


def _route(method: str, path: str, handler: Callable[[Call], Response]) -> Route:
    return Route(method, HOST, f"/v1{path}", _versioned(handler))


ROUTES = (
    _route("POST", "/search", search),
    _route("POST", "/data_sources/{id}/query", query),
    _route("GET", "/data_sources/{id}", get_object("data_source")),
    _route("GET", "/databases/{id}", get_object("database")),
    _route("GET", "/pages/{id}", get_object("page")),
    _route("PATCH", "/pages/{id}", update_page),
    _route("GET", "/pages/{id}/properties/{property}", property_item),
    _route("GET", "/pages/{id}/markdown", page_markdown),
    _route("GET", "/blocks/{id}/children", children),
    _route("GET", "/blocks/{id}", get_block),
    _route("GET", "/comments", comments),
    _route("POST", "/comments", create_comment),
    _route("GET", "/comments/{id}", get_comment),
    _route("GET", "/users", users),
    _route("GET", "/users/{id}", get_user),
)
