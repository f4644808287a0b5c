"""What the schema resolves to.

https://developer.monday.com/api-reference/reference
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from graphql import DocumentNode
from graphql.execution import execute_sync

from sandbox.kernel.oauth import Call
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Json
from sandbox.monday import events
from sandbox.monday.errors import refused
from sandbox.monday.schema import SCHEMA
from sandbox.monday.store import ITEMS, Desk, item

# What each of them takes at most.
MOST_ITEMS, MOST_BY_ID, MOST_ENTRIES, MOST = 500, 100, 10_000, 500
CURSOR_LIVES = timedelta(minutes=60)
KEPT = timedelta(days=7)


def resolve(
    call: Call,
    document: DocumentNode,
    variables: Json,
    operation: str | None,
    answered: Iterable[bool],
) -> Json:
    """The `data` and `errors` of a query that is valid, where the addresses of the webhooks that it
    makes have `answered` so."""
    desk: Desk = call.state
    tables, proven = desk.tables, iter(answered)
    root: Json = {
        "me": lambda info: _me(desk),
        "account": lambda info: _account(desk),
        "complexity": lambda info: call.params["complexity"],
        "boards": lambda info, **asked: _boards(desk, asked),
        "items": lambda info, **asked: _items(desk, asked),
        "next_items_page": lambda info, **asked: _next_page(desk, asked),
        "updates": lambda info, **asked: _updates(desk, asked),
        "users": lambda info, **asked: _users(desk, asked),
        "workspaces": lambda info, **asked: _page(list(tables["workspaces"].values()), asked),
        "teams": lambda info, ids=None: _of(tables["teams"].values(), ids),
        "tags": lambda info, ids=None: _of(tables["tags"].values(), ids),
        "webhooks": lambda info, **asked: events.listed(call, asked),
        "create_webhook": lambda info, **asked: events.create(call, asked, next(proven, False)),
        "delete_webhook": lambda info, **asked: events.delete(call, asked),
    }
    result = execute_sync(
        SCHEMA,
        document,
        root,
        variable_values=variables,
        operation_name=operation,
        field_resolver=lambda source, info, **asked: _field(desk, source, info, asked),
        type_resolver=lambda value, info, type_: _type_of_value(value),
    )
    return dict(result.formatted)


def _type_of_value(value: Json) -> str:
    linking = {"board_relation": "BoardRelationValue", "dependency": "DependencyValue"}
    return linking.get(value["type"], "ColumnValueBase")


def _field(desk: Desk, source: Json, info: Any, asked: Json) -> Any:
    name, parent, tables = info.field_name, info.parent_type.name, desk.tables
    match parent, name:
        case "Board", "items_page":
            return _first_page(desk, source, asked)
        case "Board", "activity_logs":
            return _log(desk, source, asked)
        case "Board", "groups" | "columns":
            rows = [row for row in tables[name].values() if row["board_id"] == source["id"]]
            return _of(rows, asked.get("ids"))
        case "Board", "tags":
            return []
        case "Board", "creator":
            return tables["users"].get(source["creator"]["id"], source["creator"])
        case "Item", "group":
            return tables["groups"].get(f"{source['board']['id']}/{source['group']['id']}")
        case "Item", "board":
            return tables["boards"][source["board"]["id"]]
        case "Item", "subitems":
            rows = [r for r in desk.live("subitems") if r["parent_id"] == source["id"]]
            return [item(desk, row) for row in rows]
        case "Item", "updates":
            rows = [u for u in desk.shown("updates") if u["item_id"] == source["id"]]
            return _page(_newest(rows), asked)
        case "Item", "column_values":
            ids = asked.get("ids")
            return [one for one in source[name] if ids is None or one["id"] in ids]
        case "User", "teams":
            return [tables["teams"][each["id"]] for each in source["teams"]]
        case "User", "account":
            return _account(desk)
        case "Team", "users":
            return [tables["users"][each["id"]] for each in source["users"]]
        case "Update" | "Reply", "creator":
            return tables["users"].get(source["creator_id"])
    value = source.get(name)
    return value(info, **asked) if callable(value) else value


def _account(desk: Desk) -> Json:
    return {"id": desk.id, "name": desk.name, "slug": "sandbox", "tier": desk.tier}


def _me(desk: Desk) -> Json:
    nobody = {"id": "1", "name": "Sole user", "email": "sole@mail.example", "enabled": True}
    nobody |= {"url": "https://sandbox.monday.com/users/1", "teams": []}
    return next(iter(desk.tables["users"].values()), nobody)


def _of(rows: Iterable[Json], ids: Sequence[str] | None) -> list[Json]:
    return [row for row in rows if not ids or row["id"] in {str(id) for id in ids}]


def _page(rows: Sequence[Json], asked: Json, most: int = MOST) -> list[Json]:
    limit, page = asked.get("limit") or most, asked.get("page") or 1
    if not 1 <= limit <= most:
        raise refused(f"limit must be from 1 to {most}", "INVALID_ARGUMENT", 400)
    return list(rows[(page - 1) * limit : page * limit])


def _newest(rows: Iterable[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)


def _boards(desk: Desk, asked: Json) -> list[Json]:
    """The newest first. Without a state only active ones are listed."""
    state = asked.get("state") or "active"
    rows = [row for row in desk.shown("boards") if state in ("all", row["state"])]
    rows = [row for row in rows if asked.get("board_kind") in (None, row["board_kind"])]
    return _page(_of(reversed(rows), asked.get("ids")), asked)


def _users(desk: Desk, asked: Json) -> list[Json]:
    enabled = not asked.get("non_active")
    rows = [row for row in desk.tables["users"].values() if row["enabled"] is enabled]
    return _page(_of(rows, asked.get("ids")), asked)


def _updates(desk: Desk, asked: Json) -> list[Json]:
    return _page(_newest(_of(desk.shown("updates"), asked.get("ids"))), asked, MOST_BY_ID)


def _items(desk: Desk, asked: Json) -> list[Json]:
    """By their ids, in any state; what was deleted is shown for some time, with that state."""
    ids = asked.get("ids")
    if ids and len(ids) > MOST_BY_ID:
        raise refused("Cannot query more than 100 items", "INVALID_ARGUMENT", 400)
    rows = [row for table in ITEMS for row in desk.shown(table)]
    rows = _of(rows, ids)
    if asked.get("exclude_nonactive") or not ids:
        rows = [row for row in rows if row["state"] == "active"]
    rows = [row for row in rows if row["board_id"] not in desk.refused]
    return [item(desk, row) for row in _page(rows, asked, MOST_BY_ID)]


def _check(desk: Desk, board: str) -> None:
    if board in desk.refused:
        text = "User unauthorized to perform action"
        raise refused(text, "UserUnauthorizedException", 403)


def _listed(desk: Desk, board: str) -> list[Json]:
    return [row for table in ITEMS for row in desk.live(table) if row["board_id"] == board]


def _first_page(desk: Desk, board: Json, asked: Json) -> Json:
    _check(desk, board["id"])
    if asked.get("cursor"):
        if asked.get("query_params"):
            raise refused("cursor and query_params exclude each other", "INVALID_ARGUMENT", 400)
        return _next_page(desk, asked)
    wanted = (asked.get("query_params") or {}).get("ids")
    if wanted and len(wanted) > MOST_BY_ID:
        raise refused("query_params.ids takes 100 ids at most", "INVALID_ARGUMENT", 400)
    ids = [row["id"] for row in _of(_listed(desk, board["id"]), wanted)]
    return _rows(desk, board["id"], ids, asked["limit"], desk.clock.now())


def _next_page(desk: Desk, asked: Json) -> Json:
    """What a cursor stands for lives for an hour from the first page."""
    began, place = desk.cursors.get(asked["cursor"], (None, {}))
    if began is None or desk.clock.now() - began >= CURSOR_LIVES or not place_of(asked["cursor"]):
        raise refused(
            "The cursor provided for pagination has expired. Please refresh your query and obtain"
            " a new cursor to continue fetching items",
            "CursorExpiredError",
            400,
        )
    _check(desk, place["board"])
    return _rows(desk, place["board"], place["ids"], asked["limit"], began)


def _rows(desk: Desk, board: str, ids: Sequence[str], limit: int, began: datetime) -> Json:
    if not 1 <= limit <= MOST_ITEMS:
        raise refused(f"limit must be from 1 to {MOST_ITEMS}", "INVALID_ARGUMENT", 400)
    shown, rest = ids[:limit], ids[limit:]
    cursor = None
    if rest:
        cursor = token_of([board, rest[0], len(rest), desk.clock.time()])
        desk.cursors[cursor] = (began, {"board": board, "ids": list(rest)})
    there = {row["id"]: row for row in _listed(desk, board)}
    return {"cursor": cursor, "items": [item(desk, there[id]) for id in shown if id in there]}


def _log(desk: Desk, board: Json, asked: Json) -> list[Json]:
    """Newest first, as far back as the smallest plan keeps it; without a `from`, all of that."""
    _check(desk, board["id"])
    since = _moment(asked.get("from"), desk.clock.now() - KEPT)
    until = _moment(asked.get("to"), desk.clock.now() + timedelta(days=1))
    rows = [row for row in desk.tables["activity_logs"].values() if row["board_id"] == board["id"]]
    found = [row for row in rows if since <= datetime.fromisoformat(row["at"]) <= until]
    ordered = sorted(found, key=lambda row: int(row["created_at"]), reverse=True)
    return _page(ordered, asked, MOST_ENTRIES)


def _moment(text: str | None, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else otherwise
