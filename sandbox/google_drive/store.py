"""A person's Google Drive in memory: files, shared drives, who may see what, and the change logs.

https://developers.google.com/workspace/drive/api/guides/about-changes
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from sandbox._google.channels import Told
from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.fields import without
from sandbox.kernel.values import Json

# The corpus of the person's own log: their files, and what was shared with them.
USER = "user"
FOLDER = "application/vnd.google-apps.folder"
# Fields that change without a word in any log, or with each answer: nobody could follow them.
UNFOLLOWED = ("permissions", "permissionIds", "shared", "thumbnailLink", "backgroundImageLink")
# Who has these roles may see who else has one.
SHARERS = ("owner", "organizer", "fileOrganizer", "writer")


@dataclass
class File:
    """A file or folder; `corpus` is USER or the id of a shared drive.

    `grants` are those that stand on it itself; it inherits the ones of its folders.
    """

    data: Json
    corpus: str
    role: str
    grants: dict[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def trashed(self) -> bool:
        return bool(self.data["trashed"])


@dataclass
class Log:
    """What changed in a corpus. A newer change of a thing takes the place of its former one."""

    entries: dict[tuple[str, str], tuple[int, bool, str]] = field(default_factory=dict)
    last: int = 0

    def note(self, kind: str, id_: str, at: str, *, removed: bool = False) -> None:
        self.last += 1
        self.entries[kind, id_] = (self.last, removed, at)


@dataclass
class SharedDrive:
    """A shared drive that the person is a member of."""

    resource: Json
    role: str
    members: dict[str, Json]
    log: Log = field(default_factory=Log)


@dataclass
class Cabinet:
    """One person's view. `tell` takes what happened; `channels` are the ids of all there were.

    Tokens are of a generation, and those of an earlier one are refused: page tokens of `pages`,
    which live for some hours, and those of the logs of `generation`, which do not expire.
    """

    address: str
    owner: str
    clock: Clock
    random: Random
    files: dict[str, File] = field(default_factory=dict)
    drives: dict[str, SharedDrive] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    generation: int = 0
    pages: int = 0
    quota_status: int = 403
    switched_on: bool = True
    # Shared drives of which nothing is shown, though they are listed.
    refused: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    tell: Callable[[Told], None] = lambda told: None

    @property
    def me(self) -> Json:
        """The person as Drive names people."""
        return user(self.owner, self.address) | {"me": True}

    @property
    def root(self) -> str:
        """The id of the folder My Drive, which is no file of any listing."""
        return f"0A{person_id(self.address)[-17:]}"

    @property
    def open_drives(self) -> list[str]:
        """The shared drives that are not refused now: nothing is done in the others."""
        return [id_ for id_ in self.drives if id_ not in self.refused]

    def log_of(self, corpus: str) -> Log:
        return self.log if corpus == USER else self.drives[corpus].log


def user(name: str, address: str) -> Json:
    return {
        "kind": "drive#user",
        "displayName": name,
        "me": False,
        "permissionId": person_id(address),
        "emailAddress": address,
    }


def person_id(address: str) -> str:
    """The permissionId of a person: the same on every file."""
    return f"{int.from_bytes(address.lower().encode(), 'big') % 10**19:020d}"


def grant(name: str, address: str, role: str) -> Json:
    """A permission of a person."""
    return {
        "kind": "drive#permission",
        "id": person_id(address),
        "type": "user",
        "emailAddress": address,
        "displayName": name,
        "role": role,
        "deleted": False,
        "pendingOwner": False,
    }


def put(cabinet: Cabinet, file: File, **fields: object) -> None:
    """A file as it is from now on: a new version, and an entry in the log of its corpus."""
    now = stamp(cabinet.clock.now())
    file.data |= {**fields, "version": str(int(file.data.get("version", "0")) + 1)}
    cabinet.files[file.id] = file
    cabinet.log_of(file.corpus).note("file", file.id, now)
    told_change(cabinet, file.corpus)
    # Of the files in a shared drive, those that a member uses are in their own log as well.
    if file.corpus != USER and crc32(file.id.encode()) % 5 == 0:
        cabinet.log.note("file", file.id, now)
        told_change(cabinet, USER)
    state, changed = _state_of(fields)
    cabinet.tell(Told(f"files/{file.id}", state, changed))


def told_change(cabinet: Cabinet, corpus: str) -> None:
    """There is something new in a log."""
    cabinet.tell(Told(f"changes/{corpus}", "change"))


def _state_of(fields: Mapping[str, object]) -> tuple[str, str]:
    """What the channel of a file says of a change of those fields, and which part it names."""
    if "trashed" in fields:
        return ("trash" if fields["trashed"] else "untrash"), ""
    if not fields:
        return "update", "permissions"
    return "update", "parents" if "parents" in fields else "properties"


def remove(cabinet: Cabinet, file: File) -> None:
    """A file is deleted, or no longer shared with the person: the log does not say which."""
    for one in [file, *below(cabinet, file)]:
        del cabinet.files[one.id]
        now = stamp(cabinet.clock.now())
        cabinet.log_of(one.corpus).note("file", one.id, now, removed=True)
        if ("file", one.id) in cabinet.log.entries:
            cabinet.log.note("file", one.id, now, removed=True)
        told_change(cabinet, one.corpus)
        cabinet.tell(Told(f"files/{one.id}", "remove"))


def trash(cabinet: Cabinet, file: File, *, trashed: bool = True) -> None:
    """Into the bin, or back from it; what is in a folder goes with it."""
    put(cabinet, file, trashed=trashed, explicitlyTrashed=trashed)
    for one in below(cabinet, file):
        put(cabinet, one, trashed=trashed)


def move(cabinet: Cabinet, file: File, corpus: str) -> None:
    """From My Drive into a shared drive: gone from the one log, new in the other."""
    now = stamp(cabinet.clock.now())
    cabinet.log_of(file.corpus).note("file", file.id, now, removed=True)
    told_change(cabinet, file.corpus)
    file.corpus, file.role = corpus, cabinet.drives[corpus].role
    for name in ("owners", "ownedByMe", "writersCanShare"):
        file.data.pop(name, None)
    file.grants = {}
    put(cabinet, file, parents=[corpus], driveId=corpus)


def below(cabinet: Cabinet, folder: File) -> list[File]:
    """All that is in a folder, at any depth."""
    found, folders = [], [folder.id]
    while folders:
        inside = [
            f for f in cabinet.files.values() if set(f.data.get("parents", ())) & set(folders)
        ]
        found += inside
        folders = [file.id for file in inside if file.data["mimeType"] == FOLDER]
    return found


def share(cabinet: Cabinet, file: File) -> None:
    """The grants on a file were changed. In My Drive all that is below says so too; in a shared
    drive only the thing itself does."""
    put(cabinet, file)
    if file.corpus == USER:
        for one in below(cabinet, file):
            put(cabinet, one)


def grants_of(cabinet: Cabinet, file: File) -> dict[str, Json]:
    """Who may see a file: its own grants, those of its folders, the members of its drive."""
    shown: dict[str, Json] = {}
    if file.corpus in cabinet.drives:
        for id_, member in cabinet.drives[file.corpus].members.items():
            shown[id_] = member | _details("member", member["role"], file.corpus)
    chain, here = [file], file
    while parent := cabinet.files.get((here.data.get("parents") or [""])[0]):
        chain.insert(0, parent)
        here = parent
    for one in chain:
        for id_, given in one.grants.items():
            direct = one is file
            details = _details("file", given["role"], None if direct else one.id)
            shown[id_] = given | (details if file.corpus != USER else {})
    return shown


def _details(kind: str, role: str, inherited_from: str | None) -> Json:
    detail: Json = {"permissionType": kind, "role": role, "inherited": inherited_from is not None}
    if inherited_from:
        detail["inheritedFrom"] = inherited_from
    return {"permissionDetails": [detail]}


def can_see_grants(file: File) -> bool:
    """In a shared drive every member may."""
    return file.corpus != USER or file.role in SHARERS


def shown_file(cabinet: Cabinet, file: File) -> Json:
    """A file with all its fields. Its grants are there only for who may change them, and never in a
    shared drive."""
    given = grants_of(cabinet, file)
    shown = {**file.data}
    if file.corpus == USER:
        shown["shared"] = len(given) > 1
        shown["permissionIds"] = list(given)
        if file.role == "owner" or (file.role == "writer" and file.data["writersCanShare"]):
            shown["permissions"] = list(given.values())
    if file.data.get("hasThumbnail"):
        fresh = cabinet.random.getrandbits(64)
        shown["thumbnailLink"] = f"https://lh3.googleusercontent.example/{fresh:x}=s220"
    return shown


def shown_drive(cabinet: Cabinet, drive: SharedDrive) -> Json:
    """A shared drive; the link to its picture lives for some hours."""
    fresh = cabinet.random.getrandbits(64)
    link = f"https://lh3.googleusercontent.example/{fresh:x}=w1920"
    return {**drive.resource, "backgroundImageLink": link}


def note_drive(cabinet: Cabinet, drive: SharedDrive, *, to_member: bool) -> None:
    """A shared drive itself changed; what concerns the member is in their own log as well."""
    id_, now = drive.resource["id"], stamp(cabinet.clock.now())
    drive.log.note("drive", id_, now)
    told_change(cabinet, id_)
    if to_member:
        cabinet.log.note("drive", id_, now)
        told_change(cabinet, USER)


def leave(cabinet: Cabinet, drive_id: str) -> None:
    """The person is no longer a member: of the files in it only those are told of that happened to
    be in their own log."""
    del cabinet.drives[drive_id]
    now = stamp(cabinet.clock.now())
    for file in [file for file in cabinet.files.values() if file.corpus == drive_id]:
        del cabinet.files[file.id]
        if ("file", file.id) in cabinet.log.entries:
            cabinet.log.note("file", file.id, now, removed=True)
    cabinet.log.note("drive", drive_id, now, removed=True)
    told_change(cabinet, USER)


def shown_change(
    cabinet: Cabinet, entry: tuple[str, str], *, removed: bool, at: str, corpus_removals: bool
) -> Json:
    """An entry of a log, with what it is about as that is now."""
    kind, id_ = entry
    shown: Json = {"kind": "drive#change", "changeType": kind, "type": kind, "time": at}
    shown |= {"removed": removed, f"{kind}Id": id_}
    if kind == "drive":
        drive = cabinet.drives.get(id_)
        return shown if removed or drive is None else shown | {"drive": shown_drive(cabinet, drive)}
    file = cabinet.files.get(id_)
    if file and (not removed or corpus_removals):
        shown["file"] = shown_file(cabinet, file)
    return shown


def followed(shown: Json) -> Json:
    """Without what cannot be followed."""
    return without(shown, *UNFOLLOWED)


def live(cabinet: Cabinet) -> Iterator[File]:
    return (file for file in cabinet.files.values() if not file.trashed)


def store(cabinet: Cabinet, stream: str) -> dict[str, Json]:
    """What is live, with the file's id where the API has that in the path only; a field that no
    log follows is left out."""
    match stream:
        case "files":
            return {file.id: followed(shown_file(cabinet, file)) for file in live(cabinet)}
        case "shared_drives":
            return {id_: dict(drive.resource) for id_, drive in cabinet.drives.items()}
        case "permissions":
            return {
                f"{file.id}/{id_}": {**given, "file_id": file.id}
                for file in live(cabinet)
                if can_see_grants(file)
                for id_, given in grants_of(cabinet, file).items()
            }
        case _:
            return _changes(cabinet)


def _changes(cabinet: Cabinet) -> dict[str, Json]:
    """The person's own log, each thing with what it is now."""
    found: dict[str, Json] = {}
    for (kind, id_), (_, removed, at) in cabinet.log.entries.items():
        change = shown_change(cabinet, (kind, id_), removed=removed, at=at, corpus_removals=False)
        for name in ("file", "drive"):
            if name in change:
                change[name] = followed(change[name])
        found[f"{kind}/{id_}"] = change
    return found


def alterable(cabinet: Cabinet, stream: str) -> list[str]:
    """What may be changed or deleted: of the grants those that stand on a thing itself, and are
    not its owner's; what they are on in a shared drive must be no folder."""
    reached = [file for file in live(cabinet) if file.corpus not in cabinet.refused]
    if stream == "files":
        return [file.id for file in reached]
    if stream == "shared_drives":
        return cabinet.open_drives
    return [
        f"{file.id}/{id_}"
        for file in reached
        if file.role in ("owner", "organizer")
        and (file.corpus == USER or file.data["mimeType"] != FOLDER)
        for id_, given in file.grants.items()
        if given["role"] != "owner"
    ]


def expire(cabinet: Cabinet) -> None:
    """The page tokens that were given out so far have lived too long. Those of logs do not."""
    cabinet.pages += 1
