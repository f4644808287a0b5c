"""How Outlook's folders, letters, attachments, events and contacts are read.

https://learn.microsoft.com/graph/delta-query-messages
https://learn.microsoft.com/graph/delta-query-events
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    ListedKeys,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    Unread,
    ask,
    ask_all,
)
from connectors._microsoft import NEXT, code_of
from connectors._microsoft.deltas import PageContext, Place, Settle, by_id, delta_stream, each_by_id
from connectors._microsoft.watches import iso
from connectors.kernel.paging import Read, mapped, rows_of
from connectors.kernel.parts import Parts, Round, ask_each, each_part
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time

# Ids that stay when an item is moved. A link does not hold it: it goes with every request, and
# with those for watches, whose notifications name ids too.
IMMUTABLE = 'IdType="ImmutableId"'
_SAME_IDS = {"prefer": IMMUTABLE}
FOLDERS, MESSAGES, EVENTS, CONTACTS = (
    "/me/mailFolders",
    "/me/messages",
    "/me/events",
    "/me/contacts",
)
GONE = "erroritemnotfound"
# Whose messages are those of other folders.
SEARCH_FOLDER = "#microsoft.graph.mailSearchFolder"
LISTED = {
    "$select": "id,childFolderCount",
    "$top": 100,
    # Whether the delta of folders has nested and hidden ones is not documented (2026-11), so the
    # folders whose messages are read are found by going down through all of them.
    "includeHiddenFolders": "true",
}
OF_A_FOLDER = ("displayName", "parentFolderId", "isHidden")
# Of an attachment all but its content, which only a file has: that would be 3 MB and more.
ATTACHMENT = "id,name,contentType,size,isInline,lastModifiedDateTime"
MANY, LETTERS, FILED = 200, 50, 100
# Large pages of some mailboxes are answered 504 at every try (microsoft-graph-docs#5853, 2019-10),
# and one with a damaged letter 500 (#2913, 2018-07).
SMALLER = (10, 1)
# So many letters of a folder are asked for again whose attachments could not be had.
MOST_AGAIN = 50
# What only a whole row has. When a letter is marked as read, its folder's delta tells of it that
# mark, its id and its folder (microsoft-graph-docs#7776).
WHOLE_LETTER = ("subject", "receivedDateTime", "hasAttachments")
# The calendar from a year back to a year ahead; it is read anew when that is a month off.
BACK = AHEAD = timedelta(days=365)
MOVES_AFTER = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Waiting(Position):
    """Letters whose attachments could not be had, by their ids, why, and when that was `tried`."""

    again: Mapping[str, str] = field(default_factory=dict)
    tried: str = ""


@dataclass(frozen=True, kw_only=True)
class Window(Position):
    """When the window of the calendar was fixed, and whether a series in it may have lost an
    occurrence: see `_Diary`."""

    begun: str = ""
    series: bool = False


@dataclass(frozen=True, kw_only=True)
class _Links(Position):
    """Checkpoints as they were before each folder had one of its own."""

    links: Mapping[str, str] = field(default_factory=dict)


def paged(path: str, size: int, params: Mapping[str, Any] | None = None) -> Request:
    """The first request of a delta; the size of its pages is a preference, too."""
    prefer = f"{IMMUTABLE}, odata.maxpagesize={size}"
    return Request.get(path, params=params or {}, headers={"prefer": prefer})


def smaller(path: str, params: Mapping[str, Any] | None = None) -> tuple[Request, ...]:
    return tuple(paged(path, size, params) for size in SMALLER)


# -- Folders


def folders(context: Context) -> Steps[Parts]:
    """The ids of all folders that hold messages, nested and hidden ones too."""
    paths, found = [FOLDERS], list[str]()
    while paths:
        # Only what is inside of another may be gone by now.
        expect = () if paths == [FOLDERS] else (404,)
        answers = yield from ask_all(
            Request.get(path, params=LISTED, expect=expect) for path in paths
        )
        paths = []
        for answer in answers:
            rows = yield from _all(answer)
            for row in rows:
                if row.get("@odata.type") == SEARCH_FOLDER:
                    continue
                found.append(row["id"])
                if row["childFolderCount"]:
                    paths.append(f"{_folder(row['id'])}/childFolders")
    return Parts(found)


def _all(answer: Response) -> Calls[list[Record]]:
    """All rows of a listing that begins with that answer; none of one that is gone by now."""
    if answer.status == 404:
        if code_of(answer) != GONE:
            raise ContractError(f"Outlook has no such listing ({answer.status})")
        return []
    rows = rows_of(answer, "value")
    while following := answer.json.get(NEXT):
        answer = yield from ask(Request.get(following, headers=_SAME_IDS))
        rows += rows_of(answer, "value")
    return rows


def _folder(id_: str) -> str:
    return f"{FOLDERS}/{quote(id_, safe='')}"


def _settle_folders(page: Page, page_context: PageContext) -> Steps[Page]:
    yield from ()
    return _in_part(page, OF_A_FOLDER, page_context)


_folder_fields = {"$select": ",".join(OF_A_FOLDER)}
mail_folders = delta_stream(
    paged(f"{FOLDERS}/delta", MANY, _folder_fields),
    smaller=smaller(f"{FOLDERS}/delta", _folder_fields),
    settle=_settle_folders,
)
folders_by_id = each_by_id(
    FOLDERS,
    params=_folder_fields,
    headers=_SAME_IDS,
    shape=lambda _, row: {name: row[name] for name in ("id", *OF_A_FOLDER) if name in row},
)


def _in_part(page: Page, listed_keys: Sequence[str], page_context: PageContext) -> Page:
    """The page with its rows split: after the first listing, a row without these fields holds only
    what changed."""
    if page_context.listing:
        return page
    full = [row for row in page.records if all(name in row for name in listed_keys)]
    part = [row for row in page.records if not all(name in row for name in listed_keys)]
    return replace(page, records=full, partial=part)


# -- Messages


def in_folder(folder_id: str, row: Record) -> Record:
    return {**row, "folder_id": folder_id}


def message_key(record: Record) -> str:
    """A message in its folder. Of a moved message one folder's delta says that it is removed and
    the other's that it is new, in whichever order we read them: by its id alone, we might take it
    for deleted."""
    return f"{record['folder_id']}/{record['id']}"


def attachment_key(record: Record) -> str:
    return f"{record['folder_id']}/{record['message_id']}/{record['id']}"


def _split(key: str) -> tuple[str, str]:
    folder_id, _, id_ = key.partition("/")
    return folder_id, id_


def _if_there(folder_id: str, row: Record) -> Record | None:
    return in_folder(folder_id, row) if row.get("parentFolderId") == folder_id else None


def _of_folder(
    folder_id: str, size: int, settle: Settle, params: Mapping[str, Any] | None = None
) -> Read:
    """The delta of one folder's messages. Without a filter: one would cap it at 5,000 messages."""
    path = f"{_folder(folder_id)}/messages/delta"
    # A folder that went since it was listed is not found.
    request, *rest = (
        replace(one, expect=(404,)) for one in (paged(path, size, params), *smaller(path, params))
    )
    return delta_stream(
        request, smaller=rest, settle=settle, shape=lambda row: in_folder(folder_id, row)
    )


def _each_folder(read: Any) -> Read:
    """Reads all folders, each with a checkpoint of its own."""
    walk = each_part(folders, read, prefix=lambda folder_id: f"{folder_id}/")

    def walked(at: Checkpoint, context: Context) -> Reader:
        if links := _Links.of(at).links:
            at = Round(parts={id_: Place(link=link).saved() for id_, link in links.items()}).saved()
        return walk(at, context)

    return walked


def _still_there(
    folder_id: str, page: Page, fields: Mapping[str, Any] | None = None
) -> Steps[tuple[list[Record], list[str], list[str]]]:
    """Of messages that the delta reports as removed: those that are in the folder all the same, the
    ids of those that are not, and of those that could not be asked for.

    With immutable ids the delta reports a message that is moved out of a folder and back as
    removed, and does not report it again until it changes
    (microsoft-graph-docs-contrib#72, 2023-06).
    """
    answers = yield from by_id(MESSAGES, page.deleted, fields, _SAME_IDS)
    there, gone, unknown = [], [], []
    for id_, answer in zip(page.deleted, answers, strict=True):
        if isinstance(answer, Exception):
            unknown.append(id_)
        elif answer and (record := _if_there(folder_id, answer)):
            there.append(record)
        else:
            gone.append(id_)
    return there, gone, unknown


def _messages_of(folder_id: str) -> Read:
    def settle(page: Page, page_context: PageContext) -> Steps[Page]:
        there, gone, unknown = yield from _still_there(folder_id, page)
        page = _in_part(page, WHOLE_LETTER, page_context)
        return replace(
            page,
            records=[*page.records, *there],
            deleted=[f"{folder_id}/{id_}" for id_ in gone],
            unsettled=[f"{folder_id}/{id_}" for id_ in unknown],
        )

    return _of_folder(folder_id, LETTERS, settle)


messages = _each_folder(_messages_of)
messages_by_id = each_by_id(MESSAGES, split=_split, shape=_if_there, headers=_SAME_IDS)


def messages_listed(at: Checkpoint, context: Context) -> Reader:
    """The keys of all messages, by the plain listing of each folder."""
    found = yield from folders(context)
    for folder_id in found.present:
        path: str | None = f"{_folder(folder_id)}/messages"
        params: dict[str, Any] = {"$select": "id", "$top": 1000}
        while path:
            answer = yield from ask(
                Request.get(path, params=params, headers=_SAME_IDS, expect=(404,))
            )
            rows = [] if answer.status == 404 else rows_of(answer, "value")
            path, params = (answer.json.get(NEXT) if rows else None), {}
            yield Page([in_folder(folder_id, row) for row in rows], Checkpoint())
    yield Page((), Checkpoint())


# -- Attachments: of every message that says it has some, whenever the message changed

_FILED_FIELDS = {"$select": "id,hasAttachments,lastModifiedDateTime"}
_WHERE = {"$select": "id,hasAttachments,lastModifiedDateTime,parentFolderId"}


def _attachments_of(folder_id: str) -> Read:
    def settle(page: Page, page_context: PageContext) -> Steps[Page]:
        there, gone, unknown = yield from _still_there(folder_id, page, _WHERE)
        letters = [*page.records, *there]
        # A row that tells a part does not say whether there are any: they are asked for.
        ids = [row["id"] for row in letters if row.get("hasAttachments", True)] + unknown
        bare = [row["id"] for row in letters if not row.get("hasAttachments", True)]
        waiting = Waiting.of(page.checkpoint)
        again = {id_: text for id_, text in waiting.again.items() if id_ not in (*gone, *bare)}
        tried = waiting.tried
        if again and page_context.is_time_again(tried):
            ids += [id_ for id_ in again if id_ not in ids]
            tried = ""
        found, listed, failed = yield from _files_of(folder_id, ids)
        again = {id_: text for id_, text in again.items() if id_ not in ids} | failed
        listed_keys = [
            ListedKeys(f"{folder_id}/{id_}/", (), page_context.at) for id_ in (*gone, *bare)
        ]
        return Page(
            found, _noted(page, again, tried, page_context), listed_keys=[*listed_keys, *listed]
        )

    return _of_folder(folder_id, FILED, settle, _FILED_FIELDS)


def _files_of(
    folder_id: str, ids: Sequence[str]
) -> Steps[tuple[list[Record], list[ListedKeys], dict[str, str]]]:
    """The attachments of these messages, and why those of some could not be had."""
    answers = yield from ask_each([_files(id_) for id_ in ids])
    found, listed_keys, failed = list[Record](), list[ListedKeys](), dict[str, str]()
    for id_, answer in zip(ids, answers, strict=True):
        if isinstance(answer, Exception):
            failed[id_] = str(answer)
            continue
        rows = yield from _all(answer)
        records = [{**row, "folder_id": folder_id, "message_id": id_} for row in rows]
        keys = [attachment_key(record) for record in records]
        listed_keys.append(ListedKeys(f"{folder_id}/{id_}/", keys, answer.sent_at))
        found += records
    return found, listed_keys, failed


def _noted(
    page: Page, again: Mapping[str, str], tried: str, page_context: PageContext
) -> Checkpoint:
    """The checkpoint with the messages whose attachments are to be asked for again."""
    if not again:
        return Waiting().beside(page.checkpoint)
    most = dict(list(again.items())[-MOST_AGAIN:])
    waiting = Waiting(again=most, tried=tried or page_context.now.isoformat())
    return waiting.beside(page.checkpoint)


def _files(message_id: str) -> Request:
    path = f"{MESSAGES}/{quote(message_id, safe='')}/attachments"
    params = {"$select": ATTACHMENT, "$top": 100}
    return Request.get(path, params=params, headers=_SAME_IDS, expect=(404,))


_attachments = _each_folder(_attachments_of)


def attachments(at: Checkpoint, context: Context) -> Reader:
    """All folders' attachments; where a page lists what was not read, it also names the letters
    whose attachments we cannot get."""
    return mapped(_attachments(at, context), _with_unshown)


def _with_unshown(page: Page) -> Page:
    if page.unread is None:
        return page
    unshown = [
        Unread(f"{folder_id}/{id_}", ContractError(text))
        for folder_id, place in Round.of(page.checkpoint).parts.items()
        for id_, text in Waiting.of(place).again.items()
    ]
    unseen = [*page.unseen, *(f"{one.part}/" for one in unshown)]
    return replace(page, unread=[*page.unread, *unshown], unseen=unseen)


# -- Events


def events(at: Checkpoint, context: Context) -> Reader:
    """The calendar in a window that the first request fixes.

    Of an event outside of it a delta says that it is removed, whether it was moved there, changed
    or deleted: it is not in the window, and one that we never had is no error.
    """
    saved = Window.of(at)
    begun = parse_time(saved.begun) if saved.begun else context.now
    if context.now - begun > MOVES_AFTER:
        raise CheckpointExpiredError("the window of this calendar has to move on")
    # No $select, $filter or $orderby: this delta takes none of them.
    window = _window(begun)
    read = delta_stream(
        paged("/me/calendarView/delta", MANY, window),
        smaller=smaller("/me/calendarView/delta", window),
        settle=_Diary(window),
    )
    return read(replace(saved, begun=iso(begun)).beside(at), context)


def _window(begun: datetime) -> dict[str, str]:
    return {"startDateTime": iso(begun - BACK), "endDateTime": iso(begun + AHEAD)}


class _Diary:
    """What the delta of a calendar leaves out, found elsewhere.

    Of an occurrence it gives no more than its times (microsoft-graph-docs#7632, 2020-04): the rest
    is that of its series. When one is taken out of a series, the series and the occurrences that
    remain come again, and nothing says which one is missing (microsoft-graph-docs#4501, 2019-04):
    so the calendar is listed then, by ids.
    """

    def __init__(self, window: Mapping[str, str]) -> None:
        self._window = window
        self._series: dict[str, Record] = {}
        self._master_ids: set[str] = set()

    def __call__(self, page: Page, page_context: PageContext) -> Steps[Page]:
        masters = {row["id"]: row for row in page.records if row.get("type") == "seriesMaster"}
        self._series |= masters
        self._master_ids |= masters.keys()
        records = yield from self._filled(page.records)
        saved = Window.of(page.checkpoint)
        # A series that is gone says no more than its id, and nothing of what was taken out of it.
        if (masters or page.deleted) and not page_context.listing:
            saved = replace(saved, series=True)
        listed_keys: list[ListedKeys] = []
        if page_context.ended and saved.series:
            keys, at = yield from _listed(self._window)
            listed_keys = [ListedKeys("", keys | self._master_ids, at)]
            saved = replace(saved, series=False)
        checkpoint = saved.beside(page.checkpoint)
        return replace(page, records=records, checkpoint=checkpoint, listed_keys=listed_keys)

    def _filled(self, rows: Sequence[Record]) -> Steps[list[Record]]:
        bare = {_series_of(row) for row in rows} - {None, *self._series}
        wanted = sorted(id_ for id_ in bare if id_)
        found = yield from by_id(EVENTS, wanted, headers=_SAME_IDS)
        for id_, answer in zip(wanted, found, strict=True):
            # One that cannot be had by now leaves its occurrences with their times.
            self._series[id_] = answer if isinstance(answer, dict) else {}
        return [self._whole(row) for row in rows]

    def _whole(self, row: Record) -> Record:
        series = _series_of(row)
        if series is None or not self._series[series]:
            return row
        return {**self._series[series], **row, "recurrence": None}


def _series_of(row: Record) -> str | None:
    return row.get("seriesMasterId") if row.get("type") == "occurrence" else None


def _listed(window: Mapping[str, str]) -> Steps[tuple[set[str], datetime]]:
    """The ids of all events in a window, with those of their series, and when they were asked."""
    params = {**window, "$select": "id,type,seriesMasterId", "$top": 500}
    first = yield from ask(Request.get("/me/calendarView", params=params, headers=_SAME_IDS))
    rows = yield from _all(first)
    ids = {row["id"] for row in rows}
    return ids | {row["seriesMasterId"] for row in rows if row.get("seriesMasterId")}, first.sent_at


def events_listed(at: Checkpoint, context: Context) -> Reader:
    """The keys of the calendar, by its plain view."""
    keys, _ = yield from _listed(_window(context.now))
    yield Page([{"id": key} for key in sorted(keys)], Checkpoint())


events_by_id = each_by_id(EVENTS, shape=lambda _, row: row, headers=_SAME_IDS)


# -- Contacts


def _settle_contacts(page: Page, page_context: PageContext) -> Steps[Page]:
    """The delta reports a contact that is moved to another folder and back as removed, as it does
    with messages."""
    page = _in_part(page, ("displayName",), page_context)
    if not page.deleted:
        return page
    home = yield from _home_of_contacts()
    answers = yield from by_id(CONTACTS, page.deleted, headers=_SAME_IDS)
    there, gone, unknown = [], [], []
    for id_, answer in zip(page.deleted, answers, strict=True):
        if isinstance(answer, Exception):
            unknown.append(id_)
        elif answer and home and answer.get("parentFolderId") == home:
            there.append(answer)
        else:
            gone.append(id_)
    return replace(page, records=[*page.records, *there], deleted=gone, unsettled=unknown)


def _home_of_contacts() -> Steps[str | None]:
    """The folder whose contacts the delta is of; unknown where it has none."""
    params = {"$top": 1, "$select": "id,parentFolderId"}
    answer = yield from ask(Request.get(CONTACTS, params=params, headers=_SAME_IDS))
    return next((row.get("parentFolderId") for row in rows_of(answer, "value")), None)


contacts = delta_stream(
    paged(f"{CONTACTS}/delta", MANY), smaller=smaller(f"{CONTACTS}/delta"), settle=_settle_contacts
)
contacts_by_id = each_by_id(CONTACTS, shape=lambda _, row: row, headers=_SAME_IDS)
