"""What is read of files and of changes, and who may see them.

https://developers.google.com/workspace/drive/api/guides/about-changes
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from connectors import Checkpoint, Context, ListedKeys, Page, Reader, Record, Request, Response, ask
from connectors._google import AWAY, is_away
from connectors.google_drive.changes import (
    DRIVE,
    GET,
    LIST,
    TITLE,
    USER,
    PageContent,
    Telling,
    drives_page,
    shown_drives,
)
from connectors.kernel.paging import ask_page, rows_of
from connectors.kernel.parts import ask_each
from connectors.kernel.positions import AtPage

# Left out are links that live for hours, what the caller may do, and what a log does not tell of:
# `shared` and `permissionIds` change with a folder, `viewedByMeTime` with a look.
FILE = (
    "kind,id,name,mimeType,description,starred,trashed,explicitlyTrashed,trashedTime,trashingUser,"
    "parents,properties,appProperties,spaces,version,webContentLink,webViewLink,iconLink,"
    "createdTime,modifiedTime,modifiedByMe,modifiedByMeTime,sharedWithMeTime,sharingUser,owners,"
    "driveId,lastModifyingUser,ownedByMe,writersCanShare,copyRequiresWriterPermission,"
    "originalFilename,fullFileExtension,fileExtension,md5Checksum,sha1Checksum,sha256Checksum,"
    "size,quotaBytesUsed,headRevisionId,hasThumbnail,folderColorRgb,shortcutDetails,"
    "contentRestrictions,resourceKey"
)
PERMISSION = (
    "kind,id,type,role,emailAddress,domain,displayName,allowFileDiscovery,expirationTime,deleted,"
    "pendingOwner,view,permissionDetails"
)
PERMITTED = f"id,driveId,mimeType,trashed,permissions({PERMISSION})"


def is_gone(change: Record, followed: Collection[str]) -> bool:
    """Deleted, no longer to be seen, or in the bin. A file that moved to where this person sees it
    as well is removed from one log only, and comes with the change; where that place is not
    followed yet, its own listing brings the file back."""
    file = change.get("file")
    if file is None or file["trashed"] is True:
        return True
    return change["removed"] is True and file.get("driveId", USER) not in followed


def list_files(files: list[Record], response: Response) -> Telling:
    yield from ()
    return PageContent(files)


def change_files(changes: list[Record], response: Response, followed: Collection[str]) -> Telling:
    yield from ()
    of_files = [change for change in changes if change["changeType"] == "file"]
    return PageContent(
        [change["file"] for change in of_files if not is_gone(change, followed)],
        [change["fileId"] for change in of_files if is_gone(change, followed)],
    )


def keep_changes(changes: list[Record], response: Response, followed: Collection[str]) -> Telling:
    yield from ()
    return PageContent(changes)


def list_permissions(files: list[Record], response: Response) -> Telling:
    """The permissions of these files: some come with their file, and others take a call. In a
    shared drive an empty list says nothing (vectara/vectara-ingest#346, 2026-05)."""
    inline = {
        file["id"]: file["permissions"]
        for file in files
        if "permissions" in file and (file["permissions"] or "driveId" not in file)
    }
    contents = [_whole(file_id, given, response.sent_at) for file_id, given in inline.items()]
    unsettled: list[str] = []
    missing = [file["id"] for file in files if file["id"] not in inline]
    answers = (yield from ask_each([_permissions(one, None) for one in missing])) if missing else ()
    for file_id, answer in zip(missing, answers, strict=True):
        # A change may name a file some moments before Google shows it
        # (googleapis/google-api-python-client#238, 2016-06).
        if isinstance(answer, Exception) or answer.status == 404:
            unsettled.append(f"{file_id}/")
        else:
            contents.append((yield from _of_file(file_id, answer)))
    return PageContent(
        [record for one in contents for record in one.records],
        listed_keys=[listing for one in contents for listing in one.listed_keys],
        unsettled=unsettled,
    )


def _whole(file_id: str, given: list[Record], at: datetime, *, hidden: bool = False) -> PageContent:
    keys = [f"{file_id}/{one['id']}" for one in given]
    listing = ListedKeys(f"{file_id}/", keys, at, hidden=hidden)
    return PageContent([{**one, "file_id": file_id} for one in given], listed_keys=[listing])


def _of_file(file_id: str, answer: Response) -> Telling:
    """The permissions of the first answer and of the pages after it. Who may only see the file may
    not see these, and none are shown of a file that is gone."""
    sent_at, given = answer.sent_at, []
    while True:
        if is_away(TITLE, answer):
            return _whole(file_id, [], sent_at, hidden=answer.status == 403)
        given += rows_of(answer, "permissions")
        if not answer.json.get("nextPageToken"):
            return _whole(file_id, given, sent_at)
        answer = yield from ask(_permissions(file_id, answer.json["nextPageToken"]))


def fetch_permissions(keys: Sequence[str], context: Context) -> Reader:
    """The permissions of these keys; of a key that ends with its slash, all that the file has."""
    wanted: dict[str, set[str]] = {}
    for key in keys:
        wanted.setdefault(key.partition("/")[0], set()).add(key)
    params = {"supportsAllDrives": True, "fields": PERMITTED}
    for file_id, asked in wanted.items():
        path = f"/files/{quote(file_id, safe='')}"
        response = yield from ask(Request.get(path, params=params, cost=GET, expect=AWAY))
        if is_away(TITLE, response):
            content = _whole(file_id, [], response.sent_at, hidden=response.status == 403)
        elif response.json["trashed"]:
            content = _whole(file_id, [], response.sent_at)
        else:
            content = yield from list_permissions([response.json], response)
        found = [one for one in content.records if {permission_key(one), f"{file_id}/"} & asked]
        yield Page(found, Checkpoint(), listed_keys=content.listed_keys)


def permission_key(permission: Record) -> str:
    return f"{permission['file_id']}/{permission['id']}"


def _permissions(file_id: str, page: str | None) -> Request:
    params: dict[str, Any] = {
        "pageSize": 100,
        "supportsAllDrives": True,
        "fields": f"nextPageToken,permissions({PERMISSION})",
    }
    if page:
        params["pageToken"] = page
    path = f"/files/{quote(file_id, safe='')}/permissions"
    return Request.get(path, params=params, cost=LIST, expect=AWAY)


def change_permissions(
    changes: list[Record], response: Response, followed: Collection[str]
) -> Telling:
    """Those of each file that changed, anew; with a file go its permissions."""
    of_files = [change for change in changes if change["changeType"] == "file"]
    files = [change["file"] for change in of_files if not is_gone(change, followed)]
    content = yield from list_permissions(files, response)
    gone = [
        ListedKeys(f"{change['fileId']}/", (), response.sent_at)
        for change in of_files
        if is_gone(change, followed)
    ]
    return replace(content, listed_keys=[*content.listed_keys, *gone])


def shared_drives(at: Checkpoint, context: Context) -> Reader:
    """All shared drives that the person is a member of."""
    page = AtPage.of(at).page
    resumed = page is not None
    while True:
        fields = f"nextPageToken,drives({DRIVE})"
        response = yield from ask_page(drives_page(fields, page), resumed=resumed)
        rows = shown_drives(response)
        page, resumed = response.json.get("nextPageToken") or None, False
        yield Page(rows, AtPage(page).saved())
        if not page:
            return


def change_key(change: Record) -> str:
    kind = change["changeType"]
    return f"{kind}/{change['fileId' if kind == 'file' else 'driveId']}"
