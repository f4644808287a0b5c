"""Google Drive: files, who may see them, shared drives, and the logs of changes (API v3).

Google keeps one log for a person and one for each shared drive, and only all of them together tell
of everything. Of one thing they do not tell: when a folder in a shared drive is shared, or is no
longer, what is in it has other permissions, too; only a full read finds these.

https://developers.google.com/workspace/drive/api/guides/about-changes
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Calls,
    Checkpoint,
    Connector,
    Context,
    ListedKeys,
    NoWatch,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Watch,
    WatchRequest,
    ask,
    columns,
)
from connectors._google import AWAY, SCOPE, auth, classify, is_away
from connectors._google.channels import LIFETIME, channel_webhook, open_channel, stop_channel
from connectors.google_drive.changes import (
    DRIVE,
    GET,
    LIST,
    TITLE,
    USER,
    Kind,
    PageContent,
    Telling,
    drive_ids,
    drives_page,
    log_request,
    of_corpora,
    shown_drives,
)
from connectors.kernel.paging import ask_page, rows_of
from connectors.kernel.parts import ask_each
from connectors.kernel.positions import AtPage
from connectors.kernel.versions import integer
from connectors.kernel.webhooks import WatchSteps

STREAMS = ("files", "changes", "shared_drives", "permissions")
# Of files whose permissions are read, each of which may take a call of its own.
DETAILED = 100

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
        found = [one for one in content.records if {_permission_key(one), f"{file_id}/"} & asked]
        yield Page(found, Checkpoint(), listed_keys=content.listed_keys)


def _permission_key(permission: Record) -> str:
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
        page, resumed = response.json.get("nextPageToken"), False
        yield Page(rows, AtPage(page).saved())
        if not page:
            return


def _change_key(change: Record) -> str:
    kind = change["changeType"]
    return f"{kind}/{change['fileId' if kind == 'file' else 'driveId']}"


def resources(context: Context) -> Calls[Sequence[str]]:
    """The logs: each has a channel of its own."""
    drives = yield from drive_ids()
    return [USER, *(drives or ())]


def watch(wanted: WatchRequest) -> WatchSteps:
    """A channel on a log, from now on."""
    corpus = wanted.resource
    expect = () if corpus == USER else AWAY
    response = yield from ask(
        log_request("/changes/startPageToken", corpus, cost=GET, expect=expect)
    )
    if is_away(TITLE, response):
        return NoWatch("this shared drive is no longer this person's to see")
    asked = log_request(
        "/changes/watch",
        corpus,
        cost=GET,
        expect=(),
        pageToken=response.json["startPageToken"],
        includeRemoved=True,
        includeItemsFromAllDrives=True,
    )
    return (yield from open_channel(TITLE, asked.path, wanted, params=asked.params))


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The person, by their address: it is the account's at all of Google's integrations."""
    user = (yield from ask(Request.get("/about", params={"fields": "user"}, cost=GET))).json["user"]
    return (Account(user["emailAddress"].lower(), name=user["emailAddress"]),)


connector = Connector(
    name="google_drive",
    title=TITLE,
    sync_type=SyncType.HYBRID,
    base_url="https://www.googleapis.com/drive/v3",
    auth=auth(
        {
            f"{SCOPE}drive.metadata.readonly": "the streams files, permissions and changes",
            f"{SCOPE}drive.readonly": "the stream shared_drives, and to find what is in them: to "
            "list shared drives Google wants this one, though no content is read; the rest goes "
            "on without it",
        }
    ),
    rate_limits=(
        # In quota units, of a project made since 2026-05-01: 325,000 and 1,000,000 (Google's page
        # "Usage limits", 2026-11). Who consents is asked for before there is an account to count
        # that for: some are left for it.
        RateLimit(324_000, per=timedelta(minutes=1)),
        RateLimit(990_000, per=timedelta(minutes=1), scope="app"),
    ),
    sync_method="a log of changes for the person and one for each shared drive",
    referees=("google-api-python-client",),
    limitations=(
        "When a folder in a shared drive is shared, or is no longer, no log tells of what is in "
        "it: all permissions in that drive are read again within a day.",
        "Google tells of a file that is deleted and of one that is no longer shared in the same "
        "way, and sometimes not at all: both count as deleted, and an audit finds the latter.",
        "The stream changes is the person's own log; of what is in shared drives it holds what "
        "Google shows there.",
    ),
    identify=identify,
    classify=classify(TITLE),
    webhook=channel_webhook(streams=lambda address: STREAMS, covers=STREAMS),
    watch=Watch(
        resources=resources,
        create=watch,
        delete=stop_channel,
        streams=lambda resource: STREAMS,
        lifetime=LIFETIME,
    ),
    concurrency=8,
    streams=(
        of_corpora(
            "files",
            Kind(file=FILE, page=1000, listed=list_files, changed=change_files),
            columns(
                "name mime_type=mimeType description parents:jsonb drive_id=driveId owners:jsonb "
                "is_owned_by_me=ownedByMe:boolean is_starred=starred:boolean "
                "size_bytes=size:bigint md5_checksum=md5Checksum web_view_link=webViewLink "
                "last_modifying_user_email=lastModifyingUser.emailAddress "
                "created_at=createdTime:timestamptz modified_at=modifiedTime:timestamptz "
                "shared_with_me_at=sharedWithMeTime:timestamptz"
            ),
            version=integer("version"),
            hides_deletes=True,
        ),
        of_corpora(
            "changes",
            Kind(file=FILE, page=1000, changed=keep_changes),
            columns(
                "change_type=changeType changed_at=time:timestamptz is_removed=removed:boolean "
                "file_id=fileId drive_id=driveId file_name=file.name"
            ),
            key=_change_key,
            append_only=True,
            from_now_on=True,
        ),
        Stream(
            name="shared_drives",
            title="Shared drives",
            read=shared_drives,
            snapshot=True,
            columns=columns(
                "name is_hidden=hidden:boolean restrictions:jsonb "
                "created_at=createdTime:timestamptz"
            ),
        ),
        of_corpora(
            "permissions",
            Kind(
                file=PERMITTED,
                page=DETAILED,
                listed=list_permissions,
                changed=change_permissions,
                inherits=True,
            ),
            columns(
                "file_id type role email_address=emailAddress domain display_name=displayName "
                "expires_at=expirationTime:timestamptz"
            ),
            key=_permission_key,
            fetch=fetch_permissions,
        ),
    ),
)
