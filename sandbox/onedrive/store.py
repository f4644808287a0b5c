"""A drive in memory: its tree of folders and files, and how Graph shows them."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sandbox._microsoft import PERSONAL, Person
from sandbox._microsoft.odata import Feed
from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.values import Json

QUOTA = 1_099_511_627_776


@dataclass
class Item:
    """A file or folder. `revision` counts its changes, `content` those of what is in it."""

    id: str
    name: str
    parent_id: str | None
    folder: bool
    created_at: datetime
    modified_at: datetime
    size: int = 0
    mime_type: str = ""
    description: str = ""
    revision: int = 1
    content: int = 1
    permissions: dict[str, Json] = field(default_factory=dict)


@dataclass
class Drive:
    """One person's drive; `feed` is what its delta function tells."""

    id: str
    person: Person
    clock: Clock
    root: Item
    feed: Feed
    tell: Callable[[Any], None]
    items: dict[str, Item] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)
    provisioned: bool = True
    hides: set[str] = field(default_factory=set)
    refusal: tuple[int, str] = (404, "ResourceNotFound")

    @property
    def business(self) -> bool:
        return self.person.tenant_id != PERSONAL

    @property
    def kind(self) -> str:
        return "business" if self.business else "personal"


def shown(drive: Drive, item: Item) -> Json:
    """An item as the delta function gives it: without a path, and on business without a cTag."""
    body = whole(drive, item)
    body["parentReference"].pop("path", None)
    if drive.business:
        del body["cTag"]
    return body


def whole(drive: Drive, item: Item) -> Json:
    """An item as it is when it is asked for by its id."""
    guid = UUID(int=_number(item.id), version=4)
    who = {"user": {"id": drive.person.id, "displayName": drive.person.name}}
    times = {
        "createdDateTime": stamp(item.created_at),
        "lastModifiedDateTime": stamp(item.modified_at),
    }
    body: Json = {
        "id": item.id,
        "name": item.name,
        "eTag": f'"{{{str(guid).upper()}}},{item.revision}"',
        "cTag": f'"c:{{{str(guid).upper()}}},{item.content}"',
        **times,
        "createdBy": who,
        "lastModifiedBy": who,
        "size": total(drive, item),
        "webUrl": f"https://{drive.kind}.drive.example/{item.id}",
        "parentReference": _parent(drive, item),
        "fileSystemInfo": times,
    }
    if item.description:
        body["description"] = item.description
    if item.parent_id is None:
        body["root"] = {}
    if item.folder:
        body["folder"] = {"childCount": len(drive.children[item.id])}
    else:
        digest = base64.b64encode(guid.bytes).decode()
        body["file"] = {"mimeType": item.mime_type, "hashes": {"quickXorHash": digest}}
    if len(item.permissions) > 1:
        body["shared"] = {"scope": "users"}
    return body


def _parent(drive: Drive, item: Item) -> Json:
    where: Json = {"driveType": drive.kind, "driveId": drive.id}
    if item.parent_id is not None:
        where |= {"id": item.parent_id, "path": f"/drive/root:{_path(drive, item.parent_id)}"}
    return where


def _path(drive: Drive, item_id: str) -> str:
    names = [each.name for each in lineage(drive, item_id) if each.parent_id is not None]
    return "".join(f"/{name}" for name in reversed(names))


def stub(drive: Drive, item: Item) -> Json:
    """What is told of an item that is gone; what is left out depends on the kind of drive."""
    body = {
        "id": item.id,
        "parentReference": {"driveType": drive.kind, "driveId": drive.id, "id": item.parent_id},
        "deleted": {"state": "deleted"},
    }
    more = {"size": total(drive, item)} if drive.business else {"name": item.name}
    return {**body, **more, ("folder" if item.folder else "file"): {}}


def described(drive: Drive) -> Json:
    """The drive itself."""
    used = total(drive, drive.root)
    return {
        "id": drive.id,
        "driveType": drive.kind,
        "name": "OneDrive",
        "createdDateTime": stamp(drive.root.created_at),
        "lastModifiedDateTime": stamp(drive.root.modified_at),
        "webUrl": f"https://{drive.kind}.drive.example/",
        "owner": {"user": {"id": drive.person.id, "displayName": drive.person.name}},
        "quota": {"total": QUOTA, "used": used, "remaining": QUOTA - used, "state": "normal"},
    }


def total(drive: Drive, item: Item) -> int:
    """A file's size; of a folder that of all that is in it."""
    if not item.folder:
        return item.size
    return sum(total(drive, drive.items[child]) for child in drive.children[item.id])


def lineage(drive: Drive, item_id: str | None) -> Iterator[Item]:
    """An item, and every folder above it up to the root."""
    while item_id is not None:
        item = drive.items[item_id]
        yield item
        item_id = item.parent_id


def descendants(drive: Drive, item: Item) -> list[Item]:
    """All that is in a folder, from the depth up."""
    found: list[Item] = []
    for child in sorted(drive.children.get(item.id, ())):
        found += [*descendants(drive, drive.items[child]), drive.items[child]]
    return found


def _number(item_id: str) -> int:
    return int.from_bytes(item_id.encode()[-16:], "big")
