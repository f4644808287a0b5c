"""What a Box account holds: items in folders, what hangs on them, the trash, people, events.

https://developer.box.com/reference/
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from sandbox.kernel.fields import only, without, words
from sandbox.kernel.values import Json, Seed

ROOT = "0"
KEPT = timedelta(days=14)
PURGED_AFTER = timedelta(days=30)
PACIFIC = timezone(timedelta(hours=-8))
# What is there only for who asks for it by its name.
ON_REQUEST = words("tags lock comment_count has_collaborations version_number extension")
MINI = words("type id sequence_id etag name sha1 file_version")
MINI_USER = words("type id name login")
COMMON = words(
    "type id etag sequence_id name description created_at modified_at created_by modified_by "
    "owned_by parent item_status shared_link"
)
OF_FILES = words(
    "sha1 size extension version_number content_created_at content_modified_at file_version lock "
    "tags"
)
# The events that `changes` leaves out: they move nothing in the tree.
ASIDE = ("COMMENT_", "TASK_", "ITEM_SHARED", "LOCK_", "TAG_", "ITEM_PREVIEW", "ITEM_DOWNLOAD")
UNDER = words("collaborations comments tasks")


@dataclass
class Item:
    """A file, a folder or a web link, with what hangs on it; `trashed` by itself since then."""

    data: Json
    parent: str
    trashed: str | None = None
    collaborations: dict[str, Json] = field(default_factory=dict)
    comments: dict[str, Json] = field(default_factory=dict)
    tasks: dict[str, Json] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return str(self.data["type"])

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def key(self) -> str:
        return f"{self.type}_{self.id}"

    def under(self, name: str) -> dict[str, Json]:
        found: dict[str, Json] = getattr(self, name)
        return found


@dataclass
class Drive:
    """What one person sees. Files and folders are numbered apart, so that a file and a folder may
    have the same id. `people` left, and are still named. `hidden` folders are no longer shared,
    `refused` ones not to be listed."""

    seed: Seed
    me: Json
    first: int
    items: dict[str, Item] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    people: dict[str, Json] = field(default_factory=dict)
    log: list[tuple[datetime, Json]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    era: int = 0
    is_admin: bool = True

    def now(self) -> str:
        return moment(self.seed.clock.now())

    def number(self, kind: str) -> str:
        self.numbers[kind] = self.numbers.get(kind, self.first) + 1
        return str(self.numbers[kind])

    # -- The tree

    def folder(self, item: Item) -> Item | None:
        return self.items.get(f"folder_{item.parent}")

    def above(self, item: Item) -> Iterator[Item]:
        """An item and the folders that it lies in."""
        here: Item | None = item
        while here is not None:
            yield here
            here = self.folder(here)

    def is_trashed(self, item: Item) -> bool:
        return any(each.trashed for each in self.above(item))

    def is_shown(self, item: Item) -> bool:
        return not any(each.trashed or each.key in self.hidden for each in self.above(item))

    def is_open(self, item: Item) -> bool:
        """Whether no folder above refuses to be listed."""
        return not self.refused or not any(each.key in self.refused for each in self.above(item))

    def live(self, *types: str) -> list[Item]:
        """All that is shown; of each folder it is found out once."""
        shown = {ROOT: True}

        def is_shown(item: Item) -> bool:
            if item.trashed or item.key in self.hidden:
                return False
            if item.parent not in shown:
                folder = self.folder(item)
                shown[item.parent] = folder is None or is_shown(folder)
            return shown[item.parent]

        return [
            each
            for each in self.items.values()
            if (not types or each.type in types) and is_shown(each)
        ]

    def inside(self, folder: str) -> list[Item]:
        return [
            each
            for each in self.items.values()
            if each.parent == folder and not each.trashed and each.key not in self.hidden
        ]

    def below(self, top: Item) -> list[Item]:
        return [
            each for each in self.items.values()
            if each is not top and any(one is top for one in self.above(each))
        ]  # fmt: skip

    def trash(self) -> list[Item]:
        """What was trashed by itself; what lay in it is not listed."""
        return [
            each for each in self.items.values()
            if each.trashed and not any(one.trashed for one in list(self.above(each))[1:])
        ]  # fmt: skip

    # -- How it is shown

    def mini_user(self, id: str | None) -> Json | None:
        if id is None:
            return None
        return only(self.users.get(id) or self.people.get(id) or self.me, *MINI_USER)

    def shown(self, item: Item) -> Json:
        """With all its fields: who is in it, and its folder, are as they are now."""
        shown: Json = deepcopy(item.data)
        for name in ("created_by", "modified_by", "owned_by"):
            shown[name] = self.mini_user(shown[name])
        folder = self.folder(item)
        root = {"type": "folder", "id": ROOT, "sequence_id": None, "etag": None}
        shown["parent"] = only(folder.data, *MINI) if folder else {**root, "name": "All Files"}
        shown["item_status"] = "trashed" if self.is_trashed(item) else "active"
        if item.type != "web_link":
            shown["has_collaborations"] = bool(item.collaborations)
        if item.type == "file":
            shown["comment_count"] = len(item.comments)
        if item.trashed:
            at = datetime.fromisoformat(item.trashed)
            shown |= {"trashed_at": item.trashed, "purged_at": moment(at + PURGED_AFTER)}
        return shown

    def shown_under(self, item: Item, name: str) -> list[Json]:
        rows = deepcopy(list(item.under(name).values()))
        for row in rows:
            row["created_by"] = self.mini_user(row["created_by"])
            row["item"] = only(item.data, *MINI)
        return rows

    def all_under(self, item: Item, name: str) -> list[Json]:
        """Collaborations of the folders above are handed down, and shown as well."""
        places = list(self.above(item)) if name == "collaborations" else [item]
        return [row for each in places for row in self.shown_under(each, name)]

    # -- What happens

    def touch(self, item: Item, event: str, **fields: Any) -> None:
        """Something of an item changed, by its owner."""
        item.data |= fields
        item.data["sequence_id"] = str(int(item.data["sequence_id"]) + 1)
        item.data["etag"] = item.data["sequence_id"]
        if event not in ("ITEM_TRASH", "ITEM_UNDELETE_VIA_TRASH"):
            item.data["modified_at"] = self.now()
        self.note(event, item)

    def note(self, event: str, item: Item, source: Json | None = None, **told: Any) -> None:
        """An event in the person's stream, and to webhooks. A source of {} is none."""
        shown = {"source": self.shown(item) if source is None else source or None}
        self.log.append((self.seed.clock.now(), {
            "type": "event",
            "event_id": f"{self.first + len(self.log):032x}",
            "event_type": event,
            "created_at": self.now(),
            "recorded_at": self.now(),
            "created_by": only(self.me, *MINI_USER),
            "session_id": None,
            **shown,
        }))  # fmt: skip
        folders = [each.id for each in self.above(item) if each.type == "folder"]
        self.seed.tell({"event": event, "type": item.type, "folders": folders, **shown, **told})


def moment(at: datetime) -> str:
    """A time as Box writes it: in seconds, with the offset of its own place."""
    return at.astimezone(PACIFIC).isoformat(timespec="seconds")


def is_of_the_tree(event: Mapping[str, Any]) -> bool:
    return not str(event["event_type"]).startswith(ASIDE)


def kept_events(drive: Drive, *, tree: bool) -> list[tuple[int, Json]]:
    """Each with its number in the log."""
    since = drive.seed.clock.now() - KEPT
    return [
        (number, event) for number, (at, event) in enumerate(drive.log)
        if at >= since and (not tree or is_of_the_tree(event))
    ]  # fmt: skip


def followed(item: Json) -> Json:
    """Without what changes while no event tells it."""
    kept = dict(item)
    for name in ("created_by", "modified_by", "owned_by", "accessible_by"):
        if kept.get(name):
            kept[name] = without(kept[name], "name")
    for name in ("parent", "item"):
        if name in kept:
            kept[name] = only(kept[name], "type", "id")
    if kept.get("shared_link"):
        kept["shared_link"] = without(kept["shared_link"], "download_count", "preview_count")
    return kept


def store(drive: Drive, stream: str) -> dict[str, Json]:
    if stream == "events":
        return {event["event_id"]: event for _, event in kept_events(drive, tree=True)}
    if stream == "users":
        return {id: dict(user) for id, user in drive.users.items()}
    if stream == "trash":
        names = (*COMMON, "trashed_at", "purged_at")
        return {each.key: only(drive.shown(each), *names) for each in drive.trash()}
    if stream in UNDER:
        return {
            f"{each.key}/{row['id']}": {
                **followed(row), "item_type": each.type, "item_id": each.id,
            }
            for each in drive.live()
            for row in drive.shown_under(each, stream)
        }  # fmt: skip
    if stream == "files":
        found: Iterable[Item] = drive.live("file")
        return {each.id: followed(only(drive.shown(each), *COMMON, *OF_FILES)) for each in found}
    return {each.key: followed(only(drive.shown(each), *COMMON)) for each in drive.live()}
