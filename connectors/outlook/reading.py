"""How Outlook's folders, letters and contacts are read.

https://learn.microsoft.com/graph/delta-query-messages
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    Context,
    ContractError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
    ask_all,
)
from connectors._microsoft import NEXT, code_of
from connectors._microsoft.deltas import PageContext, Place, Settle, by_id, delta_stream, each_by_id
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.parts import Parts, Round, each_part
from connectors.kernel.positions import Position

# Ids that stay when an item is moved. A link does not hold it: it goes with every request, and
# with those for watches, whose notifications name ids too.
IMMUTABLE = 'IdType="ImmutableId"'
SAME_IDS = {"prefer": IMMUTABLE}
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
MANY, LETTERS, FILED = 200, 50, 100
# Large pages of some mailboxes are answered 504 at every try (microsoft-graph-docs#5853, 2019-10),
# and one with a damaged letter 500 (#2913, 2018-07).
SMALLER = (10, 1)
# What only a whole row has. When a letter is marked as read, its folder's delta tells of it that
# mark, its id and its folder (microsoft-graph-docs#7776).
WHOLE_LETTER = ("subject", "receivedDateTime", "hasAttachments")


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
            rows = yield from all_rows(answer)
            for row in rows:
                if row.get("@odata.type") == SEARCH_FOLDER:
                    continue
                found.append(row["id"])
                if row["childFolderCount"]:
                    paths.append(f"{_folder(row['id'])}/childFolders")
    return Parts(found)


def all_rows(answer: Response) -> Calls[list[Record]]:
    """All rows of a listing that begins with that answer; none of one that is gone by now."""
    if answer.status == 404:
        if code_of(answer) != GONE:
            raise ContractError(f"Outlook has no such listing ({answer.status})")
        return []
    rows = rows_of(answer, "value")
    while following := answer.json.get(NEXT):
        answer = yield from ask(Request.get(following, headers=SAME_IDS))
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
    headers=SAME_IDS,
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


def _split(key: str) -> tuple[str, str]:
    folder_id, _, id_ = key.partition("/")
    return folder_id, id_


def _if_there(folder_id: str, row: Record) -> Record | None:
    return in_folder(folder_id, row) if row.get("parentFolderId") == folder_id else None


def of_folder(
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


def each_folder(read: Callable[[str], Read]) -> Read:
    """Reads all folders, each with a checkpoint of its own."""
    walk = each_part(folders, read, prefix=lambda folder_id: f"{folder_id}/")

    def walked(at: Checkpoint, context: Context) -> Reader:
        if links := _Links.of(at).links:
            at = Round(parts={id_: Place(link=link).saved() for id_, link in links.items()}).saved()
        return walk(at, context)

    return walked


def still_there(
    folder_id: str, page: Page, fields: Mapping[str, Any] | None = None
) -> Steps[tuple[list[Record], list[str], list[str]]]:
    """Of messages that the delta reports as removed: those that are in the folder all the same, the
    ids of those that are not, and of those that could not be asked for.

    With immutable ids the delta reports a message that is moved out of a folder and back as
    removed, and does not report it again until it changes
    (microsoft-graph-docs-contrib#72, 2023-06).
    """
    answers = yield from by_id(MESSAGES, page.deleted, fields, SAME_IDS)
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
        there, gone, unknown = yield from still_there(folder_id, page)
        page = _in_part(page, WHOLE_LETTER, page_context)
        return replace(
            page,
            records=[*page.records, *there],
            deleted=[f"{folder_id}/{id_}" for id_ in gone],
            unsettled=[f"{folder_id}/{id_}" for id_ in unknown],
        )

    return of_folder(folder_id, LETTERS, settle)


messages = each_folder(_messages_of)
messages_by_id = each_by_id(MESSAGES, split=_split, shape=_if_there, headers=SAME_IDS)


def messages_listed(at: Checkpoint, context: Context) -> Reader:
    """The keys of all messages, by the plain listing of each folder."""
    found = yield from folders(context)
    for folder_id in found.present:
        path: str | None = f"{_folder(folder_id)}/messages"
        params: dict[str, Any] = {"$select": "id", "$top": 1000}
        while path:
            answer = yield from ask(
                Request.get(path, params=params, headers=SAME_IDS, expect=(404,))
            )
            rows = [] if answer.status == 404 else rows_of(answer, "value")
            path, params = (answer.json.get(NEXT) if rows else None), {}
            yield Page([in_folder(folder_id, row) for row in rows], Checkpoint())
    yield Page((), Checkpoint())


# -- Contacts


def _settle_contacts(page: Page, page_context: PageContext) -> Steps[Page]:
    """The delta reports a contact that is moved to another folder and back as removed, as it does
    with messages."""
    page = _in_part(page, ("displayName",), page_context)
    if not page.deleted:
        return page
    home = yield from _home_of_contacts()
    answers = yield from by_id(CONTACTS, page.deleted, headers=SAME_IDS)
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
    answer = yield from ask(Request.get(CONTACTS, params=params, headers=SAME_IDS))
    return next((row.get("parentFolderId") for row in rows_of(answer, "value")), None)


contacts = delta_stream(
    paged(f"{CONTACTS}/delta", MANY), smaller=smaller(f"{CONTACTS}/delta"), settle=_settle_contacts
)
contacts_by_id = each_by_id(CONTACTS, shape=lambda _, row: row, headers=SAME_IDS)
