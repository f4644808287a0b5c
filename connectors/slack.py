"""Slack: a workspace's members, channels, messages and threads (Web API, Events API).

https://docs.slack.dev/apis/web-api
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from connectors import (
    Account,
    Checkpoint,
    Connector,
    Context,
    OAuth2,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Webhook,
    Whole,
    column,
)
from connectors._paging import onward, rows_of
from connectors._signatures import slack_signature
from connectors._slack_answers import GONE, OVER, classify, code_of, explain, plain
from connectors._slack_events import answer, events, member_key, message_key
from connectors._versions import find, integer

PAGE = 200
# So far back messages and threads are read again: history knows no edits, only what was posted.
LOOKBACK = timedelta(days=7)
MINUTE = timedelta(minutes=1)

# Yields Requests; returns the rows of a page, None of a channel or a thread that we may not read
# any more, and the cursor of the next page, None after the last.
Rows: TypeAlias = Generator[Request, Response, tuple[list[Record] | None, str | None]]


def ask(method: str, params: Mapping[str, Any], cursor: str | None = None) -> Request:
    """Every method has a limit of its own."""
    given = {name: value for name, value in {**params, "cursor": cursor}.items() if value}
    return Request.get(f"/{method}", params=given, budget=method)


def rows(method: str, records: str, params: Mapping[str, Any], cursor: str | None) -> Rows:
    """A page. One whose cursor has lapsed is the first again; only no next cursor is the end."""
    params = {**params, "limit": PAGE}
    response = yield ask(method, params, cursor)
    if cursor is not None and code_of(response) == "invalid_cursor":
        cursor = None
        response = yield ask(method, params)
    if code_of(response) in GONE:
        return None, None
    following = find(response.json, ("response_metadata", "next_cursor")) or None
    if following is not None:
        onward(cursor, following)
    return rows_of(response, records), following


def teams(context: Context) -> Generator[Request, Response, list[str]]:
    """The workspaces of an organisation, which its token has to name; of a workspace only ""."""
    if not context.config.get("org"):
        return [""]
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = yield from rows("auth.teams.list", "teams", {}, cursor)
        found += [team["id"] for team in page or ()]
        if cursor is None:
            return sorted(set(found))


def kinds(context: Context) -> dict[str, Any]:
    """Private channels are asked for only where that was granted: Slack refuses it all if not."""
    private = "groups:read" in context.config.get("scopes", ())
    return {"types": f"public_channel{',private_channel' if private else ''}"}


def listing(
    method: str, records: str, params: Callable[[Context], Mapping[str, Any]]
) -> Callable[[Checkpoint, Context], Reader]:
    """Of each workspace that the token is for, one after the other."""

    def read(at: Checkpoint, context: Context) -> Reader:
        left = [team for team in (yield from teams(context)) if team >= at.get("team", "")]
        cursor = at.get("page")
        for team, after in zip(left, [*left[1:], None], strict=True):
            while True:
                asked = {**params(context), "team_id": team}
                found, cursor = yield from rows(method, records, asked, cursor)
                if cursor is None:
                    break
                yield Page(found or (), Checkpoint(team=team, page=cursor))
            yield Page(found or (), Checkpoint() if after is None else Checkpoint(team=after))
        if not left:
            yield Page((), Checkpoint())

    return read


def joined(context: Context) -> Generator[Request, Response, list[str]]:
    """The channels that the app was invited to: it may read no others."""
    found: set[str] = set()
    for team in (yield from teams(context)):
        cursor: str | None = None
        while True:
            asked = {**kinds(context), "team_id": team}
            page, cursor = yield from rows("conversations.list", "channels", asked, cursor)
            found |= {row["id"] for row in page or () if row.get("is_member") is True}
            if cursor is None:
                break
    return sorted(found)


# What a visit to a channel takes: its id, from when on it is read ("": all of it), and the scan's
# checkpoint as it stands in it. It yields Pages; it returns the last page's records, None where the
# channel is not to be read any more.
Visit: TypeAlias = Callable[
    [str, str, Checkpoint], Generator[Request | Page, Response, list[Record] | None]
]


def by_channel(visit: Visit, *, snapshot: bool = False) -> Callable[[Checkpoint, Context], Reader]:
    """A scan of the channels as they were when it began, in the order of their ids.

    `new` are those that no former scan has read: they are read from their start.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        scan = at
        if "place" not in at:
            channels = yield from joined(context)
            scan = Checkpoint(at, channels=channels, place=0, started=int(context.now.timestamp()))
            former = set(at.get("channels", channels))
            scan["new"] = [one for one in channels if one not in former]
            if left := sorted(former.difference(channels)):
                yield Page((), scan, whole=[_emptied(one, context) for one in left])
        while (place := scan["place"]) < len(scan["channels"]):
            channel = scan["channels"][place]
            since = "" if "since" not in scan or channel in scan["new"] else _since(scan["since"])
            last = yield from visit(channel, since, scan)
            channels, whole = list(scan["channels"]), []
            if last is None:
                # Who is invited again finds what was said meanwhile.
                channels[place], whole = "", [_emptied(channel, context)]
            scan = Checkpoint(
                {name: scan[name] for name in scan if name not in ("page", "below")},
                channels=channels,
                place=place + 1,
            )
            if place + 1 < len(channels):
                yield Page(last or (), scan, whole=whole)
            else:
                yield Page(last or (), _done(scan, snapshot=snapshot), whole=whole)
        if not scan["channels"]:
            yield Page((), _done(scan, snapshot=snapshot))

    return read


def _emptied(channel: str, context: Context) -> Whole:
    """With a channel that is gone, or that the app was taken out of, goes what was read there."""
    return Whole(f"{channel}/", (), context.now)


def _done(scan: Checkpoint, *, snapshot: bool) -> Checkpoint:
    if snapshot:
        return Checkpoint()
    known = [channel for channel in scan["channels"] if channel]
    return Checkpoint(since=scan["started"], channels=known)


def _since(started: int) -> str:
    return f"{started - LOOKBACK.total_seconds():.6f}"


def history(
    channel: str, since: str, cursor: str | None
) -> Generator[Request, Response, tuple[list[Record] | None, str | None]]:
    """Newest first."""
    params = {"channel": channel, "oldest": since}
    return (yield from rows("conversations.history", "messages", params, cursor))


def messages_of(
    channel: str, since: str, scan: Checkpoint
) -> Generator[Request | Page, Response, list[Record] | None]:
    cursor = scan.get("page")
    while True:
        page, cursor = yield from history(channel, since, cursor)
        found = None if page is None else [{**row, "channel_id": channel} for row in page]
        if cursor is None:
            return found
        yield Page(found or (), Checkpoint(scan, page=cursor))


def replies_of(
    channel: str, since: str, scan: Checkpoint
) -> Generator[Request | Page, Response, list[Record] | None]:
    """Every thread that had a reply since then, whole; after each the scan may be resumed."""
    cursor = scan.get("page")
    below = scan.get("below")
    while True:
        here = cursor
        page, cursor = yield from history(channel, since, cursor)
        if page is None:
            return None
        for parent in page:
            done = below is not None and float(parent["ts"]) >= float(below)
            if done or not parent.get("reply_count") or parent.get("thread_ts") != parent["ts"]:
                continue
            if since and float(parent.get("latest_reply") or parent["ts"]) < float(since):
                continue
            found = yield from _thread(channel, parent["ts"])
            below = parent["ts"]
            yield Page(found, _at(scan, here, below))
        if cursor is None:
            return []
        yield Page((), _at(scan, cursor, below))


def _at(scan: Checkpoint, page: str | None, below: str | None) -> Checkpoint:
    rest = {"page": page, "below": below}
    kept = {name: scan[name] for name in scan if name not in rest}
    return Checkpoint(kept, **{name: value for name, value in rest.items() if value})


def _thread(channel: str, ts: str) -> Generator[Request, Response, list[Record]]:
    """A thread's replies. Its parent is in each page's first row (from memory, 2026-11): wherever
    it stands, it is left out."""
    found: list[Record] = []
    cursor: str | None = None
    params = {"channel": channel, "ts": ts}
    while True:
        page, cursor = yield from rows("conversations.replies", "messages", params, cursor)
        found += [{**row, "channel_id": channel} for row in page or () if row["ts"] != ts]
        if cursor is None:
            return found


def members_of(
    channel: str, since: str, scan: Checkpoint
) -> Generator[Request | Page, Response, list[Record] | None]:
    cursor = scan.get("page")
    while True:
        params = {"channel": channel}
        page, cursor = yield from rows("conversations.members", "members", params, cursor)
        # Plain ids, no objects.
        found = [{"channel_id": channel, "user_id": str(one)} for one in page or ()]
        if cursor is None:
            return found
        yield Page(found, Checkpoint(scan, page=cursor))


def channels_again(keys: Sequence[str], context: Context) -> Reader:
    """Of events that tell a channel by its id alone, or not all of it."""
    found: list[Record] = []
    gone: list[str] = []
    for key in keys:
        params = {"channel": key, "include_num_members": "true"}
        response = yield ask("conversations.info", params)
        if code_of(response) in GONE:
            gone.append(key)
        else:
            found.append(response.json["channel"])
    yield Page(found, Checkpoint(), deleted=gone)


def since_when(at: datetime) -> Checkpoint:
    return Checkpoint(since=int(at.timestamp()))


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The workspace, or the organisation where the app is installed in all of it: it has no team
    then."""
    yield from ()
    org = answer.get("is_enterprise_install") is True
    place = answer["enterprise"] if org else answer["team"]
    scopes = sorted(str(answer.get("scope") or "").split(","))
    name = str(place.get("name") or place["id"])
    return (Account(place["id"], name=name, config={"org": org, "scopes": scopes}),)


MESSAGE = {
    "channel_id": column("channel_id"),
    "ts": column("ts"),
    "user_id": column("user"),
    "bot_id": column("bot_id"),
    "subtype": column("subtype"),
    "text": column("text"),
    "thread_ts": column("thread_ts"),
    "edited_ts": column("edited.ts"),
}

connector = Connector(
    name="slack",
    title="Slack",
    sync_type=SyncType.PUSH,
    base_url="https://slack.com/api",
    auth=OAuth2(
        env="SLACK",
        authorize_url="https://slack.com/oauth/v2/authorize",
        token_url="https://slack.com/api/oauth.v2.access",  # noqa: S106
        revoke_url="https://slack.com/api/auth.revoke",
        revoke_body="token",
        gives_back="access_token",
        client_auth="basic",
        scopes=("channels:read", "channels:history", "users:read", "team:read"),
        scope_separator=",",
        console="https://api.slack.com/apps",
        why={
            "channels:read": "the streams channels and channel_members",
            "channels:history": "the streams messages and thread_replies",
            "users:read": "the stream users",
            "team:read": "the workspaces of an organisation",
        },
        # Only of apps that switched token rotation on the answer says when a token ends.
        access_token_ttl=None,
        rotates=True,
        plain=plain,
        explain=explain,
        refused=OVER,
    ),
    rate_limits=(
        # Of each method by itself. History of apps that are sold outside Slack's marketplace is
        # one request a minute: Slack then says so, and is waited for.
        RateLimit(20, per=MINUTE, name="users.list"),
        RateLimit(20, per=MINUTE, name="conversations.list"),
        RateLimit(20, per=MINUTE, name="auth.teams.list"),
        RateLimit(50, per=MINUTE, name="conversations.info"),
        RateLimit(50, per=MINUTE, name="conversations.history"),
        RateLimit(50, per=MINUTE, name="conversations.replies"),
        RateLimit(100, per=MINUTE, name="conversations.members"),
    ),
    identify=identify,
    classify=classify,
    # The limits are by the minute: more at once would only wait, and be refused in turns.
    concurrency=1,
    variables={
        "SLACK_SIGNING_SECRET": "The app's signing secret; while it is empty, deliveries are "
        "refused."
    },
    webhook=Webhook(
        proven_by="SLACK_SIGNING_SECRET",
        verify=slack_signature,
        events=lambda delivery: tuple(events(delivery)),
        # Slack's first call, to see that the address is ours, is signed like all others.
        reply=answer,
        covers=("messages", "thread_replies", "channel_members", "users"),
        setup="Set this address as the request URL of the app's event subscriptions, and subscribe "
        "its bot to message.channels, channel_created, channel_rename, channel_archive, "
        "channel_unarchive, channel_deleted, channel_id_changed, channel_left, "
        "member_joined_channel, member_left_channel, team_join, user_change, tokens_revoked and "
        "app_uninstalled.",
        proof="Body and time; not the address. The body names the workspaces and what happened. "
        "The same secret signs slash commands and interactions, which are forms and no JSON.",
    ),
    follows="messages of the last week and their threads, whole lists",
    judged_by=("slack-sdk",),
    gaps=(
        "Only channels that the app was invited to are read, and of the private ones only where "
        "groups:read and groups:history were granted; direct messages are not.",
        "An edit, a deletion or a reply that is a week later than its message or thread comes as "
        "an event only; a full read now and then finds those that were missed.",
        "How many replies a message has is as of the last poll.",
        "When Slack drops events (over 30,000 an hour) it names the workspace: where the app was "
        "installed in a whole organisation, only polls find what was dropped.",
        "Of a channel that several workspaces share, Slack tells one of them each event: the "
        "others find it by polls.",
        "Rows under the former id of a channel that got another go with the next full read.",
        "What files hold is not fetched.",
    ),
    streams=(
        Stream(
            name="users",
            title="Members",
            read=listing("users.list", "members", lambda context: {}),
            snapshot=True,
            version=integer("updated"),
            columns={
                "name": column("name"),
                "real_name": column("profile.real_name"),
                "title": column("profile.title"),
                "time_zone": column("tz"),
                "is_admin": column("is_admin", "boolean"),
                "is_bot": column("is_bot", "boolean"),
                "is_deleted": column("deleted", "boolean"),
                # Seconds here, milliseconds in channels.
                "updated_s": column("updated", "bigint"),
            },
        ),
        Stream(
            name="channels",
            title="Channels",
            read=listing(
                "conversations.list",
                "channels",
                lambda context: {**kinds(context), "exclude_archived": "false"},
            ),
            snapshot=True,
            fetch=channels_again,
            version=integer("updated"),
            columns={
                "name": column("name"),
                "topic": column("topic.value"),
                "purpose": column("purpose.value"),
                "is_private": column("is_private", "boolean"),
                "is_archived": column("is_archived", "boolean"),
                "is_member": column("is_member", "boolean"),
                "is_shared": column("is_ext_shared", "boolean"),
                "num_members": column("num_members", "bigint"),
                "creator": column("creator"),
                "created_s": column("created", "bigint"),
                "updated_ms": column("updated", "bigint"),
            },
        ),
        Stream(
            name="messages",
            title="Messages",
            read=by_channel(messages_of),
            key=message_key,
            hides_deletes=True,
            window=since_when,
            columns={**MESSAGE, "reply_count": column("reply_count", "bigint")},
        ),
        Stream(
            name="thread_replies",
            title="Thread replies",
            read=by_channel(replies_of),
            key=message_key,
            hides_deletes=True,
            window=since_when,
            columns=MESSAGE,
        ),
        Stream(
            name="channel_members",
            title="Channel members",
            read=by_channel(members_of, snapshot=True),
            key=member_key,
            snapshot=True,
            columns={"channel_id": column("channel_id"), "user_id": column("user_id")},
        ),
    ),
)
