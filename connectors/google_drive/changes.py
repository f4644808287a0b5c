"""Reads what is in a person's Google Drive and in the shared drives, each by a log of its own.

https://developers.google.com/workspace/drive/api/guides/about-changes
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ListedKeys,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Reader,
    Reading,
    Record,
    Request,
    Response,
    Steps,
    Stream,
    ask,
)
from connectors._google import SCOPE_REASONS, reasons, refuse, renewed
from connectors.kernel.paging import LAPSED, Read, rows_of
from connectors.kernel.parts import Parts, Round, each_part
from connectors.kernel.positions import Position

TITLE = "Google Drive"
# The corpus of a person's own log; the others go by the id of their shared drive.
USER = "user"
FOLDER = "application/vnd.google-apps.folder"
# Where a page is too large for Google, it is asked for in pages of so many.
SMALL = 100
# Quota units that a call costs: one that lists, and one that reads a single thing (2026-05-01).
LIST, GET = 100, 5
FOUND_EVERYWHERE = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
DRIVE = "kind,id,name,colorRgb,themeId,createdTime,hidden,restrictions"


@dataclass(frozen=True)
class PageContent:
    """What a page says, once all that it takes was asked for."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    listed_keys: Sequence[ListedKeys] = ()
    unsettled: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a corpus stands: at the `token` of its log; in a listing at the log's `start`, and a
    page. `again` it was listed before, when that was is `listed`, and it is `stale` once a folder
    in it changed."""

    token: str = ""
    start: str = ""
    page: str | None = None
    again: bool = False
    listed: str | None = None
    stale: bool = False


Telling: TypeAlias = Steps[PageContent]
# Reads a page of a log, knowing which corpora are followed.
Change: TypeAlias = Callable[[list[Record], Response, Collection[str]], Telling]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is read of each corpus. `listed` reads a page of files, where there is a first listing,
    `changed` one of changes. With `inherits` a shared drive is listed again when it changed, and
    once a day when a folder in it did."""

    file: str
    page: int
    changed: Change
    listed: Callable[[list[Record], Response], Telling] | None = None
    inherits: bool = False


def of_corpora(name: str, kind: Kind, columns: Mapping[str, Column], **options: Any) -> Stream:
    """A stream of what is in corpora, with a change token for each of these.

    Where a corpus has no token yet, its log's position is taken first, and then it is listed.
    Shared drives come before the person's own: what that log tells of a file in one of them is
    never older than the position in the drive's own.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        at = renewed(at)
        saved = Round.of(at)
        known = list(saved.parts)
        corpora = Corpora(known, {*known, *saved.todo})

        def listing(context: Context) -> Calls[Parts]:
            if kind.listed is None:
                return Parts([USER])
            drives = yield from drive_ids()
            # Without leave to ask, those that are known are followed, and others not found.
            present = [one for one in known if one != USER] if drives is None else drives
            if lost := {*known} - {*present, USER}:
                # Which files were in it, nobody tells.
                raise CheckpointExpiredError(f"{len(lost)} shared drives are no longer shown")
            corpora.followed |= {*present, USER}
            return Parts([*present, USER])

        yield from each_part(listing, lambda corpus: _corpus(kind, corpus, corpora))(at, context)

    return Stream(name=name, read=read, columns=columns, **options)


@dataclass
class Corpora:
    """The corpora that were read before, and those that are followed now."""

    known: Collection[str]
    followed: set[str]


def _corpus(kind: Kind, corpus: str, corpora: Corpora) -> Read:
    """Reads a corpus: what changed since its token, or all of it."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        if here.token:
            here = yield from _changes(kind, corpus, here, corpora.followed, context.now)
        elif not here.start:
            here = Place(start=(yield from start_of(corpus)), again=bool(corpora.known))
        if here.token:
            return
        if kind.listed is None:
            yield Page((), Place(token=here.start).saved())
            return
        yield from _listing(kind, corpus, here, context.now)

    return read


def start_of(corpus: str) -> Calls[str]:
    """Where the log of a corpus stands."""
    response = yield from ask(log_request("/changes/startPageToken", corpus, cost=GET))
    check_shown(corpus, response)
    return str(response.json["startPageToken"])


def check_shown(corpus: str, response: Response) -> None:
    if response.status == 404:
        raise NotAllowedError(f"{TITLE} lists a shared drive, and does not show what is in it")


def drive_ids() -> Calls[list[str] | None]:
    """The shared drives that there are; None where it was not allowed to ask."""
    ids: list[str] = []
    page: str | None = None
    while True:
        response = yield from ask(drives_page("nextPageToken,drives(id)", page))
        if response.status == 403 and reasons(response) & SCOPE_REASONS:
            return None
        ids += [drive["id"] for drive in shown_drives(response)]
        page = response.json.get("nextPageToken")
        if not page:
            return ids


def drives_page(fields: str, page: str | None) -> Request:
    params: dict[str, str | int] = {"pageSize": 100, "fields": fields}
    if page:
        params["pageToken"] = page
    return Request.get("/drives", params=params, cost=LIST, expect=(403,))


def shown_drives(response: Response) -> list[Record]:
    if response.status == 403:
        refuse(TITLE, response, without="shared drives")
    return rows_of(response, "drives")


def _listing(kind: Kind, corpus: str, here: Place, now: datetime) -> Reader:
    """All that is in a corpus. Its token was taken before: what happens meanwhile is in the log
    after it."""
    assert kind.listed is not None  # noqa: S101 - a log alone is not listed
    size, resumed = kind.page, here.page is not None
    while True:
        try:
            response = yield from ask(_files(kind, corpus, here.page, size, resumed=resumed))
        except ProviderUnavailableError:
            # Some pages are too large for Google, at each try (prasmussen/gdrive#105, 2016-02).
            if size <= SMALL:
                raise
            size = SMALL
            continue
        if resumed and response.status in LAPSED:  # a page token lives for some hours
            here, resumed = replace(here, page=None), False
            continue
        check_shown(corpus, response)
        if response.json.get("incompleteSearch"):
            raise ProviderUnavailableError("Google Drive did not search all that it was asked to")
        content = yield from kind.listed(rows_of(response, "files"), response)
        here, resumed = replace(here, page=response.json.get("nextPageToken")), False
        saved = here if here.page else _done(kind, corpus, here.start, now)
        listed_keys = content.listed_keys if here.again else ()
        yield Page(content.records, saved.saved(), listed_keys=listed_keys)
        if not here.page:
            return


def _done(kind: Kind, corpus: str, token: str, now: datetime) -> Place:
    is_inherited = kind.inherits and corpus != USER
    return Place(token=token, listed=now.isoformat() if is_inherited else None)


def _files(kind: Kind, corpus: str, page: str | None, size: int, *, resumed: bool) -> Request:
    params: dict[str, Any] = {
        "pageSize": size,
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
    expect = (*(LAPSED if resumed else ()), *(() if corpus == USER else (404,)))
    return Request.get("/files", params=params, cost=LIST, expect=expect)


def _changes(
    kind: Kind, corpus: str, here: Place, followed: Collection[str], now: datetime
) -> Reading[Place]:
    """What changed in a corpus; from where it goes on. A page's token is as good as that of the
    end. Who joins a shared drive, or a folder in one, may see what is in it, and no log says so of
    each file: it is listed again, from the `start` that is given back."""
    stale, joined, listed = here.stale, False, here.listed
    while True:
        response = yield from ask(_change_page(kind, corpus, here.token))
        if response.status in LAPSED:
            # They do not expire. What the log said in between is gone.
            start = yield from start_of(corpus)
            if kind.listed is not None:
                raise CheckpointExpiredError("Google Drive no longer knows where we stood in a log")
            return Place(start=start)
        rows = rows_of(response, "changes")
        content = yield from kind.changed(rows, response, followed)
        if kind.inherits and corpus != USER:
            joined = joined or any(_is_of(row, corpus) for row in rows)
            stale = stale or any(_is_folder(row) for row in rows)
        ended = "newStartPageToken" in response.json
        token = response.json["newStartPageToken" if ended else "nextPageToken"]
        if ended and (joined or (stale and _is_due(listed, now))):
            here = Place(start=token, again=True)
        else:
            here = Place(token=token, listed=listed, stale=stale or joined)
        yield Page(
            content.records,
            here.saved(),
            deleted=content.deleted,
            listed_keys=content.listed_keys,
            unsettled=content.unsettled,
        )
        if ended:
            return here


def _is_due(listed: str | None, now: datetime) -> bool:
    return listed is None or now - datetime.fromisoformat(listed) >= timedelta(days=1)


def _change_page(kind: Kind, corpus: str, token: str) -> Request:
    return log_request(
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
        expect=LAPSED,
        cost=LIST,
    )


def _is_of(change: Record, corpus: str) -> bool:
    """Whether a change is of the shared drive itself that this is the log of."""
    return change["changeType"] == "drive" and change.get("driveId") == corpus


def _is_folder(change: Record) -> bool:
    return (change.get("file") or {}).get("mimeType") == FOLDER


def log_request(
    path: str, corpus: str, *, cost: int, expect: tuple[int, ...] | None = None, **params: Any
) -> Request:
    """A request for the log of a corpus."""
    whose = {} if corpus == USER else {"driveId": corpus}
    if expect is None:
        expect = () if corpus == USER else (404,)
    return Request.get(
        path, params={"supportsAllDrives": True, **whose, **params}, cost=cost, expect=expect
    )
