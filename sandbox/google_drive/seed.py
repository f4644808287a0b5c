"""What is in a new person's Drive, and what happens there when a change is ordered."""

from hashlib import md5
from random import Random

from sandbox.google_drive.store import (
    FOLDER,
    USER,
    Cabinet,
    File,
    SharedDrive,
    alterable,
    grant,
    leave,
    move,
    note_drive,
    person_id,
    put,
    remove,
    share,
    trash,
    user,
)
from sandbox.kernel.clock import stamp
from sandbox.kernel.data import TOPICS, domain, firm, moment, person, plain, sentence
from sandbox.kernel.fields import only
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
KINDS = (
    ("application/pdf", "pdf"),
    ("image/png", "png"),
    ("text/csv", "csv"),
    ("application/vnd.google-apps.document", ""),
    ("application/vnd.google-apps.spreadsheet", ""),
)
ROLES = ("reader", "commenter", "writer")
# By chance alone a shared drive is made, or left, far less often than a file is changed.
MADE, LEFT = 0.1, 0.03
FILE_FIELDS = ("name", "description", "starred", "mimeType", "parents", "trashed", "properties")
MUTATIONS = Mutations[Cabinet](settable={"files": (*FILE_FIELDS, "corpus")}, there=alterable)


def new(seed: Seed) -> Cabinet:
    """A Drive filled from the seed. Its logs begin now: of how it came to be they are silent."""
    random = Random(seed.random.random())
    cabinet = Cabinet(seed.account_id, seed.name, seed.clock, random, tell=seed.tell)
    if seed.size:
        for _ in range(2):
            add_drive(cabinet, seed.random, {})
    corpora = [USER, USER, USER, *cabinet.drives]
    for _ in range(seed.size):
        add_file(cabinet, seed.random, {}, seed.random.choice(corpora), past=True)
    for log in (cabinet.log, *(drive.log for drive in cabinet.drives.values())):
        log.entries.clear()
    return cabinet


def new_id(random: Random, length: int = 33) -> str:
    return "1" + "".join(random.choice(LETTERS) for _ in range(length - 1))


def _somebody(random: Random) -> tuple[str, str]:
    first, last = person(random)
    address = f"{plain(first)}.{plain(last)}{random.randint(1, 999)}@{domain(firm(random))}"
    return f"{first} {last}", address


def add_drive(cabinet: Cabinet, random: Random, given: Json) -> SharedDrive:
    """A shared drive that the person makes, or is let into; its files come with it unannounced."""
    id_ = f"0A{new_id(random, 17)}"
    resource = {
        "kind": "drive#drive",
        "id": id_,
        "name": given.get("name", firm(random)),
        "colorRgb": f"#{random.getrandbits(24):06x}",
        "createdTime": stamp(cabinet.clock.now()),
        "hidden": False,
        "restrictions": {"domainUsersOnly": random.random() < 0.5, "driveMembersOnly": False},
    }
    role = random.choice(("organizer", "writer", "reader"))
    mine = grant(cabinet.owner, cabinet.address, role)
    drive = SharedDrive(resource, role, {mine["id"]: mine})
    cabinet.drives[id_] = drive
    _add_member(drive, random)
    note_drive(cabinet, drive, to_member=True)
    return drive


def _add_member(drive: SharedDrive, random: Random, address: str = "") -> None:
    name, made_up = _somebody(random)
    member = grant(name, address or made_up, random.choice(("fileOrganizer", "writer", "reader")))
    drive.members[member["id"]] = member


def add_file(
    cabinet: Cabinet, random: Random, given: Json, corpus: str = USER, *, past: bool = False
) -> File:
    """A new file: the person's own, one that is shared with them, or one in a shared drive."""
    now = cabinet.clock.now()
    at = stamp(moment(random, now) if past else now)
    is_folder = random.random() < 0.12
    kind, extension = (FOLDER, "") if is_folder else random.choice(KINDS)
    kind = str(given.get("mimeType", kind))
    name = f"{random.choice(TOPICS).capitalize()} {random.randint(1, 9999)}"
    data: Json = {
        "kind": "drive#file",
        "id": str(given.get("id") or new_id(random)),
        "name": f"{name}.{extension}" if extension else name,
        "mimeType": kind,
        "createdTime": at,
        "modifiedTime": at,
        "trashed": False,
        "explicitlyTrashed": False,
        "starred": False,
        "spaces": ["drive"],
        "webViewLink": "https://drive.google.com/file/d/made-up/view",
        "lastModifyingUser": cabinet.me,
    }
    if random.random() < 0.3:
        data["description"] = sentence(random)
    data |= _content(extension, random)
    file = _owned(cabinet, data, corpus, random)
    folders = [
        one.id for one in cabinet.files.values()
        if one.data["mimeType"] == FOLDER and one.corpus == corpus and one.role == file.role
        and not one.trashed
    ]  # fmt: skip
    if folders and random.random() < 0.5 and "parents" not in given:
        data["parents"] = [random.choice(folders)]
    put(cabinet, file, **only(given, *FILE_FIELDS))
    return file


def _content(extension: str, random: Random) -> Json:
    """What only files with bytes of their own have."""
    if not extension:
        return {"quotaBytesUsed": "0"}
    size = str(random.randint(200, 9_000_000))
    return {
        "size": size,
        "quotaBytesUsed": size,
        "md5Checksum": md5(random.randbytes(8), usedforsecurity=False).hexdigest(),
        "fileExtension": extension,
        "fullFileExtension": extension,
        "headRevisionId": new_id(random, 40),
        "hasThumbnail": extension == "png",
    }


def _owned(cabinet: Cabinet, data: Json, corpus: str, random: Random) -> File:
    """The file with its owner and whom it is shared with."""
    if corpus != USER:
        role = cabinet.drives[corpus].role
        file = File({**data, "driveId": corpus, "parents": [corpus]}, corpus, role)
        if role == "organizer" and data["mimeType"] != FOLDER and random.random() < 0.3:
            _grant(file, random)
        return file
    mine = grant(cabinet.owner, cabinet.address, "owner")
    if random.random() < 0.75:
        own = {"owners": [cabinet.me], "ownedByMe": True, "writersCanShare": True}
        file = File({**data, **own, "parents": [cabinet.root]}, USER, "owner", {mine["id"]: mine})
        if random.random() < 0.4:
            _grant(file, random)
        return file
    name, address = _somebody(random)
    role = random.choice(("reader", "writer"))
    theirs = {"owners": [user(name, address)], "ownedByMe": False}
    theirs |= {"writersCanShare": random.random() < 0.5, "sharedWithMeTime": data["createdTime"]}
    owner, mine = grant(name, address, "owner"), {**mine, "role": role}
    return File({**data, **theirs}, USER, role, {owner["id"]: owner, mine["id"]: mine})


def _grant(file: File, random: Random, given: Json | None = None) -> str:
    """Somebody is let in, a whole firm, or everybody who has the link."""
    given = given or {}
    role = str(given.get("role", random.choice(ROLES)))
    kind = given.get("type", random.choices(("user", "anyone", "domain"), (7, 2, 1))[0])
    name, address = _somebody(random)
    if kind == "anyone":
        made: Json = {"kind": "drive#permission", "id": "anyoneWithLink", "type": kind}
        made |= {"role": role, "allowFileDiscovery": False}
    elif kind == "domain":
        host = str(given.get("domain", address.partition("@")[2]))
        made = {"kind": "drive#permission", "id": f"{person_id(host)}k", "type": kind}
        made |= {"role": role, "domain": host, "displayName": host, "allowFileDiscovery": False}
    else:
        made = grant(name, str(given.get("emailAddress", address)), role)
        if random.random() < 0.2:
            ends = file.data["createdTime"].replace("20", "21", 1)
            made["expirationTime"] = ends
    file.grants[made["id"]] = made
    return str(made["id"])


@MUTATIONS.of("files")
def _apply_file(cabinet: Cabinet, change: Change) -> str:
    random, record = change.random, change.record
    if change.op == "add":
        corpus = record.get("corpus") or random.choice([USER, USER, *cabinet.open_drives])
        if corpus != USER and corpus not in cabinet.drives:
            raise RefusedError(f"there is no shared drive {corpus!r}; there are: {cabinet.drives}")
        return add_file(cabinet, random, record, corpus).id
    file = cabinet.files[str(change.id)]
    if change.op == "delete":
        # Into the bin, or gone for good: neither is in the listing any more.
        (trash if random.random() < 0.5 else remove)(cabinet, file)
        return file.id
    if record.get("trashed") is not None:
        trash(cabinet, file, trashed=bool(record["trashed"]))
    elif record:
        put(cabinet, file, **record, modifiedTime=stamp(cabinet.clock.now()))
    else:
        _change_file(cabinet, file, random)
    return file.id


def _change_file(cabinet: Cabinet, file: File, random: Random) -> None:
    """Renamed, starred, moved into a shared drive, or brought back from the bin."""
    binned = [
        one for one in cabinet.files.values()
        if one.data["explicitlyTrashed"] and one.corpus not in cabinet.refused
    ]  # fmt: skip
    fate = random.random()
    if binned and fate < 0.1:
        trash(cabinet, random.choice(binned), trashed=False)
    elif (
        file.role == "owner"
        and file.data["mimeType"] != FOLDER
        and cabinet.open_drives
        and fate < 0.2
    ):
        move(cabinet, file, random.choice(cabinet.open_drives))
    elif fate < 0.4:
        put(cabinet, file, starred=not file.data["starred"])
    else:
        name = f"{file.data['name'].partition(' #')[0]} #{random.getrandbits(24)}"
        put(cabinet, file, name=name, modifiedTime=stamp(cabinet.clock.now()))


@MUTATIONS.of("permissions")
def _apply_permission(cabinet: Cabinet, change: Change) -> str:
    random, record = change.random, change.record
    if change.op == "add":
        own = [
            file.id for file in cabinet.files.values()
            if file.role in ("owner", "organizer") and not file.trashed
            and file.corpus not in cabinet.refused
            and (file.corpus == USER or file.data["mimeType"] != FOLDER)
        ]  # fmt: skip
        file_id = record.get("file_id") or (random.choice(own) if own else "")
        if file_id not in own:
            raise RefusedError(f"there is no file {file_id!r} of the person's own to share")
        file = cabinet.files[file_id]
        made = _grant(file, random, record)
        share(cabinet, file)
        return f"{file_id}/{made}"
    file_id, _, one = str(change.id).partition("/")
    file = cabinet.files[file_id]
    held = file.grants[one]
    if change.op == "delete":
        del file.grants[one]
    else:
        others = [role for role in ROLES if role != held["role"]]
        file.grants[one] = {**held, "role": record.get("role", random.choice(others))}
    share(cabinet, file)
    return str(change.id)


@MUTATIONS.of("shared_drives")
def _apply_drive(cabinet: Cabinet, change: Change) -> str:
    random, record = change.random, change.record
    if change.op == "add":
        if not record and random.random() > MADE:
            raise RefusedError("nobody makes a shared drive now", status=409)
        drive = add_drive(cabinet, random, record)
        id_ = str(drive.resource["id"])
        for _ in range(random.randint(0, 6)):
            add_file(cabinet, random, {}, id_)
        return id_
    id_ = str(change.id)
    drive = cabinet.drives[id_]
    if change.op == "delete":
        if not record and random.random() > LEFT:
            raise RefusedError("nobody leaves a shared drive now", status=409)
        leave(cabinet, id_)
    elif "member" in record:
        _add_member(drive, random, str(record["member"]))
        note_drive(cabinet, drive, to_member=False)
    elif not record and random.random() < 0.4:
        _change_members(drive, random)
        note_drive(cabinet, drive, to_member=False)
    else:
        drive.resource |= record or {"name": f"{firm(random)} {random.getrandbits(16)}"}
        note_drive(cabinet, drive, to_member=True)
    return id_


def _change_members(drive: SharedDrive, random: Random) -> None:
    others = list(drive.members)[1:]
    if others and random.random() < 0.5:
        del drive.members[random.choice(others)]
    else:
        _add_member(drive, random)
