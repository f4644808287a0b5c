"""What Slack tells: the events of a delivery, and whose they are.

https://docs.slack.dev/apis/events-api
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from connectors.kernel.messages import Record
from connectors.kernel.versions import EPOCH
from connectors.kernel.webhooks import Delivery, Effect, Event, Reply, each_event

CHANGED = {
    "channel_created", "channel_rename", "channel_archive", "channel_unarchive", "channel_left",
    "channel_shared", "channel_unshared",
    "group_rename", "group_archive", "group_unarchive", "group_left",
}  # fmt: skip
DELETED = {"channel_deleted", "group_deleted"}
USERS = {"team_join", "user_change"}
# Of a channel's topic and purpose, and that it is private now, a message tells and nothing else.
ABOUT_CHANNEL = {
    "channel_topic", "channel_purpose", "group_topic", "group_purpose",
    "channel_convert_to_private", "channel_convert_to_public",
}  # fmt: skip
TALK = ("messages", "thread_replies")
# How a message comes, but is not kept.
ENVELOPE = {"channel", "channel_type", "event_ts"}


def message_key(record: Record) -> str:
    """A ts is unique in its channel; it stays a text, for a number would lose digits."""
    return f"{record['channel_id']}/{record['ts']}"


def member_key(record: Record) -> str:
    return f"{record['channel_id']}/{record['user_id']}"


def answer(delivery: Delivery) -> Reply:
    """The challenge, to the call that asks whether the address is ours."""
    body = delivery.json
    if isinstance(body, dict) and body.get("type") == "url_verification":
        return Reply(str(body["challenge"]))
    return Reply()


def events(delivery: Delivery) -> Iterator[Event]:
    """The event of a delivery, or what we do not understand of it, whole."""
    return each_event((delivery.json,), _installation_events, lambda body: body["team_id"])


def _installation_events(body: Record) -> Iterator[Event]:
    """An event, once for each installation that it is about."""
    if body["type"] == "app_rate_limited":
        # It has no id; Slack tells it once for each minute of which it has dropped events.
        minute = int(body["minute_rate_limited"])
        at = EPOCH + timedelta(seconds=minute)
        yield Event(
            id=f"app_rate_limited:{body['team_id']}:{minute}",
            type="app_rate_limited",
            effect=Effect.MISSED,
            account_id=body["team_id"],
            at=at,
            until=at + timedelta(minutes=1),
        )
    elif body["type"] == "event_callback":
        payload = body["event"]
        at = _time(payload.get("event_ts") or body["event_time"])
        for account_id in dict.fromkeys(_accounts(body)):
            for number, event in enumerate(_meanings(payload, _ours(body))):
                yield replace(
                    event,
                    id=f"{body['event_id']}:{account_id}:{number}",
                    type=_type(payload),
                    account_id=account_id,
                    at=at,
                )


def _time(epoch: Any) -> Any:
    seconds, _, fraction = str(epoch).partition(".")
    return EPOCH + timedelta(seconds=int(seconds), microseconds=int((fraction + "000000")[:6]))


def _type(payload: Record) -> str:
    return ".".join(str(payload[name]) for name in ("type", "subtype") if payload.get(name))


def _accounts(body: Record) -> Iterable[str]:
    """The installations. In a shared channel the envelope's team may be the sender's, which need
    not be ours; where no installation is named it is all there is, and the inbox drops what is
    about nobody."""
    named = body.get("authorizations") or ()
    for each in named:
        yield each["enterprise_id"] if each.get("is_enterprise_install") else each["team_id"]
    if not named:
        yield body["team_id"]
        if body.get("enterprise_id"):
            yield body["enterprise_id"]


def _ours(body: Record) -> set[str]:
    """Who we are there: the bot's user."""
    return {each["user_id"] for each in body.get("authorizations") or () if each.get("is_bot")}


def _event(effect: Effect, *streams: str, key: str = "", record: Record | None = None) -> Event:
    return Event(id="", type="", effect=effect, streams=streams, key=key, record=record)


def _meanings(payload: Record, ours: set[str]) -> Iterator[Event]:
    kind = payload["type"]
    if kind == "message":
        yield from _message(payload)
    elif kind in USERS:
        yield _event(Effect.RECORD, "users", record=payload["user"])
    elif kind in CHANGED:
        yield _event(Effect.READ, "channels", key=_id(payload["channel"]))
    elif kind in DELETED:
        channel = _id(payload["channel"])
        yield _event(Effect.DELETED, "channels", key=channel)
        # No scan may ever have seen it: it may be gone soon after it came.
        for stream in (*TALK, "channel_members"):
            yield _event(Effect.EMPTIED, stream, key=f"{channel}/")
    elif kind == "channel_id_changed":
        yield _event(Effect.DELETED, "channels", key=payload["old_channel_id"])
        yield _event(Effect.READ, "channels", key=payload["new_channel_id"])
        # Under its new id it is a channel that was never read.
        yield _event(Effect.HINT, *TALK, "channel_members")
    elif kind in ("member_joined_channel", "member_left_channel"):
        yield from _membership(payload, ours)
    elif kind == "app_uninstalled":
        yield _event(Effect.REVOKED)
    elif kind == "tokens_revoked":
        # By the ids of users, not by tokens. Whose consent was a user's finds out by a call.
        if payload["tokens"].get("bot"):
            yield _event(Effect.REVOKED)
        elif payload["tokens"].get("oauth"):
            yield _event(Effect.HINT, "users")


def _id(channel: Any) -> str:
    """Some events name a channel, others show it."""
    return str(channel["id"] if isinstance(channel, dict) else channel)


def _membership(payload: Record, ours: set[str]) -> Iterator[Event]:
    member = {"channel_id": payload["channel"], "user_id": payload["user"]}
    if payload["type"] == "member_left_channel":
        yield _event(Effect.DELETED, "channel_members", key=member_key(member))
        return
    yield _event(Effect.RECORD, "channel_members", record=member)
    if payload["user"] in ours:
        # No event holds what was said before.
        yield _event(Effect.READ, "channels", key=payload["channel"])
        yield _event(Effect.HINT, *TALK, "channel_members")


def _message(payload: Record) -> Iterator[Event]:
    channel = payload["channel"]
    if payload.get("channel_type") in ("im", "mpim", "app_home"):
        return
    if payload.get("subtype") == "message_deleted":
        record = {"channel_id": channel, "ts": payload["deleted_ts"]}
        # The former message shows where it stood, if Slack sends it.
        former = payload.get("previous_message")
        for stream in _streams(former) if former else TALK:
            yield _event(Effect.DELETED, stream, key=message_key(record))
        return
    if payload.get("subtype") in (None, "message_replied") and isinstance(
        payload.get("message"), dict
    ):
        # Of a reply only its thread is shown; the subtype may be missing (2020-05).
        yield from _replied(channel, payload["message"])
        return
    # An edit holds the message as it is now, and as it was.
    message = payload["message"] if isinstance(payload.get("message"), dict) else payload
    kept = {name: value for name, value in message.items() if name not in ENVELOPE}
    for stream in _streams(message):
        yield _event(Effect.RECORD, stream, record={**kept, "channel_id": channel})
    if payload.get("subtype") in ABOUT_CHANNEL:
        yield _event(Effect.READ, "channels", key=channel)


def _replied(channel: str, parent: Record) -> Iterator[Event]:
    yield _event(Effect.RECORD, "messages", record={**parent, "channel_id": channel})
    if latest := parent.get("latest_reply"):
        reply = {"channel_id": channel, "ts": latest}
        yield _event(Effect.READ, "thread_replies", key=message_key(reply))


def _streams(message: Record) -> tuple[str, ...]:
    """A reply is of its thread; one that was sent to the channel, too, is of both."""
    if message.get("thread_ts") in (None, message.get("ts")):
        return ("messages",)
    return TALK if message.get("subtype") == "thread_broadcast" else ("thread_replies",)
