"""How Outlook's attachments are read: of a message that says it has some, whenever it changed.

One that only has pictures in its text says that it has none. A change of which Graph tells a part
does not say it, so that they are asked for, and are none either.
https://learn.microsoft.com/graph/api/message-list-attachments
https://learn.microsoft.com/graph/api/resources/message (hasAttachments, 2026-11)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from connectors import (
    Checkpoint,
    Context,
    ContractError,
    ListedKeys,
    Page,
    Reader,
    Record,
    Request,
    Steps,
    Unread,
)
from connectors._microsoft.deltas import PageContext
from connectors.kernel.paging import Read, mapped
from connectors.kernel.parts import Round, ask_each
from connectors.kernel.positions import Position
from connectors.outlook.reading import (
    FILED,
    MESSAGES,
    SAME_IDS,
    all_rows,
    each_folder,
    of_folder,
    still_there,
)

# Of an attachment all but its content, which only a file has: that would be 3 MB and more.
ATTACHMENT = "id,name,contentType,size,isInline,lastModifiedDateTime"
# So many letters of a folder are asked for again whose attachments could not be had.
MOST_AGAIN = 50


@dataclass(frozen=True, kw_only=True)
class Waiting(Position):
    """Letters whose attachments could not be had, by their ids, why, and when that was `tried`."""

    again: Mapping[str, str] = field(default_factory=dict)
    tried: str = ""


def attachment_key(record: Record) -> str:
    return f"{record['folder_id']}/{record['message_id']}/{record['id']}"


_FILED_FIELDS = {"$select": "id,hasAttachments,lastModifiedDateTime"}
_WHERE = {"$select": "id,hasAttachments,lastModifiedDateTime,parentFolderId"}


def _attachments_of(folder_id: str) -> Read:
    def settle(page: Page, page_context: PageContext) -> Steps[Page]:
        there, gone, unknown = yield from still_there(folder_id, page, _WHERE)
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

    return of_folder(folder_id, FILED, settle, _FILED_FIELDS)


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
        rows = yield from all_rows(answer)
        if all(row.get("isInline") for row in rows):
            rows = []  # pictures in its text alone: such a letter says that it has none
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
    return Request.get(path, params=params, headers=SAME_IDS, expect=(404,))


_attachments = each_folder(_attachments_of)


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
