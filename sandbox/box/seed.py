"""What is made up in a Box account, and how it changes."""

import hashlib
from random import Random

from sandbox.box.store import PURGED_AFTER, ROOT, UNDER, Drive, Item, moment
from sandbox.kernel.data import TOPICS, person, phone, plain, sentence
from sandbox.kernel.data import moment as past
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

ROLES = ("editor", "viewer", "previewer", "uploader", "co-owner")


def _there(drive: Drive, stream: str) -> set[str]:
    return set(alterable(drive, stream))


MUTATIONS = Mutations[Drive](
    settable={
        "folder_items": ("name", "description", "parent", "type"),
        "files": ("name", "description", "parent", "size"),
        "collaborations": ("role",),
        "comments": ("message",),
        "tasks": ("message",),
        "trash": (),
        "users": ("name", "job_title"),
    },
    there=_there,
)


def alterable(drive: Drive, stream: str) -> list[str]:
    """What may be changed or deleted: what lies in a folder that refuses stays where it is."""
    if stream == "users":
        return list(drive.users)
    if stream == "trash":
        return [each.key for each in drive.trash() if drive.is_open(each)]
    types = ("file",) if stream == "files" else ()
    above = {one.key for key in drive.refused for one in drive.above(drive.items[key])}
    found = [each for each in drive.live(*types) if drive.is_open(each) and each.key not in above]
    if stream in UNDER:
        return [f"{each.key}/{id}" for each in found for id in each.under(stream)]
    return [each.id if stream == "files" else each.key for each in found]


def new(seed: Seed) -> Drive:
    first = 30_401_068_076_164_269 + seed.random.getrandbits(40)
    login = f"{plain(seed.name)}@box.example"
    me = {"type": "user", "id": seed.account_id, "name": seed.name, "login": login}
    drive = Drive(seed, me, first)
    for _ in range(seed.length(0.1)):
        add_user(drive, seed.random, {})
    for _ in range(seed.length(0.2)):
        add_item(drive, seed.random, {"type": "folder"})
    for number in range(seed.length(1.0)):
        add_item(drive, seed.random, {"type": "web_link" if number % 10 == 3 else "file"})
    files, folders = drive.live("file"), drive.live("folder")
    for name, share in (("collaborations", 0.2), ("comments", 0.3), ("tasks", 0.5)):
        places = files if name != "collaborations" else [*files, *folders]
        for _ in range(seed.length(share) if places else 0):
            add_under(drive, seed.random, name, {}, seed.random.choice(places))
    for each in files[::5]:
        drive.touch(each, "ITEM_SHARED_CREATE", shared_link=_link(each))
    for each in files[1::6]:
        drive.touch(each, "LOCK_CREATE", lock=_lock(drive, each), tags=["approved"])
    for each in seed.random.sample(files, min(seed.length(0.1), len(files) // 3)):
        trash(drive, each)
    return drive


def add_user(drive: Drive, random: Random, given: Json) -> str:
    first, last = person(random)
    id, at = drive.number("user"), moment(past(random, drive.seed.clock.now()))
    drive.users[id] = {
        "type": "user", "id": id, "name": f"{first} {last}",
        "login": f"{plain(first)}.{plain(last)}.{id}@box.example",
        "created_at": at, "modified_at": at, "language": "en", "timezone": "America/Los_Angeles",
        "space_amount": 11_345_156_112, "max_upload_size": 2_147_483_648, "status": "active",
        "job_title": "CEO", "phone": phone(random), "address": "900 Jefferson Ave",
        "role": random.choice(("user", "coadmin")),
        "enterprise": {"type": "enterprise", "id": "11446498", "name": "Acme Inc."}, **given,
    }  # fmt: skip
    return id


def add_item(drive: Drive, random: Random, given: Json) -> Item:
    """A file, folder or web link, in a folder of its own or at the top."""
    type = given.get("type") or random.choice(("file", "file", "folder", "web_link"))
    places = [each.id for each in drive.live("folder") if drive.is_open(each)]
    parent = given.get("parent") or random.choice([ROOT, *places])
    id, at = drive.number(type), drive.now()
    owner = random.choice([drive.me["id"], *list(drive.users)[:5]])
    name = given.get("name") or f"{random.choice(TOPICS)} — {random.getrandbits(32):x}"
    data: Json = {
        "type": type, "id": id, "etag": "0", "sequence_id": "0", "name": name,
        "description": given.get("description", sentence(random)),
        "created_at": at, "modified_at": at, "created_by": owner, "modified_by": owner,
        "owned_by": owner, "shared_link": None,
    }  # fmt: skip
    if type == "file":
        data |= {
            "name": f"{name}.pdf", "extension": "pdf", "tags": [], "lock": None,
            "content_created_at": at, "content_modified_at": at, **_content(drive, random, 1),
        }  # fmt: skip
    if type == "web_link":
        data["url"] = f"https://acme.example/{id}"
    item = Item(data, str(parent))
    drive.items[item.key] = item
    drive.note("ITEM_UPLOAD" if type == "file" else "ITEM_CREATE", item)
    return item


def _content(drive: Drive, random: Random, version: int) -> Json:
    sha1 = hashlib.sha1(random.randbytes(8), usedforsecurity=False).hexdigest()
    made = {"type": "file_version", "id": drive.number("file_version"), "sha1": sha1}
    size = random.randint(100, 10**9)
    return {"sha1": sha1, "size": size, "version_number": str(version), "file_version": made}


def _link(item: Item) -> Json:
    return {
        "url": f"https://app.box.com/s/{item.id}x", "download_url": None, "vanity_url": None,
        "effective_access": "company", "effective_permission": "can_download",
        "is_password_enabled": False, "unshared_at": None, "download_count": 3,
        "preview_count": 7, "access": "company",
    }  # fmt: skip


def _lock(drive: Drive, item: Item) -> Json:
    return {
        "type": "lock", "id": f"9{item.id}", "created_at": drive.now(), "expired_at": None,
        "is_download_prevented": False,
    }  # fmt: skip


def add_under(drive: Drive, random: Random, name: str, given: Json, item: Item) -> str:
    """A collaboration, comment or task on an item."""
    id, at = drive.number(name), drive.now()
    author = random.choice([drive.me["id"], *list(drive.users)[:5]])
    row: Json = {"id": id, "created_by": author, "created_at": at}
    if name == "collaborations":
        login = f"guest.{id}@partner.example"
        pending = int(id) % 3 == 0
        row |= {
            "type": "collaboration", "role": given.get("role") or random.choice(ROLES),
            "status": "pending" if pending else "accepted",
            "invite_email": login if pending else None, "modified_at": at,
            "expires_at": moment(drive.seed.clock.now() + PURGED_AFTER),
            "accessible_by": None if pending else {
                "type": "user", "id": f"7{id}", "name": "A guest", "login": login,
            },
        }  # fmt: skip
        item.collaborations[id] = row
        drive.note("COLLAB_ADD_COLLABORATOR", item)
        return f"{item.key}/{id}"
    message = given.get("message") or sentence(random)
    row |= {"message": message}
    if name == "comments":
        row |= {"type": "comment", "is_reply_comment": False}
    else:
        row |= {
            "type": "task", "action": "review", "is_completed": False,
            "due_at": moment(drive.seed.clock.now() + PURGED_AFTER),
            "completion_rule": "all_assignees",
        }  # fmt: skip
    item.under(name)[id] = row
    _note_under(drive, f"{name[:-1].upper()}_CREATE", item, row)
    return f"{item.key}/{id}"


def _note_under(drive: Drive, event: str, item: Item, row: Json) -> None:
    """Of a comment and a task the event is about itself, and names the file."""
    about = {"type": item.type, "id": item.id, "name": item.data["name"]}
    drive.note(
        event, item, {**row, "created_by": drive.mini_user(row["created_by"]), "item": about}
    )


def trash(drive: Drive, item: Item) -> None:
    """An item goes to the trash, with all that is in it: only it is told of."""
    item.trashed = drive.now()
    drive.touch(item, "ITEM_TRASH")


def restore(drive: Drive, item: Item) -> None:
    item.trashed = None
    drive.touch(item, "ITEM_UNDELETE_VIA_TRASH")


def purge(drive: Drive, item: Item) -> None:
    """Deleted for good. The event names nothing."""
    for each in [*drive.below(item), item]:
        del drive.items[each.key]
    drive.note("ITEM_TRASH", item, {})


@MUTATIONS.of(("folder_items", "files"))
def change_item(drive: Drive, change: Change) -> str:
    """What is added is uploaded or made; a change renames, moves, describes, shares or uploads; a
    deletion is one to the trash."""
    random, given, is_file = change.random, dict(change.record), change.stream == "files"
    if change.op == "add":
        made = add_item(drive, random, {**({"type": "file"} if is_file else {}), **given})
        return made.id if is_file else made.key
    item = drive.items[f"file_{change.id}" if is_file else str(change.id)]
    if change.op == "delete":
        trash(drive, item)
    elif "name" in given or "description" in given:
        drive.touch(item, "ITEM_RENAME" if "name" in given else "ITEM_MODIFY", **given)
    else:
        _random_change(drive, item, random, given)
    return str(change.id)


def _random_change(drive: Drive, item: Item, random: Random, given: Json) -> None:
    below = {item.id, *(each.id for each in drive.below(item) if each.type == "folder")}
    places = [
        each.id for each in drive.live("folder")
        if drive.is_open(each) and (item.type != "folder" or each.id not in below)
    ]  # fmt: skip
    what = (
        "move"
        if "parent" in given
        else random.choice(("name", "move", "describe", "share", "upload"))
    )
    if what == "move":
        item.parent = str(given.get("parent") or random.choice([ROOT, *places]))
        drive.touch(item, "ITEM_MOVE")
    elif what == "share" and item.data["shared_link"]:
        drive.touch(item, "ITEM_SHARED_UNSHARE", shared_link=None)
    elif what == "share":
        drive.touch(item, "ITEM_SHARED_CREATE", shared_link=_link(item))
    elif what == "describe":
        drive.touch(item, "ITEM_MODIFY", description=f"{random.getrandbits(64):x}")
    elif what == "upload" and item.type == "file":
        version = int(item.data["version_number"]) + 1
        content = _content(drive, random, version) | {"content_modified_at": drive.now()}
        drive.touch(item, "ITEM_UPLOAD", **content)
    else:
        drive.touch(item, "ITEM_RENAME", name=f"{random.getrandbits(64):x}")


@MUTATIONS.of("collaborations")
@MUTATIONS.of("tasks")
@MUTATIONS.of("comments", "add", "delete")
def change_under(drive: Drive, change: Change) -> str:
    """A comment that is edited is told of by webhooks alone: a random change does not do that."""
    name, random = change.stream, change.random
    if change.op == "add":
        types = ("file", "folder") if name == "collaborations" else ("file",)
        places = [each for each in drive.live(*types) if drive.is_open(each)]
        if not places:
            raise RefusedError("there is no file to put it on", status=409)
        return add_under(drive, random, name, change.record, random.choice(places))
    key, _, id = str(change.id).partition("/")
    item = drive.items[key]
    row = item.under(name)[id]
    if change.op == "delete":
        del item.under(name)[id]
    elif name == "collaborations":
        others = [role for role in ROLES if role != row["role"]]
        row |= {"role": random.choice(others), "modified_at": drive.now(), **change.record}
    else:
        row |= {"message": f"{random.getrandbits(64):x}", **change.record}
    if name == "collaborations":
        drive.note(
            f"COLLAB_{'REMOVE_COLLABORATOR' if change.op == 'delete' else 'ROLE_CHANGE'}", item
        )
    else:
        deleted = "TASK_ASSIGNMENT_DELETE" if name == "tasks" else "COMMENT_DELETE"
        _note_under(drive, deleted if change.op == "delete" else "TASK_UPDATE", item, row)
    return str(change.id)


@MUTATIONS.of("trash", "change", "delete")
def change_trash(drive: Drive, change: Change) -> str:
    """A change brings an item back, a deletion is for good."""
    item = drive.items[str(change.id)]
    folder = drive.folder(item)
    if change.op == "delete" or (folder and not drive.is_shown(folder)):
        purge(drive, item)
    else:
        restore(drive, item)
    return str(change.id)


@MUTATIONS.of("users")
def change_user(drive: Drive, change: Change) -> str:
    if change.op == "add":
        return add_user(drive, change.random, change.record)
    if change.op == "delete":
        drive.people[str(change.id)] = drive.users.pop(str(change.id))
    else:
        titled = {"job_title": f"{change.random.getrandbits(32):x}", **change.record}
        drive.users[str(change.id)] |= {**titled, "modified_at": drive.now()}
    return str(change.id)
