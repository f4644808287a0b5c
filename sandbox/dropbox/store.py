"""An account's Dropbox in memory: its tree by lower-case paths, its log, and what it shares."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock, stamp_in_seconds
from sandbox.kernel.data import firm, moment, person, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ENDINGS = ("pdf", "docx", "xlsx", "png", "txt")
TEAM = {
    "sharing_policies": {
        "shared_folder_member_policy": {".tag": "team"},
        "shared_folder_join_policy": {".tag": "from_anyone"},
        "shared_link_create_policy": {".tag": "team_only"},
        "group_creation_policy": {".tag": "admins_only"},
        "shared_folder_link_restriction_policy": {".tag": "anyone"},
        "enforce_link_password_policy": {".tag": "optional"},
        "default_link_expiration_days_policy": {".tag": "none"},
        "shared_link_default_permissions_policy": {".tag": "default"},
    },
    "office_addin_policy": {".tag": "disabled"},
    "top_level_content_policy": {".tag": "admin_only"},
}
POLICY = {"acl_update_policy": {".tag": "editors"}, "shared_link_policy": {".tag": "anyone"}}
LINK = {
    "resolved_visibility": {".tag": "public"},
    "can_revoke": True,
    "visibility_policies": [],
    "can_set_expiry": True,
    "can_remove_expiry": True,
    "allow_download": True,
    "can_allow_download": True,
    "can_disallow_download": True,
    "allow_comments": True,
    "team_restricts_comments": False,
}
GROUP = {
    "member_count": 3,
    "group_management_type": {".tag": "company_managed"},
    "group_type": {".tag": "team"},
    "is_member": False,
    "is_owner": False,
    "same_team": True,
}
ROLES = ("editor", "viewer")
# How long each stream is, as a share of the longest.
SHARES = {
    "shared_folders": 0.15,
    "shared_links": 0.2,
    "received_files": 0.2,
    "file_requests": 0.2,
    "folder_members": 0.6,
}
SHARED = ("shared_folders", "shared_links", "received_files", "file_requests")


@dataclass
class Box:
    """`log` holds every entry that a cursor tells, in order; a cursor of a former `generation` is
    reset. `revisions` are those of all files that ever were at a path, by their revs. `home` is the
    path of the person's own folder, where there is a team space around it."""

    id: str
    clock: Clock
    tell: Callable[[Any], None]
    account: Json
    home: str = ""
    tree: dict[str, Json] = field(default_factory=dict)
    log: list[Json] = field(default_factory=list)
    revisions: dict[str, dict[str, Json]] = field(default_factory=dict)
    rows: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in SHARES})
    generation: int = 0
    refused: set[str] = field(default_factory=set)

    @property
    def root(self) -> str:
        return str(self.account["root_info"]["root_namespace_id"])

    def told(self, entry: Json) -> None:
        self.log.append(deepcopy(entry))
        self.tell({"account": self.id})


def new_id(random: Random, length: int = 22) -> str:
    return "".join(random.choices(LETTERS, k=length))


def new(seed: Seed) -> Box:
    random = seed.random
    box = Box(seed.account_id, seed.clock, seed.tell, _account(seed))
    if box.account["root_info"][".tag"] == "team":
        folder = put_folder(box, random, f"/{seed.name}")
        box.home = folder["path_lower"]
    if not seed.size:
        return box
    for _ in range(seed.length(0.1)):
        put_folder(box, random, _free(box, random, firm(random)))
    for stream, share in ({"files": 0.9} | SHARES).items():
        for _ in range(seed.length(share)):
            MUTATIONS.apply(box, Change(stream, "add", None, {}, random))
    return box


def _account(seed: Seed) -> Json:
    random = seed.random
    first, last = person(random)
    number = str(random.randint(10**9, 10**10))
    team = random.random() < 0.5
    root = str(random.randint(10**9, 10**10)) if team else number
    more: Json = {}
    if team:
        more = {
            "team": {"id": f"dbtid:{new_id(random)}", "name": firm(random), **TEAM},
            "team_member_id": f"dbmid:{new_id(random)}",
        }
    return {
        "account_id": seed.account_id,
        "name": {
            "given_name": first,
            "surname": last,
            "familiar_name": first,
            "display_name": seed.name,
            "abbreviated_name": first[0] + last[0],
        },
        "email": f"{plain(first)}@{plain(last)}.example",
        "email_verified": True,
        "disabled": False,
        "locale": "en",
        "country": "DE",
        "referral_link": f"https://db.tt/{new_id(random, 8)}",
        "is_paired": team,
        "account_type": {".tag": "business" if team else "pro"},
        **more,
        "root_info": {
            ".tag": "team" if team else "user",
            "root_namespace_id": root,
            "home_namespace_id": number,
            **({"home_path": f"/{seed.name}"} if team else {}),
        },
    }


def store(box: Box, stream: str) -> dict[str, Json]:
    """The live records of a stream, each as the API gives it."""
    match stream:
        case "files":
            return box.tree
        case "account":
            return {box.id: box.account}
        case "space_usage":
            return {"space_usage": space(box)}
        case "file_revisions":
            return {rev: row for of in box.revisions.values() for rev, row in of.items()}
    return box.rows[stream]


def space(box: Box) -> Json:
    used = sum(entry.get("size", 0) for entry in box.tree.values())
    return {"used": used, "allocation": {".tag": "individual", "allocated": 2_199_023_255_552}}


def below(box: Box, path: str) -> list[str]:
    return [each for each in box.tree if each.startswith(f"{path}/")]


def _named(display: str) -> Json:
    return {
        "name": display.rpartition("/")[2],
        "path_lower": display.lower(),
        "path_display": display,
    }


def _free(box: Box, random: Random, name: str) -> str:
    """A path that nothing stands at, in a folder that there is."""
    stem, dot, ending = name.partition(".")
    folders = [entry["path_display"] for entry in box.tree.values() if entry[".tag"] == "folder"]
    where = random.choice([box.home and box.tree[box.home]["path_display"], *folders])
    return f"{where}/{stem} {random.getrandbits(40):x}{dot}{ending}"


def put_folder(box: Box, random: Random, display: str) -> Json:
    entry = {".tag": "folder", **_named(display), "id": f"id:{new_id(random)}"}
    _put(box, entry)
    return entry


def _put(box: Box, entry: Json) -> None:
    """What stood at the path is replaced, with all that was under it, and nothing tells that."""
    path = entry["path_lower"]
    if entry[".tag"] == "file":
        for gone in below(box, path):
            _drop(box, gone)
    if path in box.tree and box.tree[path]["id"] != entry["id"]:
        _drop(box, path)
    box.tree[path] = entry
    box.told(entry)


def _drop(box: Box, path: str) -> None:
    box.tree.pop(path)
    for folder in box.rows["shared_folders"].values():
        if folder.get("path_lower") == path:
            del folder["path_lower"]  # it is no longer mounted


def delete(box: Box, path: str) -> None:
    """Of a folder its own path alone is told."""
    gone = box.tree[path]
    for each in (*below(box, path), path):
        _drop(box, each)
    named = ("name", "path_lower", "path_display")
    box.told({".tag": "deleted", **{name: gone[name] for name in named}})


def put_file(
    box: Box, random: Random, display: str, size: int | None = None, id: str | None = None
) -> Json:
    at = box.clock.now()
    size = random.randint(1, 10**7) if size is None else size
    entry = {
        ".tag": "file",
        **_named(display),
        "id": id or f"id:{new_id(random)}",
        "client_modified": stamp_in_seconds(moment(random, at, 30)),
        "server_modified": stamp_in_seconds(at),
        "rev": f"{random.getrandbits(60):015x}",
        "size": size,
        "is_downloadable": True,
        "content_hash": f"{random.getrandbits(256):064x}",
    }
    for folder in box.rows["shared_folders"].values():
        if entry["path_lower"].startswith(f"{folder.get('path_lower', ' ')}/"):
            held = folder["shared_folder_id"]
            entry["sharing_info"] = {"read_only": False, "parent_shared_folder_id": held}
    _put(box, entry)
    _revised(box, entry)
    return entry


def _revised(box: Box, entry: Json) -> None:
    revision = {name: value for name, value in entry.items() if name != ".tag"}
    box.revisions.setdefault(entry["path_lower"], {})[entry["rev"]] = deepcopy(revision)


def move(box: Box, random: Random, path: str, display: str) -> str:
    """Everything keeps its id. A rename in other letters is told without a deletion."""
    entries = [box.tree[each] for each in (path, *below(box, path))]
    if display.lower() != path:
        if display.lower().startswith(f"{path}/") or display.lower() in box.tree:
            raise RefusedError(f"there is no room at {display}", status=409)
        delete(box, path)
    for entry in entries:
        moved = {**entry, **_named(display + entry["path_display"][len(path) :])}
        if entry[".tag"] == "file":
            moved["rev"] = f"{random.getrandbits(60):015x}"
            _revised(box, moved)
        _put(box, moved)
    return display.lower()


def there(box: Box, stream: str) -> Any:
    """What may be changed: not the person's own folder, nor what is refused."""
    rows = store(box, stream)
    if stream == "files":
        return [path for path in rows if path != box.home]
    if stream == "folder_members":
        return [key for key in rows if key.partition("/")[0] not in box.refused]
    return [key for key in rows if key not in box.refused]


MUTATIONS = Mutations[Box](
    settable={
        "files": ("path", "size", "folder"),
        "account": ("locale",),
        **{name: ("name",) for name in (*SHARED, "folder_members")},
    },
    there=there,
)


@MUTATIONS.of("files", "add")
def add_file(box: Box, change: Change) -> str:
    random, asked = change.random, change.record
    folder = asked.get("folder", random.random() < 0.1)
    name = firm(random) if folder else f"{plain(firm(random))}.{random.choice(ENDINGS)}"
    display = asked.get("path") or _free(box, random, name)
    if folder:
        return str(put_folder(box, random, display)["path_lower"])
    return str(put_file(box, random, display, asked.get("size"))["path_lower"])


@MUTATIONS.of("files", "change")
def change_file(box: Box, change: Change) -> str:
    """New content, a move, a rename in other letters, or a file in its place."""
    random, path, asked = change.random, str(change.id), change.record
    entry = box.tree[path]
    display = entry["path_display"]
    what = random.choice(("edit", "edit", "edit", "move", "case", "replace"))
    if "path" in asked:
        return move(box, random, path, asked["path"])
    if "size" in asked or (what == "edit" and entry[".tag"] == "file"):
        put_file(box, random, display, asked.get("size"), entry["id"])
    elif what == "replace":
        put_file(box, random, display)
    elif what == "move":
        return move(box, random, path, _free(box, random, entry["name"]))
    else:
        head, _, name = display.rpartition("/")
        other = name.swapcase() if name.swapcase().lower() == name.lower() else name.lower()
        if other == name:
            raise RefusedError("the name has no other letters", status=409)
        return move(box, random, path, f"{head}/{other}")
    return path


@MUTATIONS.of("files", "delete")
def delete_file(box: Box, change: Change) -> None:
    delete(box, str(change.id))


@MUTATIONS.of("account", "change")
def change_account(box: Box, change: Change) -> None:
    now = box.account["locale"]
    others = [each for each in ("en", "de", "fr", "ja") if each != now]
    box.account["locale"] = change.record.get("locale") or change.random.choice(others)


@MUTATIONS.of((*SHARED, "folder_members"), "add")
def add_shared(box: Box, change: Change) -> str:
    random = change.random
    key, row = MADE[change.stream](box, random, stamp_in_seconds(box.clock.now()))
    box.rows[change.stream][key] = row | change.record
    return key


@MUTATIONS.of((*SHARED, "folder_members"), "change")
def change_shared(box: Box, change: Change) -> None:
    row, random = box.rows[change.stream][str(change.id)], change.random
    if change.stream == "file_requests":
        row["title"] = f"{sentence(random)} {random.getrandbits(20)}"
    elif change.stream == "folder_members":
        row["is_inherited"] = not row["is_inherited"]
    else:
        row["name"] = change.record.get("name") or f"{firm(random)} {random.getrandbits(20)}"


@MUTATIONS.of((*SHARED, "folder_members"), "delete")
def delete_shared(box: Box, change: Change) -> None:
    row = box.rows[change.stream].pop(str(change.id))
    if change.stream != "shared_folders":
        return
    members = box.rows["folder_members"]
    for key in [key for key in members if key.startswith(f"{row['shared_folder_id']}/")]:
        del members[key]
    if (path := row.get("path_lower")) in box.tree:  # who leaves it finds it no more
        delete(box, path)


def _shared_folder(box: Box, random: Random, at: str) -> tuple[str, Json]:
    """Some are mounted: then they stand in the tree."""
    id, name = str(random.randint(10**9, 10**11)), f"{firm(random)} {random.getrandbits(24):x}"
    where: Json = {}
    if random.random() < 0.7:
        base = box.tree[box.home]["path_display"] if box.home else ""
        folder = {
            ".tag": "folder",
            **_named(f"{base}/{name}"),
            "id": f"id:{new_id(random)}",
            "shared_folder_id": id,
            "sharing_info": {"read_only": False, "shared_folder_id": id},
        }
        _put(box, folder)
        where = {"path_lower": folder["path_lower"]}
    return id, {
        "shared_folder_id": id,
        "name": name,
        "access_type": {".tag": random.choice(ROLES)},
        "is_inside_team_folder": False,
        "is_team_folder": False,
        "policy": POLICY,
        "preview_url": f"https://www.dropbox.com/scl/fo/{new_id(random)}",
        "time_invited": at,
        "owner_team": {"id": f"dbtid:{new_id(random)}", "name": firm(random)},
        "parent_shared_folder_id": str(random.randint(10**9, 10**11)),
        **where,
    }


def _shared_link(box: Box, random: Random, at: str) -> tuple[str, Json]:
    name = f"{plain(firm(random))}.pdf"
    url = f"https://www.dropbox.com/scl/fi/{new_id(random)}/{name}?dl=0"
    return url, {
        ".tag": "file",
        "url": url,
        "id": f"id:{new_id(random)}",
        "name": name,
        "path_lower": f"/{name}",
        "expires": at,
        "link_permissions": LINK,
        "client_modified": at,
        "server_modified": at,
        "rev": f"{random.getrandbits(60):015x}",
        "size": random.randint(1, 10**6),
    }


def _received(box: Box, random: Random, at: str) -> tuple[str, Json]:
    id, name = f"id:{new_id(random)}", f"{plain(firm(random))}.pdf"
    return id, {
        "id": id,
        "name": name,
        "access_type": {".tag": random.choice(ROLES)},
        "path_lower": f"/{name}",
        "path_display": f"/{name}",
        "owner_display_names": [" ".join(person(random))],
        "policy": POLICY,
        "preview_url": f"https://www.dropbox.com/scl/fi/{new_id(random)}",
        "time_invited": at,
    }


def _request(box: Box, random: Random, at: str) -> tuple[str, Json]:
    id = new_id(random, 20)
    return id, {
        "id": id,
        "url": f"https://www.dropbox.com/request/{id}",
        "title": sentence(random),
        "created": at,
        "is_open": True,
        "file_count": random.randint(0, 20),
        "destination": "/File requests",
        "deadline": {"deadline": at},
        "description": sentence(random),
    }


def _member(box: Box, random: Random, at: str) -> tuple[str, Json]:
    folders = [id for id in box.rows["shared_folders"] if id not in box.refused]
    if not folders:
        raise RefusedError("there is no folder to share", status=409)
    folder, name = random.choice(folders), " ".join(person(random))
    row: Json = {"shared_folder_id": folder}
    kind = random.choice(("user", "group", "invitee"))
    if kind == "user":
        who = f"dbid:{new_id(random, 35)}"
        email = f"{plain(name)}@mail.example"
        row["user"] = {"account_id": who, "email": email, "display_name": name, "same_team": True}
    elif kind == "group":
        who = f"g:{new_id(random)}"
        row["group"] = {"group_id": who, "group_name": firm(random), **GROUP}
    else:
        who = f"{plain(name)}{random.getrandbits(30)}@mail.example"
        row["invitee"] = {".tag": "email", "email": who}
    access = {"access_type": {".tag": random.choice(ROLES)}, "permissions": []}
    return f"{folder}/{kind}/{who}", row | {"kind": kind, "is_inherited": False} | access


MADE: dict[str, Callable[[Box, Random, str], tuple[str, Json]]] = {
    "shared_folders": _shared_folder,
    "shared_links": _shared_link,
    "received_files": _received,
    "file_requests": _request,
    "folder_members": _member,
}


def members(box: Box, folder: str) -> Iterator[Json]:
    """Of a shared folder, without what the answer does not say of each."""
    for row in box.rows["folder_members"].values():
        if row["shared_folder_id"] == folder:
            yield row


def expire_checkpoints(box: Box) -> None:
    box.generation += 1


def refuse_part(box: Box, body: Json) -> Json:
    """The members of one shared folder are not shown, or shown again: `{account, stream, on}`."""
    box.refused.clear()
    rows = box.rows["folder_members"]
    if body.get("stream") != "folder_members" or not rows:
        return {"keys": [], "part": ""}
    folder = next(iter(rows)).partition("/")[0]
    if body.get("on"):
        box.refused.add(folder)
    return {"keys": [key for key in rows if key.startswith(f"{folder}/")], "part": f"{folder}/"}
