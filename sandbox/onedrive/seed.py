"""How a drive is made up, and what an ordered change does to it."""

import base64
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from sandbox._microsoft import PERSONAL, Person
from sandbox._microsoft.odata import Feed
from sandbox._microsoft.subscriptions import Changed
from sandbox.kernel.data import TOPICS, firm, moment, person, plain
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.onedrive.store import Drive, Item, descendants, described, lineage, shown, stub

# The biggest stream are the permissions: an item has 1.6 of them.
ITEM_SHARE = 0.6
# Of a new drive's items; the rest are files.
FOLDER_SHARE = 0.15
KINDS = (
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("txt", "text/plain"),
)
# What a control or a test may set of an item.
SETTABLE = ("name", "size", "parent_id", "description", "folder")
CHANGED = Changed("updated", "me/drive/root")
MUTATIONS = Mutations[Drive](settable={"drive_items": SETTABLE}, unknown=404)


def new(seed: Seed) -> Drive:
    """A drive with about so many permissions. Folders come before what is in them."""
    who: Person = seed.shared
    business = who.tenant_id != PERSONAL
    drive_id = f"b!{_letters(seed.random, 33)}" if business else who.id
    made_at = moment(seed.random, seed.clock.now())
    root = Item(_item_id(seed.random, drive_id), "root", None, True, made_at, made_at)
    feed = Feed(seed.clock, refusal=(410, "resyncChangesApplyDifferences"))
    drive = Drive(drive_id, who, seed.clock, root, feed, seed.tell)
    _place(drive, root)
    folders = [root]
    for number in range(round(seed.size * ITEM_SHARE) - 1):
        parent = seed.random.choice(folders)
        folder = number == 0 or seed.random.random() < FOLDER_SHARE
        at = moment(seed.random, seed.clock.now())
        item = _made_up(drive, seed.random, parent.id, at, folder=folder)
        if folder:
            folders.append(item)
    for item in drive.items.values():
        drive.feed.put(item.id, shown(drive, item))
    return drive


def store(drive: Drive, stream: str) -> dict[str, Json]:
    """The live records; a permission says which item it is of, as its own form does not."""
    match stream:
        case "drive_items":
            return {item.id: shown(drive, item) for item in drive.items.values()}
        case "drives":
            return {drive.id: described(drive)}
        case _:
            return {
                f"{item.id}/{id_}": {**permission, "item_id": item.id}
                for item in drive.items.values()
                for id_, permission in item.permissions.items()
            }


def alterable(drive: Drive, stream: str) -> list[str]:
    """The root stays, and so does its owner's permission on everything."""
    if stream == "drive_items":
        return [id_ for id_ in drive.items if id_ != drive.root.id]
    return [
        f"{item.id}/{id_}"
        for item in drive.items.values()
        for id_, permission in item.permissions.items()
        if permission["roles"] != ["owner"]
    ]


@MUTATIONS.of("drive_items", "add")
def _add(drive: Drive, change: Change) -> str:
    random, record = change.random, change.record
    folders = [item.id for item in drive.items.values() if item.folder]
    parent_id = str(record.get("parent_id") or random.choice(folders))
    if parent_id not in folders:
        raise RefusedError(f"the drive has no folder {parent_id!r}")
    folder = bool(record.get("folder", random.random() < FOLDER_SHARE))
    item = _made_up(drive, random, parent_id, drive.clock.now(), folder=folder)
    _set(drive, item, record)
    _tell(drive, item)
    return item.id


@MUTATIONS.of("drive_items", "change")
def _alter(drive: Drive, change: Change) -> str:
    item, random = _item(drive, change.id), change.random
    record = change.record or _drawn(drive, item, random)
    _set(drive, item, record)
    _touch(drive, item, content="size" in record)
    _tell(drive, item)
    return item.id


def _drawn(drive: Drive, item: Item, random: Random) -> Json:
    """A new name, new content, or another place."""
    inside = {each.id for each in descendants(drive, item)} | {item.id}
    places = [each.id for each in drive.items.values() if each.folder and each.id not in inside]
    drawn = random.random()
    if drawn < 0.3 and len(places) > 1:
        others = [place for place in places if place != item.parent_id]
        return {"parent_id": random.choice(others)}
    if drawn < 0.6 and not item.folder:
        return {"size": item.size + random.randint(1, 9_999)}
    return {"name": f"{random.getrandbits(24):x} {item.name}"[:120]}


@MUTATIONS.of("drive_items", "delete")
def _delete(drive: Drive, change: Change) -> None:
    """An item and all that is in it; each is told, those inside first."""
    item = _item(drive, change.id)
    if item is drive.root:
        raise RefusedError("the root cannot be deleted", status=409)
    above = item.parent_id
    for each in [*descendants(drive, item), item]:
        gone = stub(drive, each)
        drive.children[str(each.parent_id)].discard(each.id)
        drive.children.pop(each.id, None)
        del drive.items[each.id]
        drive.feed.drop(each.id, gone, repeats=True)
    _tell_folders(drive, above)
    drive.tell(CHANGED)


@MUTATIONS.of("permissions")
def _permit(drive: Drive, change: Change) -> str:
    """Shares an item, changes what a share allows, or takes it back: the item has changed."""
    if change.op == "add":
        item_id = str(change.record.get("item_id") or change.random.choice(list(drive.items)))
        item, permission = _item(drive, item_id), _share(change.random)
        item.permissions[permission["id"]] = permission
    else:
        item_id, _, id_ = str(change.id).rpartition("/")
        item = _item(drive, item_id)
        permission = item.permissions[id_]
        if change.op == "delete":
            del item.permissions[id_]
        else:
            roles = ["read"] if permission["roles"] == ["write"] else ["write"]
            item.permissions[id_] = {**permission, "roles": roles}
    _touch(drive, item, content=False)
    _tell(drive, item)
    return f"{item_id}/{permission['id']}"


def _item(drive: Drive, id_: str | None) -> Item:
    if id_ not in drive.items:
        raise RefusedError(f"the drive has no item {id_!r}")
    return drive.items[id_]


def _set(drive: Drive, item: Item, record: Json) -> None:
    if "parent_id" in record and record["parent_id"] != item.parent_id:
        _move(drive, item, str(record["parent_id"]))
    item.name = str(record.get("name", item.name))
    item.size = int(record.get("size", item.size))
    item.description = str(record.get("description", item.description))


def _move(drive: Drive, item: Item, parent_id: str) -> None:
    target = drive.items.get(parent_id)
    if target is None or not target.folder or item in lineage(drive, parent_id):
        raise RefusedError(f"{item.id} cannot be moved to {parent_id!r}", status=409)
    drive.children[str(item.parent_id)].discard(item.id)
    former, item.parent_id = item.parent_id, parent_id
    drive.children[parent_id].add(item.id)
    _tell_folders(drive, former)


def _touch(drive: Drive, item: Item, *, content: bool) -> None:
    item.modified_at = drive.clock.now()
    item.revision += 1
    item.content += content


def _tell(drive: Drive, item: Item) -> None:
    """The item and every folder above it are in the delta; who watches the root is told no more
    than that something changed."""
    drive.feed.put(item.id, shown(drive, item), repeats=True)
    _tell_folders(drive, item.parent_id)
    drive.tell(CHANGED)


def _tell_folders(drive: Drive, item_id: str | None) -> None:
    """The folders above a change: what they hold is another now."""
    for folder in lineage(drive, item_id):
        drive.feed.put(folder.id, shown(drive, folder))


def _made_up(drive: Drive, random: Random, parent_id: str, at: datetime, *, folder: bool) -> Item:
    topic = random.choice(TOPICS).capitalize()
    suffix, mime_type = random.choice(KINDS)
    number = random.getrandbits(20)
    name = f"{firm(random)} {number}" if folder else f"{topic} {number}.{suffix}"
    item = Item(
        id=_item_id(random, drive.id),
        name=name,
        parent_id=parent_id,
        folder=folder,
        created_at=at,
        modified_at=at + timedelta(seconds=1),
        size=0 if folder else random.randint(0, 5_000_000),
        mime_type="" if folder else mime_type,
    )
    _place(drive, item)
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        share = _share(random)
        item.permissions[share["id"]] = share
    return item


def _place(drive: Drive, item: Item) -> None:
    drive.items[item.id] = item
    if item.folder:
        drive.children[item.id] = set()
    if item.parent_id is not None:
        drive.children[item.parent_id].add(item.id)
    owner = {"id": drive.person.id, "displayName": drive.person.name}
    root = {"driveId": drive.id, "id": drive.root.id, "path": "/drive/root:"}
    # The same id on every item: it is unique only there.
    item.permissions["owner"] = {
        "id": "owner",
        "roles": ["owner"],
        "grantedToV2": {"user": owner},
        **({"inheritedFrom": root} if item is not drive.root else {}),
    }


def _share(random: Random) -> Json:
    """A link, or a person who was let in."""
    id_ = str(UUID(int=random.getrandbits(128), version=4))
    if random.random() < 0.5:
        link = {"type": "view", "scope": "organization", "webUrl": f"https://share.example/{id_}"}
        return {"id": id_, "roles": ["read"], "link": link, "grantedToIdentitiesV2": []}
    first, last = person(random)
    user = {"id": id_, "displayName": f"{first} {last}", "email": f"{plain(first)}@guest.example"}
    return {"id": id_, "roles": [random.choice(("read", "write"))], "grantedToV2": {"user": user}}


def _item_id(random: Random, drive_id: str) -> str:
    if drive_id.startswith("b!"):
        return "01" + base64.b32encode(random.randbytes(20)).decode()
    return f"{drive_id.upper()}!{random.getrandbits(40)}"


def _letters(random: Random, size: int) -> str:
    return base64.urlsafe_b64encode(random.randbytes(size)).decode()
