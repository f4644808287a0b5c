"""What Dropbox's API answers: every call is a POST, with JSON in and out.

https://www.dropbox.com/developers/documentation/http/documentation
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Never

import orjson
from starlette.responses import Response

from sandbox.dropbox import store as kept
from sandbox.dropbox.store import Box
from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Answer, Json
from sandbox.kernel.vendor import Route

HOST = "api.dropboxapi.com"
# Of a listing's page, at the most.
MOST = {"files": 2_000, "sharing": 1_000, "revisions": 100, "received": 300, "requests": 1_000}
# A page of links has so many, whatever is asked for.
LINKS = 20


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, of a type without a charset: the SDK takes no other."""
    told = {**(headers or {}), "content-type": "application/json"}
    return Response(orjson.dumps(body), status, headers=told)


def bad(call: Call, why: str) -> Never:
    """The form of a request is refused in plain text."""
    function = call.path.removeprefix("/2/")
    text = f'Error in call to API function "{function}": {why}'
    raise Answer(Response(text, 400, media_type="text/plain; charset=utf-8"))


def refused(*tags: str, status: int = 409, **more: Any) -> Never:
    """An error of the route: each tag is about the next."""
    error: Json = {".tag": tags[-1], **more}
    for tag in reversed(tags[:-1]):
        error = {".tag": tag, tag: error}
    raise Answer(answer({"error_summary": f"{'/'.join(tags)}/..", "error": error}, status))


def arguments(call: Call, allowed: Mapping[str, type]) -> Json:
    """The fields of the body; those without an argument want `null`, or nothing at all."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not allowed:
        if call.body and kind != "application/json":
            bad(call, f'Bad HTTP "Content-Type" header: "{kind}". Expecting "application/json".')
        if kind and kind != "application/json":
            bad(call, f'Bad HTTP "Content-Type" header: "{kind}".')
        if call.body and call.body.strip() != b"null":
            bad(call, "request body: expected null, got value")
        return {}
    if kind != "application/json":
        bad(call, f'Bad HTTP "Content-Type" header: "{kind}". Expecting "application/json".')
    found = call.json()
    if not isinstance(found, dict):
        bad(call, "request body: could not decode input as JSON")
    for name, value in found.items():
        if name not in allowed:
            bad(call, f"request body: unknown field '{name}'")
        if value is not None and not isinstance(value, allowed[name]):
            bad(call, f"request body: {name}: expected {allowed[name].__name__}")
    return {name: value for name, value in found.items() if value is not None}


def number(call: Call, asked: Json, name: str, default: int, most: int) -> int:
    value = int(asked.get(name, default))
    if not 1 <= value <= most:
        bad(call, f"request body: {name}: {value} is not between 1 and {most}")
    return value


def rooted(call: Call) -> str:
    """The path that a call's paths begin in; 422 where the header names another root."""
    box: Box = call.state
    text = call.headers.get("dropbox-api-path-root")
    if text is None:
        return box.home
    try:
        said = json.loads(text)
        tag = said[".tag"]
    except (ValueError, LookupError, TypeError):
        bad(call, 'HTTP header "Dropbox-API-Path-Root": could not decode input as JSON')
    if tag == "home":
        return box.home
    if tag != "root":
        refused("no_permission", status=422)
    if said.get("root") != box.root:
        refused("invalid_root", status=422, invalid_root=box.account["root_info"])
    return ""


def _in(prefix: str, entry: Json) -> Json | None:
    """An entry as it is seen from that folder, if it is there."""
    if not prefix:
        return entry
    if not entry["path_lower"].startswith(f"{prefix}/"):
        return None
    return {
        **entry,
        "path_lower": entry["path_lower"][len(prefix) :],
        "path_display": entry["path_display"][len(prefix) :],
    }


LIST = {
    "path": str,
    "recursive": bool,
    "include_media_info": bool,
    "include_deleted": bool,
    "include_has_explicit_shared_members": bool,
    "include_mounted_folders": bool,
    "limit": int,
    "shared_link": dict,
    "include_property_groups": dict,
    "include_non_downloadable_files": bool,
    "include_restorable_info": bool,
}


def list_folder(call: Call) -> Response:
    box: Box = call.state
    asked = arguments(call, LIST)
    path, limit = asked.get("path"), number(call, asked, "limit", MOST["files"], MOST["files"])
    if path is None:
        bad(call, "request body: missing required field 'path'")
    if path == "/":
        bad(
            call,
            'request body: path: Specify the root folder as an empty string rather than as "/"',
        )
    prefix = rooted(call)
    base = f"{prefix}{path.lower()}"
    if path and box.tree.get(base, {}).get(".tag") != "folder":
        refused("path", "not_found")
    place = [prefix, base, asked.get("recursive", False), limit, len(box.log), ""]
    return _page(box, place)


def list_folder_continue(call: Call) -> Response:
    box: Box = call.state
    place = place_of(arguments(call, {"cursor": str}).get("cursor", ""))
    if not isinstance(place, list) or len(place) != 7:
        bad(call, 'Invalid "cursor" parameter: "cursor" is invalid')
    generation, *rest = place
    if generation != box.generation:
        refused("reset")
    if rest[0] != rooted(call):
        bad(call, 'Invalid "cursor" parameter: it is of another path root')
    return _page(box, rest)


def _page(box: Box, place: list[Any]) -> Response:
    """All that there is, by path, and then what changed since that began."""
    prefix, base, recursive, limit, at, after = place

    def shown(entry: Json) -> bool:
        path = entry["path_lower"]
        inside = path.startswith(f"{base}/")
        return inside and (recursive or "/" not in path[len(base) + 1 :])

    if after is None:
        found: list[Json] = []
        ahead = at
        while ahead < len(box.log) and len(found) < limit:
            found += [box.log[ahead]] if shown(box.log[ahead]) else []
            ahead += 1
        at = ahead
    else:
        paths = sorted(path for path in box.tree if path > after and shown(box.tree[path]))
        found = [box.tree[path] for path in paths[:limit]]
        after = paths[limit - 1] if len(paths) > limit else None
    more = after is not None or at < len(box.log)
    entries = [seen for entry in found if (seen := _in(prefix, entry)) is not None]
    cursor = token_of([box.generation, prefix, base, recursive, limit, at, after])
    return answer({"entries": entries, "cursor": cursor, "has_more": more})


def list_revisions(call: Call) -> Response:
    box: Box = call.state
    asked = arguments(
        call,
        {
            "path": str,
            "mode": dict,
            "limit": int,
            "before_rev": str,
            "include_restorable_info": bool,
        },
    )
    limit = number(call, asked, "limit", 10, MOST["revisions"])
    path, prefix = str(asked.get("path", "")), rooted(call)
    by_id = asked.get("mode", {}).get(".tag") == "id"
    if by_id and "before_rev" in asked:
        refused("invalid_before_rev")
    base = f"{prefix}{path.lower()}"
    if path.startswith("id:"):
        base = next((each for each, entry in box.tree.items() if entry["id"] == path), "")
    entry = box.tree.get(base)
    if not base.startswith(f"{prefix}/") or (entry is None and base not in box.revisions):
        refused("path", "not_found")
    if entry is not None and entry[".tag"] != "file":
        refused("path", "not_file")
    rows = list(reversed(box.revisions[base].values()))
    if by_id:
        every = [row for of in box.revisions.values() for row in of.values()]
        rows = [row for row in reversed(every) if entry and row["id"] == entry["id"]]
    if rev := asked.get("before_rev"):
        places = [place for place, row in enumerate(rows) if row["rev"] == rev]
        if not places:
            refused("invalid_before_rev")
        rows = rows[places[0] + 1 :]
    shown = [seen for row in rows if (seen := _in(prefix, row)) is not None]
    more = len(shown) > limit
    return answer({"is_deleted": entry is None, "entries": shown[:limit], "has_more": more})


def current_account(call: Call) -> Response:
    arguments(call, {})
    return answer(call.state.account)


def space_usage(call: Call) -> Response:
    arguments(call, {})
    return answer(kept.space(call.state))


def _listing(
    stream: str, records: str, most: int, *, has_more: bool = False, onto: bool = False
) -> Callable[[Call], Response]:
    """A listing by cursors; `has_more` where the cursor alone does not say that there is more."""

    def listed(call: Call) -> Response:
        box: Box = call.state
        first = {"limit": int, "actions": list}
        if onto:
            asked = arguments(call, {"cursor": str})
        elif most == LINKS:
            asked = arguments(call, {"cursor": str, "path": str, "direct_only": bool})
            rooted(call)
        else:
            asked = arguments(call, first)
        limit, after = min(most, 1_000), 0
        if "cursor" in asked:
            place = place_of(asked["cursor"])
            if not isinstance(place, list) or place[:2] != [box.generation, stream]:
                refused("reset" if most == LINKS else "invalid_cursor")
            limit, after = place[2:]
        elif "limit" in asked:
            limit = number(call, asked, "limit", most, most)
        rows = list(box.rows[stream].values())
        page, end = rows[after : after + limit], after + limit
        more = end < len(rows)
        body: Json = {records: page}
        if more or (has_more and most != LINKS):
            body["cursor"] = token_of([box.generation, stream, limit, end])
        if has_more:
            body["has_more"] = more
        return answer(body)

    return listed


def list_members(call: Call) -> Response:
    asked = arguments(call, {"shared_folder_id": str, "limit": int, "actions": list})
    limit = number(call, asked, "limit", MOST["sharing"], MOST["sharing"])
    return _members(call.state, str(asked.get("shared_folder_id")), limit, 0)


def list_members_continue(call: Call) -> Response:
    box: Box = call.state
    place = place_of(arguments(call, {"cursor": str}).get("cursor", ""))
    if not isinstance(place, list) or len(place) != 4 or place[0] != box.generation:
        refused("invalid_cursor")
    return _members(box, *place[1:])


def _members(box: Box, folder: str, limit: int, after: int) -> Response:
    if folder not in box.rows["shared_folders"]:
        refused("access_error", "invalid_id")
    if folder in box.refused:
        refused("access_error", "no_permission")
    rows = list(kept.members(box, folder))
    body: Json = {"users": [], "groups": [], "invitees": []}
    for row in rows[after : after + limit]:
        body[f"{row['kind']}s"].append(without(row, "shared_folder_id", "kind"))
    if after + limit < len(rows):
        body["cursor"] = token_of([box.generation, folder, limit, after + limit])
    return answer(body)


def revoke(call: Call) -> Response:
    """Ends the consent: the refresh token and its access tokens."""
    arguments(call, {})
    assert call.grant  # noqa: S101 - the route wants a token
    call.grant.ended = True
    return Response(b"null", media_type="application/json")


def _route(path: str, handler: Callable[[Call], Response], scope: str = "") -> Route:
    return Route("POST", HOST, f"/2{path}", handler, scopes=(scope,) if scope else ())


ACCOUNT, METADATA = "account_info.read", "files.metadata.read"
SHARING, REQUESTS = "sharing.read", "file_requests.read"
SCOPES = (ACCOUNT, METADATA, SHARING, REQUESTS)
ROUTES = (
    _route("/auth/token/revoke", revoke),
    _route("/users/get_current_account", current_account, ACCOUNT),
    _route("/users/get_space_usage", space_usage, ACCOUNT),
    _route("/files/list_folder", list_folder, METADATA),
    _route("/files/list_folder/continue", list_folder_continue, METADATA),
    _route("/files/list_revisions", list_revisions, METADATA),
    _route("/sharing/list_folder_members", list_members, SHARING),
    _route("/sharing/list_folder_members/continue", list_members_continue, SHARING),
    _route(
        "/sharing/list_shared_links",
        _listing("shared_links", "links", LINKS, has_more=True),
        SHARING,
    ),
    *(
        _route(path, _listing(stream, records, most, has_more=more, onto=onto), scope)
        for first, next_, stream, records, most, more, scope in (
            ("/sharing/list_folders", "/sharing/list_folders/continue", "shared_folders",
             "entries", MOST["sharing"], False, SHARING),
            ("/sharing/list_received_files", "/sharing/list_received_files/continue",
             "received_files", "entries", MOST["received"], False, SHARING),
            ("/file_requests/list_v2", "/file_requests/list/continue", "file_requests",
             "file_requests", MOST["requests"], True, REQUESTS),
        )
        for path, onto in ((first, False), (next_, True))
    ),
)  # fmt: skip
