"""Slack: a workspace's members, channels, messages and threads (Web API, Events API).

https://docs.slack.dev/apis/web-api

Longer than 300 lines: no delta tells of edits and threads, so messages, replies and members are
read channel by channel with windows of their own; and tables of error codes and kinds of events
say who has to act.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    OAuth2,
    RateLimit,
    Record,
    Revocation,
    Stream,
    SyncType,
    Webhook,
    column,
    columns,
)
from connectors.kernel.signatures import slack_signature
from connectors.kernel.versions import integer
from connectors.slack.errors import OVER, classify, error_from, normalize_answer
from connectors.slack.events import answer, events, member_key, message_key
from connectors.slack.reading import (
    by_channel,
    channels_again,
    kinds,
    listing,
    members_of,
    messages_of,
    replies_again,
    replies_of,
    since_when,
)

MINUTE = timedelta(minutes=1)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The workspace, or the organisation where the app is installed in all of it: it has no team
    then."""
    yield from ()
    org = answer.get("is_enterprise_install") is True
    place = answer["enterprise"] if org else answer["team"]
    scopes = sorted(str(answer.get("scope") or "").split(","))
    name = str(place.get("name") or place["id"])
    return (Account(place["id"], name=name, config={"org": org, "scopes": scopes}),)


def said_at(record: Record) -> datetime:
    """When a message was said; of a reply, its thread's: it is found by that. One that does not say
    counts as new, and is looked for."""
    ts = record.get("thread_ts") or record.get("ts")
    return datetime.fromtimestamp(float(ts), UTC) if ts else datetime.max.replace(tzinfo=UTC)


MESSAGE = columns("channel_id ts user_id=user bot_id subtype text thread_ts edited_ts=edited.ts")

connector = Connector(
    name="slack",
    title="Slack",
    category="Communication",
    sync_type=SyncType.PUSH,
    base_url="https://slack.com/api",
    auth=OAuth2(
        env="SLACK",
        authorize_url="https://slack.com/oauth/v2/authorize",
        token_url="https://slack.com/api/oauth.v2.access",  # noqa: S106
        revocation=Revocation(
            url="https://slack.com/api/auth.revoke", gives=("access_token",), client_auth="none"
        ),
        client_auth="basic",
        scope_separator=",",
        console="https://api.slack.com/apps",
        scopes={
            "channels:read": "the streams channels and channel_members",
            "channels:history": "the streams messages and thread_replies",
            "users:read": "the stream users",
            "team:read": "the workspaces of an organisation",
        },
        # Only of apps that switched token rotation on the answer says when a token ends.
        access_token_ttl=None,
        rotates=True,
        normalize_answer=normalize_answer,
        error_from=error_from,
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
        verified_by="SLACK_SIGNING_SECRET",
        verify=slack_signature,
        events=lambda delivery: tuple(events(delivery)),
        # Slack's first call, to see that the address is ours, is signed like all others.
        reply=answer,
        covers=("messages", "thread_replies", "channel_members", "users"),
        setup="Set this address as the request URL of the app's event subscriptions, and subscribe "
        "its bot to message.channels, channel_created, channel_rename, channel_archive, "
        "channel_unarchive, channel_deleted, channel_shared, channel_unshared, "
        "channel_id_changed, channel_left, member_joined_channel, member_left_channel, team_join, "
        "user_change, tokens_revoked and app_uninstalled; for private channels (with groups:read "
        "and groups:history) to message.groups, group_rename, group_archive, group_unarchive, "
        "group_deleted and group_left, too.",
        proof="Body and time; not the address. The body names the workspaces and what happened. "
        "The same secret signs slash commands and interactions, which are forms and no JSON.",
    ),
    sync_method="messages of the last week and their threads, whole lists",
    referees=("slack-sdk",),
    limitations=(
        "Only channels that the app was invited to are read, and of the private ones only where "
        "groups:read and groups:history were granted; direct messages are not.",
        "An edit or a deletion that is a week later than its message comes as an event only, a "
        "reply to a thread that is older than 30 days likewise; the weekly audit finds those that "
        "were missed.",
        "On a free plan Slack shows the messages of the last 90 days; what was read before stays, "
        "also when it is deleted there.",
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
            columns=columns(
                "name real_name=profile.real_name title=profile.title time_zone=tz "
                "is_admin:boolean is_bot:boolean is_deleted=deleted:boolean",
                # Seconds here, milliseconds in channels.
                "updated_s=updated:bigint",
            ),
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
            columns=columns(
                "name topic=topic.value purpose=purpose.value is_private:boolean "
                "is_archived:boolean is_member:boolean is_shared=is_ext_shared:boolean "
                "num_members:bigint creator created_s=created:bigint updated_ms=updated:bigint"
            ),
        ),
        Stream(
            name="messages",
            title="Messages",
            read=by_channel(messages_of),
            key=message_key,
            made_at=said_at,
            hides_deletes=True,
            window=since_when,
            columns={**MESSAGE, "reply_count": column("reply_count", "bigint")},
        ),
        Stream(
            name="thread_replies",
            title="Thread replies",
            read=by_channel(replies_of),
            fetch=replies_again,
            key=message_key,
            made_at=said_at,
            hides_deletes=True,
            window=since_when,
            columns=MESSAGE,
        ),
        Stream(
            name="channel_members",
            title="Channel members",
            read=by_channel(members_of),
            key=member_key,
            snapshot=True,
            columns=columns("channel_id user_id"),
        ),
    ),
)
