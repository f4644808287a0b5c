"""Google Drive: files, who may see them, shared drives, and the logs of changes (API v3).

Google keeps one log for a person and one for each shared drive, and only all of them together tell
of everything. Of one thing they do not tell: when a folder in a shared drive is shared, or is no
longer, what is in it has other permissions, too; only a full read finds these.

https://developers.google.com/workspace/drive/api/guides/about-changes
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Account,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Connector,
    Context,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimit,
    Reader,
    Record,
    Refused,
    Request,
    Response,
    Stream,
    SyncType,
    Wanted,
    Watch,
    Whole,
    column,
)
from connectors._google import AWAY, SCOPE, auth, classify, is_away, refuse
from connectors._google_channels import LIFETIME, channel_webhook, open_channel, stop_channel
from connectors._paging import LAPSED, onward, rows_of
from connectors._versions import integer
from connectors._webhooks import Watching

TITLE = "Google Drive"
# The corpus of a person's own log; the others go by the id of their shared drive.
USER = "user"
STREAMS = ("files", "changes", "shared_drives", "permissions")
# Of files whose permissions are read, each of which may take a call of its own.
DETAILED = 100
FOUND_EVERYWHERE = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}

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
DRIVE = "kind,id,name,colorRgb,themeId,createdTime,hidden,restrictions"
PERMISSION = (
    "kind,id,type,role,emailAddress,domain,displayName,allowFileDiscovery,expirationTime,deleted,"
    "pendingOwner,view,permissionDetails"
)


@dataclass(frozen=True)
class Told:
    """What a page says, once all that it takes was asked for."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    whole: Sequence[Whole] = ()


Telling: TypeAlias = Generator[Any, Any, Told]
# Reads a page of a log, knowing which corpora are followed.
Change: TypeAlias = Callable[[list[Record], Response, Collection[str]], Telling]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is read of each corpus. `listed` reads a page of files, where there is a first listing,
    `changed` one of changes. With `inherits` a shared drive is listed again when it changed."""

    file: str
    page: int
    changed: Change
    listed: Callable[[list[Record], Response], Telling] | None = None
    inherits: bool = False


def of_corpora(name: str, kind: Kind, columns: Mapping[str, Column], **options: Any) -> Stream:
    """A stream of what is in corpora, with a change token for each of these.

    The checkpoint holds the tokens and, within a round, which corpora it has yet to come to: those
    in `starts` are to be listed, and those in `again` may be known in part already.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        if "pending" not in at:
            at = yield from _round(kind, at.get("tokens", {}))
            yield Page((), at)
        while at.get("pending"):
            following = _changes if at["pending"][0] in at["tokens"] else _listing
            at = yield from following(kind, at)

    return Stream(name=name, read=read, columns=columns, **options)


def _round(kind: Kind, known: Mapping[str, str]) -> Generator[Request, Response, Checkpoint]:
    """The corpora there are now; where no file is listed it is the person's own log only.

    Where each new one stands is asked before anything else is read. A file may be seen in the
    person's own log first, and whatever becomes of it then has to be in the log that it is in.
    """
    corpora = [USER]
    if kind.listed is not None:
        drives = yield from _drive_ids()
        # Without leave to ask, those that are known are followed, and others not found.
        corpora += [one for one in known if one != USER] if drives is None else drives
    tokens = {corpus: known[corpus] for corpus in corpora if corpus in known}
    if len(tokens) < len(known):
        # Which files were in it, nobody tells.
        raise CheckpointExpiredError("a shared drive is no longer this person's to see")
    starts: dict[str, str] = {}
    for corpus in corpora:
        if corpus not in tokens and (start := (yield from _start(corpus))) is not None:
            starts[corpus] = start
    pending = [corpus for corpus in corpora if corpus in tokens or corpus in starts]
    return _position(tokens, pending, starts, list(starts) if known else [])


def _start(corpus: str) -> Generator[Request, Response, str | None]:
    """Where the log of a corpus stands; None of a shared drive that was left in this moment."""
    expect = () if corpus == USER else AWAY
    response = yield _log("/changes/startPageToken", corpus, expect=expect)
    return None if is_away(TITLE, response) else str(response.json["startPageToken"])


def _drive_ids() -> Generator[Request, Response, list[str] | None]:
    """The shared drives that there are; None where it was not allowed to ask."""
    ids: list[str] = []
    page: str | None = None
    while True:
        response = yield _drives("nextPageToken,drives(id)", page)
        try:
            ids += [drive["id"] for drive in _shown_drives(response)]
        except NotAllowedError:
            return None
        if "nextPageToken" not in response.json:
            return ids
        page = onward(page, response.json["nextPageToken"])


def _drives(fields: str, page: str | None) -> Request:
    params: dict[str, str | int] = {"pageSize": 100, "fields": fields}
    if page:
        params["pageToken"] = page
    return Request.get("/drives", params=params, expect=(403,))


def _shown_drives(response: Response) -> list[Record]:
    if response.status == 403:
        refuse(TITLE, response, without="shared drives")
    return rows_of(response, "drives")


def _listing(kind: Kind, at: Checkpoint) -> Generator[Any, Any, Checkpoint]:
    """All that is in the corpus that is next. Its token was taken before: what happens meanwhile is
    in the log after it."""
    corpus, *rest = at["pending"]
    starts, again = at["starts"], at["again"]
    done = _position(
        {**at["tokens"], corpus: starts[corpus]},
        rest,
        {one: start for one, start in starts.items() if one != corpus},
        [one for one in again if one != corpus],
    )
    if kind.listed is None:
        yield Page((), done)
        return done
    page = at.get("page")
    resumed = page is not None
    while True:
        response = yield _files(kind, corpus, page, resumed=resumed)
        if resumed and response.status in LAPSED:  # a page token lives for some hours
            page, resumed = None, False
            continue
        if is_away(TITLE, response):
            raise CheckpointExpiredError("a shared drive was left while it was read")
        if response.json.get("incompleteSearch"):
            raise ProviderUnavailableError("Google Drive did not search all that it was asked to")
        told = yield from kind.listed(rows_of(response, "files"), response)
        following = response.json.get("nextPageToken")
        page, resumed = (onward(page, following) if following else None), False
        here = _position(at["tokens"], at["pending"], starts, again, page=page) if page else done
        yield Page(told.records, here, whole=told.whole if corpus in again else ())
        if page is None:
            return done


def _files(kind: Kind, corpus: str, page: str | None, *, resumed: bool) -> Request:
    params: dict[str, Any] = {
        "pageSize": kind.page,
        "q": "trashed=false",
        "fields": f"nextPageToken,incompleteSearch,files({kind.file})",
        # Asked for one by one: of all together it may say that it did not search them all.
        "corpora": USER if corpus == USER else "drive",
        **FOUND_EVERYWHERE,
    }
    if corpus != USER:
        params["driveId"] = corpus
    if page:
        params["pageToken"] = page
    expect = (*(LAPSED if resumed else ()), *(() if corpus == USER else AWAY))
    return Request.get("/files", params=params, expect=expect)


def _changes(kind: Kind, at: Checkpoint) -> Generator[Any, Any, Checkpoint]:
    """What changed in the corpus that is next. A page's token is as good as that of the end."""
    corpus, *rest = at["pending"]
    others = {one: token for one, token in at["tokens"].items() if one != corpus}
    token, starts, again = at["tokens"][corpus], at["starts"], at["again"]
    while True:
        response = yield _change_page(kind, corpus, token)
        if response.status in LAPSED or is_away(TITLE, response):
            # They do not expire. What the log told in between is gone.
            if kind.listed is not None:
                raise CheckpointExpiredError("Google Drive no longer knows where we stood in a log")
            here = _position({USER: (yield from _start(USER))}, rest, starts, again)
            yield Page((), here)
            return here
        rows = rows_of(response, "changes")
        told = yield from kind.changed(rows, response, {*at["tokens"], *starts})
        if kind.inherits and corpus not in again and any(_is_of(row, corpus) for row in rows):
            again = [*again, corpus]
        ended = "newStartPageToken" in response.json
        following = response.json["newStartPageToken" if ended else "nextPageToken"]
        if ended and corpus in again:
            # Who joins a shared drive may see each of its files, and no log says so of these.
            here = _position(others, at["pending"], {**starts, corpus: following}, again)
        elif ended:
            here = _position({**others, corpus: following}, rest, starts, again)
        else:
            token = onward(token, following)
            here = _position({**others, corpus: token}, at["pending"], starts, again)
        yield Page(told.records, here, deleted=told.deleted, whole=told.whole)
        if ended:
            return here


def _change_page(kind: Kind, corpus: str, token: str) -> Request:
    return _log(
        "/changes",
        corpus,
        pageToken=token,
        pageSize=kind.page,
        includeRemoved=True,
        # Whether a file that left this log, and is elsewhere to be seen, comes with its change.
        includeCorpusRemovals=kind.listed is not None,
        restrictToMyDrive=False,
        includeItemsFromAllDrives=True,
        fields="nextPageToken,newStartPageToken,changes(kind,changeType,time,removed,fileId,"
        f"driveId,type,file({kind.file}),drive({DRIVE}))",
        expect=LAPSED if corpus == USER else (*LAPSED, *AWAY),
    )


def _is_of(change: Record, corpus: str) -> bool:
    """Whether a change is of the shared drive itself that this is the log of."""
    return change["changeType"] == "drive" and change.get("driveId") == corpus


def _log(path: str, corpus: str, *, expect: tuple[int, ...], **params: Any) -> Request:
    """A request for the log of a corpus."""
    whose = {} if corpus == USER else {"driveId": corpus}
    return Request.get(path, params={"supportsAllDrives": True, **whose, **params}, expect=expect)


def _position(
    tokens: Mapping[str, str | None],
    pending: Sequence[str],
    starts: Mapping[str, str],
    again: Sequence[str],
    **more: Any,
) -> Checkpoint:
    if not pending:
        return Checkpoint(tokens=tokens)
    return Checkpoint(tokens=tokens, pending=pending, starts=starts, again=again, **more)


def _is_gone(change: Record, followed: Collection[str]) -> bool:
    """Deleted, no longer to be seen, or in the bin. A file that moved to where this person sees it
    as well is removed from one log only, and comes with the change; where that place is not
    followed yet, its own listing brings the file back."""
    file = change.get("file")
    if file is None or file["trashed"] is True:
        return True
    return change["removed"] is True and file.get("driveId", USER) not in followed


def list_files(files: list[Record], response: Response) -> Telling:
    yield from ()
    return Told(files)


def change_files(changes: list[Record], response: Response, followed: Collection[str]) -> Telling:
    yield from ()
    of_files = [change for change in changes if change["changeType"] == "file"]
    return Told(
        [change["file"] for change in of_files if not _is_gone(change, followed)],
        [change["fileId"] for change in of_files if _is_gone(change, followed)],
    )


def keep_changes(changes: list[Record], response: Response, followed: Collection[str]) -> Telling:
    yield from ()
    return Told(changes)


def list_permissions(files: list[Record], response: Response) -> Telling:
    """The permissions of these files: some come with their file, and others take a call."""
    missing = [file["id"] for file in files if "permissions" not in file]
    found = {
        file["id"]: (file["permissions"], response.sent_at)
        for file in files
        if "permissions" in file
    }
    if missing:
        answers = yield tuple(_permissions(file_id, None) for file_id in missing)
        for file_id, answer in zip(missing, answers, strict=True):
            sent_at = answer.sent_at
            found[file_id] = (yield from _all_permissions(file_id, answer)), sent_at
    return Told(
        [{**one, "file_id": file_id} for file_id, (given, _) in found.items() for one in given],
        whole=[
            Whole(f"{file_id}/", [f"{file_id}/{one['id']}" for one in given], sent_at)
            for file_id, (given, sent_at) in found.items()
        ],
    )


def _all_permissions(file_id: str, answer: Response) -> Generator[Any, Any, list[Record]]:
    """Those of the first answer and of the pages after it; none where this person may not see
    them, or the file is gone."""
    if is_away(TITLE, answer):
        return []
    given = rows_of(answer, "permissions")
    page: str | None = None
    while following := answer.json.get("nextPageToken"):
        page = onward(page, following)
        answer = yield _permissions(file_id, page)
        if is_away(TITLE, answer):
            return []
        given += rows_of(answer, "permissions")
    return given


def _permissions(file_id: str, page: str | None) -> Request:
    params: dict[str, Any] = {
        "pageSize": 100,
        "supportsAllDrives": True,
        "fields": f"nextPageToken,permissions({PERMISSION})",
    }
    if page:
        params["pageToken"] = page
    return Request.get(f"/files/{quote(file_id, safe='')}/permissions", params=params, expect=AWAY)


def change_permissions(
    changes: list[Record], response: Response, followed: Collection[str]
) -> Telling:
    """Those of each file that changed, anew; with a file go its permissions."""
    of_files = [change for change in changes if change["changeType"] == "file"]
    files = [change["file"] for change in of_files if not _is_gone(change, followed)]
    told = yield from list_permissions(files, response)
    gone = [
        Whole(f"{change['fileId']}/", (), response.sent_at)
        for change in of_files
        if _is_gone(change, followed)
    ]
    return Told(told.records, whole=[*told.whole, *gone])


def shared_drives(at: Checkpoint, context: Context) -> Reader:
    """All shared drives that the person is a member of."""
    page: str | None = at.get("page")
    while True:
        response = yield _drives(f"nextPageToken,drives({DRIVE})", page)
        rows = _shown_drives(response)
        if "nextPageToken" not in response.json:
            yield Page(rows, Checkpoint())
            return
        page = onward(page, response.json["nextPageToken"])
        yield Page(rows, Checkpoint(page=page))


def _change_key(change: Record) -> str:
    kind = change["changeType"]
    return f"{kind}/{change['fileId' if kind == 'file' else 'driveId']}"


def resources(context: Context) -> Generator[Request, Response, Sequence[str]]:
    """The logs: each has a channel of its own."""
    drives = yield from _drive_ids()
    return [USER, *(drives or ())]


def watch(wanted: Wanted) -> Watching:
    """A channel on a log, from now on."""
    corpus = wanted.resource
    expect = () if corpus == USER else AWAY
    response = yield _log("/changes/startPageToken", corpus, expect=expect)
    if is_away(TITLE, response):
        return Refused("this shared drive is no longer this person's to see")
    asked = _log(
        "/changes/watch",
        corpus,
        expect=(),
        pageToken=response.json["startPageToken"],
        includeRemoved=True,
        includeItemsFromAllDrives=True,
    )
    return (yield from open_channel(TITLE, asked.path, wanted, params=asked.params))


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The person, by their address: it is the account's at all of Google's integrations."""
    user = (yield Request.get("/about", params={"fields": "user"})).json["user"]
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
        # What a project has unless the operator asks for more is 12,000 twice; Google publishes no
        # figures, and says 403 or 429 where they are others (2026-11). Who consents is asked for
        # before there is an account to count that for: some are left for it.
        RateLimit(11_900, per=timedelta(minutes=1)),
        RateLimit(11_900, per=timedelta(minutes=1), scope="app"),
    ),
    follows="a log of changes for the person and one for each shared drive",
    judged_by=("google-api-python-client",),
    gaps=(
        "When a folder in a shared drive is shared, or is no longer, no log tells of what is in "
        "it: those permissions are right again with the next full read.",
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
            {
                "name": column("name"),
                "mime_type": column("mimeType"),
                "description": column("description"),
                "parents": column("parents", "jsonb"),
                "drive_id": column("driveId"),
                "owners": column("owners", "jsonb"),
                "is_owned_by_me": column("ownedByMe", "boolean"),
                "is_starred": column("starred", "boolean"),
                "size_bytes": column("size", "bigint"),
                "md5_checksum": column("md5Checksum"),
                "web_view_link": column("webViewLink"),
                "last_modifying_user_email": column("lastModifyingUser.emailAddress"),
                "created_at": column("createdTime", "timestamptz"),
                "modified_at": column("modifiedTime", "timestamptz"),
                "shared_with_me_at": column("sharedWithMeTime", "timestamptz"),
            },
            version=integer("version"),
        ),
        of_corpora(
            "changes",
            Kind(file=FILE, page=1000, changed=keep_changes),
            {
                "change_type": column("changeType"),
                "changed_at": column("time", "timestamptz"),
                "is_removed": column("removed", "boolean"),
                "file_id": column("fileId"),
                "drive_id": column("driveId"),
                "file_name": column("file.name"),
            },
            key=_change_key,
            append_only=True,
        ),
        Stream(
            name="shared_drives",
            title="Shared drives",
            read=shared_drives,
            snapshot=True,
            columns={
                "name": column("name"),
                "is_hidden": column("hidden", "boolean"),
                "restrictions": column("restrictions", "jsonb"),
                "created_at": column("createdTime", "timestamptz"),
            },
        ),
        of_corpora(
            "permissions",
            Kind(
                file=f"id,driveId,trashed,permissions({PERMISSION})",
                page=DETAILED,
                listed=list_permissions,
                changed=change_permissions,
                inherits=True,
            ),
            {
                "file_id": column("file_id"),
                "type": column("type"),
                "role": column("role"),
                "email_address": column("emailAddress"),
                "domain": column("domain"),
                "display_name": column("displayName"),
                "expires_at": column("expirationTime", "timestamptz"),
            },
            key=lambda permission: f"{permission['file_id']}/{permission['id']}",
        ),
    ),
)
