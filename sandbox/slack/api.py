"""Slack's methods: each by GET and POST, answers with `ok`, cursors, errors with HTTP 200."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Never

from starlette.responses import Response

from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Change, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Handler, Route
from sandbox.slack.auth import APP_ID, HOST
from sandbox.slack.rows import BOT
from sandbox.slack.store import Workspace, edit, is_reply, post, remove

# Of apps that are sold outside the marketplace, history has so many at once at most.
RESTRICTED_PAGE = 15
SLOW = ("conversations.history", "conversations.replies")
STATUS = {Kind.SERVER_ERROR: 500, Kind.UNAVAILABLE: 503, Kind.RATE_LIMITED: 429}
CODES = {
    Kind.BAD_REQUEST: "invalid_arguments",
    Kind.NOT_FOUND: "unknown_method",
    Kind.METHOD_NOT_ALLOWED: "unknown_method",
    Kind.RATE_LIMITED: "ratelimited",
    Kind.SERVER_ERROR: "internal_error",
    Kind.UNAVAILABLE: "service_unavailable",
}


def no(code: str, **more: Any) -> Never:
    raise Answer(reply({"ok": False, "error": code, **more}))


def method_of(call: Call) -> str:
    return call.path.removeprefix("/api/")


def arguments(call: Call) -> dict[str, str]:
    """From the query, a form or JSON alike."""
    body = call.json() if "json" in call.headers.get("content-type", "") else call.form()
    return {**dict(call.query), **{name: str(value) for name, value in (body or {}).items()}}


def trouble(wrong: ErrorCase, call: Call) -> Response:
    code, more = CODES.get(wrong.kind, ""), {}
    if wrong.kind is Kind.FORBIDDEN:
        held = ",".join(call.grant.scopes) if call.grant else ""
        code, more = "missing_scope", {"needed": wrong.detail, "provided": held}
    elif wrong.kind is Kind.UNAUTHORIZED:
        _, _, value = call.headers.get("authorization", "").partition(" ")
        known = call.server.access_tokens.get(value)
        ended = "token_revoked" if known and known.grant.ended else "token_expired"
        code = (ended if known else "invalid_auth") if value else "not_authed"
    headers = {}
    if wrong.kind is Kind.RATE_LIMITED:
        usual = 60.0 if wrong.limit and wrong.limit.amount == 1 else 1.0
        headers["retry-after"] = str(max(1, round(wrong.retry_after or usual)))
    return reply({"ok": False, "error": code, **more}, STATUS.get(wrong.kind, 200), headers)


def paged(
    call: Call,
    name: str,
    found: Sequence[tuple[str, Any]],
    *,
    first: Sequence[Any] = (),
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Those after the cursor's, each with the place that a cursor after it names, and `first`
    before those of every page."""
    space: Workspace = call.state
    given = arguments(call)
    most = 999 if method_of(call) in SLOW else 1000
    size = _size(given.get("limit", "100"), most)
    if space.restricted and method_of(call) in SLOW:
        size = min(size, RESTRICTED_PAGE)
    start = 0
    if cursor := given.get("cursor"):
        here = _opened(cursor, space.era)
        keys = [key for key, _ in found]
        # What it stood at may be gone by now.
        backwards = method_of(call) == "conversations.history"
        start = sum(key >= here if backwards else key <= here for key in keys)
    page = found[start : start + size]
    following = ""
    if start + size < len(found):
        following = base64.b64encode(f"{space.era}:{page[-1][0]}".encode()).decode()
    body = {"ok": True, name: [*first, *(value for _, value in page)], **(more or {})}
    if name == "messages":
        body["has_more"] = bool(following)
    return reply({**body, "response_metadata": {"next_cursor": following}})


def _size(text: str, most: int) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or not 1 <= int(text) <= most:
        no("invalid_limit")
    return int(text)


def _opened(cursor: str, era: int) -> str:
    try:
        made, _, here = base64.b64decode(cursor, validate=True).decode().partition(":")
    except ValueError:
        no("invalid_cursor")
    if made != str(era):
        no("invalid_cursor")
    return here


def _team(call: Call) -> str:
    """A token of an organisation has to name the workspace that it asks of."""
    space: Workspace = call.state
    team = arguments(call).get("team_id", "")
    if space.is_org and not team:
        no("missing_argument")
    if space.is_org and team not in space.teams:
        no("team_access_not_granted")
    return team if space.is_org else ""


def users_list(call: Call) -> Response:
    space, team = call.state, _team(call)
    rows = sorted(space.users.items())
    found = [(id_, row) for id_, row in rows if team in ("", row["team_id"])]
    return paged(call, "members", found)


def conversations_list(call: Call) -> Response:
    space, team = call.state, _team(call)
    given = arguments(call)
    kinds = given.get("types", "public_channel").split(",")
    if "private_channel" in kinds and call.grant and "groups:read" not in call.grant.scopes:
        no("missing_scope", needed="groups:read", provided=",".join(call.grant.scopes))
    found = [
        (id_, row)
        for id_, row in sorted(space.channels.items())
        if team in ("", row["context_team_id"])
        if not (given.get("exclude_archived") == "true" and row["is_archived"])
        if ("private_channel" if row["is_private"] else "public_channel") in kinds
    ]
    return paged(call, "channels", found)


def _channel(call: Call, *, read: bool) -> str:
    space: Workspace = call.state
    channel = arguments(call).get("channel", "")
    if channel not in space.channels:
        no("channel_not_found")
    if read and not space.channels[channel]["is_member"]:
        no("not_in_channel")
    if channel in space.refused and method_of(call) != "conversations.info":
        no("missing_scope", needed="groups:history", provided="groups:read")
    return channel


def conversations_info(call: Call) -> Response:
    row = call.state.channels[_channel(call, read=False)]
    if arguments(call).get("include_num_members") not in ("true", "1"):
        row = without(row, "num_members")
    return reply({"ok": True, "channel": row})


def conversations_history(call: Call) -> Response:
    """Newest first; replies only where they were sent to the channel, too."""
    channel, given = _channel(call, read=True), arguments(call)
    shown = [
        message
        for message in call.state.talk[channel].values()
        if not is_reply(message) or message.get("subtype") == "thread_broadcast"
        if call.state.shows(message)
    ]
    found = [
        (message["ts"], message)
        for message in sorted(shown, key=lambda one: float(one["ts"]), reverse=True)
        if _within(message["ts"], given)
    ]
    limited = any(not call.state.shows(one) for one in call.state.talk[channel].values())
    return paged(call, "messages", found, more={"is_limited": True} if limited else {})


def _within(ts: str, given: dict[str, str]) -> bool:
    oldest, latest = float(given.get("oldest", 0)), float(given.get("latest", 0) or 1e12)
    if given.get("inclusive") in ("true", "1"):
        return oldest <= float(ts) <= latest
    return oldest < float(ts) < latest


def conversations_replies(call: Call) -> Response:
    """Oldest first; each page begins with the parent."""
    channel, given = _channel(call, read=True), arguments(call)
    talk, ts = call.state.talk[channel], given.get("ts", "")
    if ts not in talk or not call.state.shows(talk[ts]):
        no("thread_not_found")
    replies = [
        (one["ts"], one)
        for one in sorted(talk.values(), key=lambda one: float(one["ts"]))
        if is_reply(one) and one["thread_ts"] == ts and _within(one["ts"], given)
        if call.state.shows(one)
    ]
    return paged(call, "messages", replies, first=[talk[ts]])


def conversations_members(call: Call) -> Response:
    channel = _channel(call, read=False)
    return paged(call, "members", [(one, one) for one in sorted(call.state.members[channel])])


def teams_list(call: Call) -> Response:
    space: Workspace = call.state
    rows = [(team, {"id": team, "name": f"{space.name} {n}"}) for n, team in enumerate(space.teams)]
    return paged(call, "teams", sorted(rows))


def auth_test(call: Call) -> Response:
    space: Workspace = call.state
    return reply(
        {
            "ok": True, "url": "https://acme.slack.com/", "team": space.name, "user": "atom-sync",
            "team_id": space.teams[0], "user_id": BOT, "bot_id": "B0ATOMSYNC", "app_id": APP_ID,
            "is_enterprise_install": space.is_org,
        }
    )  # fmt: skip


def _writes(call: Call) -> tuple[Workspace, str, dict[str, str]]:
    return call.state, _channel(call, read=True), arguments(call)


def post_message(call: Call) -> Response:
    space, channel, given = _writes(call)
    if not given.get("text"):
        no("no_text")
    more = {"thread_ts": given["thread_ts"]} if given.get("thread_ts") else {}
    ts = post(space, channel, BOT, given["text"], **more)
    return reply({"ok": True, "channel": channel, "ts": ts, "message": space.talk[channel][ts]})


def update_message(call: Call) -> Response:
    space, channel, given = _writes(call)
    if given.get("ts") not in space.talk[channel]:
        no("message_not_found")
    change = Change("messages", "change", None, {"text": given.get("text")}, Random(0))
    edit(space, channel, given["ts"], change)
    return reply({"ok": True, "channel": channel, "ts": given["ts"], "text": given.get("text")})


def delete_message(call: Call) -> Response:
    space, channel, given = _writes(call)
    if given.get("ts") not in space.talk[channel]:
        no("message_not_found")
    remove(space, channel, given["ts"])
    return reply({"ok": True, "channel": channel, "ts": given["ts"]})


METHODS: dict[str, tuple[Callable[[Call], Response], str]] = {
    "users.list": (users_list, "users:read"),
    "conversations.list": (conversations_list, "channels:read"),
    "conversations.info": (conversations_info, "channels:read"),
    "conversations.history": (conversations_history, "channels:history"),
    "conversations.replies": (conversations_replies, "channels:history"),
    "conversations.members": (conversations_members, "channels:read"),
    "auth.teams.list": (teams_list, "team:read"),
    "auth.test": (auth_test, ""),
    # Ours asks for no scope to write; the sandbox lets any token do it.
    "chat.postMessage": (post_message, ""),
    "chat.update": (update_message, ""),
    "chat.delete": (delete_message, ""),
}


def _route(verb: str, name: str, handler: Handler, scope: str) -> Route:
    return Route(verb, HOST, f"/api/{name}", handler, scopes=(scope,) if scope else ())


ROUTES = tuple(
    _route(verb, name, handler, scope)
    for name, (handler, scope) in METHODS.items()
    for verb in ("GET", "POST")
)
