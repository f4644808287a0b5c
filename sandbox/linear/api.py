"""What the schema resolves to: the rows of a workspace, in pages, newest first.

https://linear.app/developers/pagination
https://linear.app/developers/filtering
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from graphql import DocumentNode, GraphQLError, get_named_type
from graphql.execution import execute_sync

from sandbox.kernel.clock import stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json
from sandbox.linear.schema import CONNECTIONS, DEFAULT_PAGE, SCHEMA, TYPES
from sandbox.linear.store import Workspace

MOST = 250
STREAM_OF = {name: stream for stream, name in TYPES.items()}


def resolve(call: Call, document: DocumentNode, variables: Json, operation: str | None) -> Json:
    """The `data` and `errors` of a query that is valid."""
    space: Workspace = call.state
    root: Json = {
        "viewer": lambda info: _viewer(space),
        "organization": {
            **{"id": space.id, "name": space.name, "urlKey": "sandbox"},
            "createdAt": "2024-01-02T03:04:05.000Z",
        },
        "issue": lambda info, id: _issue(space, id),
        **{name: _connection(space, stream) for name, stream in CONNECTIONS.items()},
    }
    result = execute_sync(
        SCHEMA,
        document,
        root,
        variable_values=variables,
        operation_name=operation,
        field_resolver=lambda source, info, **asked: _field(space, source, info, asked),
    )
    return {**result.formatted, "data": _whole(result.data)}


def _whole(value: Any) -> Any:
    """Whole numbers are written as such, as JavaScript does."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def wrong_input(message: str) -> GraphQLError:
    return GraphQLError(message, extensions=extensions("invalid input", "INPUT_ERROR", 400))


def extensions(type_: str, code: str, status: int, shown: str = "") -> Json:
    """What Linear says of an error beside its message."""
    more = {"userPresentableMessage": shown} if shown else {}
    told = {"type": type_, "code": code, "statusCode": status, "userError": status < 500}
    return {**told, **more, "http": {"status": status}}


def _field(space: Workspace, source: Any, info: Any, asked: Json) -> Any:
    """A field of a row; what it refers to by an id is that row."""
    name = info.field_name
    if info.parent_type.name == "Issue" and name == "history":
        entries = space.tables["issue_history"].values()
        return _page(space, [one for one in entries if one["issueId"] == source["id"]], asked)
    value = source.get(name)
    if callable(value):
        return value(info, **asked)
    if isinstance(value, dict) and set(value) == {"id"}:
        type_ = get_named_type(info.return_type).name
        guest = {**value, "name": "A guest", "displayName": "guest"}
        return space.tables.get(STREAM_OF.get(type_, ""), {}).get(value["id"], guest)
    return value


def _viewer(space: Workspace) -> Json:
    return next(iter(space.tables["users"].values()), {"id": space.id, "name": "Sole user"})


def _issue(space: Workspace, id: str) -> Json:
    for row in space.shown("issues"):
        if id in (row["id"], row["identifier"]):
            return row
    raise wrong_input("Entity not found: Issue")


def _connection(space: Workspace, stream: str) -> Callable[..., Json]:
    def resolved(info: Any, **asked: Any) -> Json:
        rows: Iterable[Json] = space.shown(stream)
        if stream == "users" and not asked.get("includeDisabled"):
            rows = (row for row in rows if row["active"])
        return _page(space, list(rows), asked)

    return resolved


def _page(space: Workspace, rows: Sequence[Json], asked: Json) -> Json:
    """The newest come first. A cursor is the id of its row, and needs it to be there."""
    order = asked.get("orderBy") or "createdAt"

    def place(row: Json) -> tuple[str, str]:
        return row[order], row["id"]

    if not asked.get("includeArchived"):
        rows = [row for row in rows if row.get("archivedAt") is None]
    wanted = [row for row in rows if _fits(row, asked.get("filter") or {})]
    ordered = sorted(wanted, key=place, reverse=True)
    if asked.get("last") is not None or asked.get("before") is not None:
        raise GraphQLError("the sandbox does not page backwards")
    size = DEFAULT_PAGE if asked.get("first") is None else asked["first"]
    if not 1 <= size <= MOST:
        raise wrong_input(f"Argument Validation Error: first must be from 1 to {MOST}")
    if (after := asked.get("after")) is not None:
        there = place(_at(space, rows, after))
        ordered = [row for row in ordered if place(row) < there]
    shown = ordered[:size]
    ids = [row["id"] for row in shown]
    space.handed.update(ids[-1:])
    space.expired.difference_update(ids)
    return {
        "nodes": shown,
        "edges": [{"node": row, "cursor": row["id"]} for row in shown],
        "pageInfo": {
            "hasNextPage": len(shown) < len(ordered),
            "hasPreviousPage": after is not None,
            "startCursor": ids[0] if ids else None,
            "endCursor": ids[-1] if ids else None,
        },
    }


def _at(space: Workspace, rows: Sequence[Json], cursor: str) -> Json:
    row = next((row for row in rows if row["id"] == cursor), None)
    if row is None or cursor in space.expired:
        raise wrong_input("Argument Validation Error: the cursor is not valid")
    return row


def _fits(row: Json, filter: Json) -> bool:
    """All that a filter says of a row holds."""
    for name, wanted in filter.items():
        if wanted is None:
            continue
        if name == "or" and wanted and not any(_fits(row, each) for each in wanted):
            return False
        if name == "and" and not all(_fits(row, each) for each in wanted):
            return False
        if name not in ("and", "or") and not _compares(row[name], wanted, of_time=name != "id"):
            return False
    return True


def _compares(value: str | None, wanted: Json, *, of_time: bool) -> bool:
    for sign, given in wanted.items():
        if sign == "null":
            if (value is None) != given:
                return False
            continue
        read = _moment if of_time else str
        other = [read(each) for each in given] if isinstance(given, list) else read(given)
        if not (value is not None and SIGNS[sign](value, other)):
            return False
    return True


SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, other: value == other,
    "neq": lambda value, other: value != other,
    "in": lambda value, other: value in other,
    "nin": lambda value, other: value not in other,
    "gt": lambda value, other: value > other,
    "gte": lambda value, other: value >= other,
    "lt": lambda value, other: value < other,
    "lte": lambda value, other: value <= other,
}


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise wrong_input(f"Argument Validation Error: {text!r} is no time") from error
    return stamp(at if at.tzinfo else at.replace(tzinfo=UTC))
