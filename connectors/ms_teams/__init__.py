"""Microsoft Teams: teams, channels and chats of a person, and what is written there (Graph v1.0).

https://learn.microsoft.com/graph/teams-concept-overview

Longer than 300 lines: each channel has a delta and chats have none; replies are asked for by
thread, and private, shared and archived channels are refused in ways of their own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    Checkpoint,
    Column,
    Connector,
    ConnectorError,
    Context,
    Effect,
    NotAllowedError,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    ask,
    ask_all,
    columns,
    say,
)
from connectors._microsoft import GRAPH, PERSONAL, REFUSED, auth, directory, listing, me, no_licence
from connectors._microsoft import classify as graph_error
from connectors._microsoft.watches import Meaning, graph_watch, graph_webhook
from connectors.kernel.paging import batches
from connectors.kernel.versions import epoch_us, find
from connectors.ms_teams.places import (
    CHATS,
    IN_TEAMS,
    PAGE,
    TEAMS,
    channel_key,
    channels,
    chats_if_allowed,
    in_chat,
    listed_channels,
    listed_chats,
    listed_teams,
    path_of,
    quoted,
    read_channels,
)
from connectors.ms_teams.reading import (
    AT_ONCE,
    by_part,
    chat_message_key,
    in_channel,
    in_thread,
    is_deleted,
    message_key,
    messages_of_channel,
    messages_of_chat,
    of_chat,
    replies_at,
    replies_of_channel,
    reply_key,
)

TITLE = "Microsoft Teams"
SECOND = timedelta(seconds=1)
# An hour less than the most. Without an address for lifecycle notifications an hour is the most.
LIFETIME = timedelta(hours=71)
DISABLED = "ServicePrincipalDisabledOnTenant"
TEAMS_SCOPE = "Team.ReadBasic.All"
IN_CHANNELS, IN_CHATS = ("channel_messages", "message_replies"), ("chat_messages",)
COVERED = (*IN_CHANNELS, *IN_CHATS)
_graph_error = graph_error(TITLE)
_QUOTED = re.compile(r"\('([^']*)'\)")

MESSAGE: Mapping[str, Column] = columns(
    "author_id=from.user.id author_name=from.user.displayName content_type=body.contentType "
    "content=body.content importance message_type=messageType reactions:jsonb "
    "created_at=createdDateTime:timestamptz updated_at=lastModifiedDateTime:timestamptz "
    "edited_at=lastEditedDateTime:timestamptz"
)


def fetch(
    path: Callable[[str], str], shape: Callable[[str, Record], Record]
) -> Callable[[Sequence[str], Context], Reader]:
    """Messages read again by their keys. `path` and `shape` go by the key of where one is."""

    def read(keys: Sequence[str], context: Context) -> Reader:
        for some in batches(keys, AT_ONCE):
            answers = yield from ask_all(_message(path, key) for key in some)
            found, gone = [], []
            for key, answer in zip(some, answers, strict=True):
                if answer.status == 404 or is_deleted(answer.json):
                    gone.append(key)
                else:
                    found.append(shape(key.rpartition("/")[0], answer.json))
            yield Page(found, Checkpoint(), deleted=gone)

    return read


def _message(path: Callable[[str], str], key: str) -> Request:
    place, _, id_ = key.rpartition("/")
    where = path(place)
    budget = IN_TEAMS if where.startswith("/teams/") else ""
    return Request.get(f"{where}/{quoted(id_)}", expect=(404,), budget=budget)


def _in_channel(channel: str) -> str:
    return f"{path_of(channel)}/messages"


def _in_thread(thread: str) -> str:
    channel, _, message = thread.rpartition("/")
    return replies_at(channel, message)


def _shaped_in_thread(thread: str, row: Record) -> Record:
    channel, _, message = thread.rpartition("/")
    return in_thread(channel, message, row)


def means(notification: Mapping[str, Any]) -> Meaning:
    """What a notification is about. Its resource names a message, with its ids in quotes or as a
    path; of one that we cannot read we know only that something changed."""
    path = _QUOTED.sub(r"/\1", str(notification.get("resource", ""))).strip("/")
    match [unquote(part) for part in path.split("/")]:
        case ["teams", team, "channels", channel, "messages", message]:
            return _read("channel_messages", team, channel, message)
        case ["teams", team, "channels", channel, "messages", message, "replies", reply]:
            return _read("message_replies", team, channel, message, reply)
        case ["chats", chat, "messages", message]:
            return _read("chat_messages", chat, message)
    return Meaning(Effect.HINT, COVERED)


def _read(stream: str, *ids: str) -> Meaning:
    # What is deleted stays as a record that says so: that is read as well.
    return Meaning(Effect.READ, (stream,), "/".join(ids))


def resources(context: Context) -> Calls[Sequence[str]]:
    """Every channel and chat that we may read."""
    in_teams = yield from channels()
    in_chats = yield from chats_if_allowed()
    return [
        *("/teams/{}/channels/{}/messages".format(*one.split("/")) for one in in_teams),
        *(f"/chats/{one}/messages" for one in in_chats),
    ]


def streams_of(resource: str) -> tuple[str, ...]:
    return IN_CHATS if resource.startswith("/chats/") else IN_CHANNELS


def classify(response: Response) -> ConnectorError | None:
    """Graph's errors; a licence that was taken away looks like a permission.

    That Teams is disabled in an organisation comes as a 401, though the token is good: it was seen
    for the second page of a list whose first was given (msteams-docs#11571, 2024-09).
    """
    if find(response.json, ("error", "innerError", "code")) == DISABLED:
        return NotAllowedError(
            f"{TITLE} is disabled in this organisation, as Microsoft says ({response.status}): its "
            "administrator can enable it; it may pass by itself"
        )
    if response.status == 403 and response.url.startswith((f"{GRAPH}{TEAMS}", f"{GRAPH}{CHATS}")):
        return NotAllowedError(
            f"{TITLE} does not allow this (403): a permission was taken back or never given, or "
            "the account has no licence for it any more"
        )
    return _graph_error(response)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Whose Teams it is: of someone in an organisation, with a licence."""
    if directory(answer) == PERSONAL:
        raise BrokenConnectionError(
            say(
                "%(title)s can be read of accounts at work or school only, and this is a personal "
                "one",
                title=TITLE,
            )
        )
    found = yield from me(answer, callback)
    response = yield from ask(Request.get(TEAMS, expect=REFUSED))
    if response.status == 200:
        return found
    # A scope comes by its name, or as a URL that ends with it.
    granted = [scope.rpartition("/")[2] for scope in str(answer.get("scope", "")).split()]
    if TEAMS_SCOPE in granted:
        raise no_licence(TITLE)
    raise BrokenConnectionError(
        say(
            "%(title)s was not allowed to our app: the person, or an administrator of their "
            "organisation, has to allow all that is asked for",
            title=TITLE,
        )
    )


connector = Connector(
    name="ms_teams",
    title=TITLE,
    category="Communication",
    sync_type=SyncType.HYBRID,
    base_url=GRAPH,
    auth=auth(
        {
            TEAMS_SCOPE: "the stream teams, and to find channels",
            "Channel.ReadBasic.All": "the stream channels, and to find messages",
            "ChannelMessage.Read.All": (
                "the streams channel_messages and message_replies; an administrator has to allow it"
            ),
            "Chat.Read": "the streams chats and chat_messages",
        },
        # Personal accounts have no Teams that Graph would show.
        url_overrides={"common": "organizations"},
    ),
    rate_limits=(
        # Four a second for any one team or channel, by all accounts of our app: we take less than
        # that from all that one account sees, for what we send in a second may come in less. Chats:
        # of our app in one organisation. And of our app as a whole 200 a second, of which channels
        # get the most.
        RateLimit(3, per=SECOND, name=IN_TEAMS),
        RateLimit(150, per=SECOND, name=IN_TEAMS, scope="app"),
        RateLimit(20, per=SECOND),
        RateLimit(50, per=SECOND, scope="app"),
    ),
    identify=identify,
    classify=classify,
    webhook=graph_webhook(means=means, covers=COVERED),
    watch=graph_watch(resources=resources, streams=streams_of, lifetime=LIFETIME),
    sync_method="a delta link for each channel; for replies and chats the time of the last change",
    referees=("msgraph-sdk",),
    limitations=(
        "Of a channel that is shared with a person who is not in its team nothing is read.",
        "Chats with people of other organisations are in no list of Microsoft's now and then: one "
        "that was never listed is not read.",
        "Members, tabs, files and hosted content are not fetched.",
        "Messages that a retention policy removes are not told of: a full read finds them gone.",
        "A delta reaches back eight months. It is not sure (2026-11) that it tells of a change to "
        "an older message: webhooks do, and a full read finds it.",
        "Microsoft lets our app watch a channel or chat once: a second connection that sees it, "
        "too, is polled.",
    ),
    streams=(
        Stream(
            name="teams",
            title="Teams",
            read=listing(Request.get(TEAMS)),
            snapshot=True,
            columns=columns("name=displayName description"),
        ),
        Stream(
            name="channels",
            title="Channels",
            read=by_part(listed_teams, read_channels),
            key=channel_key,
            columns=columns(
                "team_id channel_id=id name=displayName description membership_type=membershipType "
                "web_url=webUrl created_at=createdDateTime:timestamptz"
            ),
        ),
        Stream(
            name="channel_messages",
            title="Channel messages",
            read=by_part(listed_channels, messages_of_channel),
            key=message_key,
            version=epoch_us("lastModifiedDateTime"),
            fetch=fetch(_in_channel, in_channel),
            columns={
                **columns("team_id channel_id message_id=id subject web_url=webUrl"),
                **MESSAGE,
            },
        ),
        Stream(
            name="message_replies",
            title="Replies",
            read=by_part(listed_channels, replies_of_channel),
            key=reply_key,
            version=epoch_us("lastModifiedDateTime"),
            fetch=fetch(_in_thread, _shaped_in_thread),
            columns={
                **columns("team_id channel_id message_id reply_id=id web_url=webUrl"),
                **MESSAGE,
            },
        ),
        Stream(
            name="chats",
            title="Chats",
            # In no order that we ask for: by the last message, one that comes in while the list is
            # read would move its chat past us.
            read=listing(
                Request.get(CHATS, params={"$expand": "lastMessagePreview", "$top": PAGE})
            ),
            snapshot=True,
            columns=columns(
                "topic chat_type=chatType "
                "last_message_at=lastMessagePreview.createdDateTime:timestamptz "
                "last_message=lastMessagePreview.body.content web_url=webUrl "
                "created_at=createdDateTime:timestamptz",
                # When it was renamed, or its members changed: not when something was written.
                "updated_at=lastUpdatedDateTime:timestamptz",
            ),
        ),
        Stream(
            name="chat_messages",
            title="Chat messages",
            # Every chat is asked each time: its last message does not move when one is edited.
            read=by_part(listed_chats, messages_of_chat),
            key=chat_message_key,
            version=epoch_us("lastModifiedDateTime"),
            fetch=fetch(in_chat, of_chat),
            columns={
                **columns("chat_id message_id=id"),
                **MESSAGE,
            },
        ),
    ),
)
