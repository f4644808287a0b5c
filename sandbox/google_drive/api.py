"""Reading a Drive: about, files, changes, shared drives, permissions.

https://developers.google.com/workspace/drive/api/reference/rest/v3
"""

from collections.abc import Sequence

from starlette.responses import Response

from sandbox._google import flag, page_size, page_token, position, refused, wrong
from sandbox._google.fields import answered
from sandbox.google_drive.query import search
from sandbox.google_drive.store import (
    USER,
    Cabinet,
    File,
    SharedDrive,
    can_see_grants,
    grants_of,
    shown_change,
    shown_drive,
    shown_file,
)
from sandbox.kernel.fields import only
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

# What comes back of each thing when no fields are named.
FILE = ("kind", "id", "name", "mimeType")
CHANGE = ("kind", "changeType", "type", "time", "removed", "fileId", "driveId")
PERMISSION = ("kind", "id", "type", "role")
DRIVE = ("kind", "id", "name")
# A page token of a listing of files is good for some hours.
PAGE_TOKEN_LASTS = 4 * 3_600.0
# A search of all drives gives up after so many shared ones.
SEARCHED_DRIVES = 1


def shown(call: Call, thing: Json, names: Sequence[str]) -> Json:
    """A thing as far as it is given: all of it where fields are named, which then cut it."""
    return thing if "fields" in call.query else only(thing, *names)


def about(call: Call, cabinet: Cabinet) -> Response:
    """Who is asking. It says nothing unless it is told what to say."""
    if "fields" not in call.query:
        message = "The 'fields' parameter is required for this method."
        where = {"locationType": "parameter", "location": "fields"}
        raise refused(400, "required", message, **where)
    quota = {"usage": str(sum(int(f.data["quotaBytesUsed"]) for f in cabinet.files.values()))}
    return answered(call, {"kind": "drive#about", "user": cabinet.me, "storageQuota": quota})


def all_drives(call: Call) -> bool:
    """Whether the caller can deal with shared drives at all."""
    return flag(call, "supportsAllDrives") or flag(call, "supportsTeamDrives")


def with_items(call: Call) -> bool:
    """Whether what is in shared drives is wanted."""
    wanted = flag(call, "includeItemsFromAllDrives") or flag(call, "includeTeamDriveItems")
    if wanted and not all_drives(call):
        raise refused(403, "teamDrivesSupportRequired", "supportsAllDrives must be set to true.")
    return wanted


def list_files(call: Call, cabinet: Cabinet) -> Response:
    """Files of a corpus. What the token stands for is a place in the order of ids."""
    size = page_size(call, default=100, most=1000, name="pageSize")
    found, incomplete = _corpora(call, cabinet)
    fits = search(call.query.get("q", ""))
    asked = "&".join(sorted(f"{n}={call.query.get(n, '')}" for n in ("q", "corpora", "driveId")))
    after = ""
    if place := position(call, int, int, str, str):
        made_at, generation, same, after = place
        late = call.clock.time() - made_at > PAGE_TOKEN_LASTS
        if late or generation != cabinet.pages or same != asked:
            raise wrong("Invalid Value", "pageToken")
    files = sorted((f for f in found if fits(f) and f.id > after), key=lambda file: file.id)
    body: Json = {"kind": "drive#fileList", "incompleteSearch": incomplete}
    if len(files) > size:
        made_at = int(call.clock.time())
        body["nextPageToken"] = page_token(made_at, cabinet.pages, asked, files[size - 1].id)
    body["files"] = [shown(call, shown_file(cabinet, file), FILE) for file in files[:size]]
    return answered(call, body)


def _corpora(call: Call, cabinet: Cabinet) -> tuple[list[File], bool]:
    """The files that a listing is about, and whether some drives were left out of it."""
    drive, corpora = call.query.get("driveId", ""), call.query.get("corpora", USER)
    wanted = with_items(call)
    if (corpora == "drive") is not bool(drive):
        raise wrong("The driveId parameter and the corpora 'drive' go together.", "corpora")
    if corpora in ("drive", "allDrives") and not wanted:
        message = "includeItemsFromAllDrives must be set to true for these corpora."
        raise refused(403, "teamDrivesParameterRequired", message)
    searched = {
        USER: [USER],
        "domain": [USER],
        "drive": [drive],
        "allDrives": [USER, *list(cabinet.drives)[:SEARCHED_DRIVES]],
    }.get(corpora)
    if searched is None:
        raise wrong("Invalid Value", "corpora")
    if corpora == "drive":
        found_drive(cabinet, drive)
    files = [file for file in cabinet.files.values() if file.corpus in searched]
    return files, corpora == "allDrives" and len(cabinet.drives) > SEARCHED_DRIVES


def found_drive(cabinet: Cabinet, id_: str) -> SharedDrive:
    drive = cabinet.drives.get(id_)
    if drive is None:
        raise refused(404, "notFound", f"Shared drive not found: {id_}")
    if id_ in cabinet.refused:
        message = "The attempted action requires shared drive membership."
        raise refused(403, "teamDriveMembershipRequired", message)
    return drive


def found_file(call: Call, cabinet: Cabinet) -> File:
    """The file that the path names; of a shared drive only for who can deal with these."""
    id_ = call.params["file"]
    file = cabinet.files.get(id_)
    if file is None or (file.corpus != USER and not all_drives(call)):
        raise refused(404, "notFound", f"File not found: {id_}.")
    return file


def get_file(call: Call, cabinet: Cabinet) -> Response:
    return answered(call, shown(call, shown_file(cabinet, found_file(call, cabinet)), FILE))


def start_token(call: Call, cabinet: Cabinet) -> Response:
    corpus = _log_asked_for(call, cabinet)
    token = change_token(cabinet, corpus, cabinet.log_of(corpus).last + 1)
    return answered(call, {"kind": "drive#startPageToken", "startPageToken": token})


def _log_asked_for(call: Call, cabinet: Cabinet) -> str:
    """Whose log: the person's own, or that of the shared drive that the query names."""
    drive = call.query.get("driveId", "")
    if not drive:
        return USER
    if not all_drives(call):
        raise refused(403, "teamDrivesSupportRequired", "supportsAllDrives must be set to true.")
    found_drive(cabinet, drive)
    return drive


def change_token(cabinet: Cabinet, corpus: str, number: int) -> str:
    return page_token(cabinet.address, corpus, cabinet.generation, number)


def found_changes(call: Call, cabinet: Cabinet) -> tuple[str, int]:
    """The log that a call is about, and from which number on."""
    corpus = _log_asked_for(call, cabinet)
    if "pageToken" not in call.query:
        where = {"locationType": "parameter", "location": "pageToken"}
        raise refused(400, "required", "Required parameter: pageToken", **where)
    place = position(call, str, str, int, int)
    if place is None or place[:2] != (cabinet.address, corpus):
        raise wrong("Invalid Value", "pageToken")
    if place[2] != cabinet.generation:
        message = f"Page token not found: {call.query['pageToken'][:8]}"
        raise refused(404, "notFound", message) if place[2] % 2 else wrong(message, "pageToken")
    return corpus, place[3]


def list_changes(call: Call, cabinet: Cabinet) -> Response:
    """What changed from a number on. Neither of its tokens expires."""
    size = page_size(call, default=100, most=1000, name="pageSize")
    corpus, first = found_changes(call, cabinet)
    items, mine_only = with_items(call), flag(call, "restrictToMyDrive")
    corpus_removals = flag(call, "includeCorpusRemovals")
    if corpus != USER and not items:
        message = "includeItemsFromAllDrives must be set to true with a driveId."
        raise refused(403, "teamDrivesParameterRequired", message)
    removed_too = flag(call, "includeRemoved", default=True)
    log = cabinet.log_of(corpus)
    later = sorted(
        (number, entry, removed, at)
        for entry, (number, removed, at) in log.entries.items()
        if number >= first
    )
    page = later[:size]
    changes = [
        shown_change(cabinet, entry, removed=removed, at=at, corpus_removals=corpus_removals)
        for _, entry, removed, at in page
        if (removed_too or not removed) and _is_wanted(cabinet, entry, items, mine_only)
    ]
    body: Json = {"kind": "drive#changeList"}
    if len(later) > size:
        body["nextPageToken"] = change_token(cabinet, corpus, page[-1][0] + 1)
    else:
        body["newStartPageToken"] = change_token(cabinet, corpus, log.last + 1)
    body["changes"] = [shown(call, change, CHANGE) for change in changes]
    return answered(call, body)


def _is_wanted(cabinet: Cabinet, entry: tuple[str, str], items: bool, mine_only: bool) -> bool:
    kind, id_ = entry
    file = cabinet.files.get(id_)
    if kind == "drive" or file is None:
        return kind == "file" or items
    return (items or file.corpus == USER) and not (mine_only and file.role != "owner")


def list_drives(call: Call, cabinet: Cabinet) -> Response:
    size = page_size(call, default=10, most=100, name="pageSize")
    place = position(call, str)
    ids = sorted(id_ for id_ in cabinet.drives if place is None or id_ > place[0])
    body: Json = {"kind": "drive#driveList"}
    if len(ids) > size:
        body["nextPageToken"] = page_token(ids[size - 1])
    drives = (shown_drive(cabinet, cabinet.drives[id_]) for id_ in ids[:size])
    body["drives"] = [shown(call, drive, DRIVE) for drive in drives]
    return answered(call, body)


def get_drive(call: Call, cabinet: Cabinet) -> Response:
    drive = found_drive(cabinet, call.params["drive"])
    return answered(call, shown(call, shown_drive(cabinet, drive), DRIVE))


def list_permissions(call: Call, cabinet: Cabinet) -> Response:
    """Who may see a file. Of one outside shared drives all at once, unless a size is named."""
    file = found_file(call, cabinet)
    if not can_see_grants(file):
        message = "The user does not have sufficient permissions for this file."
        raise refused(403, "insufficientFilePermissions", message)
    given = sorted(grants_of(cabinet, file).items())
    size = page_size(call, default=100, most=100, name="pageSize")
    if file.corpus == USER and "pageSize" not in call.query:
        size = len(given)
    place = position(call, str)
    left = [(id_, one) for id_, one in given if place is None or id_ > place[0]]
    body: Json = {"kind": "drive#permissionList"}
    if len(left) > size:
        body["nextPageToken"] = page_token(left[size - 1][0])
    body["permissions"] = [shown(call, one, PERMISSION) for _, one in left[:size]]
    return answered(call, body)


def get_permission(call: Call, cabinet: Cabinet) -> Response:
    file = found_file(call, cabinet)
    one = grants_of(cabinet, file).get(call.params["permission"])
    if one is None or not can_see_grants(file):
        raise refused(404, "notFound", f"Permission not found: {call.params['permission']}.")
    return answered(call, shown(call, one, PERMISSION))
