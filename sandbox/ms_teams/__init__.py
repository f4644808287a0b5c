"""Microsoft Teams on loopback: a person's teams, channels, chats and messages, through Graph.

https://learn.microsoft.com/graph/teams-concept-overview

Longer than 700 lines: teams, kinds of channels, chats, replies, and the rights of a person in
each.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from starlette.responses import Response

from sandbox import _microsoft
from sandbox._microsoft import AUTH, GRAPH, PERSONAL, invalid, link, missing, problem
from sandbox._microsoft.odata import NEXT, condition, delta, listing
from sandbox._microsoft.subscriptions import ROUTES as SUBSCRIPTIONS
from sandbox._microsoft.subscriptions import Changed, lifecycle, sender
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Limit, Route, Vendor
from sandbox.ms_teams.seed import MUTATIONS, STREAMS, new, store
from sandbox.ms_teams.store import (
    Channel,
    Chat,
    Message,
    Rooms,
    Team,
    described_channel,
    described_chat,
    described_team,
    in_channel,
    in_chat,
    previewed,
)

DEFAULT, MOST = 20, 50
# Channels and teams come in one answer: that they are paged is not documented.
WHOLE = 1000
# So many replies of a message come with it; the rest by a link.
EXPANDED = 1000
# As far back a channel's delta reaches.
REACH = timedelta(days=243)
MODIFIED = "lastModifiedDateTime"
NEWEST_FIRST = f"{MODIFIED} desc"
BY_PREVIEW = "lastMessagePreview/createdDateTime desc"
TEAMS_SCOPE, CHANNELS_SCOPE = "Team.ReadBasic.All", "Channel.ReadBasic.All"
MESSAGES_SCOPE, CHAT_SCOPE = "ChannelMessage.Read.All", "Chat.Read"
CHANNEL = "/teams/{team}/channels/{channel}"

Handler: TypeAlias = Callable[[Call, Rooms], Response]


def teams(call: Call, rooms: Rooms) -> Response:
    """The teams that the person is in. No OData parameter is taken."""
    if any(name.startswith("$") for name in call.query):
        raise invalid(call, "The query parameters are not supported.")
    rows = [described_team(team) for team in rooms.teams.values()]
    return listing(call, rows, context="teams", default=WHOLE, most=WHOLE)


def team(call: Call, rooms: Rooms) -> Response:
    """A team by its id: that tells whether it is archived, as the list does not."""
    found = _team(call, rooms)
    return _one(call, {**described_team(found), "isArchived": found.archived})


def channels(call: Call, rooms: Rooms) -> Response:
    """Those that the person may see; of an archived team the private ones are not among them
    (microsoft-graph-docs#9758, 2020-09)."""
    found = _team(call, rooms)
    shown = [one for one in found.channels.values() if one.listed]
    if found.archived:
        shown = [one for one in shown if one.kind != "private"]
    rows = [described_channel(one) for one in shown]
    return listing(call, rows, context="channels", default=WHOLE, most=WHOLE)


def channel(call: Call, rooms: Rooms) -> Response:
    return reply(described_channel(_channel(call, rooms)))


def messages(call: Call, rooms: Rooms) -> Response:
    """All messages of a channel, however old: the thread in which last something was written or
    changed comes first."""
    _refuse(call, "$filter", "$orderby")
    channel = _channel(call, rooms)
    expanded = _expands(call, call.query.get("$expand", ""), "replies")
    newest = sorted(channel.messages.values(), key=_touched, reverse=True)
    rows = [_told(call, channel, one, expanded) for one in newest]
    return listing(call, rows, context="messages", default=DEFAULT, most=MOST)


def changes(call: Call, rooms: Rooms) -> Response:
    """The delta function of a channel's messages: threads as they are now. It tells of deletes as
    of other changes, and of nothing that is older than eight months."""
    _refuse(call, "$orderby")
    channel = _channel(call, rooms)
    since = call.clock.now() - REACH

    def narrow(options: Mapping[str, str]) -> Callable[[Json], Json | None]:
        fits = condition(call, {MODIFIED: ("gt",)}, options.get("$filter", ""))
        expanded = _expands(call, options.get("$expand", ""), "replies")

        def shown(entry: Json) -> Json | None:
            message = channel.messages[entry["id"]]
            touched = {MODIFIED: _touched(message).isoformat()}
            if _touched(message) < since or not fits(touched):
                return None
            row = _told(call, channel, message, expanded)
            return {"@odata.type": "#microsoft.graph.chatMessage", **row}

        return shown

    return delta(
        call,
        channel.feed,
        context="Collection(chatMessage)",
        default=DEFAULT,
        most=MOST,
        narrow=narrow,
    )


def message(call: Call, rooms: Rooms) -> Response:
    channel = _channel(call, rooms)
    return _one(call, in_channel(channel, _message(call, channel.messages)))


def replies(call: Call, rooms: Rooms) -> Response:
    _refuse(call, "$filter", "$orderby")
    channel = _channel(call, rooms)
    above = _message(call, channel.messages)
    newest = sorted(above.replies.values(), key=lambda one: one.created_at, reverse=True)
    rows = [in_channel(channel, one, above) for one in newest]
    return listing(call, rows, context="replies", default=DEFAULT, most=MOST)


def answered(call: Call, rooms: Rooms) -> Response:
    """One reply. It is not found among the messages of its channel."""
    channel = _channel(call, rooms)
    above = _message(call, channel.messages)
    return _one(call, in_channel(channel, _message(call, above.replies, "reply"), above))


def chats(call: Call, rooms: Rooms) -> Response:
    """The person's chats; the preview of the last message comes only where it is expanded."""
    _refuse(call, "$filter")
    expanded = _expands(call, call.query.get("$expand", ""), "lastMessagePreview", "members")
    order = call.query.get("$orderby", BY_PREVIEW)
    if order.lower() != BY_PREVIEW.lower():
        raise invalid(call, f"The only order is {BY_PREVIEW!r}.")
    rows = [previewed(rooms, chat) for chat in rooms.chats.values()]
    rows.sort(key=lambda row: (row["lastMessagePreview"] or row)["createdDateTime"], reverse=True)
    if not expanded:
        rows = [described_chat(rooms, rooms.chats[row["id"]]) for row in rows]
    return listing(call, rows, context="chats", default=DEFAULT, most=MOST)


def chat(call: Call, rooms: Rooms) -> Response:
    return _one(call, described_chat(rooms, _chat(call, rooms)))


def chat_messages(call: Call, rooms: Rooms) -> Response:
    """A chat's messages, newest first. A filter counts only where the order is by the same time:
    else it is passed over, without a word."""
    chat = _chat(call, rooms)
    order = call.query.get("$orderby", "createdDateTime desc")
    if order.lower() not in (NEWEST_FIRST.lower(), "createddatetime desc"):
        raise invalid(call, "Only descending order is supported.")
    name = order.partition(" ")[0]
    rows = [in_chat(chat, one) for one in chat.messages.values()]
    rows.sort(key=lambda row: (row[name], row["id"]), reverse=True)
    if call.query.get("$filter", "").startswith(name):
        fits = condition(call, {name: ("gt", "lt")})
        rows = [row for row in rows if fits(row)]
    return listing(call, rows, context="messages", default=DEFAULT, most=MOST)


def chat_message(call: Call, rooms: Rooms) -> Response:
    chat = _chat(call, rooms)
    return _one(call, in_chat(chat, _message(call, chat.messages)))


def _one(call: Call, body: Json) -> Response:
    return reply({"@odata.context": f"https://{GRAPH}/v1.0/$metadata#entity", **body})


def _told(call: Call, channel: Channel, message: Message, expanded: bool) -> Json:
    """A message, with its replies where they are expanded."""
    row = in_channel(channel, message)
    if not expanded:
        return row
    row["replies"] = [in_channel(channel, one, message) for one in message.replies.values()]
    row["replies@odata.count"] = len(row["replies"])
    if len(row["replies"]) > EXPANDED:
        path = f"/v1.0/teams/{channel.team_id}/channels/{channel.id}/messages/{message.id}/replies"
        row["replies"] = []
        row[f"replies{NEXT}"] = link(call, path, {"$top": MOST})
    return row


def _touched(message: Message) -> datetime:
    """When last something was written or changed in a thread."""
    return max(one.modified_at for one in (message, *message.replies.values()))


def _expands(call: Call, asked: str, *allowed: str) -> bool:
    names = [name for name in asked.split(",") if name]
    if not set(names) <= set(allowed):
        raise invalid(call, f"$expand may be: {', '.join(allowed)}.")
    return allowed[0] in names


def _refuse(call: Call, *names: str) -> None:
    if taken := [name for name in names if name in call.query and "$skiptoken" not in call.query]:
        raise invalid(call, f"Query option {taken[0]} is not allowed.")


def _team(call: Call, rooms: Rooms) -> Team:
    found = rooms.teams.get(call.params["team"])
    if found is None:
        raise missing(call, "NotFound")
    return found


def _channel(call: Call, rooms: Rooms) -> Channel:
    found = _team(call, rooms).channels.get(call.params["channel"])
    if found is None:
        raise missing(call, "NotFound")
    if found.closed:
        raise Answer(problem(call, 403, "Forbidden", "The user is not in the roster."))
    return found


def _message(call: Call, known: Mapping[str, Message], name: str = "message") -> Message:
    found = known.get(call.params[name])
    if found is None:
        raise missing(call, "NotFound")
    return found


def _chat(call: Call, rooms: Rooms) -> Chat:
    found = rooms.chats.get(call.params["chat"])
    if found is None:
        raise missing(call, "NotFound")
    return found


def _allowed(handler: Handler, scope: str) -> Callable[[Call], Response]:
    """The handler on what the caller sees, whose organisation uses Teams and allows it still."""

    def answer(call: Call) -> Response:
        rooms: Rooms = call.state
        if rooms.person.tenant_id == PERSONAL or not rooms.licensed:
            text = "Failed to get license information for the user."
            raise Answer(problem(call, 403, "Forbidden", text))
        if scope in _microsoft.ADMIN_ONLY and not rooms.person.approved:
            raise Answer(problem(call, 403, "Forbidden", "Missing scope permissions."))
        return handler(call, rooms)

    return answer


TABLE: tuple[tuple[str, Handler, str], ...] = (
    ("/me/joinedTeams", teams, TEAMS_SCOPE),
    ("/teams/{team}", team, TEAMS_SCOPE),
    ("/teams/{team}/channels", channels, CHANNELS_SCOPE),
    (CHANNEL, channel, CHANNELS_SCOPE),
    (f"{CHANNEL}/messages", messages, MESSAGES_SCOPE),
    (f"{CHANNEL}/messages/delta", changes, MESSAGES_SCOPE),
    (f"{CHANNEL}/messages/delta()", changes, MESSAGES_SCOPE),
    (f"{CHANNEL}/messages/{{message}}", message, MESSAGES_SCOPE),
    (f"{CHANNEL}/messages/{{message}}/replies", replies, MESSAGES_SCOPE),
    (f"{CHANNEL}/messages/{{message}}/replies/{{reply}}", answered, MESSAGES_SCOPE),
    *(
        (f"{base}/chats{path}", handler, CHAT_SCOPE)
        for base in ("/me", "")
        for path, handler in (
            ("", chats),
            ("/{chat}", chat),
            ("/{chat}/messages", chat_messages),
            ("/{chat}/messages/{message}", chat_message),
        )
    ),
)
ROUTES = tuple(
    Route("GET", GRAPH, f"/v1.0{path}", _allowed(handler, scope), scopes=(scope,))
    for path, handler, scope in TABLE
)


def _in_teams(call: Call) -> int:
    return int(call.path.startswith("/v1.0/teams/"))


def _other(call: Call) -> int:
    return int(call.path.startswith(("/v1.0/chats", "/v1.0/me/chats", "/v1.0/me/joinedTeams")))


def concerns(resource: str, changed: Changed) -> bool:
    """Whether a change is in the channel or chat that is watched."""
    path = re.sub(r"\('([^']+)'\)", r"/\1", changed.resource)
    return path.startswith(f"{resource}/")


def licence(rooms: Rooms, body: Json) -> Json:
    """A control: whether the account has Teams at all."""
    rooms.licensed = bool(body.get("given"))
    return {"given": rooms.licensed}


def close(rooms: Rooms, body: Json) -> Json:
    """A control: a channel (`team/channel`) that the person may not read, or may again. Who owns
    its team sees it in the list none the less; with `listed` false it is not shown either."""
    closed = bool(body.get("closed", True))
    found = [one for one in rooms.channels() if f"{one.team_id}/{one.id}" == body.get("channel")]
    if not found:
        raise RefusedError(f"there is no channel {body.get('channel')!r}")
    found[0].closed, found[0].listed = closed, not closed or bool(body.get("listed", True))
    return {"closed": closed, "listed": found[0].listed}


def archive(rooms: Rooms, body: Json) -> Json:
    """A control: a team is archived, or restored."""
    team = rooms.teams.get(str(body.get("team", "")))
    if team is None:
        raise RefusedError(f"there is no team {body.get('team')!r}")
    team.archived = bool(body.get("archived", True))
    return {"archived": team.archived}


def resync(rooms: Rooms, body: Json) -> Json:
    """A control: the status and code by which the account's lapsed tokens are refused."""
    status = body.get("status")
    if not isinstance(status, int) or not 400 <= status < 500:
        raise RefusedError("name a status of 4xx", status=400)
    rooms.refusal = (status, str(body.get("code", "")))
    for one in rooms.channels():
        one.feed.refusal = rooms.refusal
    return {"status": status, "code": rooms.refusal[1]}


def expire(rooms: Rooms) -> None:
    for one in rooms.channels():
        one.feed.expire()


vendor = Vendor(
    name="ms_teams",
    title="Microsoft Teams",
    base_url=f"https://{GRAPH}/v1.0",
    auth=AUTH,
    routes=(*_microsoft.ROUTES, *SUBSCRIPTIONS, *ROUTES),
    streams=STREAMS,
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=_microsoft.trouble(denied="Forbidden", throttled="TooManyRequests"),
    limits=(
        # Of any one team or channel; here of all that an account sees.
        Limit("team", 4, 1.0, _in_teams),
        Limit("chat", 20, 1.0, _other),
    ),
    expire_checkpoints=expire,
    account_controls={
        "admin_consent": _microsoft.admin_consent,
        "archive": archive,
        "close": close,
        "licence": licence,
        "lifecycle": lifecycle,
        "resync": resync,
    },
    extras=_microsoft.extras,
    webhook=sender("ms_teams", concerns),
)
