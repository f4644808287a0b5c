"""What Box's API answers: items, what hangs on them, the trash, people, events.

https://developer.box.com/reference/
"""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import Response

from sandbox.box.store import (
    MINI,
    MINI_USER,
    ON_REQUEST,
    ROOT,
    Drive,
    Item,
    kept_events,
)
from sandbox.kernel.fields import only, without
from sandbox.kernel.oauth import Call
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase

MOST, MOST_OFFSET, MOST_EVENTS = 1_000, 10_000, 500
# A page of events ends here and there before it is full.
SHORT = 300
CODES = {
    Kind.BAD_REQUEST: (400, "bad_request"), Kind.UNAUTHORIZED: (401, "unauthorized"),
    Kind.FORBIDDEN: (403, "insufficient_scope"), Kind.NOT_FOUND: (404, "not_found"),
    Kind.METHOD_NOT_ALLOWED: (405, "method_not_allowed"),
    Kind.RATE_LIMITED: (429, "rate_limit_exceeded"),
    Kind.SERVER_ERROR: (500, "internal_server_error"), Kind.UNAVAILABLE: (503, "unavailable"),
}  # fmt: skip


def error(status: int, code: str, message: str, *, name: str = "", **headers: str) -> Response:
    """Box's own form. `name` is the parameter that is wrong."""
    body: Json = {
        "type": "error", "status": status, "code": code, "message": message,
        "help_url": "http://developers.box.com/docs/#errors", "request_id": "h4xlg9hmu2x8t2ol",
    }  # fmt: skip
    if name:
        wrong = {"reason": "invalid_parameter", "name": name, "message": message}
        body["context_info"] = {"errors": [wrong]}
    return reply(body, status, headers)


def no(status: int, code: str, message: str, *, name: str = "") -> Answer:
    return Answer(error(status, code, message, name=name))


def trouble(case: ErrorCase, call: Call) -> Response:
    status, code = CODES[case.kind]
    if case.kind is Kind.UNAUTHORIZED:
        # No body at all: the header says it.
        says = 'Bearer realm="Service", error="invalid_token"'
        return Response(status_code=401, headers={"www-authenticate": says})
    wait = case.retry_after or (30.0 if case.kind is Kind.RATE_LIMITED else None)
    headers = {} if wait is None else {"retry-after": f"{wait:g}"}
    return error(status, code, case.detail or code.replace("_", " "), **headers)


# -- Pages and fields ------------------------------------------------------------------------------


def flag(call: Call, name: str) -> bool:
    return call.query.get(name, "").lower() in ("true", "1")


def _number(call: Call, name: str, default: int, most: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or int(text) > most:
        message = f"Invalid value '{text[:20]}'. The {name} must not exceed {most}"
        raise no(400, "bad_request", message, name=name)
    return int(text)


def picked(call: Call, row: Json, usual: Sequence[str] | None = None) -> Json:
    """With `fields` those, and type, id and etag; otherwise what is usual, all but what is on
    request only."""
    asked = call.query.get("fields", "")
    if asked:
        return only(row, "type", "id", "etag", *(set(asked.split(",")) - {"type", "id", "etag"}))
    return only(row, *usual) if usual else without(row, *ON_REQUEST)


def listing(
    drive: Drive, call: Call, found: Sequence[tuple[str, Json]], *, most: int, default: int = 100
) -> Response:
    """A page by marker: those after the place that it names."""
    size, marker = _number(call, "limit", default, most), call.query.get("marker")
    rows = sorted(found, key=lambda each: each[0])
    if marker:
        place = place_of(marker)
        if not isinstance(place, list) or place[:2] != [drive.era, call.path]:
            raise no(400, "bad_request", "The marker is not valid", name="marker")
        rows = [each for each in rows if each[0] > place[2]]
    page = rows[: size or default]
    more = len(rows) > len(page)
    following = token_of([drive.era, call.path, page[-1][0]]) if more else ""
    return reply({"entries": [row for _, row in page], "limit": size, "next_marker": following})


def by_offset(call: Call, rows: Sequence[Json], *, most: int = MOST) -> Response:
    size, start = _number(call, "limit", 100, most), _number(call, "offset", 0, MOST_OFFSET)
    page = rows[start : start + size]
    return reply({"total_count": len(rows), "offset": start, "limit": size, "entries": page})


def paged(
    drive: Drive, call: Call, rows: Sequence[Json], usual: Sequence[str] | None = None
) -> Response:
    """By marker where that is asked for, otherwise by offset."""
    if flag(call, "usemarker"):
        keyed = [(f"{row['type']}_{row['id']}", picked(call, row, usual)) for row in rows]
        return listing(drive, call, keyed, most=MOST)
    return by_offset(call, [picked(call, row, usual) for row in rows])


# -- Items -----------------------------------------------------------------------------------------


def _item(drive: Drive, kind: str, id: str) -> Item:
    """What is in the trash is told apart from what is not there, or not shown."""
    item = drive.items.get(f"{kind}_{id}")
    if item and drive.is_trashed(item):
        raise no(404, "trashed", "Item is trashed")
    if item is None or not drive.is_shown(item):
        raise no(404, "not_found", "Not Found")
    return item


def item_of(kind: str) -> Callable[[Drive, Call], Response]:
    def one(drive: Drive, call: Call) -> Response:
        if kind == "folder" and call.params["id"] == ROOT:
            return reply({"type": "folder", "id": ROOT, "etag": None, "name": "All Files"})
        return reply(picked(call, drive.shown(_item(drive, kind, call.params["id"]))))

    return one


def folder_items(drive: Drive, call: Call) -> Response:
    id = call.params["id"]
    if id != ROOT:
        folder = _item(drive, "folder", id)
        if not drive.is_open(folder):
            code = "access_denied_insufficient_permissions"
            raise no(403, code, "Access denied - insufficient permission")
    return paged(drive, call, [drive.shown(each) for each in drive.inside(id)], MINI)


def under(kind: str, name: str) -> Callable[[Drive, Call], Response]:
    """Comments come by offset, tasks all at once, collaborations by marker."""

    def rows(drive: Drive, call: Call) -> Response:
        item = _item(drive, kind, call.params["id"])
        found = drive.all_under(item, name)
        if name == "comments":
            return by_offset(call, found)
        if name == "tasks":
            return reply({"total_count": len(found), "entries": found})
        if kind == "folder":
            # Of a folder it takes neither limit nor marker.
            return reply({"total_count": len(found), "entries": found})
        return listing(drive, call, [(row["id"], row) for row in found], most=MOST)

    return rows


def trash(drive: Drive, call: Call) -> Response:
    return paged(drive, call, [drive.shown(each) for each in drive.trash()], MINI)


# -- People ----------------------------------------------------------------------------------------


def me(drive: Drive, call: Call) -> Response:
    return reply(picked(call, {**drive.me, "enterprise": _enterprise()}))


def _enterprise() -> Json:
    return {"type": "enterprise", "id": "11446498", "name": "Acme Inc."}


def users(drive: Drive, call: Call) -> Response:
    if not drive.is_admin:
        code = "access_denied_insufficient_permissions"
        raise no(403, code, "Access denied - insufficient permission")
    usual = (*MINI_USER, "created_at", "modified_at", "status", "job_title", "phone")
    return paged(drive, call, list(drive.users.values()), usual)


# -- Events ----------------------------------------------------------------------------------------


def events(drive: Drive, call: Call) -> Response:
    """What happened from a position on, some of it twice and in no strict order.

    What is older than two weeks is no longer there, and nothing says that it is missing. The next
    position is a number or a text.
    """
    kinds = call.query.get("stream_type", "all")
    if kinds not in ("all", "changes", "sync"):
        raise no(400, "bad_request", "Invalid stream_type", name="stream_type")
    size = _number(call, "limit", 100, MOST_EVENTS)
    start = _position(drive, call.query.get("stream_position", "0"))
    kept = kept_events(drive, tree=kinds != "all")
    found = [each for each in kept if each[0] >= start]
    ends = (start // SHORT + 1) * SHORT
    page = [each for each in found if each[0] < ends][:size] or found[:size]
    following = page[-1][0] + 1 if page else start if start <= len(drive.log) else len(drive.log)
    entries = [event for _, event in page]
    if len(entries) > 2:
        entries[0], entries[1] = entries[1], entries[0]
        entries.append(entries[0])
    position: Any = drive.first + following
    return reply({
        "chunk_size": len(entries), "entries": entries,
        "next_stream_position": str(position) if following % 2 else position,
    })  # fmt: skip


def _position(drive: Drive, text: str) -> int:
    if text == "now":
        return len(drive.log)
    if text == "0":
        return 0
    place = int(text) - drive.first if text.isdecimal() else -1
    if not 0 <= place <= len(drive.log):
        raise no(400, "bad_request", "The stream position is not valid", name="stream_position")
    return place
