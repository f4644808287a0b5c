"""What a person sees in Microsoft Teams: teams with channels, chats, messages, and their forms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox._microsoft import Person
from sandbox._microsoft.odata import Feed
from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.values import Json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# A preview holds the beginning of a message only.
PREVIEWED = 100


@dataclass
class Message:
    """A message of a channel or chat, or a reply. Of one that is deleted the body is gone."""

    id: str
    author: Json
    text: str
    created_at: datetime
    modified_at: datetime
    subject: str | None = None
    importance: str = "normal"
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    reactions: list[Json] = field(default_factory=list)
    replies: dict[str, "Message"] = field(default_factory=dict)


@dataclass
class Channel:
    """A channel; `feed` is what its delta function tells of its messages."""

    id: str
    team_id: str
    name: str
    description: str
    created_at: datetime
    kind: str
    feed: Feed
    messages: dict[str, Message] = field(default_factory=dict)
    # Whether the person may not read it, and whether it is listed.
    closed: bool = False
    listed: bool = True

    def everything(self) -> Iterator[Message]:
        for message in self.messages.values():
            yield message
            yield from message.replies.values()


@dataclass
class Team:
    id: str
    name: str
    description: str
    archived: bool = False
    channels: dict[str, Channel] = field(default_factory=dict)


@dataclass
class Chat:
    """A chat; `updated_at` moves when it is renamed or its members change, and for nothing else."""

    id: str
    kind: str
    topic: str | None
    created_at: datetime
    updated_at: datetime
    messages: dict[str, Message] = field(default_factory=dict)


@dataclass
class Rooms:
    """All that one person can see."""

    person: Person
    clock: Clock
    tell: Callable[[Any], None]
    teams: dict[str, Team] = field(default_factory=dict)
    chats: dict[str, Chat] = field(default_factory=dict)
    licensed: bool = True
    refusal: tuple[int, str] = (410, "syncStateNotFound")

    def channels(self) -> Iterator[Channel]:
        for team in self.teams.values():
            yield from team.channels.values()


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def described_team(team: Team) -> Json:
    """As it is listed: of a joined team no more than this is given."""
    return {"id": team.id, "displayName": team.name, "description": team.description}


def described_channel(channel: Channel) -> Json:
    return {
        "id": channel.id,
        "createdDateTime": stamp(channel.created_at),
        "displayName": channel.name,
        "description": channel.description or None,
        "isFavoriteByDefault": None,
        "email": "",
        "webUrl": f"https://teams.example/l/channel/{channel.id}?groupId={channel.team_id}",
        "membershipType": channel.kind,
        "isArchived": False,
    }


def described_chat(rooms: Rooms, chat: Chat) -> Json:
    return {
        "id": chat.id,
        "topic": chat.topic,
        "createdDateTime": stamp(chat.created_at),
        "lastUpdatedDateTime": stamp(chat.updated_at),
        "chatType": chat.kind,
        "webUrl": f"https://teams.example/l/chat/{chat.id}/0?tenantId={rooms.person.tenant_id}",
        "tenantId": rooms.person.tenant_id,
        "onlineMeetingInfo": None,
        "viewpoint": {"isHidden": False, "lastMessageReadDateTime": stamp(chat.created_at)},
    }


def previewed(rooms: Rooms, chat: Chat) -> Json:
    """A chat with its last message, which comes only where it is expanded."""
    last = max(chat.messages.values(), key=lambda one: (one.created_at, one.id), default=None)
    preview = last and {
        "id": last.id,
        "createdDateTime": stamp(last.created_at),
        "isDeleted": last.deleted_at is not None,
        "messageType": "message",
        "body": _body(last, PREVIEWED),
        "from": {"application": None, "device": None, "user": last.author},
    }
    return {**described_chat(rooms, chat), "lastMessagePreview": preview}


def in_channel(channel: Channel, message: Message, parent: Message | None = None) -> Json:
    """A message of a channel, or a reply to the parent."""
    where = {"teamId": channel.team_id, "channelId": channel.id}
    top = parent or message
    link = f"https://teams.example/l/message/{channel.id}/{message.id}?parentMessageId={top.id}"
    return {
        **_described(message),
        "replyToId": parent and parent.id,
        "webUrl": link,
        "chatId": None,
        "channelIdentity": where,
    }


def in_chat(chat: Chat, message: Message) -> Json:
    return {
        **_described(message),
        "replyToId": None,
        "webUrl": None,
        "chatId": chat.id,
        "channelIdentity": None,
    }


def _described(message: Message) -> Json:
    return {
        "id": message.id,
        "etag": str(milliseconds(message.modified_at)),
        "messageType": "message",
        "createdDateTime": stamp(message.created_at),
        "lastModifiedDateTime": stamp(message.modified_at),
        "lastEditedDateTime": message.edited_at and stamp(message.edited_at),
        "deletedDateTime": message.deleted_at and stamp(message.deleted_at),
        "subject": message.subject,
        "summary": None,
        "importance": message.importance,
        "locale": "en-us",
        "policyViolation": None,
        "eventDetail": None,
        "from": {"application": None, "device": None, "user": message.author},
        "body": _body(message),
        "attachments": [],
        "mentions": [],
        "reactions": list(message.reactions),
    }


def _body(message: Message, length: int | None = None) -> Json:
    text = "" if message.deleted_at else message.text[:length]
    return {"contentType": "html", "content": text}
