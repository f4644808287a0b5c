"""A mailbox in memory: folders, messages, a calendar and contacts, and how Graph shows them."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox._microsoft import Person
from sandbox._microsoft.odata import Feed
from sandbox._microsoft.subscriptions import Changed
from sandbox.kernel.clock import Clock
from sandbox.kernel.clock import stamp_in_seconds as stamp
from sandbox.kernel.values import Json

# Ids that stay for as long as an item is in its mailbox, and those that a move changes.
IMMUTABLE, DEFAULT = "AAkALg", "AAMkAG"
# How far back and ahead of now the events of `store` go.
VIEW = timedelta(days=365)
LISTED_FILE = ("id", "lastModifiedDateTime", "name", "contentType", "size", "isInline")


@dataclass
class Folder:
    """`known_as` is the name under which every mailbox has it; empty of a person's own."""

    id: str
    name: str
    parent_id: str
    known_as: str = ""
    hidden: bool = False


@dataclass
class Message:
    """`body` are the fields that only its own changes change; `moves` counts its folders."""

    id: str
    folder_id: str
    modified_at: datetime
    body: Json
    files: dict[str, Json] = field(default_factory=dict)
    revision: int = 1
    moves: int = 0

    @property
    def listed(self) -> bool:
        """Whether it says that it has attachments: pictures inside its text do not count."""
        return any(not file["isInline"] for file in self.files.values())


@dataclass(frozen=True)
class Told(Changed):
    """A change of something that is in a folder, known by each of these names."""

    folders: tuple[str, ...] = ()


@dataclass
class Mailbox:
    """One person's; each folder has a feed of its messages, the other collections have one each."""

    person: Person
    clock: Clock
    tell: Callable[[Any], None]
    root_id: str
    folders: dict[str, Folder] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    events: dict[str, Json] = field(default_factory=dict)
    contacts: dict[str, Json] = field(default_factory=dict)
    folder_feed: Feed = field(init=False)
    message_feeds: dict[str, Feed] = field(default_factory=dict)
    event_feed: Feed = field(init=False)
    contact_feed: Feed = field(init=False)
    provisioned: bool = True
    refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder_feed, self.event_feed, self.contact_feed = (Feed(self.clock) for _ in range(3))

    def feeds(self) -> Iterator[Feed]:
        yield from (self.folder_feed, self.event_feed, self.contact_feed)
        yield from self.message_feeds.values()

    def folder(self, id_: str) -> Folder | None:
        """By its id, or by the name that every mailbox knows it under."""
        named = (each for each in self.folders.values() if each.known_as == id_.lower() != "")
        return self.folders.get(id_) or next(named, None)

    def within(self, folder_id: str) -> list[Folder]:
        """The folders right below."""
        return [each for each in self.folders.values() if each.parent_id == folder_id]


def new_id(raw: bytes) -> str:
    """Of an item; ids end in `=`, as Graph's do."""
    return IMMUTABLE + base64.urlsafe_b64encode(raw).decode()


def default_id(id_: str, moves: int = 0) -> str:
    """The id that a client gets who does not ask for immutable ones: another after each move."""
    return f"{DEFAULT}{moves:03d}{id_.removeprefix(IMMUTABLE)}"


def immutable_id(id_: str) -> tuple[str, int | None]:
    """An item's own id, and the moves that a default one is good for."""
    if not id_.startswith(DEFAULT):
        return id_, None
    rest = id_.removeprefix(DEFAULT)
    return IMMUTABLE + rest[3:], int(rest[:3]) if rest[:3].isdecimal() else -1


def when(at: datetime) -> Json:
    """A time of the calendar: in UTC, unless the client prefers another zone."""
    return {"dateTime": at.strftime("%Y-%m-%dT%H:%M:%S.0000000"), "timeZone": "UTC"}


def moment(when: Json) -> datetime:
    return datetime.fromisoformat(when["dateTime"][:19]).replace(tzinfo=UTC)


def versioned(id_: str, revision: int) -> Json:
    """What tells a version of an item from the next."""
    key = base64.b64encode(f"{id_[-12:]}:{revision}".encode()).decode()
    return {"@odata.etag": f'W/"{key}"', "changeKey": key}


def folder_shown(mailbox: Mailbox, folder: Folder) -> Json:
    inside = [each for each in mailbox.messages.values() if each.folder_id == folder.id]
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent_id,
        "childFolderCount": len(mailbox.within(folder.id)),
        "unreadItemCount": sum(not each.body["isRead"] for each in inside),
        "totalItemCount": len(inside),
        "isHidden": folder.hidden,
    }


def folder_told(folder: Folder) -> Json:
    """What of a folder is sure to be told when it changes, as `$select` may ask for it."""
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent_id,
        "isHidden": folder.hidden,
    }


def message_shown(message: Message) -> Json:
    return {
        **versioned(message.id, message.revision),
        "id": message.id,
        "lastModifiedDateTime": stamp(message.modified_at),
        "parentFolderId": message.folder_id,
        "hasAttachments": message.listed,
        **message.body,
    }


def file_listed(file: Json) -> Json:
    """An attachment without its content."""
    return {k: v for k, v in file.items() if k in LISTED_FILE or k.startswith("@odata")}


def in_view(event: Json, start: datetime, end: datetime) -> bool:
    """Whether any of it lies in that time; a series does until it ends."""
    last = moment(event["end"])
    if event["type"] == "seriesMaster":
        last = datetime.fromisoformat(event["recurrence"]["range"]["endDate"]).replace(tzinfo=UTC)
        last += timedelta(days=1)
    return moment(event["start"]) < end and last > start


def filled(mailbox: "Mailbox", event: Json) -> Json:
    """An event as it is when it is not told by a delta: an occurrence has what its series has."""
    if event["type"] != "occurrence":
        return event
    return {**mailbox.events[event["seriesMasterId"]], **event, "recurrence": None}


def removed(id_: str, reason: str = "deleted") -> Json:
    """All that is told of what is gone."""
    return {"id": id_, "@removed": {"reason": reason}}


def noted(mailbox: Mailbox, change_type: str, kind: str, id_: str, shown: Json) -> Told:
    """A notification has the item's id and version, and nothing that is in it."""
    path = f"Users/{mailbox.person.id}/{kind}s/{id_}"
    data = {"@odata.type": f"#Microsoft.Graph.{kind}", "@odata.id": path, "id": id_}
    return Told(change_type, path, {**data, "@odata.etag": shown["@odata.etag"]})


def store(mailbox: Mailbox, stream: str) -> dict[str, Json]:
    """The live records. Whatever is in a folder says which, as its own form may not."""
    match stream:
        case "mail_folders":
            return {folder.id: folder_told(folder) for folder in mailbox.folders.values()}
        case "messages":
            return {
                f"{one.folder_id}/{one.id}": {**message_shown(one), "folder_id": one.folder_id}
                for one in mailbox.messages.values()
            }
        case "attachments":
            return {
                f"{one.folder_id}/{one.id}/{file['id']}": {
                    **file_listed(file),
                    "folder_id": one.folder_id,
                    "message_id": one.id,
                }
                for one in mailbox.messages.values()
                if one.listed
                for file in one.files.values()
            }
        case "events":
            now = mailbox.clock.now()
            return {
                id_: filled(mailbox, event)
                for id_, event in mailbox.events.items()
                if in_view(event, now - VIEW, now + VIEW)
            }
        case _:
            return dict(mailbox.contacts)
