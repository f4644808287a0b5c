"""A workspace's data, or an organisation's: what it holds, and what comes of each change."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.kernel.clock import Clock
from sandbox.kernel.data import sentence
from sandbox.kernel.fields import without
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError
from sandbox.slack.rows import BOT, user
from sandbox.slack.rows import channel as new_channel

# Made-up changes are of messages that are not older, and of threads that are not: what is changed
# later than a week after it was said is found by no poll. Ordered ones may be of any.
LATELY = 6 * 86_400


@dataclass
class Workspace:
    """`teams` are an organisation's; a workspace has only its own id there.

    `talk` has each channel's messages and replies by ts. `restricted`: the app is sold outside
    Slack's marketplace. `rotates`: it switched token rotation on. A cursor is of an `era`. On a
    free plan history shows so many days only, `shown_days`; what is older is still there. Channels
    that are `refused` are listed, and cannot be read.
    """

    id: str
    name: str
    clock: Clock
    tell: Callable[[Any], None]
    teams: list[str]
    users: dict[str, Json] = field(default_factory=dict)
    channels: dict[str, Json] = field(default_factory=dict)
    talk: dict[str, dict[str, Json]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    restricted: bool = False
    rotates: bool = False
    era: int = 0
    shown_days: float | None = None
    refused: set[str] = field(default_factory=set)

    @property
    def is_org(self) -> bool:
        return self.id.startswith("E")

    def joined(self) -> list[str]:
        return [id_ for id_, row in self.channels.items() if row["is_member"]]

    def ts(self, channel: str, at: float) -> str:
        """A time that no other message of the channel has."""
        micro = round(at * 1_000_000)
        while (ts := f"{micro // 1_000_000}.{micro % 1_000_000:06d}") in self.talk[channel]:
            micro += 1
        return ts

    def shows(self, message: Json) -> bool:
        """Whether the plan lets history show it."""
        days = self.shown_days
        return days is None or float(message["ts"]) > self.clock.time() - days * 86_400

    def news(self, kind: str, **fields: Any) -> None:
        self.tell({"type": kind, "event_ts": f"{self.clock.time():.6f}", **fields})


MUTATIONS = Mutations[Workspace]()


def is_reply(message: Json) -> bool:
    return bool(message.get("thread_ts", message["ts"]) != message["ts"])


def store(space: Workspace, stream: str) -> dict[str, Json]:
    """As the API gives it, with the ids of what it was asked of."""
    if stream == "users":
        return dict(space.users)
    if stream == "channels":
        return dict(space.channels)
    if stream == "channel_members":
        pairs = [(one, user) for one in space.joined() for user in space.members[one]]
        return {f"{one}/{user}": {"channel_id": one, "user_id": user} for one, user in pairs}
    shown: Callable[[Json], bool] = is_reply if stream == "thread_replies" else _in_channel
    return {
        f"{channel}/{ts}": {**message, "channel_id": channel}
        for channel in space.joined()
        for ts, message in space.talk[channel].items()
        if shown(message)
    }


def _in_channel(message: Json) -> bool:
    return not is_reply(message) or message.get("subtype") == "thread_broadcast"


def of_a_channel(space: Workspace, stream: str) -> tuple[str, list[str]]:
    """The channel that has most records of a stream, and their keys; neither of a stream that
    does not go by channels."""
    found: dict[str, list[str]] = {}
    if stream not in ("users", "channels"):
        for key in store(space, stream):
            found.setdefault(key.partition("/")[0], []).append(key)
    channel = max(found, key=lambda one: len(found[one]), default="")
    return channel, found.get(channel, [])


def alterable(space: Workspace, stream: str) -> Iterable[str]:
    held = store(space, stream)
    if stream == "users":
        return [id_ for id_, user in held.items() if not user["deleted"]]
    if stream == "channels":
        # Nobody can delete the first two, which every workspace begins with.
        return [one for one in list(held)[2:] if one not in space.refused]
    # Nothing is made up where nobody may look.
    held = {key: row for key, row in held.items() if key.partition("/")[0] not in space.refused}
    if stream == "channel_members":
        return list(held)
    return [
        key
        for key, message in held.items()
        if is_recent(space, message.get("thread_ts") or message["ts"]) and "subtype" not in message
    ]


def is_recent(space: Workspace, ts: str) -> bool:
    return float(ts) > space.clock.time() - LATELY


def _place(change: Change, known: Mapping[str, Container[str]]) -> tuple[str, str]:
    """The channel that an order names, and what in it."""
    channel, _, id_ = str(change.id).partition("/")
    if channel not in known or id_ not in known[channel]:
        raise RefusedError("it went with its channel", status=409)
    return channel, id_


# -- Members --------------------------------------------------------------------------------------


@MUTATIONS.of("users", "add")
def add_user(space: Workspace, change: Change) -> str:
    row = user(space.teams, change.random, int(space.clock.time()))
    row.update(change.record)
    space.users[row["id"]] = row
    space.news("team_join", user=row)
    return str(row["id"])


@MUTATIONS.of("users", "change", "delete")
def change_user(space: Workspace, change: Change) -> None:
    """One who goes stays, as deleted."""
    former = space.users[str(change.id)]
    profile = {**former["profile"], "title": sentence(change.random)[:60]}
    row = {**former, "profile": profile, **change.record}
    if change.op == "delete":
        row["deleted"] = True
    row["updated"] = max(former["updated"], int(space.clock.time()))
    space.users[row["id"]] = row
    space.news("user_change", user=row)


def join(space: Workspace, channel: str, user: str) -> None:
    space.members[channel].add(user)
    _count(space, channel)
    space.news("member_joined_channel", user=user, channel=channel, team=space.teams[0])


def leave(space: Workspace, channel: str, user: str) -> None:
    space.members[channel].discard(user)
    _count(space, channel)
    space.news("member_left_channel", user=user, channel=channel, team=space.teams[0])


@MUTATIONS.of("channel_members", "delete")
def _drop_member(space: Workspace, change: Change) -> None:
    leave(space, *_place(change, space.members))


def _count(space: Workspace, channel: str) -> None:
    """That does not change when a channel was `updated`."""
    count = len(space.members[channel])
    space.channels[channel] = {**space.channels[channel], "num_members": count}


@MUTATIONS.of("channel_members", "add")
def add_member(space: Workspace, change: Change) -> str:
    free = [
        (channel, user)
        for channel in space.joined()
        for user in space.users
        if user not in space.members[channel] and channel not in space.refused
    ]
    if not free:
        raise RefusedError("everybody is everywhere", status=409)
    channel, user = change.random.choice(free)
    join(space, channel, user)
    return f"{channel}/{user}"


# -- Channels -------------------------------------------------------------------------------------


@MUTATIONS.of("channels", "add")
def add_channel(space: Workspace, change: Change) -> str:
    row = new_channel(space.teams, change.random, space.clock.time(), is_member=True)
    space.channels[row["id"]] = {**row, **change.record}
    space.talk[row["id"]], space.members[row["id"]] = {}, {BOT}
    shown = {name: row[name] for name in ("id", "name", "created", "creator")}
    space.news("channel_created", channel=shown)
    return str(row["id"])


@MUTATIONS.of("channels", "change")
def change_channel(space: Workspace, change: Change) -> None:
    former = space.channels[str(change.id)]
    topic = {"value": sentence(change.random), "creator": BOT, "last_set": int(space.clock.time())}
    fields = change.record or {"topic": topic}
    updated = max(former["updated"] + 1, int(space.clock.time() * 1000))
    row = space.channels[str(change.id)] = {**former, **fields, "updated": updated}
    if "is_archived" in fields:
        space.news(
            "channel_archive" if row["is_archived"] else "channel_unarchive",
            channel=row["id"], user=row["creator"],
        )  # fmt: skip
    elif row["name"] != former["name"]:
        shown = {name: row[name] for name in ("id", "name", "created")}
        space.news("channel_rename", channel=shown)
    elif row["is_member"] and row["id"] not in space.refused:
        # Only a message tells of the topic.
        ts = space.ts(row["id"], space.clock.time())
        said = {
            "type": "message", "subtype": "channel_topic", "user": row["creator"], "ts": ts,
            "topic": row["topic"]["value"], "text": f"set the topic: {row['topic']['value']}",
        }  # fmt: skip
        _say(space, row["id"], said)


@MUTATIONS.of("channels", "delete")
def drop_channel(space: Workspace, change: Change) -> None:
    channel = str(change.id)
    del space.channels[channel], space.talk[channel], space.members[channel]
    space.news("channel_deleted", channel=channel)


# -- What is said ---------------------------------------------------------------------------------


def _say(space: Workspace, channel: str, message: Json) -> None:
    space.talk[channel][message["ts"]] = message
    told = {**message, "channel": channel, "channel_type": "channel", "event_ts": message["ts"]}
    space.tell(told)


def post(space: Workspace, channel: str, user: str, text: str, **more: Any) -> str:
    ts = space.ts(channel, space.clock.time())
    message = {"type": "message", "user": user, "ts": ts, "team": space.teams[0], "text": text}
    _say(space, channel, {**message, **more})
    if more.get("thread_ts"):
        recount(space, channel, more["thread_ts"])
    return ts


def post_at(space: Workspace, channel: str, at: float, user: str, text: str) -> str:
    """What was said before anybody listened."""
    ts = space.ts(channel, at)
    message = {"type": "message", "user": user, "ts": ts, "team": space.teams[0], "text": text}
    space.talk[channel][ts] = message
    return ts


def recount(space: Workspace, channel: str, parent_ts: str) -> None:
    """What a parent shows of its thread: nobody is told that it changed."""
    talk = space.talk[channel]
    if parent_ts not in talk:
        return
    replies = [one for one in talk.values() if is_reply(one) and one["thread_ts"] == parent_ts]
    shown = ("thread_ts", "reply_count", "reply_users_count", "latest_reply", "reply_users")
    parent = without(talk[parent_ts], *shown)
    if replies:
        users = sorted({one["user"] for one in replies})
        parent |= {
            "thread_ts": parent_ts,
            "reply_count": len(replies),
            "reply_users_count": len(users),
            "latest_reply": max(one["ts"] for one in replies),
            "reply_users": users[:5],
        }
    talk[parent_ts] = parent


@MUTATIONS.of("messages", "add")
def add_message(space: Workspace, change: Change) -> str:
    where = [
        one
        for one in space.joined()
        if not space.channels[one]["is_archived"] and one not in space.refused
    ]
    if not where:
        raise RefusedError("no channel to speak in", status=409)
    channel = change.record.get("channel") or change.random.choice(where)
    user = change.random.choice(list(space.users) or [BOT])
    text = change.record.get("text") or sentence(change.random)
    return f"{channel}/{post(space, channel, user, text)}"


@MUTATIONS.of("thread_replies", "add")
def add_reply(space: Workspace, change: Change) -> str:
    """In a thread of these days, unless one is named."""
    where = change.record.get("thread")
    parents = [where] if where else list(alterable(space, "messages"))
    if not parents:
        raise RefusedError("no thread of these days", status=409)
    channel, _, parent = change.random.choice(parents).partition("/")
    user = change.random.choice(list(space.users) or [BOT])
    more = {"thread_ts": parent, "parent_user_id": space.talk[channel][parent]["user"]}
    if change.record.get("broadcast", change.random.random() < 0.3):
        more["subtype"] = "thread_broadcast"
    if change.random.random() < 0.3:
        more["bot_id"] = "B0ATOMSYNC"
    return f"{channel}/{post(space, channel, user, sentence(change.random), **more)}"


@MUTATIONS.of(("messages", "thread_replies"), "change")
def _edit(space: Workspace, change: Change) -> None:
    edit(space, *_place(change, space.talk), change)


@MUTATIONS.of(("messages", "thread_replies"), "delete")
def _remove(space: Workspace, change: Change) -> None:
    remove(space, *_place(change, space.talk))


def edit(space: Workspace, channel: str, ts: str, change: Change) -> None:
    former = space.talk[channel][ts]
    edited = {"user": former.get("user", BOT), "ts": f"{space.clock.time():.6f}"}
    text = change.record.get("text") or f"{sentence(change.random)} ({change.random.random():.6f})"
    message = space.talk[channel][ts] = {**former, "text": text, "edited": edited}
    space.news(
        "message", subtype="message_changed", hidden=True, channel=channel,
        channel_type="channel", message=message, previous_message=former,
        ts=edited["ts"],
    )  # fmt: skip


def remove(space: Workspace, channel: str, ts: str) -> None:
    """A message with replies leaves a tombstone, of which an edit tells."""
    talk, now = space.talk[channel], f"{space.clock.time():.6f}"
    former = talk[ts]
    if former.get("reply_count"):
        kept = ("thread_ts", "reply_count", "reply_users_count", "latest_reply", "reply_users")
        tomb = {
            "type": "message", "subtype": "tombstone", "hidden": True, "user": "USLACKBOT",
            "text": "This message was deleted.", "ts": ts, **{name: former[name] for name in kept},
        }  # fmt: skip
        talk[ts] = tomb
        space.news(
            "message", subtype="message_changed", hidden=True, channel=channel,
            channel_type="channel", message=tomb, previous_message=former, ts=now,
        )  # fmt: skip
        return
    del talk[ts]
    space.news(
        "message", subtype="message_deleted", hidden=True, channel=channel,
        channel_type="channel", deleted_ts=ts, previous_message=former, ts=now,
    )  # fmt: skip
    if is_reply(former):
        recount(space, channel, former["thread_ts"])
